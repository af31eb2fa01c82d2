//! The daemon's one reader of clocks.
//!
//! The monotonic clock is the suspend-aware one, so that a laptop that slept knows how long it was
//! away. The wall clock enters the protocol twice only: when the node is made, and when
//! [`WallWatch`] finds that it was set, which shows as the distance between the two clocks
//! changing.

use std::sync::{Mutex, PoisonError};

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

/// Group time for the plugins' threads: the node's latest view of it, read against the monotonic
/// clock.
#[derive(Debug)]
pub struct SharedClock {
    view: Mutex<ClockView>,
}

impl SharedClock {
    /// A clock that shows the device's own wall time until the node says more.
    #[must_use]
    pub const fn new(now: Time, wall_us: u64) -> Self {
        let view = ClockView {
            at: now.as_micros(),
            group_at: wall_us,
            rate_ppm: 0,
            synchronised: false,
            error_bound: u64::MAX,
        };
        Self {
            view: Mutex::new(view),
        }
    }

    /// Takes the node's new view.
    pub fn set(&self, view: ClockView) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The node's latest view.
    #[must_use]
    pub fn view(&self) -> ClockView {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupClock for SharedClock {
    fn reading(&self) -> ClockReading {
        let view = self.view();
        ClockReading {
            group_time_us: view.group_time(now()),
            synchronised: view.synchronised,
            error_bound_us: view.error_bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        clock.set(ClockView {
            at: now().as_micros(),
            group_at: 90_000_000,
            rate_ppm: 0,
            synchronised: true,
            error_bound: 250,
        });
        let second = clock.reading();
        assert!(second.synchronised);
        assert_eq!(second.error_bound_us, 250);
        assert!(
            (90_000_000..91_000_000).contains(&second.group_time_us),
            "{second:?}"
        );
    }
}
