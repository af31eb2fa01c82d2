//! Why a datagram was refused. None of these changes any state.

use thiserror::Error;

use crate::status::Counters;

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("it is no packet of a handshake or a session by its first byte and size")]
    Malformed,
    #[error("its sender belongs to another group or holds another group secret")]
    OtherGroup,
    #[error("its sender does not hold the group secret, or meant another device")]
    Mac,
    #[error("the handshake does not open: another secret, other advertised flags, or a forgery")]
    Handshake,
    #[error("it carries a key of low order")]
    LowOrderKey,
    #[error("its sender uses the key of this device")]
    OwnKey,
    #[error("a responder with another boot than the one dialled")]
    OtherBoot,
    #[error("no more than {} peers can have sessions at once", super::PEERS_MAX)]
    Full,
    #[error("no session or handshake has its index")]
    UnknownIndex,
    #[error("this device does not admit it")]
    Denied,
    #[error("its session is too old")]
    Expired,
    #[error("it does not open under its session's key")]
    Forged,
    #[error("it was received before, or is too old to tell")]
    Replayed,
    #[error("its address sends more handshakes than are taken under load")]
    TooMany,
    #[error("under load its sender must return a cookie first")]
    NoCookie,
}

impl Refusal {
    /// Counts it for observers.
    pub(super) fn count(self, counters: &mut Counters) {
        match self {
            Self::Replayed => counters.datagrams_replayed += 1,
            Self::Denied => counters.handshakes_denied += 1,
            Self::TooMany | Self::NoCookie => counters.handshakes_put_off += 1,
            Self::Malformed
            | Self::OtherGroup
            | Self::Mac
            | Self::Handshake
            | Self::LowOrderKey
            | Self::OwnKey
            | Self::OtherBoot
            | Self::Full
            | Self::UnknownIndex
            | Self::Expired
            | Self::Forged => counters.datagrams_refused += 1,
        }
    }
}
