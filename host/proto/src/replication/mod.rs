//! One group's replicated state.
//!
//! Every entry is the work of one writer and has a number in one of the writer's streams
//! (`streams.rs`); per key the entry that counts is held (`entries.rs`), by the rules of its kind
//! (`leader.rs`, `shared.rs`, `counters.rs`; of device state the writer's latest). Replicas compare
//! what they hold of each stream (`vector.rs`) and send what the other lacks (`delta.rs`,
//! `chunks.rs`), in any order and as often as they like (`merge.rs`).
//!
//! # Invariants
//! - An entry is held if and only if its number is in its stream's index.
//! - Below a stream's mark, and in its islands, every entry is held or something that supersedes it
//!   was; so merging is idempotent and commutes, and what is superseded never comes back.
//! - No leader-state entry beyond its cut is held.
//! - All that is held is bounded by twice the quota and some headroom, whatever others send; the
//!   streams, islands, quarantined entries and chunks are bounded by number.
//! - Nothing here depends on anything but the calls and their order.

mod absence;
mod chunks;
mod counters;
mod delta;
mod device;
mod entries;
mod expiry;
mod leader;
mod merge;
mod persist;
mod reset;
mod shared;
mod streams;
#[cfg(test)]
mod tests;
mod vector;
mod versions;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use self::absence::Presence;
use self::chunks::Assemblies;
pub(crate) use self::device::subject;
use self::entries::{Slot, Store};
use self::persist::Record;
use self::streams::Streams;
pub(crate) use self::vector::LAST_LEADER;
pub use self::versions::{HeldKey, Version, Versions};
use crate::id::{DeviceId, GroupKey, NodeId};
use crate::state::StateConfig;
use crate::wire::state::{Stamp, StateChunk, StateDelta, StreamId, Table, Tenure};

/// Bytes by which a merge may go beyond what a write may.
const HEADROOM: u64 = 128 << 10;
/// Bytes by which a write may go beyond what the plugin's host was told.
const SLACK: u64 = 64 << 10;

/// Streams that this device opens itself, beyond those of others: its own, and those of tables.
const LOCAL_STREAMS: usize = 64;

/// Whose replica, and how it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) group: GroupKey,
    pub(crate) me: DeviceId,
    /// Of this boot.
    pub(crate) stamp: Stamp,
    pub(crate) config: StateConfig,
}

/// What a replica knows of the leader's state, for a device that begins to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderState {
    pub(crate) table: Option<Table>,
    /// The largest number held, per tenure.
    pub(crate) tops: Vec<(Tenure, u64)>,
}

/// Something to send to a replica that lacks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parcel {
    Delta(StateDelta),
    Chunk(StateChunk),
}

/// How another replica compares with this one, in the range that its vector covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// This one has what the other lacks.
    pub(crate) ahead: bool,
    /// The other one has what this lacks.
    pub(crate) behind: bool,
}

/// Why something from another replica was refused, as a whole. The replica is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum MergeError {
    #[error("a key of {0} bytes")]
    Key(usize),
    #[error("a value of {0} bytes")]
    Value(usize),
    #[error("entries out of order or out of their range")]
    Order,
    #[error("entries of this device's own that it never wrote")]
    Own,
    #[error("a push of another device's entries")]
    NotWriter,
    #[error("entries of a tenure that another one has replaced")]
    Stale,
    #[error("a tenure far above the known ones")]
    Leap,
    #[error("no room for it")]
    Full,
    #[error("a malformed entry")]
    Malformed,
}

/// One group's state on this device. All times are group time in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    setup: Setup,
    node: NodeId,
    streams: Streams,
    store: Store,
    table: Option<Table>,
    followed: Option<Tenure>,
    leading: Option<Tenure>,
    /// Under whose table this replica last started over.
    reset_under: Option<Tenure>,
    /// Under which stamps this run has written before.
    former: BTreeSet<Stamp>,
    /// The largest hybrid logical clock that counts.
    hlc: u64,
    /// Who the writers of device state are.
    devices: BTreeMap<NodeId, DeviceId>,
    presence: Presence,
    timers: BTreeSet<(u64, StreamId, u64)>,
    /// What the plugin is to be told, and whether it is its own doing.
    changed: BTreeMap<Slot, bool>,
    superseded: BTreeSet<Arc<str>>,
    /// Keys whose own deletion as a leader is over and forgotten, and where it stood.
    ended: BTreeMap<Arc<str>, (Tenure, u64)>,
    dirty: BTreeSet<Record>,
    pushed: BTreeMap<StreamId, u64>,
    /// How far other replicas are known to hold this device's own shared stream.
    acked: BTreeMap<NodeId, u64>,
    assemblies: Assemblies,
    /// Answers given to vectors.
    answers: u64,
    /// Messages of which entries were left out, since the last time this was asked.
    left_out: u64,
    footprint: u64,
    live_keys: usize,
    live_bytes: u64,
    /// Entries that came and went, and how often what was held was given up by rule.
    edits: u64,
    anew: u64,
}

impl Replica {
    pub(crate) fn new(setup: Setup) -> Self {
        let node = setup.me.node();
        let mut replica = Self {
            setup,
            node,
            streams: Streams::default(),
            store: Store::default(),
            table: None,
            followed: None,
            leading: None,
            reset_under: None,
            former: BTreeSet::new(),
            hlc: 0,
            devices: BTreeMap::from([(node, setup.me)]),
            presence: Presence::default(),
            timers: BTreeSet::new(),
            changed: BTreeMap::new(),
            superseded: BTreeSet::new(),
            ended: BTreeMap::new(),
            dirty: BTreeSet::new(),
            pushed: BTreeMap::new(),
            acked: BTreeMap::new(),
            assemblies: Assemblies::default(),
            answers: 0,
            left_out: 0,
            footprint: 0,
            live_keys: 0,
            live_bytes: 0,
            edits: 0,
            anew: 0,
        };
        replica.soil(Record::Device(node));
        replica
    }

    /// Changes how the replica is kept, from here on.
    pub(crate) fn set_config(&mut self, config: StateConfig) {
        let before = core::mem::replace(&mut self.setup.config, config);
        if before.persist != config.persist {
            self.soil_all();
        }
        if before.keep_absent != config.keep_absent {
            self.set_timers_anew();
        }
    }

    /// Whether what is held keeps to its bounds.
    pub(crate) fn is_within_bounds(&self) -> bool {
        self.footprint <= self.bound() && self.streams.len() <= streams::STREAMS_MAX + LOCAL_STREAMS
    }

    /// This device.
    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    /// What this device writes under.
    pub(crate) const fn writes_under(&self) -> Stamp {
        self.setup.stamp
    }

    /// Of how many messages entries were left out because they lie beyond their cut, since the
    /// last time this was asked.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        core::mem::take(&mut self.left_out)
    }

    /// Keys and bytes held, tombstones left out.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.live_keys, self.live_bytes)
    }
}
