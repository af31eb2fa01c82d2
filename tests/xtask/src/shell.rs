//! Running other programs, with errors that name the command.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A `cargo` command in `folder`, by the very cargo that runs this program.
///
/// It does not see what that cargo says about this package: some build scripts watch those
/// variables, and their crates would be built again whenever xtask and a plain cargo take turns.
pub(crate) fn cargo<I, S>(folder: &Path, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command with its output shown; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command with its output shown, and ends it with all that it started when its time is up.
pub(crate) fn run_within(command: &mut Command, time: Duration) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    // A process group of its own, which can be ended as a whole.
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{shown}` failed ({status})");
            }
            return Ok(());
        }
        if Instant::now() >= deadline {
            let group = format!("-{}", child.id());
            let ended = Command::new("kill").args(["-KILL", "--", &group]).status();
            child.wait()?;
            ended.context("end what took too long")?;
            return Err(TookTooLong { shown, time }.into());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A command that was ended, as its time was up.
#[derive(Debug)]
pub(crate) struct TookTooLong {
    shown: String,
    time: Duration,
}

impl fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` took longer than {} s",
            self.shown,
            self.time.as_secs()
        )
    }
}

impl Error for TookTooLong {}

/// A command's standard output; an error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, reason.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed other than text"))
}

/// Whether a program exists and answers to `--version`.
pub(crate) fn exists(program: impl AsRef<OsStr>) -> bool {
    answers(Command::new(program).arg("--version"))
}

/// Whether a command runs and succeeds, with its output thrown away.
pub(crate) fn answers(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// A command as one would type it; cargo by its plain name.
fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command() {
        let error = run(Command::new("false").arg("--really")).unwrap_err();
        assert!(
            error.to_string().starts_with("`false --really` failed"),
            "{error}"
        );
        let error = output(&mut Command::new("/nowhere/tool")).unwrap_err();
        assert!(error.to_string().contains("cannot run `tool`"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_ended_with_its_children() {
        let began = Instant::now();
        let mut slow = Command::new("sh");
        slow.args(["-c", "sleep 60 & wait"]);
        let error = run_within(&mut slow, Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(error.is::<TookTooLong>());
        assert!(began.elapsed() < Duration::from_secs(30));
        run_within(&mut Command::new("true"), Duration::from_secs(30)).unwrap();
        let error = run_within(&mut Command::new("false"), Duration::from_secs(30)).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
    }

    #[test]
    fn only_programs_that_answer_exist() {
        assert!(exists("cargo"));
        assert!(!exists("/nowhere/tool"));
    }
}
