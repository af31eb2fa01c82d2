//! What is due at a time: the ends of values, tombstones and quarantine, and of absent devices.

use super::Replica;
use super::entries::{Content, Entry, Slot};
use super::shared::AHEAD_MAX;
use crate::mutant::{self, Mutant};
use crate::time::micros;
use crate::wire::state::StreamId;

/// For how long a deletion is passed on whose time is over when it comes, or when group time is set
/// forward, in microseconds.
const LINGER: u64 = 60_000_000;

impl Replica {
    /// What is due: expiries, tombstones, quarantined entries, absent devices.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        while let Some((at, stream, n)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.come_due(now, stream, n);
        }
        while let Some(node) = self.presence.take_due(now) {
            self.drop_device(node);
        }
        self.assemblies.expire(now);
    }

    /// When [`Replica::handle_timeout`] is to be called next.
    pub(crate) fn next_timeout(&self) -> Option<u64> {
        let entry = self.timers.first().map(|(at, ..)| *at);
        let device = self.presence.next_timeout();
        let piece = self.assemblies.next_timeout();
        entry.into_iter().chain(device).chain(piece).min()
    }

    fn come_due(&mut self, now: u64, stream: StreamId, n: u64) {
        let slot = self
            .streams
            .get(stream)
            .and_then(|held| held.index().get(&n))
            .cloned();
        let Some(slot) = slot else { return };
        let pending = match &slot {
            Slot::Shared(key) => self.take_pending(key, stream, n),
            _ => None,
        };
        if let Some(entry) = pending {
            self.admit(now, entry, false);
            return;
        }
        let Some(entry) = self.store.find(&slot, stream, n).cloned() else {
            return;
        };
        match (&slot, &entry.content) {
            (_, Content::Value(_)) => self.expire(&slot),
            (Slot::Shared(key), Content::Tombstone | Content::Expired) => {
                self.take_current(key);
            }
            (_, Content::Tombstone | Content::Expired) => {
                self.note_ended(&slot, stream, n);
                self.drop_single(&slot);
            }
            (_, Content::Sum { .. }) => {}
        }
    }

    /// A value's time has come: its place stays, as a deletion's does.
    fn expire(&mut self, slot: &Slot) {
        let taken = match slot {
            Slot::Shared(key) => self.take_current(key),
            _ => self.drop_single(slot),
        };
        let Some(mut entry) = taken else { return };
        entry.content = Content::Expired;
        let entry = self.link(entry, false);
        match slot {
            Slot::Shared(key) => {
                let place = self.store.shared.entry(key.clone()).or_default();
                place.current = Some(entry);
            }
            _ => drop(self.store.single.insert(slot.clone(), entry)),
        }
        self.touch(slot, false);
    }

    /// A deletion that is long over as it comes, by the clock of a device that had not met the group
    /// yet, stays for long enough to be passed on.
    pub(super) fn linger(&mut self, now: u64, stream: StreamId, n: u64) {
        let held = self.streams.get(stream);
        let Some(slot) = held.and_then(|held| held.index().get(&n)).cloned() else {
            return;
        };
        let held = self.store.current_mut(&slot);
        let is_late =
            held.is_some_and(|held| held.is(stream, n) && held.timer != 0 && held.timer <= now);
        if is_late && !mutant::is(Mutant::TombstonesForgotten) {
            let until = self.lingers_until(now);
            self.set_timer(&slot, until);
        }
    }

    /// Group time was set forward to `now`. A deletion that is over by that, or soon is, stays for
    /// long enough to be passed on: the others may not have it yet. Without it they would keep what
    /// was deleted, and this replica, whose marks cover that, would never take it back.
    pub(crate) fn set_forward(&mut self, now: u64) {
        if mutant::is(Mutant::LeapForgets) {
            return;
        }
        for (stream, n) in self.due_until(now) {
            if self.deleted(stream, n).is_none() {
                self.come_due(now, stream, n);
            }
        }
        let until = self.lingers_until(now);
        for (stream, n) in self.due_until(until) {
            if let Some(slot) = self.deleted(stream, n) {
                self.set_timer(&slot, until);
            }
        }
    }

    /// Where a deletion, or an expired value, counts that is this entry.
    fn deleted(&mut self, stream: StreamId, n: u64) -> Option<Slot> {
        let slot = self.streams.get(stream)?.index().get(&n)?.clone();
        let held = self.store.current_mut(&slot)?;
        let gone = matches!(held.content, Content::Tombstone | Content::Expired);
        (gone && held.is(stream, n)).then_some(slot)
    }

    fn lingers_until(&self, now: u64) -> u64 {
        let keep = micros(self.setup.config.keep_absent);
        now.saturating_add(keep.min(LINGER))
    }

    /// What is due until `until`.
    fn due_until(&self, until: u64) -> Vec<(StreamId, u64)> {
        let due = self.timers.iter().take_while(|(at, ..)| *at <= until);
        due.map(|(_, stream, n)| (*stream, *n)).collect()
    }

    /// Entries are remembered for another time than before.
    pub(super) fn set_timers_anew(&mut self) {
        self.anew += 1;
        let single = self.store.single.values();
        let current = self
            .store
            .shared
            .values()
            .filter_map(|place| place.current.as_ref());
        let entries = single.chain(current);
        let due = entries.map(|entry| (entry.slot.clone(), self.due(entry, false)));
        let due: Vec<(Slot, u64)> = due.collect();
        for (slot, at) in due {
            self.set_timer(&slot, at);
        }
    }

    /// What counts in a slot is due at `at`; 0 for never.
    fn set_timer(&mut self, slot: &Slot, at: u64) {
        let Some(held) = self.store.current_mut(slot) else {
            return;
        };
        self.timers.remove(&(held.timer, held.stream, held.n));
        held.timer = at;
        if at != 0 {
            self.timers.insert((at, held.stream, held.n));
        }
    }

    /// Whether an end that is due was reckoned by a time that was ahead of this one by too much, and
    /// this device may write the entry again: its own device state, and as the leader the leader's.
    fn is_renewable(&self, entry: &Entry, limit: u64) -> bool {
        let mine = match &entry.slot {
            Slot::Device(owner, _) => *owner == self.node,
            Slot::Leader(_) => self.leads(),
            Slot::Table | Slot::Shared(_) | Slot::Counter(_) => false,
        };
        mine && entry.at > limit && entry.timer != 0 && !mutant::is(Mutant::EndsInTheFuture)
    }

    /// Whether there is something for [`Replica::renew_ahead`].
    pub(super) fn has_renewable(&self, now: u64) -> bool {
        let limit = now.saturating_add(AHEAD_MAX);
        let mut entries = self.store.single.values();
        entries.any(|entry| self.is_renewable(entry, limit))
    }

    /// Group time was set back: what would last until the time before comes again gets the time that
    /// it was given when it was written, from here on.
    pub(super) fn renew_ahead(&mut self, now: u64) {
        let limit = now.saturating_add(AHEAD_MAX);
        let ahead = self.store.single.values();
        let ahead = ahead.filter(|entry| self.is_renewable(entry, limit));
        for entry in ahead.cloned().collect::<Vec<_>>() {
            let given = entry.expires_at.saturating_sub(entry.at);
            let (content, expires_at) = match entry.content {
                Content::Value(_) => (entry.content, now.saturating_add(given)),
                _ => (Content::Tombstone, 0),
            };
            // A leader also writes again what earlier ones wrote, which is not its own word.
            let own = matches!(entry.slot, Slot::Device(..));
            self.author(now, entry.slot, content, now, expires_at, own);
        }
    }
}
