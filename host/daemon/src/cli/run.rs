//! `consort run`: the daemon itself.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::settings::{DaemonFlags, warn_of_unknown_variables};
use super::{CliError, event_loop};
use crate::exit_code::ExitCode;
use crate::run::RunError;
use crate::{run, secrets, telemetry};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: DaemonFlags,
    /// Keep a core file of each plugin that traps in this folder, for debuggers; at most 16 and
    /// 512 MiB. A core holds all that the plugin had in its memory.
    #[arg(long, value_name = "FOLDER")]
    coredump: Option<PathBuf>,
    /// Stop in order when standard input ends, which is when the parent process does.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut resolved = args.settings.resolve()?;
    resolved.config.cores_dir.clone_from(&args.coredump);
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    telemetry::init(resolved.log_format, ansi);
    warn_of_unknown_variables(&resolved);
    let identity = secrets::device_key(&resolved.config.data_dir)?;
    let group = secrets::group_keyring(&resolved.config.data_dir)?;
    consort_plugin_host::come_first();
    consort_plugin_host::give_memory_back();
    let runtime = event_loop()?;
    if args.exit_with_parent {
        watch_parent()?;
    }
    let outcome = runtime.block_on(run::run(resolved.config, identity, group));
    // The system's resolver may hold a thread for half a minute; nothing waits for its answer.
    runtime.shutdown_background();
    Ok(outcome?)
}

pub(super) fn exit_code(error: &RunError) -> ExitCode {
    match error {
        RunError::AddressInUse(_) => ExitCode::AddressInUse,
        RunError::DataFolderLocked(_) => ExitCode::DataFolderLocked,
        _ => ExitCode::Failed,
    }
}

/// How long an orderly stop may take after the parent's end.
const STOP_MAX: Duration = Duration::from_secs(4);

/// The parent holds the other end of standard input open for its life; even a parent that was
/// killed ends it. SIGTERM then takes the way of every orderly stop.
fn watch_parent() -> Result<(), CliError> {
    let watch = || {
        // An error of reading means the same as an end: nobody is there.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // The process exists: it is this one.
        let _ = kill(Pid::this(), Signal::SIGTERM);
        std::thread::sleep(STOP_MAX);
        // It hangs on its way out, and nobody is left who could end it.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    };
    let thread = std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(watch);
    thread
        .map(drop)
        .map_err(|error| CliError::Process("watch the parent process", error))
}
