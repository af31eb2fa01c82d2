//! `consort config`: the settings, with where each came from.

use clap::Subcommand;

use super::settings::DaemonFlags;
use super::{CliError, output};
use crate::config::{DEFAULTS, Shown};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print each setting, its value, and where the value came from.
    Show {
        #[command(flatten)]
        settings: DaemonFlags,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the commented template of a configuration file.
    Template,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.action {
        Action::Show { settings, json } => output::result(&Shown::new(&settings.resolve()?), *json),
        Action::Template => output::text(DEFAULTS),
    }
}
