//! Entries, and under which keys they are held.
//!
//! Each entry belongs to a slot, and a slot keeps what is not superseded: one entry of leader or
//! device state, one that counts and those in quarantine of shared state, one per writer and boot
//! of a counter. Every entry that is held is in its stream's index, and only those are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use super::counters::Counter;
use super::persist::Record;
use super::shared::{Place, physical};
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::state::{ENTRY_BYTES, Origin, StateOutcome};
use crate::time::micros;
use crate::wire::state::{Stamp, StreamId};

/// What a counter counts besides its name in the replica's size.
pub(super) const COUNTER_BYTES: u64 = 16;

/// Where an entry belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Table,
    Leader(Arc<str>),
    Device(NodeId, Arc<str>),
    Shared(Arc<str>),
    Counter(Arc<str>),
}

impl Slot {
    pub(super) fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Table => None,
            Self::Leader(key) | Self::Device(_, key) | Self::Shared(key) | Self::Counter(key) => {
                Some(key)
            }
        }
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Value(Bytes),
    Tombstone,
    /// It was a value until its time came.
    Expired,
    Sum {
        sum: i64,
        /// Entries of the writer's boots before this one are part of the sum.
        floor: Stamp,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stream: StreamId,
    pub(super) n: u64,
    pub(super) slot: Slot,
    pub(super) content: Content,
    /// Group time of the write in microseconds; of shared state its hybrid logical clock.
    pub(super) at: u64,
    /// 0 keeps it.
    pub(super) expires_at: u64,
    /// When something is due, 0 for never. The replica sets it.
    pub(super) timer: u64,
}

impl Entry {
    pub(super) fn is(&self, stream: StreamId, n: u64) -> bool {
        self.stream == stream && self.n == n
    }

    /// Of two entries in a slot of leader or device state the larger one counts.
    fn version(&self) -> (StreamId, u64) {
        (self.stream, self.n)
    }

    /// What it takes of the replica's hard bound, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let key = self.slot.key().map_or(0, |key| key.len() as u64);
        ENTRY_BYTES + key + self.value().map_or(0, |value| value.len() as u64)
    }

    pub(super) fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Value(value) => Some(value),
            Content::Tombstone | Content::Expired | Content::Sum { .. } => None,
        }
    }

    pub(super) fn outcome(&self) -> StateOutcome {
        match &self.content {
            Content::Value(value) => StateOutcome::Put {
                value: value.clone(),
                expires_at: (self.expires_at != 0).then_some(self.expires_at),
            },
            Content::Sum { sum, .. } => StateOutcome::Counted(*sum),
            Content::Tombstone => StateOutcome::Deleted,
            Content::Expired => StateOutcome::Expired,
        }
    }
}

/// All that is held, by slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// Leader and device state.
    pub(super) single: BTreeMap<Slot, Entry>,
    pub(super) shared: BTreeMap<Arc<str>, Place>,
    pub(super) counters: BTreeMap<Arc<str>, Counter>,
}

impl Store {
    /// The entry that a stream's index names.
    pub(super) fn find(&self, slot: &Slot, stream: StreamId, n: u64) -> Option<&Entry> {
        let found = match slot {
            Slot::Table => None,
            Slot::Leader(_) | Slot::Device(..) => self.single.get(slot),
            Slot::Shared(key) => self.shared.get(key)?.find(stream, n),
            Slot::Counter(name) => self.counters.get(name)?.part(stream),
        };
        found.filter(|entry| entry.is(stream, n))
    }

    /// What counts in a slot of leader, device or shared state.
    pub(super) fn current_mut(&mut self, slot: &Slot) -> Option<&mut Entry> {
        match slot {
            Slot::Table | Slot::Counter(_) => None,
            Slot::Leader(_) | Slot::Device(..) => self.single.get_mut(slot),
            Slot::Shared(key) => self.shared.get_mut(key)?.current.as_mut(),
        }
    }

    /// What a plugin is told of a slot; none where there is nothing, or never was.
    pub(super) fn outcome(&self, slot: &Slot) -> Option<StateOutcome> {
        match slot {
            Slot::Table => None,
            Slot::Leader(_) | Slot::Device(..) => self.single.get(slot).map(Entry::outcome),
            Slot::Shared(key) => self.shared.get(key)?.current.as_ref().map(Entry::outcome),
            Slot::Counter(name) => self.counters.get(name).map(Counter::outcome),
        }
    }

    /// What a slot takes of the hard bound, the part of `stream` where it is a counter's.
    pub(super) fn weight(&self, slot: &Slot, stream: StreamId) -> u64 {
        let held = match slot {
            Slot::Table => None,
            Slot::Leader(_) | Slot::Device(..) => self.single.get(slot),
            Slot::Shared(key) => self
                .shared
                .get(key)
                .and_then(|place| place.current.as_ref()),
            Slot::Counter(name) => self.counters.get(name).and_then(|c| c.part(stream)),
        };
        held.map_or(0, Entry::weight)
    }
}

impl Replica {
    /// Takes in an entry unless something held supersedes it; what it supersedes goes. Whether it
    /// was taken in.
    pub(super) fn admit(&mut self, now: u64, mut entry: Entry, own: bool) -> bool {
        let over = entry.expires_at != 0 && entry.expires_at <= now;
        if over && matches!(entry.content, Content::Value(_)) {
            entry.content = Content::Expired;
        }
        let (stream, n) = (entry.stream, entry.n);
        let gone = matches!(entry.content, Content::Tombstone | Content::Expired);
        let taken = match entry.slot {
            Slot::Table => false,
            Slot::Leader(_) | Slot::Device(..) => self.admit_single(entry, own),
            Slot::Shared(_) => self.admit_shared(now, entry, own),
            Slot::Counter(_) => self.admit_sum(entry, own),
        };
        if taken && gone {
            self.linger(now, stream, n);
        }
        taken
    }

    fn admit_single(&mut self, entry: Entry, own: bool) -> bool {
        let before = self.store.single.get(&entry.slot);
        if before.is_some_and(|held| held.version() >= entry.version()) {
            return false;
        }
        let before = self.store.single.remove(&entry.slot);
        let entry = self.link(entry, false);
        self.replace(before, &entry, own);
        self.store.single.insert(entry.slot.clone(), entry);
        true
    }

    /// Accounts for an entry that takes the place of another.
    pub(super) fn replace(&mut self, before: Option<Entry>, entry: &Entry, own: bool) {
        let mut seen = entry.value().is_some();
        if let Some(before) = before {
            seen |= before.value().is_some();
            // The same value in another place is no news, but to the plugin that wrote it.
            seen &= own || before.outcome() != entry.outcome();
            self.hide(&before);
            self.unlink(&before, false);
        }
        self.show(entry);
        if seen {
            self.touch(&entry.slot, own);
        }
    }

    /// Puts an entry into its stream's index, and among what is due.
    pub(super) fn link(&mut self, mut entry: Entry, pending: bool) -> Entry {
        entry.timer = self.due(&entry, pending);
        let stream = self.streams.change(entry.stream);
        stream.insert(entry.n, entry.slot.clone());
        if pending {
            stream.quarantine(entry.n);
        }
        if matches!(entry.content, Content::Sum { .. }) {
            stream.counters += 1;
        }
        if entry.timer != 0 {
            self.timers.insert((entry.timer, entry.stream, entry.n));
        }
        self.footprint += entry.weight();
        self.edits += 1;
        self.soil(Record::Entry(entry.stream, entry.n));
        self.soil(Record::Stream(entry.stream));
        entry
    }

    /// Takes an entry out of its stream's index, and out of what is due.
    pub(super) fn unlink(&mut self, entry: &Entry, pending: bool) {
        let stream = self.streams.change(entry.stream);
        stream.remove(entry.n);
        if pending {
            stream.release(entry.n);
        }
        if matches!(entry.content, Content::Sum { .. }) {
            stream.counters = stream.counters.saturating_sub(1);
        }
        self.timers.remove(&(entry.timer, entry.stream, entry.n));
        self.footprint = self.footprint.saturating_sub(entry.weight());
        self.edits += 1;
        self.soil(Record::Entry(entry.stream, entry.n));
        self.soil(Record::Stream(entry.stream));
    }

    /// Counts an entry that plugins see.
    pub(super) fn show(&mut self, entry: &Entry) {
        if let Some(value) = entry.value() {
            self.live_keys += 1;
            self.live_bytes += size(&entry.slot, value.len());
        }
    }

    /// The opposite of [`Replica::show`].
    pub(super) fn hide(&mut self, entry: &Entry) {
        if let Some(value) = entry.value() {
            self.live_keys = self.live_keys.saturating_sub(1);
            let size = size(&entry.slot, value.len());
            self.live_bytes = self.live_bytes.saturating_sub(size);
        }
    }

    /// The plugin is to be told of a slot.
    pub(super) fn touch(&mut self, slot: &Slot, own: bool) {
        self.changed.insert(slot.clone(), own);
    }

    /// Takes out the entry of a slot of leader or device state.
    pub(super) fn drop_single(&mut self, slot: &Slot) -> Option<Entry> {
        let entry = self.store.single.remove(slot)?;
        self.hide(&entry);
        self.unlink(&entry, false);
        if entry.value().is_some() {
            self.touch(slot, false);
        }
        Some(entry)
    }

    /// When something is due with an entry, in microseconds of group time; 0 for never.
    pub(super) fn due(&self, entry: &Entry, pending: bool) -> u64 {
        if pending {
            return physical(entry.at)
                .saturating_sub(super::shared::AHEAD_MAX)
                .max(1);
        }
        let written = match entry.slot {
            Slot::Shared(_) => physical(entry.at),
            _ => entry.at,
        };
        let keep = micros(self.setup.config.keep_absent);
        match entry.content {
            Content::Value(_) => entry.expires_at,
            Content::Tombstone if mutant::is(Mutant::TombstonesForgotten) => written.max(1),
            Content::Tombstone => written.saturating_add(keep),
            Content::Expired => entry.expires_at.saturating_add(keep),
            Content::Sum { .. } => 0,
        }
    }

    /// Whose a slot is, for the plugin.
    pub(super) fn origin(&self, slot: &Slot) -> Option<Origin> {
        match slot {
            Slot::Table => None,
            Slot::Leader(_) => Some(Origin::Leader),
            Slot::Device(node, _) => self.devices.get(node).copied().map(Origin::Device),
            Slot::Shared(_) => Some(Origin::Shared),
            Slot::Counter(_) => Some(Origin::Counter),
        }
    }
}

fn size(slot: &Slot, value: usize) -> u64 {
    (slot.key().map_or(0, |key| key.len()) + value) as u64
}
