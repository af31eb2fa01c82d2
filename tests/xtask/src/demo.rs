//! `cargo xtask demo`: builds everything and becomes `consort demo`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::workspace::Workspace;
use crate::{setup, shell, wasm};

const NODES: &str = "5";
const DURATION: &str = "30s";

/// What `consort demo` is to get besides the defaults.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Leave the leader alive.
    #[arg(long)]
    no_kill_leader: bool,
    /// Flags of `consort demo`, such as --nodes N, --for DURATION, --json.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

/// Builds, then replaces this process by the demo, whose exit code is thereby ours.
pub(crate) fn run(workspace: &Workspace, arguments: DemoArguments) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::wasm_targets(workspace)?;
    let plugins = wasm::build_plugins(workspace)?;
    shell::run(&mut shell::cargo(
        &workspace.root,
        ["build", "--workspace", "--bins"],
    ))?;
    let consort = workspace.target.join("debug").join("consort");
    let error = Command::new(&consort)
        .args(flags(arguments, &plugins))
        .exec();
    Err(anyhow!(error).context(format!("run {}", consort.display())))
}

/// The flags given, and the defaults for those that are not.
fn flags(arguments: DemoArguments, plugins: &Path) -> Vec<String> {
    let DemoArguments {
        no_kill_leader,
        flags: mut given,
    } = arguments;
    let keep_leader = no_kill_leader || has(&given, "--no-kill-leader");
    given.retain(|flag| flag != "--no-kill-leader");
    let mut flags = vec!["demo".to_owned()];
    let plugins = plugins.to_string_lossy();
    for (flag, value) in [
        ("--plugins", &*plugins),
        ("--nodes", NODES),
        ("--for", DURATION),
    ] {
        if !has(&given, flag) {
            flags.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    if !keep_leader && !has(&given, "--kill-leader") {
        flags.push("--kill-leader".to_owned());
    }
    flags.extend(given);
    flags
}

fn has(flags: &[String], name: &str) -> bool {
    flags
        .iter()
        .any(|flag| flag == name || flag.split_once('=').is_some_and(|(f, _)| f == name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArguments,
    }

    fn flags_of(line: &str) -> String {
        let words = std::iter::once("demo").chain(line.split_whitespace());
        flags(Line::parse_from(words).demo, Path::new("/p")).join(" ")
    }

    #[test]
    fn defaults_hold_unless_flags_say_otherwise() {
        assert_eq!(
            flags_of(""),
            "demo --plugins /p --nodes 5 --for 30s --kill-leader"
        );
        assert_eq!(
            flags_of("--nodes 3 --json"),
            "demo --plugins /p --for 30s --kill-leader --nodes 3 --json"
        );
        assert_eq!(
            flags_of("--nodes=5 --for 20s --kill-leader --plugins x"),
            "demo --nodes=5 --for 20s --kill-leader --plugins x"
        );
    }

    #[test]
    fn the_leader_is_spared_on_request() {
        let expected = "demo --plugins /p --nodes 5 --for 9s";
        assert_eq!(
            flags_of("--no-kill-leader --for 9s"),
            "demo --plugins /p --nodes 5 --for 9s"
        );
        assert_eq!(flags_of("--for 9s --no-kill-leader"), expected);
    }
}
