//! One group's replicated state.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::id::GroupKey;
use crate::id::{DeviceId, NodeId};
use crate::state::{StateChange, StateConfig, StateWrite, WriteError};
use crate::wire::state::{Stamp, StateChunk, StateDelta, StateVector, StreamId, Table, Tenure};

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
    #[error("no room for it")]
    Full,
    #[error("a malformed entry")]
    Malformed,
}

/// One group's state on this device. All times are group time in microseconds.
#[derive(Debug)]
pub(crate) struct Replica {}

#[expect(clippy::todo, unused_variables, reason = "interface")]
impl Replica {
    pub(crate) fn new(setup: Setup) -> Self {
        todo!()
    }

    /// Takes up what was kept. What cannot be read is left out; how many records that were.
    pub(crate) fn load(setup: Setup, records: &[(Bytes, Bytes)], now: u64) -> (Self, usize) {
        todo!()
    }

    pub(crate) fn set_config(&mut self, config: StateConfig) {
        todo!()
    }

    /// This device's plugin writes.
    pub(crate) fn write(&mut self, now: u64, write: &StateWrite) -> Result<(), WriteError> {
        todo!()
    }

    /// What the keys that a write names hold at present, as a change.
    pub(crate) fn present(&self, now: u64, write: &StateWrite) -> StateChange {
        todo!()
    }

    /// What changed since the last time this was asked, each key once.
    pub(crate) fn take_changes(&mut self) -> Vec<StateChange> {
        todo!()
    }

    /// Everything.
    pub(crate) fn whole(&self, now: u64) -> Vec<StateChange> {
        todo!()
    }

    /// Own leader-state keys that the group did not adopt, since the last time this was asked.
    pub(crate) fn take_superseded(&mut self) -> Vec<Arc<str>> {
        todo!()
    }

    /// What is to be kept over a restart and changed since the last time this was asked. Nothing
    /// unless the configuration says so.
    pub(crate) fn take_dirty(&mut self) -> Vec<(Bytes, Option<Bytes>)> {
        todo!()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        todo!()
    }

    /// The tenure that this device follows (or leads in), as far as the election knows.
    pub(crate) fn follow(&mut self, tenure: Option<Tenure>) {
        todo!()
    }

    /// This device leads from here on, with what other members answered. `lineage` is random.
    pub(crate) fn lead(&mut self, now: u64, tenure: Tenure, answers: &[LeaderState], lineage: u32) {
        todo!()
    }

    /// This device leads no longer.
    pub(crate) fn resign(&mut self) {
        todo!()
    }

    /// Adds to the lineage where it is due. `lineage` is random.
    pub(crate) fn renew_lineage(&mut self, now: u64, lineage: u32) {
        todo!()
    }

    pub(crate) fn leader_state(&self) -> LeaderState {
        todo!()
    }

    /// Equal digests mean equal replicas.
    pub(crate) fn digest(&self) -> u64 {
        todo!()
    }

    /// Of the table that is held.
    pub(crate) fn table_tenure(&self) -> Option<Tenure> {
        todo!()
    }

    /// What is held, in parts that fit a datagram each. The purpose is `Exchange`.
    pub(crate) fn vectors(&self) -> Vec<StateVector> {
        todo!()
    }

    /// The vector of leader state alone.
    pub(crate) fn leader_vectors(&self) -> Vec<StateVector> {
        todo!()
    }

    /// Compares; takes over the vector's table if it counts more.
    pub(crate) fn compare(&mut self, now: u64, theirs: &StateVector) -> Comparison {
        todo!()
    }

    /// What the other replica lacks, of up to about `room` bytes, the last one marked where there
    /// is more.
    pub(crate) fn delta_for(&self, theirs: &StateVector, room: usize) -> Vec<Parcel> {
        todo!()
    }

    /// Whether this device wrote something that was not pushed.
    pub(crate) fn has_unpushed(&self) -> bool {
        todo!()
    }

    /// What this device wrote since the last push.
    pub(crate) fn take_push(&mut self) -> Vec<Parcel> {
        todo!()
    }

    /// How far this device's own streams go, and the tenure's if it leads.
    pub(crate) fn own_marks(&self) -> Vec<(StreamId, u64)> {
        todo!()
    }

    /// What this device wrote into one of its streams after `from`, as a push.
    pub(crate) fn push_after(&self, stream: StreamId, from: u64) -> Vec<Parcel> {
        todo!()
    }

    /// How far all of a stream is held.
    pub(crate) fn mark(&self, stream: StreamId) -> u64 {
        todo!()
    }

    /// Takes in what another replica sent. Whether anything was new.
    pub(crate) fn merge(
        &mut self,
        now: u64,
        sender: NodeId,
        delta: &StateDelta,
    ) -> Result<bool, MergeError> {
        todo!()
    }

    /// Takes in a piece of an entry; the same as [`Replica::merge`] once it is complete.
    pub(crate) fn merge_chunk(
        &mut self,
        now: u64,
        sender: NodeId,
        chunk: StateChunk,
    ) -> Result<bool, MergeError> {
        todo!()
    }

    /// A device is a member, or is one no longer.
    pub(crate) fn set_present(&mut self, now: u64, node: NodeId, present: bool) {
        todo!()
    }

    /// All other members hold all that this device has of its finished boots: folds them.
    pub(crate) fn fold(&mut self, now: u64) {
        todo!()
    }

    /// Streams of this device's finished boots that counters are still kept in, for the node to
    /// find out whether all members hold them.
    pub(crate) fn finished(&self) -> Vec<StreamId> {
        todo!()
    }

    /// What is due: expiries, tombstones, quarantined entries, absent devices.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        todo!()
    }

    /// When [`Replica::handle_timeout`] is to be called next.
    pub(crate) fn next_timeout(&self) -> Option<u64> {
        todo!()
    }

    /// Group time was set back to `now`.
    pub(crate) fn set_back(&mut self, now: u64) {
        todo!()
    }

    /// Keys and bytes held, tombstones left out.
    pub(crate) fn size(&self) -> (usize, u64) {
        todo!()
    }
}
