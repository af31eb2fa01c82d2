//! Devices as a plugin sees them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::consort::plugin::types;

/// A device's identity: a hash of its public key as text. It survives restarts, renames and
/// changes of address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(String);

impl DeviceId {
    /// Takes an id as text, such as one from a payload. Whether such a device exists shows when it
    /// is used.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device that runs this plugin and is alive in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub device: DeviceId,
    /// From the device's own configuration; not unique.
    pub name: String,
    /// Where it was last heard from; `127.0.0.1` for this device.
    pub address: String,
    /// Whether it is this device.
    pub is_self: bool,
    /// Its wall clock minus this device's, in microseconds.
    pub clock_delta_us: i64,
    /// Smoothed round trip; zero for this device.
    pub round_trip: Duration,
}

impl From<types::Peer> for Peer {
    fn from(peer: types::Peer) -> Self {
        Self {
            device: DeviceId(peer.device),
            name: peer.name,
            address: peer.address,
            is_self: peer.is_self,
            clock_delta_us: peer.clock_delta,
            round_trip: Duration::from_micros(peer.round_trip.into()),
        }
    }
}

/// One tenure of one leader.
///
/// `term` grows with every change of leader. The pair of term and leader is the fencing token,
/// since the two sides of a partition may hold the same term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Who leads.
    pub leader: Peer,
    /// Which term.
    pub term: u64,
}

impl From<types::Leadership> for Leadership {
    fn from(leadership: types::Leadership) -> Self {
        Self {
            leader: leadership.leader.into(),
            term: leadership.term,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_keeps_its_fields() {
        let raw = types::Peer {
            device: "abc".to_owned(),
            name: "hall".to_owned(),
            address: "10.0.0.7".to_owned(),
            is_self: false,
            clock_delta: -5,
            round_trip: 1_500,
        };
        let leadership = Leadership::from(types::Leadership {
            leader: raw,
            term: 9,
        });
        assert_eq!(leadership.term, 9);
        let peer = leadership.leader;
        assert_eq!((peer.device.as_str(), peer.name.as_str()), ("abc", "hall"));
        assert_eq!((peer.address.as_str(), peer.is_self), ("10.0.0.7", false));
        assert_eq!(
            (peer.clock_delta_us, peer.round_trip),
            (-5, Duration::from_micros(1_500))
        );
    }
}
