//! The one entry for chores: demo, tests, checks, benchmarks, figures, swarm, mutants, fuzzing, plugins.
//!
//! Each command sets up what it needs and says plainly what it cannot set up. All work from any
//! folder of the workspace. Progress goes to standard error; standard output belongs to the program
//! that is run.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod demo;
mod figures;
mod fuzz;
mod guests;
mod mutants;
mod setup;
mod shell;
mod steps;
mod swarm;
mod test;
mod wasm;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Chores of the Consort workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Build host and plugins, then run the demo: five devices, 30 s, the leader killed half-way.
    ///
    /// Flags of `consort demo` replace these defaults; `--no-kill-leader` leaves the leader alive.
    Demo(demo::DemoArguments),
    /// Format, plugins, every test, missing guards, clippy with warnings denied, the plugins of
    /// every language on the host.
    Test {
        /// Only the plugins of every language.
        #[arg(long)]
        guests: bool,
        /// After how many minutes no other language is begun; 0 leaves the languages out.
        #[arg(long, value_name = "MINUTES", default_value_t = 25)]
        guests_for: u64,
        /// With `--guests`: only these languages.
        #[arg(requires = "guests")]
        languages: Vec<String>,
    },
    /// Format and clippy with warnings denied.
    Check {
        /// Also licences, banned crates, sources and advisories, by cargo-deny.
        #[arg(long)]
        all: bool,
    },
    /// Run the benchmarks.
    Bench {
        /// What the benchmarks get: a filter on their names, or their flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure: whole groups of daemons, daemons and their plugins, groups in virtual time; `help`
    /// lists what. `call` is a call into a plugin, beside wasmtime alone and beside Extism.
    Figures {
        /// Which figure, and its flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run plans drawn from seeds in the simulator.
    Swarm(swarm::SwarmArguments),
    /// Switch guards of the protocol off, one at a time, and demand that a test notices.
    Mutants {
        /// Only the guards whose names contain this.
        name: Option<String>,
    },
    /// Fuzz one target with libFuzzer, as long as its flags say.
    Fuzz(fuzz::FuzzArguments),
    /// Build the plugins into target/plugins.
    Plugins,
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_compiler() {
        return code;
    }
    let arguments = Arguments::parse();
    match run(arguments.chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    match chore {
        Chore::Demo(arguments) => demo::run(&workspace, arguments),
        Chore::Test {
            guests,
            guests_for,
            languages,
        } => {
            let time_box = Duration::from_secs(guests_for * 60);
            if guests {
                guests::run(&workspace, &languages, time_box)
            } else {
                test::run(&workspace, time_box)
            }
        }
        Chore::Check { all } => check::run(&workspace, all),
        Chore::Bench { arguments } => bench::run(&workspace, &arguments),
        Chore::Figures { arguments } => figures::run(&workspace, &arguments),
        Chore::Swarm(arguments) => swarm::run(&workspace, &arguments),
        Chore::Mutants { name } => mutants::run(&workspace, name.as_deref()),
        Chore::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Chore::Plugins => {
            setup::wasm_targets(&workspace)?;
            wasm::build_plugins(&workspace)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
