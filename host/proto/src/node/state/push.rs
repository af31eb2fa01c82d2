//! News of this device's own: sent to the other members at once, or with the next interval, and
//! again to those that do not acknowledge it. What still does not arrive is left to `exchange`.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;

use super::super::Node;
use crate::id::{GroupKey, NodeId};
use crate::replication::Parcel;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::state::{StateAck, StreamId};

/// The first write of a quiet time waits this long for others of the same callback.
const GATHER: Duration = Duration::from_millis(1);
/// After how long news is sent again to who has not acknowledged it.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
];
/// Members that news is sent to; in larger groups the others are told by these.
pub(super) const TARGETS_MAX: usize = 32;

/// The news of one replica.
#[derive(Debug, Default)]
pub(super) struct Push {
    due: Option<Time>,
    last: Option<Time>,
    waiting: BTreeMap<NodeId, Waiting>,
    /// How far each stream has been pushed.
    upto: BTreeMap<StreamId, u64>,
}

/// A member that has not acknowledged.
#[derive(Debug)]
struct Waiting {
    tries: usize,
    at: Time,
    /// From where on each stream is to be sent again.
    from: BTreeMap<StreamId, u64>,
}

impl Push {
    /// There is news.
    pub(super) fn schedule(&mut self, now: Time, interval: Duration) {
        let earliest = self.last.map_or(now, |last| last + interval);
        self.due.get_or_insert(earliest.max(now + GATHER));
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let again = self.waiting.values().map(|waiting| waiting.at);
        self.due.into_iter().chain(again).min()
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }

    fn sent(&mut self, now: Time, to: NodeId, parcels: &[Parcel]) {
        let waiting = self.waiting.entry(to).or_insert_with(|| Waiting {
            tries: 0,
            at: now,
            from: BTreeMap::new(),
        });
        waiting.tries = 0;
        waiting.at = now + AGAIN_AFTER[0];
        for parcel in parcels {
            let (stream, from, _) = reach(parcel);
            let first = waiting.from.entry(stream).or_insert(from);
            *first = (*first).min(from);
        }
    }

    /// News went to a member and is to be sent again if it is not acknowledged.
    pub(super) fn insist(&mut self, now: Time, to: NodeId, (stream, upto): (StreamId, u64)) {
        self.upto.insert(stream, upto);
        let waiting = Waiting {
            tries: 0,
            at: now + AGAIN_AFTER[0],
            from: BTreeMap::from([(stream, 0)]),
        };
        self.waiting.insert(to, waiting);
    }

    /// Whatever the member says that it holds, the rest is not a matter of sending again.
    fn acknowledged(&mut self, by: NodeId, ack: &StateAck) {
        let Some(waiting) = self.waiting.get_mut(&by) else {
            return;
        };
        let upto = self.upto.get(&ack.stream).copied().unwrap_or(0);
        match waiting.from.get_mut(&ack.stream) {
            Some(from) if ack.mark >= *from && ack.mark < upto => *from = ack.mark,
            Some(_) => {
                waiting.from.remove(&ack.stream);
            }
            None => {}
        }
        if waiting.from.is_empty() {
            self.waiting.remove(&by);
        }
    }

    /// The members to send to again, and from where on.
    pub(super) fn due_again(&mut self, now: Time) -> Vec<(NodeId, BTreeMap<StreamId, u64>)> {
        let mut again = Vec::new();
        self.waiting.retain(|node, waiting| {
            if waiting.at > now {
                return true;
            }
            again.push((*node, waiting.from.clone()));
            waiting.tries += 1;
            let after = AGAIN_AFTER.get(waiting.tries);
            waiting.at = after.map_or(now, |after| now + *after);
            after.is_some()
        });
        again
    }
}

/// Which stream a parcel is of, and its range.
fn reach(parcel: &Parcel) -> (StreamId, u64, u64) {
    match parcel {
        Parcel::Delta(delta) => (delta.stream, delta.from, delta.to),
        Parcel::Chunk(chunk) => (chunk.stream, chunk.n.saturating_sub(1), chunk.n),
    }
}

fn is_chunk_of_same(one: &Parcel, other: &Parcel) -> bool {
    match (one, other) {
        (Parcel::Chunk(one), Parcel::Chunk(other)) => {
            (one.stream, one.n) == (other.stream, other.n)
        }
        (Parcel::Delta(_) | Parcel::Chunk(_), _) => false,
    }
}

/// About how many bytes a parcel takes on the network.
pub(super) fn weight(parcel: &Parcel) -> u64 {
    const OVERHEAD: usize = 80;
    const PER_ENTRY: usize = 24;
    let bytes = match parcel {
        Parcel::Delta(delta) => {
            let entries = delta.entries.iter();
            entries
                .map(|entry| entry.key.len() + entry.value.len() + PER_ENTRY)
                .sum()
        }
        Parcel::Chunk(chunk) => chunk.bytes.len(),
    };
    (OVERHEAD + bytes) as u64
}

impl Node {
    /// The chunks of an entry go round, beginning with any of them. If they began with the first
    /// one, a queue on the way that is shorter than the entry would lose the same ones each time.
    pub(super) fn send_parcels(&mut self, to: NodeId, parcels: &[Parcel]) {
        let runs = parcels.chunk_by(is_chunk_of_same);
        for run in runs {
            let start = match run.len() {
                1 => 0,
                count => rand::Rng::next_u32(&mut self.rng) as usize % count,
            };
            self.send_in_order(to, run[start..].iter().chain(&run[..start]));
        }
    }

    fn send_in_order<'a>(&mut self, to: NodeId, parcels: impl Iterator<Item = &'a Parcel>) {
        for parcel in parcels {
            // The frames are encoded anew for each member: each session has keys of its own, and
            // what is batched with them differs.
            let message = match parcel {
                Parcel::Delta(delta) => Message::StateDelta(delta.clone()),
                Parcel::Chunk(chunk) => Message::StateChunk(chunk.clone()),
            };
            self.send(to, &message);
        }
    }

    pub(super) fn time_push(&mut self, group: GroupKey) {
        let now = self.now;
        let Some(kept) = self.states.active(group) else {
            return;
        };
        if kept.push.due.is_some_and(|due| due <= now) {
            kept.push.due = None;
            kept.push.last = Some(now);
            let parcels = kept.replica.take_push();
            for (stream, mark) in kept.replica.own_marks() {
                kept.push.upto.insert(stream, mark);
            }
            self.push_out(group, &parcels);
        }
        let Some(kept) = self.states.active(group) else {
            return;
        };
        for (node, streams) in kept.push.due_again(now) {
            for (stream, from) in streams {
                let Some(kept) = self.states.active(group) else {
                    return;
                };
                let parcels = kept.replica.push_after(stream, from);
                if self.has_push_room(&parcels) {
                    self.send_parcels(node, &parcels);
                }
            }
        }
    }

    /// Sends news to the members, in large groups to some of them, as far as there is room.
    fn push_out(&mut self, group: GroupKey, parcels: &[Parcel]) {
        let Some(plugin) = self.plugin_of(group).filter(|_| !parcels.is_empty()) else {
            return;
        };
        let everyone = plugin.peers.keys().copied();
        let targets: Vec<NodeId> = if plugin.peers.len() > TARGETS_MAX {
            let mut peers: Vec<NodeId> = everyone.collect();
            let (some, _) = peers.partial_shuffle(&mut self.rng, TARGETS_MAX);
            some.to_vec()
        } else {
            everyone.collect()
        };
        for node in targets {
            if !self.has_push_room(parcels) {
                tracing::debug!("more news than there is room for: some members get it later");
                break;
            }
            self.send_parcels(node, parcels);
            let now = self.now;
            if let Some(kept) = self.states.active(group) {
                kept.push.sent(now, node, parcels);
            }
        }
    }

    fn has_push_room(&mut self, parcels: &[Parcel]) -> bool {
        let bytes = parcels.iter().map(weight).sum();
        let room = &mut self.states.push_room;
        room.refill(self.now.as_micros());
        let has = room.has(bytes);
        if has {
            room.spend(bytes);
        }
        has
    }

    pub(super) fn take_state_ack(&mut self, from: NodeId, ack: StateAck) {
        if let Some(kept) = self.states.active(ack.group) {
            kept.push.acknowledged(from, &ack);
            kept.replica.acknowledged(from, ack.stream, ack.mark);
        }
    }

    /// Sends what was written and not sent, before this device leaves the group.
    pub(in super::super) fn push_all(&mut self, group: GroupKey) {
        if let Some(kept) = self.states.active(group) {
            let parcels = kept.replica.take_push();
            self.push_out(group, &parcels);
        }
    }
}
