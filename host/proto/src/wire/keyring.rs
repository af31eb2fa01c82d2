//! What devices of a group tell each other of their secrets, inside sessions only.

use core::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keyring::{KEYS_MAX, KeyId, KeyPart, Keyring, KeyringError, Shape};
use crate::keys::{GroupSecret, Mark};

/// Which secrets the sender holds and has stored; also the answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyringState {
    pub(crate) shape: Shape,
    /// Whether the sender could not store what it was offered last.
    pub(crate) failed: bool,
    /// Whether the sender wants to know the recipient's.
    pub(crate) reply: bool,
}

/// A secret in an offer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Offered {
    epoch: u32,
    #[serde(with = "serde_bytes")]
    secret: [u8; 32],
    restricted: bool,
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offered({}, ..)", self.epoch)
    }
}

/// The sender's keyring, for a device that lacks some of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyringOffer {
    pub(crate) keys: Vec<Offered>,
    #[serde(with = "serde_bytes")]
    pub(crate) active: Mark,
    pub(crate) floor: KeyId,
}

impl KeyringState {
    pub(super) fn within_bounds(&self) -> bool {
        self.shape.keys.len() <= KEYS_MAX
    }
}

impl KeyringOffer {
    pub(crate) fn new(ring: &Keyring) -> Self {
        let (parts, active, floor) = ring.parts();
        let offered = |part: KeyPart| Offered {
            epoch: part.epoch,
            secret: *part.secret.bytes(),
            restricted: part.restricted,
        };
        Self {
            keys: parts.into_iter().map(offered).collect(),
            active,
            floor,
        }
    }

    /// The keyring that is offered to a device of this group.
    pub(crate) fn keyring(&self, group_id: [u8; 16]) -> Result<Keyring, KeyringError> {
        let part = |offered: &Offered| KeyPart {
            epoch: offered.epoch,
            secret: GroupSecret::from_parts(group_id, offered.secret),
            restricted: offered.restricted,
        };
        let parts = self.keys.iter().map(part).collect();
        Keyring::from_parts(parts, self.active, self.floor)
    }

    pub(super) fn within_bounds(&self) -> bool {
        self.keys.len() <= KEYS_MAX
    }
}
