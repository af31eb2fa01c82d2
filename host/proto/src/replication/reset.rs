//! Starting over: this replica was away for longer than deletions are remembered.
//!
//! Whatever it holds may have been deleted since, so it is dropped and fetched anew. Kept are the
//! counters, whose entries only grow, and this device's own device state, which nobody else
//! deletes. Own shared writes that the others cannot know of enter again: those that the leader
//! whose table it met never acknowledged, and those from within the time that a deletion is
//! remembered. They keep their clock, so that what was written over them since still wins. What
//! others of the losing side hold says nothing: they start over, too.
//!
//! This device writes into streams of a stamp of their own from then on, its device state again. What it has written before
//! may be held by others and not here, and comes back like anybody's: in a stream of its own, it
//! would take every such entry for superseded. Of what comes back of its device state, only the keys
//! that it has since deleted are news to it: it deletes them once more.

use super::Replica;
use super::entries::{Entry, Slot};
use super::persist::Record;
use super::shared::physical;
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::micros;
use crate::wire::state::StreamId;

impl Replica {
    pub(super) fn reset(&mut self, now: u64, leader: NodeId) {
        let node = self.node;
        self.anew += 1;
        self.reset_under = self.table_tenure();
        let single = self.store.single.keys();
        let others =
            single.filter(|slot| !matches!(slot, Slot::Device(owner, _) if *owner == node));
        for slot in others.cloned().collect::<Vec<_>>() {
            let dropped = self.drop_single(&slot);
            // What is within the cuts comes back.
            let beyond = |stream: StreamId, n: u64| match stream {
                StreamId::Leader(tenure) => {
                    n > self.limit(tenure) || mutant::is(Mutant::ResetReportsAll)
                }
                StreamId::Device { .. } | StreamId::Shared { .. } => false,
            };
            let lost = dropped.is_some_and(|entry| {
                entry.stream.writer() == node && beyond(entry.stream, entry.n)
            });
            if let (Slot::Leader(key), true) = (&slot, lost) {
                self.superseded.insert(key.clone());
            }
        }
        let unsynced = self.drop_shared(now, leader);
        let in_place = mutant::is(Mutant::ResetInPlace);
        if !in_place && self.setup.stamp.0 >> 32 < u64::from(u32::MAX) {
            self.begin_above(now, self.setup.stamp);
        }
        let streams: Vec<StreamId> = self.streams.iter().map(|(id, _)| id).collect();
        for stream in streams {
            if !self.is_own(stream) {
                self.streams.change(stream).forget();
                self.soil(Record::Stream(stream));
            }
        }
        for entry in unsynced {
            self.author(
                now,
                entry.slot,
                entry.content,
                entry.at,
                entry.expires_at,
                true,
            );
        }
    }

    /// Drops all of shared state. What of it is this device's own and not known elsewhere.
    fn drop_shared(&mut self, now: u64, leader: NodeId) -> Vec<Entry> {
        let acked = self.acked.get(&leader).copied().unwrap_or(0);
        let keep = micros(self.setup.config.keep_absent);
        let lately = now.saturating_sub(keep - keep / 12);
        let mut unsynced = Vec::new();
        let keys: Vec<_> = self.store.shared.keys().cloned().collect();
        for key in keys {
            let pending = self
                .store
                .shared
                .get(&key)
                .map(|place| place.pending.clone());
            let mut entries: Vec<Entry> = Vec::new();
            for entry in pending.into_iter().flatten() {
                entries.extend(self.take_pending(&key, entry.stream, entry.n));
            }
            if let Some(entry) = self.take_current(&key) {
                if entry.value().is_some() {
                    self.touch(&entry.slot, false);
                }
                entries.push(entry);
            }
            unsynced.extend(entries.into_iter().filter(|entry| {
                let unseen = entry.stream == self.own_shared() && entry.n > acked;
                let mine = entry.stream.writer() == self.node;
                mine && (unseen || physical(entry.at) > lately)
            }));
        }
        unsynced.sort_by_key(|entry| (entry.at, entry.stream, entry.n));
        unsynced
    }
}
