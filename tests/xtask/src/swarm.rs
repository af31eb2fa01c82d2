//! `cargo xtask swarm`: plans drawn from seeds, as many as asked for, on all cores.
//!
//! The runner is the test `swarm` of the scenarios, so that this and `cargo xtask test` run the
//! same code in the same profile. It says how many seeds it runs a second; a failure prints the
//! seed, the shortest plan that shows it and the command that replays it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::shell;
use crate::workspace::Workspace;

/// Which seeds.
#[derive(Clone, Debug, Args)]
pub(crate) struct SwarmArguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed, as in 42 or 0x2a; the others follow it one by one.
    #[arg(long, default_value = "1")]
    seed: String,
    /// On how many threads; all cores unless given.
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the swarm.
pub(crate) fn run(workspace: &Workspace, arguments: &SwarmArguments) -> Result<ExitCode> {
    let mut command = shell::cargo(
        &workspace.root,
        [
            "test",
            "-p",
            "consort-scenarios",
            "--test",
            "swarm",
            "-q",
            "--",
            "--nocapture",
        ],
    );
    command.env_remove("CONSORT_SEED");
    command.env("CONSORT_RUNS", arguments.seeds.to_string());
    command.env("CONSORT_FIRST", &arguments.seed);
    if let Some(threads) = arguments.threads {
        command.env("CONSORT_THREADS", threads.to_string());
    }
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
