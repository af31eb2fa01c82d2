//! A warning whose cause lasts is said at once, and from then on now and again with a count.

use std::time::{Duration, Instant};

/// How long a warning is not said again.
const QUIET: Duration = Duration::from_secs(60);

/// What keeps happening for one cause.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    said_at: Option<Instant>,
    /// How often it has happened since it was said.
    unsaid: u64,
}

impl Repeats {
    /// It happened. If it is to be said, gives how often it did since it was said the last time,
    /// this time included.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said_at.is_some_and(|said| now < said + QUIET) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_once_a_minute_with_their_number() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        // Every 250 ms for two minutes and a half.
        let said: Vec<(u64, u64)> = (0..600)
            .map(|tick| tick * 250)
            .filter_map(|ms| Some((ms, repeats.note(start + Duration::from_millis(ms))?)))
            .collect();
        assert_eq!(said, [(0, 1), (60_000, 240), (120_000, 240)]);
    }
}
