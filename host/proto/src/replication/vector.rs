//! What is held, told to another replica, and what follows from what the other one told.

use std::collections::BTreeMap;

use super::delta::Packer;
use super::streams::Stream;
use super::{Comparison, Parcel, Replica};
use crate::id::NodeId;
use crate::wire::state::{HELD_MAX, Held, Purpose, StateVector, StreamId, Tenure};

/// Bytes of one part of a vector.
const VECTOR_ROOM: usize = 1080;
/// Bytes that a stream takes in it at most.
const HELD_ROOM: usize = 1 + 1 + 1 + 9 + 9 + 9 + 5 + 9 + 5;
/// Bytes of a part without table and streams.
const HEAD_ROOM: usize = 80;

/// The last stream of leader state that there can be.
pub(crate) const LAST_LEADER: StreamId = StreamId::Leader(Tenure {
    epoch: u64::MAX,
    leader: NodeId(u64::MAX),
});

fn nothing(stream: StreamId) -> Held {
    Held {
        stream,
        mark: 0,
        extras: 0,
        top: 0,
        pending: 0,
    }
}

fn in_range(vector: &StateVector, stream: StreamId) -> bool {
    vector.after.is_none_or(|after| stream > after) && vector.upto.is_none_or(|upto| stream <= upto)
}

impl Replica {
    /// Equal digests mean equal replicas.
    pub(crate) fn digest(&self) -> u64 {
        self.streams.digest(self.table.as_ref())
    }

    /// What is held, in parts that fit a datagram each. The purpose is `Exchange`.
    pub(crate) fn vectors(&self) -> Vec<StateVector> {
        self.vectors_upto(None)
    }

    /// The vector of leader state alone: for a leader's round, not to be compared with. The last
    /// part has no end, like that of a whole vector.
    pub(crate) fn leader_vectors(&self) -> Vec<StateVector> {
        self.vectors_upto(Some(LAST_LEADER))
    }

    fn vectors_upto(&self, upto: Option<StreamId>) -> Vec<StateVector> {
        let table = self.table.clone();
        let table_room = table.as_ref().map_or(0, |table| {
            40 + 20 * table.cuts.len() + 5 * table.lineage.len()
        });
        let mut part = StateVector {
            group: self.setup.group,
            purpose: Purpose::Exchange,
            table,
            after: None,
            upto: None,
            held: Vec::new(),
        };
        let mut room = VECTOR_ROOM.saturating_sub(HEAD_ROOM + table_room) / HELD_ROOM;
        let mut parts = Vec::new();
        let streams = self
            .streams
            .iter()
            // One without entries says nothing.
            .filter(|(_, held)| !held.index().is_empty());
        for (id, held) in streams {
            if upto.is_some_and(|upto| id > upto) {
                break;
            }
            if part.held.len() >= room.clamp(1, HELD_MAX) {
                let last = part.held.last().map(|held| held.stream);
                let next = StateVector {
                    table: None,
                    after: last,
                    held: Vec::new(),
                    ..part.clone()
                };
                part.upto = last;
                parts.push(core::mem::replace(&mut part, next));
                room = (VECTOR_ROOM - HEAD_ROOM) / HELD_ROOM;
            }
            part.held.push(held.held(id));
        }
        parts.push(part);
        parts
    }

    /// Compares; takes over the vector's table if it counts more.
    pub(crate) fn compare(&mut self, now: u64, theirs: &StateVector) -> Comparison {
        let mut comparison = Comparison::default();
        if theirs.group != self.setup.group {
            return comparison;
        }
        if let Some(table) = theirs.table.as_ref().filter(|table| self.is_sound(table)) {
            self.adopt(now, table);
        }
        for held in &theirs.held {
            self.notice_boot(now, held.stream);
        }
        for held in theirs
            .held
            .iter()
            .filter(|held| in_range(theirs, held.stream))
        {
            comparison.behind |= self.is_behind(held);
        }
        if theirs.table.as_ref().map(|t| (t.tenure, t.n))
            < self.table.as_ref().map(|t| (t.tenure, t.n))
        {
            comparison.ahead |= theirs.after.is_none();
        }
        let their = by_stream(theirs);
        let mine = self.streams.iter().filter(|(id, _)| in_range(theirs, *id));
        comparison.ahead |= mine.into_iter().any(|(id, held)| {
            let theirs = their.get(&id).copied();
            let wanted = !held.index().is_empty() || theirs.is_some();
            wanted && Lack::of(held, theirs.unwrap_or(nothing(id))).any()
        });
        comparison
    }

    /// Whether another replica has something of a stream that this one lacks.
    fn is_behind(&self, theirs: &Held) -> bool {
        let (mut mark, mut top) = (theirs.mark, theirs.top);
        if let StreamId::Leader(tenure) = theirs.stream {
            let limit = self.limit(tenure);
            mark = mark.min(limit);
            top = top.min(limit);
        }
        if self.is_own(theirs.stream) {
            return false;
        }
        let none = Stream::default();
        let mine = self.streams.get(theirs.stream).unwrap_or(&none);
        let extras = theirs.extras != 0 && theirs.extras != mine.extras_hash() && top > mine.mark;
        let pending = mark == mine.mark && mark > 0 && theirs.pending != mine.pending_hash();
        mark > mine.mark || extras || pending
    }

    /// What the other replica lacks, of up to about `room` bytes, the last one marked where there
    /// is more.
    pub(crate) fn delta_for(&mut self, theirs: &StateVector, room: usize) -> Vec<Parcel> {
        let mut packer = Packer::new(room, false);
        let their = by_stream(theirs);
        let ids = self.streams.iter().filter(|(id, held)| {
            let listed = their.contains_key(id);
            in_range(theirs, *id) && (listed || !held.index().is_empty())
        });
        let ids: Vec<StreamId> = ids.map(|(id, _)| id).collect();
        self.answers = self.answers.wrapping_add(1);
        // Now and then a turn is repeated, so that two replicas that ask in turn both see all.
        let repeat = self.answers.is_multiple_of(4);
        for id in ids {
            let Some(held) = self.streams.get(id) else {
                continue;
            };
            let lack = Lack::of(held, their.get(&id).copied().unwrap_or(nothing(id)));
            let (mark, turn) = (held.mark, held.turn);
            if !lack.any() {
                continue;
            }
            if packer.is_full() {
                packer.leave();
                break;
            }
            if let Some(from) = lack.from {
                self.pack_range(&mut packer, id, from, mark);
            }
            if let Some(above) = lack.extras {
                let last = self.pack_extras(&mut packer, id, above, turn);
                if !repeat {
                    self.streams.turn(id, last);
                }
            }
        }
        let turn = usize::try_from(self.answers).unwrap_or(0);
        self.finish(packer, turn)
    }
}

/// What another replica lacks of a stream.
struct Lack {
    /// All from here to the mark.
    from: Option<u64>,
    /// The extras above this.
    extras: Option<u64>,
}

impl Lack {
    fn of(mine: &Stream, theirs: Held) -> Self {
        let hash = mine.extras_hash();
        let last = mine.index().last_key_value().map_or(0, |(n, _)| *n);
        let above = theirs.mark.max(mine.mark);
        let extras = hash != 0 && hash != theirs.extras && last > above;
        let pending =
            mine.mark > 0 && mine.mark == theirs.mark && mine.pending_hash() != theirs.pending;
        let from = if pending {
            Some(0)
        } else {
            (mine.mark > theirs.mark).then_some(theirs.mark)
        };
        Self {
            from,
            extras: extras.then_some(above),
        }
    }

    const fn any(&self) -> bool {
        self.from.is_some() || self.extras.is_some()
    }
}

fn by_stream(vector: &StateVector) -> BTreeMap<StreamId, Held> {
    vector
        .held
        .iter()
        .map(|held| (held.stream, *held))
        .collect()
}
