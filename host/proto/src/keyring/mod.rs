//! The secrets of one group: the one in use, the one to come, those on their way out.
//!
//! A secret has an epoch, one more than the largest known when it was made, and a mark, which names
//! it without giving it away. (epoch, mark) orders all secrets of a group, also two that were made
//! at once on devices that did not know of each other. A keyring is a set of secrets and two places
//! in that order: `active`, the secret that is sent under, and `floor`, below which everything has
//! been removed. What lies above `active` is *staged*, what lies between is *retiring*. A step of a
//! rotation adds a secret or moves a place up, never down:
//!
//! ```text
//!              floor          active
//! install         |              |    + staged
//! use             |  retiring <- |  -> active
//! remove          '------------->|
//! ```
//!
//! So two keyrings have one union: all secrets, the higher `active`, the higher `floor`. It is
//! commutative and idempotent, and devices that keep exchanging keyrings end with the same one,
//! whatever was rotated where ([`Keyring::merge`]).
//!
//! Invariants: one group id; exactly one secret is active; at most [`KEYS_MAX`] are held: the active
//! one, the highest staged one, the two highest retiring ones. None lies below the floor.

use core::fmt;

use thiserror::Error;

use crate::keys::{GroupKeys, GroupSecret, Kid, Mark};

mod shape;
mod text;

pub(crate) use shape::{KeyId, Shape};
pub use text::ParseKeyringError;

/// How many secrets a keyring holds at most.
pub const KEYS_MAX: usize = 4;

/// What a device does with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Accepted, and not sent under.
    Staged,
    /// Sent under.
    Active,
    /// Accepted from devices that have not caught up.
    Retiring,
}

/// One secret of a keyring, without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Which secret of the group this is; grows with each rotation.
    pub epoch: u32,
    /// What is done with it.
    pub state: KeyState,
    /// Whether it replaced a secret that strangers may hold, and goes to listed devices only.
    pub restricted: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    epoch: u32,
    mark: Mark,
    secret: GroupSecret,
    restricted: bool,
}

impl Key {
    const fn id(&self) -> KeyId {
        KeyId {
            epoch: self.epoch,
            mark: self.mark,
        }
    }
}

/// The secrets of one group. See the module's documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Ordered by id.
    keys: Vec<Key>,
    active: Mark,
    floor: KeyId,
}

/// One secret as it is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPart {
    pub(crate) epoch: u32,
    pub(crate) secret: GroupSecret,
    pub(crate) restricted: bool,
}

/// Why parts make no keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum KeyringError {
    #[error("a keyring has 1 to {KEYS_MAX} secrets, this has {0}")]
    Count(usize),
    #[error("the active secret is not among a keyring's secrets")]
    NoActive,
    #[error("the secrets of a keyring belong to several groups, or one is there twice")]
    Mixed,
    #[error("a keyring holds a secret that it says was removed")]
    Removed,
}

impl From<GroupSecret> for Keyring {
    /// The keyring of a device that was given one secret by hand.
    fn from(secret: GroupSecret) -> Self {
        let mark = secret.mark();
        Self {
            keys: vec![Key {
                epoch: 1,
                mark,
                secret,
                restricted: false,
            }],
            active: mark,
            floor: KeyId::LOWEST,
        }
    }
}

impl Keyring {
    /// Puts a keyring together.
    pub(crate) fn from_parts(
        parts: Vec<KeyPart>,
        active: Mark,
        floor: KeyId,
    ) -> Result<Self, KeyringError> {
        if parts.is_empty() || parts.len() > KEYS_MAX {
            return Err(KeyringError::Count(parts.len()));
        }
        let key = |part: KeyPart| Key {
            epoch: part.epoch,
            mark: part.secret.mark(),
            secret: part.secret,
            restricted: part.restricted,
        };
        let mut keys: Vec<Key> = parts.into_iter().map(key).collect();
        keys.sort_by_key(Key::id);
        let group = *keys[0].secret.group_id();
        let foreign = keys.iter().any(|key| *key.secret.group_id() != group);
        let twice = (1..keys.len()).any(|i| keys[..i].iter().any(|k| k.mark == keys[i].mark));
        if foreign || twice {
            return Err(KeyringError::Mixed);
        }
        if !keys.iter().any(|key| key.mark == active) {
            return Err(KeyringError::NoActive);
        }
        if keys[0].id() < floor {
            return Err(KeyringError::Removed);
        }
        Ok(Self {
            keys,
            active,
            floor,
        })
    }

    /// The id that the group keeps for life.
    #[must_use]
    pub fn group_id(&self) -> &[u8; 16] {
        self.active_secret().group_id()
    }

    /// The secret that is sent under, to be given to further devices.
    #[must_use]
    pub fn active_secret(&self) -> &GroupSecret {
        &self.active_key().secret
    }

    /// All secrets, oldest first, without what is secret of them.
    pub fn entries(&self) -> impl Iterator<Item = KeyEntry> {
        self.keys.iter().map(|key| KeyEntry {
            epoch: key.epoch,
            state: self.state(key),
            restricted: key.restricted,
        })
    }

    /// Whether devices with these keyrings understand each other at all.
    #[must_use]
    pub fn shares_secret_with(&self, other: &Self) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| other.keys.iter().any(|theirs| theirs.secret == key.secret))
    }

    /// The keyring that holds what both hold: the higher places and all secrets that lie at or
    /// above them, within the bound.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let shape = self.shape().merge(&other.shape());
        let find = |id: &KeyId| {
            let both = self.keys.iter().chain(&other.keys);
            let mut same = both.filter(|key| key.mark == id.mark);
            let mut key = same.next().expect("the union names held secrets").clone();
            key.restricted |= same.any(|other| other.restricted);
            key.epoch = id.epoch;
            key
        };
        Self {
            keys: shape.keys.iter().map(find).collect(),
            active: shape.active.mark,
            floor: shape.floor,
        }
    }

    /// Adds a fresh secret, staged. None once the epochs are used up.
    pub(crate) fn install(&self, random: &[u8; 32]) -> Option<Self> {
        let mut ring = self.clone();
        ring.push(random, false)?;
        Some(ring.bounded())
    }

    /// Makes the staged secret the active one, if there is one.
    pub(crate) fn use_staged(&self) -> Option<Self> {
        let staged = self.keys.last()?;
        let mut ring = self.clone();
        ring.active = staged.mark;
        (self.state(staged) == KeyState::Staged).then(|| ring.bounded())
    }

    /// Drops the retiring secrets, if there are any.
    pub(crate) fn remove_retiring(&self) -> Option<Self> {
        let mut ring = self.clone();
        ring.floor = self.active_key().id();
        ring.keys.retain(|key| key.id() >= ring.floor);
        (ring.keys.len() < self.keys.len()).then_some(ring)
    }

    /// Replaces all secrets by a fresh one for listed devices. None once the epochs are used up.
    pub(crate) fn replace(&self, random: &[u8; 32]) -> Option<Self> {
        let mut ring = self.clone();
        let id = ring.push(random, true)?;
        ring.active = id.mark;
        ring.floor = id;
        ring.keys.retain(|key| key.mark == id.mark);
        Some(ring)
    }

    fn push(&mut self, random: &[u8; 32], restricted: bool) -> Option<KeyId> {
        let newest = self.keys.last().map_or(0, |key| key.epoch);
        let epoch = newest.max(self.floor.epoch).checked_add(1)?;
        let secret = GroupSecret::from_parts(*self.group_id(), *random);
        let mark = secret.mark();
        self.keys.push(Key {
            epoch,
            mark,
            secret,
            restricted,
        });
        Some(KeyId { epoch, mark })
    }

    fn bounded(mut self) -> Self {
        let kept = self.shape().bounded();
        self.keys.retain(|key| kept.holds(&key.mark));
        self
    }

    fn active_key(&self) -> &Key {
        let active = self.keys.iter().find(|key| key.mark == self.active);
        active.expect("exactly one secret is active")
    }

    fn state(&self, key: &Key) -> KeyState {
        match key.id().cmp(&self.active_key().id()) {
            core::cmp::Ordering::Greater => KeyState::Staged,
            core::cmp::Ordering::Equal => KeyState::Active,
            core::cmp::Ordering::Less => KeyState::Retiring,
        }
    }

    /// The keyring without its secrets, for others to compare theirs with.
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            keys: self.keys.iter().map(Key::id).collect(),
            active: self.active_key().id(),
            floor: self.floor,
        }
    }

    /// Whether one of the secrets that a device of this shape lacks is for listed devices only.
    pub(crate) fn is_restricted_for(&self, shape: &Shape) -> bool {
        let lacking = self.keys.iter().filter(|key| !shape.holds(&key.mark));
        lacking.into_iter().any(|key| key.restricted)
    }

    /// What the protocol uses of each secret, the active one first.
    pub(crate) fn derive(&self) -> Vec<GroupKeys> {
        let active = self.active_key();
        let others = self.keys.iter().filter(|key| key.mark != self.active);
        core::iter::once(active)
            .chain(others)
            .map(|key| key.secret.derive())
            .collect()
    }

    /// The names of the retiring secrets.
    pub(crate) fn retiring(&self) -> impl Iterator<Item = Kid> {
        let retiring = |key: &&Key| self.state(key) == KeyState::Retiring;
        self.keys.iter().filter(retiring).map(|key| kid(&key.mark))
    }

    /// What is handed on to a device that lacks some of it.
    pub(crate) fn parts(&self) -> (Vec<KeyPart>, Mark, KeyId) {
        let part = |key: &Key| KeyPart {
            epoch: key.epoch,
            secret: key.secret.clone(),
            restricted: key.restricted,
        };
        (
            self.keys.iter().map(part).collect(),
            self.active,
            self.floor,
        )
    }
}

/// The beginning of a secret's mark names it in datagrams.
pub(crate) fn kid(mark: &Mark) -> Kid {
    let mut kid = [0; 4];
    kid.copy_from_slice(&mark[..4]);
    kid
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

#[cfg(test)]
mod tests;
