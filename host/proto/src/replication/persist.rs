//! What a replica keeps over a restart: one record per entry, per stream, per device, and the clock.
//!
//! A record's first byte is its version, its last four are a checksum of the others. What cannot be read is left out; then, or where a stream's
//! entries are not those that its record speaks of, nothing is taken for complete and comparison
//! with other replicas brings the rest.

use blake2::digest::consts::U4;
use blake2::{Blake2s, Digest};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Replica, Setup};
use crate::id::{DeviceId, NodeId};
use crate::mutant::{self, Mutant};
use crate::wire::state::{Class, StreamId, WireEntry};

const VERSION: u8 = 1;
const CHECKSUM: usize = 4;

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    Device(NodeId),
    Entry(StreamId, u64),
    Stream(StreamId),
    Clock,
}

impl Record {
    fn key(self) -> Bytes {
        let mut key = Vec::with_capacity(26);
        let stream = |key: &mut Vec<u8>, stream: StreamId| {
            let (class, a, b) = stream.parts();
            key.push(class);
            key.extend_from_slice(&a.to_be_bytes());
            key.extend_from_slice(&b.to_be_bytes());
        };
        match self {
            Self::Device(node) => {
                key.push(b'd');
                key.extend_from_slice(&node.0.to_be_bytes());
            }
            Self::Entry(id, n) => {
                key.push(b'e');
                stream(&mut key, id);
                key.extend_from_slice(&n.to_be_bytes());
            }
            Self::Stream(id) => {
                key.push(b's');
                stream(&mut key, id);
            }
            Self::Clock => key.push(b't'),
        }
        Bytes::from(key)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptDevice {
    device: DeviceId,
    /// Until when its entries are kept; 0 where it was a member.
    until: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptEntry {
    stream: StreamId,
    entry: WireEntry,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptStream {
    stream: StreamId,
    mark: u64,
    top: u64,
    islands: Vec<(u64, u64)>,
    live: u64,
}

fn encode<T: Serialize>(value: &T) -> Option<Bytes> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, value).ok()?;
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    Some(Bytes::from(bytes))
}

/// What a disk has changed must not go for what was written: it would differ from what others hold
/// under the same number for ever.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    Blake2s::<U4>::digest(bytes).into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let (version, body) = bytes.split_first()?;
    let whole = checksum(bytes) == *sum || mutant::is(Mutant::DamageUnnoticed);
    if *version == VERSION && whole {
        rmp_serde::from_slice(body).ok()
    } else {
        None
    }
}

/// What was kept, sorted by what it is.
#[derive(Default)]
struct Kept {
    devices: Vec<KeptDevice>,
    entries: Vec<KeptEntry>,
    streams: Vec<KeptStream>,
    clock: u64,
    unreadable: usize,
}

impl Kept {
    fn read(records: &[(Bytes, Bytes)]) -> Self {
        let mut kept = Self::default();
        for (key, value) in records {
            let read = match key.first() {
                Some(b'd') => decode(value).map(|device| kept.devices.push(device)),
                Some(b'e') => decode(value).map(|entry| kept.entries.push(entry)),
                Some(b's') => decode(value).map(|stream| kept.streams.push(stream)),
                Some(b't') => decode(value).map(|clock| kept.clock = clock),
                _ => None,
            };
            kept.unreadable += usize::from(read.is_none());
        }
        kept
    }
}

impl Replica {
    /// Takes up what was kept. What cannot be read is left out; how many records that were.
    pub(crate) fn load(setup: Setup, records: &[(Bytes, Bytes)], now: u64) -> (Self, usize) {
        let kept = Kept::read(records);
        let mut replica = Self::new(setup);
        for KeptDevice { device, until } in &kept.devices {
            replica.devices.insert(device.node(), *device);
            replica.meet_kept(now, device.node(), *until);
        }
        // The largest table decides which entries hold.
        let tables = kept
            .entries
            .iter()
            .filter(|one| one.entry.class == Class::Table);
        for one in tables {
            replica.adopt_kept(now, one);
        }
        let mut unreadable = kept.unreadable;
        for one in kept
            .entries
            .iter()
            .filter(|one| one.entry.class != Class::Table)
        {
            replica.notice_boot(now, one.stream);
            let taken = replica.restore(now, one.stream, &one.entry);
            unreadable += usize::from(!taken);
        }
        for stream in &kept.streams {
            replica.notice_boot(now, stream.stream);
            replica.take_stream(stream, unreadable == 0);
        }
        replica.raise_clock(now, kept.clock);
        if replica.has_own_ahead(now) || replica.has_renewable(now) {
            // The clock was set back between the runs.
            replica.set_back(now);
        }
        replica.changed.clear();
        replica.superseded.clear();
        if unreadable == 0 && !replica.is_own_touched() {
            replica.dirty.clear();
        }
        (replica, unreadable)
    }

    fn adopt_kept(&mut self, now: u64, one: &KeptEntry) {
        // What this device stored itself may be of any epoch.
        if let StreamId::Leader(tenure) = one.stream {
            let followed = self.followed.replace(tenure);
            self.restore(now, one.stream, &one.entry);
            self.followed = followed;
        }
    }

    /// Whether this run wrote entries of its own while it took up what was kept.
    fn is_own_touched(&self) -> bool {
        self.mark(self.own_device()) > 0
    }

    fn take_stream(&mut self, kept: &KeptStream, whole: bool) {
        if self.is_own(kept.stream) {
            return;
        }
        let cut = match kept.stream {
            StreamId::Leader(tenure) => self.limit(tenure),
            StreamId::Device { .. } | StreamId::Shared { .. } => u64::MAX,
        };
        if cut == 0 {
            return;
        }
        let held = self.streams.change(kept.stream);
        held.top = held.top.max(kept.top.min(cut));
        if whole && held.live() == kept.live && kept.mark <= cut {
            held.complete(0, kept.mark);
            for (from, to) in &kept.islands {
                held.complete(*from, (*to).min(cut));
            }
        }
    }

    /// A record is to be written, or deleted.
    pub(super) fn soil(&mut self, record: Record) {
        if self.setup.config.persist {
            self.dirty.insert(record);
        }
    }

    /// All records are to be written, or deleted.
    pub(crate) fn soil_all(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty);
        dirty.extend(self.devices.keys().map(|node| Record::Device(*node)));
        for (id, held) in self.streams.iter() {
            dirty.insert(Record::Stream(id));
            dirty.extend(held.index().keys().map(|n| Record::Entry(id, *n)));
        }
        dirty.insert(Record::Clock);
        self.dirty = dirty;
    }

    /// What is to be kept over a restart and changed since the last time this was asked. Nothing
    /// unless the configuration says so; deletions of what was kept, after it ceases to.
    pub(crate) fn take_dirty(&mut self) -> Vec<(Bytes, Option<Bytes>)> {
        let dirty = core::mem::take(&mut self.dirty).into_iter();
        let written = dirty.map(|record| (record.key(), self.record(record)));
        written.collect()
    }

    /// All that is kept over a restart, for a replica that is opened anew within this run.
    pub(crate) fn into_records(mut self) -> Vec<(Bytes, Bytes)> {
        self.soil_all();
        let records = self.take_dirty().into_iter();
        records
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn record(&self, record: Record) -> Option<Bytes> {
        if !self.setup.config.persist {
            return None;
        }
        match record {
            Record::Device(node) => {
                let device = *self.devices.get(&node)?;
                let held = node == self.node || !self.streams.of_device(node).is_empty();
                let until = self.presence.until(node);
                held.then(|| encode(&KeptDevice { device, until }))?
            }
            Record::Clock => encode(&self.hlc),
            Record::Entry(stream, n) => {
                let entry = self.wire(stream, n)?;
                encode(&KeptEntry { stream, entry })
            }
            Record::Stream(stream) => {
                let held = self.streams.get(stream)?;
                encode(&KeptStream {
                    stream,
                    mark: held.mark,
                    top: held.top,
                    islands: held.islands.clone(),
                    live: held.live(),
                })
            }
        }
    }
}
