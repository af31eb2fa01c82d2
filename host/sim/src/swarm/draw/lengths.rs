//! Messages longer than a datagram, which go out in parts, and devices with little credit for what
//! plugins send, where a message for many takes the fan-out tree.

use core::time::Duration;

use consort_proto::MAX_PAYLOAD;
use consort_proto::cost::{BRANCH_COST, BRANCHES, CHUNK, NOTICE_COST, STRAIGHT_MAX};
use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, RatePlan, SendOne, Who};

/// What a part costs beside its bytes, and a notice, in round numbers: straight parts cost less.
const PART_MAX: usize = BRANCH_COST.next_multiple_of(10);
const NOTICE_MAX: usize = NOTICE_COST.next_multiple_of(10);
/// Long beats take no more than these bytes a millisecond, a tenth of what a plugin may send.
const BYTES_PER_MS: usize = 100;

impl Draw {
    /// Long messages: some of the beats, and some on their own.
    pub(super) fn lengths(&mut self) {
        for index in 0..self.plan.beats.len() {
            if self.chance(60) {
                let len = self.length();
                let beat = &mut self.plan.beats[index];
                beat.len = len;
                beat.every = beat.every.max(ms((len / BYTES_PER_MS) as u64));
            }
        }
        for _ in 0..self.rng.random_range(0..6) {
            let plugin = self.rng.random_range(0..self.plan.plugins.len());
            let send = SendOne {
                from: self.who(),
                to: match self.rng.random_range(0..4) {
                    0 => None,
                    1 => Some(Who::Leader),
                    2 => Some(Who::All),
                    _ => Some(Who::Nodes(vec![self.node()])),
                },
                plugin: Some(self.plan.plugins[plugin].id.clone()),
                len: self.length(),
            };
            let at = self.at();
            self.push(at, Action::Send(send));
        }
    }

    /// About as often barely more than a datagram as the most there may be.
    fn length(&mut self) -> usize {
        let range = match self.rng.random_range(0..4) {
            0 => CHUNK - 50..=CHUNK + 50,
            1 => CHUNK..=4_000,
            2 => 4_000..=20_000,
            _ => 20_000..=MAX_PAYLOAD,
        };
        self.rng.random_range(range)
    }

    /// Credit that suffices for the beats, and for what is sent besides within some seconds: who
    /// always sends more than that drops most of it, and shows nothing else.
    pub(super) fn credit(&mut self) {
        let receivers = self.plan.nodes - 1;
        let a_second = |len: usize, every: Duration| {
            cost(len, receivers) as u64 * 1_000 / (every.as_millis() as u64).max(1)
        };
        let beats = self.plan.beats.iter();
        let beats: u64 = beats.map(|beat| a_second(beat.len, beat.every)).sum();
        let sends = self
            .plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Send(send) => Some(cost(send.len, receivers) as u64),
                _ => None,
            });
        let needed = 2 * beats + sends.sum::<u64>() / 4 + 8_000;
        let rate = needed * self.rng.random_range(100..400) / 100;
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        self.plan.send_rate = Some(RatePlan {
            bytes_per_second: rate,
            peer_bytes_per_second: rate,
            burst: self.rng.random_range(4_096..32_768),
        });
    }
}

/// What a message for all takes of its sender's credit.
fn cost(len: usize, receivers: usize) -> usize {
    let whole = len + len.div_ceil(CHUNK).max(1) * PART_MAX;
    let straight = receivers * whole;
    if receivers > STRAIGHT_MAX {
        straight.min(BRANCHES * whole + 2 * receivers * NOTICE_MAX)
    } else {
        straight
    }
}
