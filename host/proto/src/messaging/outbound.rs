//! What plugins send waits here for credit, so that it takes no more of the network than the
//! device's settings say. Whatever else a node sends passes this by: the credit of plugins ends
//! below what the link carries, and the rest belongs to heartbeats, probes and membership.
//!
//! Every peer has a lane, a bounded queue of frames with a token bucket of its own; the lanes take
//! turns and share one more bucket. A message that does not fit its lane is dropped as a whole, and
//! so is one that waits, or has gone in part, when its peer goes. The last frame of each message is
//! marked, so that both are counted by message.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::SendRate;
use crate::id::NodeId;
use crate::quota::Bucket;
use crate::time::Time;

/// Bytes that wait for one peer, and for all together. Frames that several peers get count for
/// each.
const LANE_MAX: usize = 512 << 10;
const QUEUED_MAX: usize = 16 << 20;
/// What a frame costs beyond its own bytes: the overhead of a datagram of its own.
const FRAME_COST: usize = 28;
/// Credit is looked at no more often than this, so that a queue does not wake the driver for each
/// datagram.
const PACE: Duration = Duration::from_micros(500);

/// What the frames that are queued together are, for the statistics of their peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// A message of this device: sent with its last frame, or dropped.
    Own,
    /// A message that this device passes on, or the payload of one that was announced: counts only
    /// if it is dropped.
    Passed,
    /// What is asked for or told once more if it is lost.
    Again,
}

/// A frame that may go out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: NodeId,
    pub(crate) frame: Bytes,
    /// What it is the last frame of.
    pub(crate) ends: Option<Cargo>,
}

#[derive(Debug)]
struct Lane {
    frames: VecDeque<(Bytes, Option<Cargo>)>,
    bytes: usize,
    bucket: Bucket,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outbound {
    rate: SendRate,
    bucket: Bucket,
    lanes: BTreeMap<NodeId, Lane>,
    /// The lanes that have frames, in the order of their turns.
    turns: VecDeque<NodeId>,
    queued: usize,
    wake: Option<Time>,
}

impl Outbound {
    pub(crate) fn new(rate: SendRate) -> Self {
        let rate = rate.clamped();
        Self {
            rate,
            bucket: Bucket::new(rate.bytes_per_second.into(), rate.burst.into()),
            lanes: BTreeMap::new(),
            turns: VecDeque::new(),
            queued: 0,
            wake: None,
        }
    }

    /// Queues the frames of one message. False if they do not fit: then none is queued.
    pub(crate) fn push(&mut self, to: NodeId, frames: &[Bytes], cargo: Cargo) -> bool {
        let cost: usize = frames.iter().map(cost).sum();
        let rate = &self.rate;
        let lane = self.lanes.entry(to).or_insert_with(|| Lane {
            frames: VecDeque::new(),
            bytes: 0,
            bucket: Bucket::new(rate.peer_bytes_per_second.into(), rate.burst.into()),
        });
        if lane.bytes + cost > LANE_MAX || self.queued + cost > QUEUED_MAX {
            return false;
        }
        if lane.frames.is_empty() && !frames.is_empty() {
            self.turns.push_back(to);
        }
        let last = frames.len().saturating_sub(1);
        let marked = frames.iter().enumerate();
        let marked = marked.map(|(at, frame)| (frame.clone(), (at == last).then_some(cargo)));
        lane.frames.extend(marked);
        lane.bytes += cost;
        self.queued += cost;
        true
    }

    /// The next frame that there is credit for.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Outgoing> {
        self.wake = None;
        if self.turns.is_empty() {
            return None;
        }
        self.bucket.refill(now.as_micros());
        let mut wait = u64::MAX;
        for _ in 0..self.turns.len() {
            let to = self.turns.pop_front()?;
            let lane = self.lanes.get_mut(&to)?;
            lane.bucket.refill(now.as_micros());
            let Some((front, _)) = lane.frames.front() else {
                continue;
            };
            let spent = cost(front) as u64;
            let short = self.bucket.wait_us(spent).max(lane.bucket.wait_us(spent));
            if short > 0 {
                wait = wait.min(short);
                self.turns.push_back(to);
                continue;
            }
            let (frame, ends) = lane.frames.pop_front()?;
            self.bucket.spend(spent);
            lane.bucket.spend(spent);
            lane.bytes -= spent as usize;
            self.queued -= spent as usize;
            if !lane.frames.is_empty() {
                self.turns.push_back(to);
            }
            return Some(Outgoing { to, frame, ends });
        }
        self.wake = Some(now + Duration::from_micros(wait).max(PACE));
        None
    }

    /// When there will be credit for a frame that waits.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// Whether `bytes` in `frames` frames could go out at once, with nothing before them.
    pub(crate) fn affords(&mut self, now: Time, bytes: usize, frames: usize) -> bool {
        self.bucket.refill(now.as_micros());
        let needed = self.queued + bytes + frames * FRAME_COST;
        self.bucket.has(needed as u64)
    }

    /// Whether frames wait for a peer.
    pub(crate) fn is_waiting(&self, to: NodeId) -> bool {
        self.lanes
            .get(&to)
            .is_some_and(|lane| !lane.frames.is_empty())
    }

    /// Whether frames wait for anyone.
    pub(crate) fn is_busy(&self) -> bool {
        self.queued > 0
    }

    /// Drops what waits for a peer that is gone. How many messages that were.
    pub(crate) fn forget(&mut self, to: NodeId) -> u64 {
        let Some(lane) = self.lanes.remove(&to) else {
            return 0;
        };
        self.queued -= lane.bytes;
        self.turns.retain(|turn| *turn != to);
        let ends = lane.frames.iter().filter_map(|(_, ends)| *ends);
        ends.filter(|cargo| cargo.is_message()).count() as u64
    }
}

impl Cargo {
    /// Whether it counts where it is dropped.
    pub(crate) const fn is_message(self) -> bool {
        matches!(self, Self::Own | Self::Passed)
    }
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(total: u32, peer: u32, burst: u32) -> SendRate {
        SendRate {
            bytes_per_second: total,
            peer_bytes_per_second: peer,
            burst,
        }
    }

    fn frames(count: usize, len: usize) -> Vec<Bytes> {
        vec![Bytes::from(vec![0; len]); count]
    }

    /// Drains until `until`; the bytes, overhead included, that each of two peers got.
    fn drain(outbound: &mut Outbound, until: Time) -> [usize; 2] {
        let (mut now, mut sent) = (Time::ZERO, [0; 2]);
        loop {
            while let Some(Outgoing { to, frame, .. }) = outbound.poll(now) {
                sent[to.0 as usize] += cost(&frame);
            }
            match outbound.next_timeout() {
                Some(at) if at <= until => {
                    assert!(at > now, "it asks to be woken later");
                    now = at;
                }
                Some(_) | None => return sent,
            }
        }
    }

    #[test]
    fn lanes_share_the_credit_and_none_exceeds_its_own() {
        let second = Time::from_micros(1_000_000);
        let mut outbound = Outbound::new(rate(100_000, 1_000_000, 4_000));
        assert!(outbound.push(NodeId(0), &frames(300, 1_000), Cargo::Own));
        assert!(outbound.push(NodeId(1), &frames(300, 1_000), Cargo::Own));
        let [first, other] = drain(&mut outbound, second);
        assert!(
            (100_000..=104_000).contains(&(first + other)),
            "{first} + {other}"
        );
        assert!(first.abs_diff(other) <= 1_028, "{first} and {other}");

        let mut outbound = Outbound::new(rate(1_000_000, 50_000, 4_000));
        assert!(outbound.push(NodeId(0), &frames(300, 1_000), Cargo::Own));
        assert!(outbound.push(NodeId(1), &frames(10, 1_000), Cargo::Own));
        let [slow, other] = drain(&mut outbound, second);
        assert!((49_000..=54_000).contains(&slow), "{slow}");
        assert_eq!(other, 10_280, "a slow peer does not hold the other up");
    }

    #[test]
    fn a_full_lane_drops_whole_messages_and_is_empty_after_forgetting() {
        let mut outbound = Outbound::new(rate(1_000, 1_000, 2_048));
        let fits =
            (0..1_000).take_while(|_| outbound.push(NodeId(0), &frames(60, 1_100), Cargo::Own));
        assert_eq!(fits.count(), LANE_MAX / (60 * 1_128));
        assert!(
            outbound.push(NodeId(1), &frames(1, 10), Cargo::Own),
            "others have room"
        );
        let before = outbound.queued;
        assert!(!outbound.push(NodeId(0), &frames(60, 1_100), Cargo::Own));
        assert_eq!(outbound.queued, before);
        assert!(outbound.push(NodeId(0), &frames(2, 10), Cargo::Passed));
        assert!(outbound.push(NodeId(0), &frames(2, 10), Cargo::Again));
        let waiting = LANE_MAX / (60 * 1_128) + 1;
        assert_eq!(outbound.forget(NodeId(0)), waiting as u64);
        assert_eq!(outbound.forget(NodeId(0)), 0);
        assert_eq!(outbound.queued, 38);
        assert_eq!(drain(&mut outbound, Time::from_micros(1)), [0, 38]);
    }

    #[test]
    fn only_the_last_frame_of_a_message_ends_it() {
        let mut outbound = Outbound::new(rate(1_000_000, 1_000_000, 10_000));
        assert!(outbound.push(NodeId(0), &frames(3, 100), Cargo::Own));
        assert!(outbound.push(NodeId(0), &frames(1, 100), Cargo::Passed));
        let ends: Vec<_> = core::iter::from_fn(|| outbound.poll(Time::ZERO))
            .map(|outgoing| outgoing.ends)
            .collect();
        let expected = [None, None, Some(Cargo::Own), Some(Cargo::Passed)];
        assert_eq!(ends, expected);
    }

    #[test]
    fn all_lanes_together_are_bounded() {
        let mut outbound = Outbound::new(rate(1_000, 1_000, 2_048));
        for peer in 0..100 {
            while outbound.push(NodeId(peer), &frames(10, 1_000), Cargo::Own) {}
        }
        assert!(outbound.queued <= QUEUED_MAX);
        assert!(outbound.queued > QUEUED_MAX - 10_280);
    }
}
