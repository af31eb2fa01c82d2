//! Flap damping: a device that keeps losing the leadership ranks last until it has been quiet.
//!
//! Each loss adds [`PER_LOSS`]; the sum halves every [`HALF_LIFE`]. From [`SUPPRESS`] on the device
//! ranks last, until the sum has fallen to [`REUSE`] (the two thresholds of RFC 2439, so that it
//! does not come and go at one of them). Two losses within five minutes suffice, one never does.
//! [`CEILING`] bounds how long a device stays last: 12 minutes.

use core::time::Duration;

use crate::mutant::{self, Mutant};
use crate::time::{Time, micros};

/// Added by one loss, in thousandths.
const PER_LOSS: u32 = 1000;
/// After how long a penalty has halved.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// From this penalty on a device ranks last.
const SUPPRESS: u32 = 1500;
/// At this penalty it ranks as configured again.
const REUSE: u32 = 750;
/// No penalty is larger.
const CEILING: u32 = 4000;

/// A decaying sum, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Penalty {
    amount: u32,
    at: Time,
}

impl Penalty {
    /// What is left of it. Between halvings it falls in a straight line.
    pub(super) fn at(&self, now: Time) -> u32 {
        let (passed, half) = (micros(now.since(self.at)), micros(HALF_LIFE));
        let halvings = u32::try_from(passed / half).unwrap_or(u32::MAX);
        let whole = u64::from(self.amount.checked_shr(halvings).unwrap_or(0));
        (whole - whole * (passed % half) / (2 * half)) as u32
    }

    /// One more loss.
    pub(super) fn add(&mut self, now: Time) {
        *self = Self {
            amount: (self.at(now) + PER_LOSS).min(CEILING),
            at: now,
        };
    }

    /// Another's count of the same losses: the larger one counts.
    fn raise(&mut self, now: Time, told: u32) {
        if told > self.at(now) {
            *self = Self {
                amount: told.min(CEILING),
                at: now,
            };
        }
    }

    /// When it will have fallen to `floor`.
    fn falls_to(&self, floor: u32) -> Time {
        let half = micros(HALF_LIFE);
        let (mut amount, mut after) = (u64::from(self.amount), 0);
        let floor = u64::from(floor);
        while amount / 2 > floor {
            (amount, after) = (amount / 2, after + half);
        }
        if amount > floor {
            after += (2 * half * (amount - floor)).div_ceil(amount);
        }
        self.at + Duration::from_micros(after)
    }
}

/// How a device's own losses make it rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damping {
    penalty: Penalty,
    suppressed: bool,
    last_until: Option<Time>,
}

impl Damping {
    /// This device lost the leadership.
    pub(super) fn lost(&mut self, now: Time) {
        self.penalty.add(now);
        self.suppressed |= self.penalty.at(now) >= SUPPRESS;
    }

    /// What others counted, who saw losses that this device does not remember: it was restarted.
    pub(crate) fn told(&mut self, now: Time, penalty: u32) {
        self.penalty.raise(now, penalty);
        self.suppressed |= self.penalty.at(now) >= SUPPRESS;
    }

    /// The device ranks last for a fixed time besides.
    pub(super) fn rank_last(&mut self, now: Time, during: Duration) {
        self.last_until = self.last_until.max(Some(now + during));
    }

    /// Whether the device ranks last at `now`.
    pub(super) fn is_flapping(&self, now: Time) -> bool {
        let last = self.until().is_some_and(|until| now < until);
        last && !mutant::is(Mutant::LossesForgotten)
    }

    /// Until when it ranks last.
    pub(super) fn until(&self) -> Option<Time> {
        let suppressed = self.suppressed.then(|| self.penalty.falls_to(REUSE));
        suppressed.max(self.last_until)
    }

    /// Forgets what is over.
    pub(super) fn settle(&mut self, now: Time) {
        self.suppressed &= now < self.penalty.falls_to(REUSE);
        self.last_until = self.last_until.filter(|until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_penalty_halves_every_five_minutes() {
        let mut penalty = Penalty::default();
        penalty.add(at(10));
        let left: Vec<u32> = [10, 160, 310, 610, 100_000]
            .map(|secs| penalty.at(at(secs)))
            .to_vec();
        assert_eq!(left, [1000, 750, 500, 250, 0]);
        for floor in [999, 750, 500, 300, 1] {
            let then = penalty.falls_to(floor);
            assert!(penalty.at(then) <= floor, "{floor} at {then}");
            let before = Time::from_micros(then.as_micros() - 1_000_000);
            assert!(penalty.at(before) >= floor, "{floor} a second before");
        }
    }

    #[test]
    fn one_loss_is_forgiven_two_rank_last_until_it_was_quiet() {
        let mut damping = Damping::default();
        damping.lost(at(0));
        assert!(!damping.is_flapping(at(1)));
        damping.lost(at(290));
        assert!(damping.is_flapping(at(291)));
        let until = damping.until().expect("it ranks last");
        assert!((at(580)..at(640)).contains(&until), "{until}");
        damping.settle(until);
        assert_eq!(damping.until(), None);
        let mut rare = Damping::default();
        rare.lost(at(0));
        rare.lost(at(400));
        assert!(!rare.is_flapping(at(401)));
    }

    #[test]
    fn however_often_it_flaps_twelve_quiet_minutes_end_it() {
        let mut damping = Damping::default();
        (0..100).for_each(|secs| damping.lost(at(secs)));
        let until = damping.until().expect("it ranks last");
        assert!((at(99 + 600)..=at(99 + 750)).contains(&until), "{until}");
    }

    #[test]
    fn others_counts_are_not_added_to_ones_own() {
        let mut damping = Damping::default();
        damping.lost(at(0));
        damping.told(at(0), 1000);
        assert!(!damping.is_flapping(at(1)));
        damping.told(at(0), 1600);
        assert!(damping.is_flapping(at(1)));
        let mut last = Damping::default();
        last.rank_last(at(5), Duration::from_secs(60));
        assert!(last.is_flapping(at(64)) && !last.is_flapping(at(65)));
    }
}
