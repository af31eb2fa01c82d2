//! What samples of the reference say: by how much its group time is ahead of this device's
//! monotonic clock, and at what rate that grows, each with bounds that hold.
//!
//! A sample is a reading of the reference that was under way for between nothing and one round
//! trip, so the distance at its receipt lies within half a round trip around the middle. Later it
//! lies there as well, moved on at the rate, give or take what the rate is uncertain by: of all
//! samples the one with the narrowest interval at the moment counts (the distance of RFC 5905,
//! section 11.1, delay and dispersion together).
//!
//! Every four seconds the narrowest sample is marked, and the marks of a minute give the rate. Two
//! of them bound it from both sides: by the slope between their middles, give or take their
//! intervals over the time between them. The bounds of all pairs intersect; where they do not, a
//! clock has changed its pace, and the older marks are dropped. Within the bounds the rate is that
//! of a line through the marks, weighted by their intervals, with the rate before as one more
//! observation, so that little evidence changes little.

use std::collections::VecDeque;

use crate::mutant::{self, Mutant};
use crate::time::{Time, micros};

/// Samples since the last mark.
const RECENT_MAX: usize = 16;
/// The time from one mark to the next, in microseconds, and how many are kept: 64 s of them.
const MARK_EVERY: u64 = 4_000_000;
const MARKS_MAX: usize = 16;
/// How far two devices' clocks go apart at most, in parts per billion: 500 ppm each, more than any
/// crystal and the limit of NTP (RFC 5905, section 11.3).
pub(super) const RATE_MAX: i64 = 1_000_000;
/// How far a clock's pace strays within the minute that is looked back on, in parts per billion
/// (RFC 5905's PHI: 15 ppm).
pub(super) const WANDER: i64 = 15_000;
/// How far from the rate before a new one is expected, in parts per million.
const RATE_SPREAD: f64 = 100.0;
/// A sample is usually this much nearer to the middle of its interval than to its end.
const USUALLY_NEARER: f64 = 4.0;

/// The reference's group time less this device's monotonic time, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// When it was taken.
    pub(super) at: Time,
    /// The middle of the interval.
    pub(super) offset: i128,
    /// Half its width.
    pub(super) half: u64,
}

/// The rate at which the distance grows, in parts per billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) best: i64,
    low: i64,
    high: i64,
}

impl Rate {
    /// `best` is taken from elsewhere; nothing else is known.
    fn guess(best: i64) -> Self {
        Self {
            best: best.clamp(-RATE_MAX, RATE_MAX),
            low: -RATE_MAX,
            high: RATE_MAX,
        }
    }

    /// By how much the rate may be off from here on.
    pub(super) fn uncertainty(self) -> i64 {
        (self.high - self.best).max(self.best - self.low) + WANDER
    }
}

/// What grows by `ppb` of a time, in microseconds.
pub(super) fn share(us: u64, ppb: i64) -> i128 {
    i128::from(us) * i128::from(ppb) / 1_000_000_000
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Window {
    recent: VecDeque<Sample>,
    marks: VecDeque<Sample>,
    /// The first of the recent samples since the last mark.
    since: Time,
    rate: Rate,
    /// The rate before there were samples.
    before: i64,
}

impl Window {
    pub(super) fn new(rate: i64) -> Self {
        let rate = Rate::guess(rate);
        Self {
            recent: VecDeque::new(),
            marks: VecDeque::new(),
            since: Time::ZERO,
            rate,
            before: rate.best,
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// When the oldest sample was taken.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.marks.back().or(self.recent.back()).map(|s| s.at)
    }

    /// Takes a sample in. One that contradicts what is known ends that: a clock has been changed.
    pub(super) fn push(&mut self, sample: Sample) {
        if let Some(known) = self.best(sample.at) {
            let apart = (known.offset - sample.offset).unsigned_abs();
            if apart > u128::from(known.half) + u128::from(sample.half) {
                tracing::debug!(apart = %apart, "the reference's clock or this one's changed its pace");
                *self = Self::new(self.rate.best);
            }
        }
        if self.recent.is_empty() {
            self.since = sample.at;
        } else if micros(sample.at.since(self.since)) >= MARK_EVERY {
            self.mark(sample.at);
            self.since = sample.at;
        }
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front(sample);
    }

    /// The narrowest interval at `now`.
    pub(super) fn best(&self, now: Time) -> Option<Sample> {
        let samples = self.recent.iter().chain(&self.marks);
        let moved = samples.map(|sample| self.moved(sample, now));
        moved.min_by_key(|sample| sample.half)
    }

    /// What a sample says of a later time.
    fn moved(&self, sample: &Sample, now: Time) -> Sample {
        let age = micros(now.since(sample.at));
        let wider = share(age, self.rate.uncertainty()).unsigned_abs();
        Sample {
            at: now,
            offset: sample.offset + share(age, self.rate.best),
            half: sample
                .half
                .saturating_add(u64::try_from(wider).unwrap_or(u64::MAX)),
        }
    }

    fn mark(&mut self, now: Time) {
        let narrowest = |sample: &&Sample| self.moved(sample, now).half;
        let Some(mark) = self.recent.iter().min_by_key(narrowest).copied() else {
            return;
        };
        self.recent.clear();
        self.marks.truncate(MARKS_MAX - 1);
        self.marks.push_front(mark);
        self.find_rate();
    }

    fn find_rate(&mut self) {
        let (low, high) = self.agree();
        let best = if mutant::is(Mutant::DriftIgnored) {
            0
        } else {
            self.line().clamp(low, high)
        };
        self.rate = Rate { best, low, high };
    }

    /// What all pairs of marks say of the rate; marks that contradict newer ones are dropped.
    fn agree(&mut self) -> (i64, i64) {
        let (mut low, mut high) = (-RATE_MAX, RATE_MAX);
        for older in 1..self.marks.len() {
            let (mut least, mut most) = (low, high);
            for newer in 0..older {
                let (from, to) = between(&self.marks[older], &self.marks[newer]);
                least = least.max(from);
                most = most.min(to);
            }
            if least > most {
                self.marks.truncate(older);
                break;
            }
            (low, high) = (least, most);
        }
        (low, high)
    }

    /// The slope of the weighted line through the marks, in parts per billion. Only sums, products
    /// and quotients, so that every machine finds the same.
    fn line(&self) -> i64 {
        let Some(newest) = self.marks.front() else {
            return self.before;
        };
        let points = self.marks.iter().map(|mark| {
            let spread = (mark.half as f64 / USUALLY_NEARER).max(1.0);
            let seconds = micros(newest.at.since(mark.at)) as f64 / -1e6;
            let distance = (mark.offset - newest.offset) as f64;
            (1.0 / (spread * spread), seconds, distance)
        });
        let (mut weight, mut seconds, mut distance) = (0.0, 0.0, 0.0);
        for (w, s, d) in points.clone() {
            weight += w;
            seconds += w * s;
            distance += w * d;
        }
        (seconds, distance) = (seconds / weight, distance / weight);
        let expected = 1.0 / (RATE_SPREAD * RATE_SPREAD);
        let (mut square, mut product) = (expected, expected * (self.before as f64 / 1e3));
        for (w, s, d) in points {
            square += w * (s - seconds) * (s - seconds);
            product += w * (s - seconds) * (d - distance);
        }
        (product / square * 1e3) as i64
    }
}

/// What two marks say of the rate.
fn between(older: &Sample, newer: &Sample) -> (i64, i64) {
    let us = i128::from(micros(newer.at.since(older.at)));
    if us == 0 {
        return (-RATE_MAX, RATE_MAX);
    }
    let ppb = |us_apart: i128| us_apart.saturating_mul(1_000_000_000) / us;
    let slope = ppb(newer.offset - older.offset);
    let give = ppb(i128::from(older.half) + i128::from(newer.half)) + i128::from(WANDER);
    let bound = |rate: i128| {
        let max = i128::from(RATE_MAX) * 2;
        i64::try_from(rate.clamp(-max, max)).unwrap_or(RATE_MAX)
    };
    (bound(slope - give), bound(slope + give))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Samples every quarter second of a reference that runs `ppm` fast, from `from` on.
    fn feed(window: &mut Window, from: u64, seconds: u64, ppm: i64, late: impl Fn(u64) -> u64) {
        for tick in 0..seconds * 4 {
            let us = from + tick * SECOND / 4;
            let round_trip = late(tick);
            window.push(Sample {
                at: Time::from_micros(us),
                // All the delay is on the way here, which the middle knows nothing of.
                offset: 5_000 + share(us, ppm * 1_000) - i128::from(round_trip / 2),
                half: round_trip / 2 + 1,
            });
        }
    }

    #[test]
    fn the_rate_is_found_within_its_bounds() {
        for ppm in [-400, -20, 0, 3, 200, 990] {
            let mut window = Window::new(0);
            feed(&mut window, SECOND, 64, ppm, |tick| {
                200 + tick * 7919 % 9_000
            });
            let rate = window.rate();
            let error = (rate.best - ppm * 1_000).abs();
            assert!(error < 10_000, "{ppm} ppm: {rate:?}");
            assert!((rate.low..=rate.high).contains(&(ppm * 1_000)), "{rate:?}");
            assert!(rate.uncertainty() < 100_000, "{rate:?}");
        }
    }

    #[test]
    fn the_interval_holds_the_truth_and_widens_with_age() {
        let mut window = Window::new(0);
        feed(&mut window, 0, 30, 150, |tick| {
            300 + tick * 104_729 % 20_000
        });
        let mut last = 0;
        for age in [0, 1, 10, 100, 1_000] {
            let now = (30 + age) * SECOND;
            let best = window
                .best(Time::from_micros(now))
                .expect("there are samples");
            let truth = 5_000 + share(now, 150_000);
            let error = (best.offset - truth).unsigned_abs();
            assert!(error <= u128::from(best.half), "{error} µs off, {best:?}");
            assert!(best.half > last, "no wider after {age} s");
            last = best.half;
        }
    }

    #[test]
    fn a_clock_that_changes_its_pace_is_followed() {
        let mut window = Window::new(0);
        feed(&mut window, 0, 60, 100, |_| 400);
        let joint = 60 * SECOND;
        let shift = share(joint, 100_000) - share(joint, -300_000);
        for tick in 0..120 {
            let us = joint + tick * SECOND / 4;
            window.push(Sample {
                at: Time::from_micros(us),
                offset: 5_000 + share(us, -300_000) + shift,
                half: 201,
            });
        }
        assert!(
            (window.rate().best + 300_000).abs() < 10_000,
            "{:?}",
            window.rate()
        );
        let now = joint + 30 * SECOND;
        let best = window
            .best(Time::from_micros(now))
            .expect("there are samples");
        let error = best.offset - (5_000 + share(now, -300_000) + shift);
        assert!(error.unsigned_abs() <= u128::from(best.half));
    }

    #[test]
    fn what_is_kept_is_bounded_and_absurd_samples_overflow_nothing() {
        let mut window = Window::new(i64::MAX);
        for (index, offset) in [i128::from(u64::MAX), 0, -i128::from(u64::MAX)]
            .into_iter()
            .cycle()
            .take(300)
            .enumerate()
        {
            window.push(Sample {
                at: Time::from_micros(index as u64 * 9 * SECOND),
                offset,
                half: u64::MAX,
            });
        }
        assert!(window.recent.len() <= RECENT_MAX && window.marks.len() <= MARKS_MAX);
        assert!(window.rate().best.abs() <= RATE_MAX);
        assert!(window.best(Time::MAX).is_some());
    }
}
