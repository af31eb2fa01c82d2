//! Times, and what is said of them.

use std::time::Duration;

/// Some durations.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Prints one line: the name, the number of samples, and how they are spread.
    pub(crate) fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let at = |percent: usize| match (self.0.len() * percent).div_ceil(100) {
            0 => 0.0,
            rank => self.0[rank - 1].as_secs_f64() * 1e3,
        };
        println!(
            "{name}: {} samples, p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
            self.0.len(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
    }
}
