//! `consort plugin`: what authors of plugins need.

mod new;
mod templates;

use crate::exit_code::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the project of a plugin: template, SDK, and a README with the command that builds it.
    New(new::Args),
}

/// Why a command about plugins ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    /// No project was written.
    #[error(transparent)]
    New(#[from] new::NewError),
}

impl PluginError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::New(_) => ExitCode::Failed,
        }
    }
}

pub(super) fn run(args: Args) -> Result<(), PluginError> {
    match args.command {
        Command::New(args) => Ok(new::run(&args)?),
    }
}
