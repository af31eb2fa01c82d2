//! One device's state by itself: what it writes into its own, and what is sent and asked of a single
//! device where whole replicas are not compared.

use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use super::entries::{Content, Slot};
use super::persist::Record;
use crate::id::NodeId;
use crate::wire::state::{Held, Purpose, Stamp, StateDelta, StateVector, StreamId};

/// Between these lie all streams of a device's state but the first, which no boot uses.
fn bounds(writer: NodeId) -> (StreamId, StreamId) {
    let stream = |stamp| StreamId::Device {
        writer,
        stamp: Stamp(stamp),
    };
    (stream(0), stream(u64::MAX))
}

/// The device that a vector is about, if it is about the state of one alone.
pub(crate) fn subject(vector: &StateVector) -> Option<NodeId> {
    let writer = vector.upto?.writer();
    let (after, upto) = bounds(writer);
    (vector.after == Some(after) && vector.upto == Some(upto)).then_some(writer)
}

impl Replica {
    /// Puts a value into this device's own state, under a key and of a size that are within bounds.
    pub(crate) fn put_own(&mut self, now: u64, key: &str, value: Bytes) {
        let slot = Slot::Device(self.node, Arc::from(key));
        self.author(now, slot, Content::Value(value), 0, 0, true);
    }

    /// All of a device's state that is held, of the newest of its boots that anything is held of, in
    /// one delta. It fits a datagram if the entries do.
    pub(crate) fn whole_of(&self, writer: NodeId) -> Option<StateDelta> {
        let stream = self.newest_of(writer)?;
        let held = self.streams.get(stream)?;
        let mut delta = self.empty(stream, 0, false);
        delta.to = held.mark;
        let entries = held.index().range(..=held.mark).map(|(n, _)| *n);
        delta.entries = entries.filter_map(|n| self.wire(stream, n)).collect();
        (!delta.entries.is_empty()).then_some(delta)
    }

    /// Asks for a device's state; with what is held of it, or as if nothing were.
    pub(crate) fn vector_of(&self, writer: NodeId, with_held: bool) -> StateVector {
        let (after, upto) = bounds(writer);
        let newest = self.newest_of(writer).filter(|_| with_held);
        let held = newest.and_then(|stream| Some(self.streams.get(stream)?.held(stream)));
        StateVector {
            group: self.setup.group,
            purpose: Purpose::Reply,
            table: None,
            after: Some(after),
            upto: Some(upto),
            held: held.into_iter().collect(),
        }
    }

    fn newest_of(&self, writer: NodeId) -> Option<StreamId> {
        let streams = self.streams.of_device(writer).into_iter().rev();
        let mut held = streams.filter(|stream| {
            let held = self.streams.get(*stream);
            held.is_some_and(|held| !held.index().is_empty())
        });
        held.next()
    }

    /// Whether the entry with this number is held.
    pub(crate) fn holds(&self, stream: StreamId, n: u64) -> bool {
        let held = self.streams.get(stream);
        held.is_some_and(|held| held.index().contains_key(&n))
    }

    /// Whether something is held that the same device would have written after this.
    pub(crate) fn is_beyond(&self, stream: StreamId, n: u64) -> bool {
        let newest = self.newest_of(stream.writer());
        newest.is_some_and(|newest| (newest, self.last_of(newest)) > (stream, n))
    }

    fn last_of(&self, stream: StreamId) -> u64 {
        let held = self.streams.get(stream);
        let last = held.and_then(|held| held.index().last_key_value());
        last.map_or(0, |(n, _)| *n)
    }

    /// Drops that, for the device never wrote it.
    pub(crate) fn drop_beyond(&mut self, stream: StreamId, n: u64) {
        let streams = self.streams.of_device(stream.writer()).into_iter();
        for later in streams.filter(|one| *one >= stream).collect::<Vec<_>>() {
            if (later, self.last_of(later)) > (stream, n) {
                self.anew += 1;
                self.drop_stream(later);
            }
        }
    }

    /// Drops what is held of devices that are no members, to make room.
    pub(crate) fn drop_absent(&mut self) {
        for node in self.presence.absent() {
            self.presence.forget(node);
            self.anew += 1;
            self.drop_device(node);
            self.devices.remove(&node);
        }
    }

    pub(super) fn drop_stream(&mut self, stream: StreamId) {
        let index = self.streams.get(stream).map(|held| held.index().clone());
        for slot in index.unwrap_or_default().into_values() {
            self.drop_single(&slot);
        }
        self.streams.remove(stream);
        self.soil(Record::Stream(stream));
    }

    /// Another device holds this of this device's own streams, be it of later boots
    /// ([`Replica::notice_boot`]) or more than there is of this one. Whether this device writes under
    /// another stamp from here on.
    pub(crate) fn hear_of_own(&mut self, now: u64, held: &[Held]) -> bool {
        let before = self.own_device();
        for held in held {
            self.notice_boot(now, held.stream);
            let own = held.stream == self.own_device() && held.mark > self.mark(held.stream);
            if own && self.setup.stamp.0 >> 32 < u64::from(u32::MAX) {
                self.begin_above(now, self.setup.stamp);
            }
        }
        before != self.own_device()
    }

    /// Forgets what changed: nobody is told.
    pub(crate) fn forget_changes(&mut self) {
        self.changed.clear();
    }
}
