//! Log lines that would repeat without end, told once a minute with their number.

use std::time::Duration;

use consort_proto::Time;

const INTERVAL: Duration = Duration::from_secs(60);

/// When something was last told, and how often it happened since.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet {
    told: Option<Time>,
    untold: u64,
}

impl Quiet {
    /// It happened once more. Returns how often since the last time told, if it is to be told.
    pub(crate) fn tell(&mut self, now: Time) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.since(told) < INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_first_and_then_once_a_minute() {
        let mut quiet = Quiet::default();
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        assert_eq!(quiet.tell(at(5)), Some(1));
        assert_eq!(quiet.tell(at(6)), None);
        assert_eq!(quiet.tell(at(64)), None);
        assert_eq!(quiet.tell(at(65)), Some(3));
        assert_eq!(quiet.tell(at(200)), Some(1));
    }
}
