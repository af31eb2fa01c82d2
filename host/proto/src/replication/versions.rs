//! What a replica holds under each key, for a checker to compare with what it held before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Replica;
use super::entries::{Entry, Slot};
use super::leader::cut;
use crate::wire::state::StreamId;

/// A key of one kind of state; no part of the interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldKey {
    /// Of leader state.
    Leader(Arc<str>),
    /// Of the state of the device that is known by this number.
    Device(u64, Arc<str>),
    /// Of shared state, what is in quarantine left out.
    Shared(Arc<str>),
    /// A counter: what one boot of a writer has added to it.
    Counter(Arc<str>, u64, u64),
}

/// What is held under a key; no part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of two entries of a key the larger place counts: the hybrid logical clock of shared state, or
    /// 0; the stream, in parts; the number in it.
    pub place: (u64, (u8, u64, u64), u64),
    /// From when on, in microseconds of group time, the key may be without an entry; 0 for never.
    pub until: u64,
}

/// What a replica holds; no part of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Under which stamp the replica writes, and how often it gave up by rule what it held: it
    /// started over, group time was set back, entries are to be kept for another time, a record is
    /// none that its device wrote, or those of devices that are away made room.
    pub line: (u64, u64),
    /// Epoch and leader of the table that says which leader state counts.
    pub table: Option<(u64, u64)>,
    /// By key.
    pub held: BTreeMap<HeldKey, Version>,
    /// Keys of leader state that lie beyond their cut.
    pub beyond: Vec<Arc<str>>,
}

impl Replica {
    /// Another number whenever [`Replica::versions`] may be different.
    pub(crate) fn revision(&self) -> u64 {
        let presence = self.presence.changes;
        (self.edits.wrapping_add(presence)).wrapping_add(self.anew) ^ self.setup.stamp.0
    }

    /// What is held under each key at present.
    pub(crate) fn versions(&self) -> Versions {
        let single = self.store.single.iter().filter_map(|(slot, entry)| {
            let key = match slot {
                Slot::Leader(key) => HeldKey::Leader(Arc::clone(key)),
                Slot::Device(node, key) => HeldKey::Device(node.0, Arc::clone(key)),
                Slot::Table | Slot::Shared(_) | Slot::Counter(_) => return None,
            };
            Some((key, self.version(0, entry)))
        });
        let shared = self.store.shared.iter().filter_map(|(key, place)| {
            let entry = place.current.as_ref()?;
            Some((
                HeldKey::Shared(Arc::clone(key)),
                self.version(entry.at, entry),
            ))
        });
        let counters = self.store.counters.iter();
        let parts = counters.flat_map(|(name, counter)| {
            counter.entries().map(|entry| {
                let (_, writer, boot) = entry.stream.parts();
                let key = HeldKey::Counter(Arc::clone(name), writer, boot);
                (key, self.version(0, entry))
            })
        });
        Versions {
            line: (self.setup.stamp.0, self.anew),
            table: self.table_tenure().map(|t| (t.epoch, t.leader.0)),
            held: single.chain(shared).chain(parts).collect(),
            beyond: self.beyond(),
        }
    }

    fn version(&self, at: u64, entry: &Entry) -> Version {
        let absent = match entry.slot {
            Slot::Device(node, _) => self.presence.until(node),
            Slot::Table | Slot::Leader(_) | Slot::Shared(_) | Slot::Counter(_) => 0,
        };
        let due = [entry.timer, absent].into_iter().filter(|at| *at != 0);
        Version {
            place: (at, entry.stream.parts(), entry.n),
            until: due.min().unwrap_or(0),
        }
    }

    /// Leader state that lies beyond its cut, or is there without a table.
    fn beyond(&self) -> Vec<Arc<str>> {
        let within = |entry: &Entry| match (&self.table, entry.stream) {
            (Some(table), StreamId::Leader(tenure)) => {
                tenure == table.tenure || entry.n <= cut(table, tenure)
            }
            (_, _) => false,
        };
        let single = self.store.single.iter();
        let beyond = single.filter_map(|(slot, entry)| match slot {
            Slot::Leader(key) if !within(entry) => Some(Arc::clone(key)),
            _ => None,
        });
        beyond.collect()
    }
}
