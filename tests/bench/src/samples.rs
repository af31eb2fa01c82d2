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
            0 => shown(Duration::ZERO),
            rank => shown(self.0[rank - 1]),
        };
        println!(
            "{name}: {} samples, p50 {}, p90 {}, p99 {}, most {}",
            self.0.len(),
            at(50),
            at(90),
            at(99),
            at(100)
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
