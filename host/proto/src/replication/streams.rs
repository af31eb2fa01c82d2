//! What is held of each stream.
//!
//! A stream knows up to where it is complete (`mark`), which ranges beyond that are (`islands`),
//! and under which slot each entry is that still counts (`index`). Complete means: each entry is
//! held, or something that supersedes it. Sums over mixed numbers stand for sets of entries, so
//! that a change costs the logarithm of the index and a digest costs the number of streams.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use blake2::digest::consts::U8;
use blake2::{Blake2s, Digest};

use super::entries::Slot;
use crate::id::NodeId;
use crate::wire::state::{Held, Stamp, StreamId, Table, Tenure};

/// Streams of one group.
pub(super) const STREAMS_MAX: usize = 4096;
/// Complete ranges beyond the mark, per stream.
const ISLANDS_MAX: usize = 8;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) mark: u64,
    /// The largest number that was ever held, or that another replica relied upon.
    pub(super) top: u64,
    /// `(from, to]`, ascending, apart from one another and from the mark.
    pub(super) islands: Vec<(u64, u64)>,
    index: BTreeMap<u64, Slot>,
    /// Entries of counters among them.
    pub(super) counters: usize,
    /// The last of the extras that went to another replica.
    pub(super) turn: u64,
    live: u64,
    extras: u64,
    pending: u64,
}

impl Stream {
    /// Whether an entry that is not in the index is known to be superseded.
    pub(super) fn covers(&self, n: u64) -> bool {
        n <= self.mark || self.islands.iter().any(|(from, to)| *from < n && n <= *to)
    }

    pub(super) fn index(&self) -> &BTreeMap<u64, Slot> {
        &self.index
    }

    pub(super) fn insert(&mut self, n: u64, slot: Slot) {
        if self.index.insert(n, slot).is_some() {
            return;
        }
        self.live = self.live.wrapping_add(mix(n));
        if n > self.mark {
            self.extras = self.extras.wrapping_add(mix(n));
        }
        self.top = self.top.max(n);
    }

    pub(super) fn remove(&mut self, n: u64) {
        if self.index.remove(&n).is_none() {
            return;
        }
        self.live = self.live.wrapping_sub(mix(n));
        if n > self.mark {
            self.extras = self.extras.wrapping_sub(mix(n));
        }
    }

    pub(super) fn quarantine(&mut self, n: u64) {
        self.pending = self.pending.wrapping_add(mix(n));
    }

    pub(super) fn release(&mut self, n: u64) {
        self.pending = self.pending.wrapping_sub(mix(n));
    }

    /// All in `(from, to]` is held, or superseded.
    pub(super) fn complete(&mut self, from: u64, to: u64) {
        if to <= from {
            return;
        }
        self.top = self.top.max(to);
        if from <= self.mark {
            self.raise(to);
        } else {
            self.islands.push((from, to));
            self.islands.sort_unstable();
            self.islands.dedup_by(|next, kept| {
                let joined = next.0 <= kept.1;
                if joined {
                    kept.1 = kept.1.max(next.1);
                }
                joined
            });
        }
        while let Some((from, to)) = self.islands.first().copied() {
            if from > self.mark {
                break;
            }
            self.islands.remove(0);
            self.raise(to);
        }
        self.islands.truncate(ISLANDS_MAX);
    }

    fn raise(&mut self, to: u64) {
        if to <= self.mark {
            return;
        }
        for n in self.index.range(self.mark + 1..=to).map(|(n, _)| *n) {
            self.extras = self.extras.wrapping_sub(mix(n));
        }
        self.mark = to;
    }

    /// What is superseded is not known any longer; what is held stays.
    pub(super) fn forget(&mut self) {
        self.mark = 0;
        self.islands.clear();
        self.extras = self.live;
    }

    /// Of the numbers above the mark; 0 if there are none.
    pub(super) fn extras_hash(&self) -> u32 {
        let any = self.index.last_key_value();
        if any.is_some_and(|(last, _)| *last > self.mark) {
            short(self.extras)
        } else {
            0
        }
    }

    /// Of the quarantined numbers; 0 if there are none.
    pub(super) fn pending_hash(&self) -> u32 {
        if self.pending == 0 {
            0
        } else {
            short(self.pending)
        }
    }

    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn held(&self, stream: StreamId) -> Held {
        Held {
            stream,
            mark: self.mark,
            extras: self.extras_hash(),
            top: self.top,
            pending: self.pending_hash(),
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014): a bijection under which sums of small sets do not meet by accident.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn short(sum: u64) -> u32 {
    ((mix(sum) >> 32) as u32).max(1)
}

/// All streams of a replica, and the digest over them until something changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    map: BTreeMap<StreamId, Stream>,
    digest: OnceLock<u64>,
}

impl Streams {
    pub(super) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.map.get(&id)
    }

    /// The stream, to be changed; an empty one if there was none.
    pub(super) fn change(&mut self, id: StreamId) -> &mut Stream {
        self.digest.take();
        self.map.entry(id).or_default()
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        self.digest.take();
        self.map.remove(&id);
    }

    /// Remembers where the last answer ended; nothing of what is held.
    pub(super) fn turn(&mut self, id: StreamId, turn: u64) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.turn = turn;
        }
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.map.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.map.iter().map(|(id, stream)| (*id, stream))
    }

    /// Which streams there are of leader state, in the order of their tenures.
    pub(super) fn leaders(&self) -> Vec<Tenure> {
        let ids = self.map.keys().map_while(|id| match id {
            StreamId::Leader(tenure) => Some(*tenure),
            StreamId::Device { .. } | StreamId::Shared { .. } => None,
        });
        ids.collect()
    }

    /// The streams of device state by one device.
    pub(super) fn of_device(&self, writer: NodeId) -> Vec<StreamId> {
        let first = StreamId::Device {
            writer,
            stamp: Stamp(0),
        };
        let last = StreamId::Device {
            writer,
            stamp: Stamp(u64::MAX),
        };
        self.map.range(first..=last).map(|(id, _)| *id).collect()
    }

    /// The streams of shared state by one device.
    pub(super) fn shared_of(&self, writer: NodeId) -> impl Iterator<Item = (StreamId, &Stream)> {
        let of = |stamp| StreamId::Shared { writer, stamp };
        let streams = self.map.range(of(Stamp(0))..=of(Stamp(u64::MAX)));
        streams.map(|(id, stream)| (*id, stream))
    }

    /// The streams of shared state, by whoever.
    pub(super) fn shared(&self) -> Vec<StreamId> {
        let first = StreamId::Shared {
            writer: NodeId(0),
            stamp: Stamp(0),
        };
        self.map.range(first..).map(|(id, _)| *id).collect()
    }

    /// Over the table's place and over what counts of each stream.
    pub(super) fn digest(&self, table: Option<&Table>) -> u64 {
        *self.digest.get_or_init(|| {
            let mut hash = Blake2s::<U8>::new();
            hash.update(b"consort state digest v1");
            let place = table.map_or((0, 0, 0), |t| (t.tenure.epoch, t.tenure.leader.0, t.n));
            words(&mut hash, &[place.0, place.1, place.2]);
            for (id, stream) in self.iter().filter(|(_, stream)| !stream.index.is_empty()) {
                let (class, a, b) = id.parts();
                words(&mut hash, &[class.into(), a, b, stream.mark, stream.live]);
            }
            u64::from_be_bytes(hash.finalize().into())
        })
    }
}

fn words(hash: &mut Blake2s<U8>, words: &[u64]) {
    for word in words {
        hash.update(word.to_be_bytes());
    }
}
