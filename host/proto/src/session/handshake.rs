//! The two packets of a handshake: `Noise_IKpsk1_25519` with one of two suites.
//!
//! The pattern is written out here and nowhere configurable: snow ignores a pre-shared key without
//! complaint where the pattern names none. Buffers that snow writes to have 512 bytes, below which
//! it may panic. The initiator's identity is taken only after the whole message was authenticated;
//! before that snow returns what was merely claimed.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::crypto::Crypto;
use crate::id::{BootId, PublicKey};
use crate::keys::{GroupKeys, Kid, StaticSecret};
use crate::mutant::{self, Mutant};
use crate::session::cookie::CookieKey;
use crate::session::mac::{MAC_LEN, MacKey};
use crate::session::refusal::Refusal;
use crate::session::slots::Index;
use crate::wire::header::{Flags, INIT_LEN, Kind, RESPONSE_LEN, Suite, VERSION};

/// Where the Noise message begins, in Init and Response alike.
const NOISE: usize = 8;
const EPHEMERAL_LEN: usize = 32;
const INIT_MAC1: usize = INIT_LEN - 2 * MAC_LEN;
const RESPONSE_MAC1: usize = RESPONSE_LEN - 2 * MAC_LEN;
const INIT_PAYLOAD_LEN: usize = 24;
const RESPONSE_PAYLOAD_LEN: usize = 8;
const PSK_SLOT: u8 = 1;
const PRODUCT: &[u8; 13] = b"consort noise";
const TRANSPORT: &[u8; 3] = b"udp";
/// Large enough for every message and for snow's own demands.
const BUFFER_LEN: usize = 512;

/// What a device brings into every handshake.
pub(super) struct Identity {
    /// One for each secret of the group's keyring; a packet names the one it is under.
    pub(super) keys: Vec<GroupKey>,
    pub(super) secret: StaticSecret,
    pub(super) public: PublicKey,
    pub(super) boot: BootId,
    pub(super) flags: Flags,
    pub(super) crypto: Arc<dyn Crypto>,
}

/// One secret of the group, ready for handshakes.
pub(super) struct GroupKey {
    pub(super) keys: GroupKeys,
    /// Checks the packets sent to this device.
    pub(super) mac_key: MacKey,
}

impl GroupKey {
    /// What this device needs of a secret.
    pub(super) fn new(keys: &GroupKeys, own: &PublicKey) -> Self {
        Self {
            keys: keys.clone(),
            mac_key: MacKey::new(&keys.mac1, own),
        }
    }
}

/// Whom a handshake is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) peer: PublicKey,
    pub(crate) boot: BootId,
    pub(crate) flags: Flags,
    /// The secret to use: one that the peer is known, or likely, to hold.
    pub(crate) kid: Kid,
}

/// An Init that was read: who sent it and what it says.
pub(super) struct OpenedInit {
    state: HandshakeState,
    pub(super) kid: Kid,
    pub(super) remote: Index,
    pub(super) peer: PublicKey,
    pub(super) responder_boot: BootId,
    pub(super) initiator_boot: BootId,
    pub(super) counter: u64,
}

impl Identity {
    /// The secret of this name, if this device holds it.
    pub(super) fn key(&self, kid: &Kid) -> Option<&GroupKey> {
        self.keys.iter().find(|key| key.keys.kid == *kid)
    }

    /// Writes an Init under the target's secret. The state awaits the Response. None if this
    /// device holds that secret no longer.
    pub(super) fn write_init(
        &self,
        rng: &mut ChaCha12Rng,
        target: &Target,
        local: Index,
        counter: u64,
    ) -> Option<(HandshakeState, [u8; INIT_LEN])> {
        let keys = &self.key(&target.kid)?.keys;
        let suite = self.flags.suite_with(target.flags);
        let prologue = prologue(keys, target.flags);
        let mut state = self
            .builder(rng, keys, suite, &prologue)
            .remote_public_key(target.peer.as_bytes())
            .and_then(Builder::build_initiator)
            .expect("all that the pattern needs is given");

        let mut payload = [0; INIT_PAYLOAD_LEN];
        payload[..8].copy_from_slice(&target.boot.0.to_le_bytes());
        payload[8..16].copy_from_slice(&self.boot.0.to_le_bytes());
        payload[16..].copy_from_slice(&counter.to_le_bytes());

        let mut packet = [0; INIT_LEN];
        packet[0] = Kind::Init(suite).first_byte();
        packet[1..4].copy_from_slice(&local.to_bytes());
        packet[4..NOISE].copy_from_slice(&keys.kid);
        write_noise(&mut state, &payload, &mut packet[NOISE..INIT_MAC1]);
        seal_mac1(
            &MacKey::new(&keys.mac1, &target.peer),
            &mut packet,
            INIT_MAC1,
        );
        Some((state, packet))
    }

    /// The checks on an Init that cost next to nothing; returns its code.
    pub(super) fn check_init(&self, packet: &[u8]) -> Result<[u8; MAC_LEN], Refusal> {
        let key = self.key(&init_kid(packet)).ok_or(Refusal::OtherGroup)?;
        check_mac1(&key.mac_key, packet, INIT_MAC1)
    }

    /// The key that seals the cookies of `responder` for an Init under this secret.
    pub(super) fn cookie_key(&self, kid: &Kid, responder: &PublicKey) -> Option<CookieKey> {
        let key = self.key(kid)?;
        Some(CookieKey::new(&key.keys.mac1, responder))
    }

    /// Reads the Noise message of an Init that passed [`Identity::check_init`].
    pub(super) fn open_init(
        &self,
        rng: &mut ChaCha12Rng,
        suite: Suite,
        packet: &[u8],
    ) -> Result<OpenedInit, Refusal> {
        let noise = &packet[NOISE..INIT_MAC1];
        check_ephemeral(noise)?;
        let kid = init_kid(packet);
        let keys = &self.key(&kid).ok_or(Refusal::OtherGroup)?.keys;
        let prologue = prologue(keys, self.flags);
        let mut state = self
            .builder(rng, keys, suite, &prologue)
            .build_responder()
            .expect("all that the pattern needs is given");
        let mut payload = [0; BUFFER_LEN];
        let len = state
            .read_message(noise, &mut payload)
            .map_err(|_| Refusal::Handshake)?;
        debug_assert_eq!(
            len, INIT_PAYLOAD_LEN,
            "the packet's size fixes the payload's"
        );
        let peer = state
            .get_remote_static()
            .expect("the first message carries it");
        Ok(OpenedInit {
            peer: PublicKey::new(array(peer)).map_err(|_| Refusal::LowOrderKey)?,
            remote: init_index(packet),
            responder_boot: BootId(u64::from_le_bytes(array(&payload[..8]))),
            initiator_boot: BootId(u64::from_le_bytes(array(&payload[8..16]))),
            counter: u64::from_le_bytes(array(&payload[16..24])),
            kid,
            state,
        })
    }

    /// Answers an Init, under the secret that it was under.
    pub(super) fn write_response(
        &self,
        init: OpenedInit,
        local: Index,
    ) -> Option<(StatelessTransportState, [u8; RESPONSE_LEN])> {
        let keys = &self.key(&init.kid)?.keys;
        let mut state = init.state;
        let mut packet = [0; RESPONSE_LEN];
        packet[0] = Kind::Response.first_byte();
        packet[1..4].copy_from_slice(&local.to_bytes());
        packet[4..7].copy_from_slice(&init.remote.to_bytes());
        let payload = self.boot.0.to_le_bytes();
        write_noise(&mut state, &payload, &mut packet[NOISE..RESPONSE_MAC1]);
        seal_mac1(
            &MacKey::new(&keys.mac1, &init.peer),
            &mut packet,
            RESPONSE_MAC1,
        );
        Some((into_transport(state), packet))
    }

    /// The checks that cost next to nothing on a Response to an Init under this secret.
    pub(super) fn check_response(&self, kid: &Kid, packet: &[u8]) -> Result<(), Refusal> {
        let key = self.key(kid).ok_or(Refusal::OtherGroup)?;
        check_mac1(&key.mac_key, packet, RESPONSE_MAC1)?;
        if packet[RESPONSE_MAC1 + MAC_LEN..] != [0; MAC_LEN] {
            return Err(Refusal::Mac);
        }
        check_ephemeral(&packet[NOISE..RESPONSE_MAC1])
    }

    /// What every handshake of this device has in common. Its randomness is a generator of its
    /// own, so that no two handshakes share an ephemeral key.
    fn builder<'a>(
        &'a self,
        rng: &mut ChaCha12Rng,
        keys: &'a GroupKeys,
        suite: Suite,
        prologue: &'a [u8],
    ) -> Builder<'a> {
        let name = match suite {
            Suite::AesGcm => "Noise_IKpsk1_25519_AESGCM_SHA256",
            Suite::ChaChaPoly => "Noise_IKpsk1_25519_ChaChaPoly_BLAKE2s",
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let resolver = self.crypto.resolver(ChaCha12Rng::from_seed(seed));
        Builder::with_resolver(name.parse().expect("a fixed pattern"), resolver)
            .psk(PSK_SLOT, &keys.noise)
            .and_then(|builder| builder.local_private_key(self.secret.as_bytes()))
            .and_then(|builder| builder.prologue(prologue))
            .expect("each is set once")
    }
}

/// What both sides must agree on besides keys; every part has a fixed size.
fn prologue(keys: &GroupKeys, responder: Flags) -> Vec<u8> {
    let mut prologue = Vec::with_capacity(48);
    prologue.extend_from_slice(PRODUCT);
    prologue.push(VERSION);
    if !mutant::is(Mutant::FlagsUnbound) {
        prologue.extend_from_slice(&responder.to_bytes());
    }
    prologue.extend_from_slice(TRANSPORT);
    prologue.extend_from_slice(&keys.group_id);
    prologue.extend_from_slice(&keys.kid);
    prologue
}

/// The secret that an Init says it is under.
pub(super) fn init_kid(packet: &[u8]) -> Kid {
    array(&packet[4..NOISE])
}

/// Where an Init's sender awaits the answer.
pub(super) fn init_index(packet: &[u8]) -> Index {
    Index::from_bytes(array(&packet[1..4]))
}

/// The index at which a Response is awaited, and the index of its sender.
pub(super) fn response_indices(packet: &[u8]) -> (Index, Index) {
    (
        Index::from_bytes(array(&packet[4..7])),
        Index::from_bytes(array(&packet[1..4])),
    )
}

/// Reads the Noise message of a Response that passed [`Identity::check_response`], and returns the
/// responder's boot. A failure leaves `state` as it was, ready for the genuine one.
pub(super) fn open_response(state: &mut HandshakeState, packet: &[u8]) -> Result<BootId, Refusal> {
    let mut payload = [0; BUFFER_LEN];
    let len = state
        .read_message(&packet[NOISE..RESPONSE_MAC1], &mut payload)
        .map_err(|_| Refusal::Handshake)?;
    debug_assert_eq!(
        len, RESPONSE_PAYLOAD_LEN,
        "the packet's size fixes the payload's"
    );
    Ok(BootId(u64::from_le_bytes(array(
        &payload[..RESPONSE_PAYLOAD_LEN],
    ))))
}

/// Turns a finished handshake into a session's ciphers.
pub(super) fn into_transport(state: HandshakeState) -> StatelessTransportState {
    state
        .into_stateless_transport_mode()
        .expect("both messages have been processed")
}

fn write_noise(state: &mut HandshakeState, payload: &[u8], out: &mut [u8]) {
    let mut buffer = [0; BUFFER_LEN];
    let len = state
        .write_message(payload, &mut buffer)
        .expect("it is this side's turn");
    out.copy_from_slice(&buffer[..len]);
}

/// Appends the first code; the second stays zero unless there is a cookie to make it with.
fn seal_mac1(key: &MacKey, packet: &mut [u8], at: usize) {
    let tag = key.tag(&packet[..at]);
    packet[at..at + MAC_LEN].copy_from_slice(&tag);
}

/// Checks the first of the two codes at the end of a packet and returns it.
fn check_mac1(key: &MacKey, packet: &[u8], at: usize) -> Result<[u8; MAC_LEN], Refusal> {
    let mac1 = &packet[at..at + MAC_LEN];
    if !key.verify(&packet[..at], mac1) && !mutant::is(Mutant::CodeUnchecked) {
        return Err(Refusal::Mac);
    }
    Ok(array(mac1))
}

/// The first code of an Init.
pub(super) fn init_mac1(packet: &[u8; INIT_LEN]) -> [u8; MAC_LEN] {
    array(&packet[INIT_MAC1..INIT_MAC1 + MAC_LEN])
}

/// An exchange with an ephemeral key of low order would add nothing to the session's secrecy.
fn check_ephemeral(noise: &[u8]) -> Result<(), Refusal> {
    PublicKey::new(array(&noise[..EPHEMERAL_LEN]))
        .map(drop)
        .map_err(|_| Refusal::LowOrderKey)
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller slices by constants")
}
