//! Counters: a sum per writer and boot, the value is the sum of sums.
//!
//! Only the boot itself writes its sum, so the entry with the largest number holds. An owner folds
//! the sums of its finished boots into one of its current boot, whose floor says that they are part
//! of it: at every replica either the old entries count or the new one, never both.

use std::collections::BTreeMap;

use super::Replica;
use super::entries::{COUNTER_BYTES, Content, Entry, Slot};
use crate::id::NodeId;
use crate::state::StateOutcome;
use crate::wire::state::{Stamp, StreamId};

/// One counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    parts: BTreeMap<(NodeId, Stamp), Entry>,
    /// Wide enough for every sum there can be, so that the order of additions does not matter.
    total: i128,
}

impl Counter {
    /// The entry of a stream.
    pub(super) fn part(&self, stream: StreamId) -> Option<&Entry> {
        self.parts.get(&place(stream)?)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.values()
    }

    pub(super) fn outcome(&self) -> StateOutcome {
        let ends = (i128::from(i64::MIN), i128::from(i64::MAX));
        let total = self.total.clamp(ends.0, ends.1);
        StateOutcome::Counted(i64::try_from(total).unwrap_or(i64::MAX))
    }

    /// Boots of this writer before this one are part of a later sum.
    fn floor(&self, writer: NodeId) -> Stamp {
        let floors = self
            .boots(writer, Stamp(u64::MAX))
            .map(|(_, entry)| floor(entry));
        floors.max().unwrap_or_default()
    }

    /// The entries of a writer's boots up to this one.
    fn boots(&self, writer: NodeId, upto: Stamp) -> impl Iterator<Item = (Stamp, &Entry)> {
        let range = self.parts.range((writer, Stamp(0))..=(writer, upto));
        range.map(|((_, stamp), entry)| (*stamp, entry))
    }
}

fn place(stream: StreamId) -> Option<(NodeId, Stamp)> {
    match stream {
        StreamId::Shared { writer, stamp } => Some((writer, stamp)),
        StreamId::Leader(_) | StreamId::Device { .. } => None,
    }
}

fn sum(entry: &Entry) -> i64 {
    match entry.content {
        Content::Sum { sum, .. } => sum,
        Content::Value(_) | Content::Tombstone | Content::Expired => 0,
    }
}

fn floor(entry: &Entry) -> Stamp {
    match entry.content {
        Content::Sum { floor, .. } => floor,
        Content::Value(_) | Content::Tombstone | Content::Expired => Stamp(0),
    }
}

impl Replica {
    pub(super) fn admit_sum(&mut self, entry: Entry, own: bool) -> bool {
        let (Slot::Counter(name), Some(at)) = (&entry.slot, place(entry.stream)) else {
            return false;
        };
        let name = name.clone();
        let counter = self.store.counters.get(&name);
        let known = counter.is_some();
        let before = counter.map_or(0, |counter| counter.total);
        if let Some(counter) = counter {
            let held = counter.parts.get(&at);
            if counter.floor(at.0) > at.1 || held.is_some_and(|held| held.n >= entry.n) {
                return false;
            }
        } else {
            self.live_keys += 1;
            self.live_bytes += name.len() as u64 + COUNTER_BYTES;
        }
        let entry = self.link(entry, false);
        let counter = self.store.counters.entry(name).or_default();
        let below = Stamp(floor(&entry).0.saturating_sub(1));
        let folded: Vec<Stamp> = match floor(&entry) {
            Stamp(0) => Vec::new(),
            _ => counter.boots(at.0, below).map(|(stamp, _)| stamp).collect(),
        };
        counter.total += i128::from(sum(&entry));
        let slot = entry.slot.clone();
        let mut gone: Vec<Entry> = counter.parts.insert(at, entry).into_iter().collect();
        let folded = folded
            .iter()
            .filter_map(|stamp| counter.parts.remove(&(at.0, *stamp)));
        gone.extend(folded);
        counter.total -= gone
            .iter()
            .map(|entry| i128::from(sum(entry)))
            .sum::<i128>();
        let changed = counter.total != before;
        for old in gone {
            self.unlink(&old, false);
        }
        if changed || own || !known {
            self.touch(&slot, own);
        }
        true
    }

    /// This device adds to a counter.
    pub(super) fn add(&mut self, now: u64, slot: Slot, delta: i64) {
        let stream = self.own_shared();
        let held = match &slot {
            Slot::Counter(name) => self.store.counters.get(name).and_then(|c| c.part(stream)),
            _ => None,
        };
        let content = Content::Sum {
            sum: held.map_or(0, sum).saturating_add(delta),
            floor: held.map_or(Stamp(0), floor),
        };
        self.author(now, slot, content, now, 0, true);
    }

    /// All other members hold all that this device has of its finished boots: folds them.
    pub(crate) fn fold(&mut self, now: u64) {
        let mut slots = std::collections::BTreeSet::new();
        for stream in self.finished() {
            let index = self.streams.get(stream).map(|held| held.index().values());
            let counters = index.into_iter().flatten();
            slots.extend(
                counters
                    .filter(|slot| matches!(slot, Slot::Counter(_)))
                    .cloned(),
            );
        }
        for slot in slots {
            let Slot::Counter(name) = &slot else { continue };
            let Some(counter) = self.store.counters.get(name) else {
                continue;
            };
            let sums = counter.boots(self.node, self.setup.stamp);
            let sum = sums.fold(0, |all: i64, (_, entry)| all.saturating_add(sum(entry)));
            let floor = self.setup.stamp;
            self.author(now, slot, Content::Sum { sum, floor }, now, 0, true);
        }
    }

    /// Streams of this device's finished boots that counters are still kept in, for the node to
    /// find out whether all members hold them.
    pub(crate) fn finished(&self) -> Vec<StreamId> {
        let current = self.own_shared();
        let mine = self.streams.shared_of(self.node);
        let earlier = mine.filter(|(id, stream)| *id != current && stream.counters > 0);
        earlier.map(|(id, _)| id).collect()
    }
}
