//! Taking in what another replica sent.
//!
//! Everything is checked before anything changes. What the sender asserts about a range of a stream
//! is believed only as far as this replica judges by the same: of leader state by the same table,
//! of shared state by writes that are not in quarantine here. Entries themselves need no belief.

use std::sync::Arc;

use super::delta::unpack_table;
use super::entries::{Content, Entry, Slot};
use super::persist::Record;
use super::shared::{AHEAD_MAX, check_floor, physical};
use super::streams::STREAMS_MAX;
use super::{MergeError, Replica};
use crate::id::{DeviceId, NodeId};
use crate::mutant::{self, Mutant};
use crate::state::{STATE_KEY_MAX, STATE_VALUE_MAX};
use crate::wire::state::{Class, ENTRIES_MAX, StateDelta, StreamId, Table, WireEntry};

/// A checked delta.
struct Checked {
    entries: Vec<Entry>,
    table: Option<Table>,
}

impl Replica {
    /// Takes in what another replica sent. Whether anything was new.
    ///
    /// # Errors
    /// Says why all of it is refused; nothing has changed then.
    pub(crate) fn merge(
        &mut self,
        now: u64,
        sender: NodeId,
        delta: &StateDelta,
    ) -> Result<bool, MergeError> {
        let checked = self.check(sender, delta)?;
        if !self.notice_boot(now, delta.stream) {
            return Err(MergeError::Own);
        }
        let mut new = false;
        if let Some(table) = &checked.table {
            new |= self.adopt(now, table);
        }
        let limit = match delta.stream {
            StreamId::Leader(tenure) => self.limit(tenure),
            StreamId::Device { .. } | StreamId::Shared { .. } => u64::MAX,
        };
        let cut = matches!(delta.stream, StreamId::Leader(tenure) if self.is_replaced(tenure));
        if cut && checked.entries.iter().any(|entry| entry.n > limit) {
            self.left_out += 1;
        }
        if !self.is_abreast(delta)
            || limit == 0
            || (delta.to == delta.from && checked.entries.is_empty())
        {
            return Ok(new);
        }
        self.make_room(delta.stream)?;
        if let StreamId::Device { writer, .. } = delta.stream {
            if !self.meet(now, writer, delta.relied) {
                return Ok(new);
            }
            if let Some(device) = delta.device.filter(|_| !self.knows(writer)) {
                self.enter(device);
            }
        }
        let listed: Vec<u64> = delta.entries.iter().map(|entry| entry.n).collect();
        for entry in checked.entries {
            if entry.n <= limit && !self.has(&entry) {
                new |= self.admit(now, entry, false);
            }
        }
        new |= self.believe(now, delta, limit, &listed);
        Ok(new)
    }

    /// Whether the sender has dropped what this replica would not take from it. Marks that were
    /// forgotten, when something was cut off or all was dropped, no longer keep out what was deleted
    /// so long ago that nobody remembers it; who has yet to meet the same table may hold that.
    fn is_abreast(&self, delta: &StateDelta) -> bool {
        let required = match delta.stream {
            StreamId::Leader(_) => self.table_tenure(),
            StreamId::Device { .. } | StreamId::Shared { .. } => self.reset_under,
        };
        delta.direct || delta.tenure >= required
    }

    /// Whether an entry is held, or known to be superseded.
    fn has(&self, entry: &Entry) -> bool {
        let held = self.streams.get(entry.stream);
        held.is_some_and(|held| held.covers(entry.n) || held.index().contains_key(&entry.n))
    }

    /// Takes over that a range is complete. Whether that was new.
    fn believe(&mut self, now: u64, delta: &StateDelta, limit: u64, listed: &[u64]) -> bool {
        let to = delta.to.min(limit);
        if to <= delta.from || self.is_own(delta.stream) {
            return false;
        }
        let exact = to - delta.from == listed.len() as u64;
        let judged_alike = match delta.stream {
            StreamId::Leader(_) => delta.tenure == self.table_tenure(),
            StreamId::Device { .. } => true,
            StreamId::Shared { .. } => physical(delta.relied) <= now.saturating_add(AHEAD_MAX),
        };
        if !exact && !judged_alike {
            return false;
        }
        if let (StreamId::Leader(_), Some(tenure), false) = (delta.stream, delta.tenure, exact) {
            let judged_by = self.streams.change(StreamId::Leader(tenure));
            judged_by.top = judged_by.top.max(delta.relied);
        }
        self.drop_unlisted(delta.stream, delta.from, to, listed);
        let before = self.mark(delta.stream);
        self.streams.change(delta.stream).complete(delta.from, to);
        self.soil(Record::Stream(delta.stream));
        before != self.mark(delta.stream)
    }

    /// Learns who the writer of device state is. Those of whom nothing is held make room.
    fn enter(&mut self, device: DeviceId) {
        if self.devices.len() > STREAMS_MAX {
            let (streams, changed) = (&self.streams, &self.changed);
            let told = |node| {
                changed
                    .keys()
                    .any(|slot| matches!(slot, Slot::Device(n, _) if *n == node))
            };
            let me = self.node;
            self.devices.retain(|node, _| {
                *node == me || !streams.of_device(*node).is_empty() || told(*node)
            });
        }
        self.devices.insert(device.node(), device);
        self.soil(Record::Device(device.node()));
    }

    /// Makes room for one more stream.
    fn make_room(&mut self, stream: StreamId) -> Result<(), MergeError> {
        if self.streams.contains(stream) || self.streams.len() < STREAMS_MAX {
            return Ok(());
        }
        let idle = self.streams.iter().filter(|(id, held)| {
            held.index().is_empty() && !self.is_own(*id) && !matches!(id, StreamId::Leader(_))
        });
        for id in idle.map(|(id, _)| id).collect::<Vec<_>>() {
            self.streams.remove(id);
            self.soil(Record::Stream(id));
        }
        if self.streams.len() < STREAMS_MAX {
            Ok(())
        } else {
            Err(MergeError::Full)
        }
    }

    fn check(&self, sender: NodeId, delta: &StateDelta) -> Result<Checked, MergeError> {
        let stream = delta.stream;
        if delta.group != self.setup.group || delta.entries.len() > ENTRIES_MAX {
            return Err(MergeError::Malformed);
        }
        if delta.direct && stream.writer() != sender && !mutant::is(Mutant::PushByAnyone) {
            return Err(MergeError::NotWriter);
        }
        match stream {
            StreamId::Leader(tenure) if self.leaps(tenure) => return Err(MergeError::Leap),
            StreamId::Leader(tenure) if delta.direct && Some(tenure) < self.newest() => {
                return Err(MergeError::Stale);
            }
            StreamId::Device { writer, .. } => match delta.device {
                Some(device) if device.node() == writer => {
                    let known = self.devices.get(&writer);
                    if known.is_some_and(|known| *known != device) {
                        return Err(MergeError::Malformed);
                    }
                }
                _ => return Err(MergeError::Malformed),
            },
            StreamId::Leader(_) | StreamId::Shared { .. } => {}
        }
        self.check_places(delta)?;
        let mut checked = Checked {
            entries: Vec::with_capacity(delta.entries.len()),
            table: None,
        };
        for entry in &delta.entries {
            match self.check_entry(stream, entry)? {
                Item::Entry(entry) => checked.entries.push(entry),
                Item::Table(table) => checked.table = Some(table),
            }
        }
        let growth = checked
            .entries
            .iter()
            .filter(|entry| !self.has(entry))
            .map(|entry| {
                let held = self.store.weight(&entry.slot, stream);
                entry.weight().saturating_sub(held)
            });
        let growth: u64 = growth.sum();
        if growth > 0 && self.footprint.saturating_add(growth) > self.bound() {
            return Err(MergeError::Full);
        }
        Ok(checked)
    }

    /// Entries ascend within their range; nobody else continues this device's own streams.
    fn check_places(&self, delta: &StateDelta) -> Result<(), MergeError> {
        let mut last = delta.from;
        for entry in &delta.entries {
            if entry.n <= last || entry.n == u64::MAX {
                return Err(MergeError::Order);
            }
            last = entry.n;
        }
        if delta.to < delta.from || (delta.to > delta.from && last > delta.to) {
            return Err(MergeError::Order);
        }
        let open = mutant::is(Mutant::OwnStreamOpen);
        if !open && self.is_own(delta.stream) && last.max(delta.to) > self.mark(delta.stream) {
            return Err(MergeError::Own);
        }
        Ok(())
    }

    fn check_entry(&self, stream: StreamId, entry: &WireEntry) -> Result<Item, MergeError> {
        if entry.class == Class::Table {
            return self.check_table(stream, entry);
        }
        if entry.key.is_empty() || entry.key.len() > STATE_KEY_MAX {
            return Err(MergeError::Key(entry.key.len()));
        }
        if entry.value.len() > STATE_VALUE_MAX {
            return Err(MergeError::Value(entry.value.len()));
        }
        let key: Arc<str> = entry.key.as_str().into();
        let slot = match (stream, entry.class) {
            (StreamId::Shared { .. }, Class::Counter) => Slot::Counter(key),
            (_, Class::Counter) => return Err(MergeError::Malformed),
            (StreamId::Leader(_), _) => Slot::Leader(key),
            (StreamId::Device { writer, .. }, _) => Slot::Device(writer, key),
            (StreamId::Shared { .. }, _) => Slot::Shared(key),
        };
        let content = match entry.class {
            Class::Value => Content::Value(entry.value.clone()),
            Class::Tombstone if !entry.value.is_empty() => return Err(MergeError::Malformed),
            Class::Tombstone if entry.expires_at != 0 => Content::Expired,
            Class::Tombstone => Content::Tombstone,
            Class::Counter => {
                let sum = <[u8; 8]>::try_from(&entry.value[..]);
                Content::Sum {
                    sum: i64::from_be_bytes(sum.map_err(|_| MergeError::Malformed)?),
                    floor: check_floor(stream, entry.at)?,
                }
            }
            Class::Table => return Err(MergeError::Malformed),
        };
        Ok(Item::Entry(Entry {
            stream,
            n: entry.n,
            slot,
            content,
            at: entry.at,
            expires_at: entry.expires_at,
            timer: 0,
        }))
    }

    fn check_table(&self, stream: StreamId, entry: &WireEntry) -> Result<Item, MergeError> {
        let table = unpack_table(&entry.value).ok_or(MergeError::Malformed)?;
        let placed = stream == StreamId::Leader(table.tenure) && entry.n == table.n;
        if !placed || !entry.key.is_empty() {
            return Err(MergeError::Malformed);
        }
        // An own table comes back by relays; it changes nothing.
        if self.is_own(stream) || self.is_sound(&table) {
            Ok(Item::Table(table))
        } else {
            Err(MergeError::Malformed)
        }
    }

    /// An entry that was kept over a restart, as it goes over the wire.
    pub(super) fn restore(&mut self, now: u64, stream: StreamId, entry: &WireEntry) -> bool {
        match self.check_entry(stream, entry) {
            Ok(Item::Table(table)) => self.adopt(now, &table),
            Ok(Item::Entry(entry)) => {
                let known = match stream {
                    StreamId::Leader(tenure) => entry.n <= self.limit(tenure),
                    StreamId::Device { writer, .. } => self.knows(writer),
                    StreamId::Shared { .. } => true,
                };
                if let StreamId::Device { writer, .. } = stream {
                    self.meet_kept(now, writer, 0);
                }
                known && self.admit(now, entry, false)
            }
            Err(_) => false,
        }
    }
}

enum Item {
    Entry(Entry),
    Table(Table),
}
