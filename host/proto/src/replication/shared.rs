//! Shared state: of two writes the one with the larger hybrid logical clock wins (Kulkarni et al.:
//! Logical physical clocks, 2014), 48 bits of group time in milliseconds above 16 that count.
//!
//! A write from more than [`AHEAD_MAX`] in the future is quarantined: held and passed on, but it
//! neither is seen nor competes until it is due. Of one writer and key only the newest is.

use super::entries::{Entry, Slot};
use super::{MergeError, Replica};
use crate::mutant::{self, Mutant};
use crate::wire::state::{Stamp, StreamId};

/// How far ahead of group time a write may lie, in microseconds.
pub(super) const AHEAD_MAX: u64 = 5 * 60 * 1_000_000;
/// Quarantined entries of one key.
const PENDING_MAX: usize = 64;
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// What is held under a key of shared state.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) current: Option<Entry>,
    pub(super) pending: Vec<Entry>,
}

impl Place {
    pub(super) fn find(&self, stream: StreamId, n: u64) -> Option<&Entry> {
        let mut all = self.current.iter().chain(&self.pending);
        all.find(|entry| entry.is(stream, n))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.pending.is_empty()
    }
}

/// The group time of a hybrid logical clock, in microseconds.
pub(super) const fn physical(hlc: u64) -> u64 {
    (hlc >> 16) * 1000
}

/// The hybrid logical clock that a moment begins with.
pub(super) fn begin(now: u64) -> u64 {
    (now / 1000).min(MILLIS_MAX) << 16
}

/// Of two entries of a key the larger one wins. The writer's place makes it unique, so no hash of
/// the value is needed.
fn version(entry: &Entry) -> (u64, StreamId, u64) {
    (entry.at, entry.stream, entry.n)
}

impl Replica {
    /// The clock of a write.
    pub(super) fn tick(&mut self, now: u64) -> u64 {
        self.hlc = begin(now).max(self.hlc.saturating_add(1));
        self.soil(super::persist::Record::Clock);
        self.hlc
    }

    pub(super) fn admit_shared(&mut self, now: u64, entry: Entry, own: bool) -> bool {
        let Slot::Shared(key) = &entry.slot else {
            return false;
        };
        let key = key.clone();
        if self.outrun(&key, &entry) {
            return false;
        }
        let place = self.store.shared.get(&key);
        let current = place.and_then(|place| place.current.as_ref());
        let behind = current.is_some_and(|held| version(held) >= version(&entry));
        let pending = place.map_or(0, |place| place.pending.len());
        let is_ahead = physical(entry.at) > now.saturating_add(AHEAD_MAX);
        if is_ahead && !mutant::is(Mutant::QuarantineIgnored) {
            if behind || pending >= PENDING_MAX {
                return false;
            }
            let entry = self.link(entry, true);
            self.store
                .shared
                .entry(key)
                .or_default()
                .pending
                .push(entry);
            return true;
        }
        if behind {
            return false;
        }
        if entry.at > self.hlc && !mutant::is(Mutant::ClockUnmoved) {
            self.hlc = entry.at;
            self.soil(super::persist::Record::Clock);
        }
        let place = self.store.shared.entry(key.clone()).or_default();
        let before = place.current.take();
        let entry = self.link(entry, false);
        self.replace(before, &entry, own);
        self.store.shared.entry(key).or_default().current = Some(entry);
        true
    }

    /// Drops what the same writer has in quarantine from before. Whether something of the writer
    /// from after keeps the entry out of quarantine.
    fn outrun(&mut self, key: &str, entry: &Entry) -> bool {
        let Some(place) = self.store.shared.get_mut(key) else {
            return false;
        };
        if place.pending.is_empty() {
            return false;
        }
        let writer = entry.stream.writer();
        let same = |held: &Entry| held.stream.writer() == writer;
        let newer = |held: &Entry| (held.stream, held.n) > (entry.stream, entry.n);
        let outrun = place.pending.iter().any(|held| same(held) && newer(held));
        let (gone, kept) = core::mem::take(&mut place.pending)
            .into_iter()
            .partition(|held| same(held) && !newer(held));
        place.pending = kept;
        let gone: Vec<Entry> = gone;
        for old in gone {
            self.unlink(&old, true);
        }
        outrun
    }

    /// Takes an entry out of quarantine.
    pub(super) fn take_pending(&mut self, key: &str, stream: StreamId, n: u64) -> Option<Entry> {
        let place = self.store.shared.get_mut(key)?;
        let at = place.pending.iter().position(|entry| entry.is(stream, n))?;
        let entry = place.pending.swap_remove(at);
        if place.is_empty() {
            self.store.shared.remove(key);
        }
        self.unlink(&entry, true);
        Some(entry)
    }

    /// Takes out what counts under a key.
    pub(super) fn take_current(&mut self, key: &str) -> Option<Entry> {
        let place = self.store.shared.get_mut(key)?;
        let entry = place.current.take()?;
        if place.is_empty() {
            self.store.shared.remove(key);
        }
        self.hide(&entry);
        self.unlink(&entry, false);
        Some(entry)
    }

    /// A range of a stream is complete: what is in quarantine there and was not listed has been
    /// superseded.
    pub(super) fn drop_unlisted(&mut self, stream: StreamId, from: u64, to: u64, listed: &[u64]) {
        let Some(held) = self.streams.get(stream) else {
            return;
        };
        if held.pending_hash() == 0 || self.is_own(stream) {
            return;
        }
        let range = held.index().range(from.saturating_add(1)..=to);
        let unlisted = range.filter(|(n, _)| listed.binary_search(n).is_err());
        let unlisted: Vec<_> = unlisted.map(|(n, slot)| (*n, slot.clone())).collect();
        for (n, slot) in unlisted {
            if let Slot::Shared(key) = &slot {
                self.take_pending(key, stream, n);
            }
        }
    }

    /// Whether a shared entry of this device's own is too far ahead of `now` to count.
    pub(super) fn has_own_ahead(&self, now: u64) -> bool {
        let limit = now.saturating_add(AHEAD_MAX);
        let places = self.store.shared.values();
        let mut entries = places.flat_map(|place| place.pending.iter().chain(&place.current));
        entries.any(|entry| entry.stream.writer() == self.node && physical(entry.at) > limit)
    }

    /// Group time was set back to `now`.
    pub(crate) fn set_back(&mut self, now: u64) {
        self.anew += 1;
        self.shorten_absence(now);
        self.renew_ahead(now);
        let limit = now.saturating_add(AHEAD_MAX);
        let ahead = |entry: &Entry| physical(entry.at) > limit;
        let places = self.store.shared.iter();
        let keys = places.filter(|(_, place)| {
            place.current.as_ref().is_some_and(ahead) || place.pending.iter().any(ahead)
        });
        let keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        let mut taken = Vec::new();
        for key in keys {
            let pending = self
                .store
                .shared
                .get(&key)
                .map(|place| place.pending.clone());
            for entry in pending.into_iter().flatten() {
                taken.extend(self.take_pending(&key, entry.stream, entry.n));
            }
            let current = self
                .store
                .shared
                .get(&key)
                .and_then(|place| place.current.as_ref());
            if current.is_some_and(ahead) {
                taken.extend(self.take_current(&key).inspect(|entry| {
                    if entry.value().is_some() && entry.stream.writer() != self.node {
                        self.touch(&entry.slot, false);
                    }
                }));
            }
        }
        let rest = self
            .store
            .shared
            .values()
            .filter_map(|p| p.current.as_ref());
        self.hlc = rest.map(|entry| entry.at).max().unwrap_or(0);
        self.soil(super::persist::Record::Clock);
        for stream in self.streams.shared() {
            if !self.is_own(stream) {
                self.streams.change(stream).forget();
                self.soil(super::persist::Record::Stream(stream));
            }
        }
        taken.sort_by_key(version);
        for entry in taken {
            if entry.stream.writer() == self.node {
                self.stamp_anew(now, entry);
            } else {
                self.admit(now, entry, false);
            }
        }
    }

    /// Writes an entry of this device's own again, with the same time left to live.
    fn stamp_anew(&mut self, now: u64, entry: Entry) {
        let left = entry.expires_at.saturating_sub(physical(entry.at));
        let expires_at = if entry.expires_at == 0 { 0 } else { now + left };
        let at = self.tick(now);
        self.author(now, entry.slot, entry.content, at, expires_at, true);
    }
}

/// Refuses what no honest writer sends.
pub(super) fn check_floor(stream: StreamId, floor: u64) -> Result<Stamp, MergeError> {
    match stream {
        StreamId::Shared { stamp, .. } if floor <= stamp.0 => Ok(Stamp(floor)),
        _ => Err(MergeError::Malformed),
    }
}
