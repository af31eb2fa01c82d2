//! What goes to another replica: entries of a stream in the order of their numbers, cut between
//! entries into datagrams, large entries in chunks after all small ones.

use bytes::Bytes;

use super::entries::{Content, Entry, Slot};
use super::{Parcel, Replica};
use crate::wire::state::{Class, ENTRIES_MAX, StateChunk, StateDelta, StreamId, Table, WireEntry};

/// Bytes of entries in one delta. With a head of at most 110 bytes they fit a datagram.
const DELTA_ROOM: usize = 1000;
/// Bytes of a chunk.
pub(super) const CHUNK: usize = 1000;
/// Of so many answers one begins with another large entry than the first.
const TURN_EVERY: usize = 8;
/// Bytes that an entry takes at most besides its key and value.
const ENTRY_OVERHEAD: usize = 36;

/// Gathers parcels up to some room.
#[derive(Debug)]
pub(super) struct Packer {
    parcels: Vec<Parcel>,
    /// Large entries that raise a mark if they come in their order, and others.
    large: Vec<(StreamId, u64)>,
    large_extras: Vec<(StreamId, u64)>,
    direct: bool,
    used: usize,
    room: usize,
    more: bool,
}

impl Packer {
    pub(super) const fn new(room: usize, direct: bool) -> Self {
        Self {
            parcels: Vec::new(),
            large: Vec::new(),
            large_extras: Vec::new(),
            direct,
            used: 0,
            room,
            more: false,
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.used >= self.room
    }

    pub(super) const fn leave(&mut self) {
        self.more = true;
    }

    fn push(&mut self, delta: StateDelta) {
        if delta.to > delta.from || !delta.entries.is_empty() {
            self.parcels.push(Parcel::Delta(delta));
        }
    }
}

fn length(entry: &WireEntry) -> usize {
    ENTRY_OVERHEAD + entry.key.len() + entry.value.len()
}

fn last_n(delta: &StateDelta) -> u64 {
    delta.entries.last().map_or(delta.from, |entry| entry.n)
}

pub(super) fn pack_table(table: &Table) -> Bytes {
    Bytes::from(rmp_serde::to_vec(table).unwrap_or_default())
}

pub(super) fn unpack_table(bytes: &Bytes) -> Option<Table> {
    rmp_serde::from_slice(bytes).ok()
}

impl Replica {
    /// The entry under a stream's number, as it goes over the wire.
    pub(super) fn wire(&self, stream: StreamId, n: u64) -> Option<WireEntry> {
        let slot = self.streams.get(stream)?.index().get(&n)?;
        if let (Slot::Table, Some(table)) = (slot, &self.table) {
            return Some(WireEntry {
                n,
                class: Class::Table,
                key: String::new(),
                at: 0,
                expires_at: 0,
                value: pack_table(table),
            });
        }
        let entry = self.store.find(slot, stream, n)?;
        Some(to_wire(entry))
    }

    pub(super) fn empty(&self, stream: StreamId, from: u64, direct: bool) -> StateDelta {
        let tenure = self.table_tenure();
        let relied = match stream {
            StreamId::Leader(_) => {
                let held = tenure.and_then(|tenure| self.streams.get(StreamId::Leader(tenure)));
                held.map_or(0, |held| held.top)
            }
            StreamId::Device { writer, .. } => self.presence.until(writer),
            StreamId::Shared { .. } => self.hlc,
        };
        let device = match stream {
            StreamId::Device { writer, .. } => self.devices.get(&writer).copied(),
            StreamId::Leader(_) | StreamId::Shared { .. } => None,
        };
        StateDelta {
            group: self.setup.group,
            stream,
            device,
            direct,
            more: false,
            from,
            to: from,
            tenure,
            relied,
            entries: Vec::new(),
        }
    }

    /// All that is held of a stream in `(from, to]`, which is complete here.
    pub(super) fn pack_range(&self, packer: &mut Packer, stream: StreamId, from: u64, to: u64) {
        self.pack_table_first(packer, stream, from, to);
        let Some(held) = self.streams.get(stream) else {
            return;
        };
        let mut delta = self.empty(stream, from, packer.direct);
        let mut bytes = 0;
        for n in held
            .index()
            .range(from.saturating_add(1)..=to)
            .map(|(n, _)| *n)
        {
            let Some(entry) = self.wire(stream, n) else {
                continue;
            };
            let length = length(&entry);
            let alone = length > DELTA_ROOM;
            if alone || bytes + length > DELTA_ROOM || delta.entries.len() == ENTRIES_MAX {
                delta.to = n - 1;
                packer.push(delta);
                let next = if alone { n } else { n - 1 };
                delta = self.empty(stream, next, packer.direct);
                bytes = 0;
                if packer.is_full() {
                    packer.leave();
                    return;
                }
            }
            if alone {
                packer.large.push((stream, n));
                continue;
            }
            bytes += length;
            packer.used += length;
            delta.entries.push(entry);
        }
        delta.to = to;
        packer.push(delta);
    }

    /// Nothing of a tenure is taken in before its table.
    fn pack_table_first(&self, packer: &mut Packer, stream: StreamId, from: u64, to: u64) {
        let Some(table) = &self.table else { return };
        let within = from < table.n && table.n <= to;
        if stream != StreamId::Leader(table.tenure) || !within {
            return;
        }
        let mut delta = self.empty(stream, table.n - 1, packer.direct);
        let Some(entry) = self.wire(stream, table.n) else {
            return;
        };
        packer.used += length(&entry);
        delta.to = table.n;
        delta.entries.push(entry);
        packer.push(delta);
    }

    /// What is held of a stream above `above`, of which nothing else is known, beginning after
    /// `turn` and going round. The last one that there was room for.
    pub(super) fn pack_extras(
        &self,
        packer: &mut Packer,
        stream: StreamId,
        above: u64,
        turn: u64,
    ) -> u64 {
        let Some(held) = self.streams.get(stream) else {
            return turn;
        };
        let first = above.saturating_add(1);
        let middle = turn.max(above).saturating_add(1);
        let mut last = turn;
        for range in [middle..=u64::MAX, first..=middle - 1] {
            if range.is_empty() {
                continue;
            }
            let mut delta = self.empty(stream, above, packer.direct);
            let mut bytes = 0;
            for n in held.index().range(range).map(|(n, _)| *n) {
                let Some(entry) = self.wire(stream, n) else {
                    continue;
                };
                let length = length(&entry);
                if length > DELTA_ROOM {
                    packer.large_extras.push((stream, n));
                    continue;
                }
                if bytes + length > DELTA_ROOM || delta.entries.len() == ENTRIES_MAX {
                    last = last_n(&delta);
                    packer.push(delta);
                    delta = self.empty(stream, above, packer.direct);
                    bytes = 0;
                    if packer.is_full() {
                        packer.leave();
                        return last;
                    }
                }
                bytes += length;
                packer.used += length;
                delta.entries.push(entry);
            }
            packer.push(delta);
        }
        last
    }

    /// The parcels, large entries last. Where there is room for none of those, one goes all the
    /// same if anything had room. Those within a range go in their order, so that the other's mark
    /// rises; but at each eighth `turn`, and always with the extras, it begins with another one, so
    /// that one that does not get through holds up none.
    pub(super) fn finish(&self, mut packer: Packer, turn: usize) -> Vec<Parcel> {
        let mut large = core::mem::take(&mut packer.large);
        let mut extras = core::mem::take(&mut packer.large_extras);
        if turn.is_multiple_of(TURN_EVERY) {
            let count = large.len().max(1);
            large.rotate_left(turn / TURN_EVERY % count);
        }
        let count = extras.len().max(1);
        extras.rotate_left(turn % count);
        large.append(&mut extras);
        let mut sent = false;
        for (stream, n) in large {
            let Some(entry) = self.wire(stream, n) else {
                continue;
            };
            let fits = packer.used.saturating_add(length(&entry)) <= packer.room;
            if !fits && (sent || packer.is_full()) {
                packer.more = true;
                continue;
            }
            sent = true;
            packer.used += length(&entry);
            self.pack_chunks(&mut packer, stream, &entry);
        }
        if packer.more {
            match packer.parcels.last_mut() {
                Some(Parcel::Delta(last)) => last.more = true,
                last => {
                    let stream = match last {
                        Some(Parcel::Chunk(chunk)) => chunk.stream,
                        _ => self.own_shared(),
                    };
                    let mut end = self.empty(stream, 0, false);
                    end.more = true;
                    packer.parcels.push(Parcel::Delta(end));
                }
            }
        }
        packer.parcels
    }

    fn pack_chunks(&self, packer: &mut Packer, stream: StreamId, entry: &WireEntry) {
        let encoded = Bytes::from(rmp_serde::to_vec(entry).unwrap_or_default());
        let StateDelta { device, tenure, .. } = self.empty(stream, 0, false);
        let until = match stream {
            StreamId::Device { writer, .. } => self.presence.until(writer),
            StreamId::Leader(_) | StreamId::Shared { .. } => 0,
        };
        let total = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        for offset in (0..encoded.len()).step_by(CHUNK) {
            let end = encoded.len().min(offset + CHUNK);
            packer.parcels.push(Parcel::Chunk(StateChunk {
                group: self.setup.group,
                stream,
                device,
                direct: packer.direct,
                n: entry.n,
                tenure: tenure.filter(|_| end == encoded.len()),
                until,
                total,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                bytes: encoded.slice(offset..end),
            }));
        }
    }

    /// Whether this device wrote something that was not pushed.
    pub(crate) fn has_unpushed(&self) -> bool {
        let pushed = |stream| self.pushed.get(&stream).copied().unwrap_or(0);
        self.own_marks()
            .into_iter()
            .any(|(stream, mark)| mark > pushed(stream))
    }

    /// What this device wrote since the last push.
    pub(crate) fn take_push(&mut self) -> Vec<Parcel> {
        let marks = self.own_marks();
        let mut packer = Packer::new(usize::MAX, true);
        for (stream, mark) in &marks {
            let from = self.pushed.get(stream).copied().unwrap_or(0);
            if from < *mark {
                self.pack_range(&mut packer, *stream, from, *mark);
            }
        }
        self.pushed = marks.into_iter().collect();
        self.finish(packer, 0)
    }

    /// How far this device's own streams go, and the tenure's if it leads.
    pub(crate) fn own_marks(&self) -> Vec<(StreamId, u64)> {
        let leader = self.leading.filter(|_| self.leads()).map(StreamId::Leader);
        let own = leader
            .into_iter()
            .chain([self.own_device(), self.own_shared()]);
        let marks = own.map(|stream| (stream, self.mark(stream)));
        marks.filter(|(_, mark)| *mark > 0).collect()
    }

    /// What this device wrote into one of its streams after `from`, as a push.
    pub(crate) fn push_after(&self, stream: StreamId, from: u64) -> Vec<Parcel> {
        let mut packer = Packer::new(usize::MAX, true);
        let mark = self.mark(stream);
        if self.is_own(stream) && from < mark {
            self.pack_range(&mut packer, stream, from, mark);
        }
        self.finish(packer, 0)
    }

    /// How far all of a stream is held.
    pub(crate) fn mark(&self, stream: StreamId) -> u64 {
        self.streams.get(stream).map_or(0, |held| held.mark)
    }
}

fn to_wire(entry: &Entry) -> WireEntry {
    let (class, at, value) = match &entry.content {
        Content::Value(value) => (Class::Value, entry.at, value.clone()),
        Content::Tombstone | Content::Expired => (Class::Tombstone, entry.at, Bytes::new()),
        Content::Sum { sum, floor } => {
            let sum = Bytes::copy_from_slice(&sum.to_be_bytes());
            (Class::Counter, floor.0, sum)
        }
    };
    WireEntry {
        n: entry.n,
        class,
        key: entry
            .slot
            .key()
            .map(|key| key.to_string())
            .unwrap_or_default(),
        at,
        expires_at: entry.expires_at,
        value,
    }
}
