//! Many plans, each drawn from a seed and run: what a scenario's author did not think of.
//!
//! [`draw`] makes a plan of a seed, [`swarm`] runs a row of seeds on several threads, and
//! [`minimise`] cuts a plan that breaks a property down. Which seeds are run decides the outcome,
//! the number of threads does not.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::plan::{Plan, RunOptions, run_plan};
use crate::seed::{Seed, mix};

mod draw;
mod minimise;

pub use draw::draw;
pub use minimise::{Shortest, minimise};

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct SwarmOptions {
    /// The first seed; the others follow it one by one.
    pub first: Seed,
    /// How many.
    pub runs: u64,
    /// On how many threads; at least one.
    pub threads: usize,
    /// How many runs may be spent on cutting one failure down.
    pub budget: u32,
    /// After how many failures no further seeds are run.
    pub failures_max: usize,
}

impl SwarmOptions {
    /// `runs` seeds from `first` on, on all cores.
    #[must_use]
    pub fn new(first: Seed, runs: u64) -> Self {
        Self {
            first,
            runs,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            budget: 80,
            failures_max: 3,
        }
    }
}

/// What a swarm showed.
#[derive(Clone, Debug, Default)]
pub struct SwarmReport {
    /// How many seeds were run.
    pub runs: u64,
    /// How much virtual time they took together.
    pub simulated: Duration,
    /// How often a leader changed.
    pub leader_changes: u64,
    /// How often parts came together and agreed.
    pub heals: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Over the hashes of all runs.
    pub hash: u64,
    /// Seeds that broke a property, the lowest first.
    pub failures: Vec<Failure>,
}

/// A seed that broke a property.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: Seed,
    /// The plan drawn from it.
    pub plan: Plan,
    /// The shortest plan found that breaks the same property.
    pub shortest: Shortest,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.shortest.outcome;
        for violation in &outcome.violations {
            writeln!(
                f,
                "seed {}: {} at {}",
                self.seed, violation.what, violation.at
            )?;
        }
        writeln!(f, "the last of the trace:")?;
        for line in &outcome.notable {
            writeln!(f, "  | {line}")?;
        }
        f.write_str(&outcome.state)?;
        let runs = self.shortest.runs;
        writeln!(f, "the shortest plan found in {runs} runs:\n")?;
        for line in self.shortest.plan.to_toml().lines() {
            writeln!(f, "    {line}")?;
        }
        writeln!(
            f,
            "\nreplay: cargo xtask swarm --seeds 1 --seed {}",
            self.seed
        )
    }
}

/// Runs a row of seeds. `done` hears how many were run so far, from any thread.
pub fn swarm(options: &SwarmOptions, done: impl Fn(u64) + Sync) -> SwarmReport {
    let (next, finished) = (AtomicU64::new(0), AtomicU64::new(0));
    let enough = AtomicBool::new(false);
    let results = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.runs {
                        break;
                    }
                    let seed = Seed(options.first.0.wrapping_add(number));
                    let failures = results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .failures
                        .len();
                    let run = one(seed, options.budget);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.take(number, run);
                    if failures >= options.failures_max {
                        enough.store(true, Ordering::Relaxed);
                    }
                    drop(results);
                    done(finished.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.report()
}

/// One run.
#[derive(Debug)]
struct Run {
    report: SwarmReport,
    failure: Option<Failure>,
}

fn one(seed: Seed, budget: u32) -> Run {
    let plan = draw(seed);
    let outcome = run_plan(&plan, seed, RunOptions::default());
    let report = SwarmReport {
        runs: 1,
        simulated: outcome.summary.simulated,
        leader_changes: outcome.summary.leader_changes,
        heals: outcome.summary.heals as u64,
        datagrams: outcome.stats.datagrams,
        hash: outcome.trace_hash,
        failures: Vec::new(),
    };
    let failed = !outcome.violations.is_empty();
    let shortest = failed.then(|| minimise(&plan, seed, budget)).flatten();
    Run {
        report,
        failure: shortest.map(|shortest| Failure {
            seed,
            plan,
            shortest,
        }),
    }
}

#[derive(Debug, Default)]
struct Results {
    sums: SwarmReport,
    hashes: BTreeMap<u64, u64>,
    failures: BTreeMap<u64, Failure>,
}

impl Results {
    fn take(&mut self, number: u64, run: Run) {
        self.sums.runs += 1;
        self.sums.simulated += run.report.simulated;
        self.sums.leader_changes += run.report.leader_changes;
        self.sums.heals += run.report.heals;
        self.sums.datagrams += run.report.datagrams;
        self.hashes.insert(number, run.report.hash);
        self.failures
            .extend(run.failure.map(|failure| (number, failure)));
    }

    fn report(self) -> SwarmReport {
        SwarmReport {
            hash: self.hashes.values().fold(0, |hash, run| mix(hash ^ run)),
            failures: self.failures.into_values().collect(),
            ..self.sums
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let run = |threads| {
            let options = SwarmOptions {
                threads,
                ..SwarmOptions::new(Seed(7), 6)
            };
            swarm(&options, |_| {})
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.runs, 6);
        assert_eq!((one.hash, one.simulated), (three.hash, three.simulated));
        assert_eq!((one.datagrams, one.heals), (three.datagrams, three.heals));
    }
}
