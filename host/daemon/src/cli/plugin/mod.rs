//! `consort plugin`: what there is to know of plugins and to ask for them, of the running daemon,
//! and of a file before it is anywhere.

pub(super) mod check;
mod inspect;
mod list;
mod logs;
mod new;
mod templates;

use std::path::PathBuf;

use consort_plugin_host::{CodeError, RuntimeError};
use consort_proto::PluginId;

use super::settings::PlaceFlags;
use super::{CliError, event_loop, output};
use crate::control::client::{self, ClientError};
use crate::control::plugins::OrderAnswer;
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
    /// Look at a plugin's file without a daemon: what it offers and needs, and whether it starts.
    Check(check::Args),
    /// List the running daemon's plugins.
    List {
        #[command(flatten)]
        place: PlaceFlags,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what holds for one plugin, and what it asks for and does not get.
    Inspect {
        #[command(flatten)]
        of: Of,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Take a plugin's files again, changed or not; ends a quarantine.
    Reload(Of),
    /// Unload a plugin, until the daemon ends or it is enabled. `plugins.<id>.enabled = false` in the
    /// settings is for good.
    Disable(Of),
    /// Load a plugin that was disabled.
    Enable(Of),
    /// Show the last lines of a plugin's log, and what the host says of it.
    Logs {
        #[command(flatten)]
        of: Of,
        /// Go on as lines come, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
}

/// One plugin of the running daemon.
#[derive(Debug, clap::Args)]
struct Of {
    /// Which plugin.
    #[arg(value_name = "ID", value_parser = plugin_id)]
    id: PluginId,
    #[command(flatten)]
    place: PlaceFlags,
}

pub(super) fn plugin_id(text: &str) -> Result<PluginId, String> {
    PluginId::new(text.to_owned()).map_err(|error| error.to_string())
}

/// Why a command about plugins ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    /// No project was written.
    #[error(transparent)]
    New(#[from] new::NewError),
    /// The daemon could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder is none of a plugin.
    #[error(
        "{} holds no plugin.wasm; name the .wasm file that the build gives, or copy it there under that \
         name",
        .folder.display()
    )]
    NoFile {
        /// Which.
        folder: PathBuf,
    },
    /// The folder for cores cannot be made.
    #[error("the folder for cores {} cannot be made: {source}", .folder.display())]
    Cores {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to compile with.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The file is no plugin.
    #[error("{}: {error}", .file.display())]
    NoPlugin {
        /// Which.
        file: PathBuf,
        /// What it is instead.
        error: CodeError,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] consort_plugin_host::ManifestError),
    /// It does not start.
    #[error("{}: {cause}", .file.display())]
    DoesNotStart {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: String,
    },
}

impl PluginError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(
                ClientError::NotRunning(_) | ClientError::Connect { .. } | ClientError::Silent,
            ) => ExitCode::NotReachable,
            Self::NoPlugin { .. } | Self::Manifest(_) | Self::DoesNotStart { .. } => {
                ExitCode::ExpectationNotMet
            }
            Self::New(_)
            | Self::Client(_)
            | Self::Read { .. }
            | Self::NoFile { .. }
            | Self::Cores { .. }
            | Self::Runtime(_) => ExitCode::Failed,
        }
    }
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::New(args) => Ok(new::run(&args).map_err(PluginError::from)?),
        Command::Check(args) => check::run(&args),
        Command::List { place, json } => list::run(&place, json),
        Command::Inspect { of, json } => inspect::run(&of, json),
        Command::Reload(of) => order(&of, "reload", "is taken anew"),
        Command::Disable(of) => order(&of, "disable", "is unloaded until the daemon ends"),
        Command::Enable(of) => order(&of, "enable", "is loaded"),
        Command::Logs { of, follow, json } => logs::run(&of, follow, json),
    }
}

fn order(of: &Of, word: &str, outcome: &str) -> Result<(), CliError> {
    let data_dir = of.place.resolve()?.config.data_dir;
    let path = format!("{}/{word}", path(&of.id));
    let asked = client::post::<OrderAnswer>(&data_dir, &path);
    let answer = event_loop()?.block_on(asked).map_err(PluginError::from)?;
    output::text(&format!("{} {outcome}", answer.id))
}

/// Where the control socket answers about a plugin.
pub(super) fn path(id: &PluginId) -> String {
    // An id has no character that a path would not take as it is.
    format!("{}/{id}", crate::control::PLUGINS_PATH)
}
