//! Group time: one clock for all members, with the system group's leader as reference.
//!
//! Group time belongs to an *era*, a random number made with the clock's first reference, from that
//! device's wall clock. Within an era group time never runs back and never jumps: a follower slews
//! towards the reference, and a new reference carries on from its own estimate. A device that meets
//! another era, because it booted alone, takes the other over with one step, or by slewing where
//! that lies behind by a few milliseconds only.
//!
//! A follower's samples come with heartbeats: the reference's group time when it sent, and the
//! round trip of the stamp that the heartbeat returns. Of the last samples the one with the smallest
//! round trip counts, since queues only ever add to it (the filter of NTP, RFC 5905, section 10).

use core::time::Duration;
use std::collections::VecDeque;

use crate::event::ClockView;
use crate::time::{Time, micros};

/// Samples kept, and for how long.
const SAMPLES_MAX: usize = 16;
const SAMPLES_FOR: Duration = Duration::from_secs(3);
/// The fastest slew. A watch drifts 20 to 200 ppm; five times that catches up quickly and is still
/// far below what anyone sees or hears.
const RATE_PPM_MAX: i64 = 1000;
/// In how long a remaining error is slewed away where the rate allows.
const SLEW_OVER_SECS: i64 = 2;
/// Another era that lies behind by no more than this is slewed to, in microseconds: devices whose
/// wall clocks agree start together without starting their plugins anew.
const BACK_SLEWED_MAX: u64 = 10_000;
/// Errors below this are left alone, in microseconds.
const CLOSE_ENOUGH: i64 = 5;

/// What happened to group time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It follows another line from here on.
    Changed(ClockView),
    /// It was set back by this much.
    SetBack(Duration),
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    /// Group time minus monotonic time.
    offset: i128,
    round_trip: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GroupClock {
    era: u64,
    view: ClockView,
    samples: VecDeque<Sample>,
    outputs: VecDeque<Output>,
}

impl GroupClock {
    pub(crate) fn new(now: Time, wall: u64, era: u64) -> Self {
        let view = ClockView {
            at: now.as_micros(),
            group_at: wall,
            rate_ppm: 0,
            synchronised: false,
            error_bound: u64::MAX,
        };
        Self {
            era,
            view,
            samples: VecDeque::new(),
            outputs: VecDeque::from([Output::Changed(view)]),
        }
    }

    /// This device is the reference from here on: its own estimate carries on, unslewed.
    pub(crate) fn lead(&mut self, now: Time) {
        self.samples.clear();
        self.set(now, self.view.group_time(now), 0, Some(0));
    }

    /// No reference is known.
    pub(crate) fn lose(&mut self, now: Time) {
        self.samples.clear();
        self.set(now, self.view.group_time(now), 0, None);
    }

    /// Era and group time at `now`, for a heartbeat.
    pub(crate) fn reading(&self, now: Time) -> (u64, u64) {
        (self.era, self.view.group_time(now))
    }

    /// The reference's group time was `theirs` half a round trip of `round_trip` microseconds ago.
    pub(crate) fn sample(&mut self, now: Time, era: u64, theirs: u64, round_trip: u32) {
        let at_receipt = theirs.saturating_add(u64::from(round_trip / 2));
        if era != self.era {
            self.adopt(now, era, at_receipt, round_trip);
            return;
        }
        let offset = i128::from(at_receipt) - i128::from(now.as_micros());
        self.samples
            .retain(|sample| now.since(sample.at) < SAMPLES_FOR);
        self.samples.truncate(SAMPLES_MAX - 1);
        self.samples.push_front(Sample {
            at: now,
            offset,
            round_trip,
        });
        let Some(best) = self.samples.iter().min_by_key(|sample| sample.round_trip) else {
            return;
        };
        let (best_offset, bound) = (best.offset, u64::from(best.round_trip / 2));
        let group = self.view.group_time(now);
        let error = best_offset + i128::from(now.as_micros()) - i128::from(group);
        let error = i64::try_from(error).unwrap_or(i64::MAX);
        let rate = if error.abs() <= CLOSE_ENOUGH {
            0
        } else {
            (error / SLEW_OVER_SECS).clamp(-RATE_PPM_MAX, RATE_PPM_MAX)
        };
        self.set(
            now,
            group,
            rate as i32,
            Some(bound.saturating_add(error.unsigned_abs())),
        );
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Another era was found: one step.
    fn adopt(&mut self, now: Time, era: u64, group: u64, round_trip: u32) {
        let before = self.view.group_time(now);
        self.era = era;
        self.samples.clear();
        if (1..=BACK_SLEWED_MAX).contains(&before.saturating_sub(group)) {
            let bound = u64::from(round_trip / 2) + (before - group);
            self.set(now, before, 0, Some(bound));
            return;
        }
        self.set(now, group, 0, Some(u64::from(round_trip / 2)));
        if group < before {
            let by = Duration::from_micros(before - group);
            tracing::warn!(
                back_ms = by.as_millis() as u64,
                "group time was set back to join the group's"
            );
            self.outputs.push_back(Output::SetBack(by));
        } else {
            let by = Duration::from_micros(group - before);
            tracing::info!(
                forward_ms = by.as_millis() as u64,
                "group time was set to the group's"
            );
        }
    }

    fn set(&mut self, now: Time, group: u64, rate_ppm: i32, bound: Option<u64>) {
        let view = ClockView {
            at: now.as_micros(),
            group_at: group,
            rate_ppm,
            synchronised: bound.is_some(),
            error_bound: bound.unwrap_or(u64::MAX),
        };
        let line = |view: &ClockView| (view.rate_ppm, view.synchronised, view.error_bound);
        let changed = line(&view) != line(&self.view) || group != self.view.group_time(now);
        // The same line keeps its origin, else this device's rounding would differ from that of
        // whoever was told of the line.
        if changed {
            self.view = view;
            self.outputs.push_back(Output::Changed(view));
        }
    }
}

/// The device's wall clock, from its value at one time and the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    at: Time,
    wall: u64,
}

impl WallClock {
    pub(crate) fn new(at: Time, wall: u64) -> Self {
        Self { at, wall }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now(&self, now: Time) -> u64 {
        self.wall.saturating_add(micros(now.since(self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn a_follower_slews_to_the_quickest_sample_and_never_steps_back() {
        let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
        let truth = |now: Time| 1_000_000_500 + now.as_micros();
        let mut last = 0;
        for tick in 0..200 {
            let now = at(tick * 250);
            let late = if tick % 3 == 0 { 100 } else { 20_000 };
            clock.sample(now, 7, truth(now) - u64::from(late) / 2, late);
            let group = clock.view.group_time(now);
            assert!(group >= last, "ran back at tick {tick}");
            last = group;
        }
        let now = at(200 * 250);
        let error = clock.view.group_time(now).abs_diff(truth(now));
        assert!(error <= 10, "still off by {error} µs");
        assert!(clock.view.synchronised);
    }

    #[test]
    fn another_era_is_taken_over_with_one_step() {
        let mut clock = GroupClock::new(at(0), 2_000_000_000, 7);
        clock.poll();
        clock.sample(at(10), 8, 1_000_000_000, 200);
        assert_eq!(clock.view.group_time(at(10)), 1_000_000_100);
        assert!(matches!(clock.poll(), Some(Output::Changed(_))));
        assert!(matches!(clock.poll(), Some(Output::SetBack(_))));
        assert_eq!(clock.reading(at(10)).0, 8);
    }

    #[test]
    fn an_era_a_few_milliseconds_behind_is_slewed_to() {
        let mut clock = GroupClock::new(at(0), 2_000_000_000, 7);
        clock.sample(at(0), 8, 2_000_000_000 - 5_000, 200);
        assert_eq!(clock.reading(at(0)), (8, 2_000_000_000));
        let mut last = 0;
        for tick in 1..80 {
            let now = at(tick * 250);
            clock.sample(now, 8, 1_999_995_000 + now.as_micros(), 200);
            let group = clock.view.group_time(now);
            assert!(group >= last);
            last = group;
        }
        assert!(last.abs_diff(1_999_995_100 + 79 * 250_000) <= 10, "{last}");
        assert!(
            !clock
                .outputs
                .iter()
                .any(|output| matches!(output, Output::SetBack(_)))
        );
    }

    #[test]
    fn a_new_reference_carries_on() {
        let mut clock = GroupClock::new(at(0), 1_000_000, 7);
        clock.sample(at(0), 9, 5_000_000_000, 100);
        let before = clock.view.group_time(at(1000));
        clock.lead(at(1000));
        assert_eq!(clock.view.group_time(at(1000)), before);
        assert_eq!(clock.reading(at(1000)).0, 9);
    }
}
