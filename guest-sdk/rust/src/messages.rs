//! Short messages between the devices of the group.
//!
//! Delivery is at most once and without order; a lost message is not sent again. So say what holds
//! rather than what to change, number what must be in order, and repeat what must arrive. A message
//! leaves the device when the current callback has returned.
//!
//! Each function exists for bytes and, with `_value`, for any serde type (see
//! [`payload`](crate::payload)):
//!
//! ```no_run
//! use consort_plugin::{Leadership, Peer, Plugin, log, messages, payload};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Score {
//!     points: u32,
//! }
//!
//! #[derive(Default)]
//! struct Scores {
//!     total: u32,
//! }
//!
//! impl Plugin for Scores {
//!     // On the leader: somebody scored, tell everyone the new total.
//!     fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
//!         let Ok(Score { points }) = payload::decode(&payload) else { return };
//!         self.total += points;
//!         if let Err(error) = messages::broadcast_value(&Score { points: self.total }) {
//!             log::warn!("not told after {} scored: {error}", sender.name);
//!         }
//!     }
//!
//!     fn leader_message(&mut self, payload: Vec<u8>, _sender: Leadership) {
//!         if let Ok(Score { points }) = payload::decode(&payload) {
//!             log::info!("{points} points");
//!         }
//!     }
//! }
//! ```

use std::fmt;

use serde::Serialize;

use crate::bindings::consort::plugin::messages as host;
use crate::{DeviceId, payload};

/// From the leader to every member, this device included.
///
/// # Errors
/// [`Error::NotLeader`], [`Error::TooLarge`], [`Error::Busy`]; nothing was sent then.
pub fn broadcast(payload: &[u8]) -> Result<(), Error> {
    host::broadcast(payload).map_err(Error::from)
}

/// From any member to the leader; on the leader itself a local delivery.
///
/// # Errors
/// [`Error::NoLeader`], [`Error::TooLarge`], [`Error::Busy`]; nothing was sent then.
pub fn send_to_leader(payload: &[u8]) -> Result<(), Error> {
    host::send_to_leader(payload).map_err(Error::from)
}

/// From any member to any member.
///
/// # Errors
/// [`Error::UnknownPeer`], [`Error::TooLarge`], [`Error::Busy`]; nothing was sent then.
pub fn send(to: &DeviceId, payload: &[u8]) -> Result<(), Error> {
    host::send(to.as_str(), payload).map_err(Error::from)
}

/// From any member to every member, this device included.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Busy`]; nothing was sent then.
pub fn send_to_all(payload: &[u8]) -> Result<(), Error> {
    host::send_to_all(payload).map_err(Error::from)
}

/// [`broadcast`] of a value as MessagePack.
///
/// # Errors
/// Those of [`broadcast`], and [`Error::Encode`].
pub fn broadcast_value<T: Serialize + ?Sized>(value: &T) -> Result<(), Error> {
    broadcast(&payload::encode(value)?)
}

/// [`send_to_leader`] of a value as MessagePack.
///
/// # Errors
/// Those of [`send_to_leader`], and [`Error::Encode`].
pub fn send_to_leader_value<T: Serialize + ?Sized>(value: &T) -> Result<(), Error> {
    send_to_leader(&payload::encode(value)?)
}

/// [`send`] of a value as MessagePack.
///
/// # Errors
/// Those of [`send`], and [`Error::Encode`].
pub fn send_value<T: Serialize + ?Sized>(to: &DeviceId, value: &T) -> Result<(), Error> {
    send(to, &payload::encode(value)?)
}

/// [`send_to_all`] of a value as MessagePack.
///
/// # Errors
/// Those of [`send_to_all`], and [`Error::Encode`].
pub fn send_to_all_value<T: Serialize + ?Sized>(value: &T) -> Result<(), Error> {
    send_to_all(&payload::encode(value)?)
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Only the leader may broadcast.
    NotLeader,
    /// No leader is known at the moment. There will be one; try again on promotion.
    NoLeader,
    /// No such member.
    UnknownPeer,
    /// The payload is longer than the host takes.
    TooLarge {
        /// The longest payload that it takes, in bytes.
        limit: u32,
    },
    /// A queue or this plugin's quota of messages is full, or this leader has lost touch with its
    /// followers. Try again later.
    Busy,
    /// The value cannot be encoded.
    Encode(payload::EncodeError),
}

impl Error {
    /// The contract's word for it, such as `not-leader`: the same in every language. It is `encode`
    /// where the value did not reach the host.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotLeader => "not-leader",
            Self::NoLeader => "no-leader",
            Self::UnknownPeer => "unknown-peer",
            Self::TooLarge { .. } => "too-large",
            Self::Busy => "busy",
            Self::Encode(_) => "encode",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("only the leader may broadcast"),
            Self::NoLeader => f.write_str("no leader is known at the moment"),
            Self::UnknownPeer => f.write_str("no such member"),
            Self::TooLarge { limit } => write!(f, "the payload exceeds {limit} bytes"),
            Self::Busy => f.write_str("the host takes no more messages at the moment"),
            Self::Encode(_) => f.write_str("the value cannot be encoded"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(cause) => Some(cause),
            Self::NotLeader
            | Self::NoLeader
            | Self::UnknownPeer
            | Self::TooLarge { .. }
            | Self::Busy => None,
        }
    }
}

impl From<host::SendError> for Error {
    fn from(error: host::SendError) -> Self {
        match error {
            host::SendError::NotLeader => Self::NotLeader,
            host::SendError::NoLeader => Self::NoLeader,
            host::SendError::UnknownPeer => Self::UnknownPeer,
            host::SendError::TooLarge(limit) => Self::TooLarge { limit },
            host::SendError::Busy => Self::Busy,
        }
    }
}

impl From<payload::EncodeError> for Error {
    fn from(error: payload::EncodeError) -> Self {
        Self::Encode(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_errors_keep_their_meaning() {
        let pairs = [
            (host::SendError::NotLeader, Error::NotLeader),
            (host::SendError::NoLeader, Error::NoLeader),
            (host::SendError::UnknownPeer, Error::UnknownPeer),
            (
                host::SendError::TooLarge(65_536),
                Error::TooLarge { limit: 65_536 },
            ),
            (host::SendError::Busy, Error::Busy),
        ];
        for (raw, expected) in pairs {
            assert_eq!(Error::from(raw), expected);
        }
        assert_eq!(
            Error::TooLarge { limit: 65_536 }.to_string(),
            "the payload exceeds 65536 bytes"
        );
    }
}
