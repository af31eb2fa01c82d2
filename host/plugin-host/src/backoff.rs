//! How long a faulted plugin waits for its restart, and when it is given up.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The wait after the first fault; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The fault that ends the attempts.
const FAULTS_MAX: u32 = 5;

/// Running this long without a fault clears the count.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Counts faults of one plugin.
#[derive(Debug)]
pub(crate) struct Backoff {
    faults: u32,
    random: ChaCha12Rng,
}

impl Backoff {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            faults: 0,
            random: ChaCha12Rng::from_seed(seed),
        }
    }

    /// A fault at `now` of an instance that runs since `since`, or of one that never ran. Gives
    /// how long to wait, or nothing if the plugin is to be quarantined.
    pub(crate) fn fault(&mut self, since: Option<Instant>, now: Instant) -> Option<Duration> {
        if since.is_some_and(|since| now.saturating_duration_since(since) >= HEALTHY_AFTER) {
            self.faults = 0;
        }
        self.faults += 1;
        if self.faults >= FAULTS_MAX {
            return None;
        }
        let doubled = FIRST_WAIT
            .saturating_mul(1 << (self.faults - 1))
            .min(WAIT_MAX);
        // A leader that is back within 250 ms keeps its role, so the first wait only ever shrinks.
        let percent = if self.faults == 1 {
            80 + self.random.next_u32() % 16
        } else {
            80 + self.random.next_u32() % 41
        };
        Some(doubled * percent / 100)
    }

    /// The plugin's file changed: it starts with a clean record.
    pub(crate) fn clear(&mut self) {
        self.faults = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_the_fifth_fault_is_the_last() {
        let mut backoff = Backoff::new([1; 32]);
        let now = Instant::now();
        let within = |wait: Option<Duration>, from: u64, to: u64| {
            let millis = wait.expect("another attempt").as_millis() as u64;
            assert!((from..=to).contains(&millis), "{millis} ms");
        };
        within(backoff.fault(None, now), 160, 190);
        within(backoff.fault(Some(now), now), 320, 480);
        within(backoff.fault(Some(now), now), 640, 960);
        within(backoff.fault(Some(now), now), 1280, 1920);
        assert_eq!(backoff.fault(Some(now), now), None);
    }

    #[test]
    fn a_healthy_minute_clears_the_count() {
        let mut backoff = Backoff::new([1; 32]);
        let start = Instant::now();
        for fault in 0..20 {
            let now = start + Duration::from_secs(60 * (fault + 1));
            let since = now - Duration::from_secs(60);
            assert!(backoff.fault(Some(since), now).is_some());
        }
    }
}
