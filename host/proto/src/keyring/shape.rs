//! A keyring without its secrets: what devices compare to learn who lacks what.

use serde::{Deserialize, Serialize};

use crate::keys::Mark;

/// Retiring secrets that are kept.
const RETIRING_MAX: usize = 2;

/// A secret's place in the order of all secrets of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct KeyId {
    pub(crate) epoch: u32,
    #[serde(with = "serde_bytes")]
    pub(crate) mark: Mark,
}

impl KeyId {
    /// Below every secret.
    pub(crate) const LOWEST: Self = Self {
        epoch: 0,
        mark: [0; 16],
    };
}

/// The places of a keyring's secrets, and its two own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) active: KeyId,
    pub(crate) floor: KeyId,
    /// Ascending.
    pub(crate) keys: Vec<KeyId>,
}

impl Shape {
    /// Whether a secret is among these.
    pub(crate) fn holds(&self, mark: &Mark) -> bool {
        self.keys.iter().any(|key| key.mark == *mark)
    }

    /// Whether a device of this shape would learn something from one of shape `other`.
    pub(crate) fn lacks(&self, other: &Self) -> bool {
        self.merge(other) != *self
    }

    /// The shape of what both hold.
    ///
    /// A device that was given a secret by hand counts it as epoch 1: of two epochs of one secret
    /// the larger is the group's, and holds for every place that names the secret.
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let named = self.keys.iter().chain(&other.keys);
        let canonical = |id: KeyId| {
            let same = named.clone().filter(|known| known.mark == id.mark);
            same.fold(id, |known, other| known.max(*other))
        };
        let active = canonical(self.active).max(canonical(other.active));
        let floor = canonical(self.floor).max(canonical(other.floor));
        let mut keys: Vec<KeyId> = named.clone().map(|id| canonical(*id)).collect();
        keys.sort_unstable();
        keys.dedup();
        let merged = Self {
            keys,
            active,
            floor: floor.min(active),
        };
        merged.bounded()
    }

    /// What a keyring keeps of these: nothing below the floor, the active secret, the highest
    /// staged one, the two highest retiring ones.
    pub(crate) fn bounded(mut self) -> Self {
        let (active, floor) = (self.active, self.floor);
        self.keys.retain(|key| *key >= floor);
        let staged = self.keys.iter().filter(|key| **key > active).max().copied();
        let mut kept: Vec<KeyId> = self.keys.into_iter().filter(|key| *key < active).collect();
        kept.drain(..kept.len().saturating_sub(RETIRING_MAX));
        kept.push(active);
        kept.extend(staged);
        self.keys = kept;
        self
    }
}
