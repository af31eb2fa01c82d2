//! Many plans, each drawn from a seed and run: what a scenario's author did not think of.
//!
//! [`draw`] makes a plan of a seed, [`swarm`] runs a row of seeds on several threads, and
//! [`minimise`] cuts a plan that breaks a property down. Which seeds are asked for decides the
//! outcome, the number of threads does not.

use core::fmt;
use core::time::Duration;

use crate::plan::{Plan, RunOptions, run_plan};
use crate::seed::{Seed, mix};

mod draw;
mod minimise;
mod row;

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
    /// With how many failures the row ends: what comes after the last of them is left out. At least
    /// one.
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
    /// Seeds that broke a property, in the order in which seeds follow each other.
    pub failures: Vec<Failure>,
}

/// A seed that broke a property. As text it says all but the command that replays it, which depends
/// on who runs the swarm.
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
        Ok(())
    }
}

/// Runs a row of seeds. `done` hears how many were run so far, from any thread.
pub fn swarm(options: &SwarmOptions, done: impl Fn(u64) + Sync) -> SwarmReport {
    let bounds = row::Bounds {
        runs: options.runs,
        threads: options.threads,
        failures_max: options.failures_max,
    };
    let one = |number| one(Seed(options.first.0.wrapping_add(number)), options.budget);
    let row = row::run(bounds, one, done);
    let mut report = SwarmReport::default();
    for figures in row.results {
        report.add(&figures);
    }
    report.failures = row.failures;
    report
}

/// What one run adds to the report.
#[derive(Clone, Copy, Debug)]
struct Figures {
    simulated: Duration,
    leader_changes: u64,
    heals: u64,
    datagrams: u64,
    hash: u64,
}

fn one(seed: Seed, budget: u32) -> (Figures, Option<Failure>) {
    let plan = draw(seed);
    let outcome = run_plan(&plan, seed, RunOptions::default());
    let figures = Figures {
        simulated: outcome.summary.simulated,
        leader_changes: outcome.summary.leader_changes,
        heals: outcome.summary.heals as u64,
        datagrams: outcome.stats.datagrams,
        hash: outcome.trace_hash,
    };
    let failed = !outcome.violations.is_empty();
    let shortest = failed.then(|| minimise(&plan, seed, budget)).flatten();
    let failure = shortest.map(|shortest| Failure {
        seed,
        plan,
        shortest,
    });
    (figures, failure)
}

impl SwarmReport {
    fn add(&mut self, run: &Figures) {
        self.runs += 1;
        self.simulated += run.simulated;
        self.leader_changes += run.leader_changes;
        self.heals += run.heals;
        self.datagrams += run.datagrams;
        self.hash = mix(self.hash ^ run.hash);
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
