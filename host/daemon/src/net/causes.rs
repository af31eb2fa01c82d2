//! Failures of sockets that repeat without end, told once a minute per cause with their number.

use std::collections::BTreeMap;
use std::io;

use consort_proto::Time;

use super::quiet::Quiet;

/// Causes told apart; whatever else fails is told as one.
const CAUSES_MAX: usize = 32;

/// How often each cause was met. A cause is the system's error number.
#[derive(Debug, Default)]
pub(super) struct Causes {
    quiet: BTreeMap<Option<i32>, Quiet>,
}

impl Causes {
    /// It failed once more. Returns how often for this cause since the last time told, if it is to
    /// be told.
    pub(super) fn tell(&mut self, error: &io::Error, now: Time) -> Option<u64> {
        let cause = error.raw_os_error();
        let is_new = !self.quiet.contains_key(&cause);
        let cause = cause.filter(|_| !is_new || self.quiet.len() < CAUSES_MAX);
        self.quiet.entry(cause).or_default().tell(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn each_cause_is_told_once_a_minute() {
        let mut causes = Causes::default();
        let unreachable = io::Error::from_raw_os_error(101);
        let refused = io::Error::from_raw_os_error(1);
        assert_eq!(causes.tell(&unreachable, at(1)), Some(1));
        for _ in 0..500 {
            assert_eq!(causes.tell(&unreachable, at(2)), None);
        }
        assert_eq!(causes.tell(&refused, at(3)), Some(1), "another cause");
        assert_eq!(causes.tell(&unreachable, at(61)), Some(501));
    }

    #[test]
    fn many_causes_are_told_as_one() {
        let mut causes = Causes::default();
        let told = (0..1000).filter_map(|n| causes.tell(&io::Error::from_raw_os_error(n), at(1)));
        assert_eq!(told.count(), CAUSES_MAX + 1);
        assert_eq!(causes.quiet.len(), CAUSES_MAX + 1);
    }
}
