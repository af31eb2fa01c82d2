//! `consort sim --swarm`: scenarios drawn from a row of seeds.

use std::fmt;
use std::io::IsTerminal as _;

use consort_sim::swarm::{SwarmOptions, SwarmReport, swarm};
use serde::Serialize;

use super::{Args, SimError, scenario};
use crate::cli::{CliError, output};

/// How often a terminal is told how far it is.
const TELL_EVERY: u64 = 100;

/// The figures of a swarm. `docs/schemas/sim-swarm.schema.json` describes each.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    seed: String,
    runs: u64,
    simulated_s: u64,
    leader_changes: u64,
    heals: u64,
    datagrams: u64,
    violations: usize,
    failed_seeds: Vec<String>,
}

impl Report {
    fn new(options: &SwarmOptions, report: &SwarmReport) -> Self {
        let failed = report.failures.iter();
        Self {
            v: 1,
            seed: options.first.to_string(),
            runs: report.runs,
            simulated_s: report.simulated.as_secs(),
            leader_changes: report.leader_changes,
            heals: report.heals,
            datagrams: report.datagrams,
            violations: report.failures.len(),
            failed_seeds: failed.map(|failure| failure.seed.to_string()).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} scenarios from seed {} on, {} simulated seconds in all",
            self.runs, self.seed, self.simulated_s
        )?;
        writeln!(f, "leader changes    {}", self.leader_changes)?;
        writeln!(f, "heals             {}", self.heals)?;
        writeln!(f, "datagrams         {}", self.datagrams)?;
        match self.failed_seeds.as_slice() {
            [] => write!(f, "nothing forbidden happened"),
            seeds => write!(f, "something forbidden happened with {}", seeds.join(", ")),
        }
    }
}

/// Runs `runs` seeds on all cores.
pub(super) fn run(args: &Args, runs: u32) -> Result<(), CliError> {
    let first = match args.seed {
        Some(seed) => seed,
        None => scenario::random_seed()?,
    };
    let options = SwarmOptions::new(first, runs.into());
    let watched = std::io::stderr().is_terminal();
    let report = swarm(&options, |done| {
        if watched && done.is_multiple_of(TELL_EVERY) {
            output::note(&format!("{done} of {runs}"));
        }
    });
    for failure in &report.failures {
        let replay = format!("replay: consort sim --swarm 1 --seed {}", failure.seed);
        output::note(&format!("{failure}\n{replay}"));
    }
    output::result(&Report::new(&options, &report), args.json)?;
    match report.failures.len() {
        0 => Ok(()),
        failed => Err(SimError::Violated(format!(
            "{failed} of {} scenarios break a property",
            report.runs
        ))
        .into()),
    }
}
