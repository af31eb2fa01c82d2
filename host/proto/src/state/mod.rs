//! Replicated state as plugins know it: keys, writes, changes, and what may be refused.
//!
//! The node keeps a replica of each group's state and tells its plugin of every change; the
//! plugin's host folds the changes into a [`StateView`], which answers reads and checks writes
//! without asking anyone. A write is seen by its own writer at once, as an overlay of the view,
//! until the node has taken it in.

mod view;

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::id::DeviceId;
use crate::quota::SendQuota;

pub use view::StateView;

/// Bytes of a key, at most.
pub const STATE_KEY_MAX: usize = 256;
/// Bytes of a value, at most.
pub const STATE_VALUE_MAX: usize = 64 << 10;
/// What an entry counts against the bound of its replica besides its key and value, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 16;

/// What a plugin's state may take, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// How often changes are sent, and replicas compared. 1 s; from 50 ms to 1 h count.
    pub interval: Duration,
    /// Bytes of all keys and values of the group's state together. 1 MiB.
    pub quota: u64,
    /// Whether this device keeps its replica over a restart. No.
    pub persist: bool,
    /// How often and how much this device's instance may write. 300 writes a second after a burst
    /// of 1000, 1 MiB a second after a burst of 1 MiB.
    pub writes: SendQuota,
    /// For how long a deletion is remembered, and for how long the entries of a device that is
    /// away are kept. 24 h; tests use less.
    pub keep_absent: Duration,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            quota: 1 << 20,
            persist: false,
            writes: SendQuota {
                messages_per_second: 300,
                message_burst: 1000,
                bytes_per_second: 1 << 20,
                byte_burst: 1 << 20,
            },
            keep_absent: Duration::from_secs(24 * 3600),
        }
    }
}

/// Which of the kinds of state an entry belongs to, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The leader writes, everyone reads.
    Leader,
    /// This device writes, everyone reads.
    Device(DeviceId),
    /// Anyone writes; of two writes the later one wins.
    Shared,
    /// Anyone adds.
    Counter,
}

/// Where a put or a deletion goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Leader state.
    Leader,
    /// The writing device's own state.
    Device,
    /// Shared state.
    Shared,
}

/// A write of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateWrite {
    /// Puts a value under a key.
    Put {
        /// Where.
        scope: Scope,
        /// Under which key, 1 to [`STATE_KEY_MAX`] bytes.
        key: Arc<str>,
        /// What, up to [`STATE_VALUE_MAX`] bytes.
        value: Bytes,
        /// After how many milliseconds of group time the entry expires everywhere.
        ttl_ms: Option<u64>,
    },
    /// Deletes a key.
    Delete {
        /// Where.
        scope: Scope,
        /// Which key.
        key: Arc<str>,
    },
    /// Adds to a counter.
    Add {
        /// Which counter.
        name: Arc<str>,
        /// How much. Sums stop at the ends of the range.
        delta: i64,
    },
}

impl Scope {
    /// Which kind of state it is, if the device `me` writes.
    #[must_use]
    pub const fn origin(self, me: DeviceId) -> Origin {
        match self {
            Self::Leader => Origin::Leader,
            Self::Device => Origin::Device(me),
            Self::Shared => Origin::Shared,
        }
    }
}

impl StateWrite {
    /// Which kind of state it goes to, and under which key, if it is of the device `me`.
    #[must_use]
    pub fn place(&self, me: DeviceId) -> (Origin, Arc<str>) {
        match self {
            Self::Put { scope, key, .. } | Self::Delete { scope, key } => {
                (scope.origin(me), Arc::clone(key))
            }
            Self::Add { name, .. } => (Origin::Counter, Arc::clone(name)),
        }
    }
}

/// Why a write was refused. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// Only the leader writes leader state.
    #[error("this device does not lead")]
    NotLeader,
    /// The key is empty or too long.
    #[error("a key has 1 to 256 bytes")]
    InvalidKey,
    /// The value or the whole state would be too large; the bytes that are allowed.
    #[error("larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// The plugin has written too much lately.
    #[error("the write quota is used up for now")]
    Busy,
}

/// What an entry is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOutcome {
    /// It has this value.
    Put {
        /// The value.
        value: Bytes,
        /// Group time from which it is gone, in microseconds since the Unix epoch.
        expires_at: Option<u64>,
    },
    /// The counter's sum over all devices is this.
    Counted(i64),
    /// It was deleted, or its value was superseded and the one before is not known here.
    Deleted,
    /// Its time has come.
    Expired,
}

/// One entry's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which kind of state, and whose.
    pub origin: Origin,
    /// Under which key.
    pub key: Arc<str>,
    /// What holds from here on.
    pub outcome: StateOutcome,
    /// Whether it is the work of this device's own instance, which is not called for it.
    pub own: bool,
}

/// What a plugin's state is from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUpdate {
    /// Each key at most once.
    pub changes: Vec<StateChange>,
    /// How many of the plugin's writes, in their order, the changes account for, be it that they
    /// were taken in or that they were refused.
    pub handled: u32,
    /// By how many bytes the plugin's writes after those may let the replica grow: by a key, a value
    /// and 16 bytes for each entry, deletions that are remembered among them.
    pub room: u64,
    /// Whether the changes are the whole state, in place of whatever was known before. The plugin
    /// is not called for it.
    pub whole: bool,
}
