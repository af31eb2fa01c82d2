//! Times, and what is said of them.

use std::time::Duration;

/// Some durations.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The least that is not exceeded by so many percent of the samples.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        match (self.0.len() * percent).div_ceil(100) {
            0 => Duration::ZERO,
            rank => self.0[rank - 1],
        }
    }

    /// Prints one line: the name, the number of samples, and how they are spread.
    pub(crate) fn print(mut self, name: &str) {
        let [p50, p90, p99, most] = [50, 90, 99, 100].map(|percent| self.percentile(percent));
        println!(
            "{name}: {} samples, p50 {}, p90 {}, p99 {}, most {}",
            self.0.len(),
            shown(p50),
            shown(p90),
            shown(p99),
            shown(most)
        );
    }
}

/// Three digits or a few more.
fn shown(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else if ms >= 1.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.0} µs", ms * 1e3)
    }
}
