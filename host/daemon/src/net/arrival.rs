//! When datagrams arrived, by the monotonic clock.
//!
//! Linux stamps a datagram by the wall clock when it comes in (`SO_TIMESTAMPNS`, socket(7)), which
//! leaves out what a busy program adds before it reads it. The stamp's age by the wall clock at the
//! reading, taken off the monotonic clock then, is the time of arrival. A stamp counts only if the
//! two clocks have kept their distance since the datagram before, so that nobody has set the wall
//! clock meanwhile, and if it lies in the last second. Else the time of the reading is taken, as it
//! is where there are no stamps.

use consort_proto::Time;

use crate::clock;

/// The oldest stamp that counts, in microseconds.
const AGE_MAX: u64 = 1_000_000;
/// By how much the wall clock may have moved against the monotonic one from one datagram to the
/// next, in microseconds. It is slewed by at most 500 parts in a million.
const MOVED_MAX: u64 = 500;

/// Turns stamps into times.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Wall clock less monotonic clock, in microseconds, at the last datagram.
    distance: i128,
}

impl Arrivals {
    /// When a datagram arrived that was read just now. `stamp` is in microseconds since the Unix
    /// epoch.
    pub(super) fn time(&mut self, stamp: Option<u64>) -> Time {
        let now = clock::now();
        match stamp {
            Some(stamp) => self.reckon(now, clock::wall_us(), stamp),
            None => now,
        }
    }

    fn reckon(&mut self, now: Time, wall: u64, stamp: u64) -> Time {
        let distance = i128::from(wall) - i128::from(now.as_micros());
        let before = core::mem::replace(&mut self.distance, distance);
        let moved = (distance - before).unsigned_abs();
        match wall.checked_sub(stamp) {
            Some(age) if age <= AGE_MAX && moved <= MOVED_MAX.into() => {
                Time::from_micros(now.as_micros().saturating_sub(age))
            }
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_counts_while_the_clocks_keep_their_distance() {
        let mut arrivals = Arrivals::default();
        let at = Time::from_micros;
        let mut reckon = |now, wall, stamp| arrivals.reckon(at(now), wall, stamp).as_micros();
        assert_eq!(
            reckon(5_000, 90_005_000, 90_004_000),
            5_000,
            "no distance yet"
        );
        assert_eq!(reckon(6_000, 90_006_000, 90_005_900), 5_900);
        assert_eq!(reckon(7_000, 90_007_040, 90_006_740), 6_700, "slewed");
        assert_eq!(
            reckon(8_000, 90_008_040, 90_008_041),
            8_000,
            "of the future"
        );
        assert_eq!(
            reckon(9_000_000, 99_000_040, 97_900_000),
            9_000_000,
            "too old"
        );
        assert_eq!(reckon(9_001_000, 99_301_040, 99_000_900), 9_001_000, "set");
        assert_eq!(reckon(9_002_000, 99_302_040, 99_301_940), 9_001_900);
        assert_eq!(reckon(9_003_000, 3_040, 99_302_940), 9_003_000, "set back");
    }
}
