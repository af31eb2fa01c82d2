//! Anti-entropy: replicas are compared in pairs, and each gets what it lacks.
//!
//! Each interval this device sends one other a summary of all its groups. Where a digest differs,
//! the other answers with its vector, gets what it lacks, and is asked for what this one lacks.
//! Every step is answered from what is held at that time, so a lost datagram costs time only.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::super::Node;
use super::push::{TARGETS_MAX, weight};
use crate::id::{GroupKey, NodeId};
use crate::replication::MergeError;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::state::{
    GroupSummary, Purpose, SUMMARY_MAX, StateAck, StateChunk, StateDelta, StateSummary, StateVector,
};

/// Vectors go to one device no faster than this.
const ASK_GAP: Duration = Duration::from_millis(20);
/// A device that is catching up asks again where nothing has come for this long.
const ASK_AGAIN: Duration = Duration::from_millis(60);
/// For this long after it last gave something, a device is the one to catch up from. All give the
/// same first part, so asking several brings the same several times.
const SOURCE_FOR: Duration = Duration::from_millis(250);
/// What one vector is answered with.
const ANSWER_MAX: u64 = 32 << 10;
/// With less room than this, there is no answer.
const ANSWER_MIN: u64 = 4 << 10;
/// Every so many summaries go to a leader that this device follows.
const LEADERS_TURN: u32 = 4;
/// In large groups, members that hear of news spread it: to so many, this soon.
const SPREAD: usize = 3;
const SPREAD_AFTER: Duration = Duration::from_millis(100);

/// Whom one replica asks for what it lacks.
#[derive(Debug, Default)]
pub(super) struct Asks {
    asked: BTreeMap<NodeId, Time>,
    due: BTreeMap<NodeId, (Time, Purpose)>,
    /// From whom this device catches up, and when that one last gave something.
    source: Option<(NodeId, Time)>,
}

impl Asks {
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.due.values().map(|(at, _)| *at).min()
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.asked.remove(&node);
        self.due.remove(&node);
        self.source = self.source.filter(|(source, _)| *source != node);
    }

    /// Whether this device catches up from one other than `node`.
    fn has_other_source(&self, node: NodeId, now: Time) -> bool {
        self.source
            .is_some_and(|(source, gave)| source != node && now.since(gave) < SOURCE_FOR)
    }

    /// Catches up from `node`, which gives something, unless it does so from another.
    fn follow(&mut self, node: NodeId, now: Time) -> bool {
        let free = !self.has_other_source(node, now);
        if free {
            self.source = Some((node, now));
        }
        free
    }

    /// Has `node` asked at `at` or once it may be.
    fn want(&mut self, node: NodeId, at: Time, purpose: Purpose) {
        let free = self.asked.get(&node).map_or(at, |asked| *asked + ASK_GAP);
        let at = at.max(free);
        let due = self.due.entry(node).or_insert((at, purpose));
        due.0 = due.0.min(at);
        if purpose == Purpose::Exchange {
            due.1 = purpose;
        }
    }

    /// Puts off what was to be asked without need: something has come.
    fn put_off(&mut self, node: NodeId, at: Time) {
        match self.due.get_mut(&node) {
            Some(due) => due.0 = due.0.max(at),
            None => self.want(node, at, Purpose::Reply),
        }
    }

    /// Has `node` asked at `at`, unless it is to be asked anyway.
    fn ensure(&mut self, node: NodeId, at: Time) {
        if !self.due.contains_key(&node) {
            self.want(node, at, Purpose::Reply);
        }
    }

    fn take_due(&mut self, now: Time) -> Vec<(NodeId, Purpose)> {
        let due = self.due.extract_if(.., |_, (at, _)| *at <= now);
        let due: Vec<_> = due.map(|(node, (_, purpose))| (node, purpose)).collect();
        for (node, _) in &due {
            self.asked.insert(*node, now);
        }
        due
    }
}

impl Node {
    /// Begins to compare, once there is somebody to compare with.
    pub(super) fn schedule_summary(&mut self) {
        if self.states.summary_at == Time::MAX {
            self.states.summary_at = self.now + self.summary_interval().mul_f64(self.rng.random());
        }
    }

    fn summary_interval(&self) -> Duration {
        let active = self.states.kept.values().filter(|kept| kept.active);
        let shortest = active.map(|kept| kept.config.interval).min();
        shortest.unwrap_or(Duration::from_secs(1))
    }

    pub(super) fn send_summary(&mut self) {
        let jitter = 0.9 + 0.2 * self.rng.random::<f64>();
        self.states.summary_at = self.now + self.summary_interval().mul_f64(jitter);
        self.states.summaries = self.states.summaries.wrapping_add(1);
        let partners = self.partners();
        if partners.is_empty() {
            self.states.summary_at = Time::MAX;
        }
        for partner in partners {
            self.summarise_to(partner);
        }
    }

    /// Whom to compare with in this interval: a member by chance, or a leader in its turn, or a few
    /// members where there is news to spread.
    fn partners(&mut self) -> Vec<NodeId> {
        let count = if core::mem::take(&mut self.states.spreading) {
            SPREAD
        } else if self.states.summaries.is_multiple_of(LEADERS_TURN)
            && let Some(leader) = self.leaders().into_iter().next()
        {
            return vec![leader];
        } else {
            1
        };
        let plugins = self.plugins.values();
        let peers = plugins.flat_map(|plugin| plugin.peers.keys().copied());
        let mut peers: Vec<NodeId> = peers.collect();
        peers.sort_unstable();
        peers.dedup();
        let (some, _) = peers.partial_shuffle(&mut self.rng, count);
        some.to_vec()
    }

    fn summarise_to(&mut self, to: NodeId) {
        let runs = |group: &GroupKey| {
            let plugin = self.plugin_of(*group);
            plugin.is_some_and(|plugin| plugin.peers.contains_key(&to))
        };
        let missing = self.roster.misses_members();
        let shared: Vec<GroupKey> = self.states.kept.keys().copied().filter(runs).collect();
        let mut groups = Vec::new();
        for group in shared.into_iter().take(SUMMARY_MAX) {
            if let Some(kept) = self.states.active(group) {
                groups.push(GroupSummary {
                    group,
                    digest: kept.replica.digest(),
                    tenure: kept.replica.table_tenure(),
                });
            }
        }
        if !groups.is_empty() {
            let summary = StateSummary { groups, missing };
            self.send(to, &Message::StateSummary(summary));
        }
    }

    pub(super) fn take_summary(&mut self, from: NodeId, summary: &StateSummary) {
        let now = self.now;
        let groups = summary.groups.iter();
        for theirs in groups.filter(|theirs| theirs.group != GroupKey::SYSTEM) {
            let Some(kept) = self.states.active(theirs.group) else {
                continue;
            };
            if kept.replica.digest() == theirs.digest {
                kept.replica.is_equal_to(from);
                if !summary.missing {
                    kept.equal_at.insert(from, now);
                }
                self.set_catching_up(theirs.group, false);
            } else if !kept.catching_up || !kept.asks.has_other_source(from, now) {
                kept.asks.want(from, now, Purpose::Exchange);
                self.time_asks(theirs.group);
            }
        }
    }

    /// Sends the vectors that are due.
    pub(super) fn time_asks(&mut self, group: GroupKey) {
        let now = self.now;
        let Some(kept) = self.states.active(group) else {
            return;
        };
        let due = kept.asks.take_due(now);
        if due.is_empty() {
            return;
        }
        let vectors = kept.replica.vectors();
        for (node, purpose) in due {
            for vector in &vectors {
                let mut vector = vector.clone();
                vector.purpose = purpose;
                self.send(node, &Message::StateVector(vector));
            }
        }
    }

    pub(super) fn take_vector(&mut self, from: NodeId, vector: &StateVector) {
        let (now, group_now) = (self.now, self.group_now());
        if let Purpose::Answer(epoch) = vector.purpose {
            return self.take_answer(from, vector, epoch);
        }
        self.states.catch_up.refill(now.as_micros());
        let room = self.states.catch_up.level().min(ANSWER_MAX);
        let Some(kept) = self.states.active(vector.group) else {
            return;
        };
        let comparison = kept.replica.compare(group_now, vector);
        for held in &vector.held {
            kept.replica.acknowledged(from, held.stream, held.mark);
        }
        let mut parcels = Vec::new();
        if comparison.ahead && room >= ANSWER_MIN {
            let room = usize::try_from(room).unwrap_or(0);
            parcels = kept.replica.delta_for(vector, room);
        }
        if comparison.behind && vector.purpose == Purpose::Exchange {
            kept.asks.want(from, now, Purpose::Reply);
        }
        self.states.catch_up.spend(parcels.iter().map(weight).sum());
        self.send_parcels(from, &parcels);
        self.states.touch(vector.group);
        let is_whole = vector.after.is_none() && vector.upto.is_none();
        if is_whole && !comparison.behind {
            self.set_catching_up(vector.group, false);
        }
        self.time_asks(vector.group);
    }

    pub(super) fn take_delta(&mut self, from: NodeId, delta: &StateDelta) {
        let group_now = self.group_now();
        let Some(kept) = self.states.active(delta.group) else {
            self.counters.state_refused += 1;
            return;
        };
        let merged = kept.replica.merge(group_now, from, delta);
        let arrival = Arrival {
            from,
            group: delta.group,
            direct: delta.direct,
            more: delta.more,
        };
        let complete = self.arrived(&arrival, merged);
        if complete && delta.direct {
            self.acknowledge(from, delta);
        }
    }

    pub(super) fn take_chunk(&mut self, from: NodeId, chunk: StateChunk) {
        let (now, group_now) = (self.now, self.group_now());
        let Some(kept) = self.states.active(chunk.group) else {
            self.counters.state_refused += 1;
            return;
        };
        let (direct, stream, group, n) = (chunk.direct, chunk.stream, chunk.group, chunk.n);
        let merged = kept.replica.merge_chunk(group_now, from, chunk);
        let taken = merged == Ok(true);
        if !direct && kept.replica.awaits(stream, n) && kept.asks.follow(from, now) {
            // The rest of the entry may be lost, and the word that there is more behind it.
            kept.asks.ensure(from, now + ASK_AGAIN);
        }
        let arrival = Arrival {
            from,
            group,
            direct,
            more: false,
        };
        self.arrived(&arrival, merged);
        if direct && taken {
            let mark = self
                .states
                .active(group)
                .map_or(0, |kept| kept.replica.mark(stream));
            self.send(
                from,
                &Message::StateAck(StateAck {
                    group,
                    stream,
                    mark,
                }),
            );
        }
    }

    /// What a push leaves open is asked for at once.
    fn acknowledge(&mut self, from: NodeId, delta: &StateDelta) {
        let (now, group, stream) = (self.now, delta.group, delta.stream);
        let Some(kept) = self.states.active(group) else {
            return;
        };
        let mark = kept.replica.mark(stream);
        if mark < delta.to {
            kept.asks.want(from, now, Purpose::Reply);
        }
        self.send(
            from,
            &Message::StateAck(StateAck {
                group,
                stream,
                mark,
            }),
        );
        self.time_asks(group);
    }

    /// Follows up on what arrived. Whether it was well formed.
    fn arrived(&mut self, arrival: &Arrival, merged: Result<bool, MergeError>) -> bool {
        let (now, group) = (self.now, arrival.group);
        let large = self
            .plugin_of(group)
            .is_some_and(|plugin| plugin.peers.len() > TARGETS_MAX);
        let Some(kept) = self.states.active(group) else {
            return false;
        };
        let new = match merged {
            Ok(new) => new,
            Err(error) => {
                kept.refused += 1;
                self.counters.state_refused += 1;
                tracing::debug!(from = ?arrival.from, %error, "state refused");
                return false;
            }
        };
        let left_out = kept.replica.take_left_out();
        kept.refused += left_out;
        self.counters.state_refused += left_out;
        if !arrival.direct {
            if arrival.more && kept.asks.follow(arrival.from, now) {
                kept.asks.want(arrival.from, now, Purpose::Reply);
            } else if kept.catching_up && new && kept.asks.follow(arrival.from, now) {
                kept.asks.put_off(arrival.from, now + ASK_AGAIN);
            }
        }
        self.states.touch(group);
        if arrival.more {
            self.set_catching_up(group, true);
        }
        self.time_asks(group);
        if new && large {
            self.states.spreading = true;
            self.states.summary_at = self.states.summary_at.min(now + SPREAD_AFTER);
        }
        true
    }
}

/// What is known of something that arrived before it is looked into.
struct Arrival {
    from: NodeId,
    group: GroupKey,
    direct: bool,
    more: bool,
}
