//! The command line: one file per command.
//!
//! Every command is a function from its arguments to a [`CliError`] or nothing. Results go to
//! standard output, as text or with `--json` as one object with `"v": 1`; what went wrong goes to
//! standard error, and the error decides the exit code.

mod config;
mod demo;
mod dev;
mod group;
mod local;
mod output;
mod plugin;
mod plugins_table;
mod prompt;
mod rotate;
mod run;
mod settings;
mod sim;
pub mod status;
mod version;

use std::io;
use std::process::ExitCode as ProcessExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;
use tokio::runtime::Runtime;

use self::settings::PlaceFlags;
use self::status::StatusError;
use crate::config::ConfigError;
use crate::control::client::ClientError;
use crate::exit_code::ExitCode;
use crate::run::RunError;
use crate::secrets::SecretError;

/// Runs sandboxed apps on the devices of a local group: they find each other, elect a leader per
/// app, encrypt what they say and share one clock.
#[derive(Debug, Parser)]
#[command(
    name = "consort",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 failed, 2 usage, 3 configuration, 4 address in use, 5 data folder locked,
6 daemon not reachable, 7 expectation not met.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until it is told to stop (SIGTERM or Ctrl-C).
    Run(run::Args),
    /// Make, show or pass on the secret that admits devices to a group.
    Group(group::Args),
    /// Show the settings.
    Config(config::Args),
    /// Ask the running daemon for its peers and plugins.
    Status {
        #[command(flatten)]
        place: PlaceFlags,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Begin a plugin, look at plugins, and reload, disable or enable them.
    Plugin(plugin::Args),
    /// Talk to a plugin as a program on this device does: be told what it publishes, or ask it.
    Local(local::Args),
    /// Run the plugins of a folder while you work on them: what they log, and a reload on each save.
    Dev(dev::Args),
    /// Run a whole group on this machine and watch it.
    Demo(demo::Args),
    /// Run a whole group in virtual time, with faults, from one seed.
    Sim(sim::Args),
    /// Print the program's version.
    Version(version::Args),
    /// Compile one plugin from standard input to standard output; for the daemon itself.
    #[command(hide = true, name = crate::plugins::COMPILE_COMMAND)]
    Compile,
}

/// Reads the command line, does what it says, and reports.
#[must_use]
pub fn main() -> ProcessExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli.command) {
        Ok(()) => ProcessExitCode::SUCCESS,
        Err(CliError::Output(error) | CliError::Status(StatusError::Print(error)))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            // Whoever read the output had enough of it.
            ProcessExitCode::SUCCESS
        }
        Err(error) => {
            output::note(&format!("error: {error}"));
            error.exit_code().into()
        }
    }
}

fn usage(error: &clap::Error) -> ProcessExitCode {
    // A closed terminal leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::Usage.into()
    } else {
        ProcessExitCode::SUCCESS
    }
}

fn dispatch(command: Command) -> Result<(), CliError> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Group(args) => group::run(args),
        Command::Config(args) => config::run(&args),
        Command::Status { place, json } => {
            let data_dir = place.resolve()?.config.data_dir;
            Ok(event_loop()?.block_on(status::run(&data_dir, json, &mut io::stdout()))?)
        }
        Command::Plugin(args) => plugin::run(args),
        Command::Local(args) => local::run(args),
        Command::Dev(args) => dev::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Version(args) => version::run(&args),
        Command::Compile => consort_plugin_host::serve_compiler()
            .map_err(|error| CliError::Process("compile a plugin", error)),
    }
}

/// Why a command ended without success.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The settings are not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A group command failed.
    #[error(transparent)]
    Group(#[from] group::GroupError),
    /// The daemon ended with an error.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The daemon could not be asked.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A command about plugins failed.
    #[error(transparent)]
    Plugin(#[from] plugin::PluginError),
    /// A local program got nowhere.
    #[error(transparent)]
    Local(#[from] local::LocalError),
    /// The demonstration failed.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// The simulation did not run, or did not go well.
    #[error(transparent)]
    Sim(#[from] sim::SimError),
    /// The process could not be set up.
    #[error("cannot {0}: {1}")]
    Process(&'static str, #[source] io::Error),
    /// Standard output is gone.
    #[error("cannot write the result: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::Config,
            Self::Secret(error) => secret_code(error),
            Self::Group(error) => error.exit_code(),
            Self::Run(error) => run::exit_code(error),
            Self::Status(error) => status_code(error),
            Self::Plugin(error) => error.exit_code(),
            Self::Local(error) => error.exit_code(),
            Self::Demo(error) => error.exit_code(),
            Self::Sim(error) => error.exit_code(),
            Self::Process(..) | Self::Output(_) => ExitCode::Failed,
        }
    }
}

/// What the operator must put right in a file counts as configuration.
fn secret_code(error: &SecretError) -> ExitCode {
    match error {
        SecretError::Exposed { .. }
        | SecretError::NoDeviceKey(_)
        | SecretError::NoGroupSecret { .. } => ExitCode::Config,
        SecretError::Exists(_)
        | SecretError::OtherGroup(_)
        | SecretError::Io { .. }
        | SecretError::Random => ExitCode::Failed,
    }
}

fn status_code(error: &StatusError) -> ExitCode {
    match error {
        StatusError::Client(
            ClientError::NotRunning(_) | ClientError::Connect { .. } | ClientError::Silent,
        ) => ExitCode::NotReachable,
        StatusError::Client(ClientError::Refused { .. } | ClientError::Answer(_))
        | StatusError::Print(_) => ExitCode::Failed,
    }
}

/// One thread drives input, output and time of a command.
fn event_loop() -> Result<Runtime, CliError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .map_err(|error| CliError::Process("start the event loop", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
