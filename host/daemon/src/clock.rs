//! The daemon's one reader of clocks.
//!
//! The monotonic clock is the suspend-aware one, so that a laptop that slept knows how long it was
//! away. The wall clock enters the protocol twice only: when the node is made, and when
//! [`WallWatch`] finds that it was set, which shows as the distance between the two clocks
//! changing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use consort_proto::{ClockView, Time};
use nix::time::{ClockId, clock_gettime};

use crate::plugins::{ClockReading, GroupClock};

#[cfg(any(target_os = "linux", target_os = "android"))]
const MONOTONIC: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MONOTONIC: ClockId = ClockId::CLOCK_MONOTONIC;

/// A change of the distance between wall clock and monotonic clock beyond this is a jump. NTP
/// daemons slew below 128 ms and step above, so that slewing never counts as one.
const WALL_JUMP_US: u64 = 500_000;

/// The monotonic clock, suspend included.
#[must_use]
pub fn now() -> Time {
    Time::from_micros(read(MONOTONIC))
}

/// The wall clock, in microseconds since the Unix epoch.
#[must_use]
pub fn wall_us() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Reads a clock in microseconds; times before its origin count as its origin.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("both clocks exist on every supported system");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanos / 1_000)
}

/// Notices when the wall clock was set.
#[derive(Debug)]
pub struct WallWatch {
    /// Wall clock less monotonic clock at the last jump, or at the start.
    distance_us: i128,
}

impl WallWatch {
    /// Begins to watch, with both clocks read at the same instant.
    #[must_use]
    pub fn new(now: Time, wall_us: u64) -> Self {
        Self {
            distance_us: distance(now, wall_us),
        }
    }

    /// Compares the clocks; returns by how many microseconds the wall clock was set since the last
    /// jump, if that is more than half a second.
    pub fn check(&mut self, now: Time, wall_us: u64) -> Option<i128> {
        let moved = distance(now, wall_us) - self.distance_us;
        if moved.unsigned_abs() <= u128::from(WALL_JUMP_US) {
            return None;
        }
        self.distance_us += moved;
        Some(moved)
    }
}

fn distance(now: Time, wall_us: u64) -> i128 {
    i128::from(wall_us) - i128::from(now.as_micros())
}

/// How far ahead a plugin's timers are reckoned by group time, and by how much they may be off
/// then: whoever waits longer looks again (`SLEEP_MAX` of the plugin host).
const TIMERS_AHEAD: Duration = Duration::from_secs(60);
const TIMERS_OFF_US: u64 = 20;

/// Group time for the plugins' threads: the node's latest view of it, read against the monotonic
/// clock.
#[derive(Debug)]
pub struct SharedClock {
    shown: Mutex<Shown>,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    view: ClockView,
    /// The view that timers were last reckoned by.
    told: ClockView,
}

impl SharedClock {
    /// A clock that shows the device's own wall time until the node says more.
    #[must_use]
    pub const fn new(now: Time, wall_us: u64) -> Self {
        let view = ClockView::free_running(now, wall_us);
        Self {
            shown: Mutex::new(Shown { view, told: view }),
        }
    }

    /// Takes the node's new view. Returns whether timers must be looked at again, which a view that
    /// only states another bound does not ask for.
    #[must_use]
    pub fn set(&self, now: Time, view: ClockView) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.view = view;
        let off = |at: Time| view.group_time(at).abs_diff(shown.told.group_time(at));
        let moved = off(now).max(off(now + TIMERS_AHEAD)) > TIMERS_OFF_US;
        if moved {
            shown.told = view;
        }
        moved
    }

    /// The node's latest view.
    #[must_use]
    pub fn view(&self) -> ClockView {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.view
    }
}

impl GroupClock for SharedClock {
    fn reading(&self) -> ClockReading {
        let view = self.view();
        let now = now();
        ClockReading {
            group_time_us: view.group_time(now),
            synchronised: view.synchronised,
            error_bound_us: view.error_bound_at(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_advances_with_real_time() {
        let before = now();
        std::thread::sleep(Duration::from_millis(20));
        let passed = now().since(before);
        assert!(passed >= Duration::from_millis(20), "{passed:?}");
        assert!(passed < Duration::from_secs(20), "{passed:?}");
    }

    #[test]
    fn only_a_set_wall_clock_is_a_jump_and_it_is_told_once() {
        let at = Time::from_micros;
        let mut watch = WallWatch::new(at(1_000_000), 5_000_000);
        assert_eq!(watch.check(at(2_000_000), 6_000_000), None);
        assert_eq!(watch.check(at(3_000_000), 7_400_000), None, "slewed");
        assert_eq!(watch.check(at(4_000_000), 8_600_000), Some(600_000));
        assert_eq!(watch.check(at(5_000_000), 9_600_000), None, "told already");
        assert_eq!(watch.check(at(6_000_000), 0), Some(-10_600_000));
    }

    #[test]
    fn plugins_read_the_latest_view() {
        let clock = SharedClock::new(now(), 7_000_000);
        let first = clock.reading();
        assert!(!first.synchronised);
        assert!(
            (7_000_000..8_000_000).contains(&first.group_time_us),
            "{first:?}"
        );
        let at = now();
        let view = ClockView {
            group_at: 90_000_000,
            synchronised: true,
            error_bound: 250,
            bound_ppb: 1_000_000_000,
            ..ClockView::free_running(at, 0)
        };
        assert!(clock.set(at, view), "it is another time");
        std::thread::sleep(Duration::from_millis(5));
        let second = clock.reading();
        assert!(second.synchronised);
        let grown = second.error_bound_us;
        assert!((5_250..1_000_000).contains(&grown), "it grows: {grown}");
        assert!(
            (90_000_000..91_000_000).contains(&second.group_time_us),
            "{second:?}"
        );
    }

    #[test]
    fn timers_are_looked_at_when_their_time_moves() {
        let at = Time::from_micros(5_000_000);
        let clock = SharedClock::new(at, 7_000_000);
        let own = ClockView::free_running(at, 7_000_000);
        let bounded = ClockView {
            synchronised: true,
            error_bound: 9,
            ..own
        };
        assert!(!clock.set(at, bounded), "timers stay where they are");
        let mut rate_ppb = 0;
        let mut told = 0;
        for _ in 0..10 {
            rate_ppb += 100;
            told += u32::from(clock.set(at, ClockView { rate_ppb, ..own }));
        }
        assert_eq!(told, 2, "once for each 20 µs a minute ahead");
    }
}
