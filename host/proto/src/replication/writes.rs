//! What this device writes, and what its plugin is told.

use std::sync::Arc;

use super::entries::{Content, Entry, Slot};
use super::persist::Record;
use super::shared::begin;
use super::{HEADROOM, Replica, SLACK};
use crate::id::NodeId;
use crate::state::{
    Origin, STATE_KEY_MAX, STATE_VALUE_MAX, Scope, StateChange, StateOutcome, StateWrite,
    WriteError,
};
use crate::wire::state::{Stamp, StreamId};

/// Boots that a stream may be ahead of this device's own without its word being doubted.
const BOOTS_AHEAD_MAX: u64 = 1 << 20;
/// Replicas of which it is known how far they hold this device's own shared stream.
const ACKED_MAX: usize = 2048;

impl Replica {
    /// This device's plugin writes.
    ///
    /// # Errors
    /// Says why the write is refused; nothing has changed then.
    pub(crate) fn write(&mut self, now: u64, write: &StateWrite) -> Result<(), WriteError> {
        let slot = self.target(write);
        if matches!(slot, Slot::Leader(_)) && !self.leads() {
            return Err(WriteError::NotLeader);
        }
        let key = slot.key().map_or(0, |key| key.len());
        if key == 0 || key > STATE_KEY_MAX {
            return Err(WriteError::InvalidKey);
        }
        let (content, ttl_ms) = match write {
            StateWrite::Put { value, ttl_ms, .. } => {
                if value.len() > STATE_VALUE_MAX {
                    return Err(WriteError::TooLarge(STATE_VALUE_MAX as u64));
                }
                (Content::Value(value.clone()), *ttl_ms)
            }
            StateWrite::Delete { .. } | StateWrite::Add { .. } => (Content::Tombstone, None),
        };
        let expires_at =
            ttl_ms.map_or(0, |ttl| now.saturating_add(ttl.saturating_mul(1000)).max(1));
        let entry = Entry {
            stream: self.own_shared(),
            n: 0,
            slot,
            content,
            at: now,
            expires_at,
            timer: 0,
        };
        let held = self.store.weight(&entry.slot, entry.stream);
        let growth = entry.weight().saturating_sub(held);
        if growth > 0 && self.footprint + growth > self.bound() - HEADROOM {
            return Err(WriteError::TooLarge(self.setup.config.quota));
        }
        if let StateWrite::Add { delta, .. } = write {
            self.add(now, entry.slot, *delta);
            return Ok(());
        }
        let at = match entry.slot {
            Slot::Shared(_) => self.tick(now),
            _ => now,
        };
        self.author(now, entry.slot, entry.content, at, expires_at, true);
        Ok(())
    }

    /// Gives an entry its place in this device's own stream, and takes it in.
    pub(super) fn author(
        &mut self,
        now: u64,
        slot: Slot,
        content: Content,
        at: u64,
        expires_at: u64,
        own: bool,
    ) {
        let Some(stream) = self.own_stream(&slot) else {
            return;
        };
        if let Slot::Leader(key) = &slot {
            self.ended.remove(key);
        }
        let n = self.mark(stream) + 1;
        let entry = Entry {
            stream,
            n,
            slot,
            content,
            at,
            expires_at,
            timer: 0,
        };
        if self.admit(now, entry, own) || self.streams.contains(stream) {
            self.streams.change(stream).complete(n - 1, n);
            self.soil(Record::Stream(stream));
        }
    }

    /// The stream that this device's own entries of a slot go into.
    fn own_stream(&self, slot: &Slot) -> Option<StreamId> {
        match slot {
            Slot::Table | Slot::Leader(_) => self.leading.map(StreamId::Leader),
            Slot::Device(..) => Some(self.own_device()),
            Slot::Shared(_) | Slot::Counter(_) => Some(self.own_shared()),
        }
    }

    pub(super) fn own_device(&self) -> StreamId {
        StreamId::Device {
            writer: self.node,
            stamp: self.setup.stamp,
        }
    }

    pub(super) fn own_shared(&self) -> StreamId {
        StreamId::Shared {
            writer: self.node,
            stamp: self.setup.stamp,
        }
    }

    /// Whether this device writes this stream at present, and nobody else does.
    pub(super) fn is_own(&self, stream: StreamId) -> bool {
        stream == self.own_device()
            || stream == self.own_shared()
            || (self.leads() && stream.tenure() == self.leading)
    }

    fn target(&self, write: &StateWrite) -> Slot {
        match write {
            StateWrite::Put { scope, key, .. } | StateWrite::Delete { scope, key } => match scope {
                Scope::Leader => Slot::Leader(Arc::clone(key)),
                Scope::Device => Slot::Device(self.node, Arc::clone(key)),
                Scope::Shared => Slot::Shared(Arc::clone(key)),
            },
            StateWrite::Add { name, .. } => Slot::Counter(Arc::clone(name)),
        }
    }

    /// What the key that a write names holds at present, as a change.
    pub(crate) fn present(&self, now: u64, write: &StateWrite) -> StateChange {
        let slot = self.target(write);
        let none = match slot {
            Slot::Counter(_) => StateOutcome::Counted(0),
            _ => StateOutcome::Deleted,
        };
        let outcome = self.store.outcome(&slot).map_or(none, |held| at(held, now));
        StateChange {
            origin: self.origin(&slot).unwrap_or(Origin::Leader),
            key: slot.key().cloned().unwrap_or_default(),
            outcome,
            own: true,
        }
    }

    /// What changed since the last time this was asked, each key once.
    pub(crate) fn take_changes(&mut self) -> Vec<StateChange> {
        let changed = core::mem::take(&mut self.changed);
        let told = changed.into_iter().filter_map(|(slot, own)| {
            let none = match slot {
                Slot::Counter(_) => StateOutcome::Counted(0),
                _ => StateOutcome::Deleted,
            };
            Some(StateChange {
                origin: self.origin(&slot)?,
                key: slot.key()?.clone(),
                outcome: self.store.outcome(&slot).unwrap_or(none),
                own,
            })
        });
        told.collect()
    }

    /// Everything that a plugin sees.
    pub(crate) fn whole(&self, now: u64) -> Vec<StateChange> {
        let single = self.store.single.keys().cloned();
        let shared = self.store.shared.keys().cloned().map(Slot::Shared);
        let counters = self.store.counters.keys().cloned().map(Slot::Counter);
        let slots = single.chain(shared).chain(counters);
        let told = slots.filter_map(|slot| {
            let outcome = at(self.store.outcome(&slot)?, now);
            let seen = matches!(outcome, StateOutcome::Put { .. } | StateOutcome::Counted(_));
            seen.then_some(StateChange {
                origin: self.origin(&slot)?,
                key: slot.key()?.clone(),
                outcome,
                own: true,
            })
        });
        told.collect()
    }

    /// A stream of this device's own is claimed to exist. If it is of a boot above the present
    /// one, which a restored backup brings about, this run takes a place above that and writes its
    /// device state again; its shared entries and sums hold where they are. Whether the claim is
    /// believable.
    pub(super) fn notice_boot(&mut self, now: u64, stream: StreamId) -> bool {
        let (writer, seen) = match stream {
            StreamId::Device { writer, stamp } | StreamId::Shared { writer, stamp } => {
                (writer, stamp)
            }
            StreamId::Leader(_) => return true,
        };
        if writer != self.node || seen <= self.setup.stamp {
            return true;
        }
        let ahead = (seen.0 >> 32) - (self.setup.stamp.0 >> 32);
        if ahead > BOOTS_AHEAD_MAX || seen.0 >> 32 == u64::from(u32::MAX) {
            return false;
        }
        self.begin_above(now, seen);
        true
    }

    /// Goes on in streams of a stamp above `seen`, with this run's device state written again.
    pub(super) fn begin_above(&mut self, now: u64, seen: Stamp) {
        let (before, shared) = (self.own_device(), self.own_shared());
        self.take_stamp_above(seen);
        let index = self.streams.get(before).map(|held| held.index().clone());
        for slot in index.unwrap_or_default().into_values() {
            if let Some(held) = self.store.single.get(&slot).cloned() {
                self.author(now, slot, held.content, held.at, held.expires_at, true);
            }
        }
        for left in [before, shared] {
            let held = self.streams.get(left);
            if held.is_some_and(|held| held.index().is_empty()) {
                self.streams.remove(left);
                self.soil(Record::Stream(left));
            }
        }
    }

    /// From here on this device writes into streams of its own above those of `stamp`.
    pub(super) fn take_stamp_above(&mut self, stamp: Stamp) {
        self.former.insert(self.setup.stamp);
        let low = self.setup.stamp.0 & u64::from(u32::MAX);
        self.setup.stamp = Stamp((((stamp.0 >> 32) + 1) << 32) | low);
        self.acked.clear();
    }

    /// Another replica holds all of a stream of this device's own up to `mark`.
    pub(crate) fn acknowledged(&mut self, by: NodeId, stream: StreamId, mark: u64) {
        let room = self.acked.len() < ACKED_MAX || self.acked.contains_key(&by);
        if stream == self.own_shared() && room {
            let mark = mark.min(self.mark(stream));
            let acked = self.acked.entry(by).or_default();
            *acked = mark.max(*acked);
        }
    }

    /// Another replica holds what this one holds.
    pub(crate) fn is_equal_to(&mut self, other: NodeId) {
        let stream = self.own_shared();
        self.acknowledged(other, stream, self.mark(stream));
    }

    /// By how many bytes writes of the plugin may let this grow, as its host is told. A write itself
    /// may take a little more, for what came from others since.
    pub(crate) fn room(&self) -> u64 {
        let bound = self.bound() - HEADROOM - SLACK;
        bound.saturating_sub(self.footprint)
    }

    /// Bytes of keys, values and overhead that are held at most.
    pub(super) fn bound(&self) -> u64 {
        let quota = self.setup.config.quota.saturating_mul(2);
        quota.saturating_add(2 * HEADROOM)
    }

    /// Takes the clock of what was kept.
    pub(super) fn raise_clock(&mut self, now: u64, hlc: u64) {
        if super::shared::physical(hlc) <= now.saturating_add(super::shared::AHEAD_MAX) {
            self.hlc = self.hlc.max(hlc);
        } else {
            self.hlc = self.hlc.max(begin(now));
        }
    }

    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.devices.contains_key(&node)
    }
}

fn at(outcome: StateOutcome, now: u64) -> StateOutcome {
    match outcome {
        StateOutcome::Put {
            expires_at: Some(at),
            ..
        } if at <= now => StateOutcome::Expired,
        outcome => outcome,
    }
}
