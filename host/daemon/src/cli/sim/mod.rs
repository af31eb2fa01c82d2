//! `consort sim`: a whole group in virtual time, from one seed.
//!
//! The devices run the daemon's protocol over a simulated network; the same seed and the same
//! flags give the same output to the byte. What may happen and what must not is decided by
//! [`consort_sim`]; this command makes its plan from flags and a file ([`scenario`]), tells what
//! came of it ([`report`]) and draws it ([`picture`]). With `--swarm` the plans are drawn too
//! ([`many`]). With a plugin's file, that plugin's own code runs on every device ([`plugin`]).

mod many;
mod picture;
mod plugin;
mod report;
mod scenario;

use std::path::PathBuf;

use consort_sim::{Outcome, Plan, PlanError, RunOptions, Seed, run_hosted, run_plan};
use thiserror::Error;

use self::plugin::Played;
use self::report::Report;
use super::plugin::PluginError;
use super::{CliError, output};
use crate::exit_code::ExitCode;

const EXAMPLES: &str = "\
Examples:
  consort sim --nodes 10 --loss 20% --for 1h
  consort sim --scenario leader-dies.toml --seed 7 --plot run.svg
  consort sim --swarm 1000
  consort sim plugin.wasm --nodes 20 --seed 7 --loss 5% --for 10m
  consort sim myplugin/ --scenario leader-dies.toml --expect expect.toml --json

A run that breaks a property, or an expectation of the scenario, ends with exit code 7 and prints
the command that repeats it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Run this plugin's own code on every device: its file, or a folder with plugin.wasm and
    /// perhaps plugin.toml. Its log goes to standard output.
    #[arg(value_name = "FILE", conflicts_with = "swarm")]
    file: Option<PathBuf>,
    /// How many devices: 1 to 2000. Default: the scenario's, else 5.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// The number that decides the run, as 42 or 0x2a. Default: the scenario's, else a random one,
    /// which is printed.
    #[arg(long, value_name = "S")]
    seed: Option<Seed>,
    /// The share of datagrams that every link loses, as 20% or 0.2.
    #[arg(long, value_name = "P", value_parser = scenario::share)]
    loss: Option<f64>,
    /// How long a datagram takes at least, as 5ms.
    #[arg(long, value_name = "D", value_parser = scenario::duration)]
    delay: Option<std::time::Duration>,
    /// For how long, in virtual time, as 30s or 2h. Default: the scenario's, else 60s.
    #[arg(long = "for", value_name = "DUR", value_parser = scenario::duration)]
    duration: Option<std::time::Duration>,
    /// What goes wrong when, and what is expected; docs/simulator.md describes the form.
    #[arg(long, value_name = "FILE", conflicts_with = "swarm")]
    scenario: Option<PathBuf>,
    /// What is expected besides the scenario's own expectations: a file of [[expect]] tables.
    #[arg(long, value_name = "FILE", conflicts_with = "swarm")]
    expect: Option<PathBuf>,
    /// A value for the plugin's `config`, over its plugin.toml; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", requires = "file", value_parser = plugin::setting)]
    config: Vec<(String, String)>,
    /// Keep a core file of each instance of the plugin that traps in this folder, for debuggers; at
    /// most 16 and 512 MiB.
    #[arg(long, value_name = "FOLDER", requires = "file")]
    coredump: Option<PathBuf>,
    /// Run as many scenarios drawn at random, one per seed from --seed on.
    #[arg(long, value_name = "RUNS", value_parser = clap::value_parser!(u32).range(1..=10_000_000),
          conflicts_with_all = ["nodes", "loss", "delay", "duration", "plot"])]
    swarm: Option<u32>,
    /// Print the figures as one JSON object, the last line of standard output.
    #[arg(long)]
    json: bool,
    /// Draw the run into this file: a lane per device, who led whom, and what was broken when.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Why a simulation did not run, or did not go well.
#[derive(Debug, Error)]
pub(crate) enum SimError {
    /// The scenario could not be read.
    #[error("cannot read the scenario {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The scenario has no usable form.
    #[error("{}: {error}", path.display())]
    Scenario {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        error: PlanError,
    },
    /// The plugin cannot be run.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The flags make no plan.
    #[error("{0}")]
    Flags(PlanError),
    /// The picture could not be drawn.
    #[error("cannot draw {}: {why}", path.display())]
    Plot {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The operating system gave no random number for a seed.
    #[error("the system gives no random numbers; name a seed with --seed")]
    Random,
    /// A property broke.
    #[error("{0}")]
    Violated(String),
}

impl SimError {
    pub(super) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } | Self::Plot { .. } | Self::Random => ExitCode::Failed,
            Self::Plugin(PluginError::NoPlugin { .. } | PluginError::Manifest(_))
            | Self::Scenario { .. } => ExitCode::Config,
            Self::Plugin(_) => ExitCode::Failed,
            Self::Flags(_) => ExitCode::Usage,
            Self::Violated(_) => ExitCode::ExpectationNotMet,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(runs) = args.swarm {
        return many::run(args, runs);
    }
    let plan = scenario::plan(args)?;
    let seed = scenario::seed(args, &plan)?;
    let outcome = simulate(args, &plan, seed)?;
    if let Some(path) = &args.plot {
        let drawn = picture::draw(path, &plan, &outcome);
        drawn.map_err(|why| SimError::Plot {
            path: path.clone(),
            why,
        })?;
    }
    output::result(&Report::new(&outcome), args.json)?;
    match outcome.violations.first() {
        None => Ok(()),
        Some(violation) => {
            for line in &outcome.notable {
                output::note(&format!("  | {line}"));
            }
            output::note(&outcome.state);
            let replay = scenario::replay(args, seed);
            Err(SimError::Violated(format!(
                "at {}: {}\nreplay: {replay}",
                violation.at, violation.what
            ))
            .into())
        }
    }
}

/// Runs a plan, with the plugin's own code if a file is given.
fn simulate(args: &Args, plan: &Plan, seed: Seed) -> Result<Outcome, SimError> {
    let options = RunOptions::default();
    Ok(match &args.file {
        None => run_plan(plan, seed, options),
        Some(file) => {
            let played = Played::load(file, &args.config, args.coredump.as_deref())?;
            run_hosted(plan, seed, options, Box::new(played), plugin::audience())
        }
    })
}
