//! How far this device trusts its own sense of time: the local health of Lifeguard
//! (arXiv 1707.00788, section IV).
//!
//! A device whose loop comes late hears late, and would take its own slowness for the others'
//! silence. Each time the loop comes late by 100 ms or more costs a point; a second in which it came
//! in time gives one back. From the second point on the device waits longer before it suspects
//! anyone: up to five times as long. So one hiccup changes nothing, and a device that is starved
//! becomes patient within a second or two.

use core::time::Duration;

use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Lateness from which the loop counts as lagging.
pub(crate) const LAG: Duration = Duration::from_millis(100);
const POINTS_MAX: u32 = 8;
const RECOVERY: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Health {
    points: u32,
    /// When the next point is given back.
    better_at: Time,
}

impl Health {
    /// The loop served a timeout `late`.
    pub(crate) fn served(&mut self, now: Time, late: Duration) {
        if late >= LAG && !mutant::is(Mutant::OwnSlownessIgnored) {
            self.points = POINTS_MAX.min(self.points + 1);
            self.better_at = now + RECOVERY;
        }
        while self.points > 0 && now >= self.better_at {
            self.points -= 1;
            self.better_at += RECOVERY;
        }
    }

    /// By how much this device's own timeouts are longer: 1 to 5.
    pub(crate) fn factor(&self) -> u32 {
        1 + self.points / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn one_hiccup_changes_nothing_and_many_are_bounded() {
        let mut health = Health::default();
        health.served(at(0), LAG);
        assert_eq!(health.factor(), 1);
        health.served(at(300), LAG);
        assert_eq!(health.factor(), 2);
        for n in 0..100 {
            health.served(at(600 + n * 300), Duration::from_millis(300));
        }
        assert_eq!(health.factor(), 5);
    }

    #[test]
    fn health_comes_back_with_time_served_punctually() {
        let mut health = Health::default();
        for n in 0..20 {
            health.served(at(n * 500), LAG);
        }
        let end = 19 * 500;
        health.served(at(end + 999), Duration::ZERO);
        assert_eq!(health.factor(), 5);
        health.served(at(end + 4_000), Duration::ZERO);
        assert_eq!(health.factor(), 3);
        health.served(at(end + 20_000), LAG - Duration::from_micros(1));
        assert_eq!(health.factor(), 1);
    }
}
