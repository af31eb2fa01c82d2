//! `cargo xtask check`: what needs no test to run.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// Format and clippy; with `all`, cargo-deny too.
pub(crate) fn run(workspace: &Workspace, all: bool) -> Result<ExitCode> {
    let mut steps = Steps::new();
    steps.step("format", || format(workspace));
    steps.step("clippy", || clippy(workspace));
    if all {
        steps.step("licences, bans, sources", || deny(workspace));
        steps.step("advisories", || advisories(workspace));
    }
    Ok(steps.finish())
}

/// Whether every file is formatted.
pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    shell::run(&mut shell::cargo(
        &workspace.root,
        ["fmt", "--all", "--check"],
    ))
}

/// Clippy over every target, warnings denied.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    shell::run(&mut shell::cargo(&workspace.root, arguments))
}

fn deny(workspace: &Workspace) -> Result<()> {
    require_deny(workspace)?;
    let arguments = ["deny", "check", "licenses", "bans", "sources"];
    shell::run(&mut shell::cargo(&workspace.root, arguments))
}

/// Known vulnerabilities, where the database of advisories can be reached.
fn advisories(workspace: &Workspace) -> Result<()> {
    require_deny(workspace)?;
    let mut cargo = shell::cargo(&workspace.root, ["deny", "check", "advisories"]);
    let output = cargo
        .output()
        .context("cannot run `cargo deny check advisories`")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    if is_unreachable(&text) {
        eprintln!("note: the database of advisories cannot be reached, so they are not checked");
        return Ok(());
    }
    eprintln!("{text}");
    bail!("`cargo deny check advisories` failed ({})", output.status);
}

/// Whether cargo-deny says that it could not fetch its database, rather than what it found there.
fn is_unreachable(stderr: &str) -> bool {
    let fetch = [
        "failed to fetch advisory database",
        "failed to acquire advisory database",
    ];
    let found = [
        "error[vulnerability]",
        "error[unmaintained]",
        "error[unsound]",
        "error[yanked]",
    ];
    fetch.iter().any(|text| stderr.contains(text)) && !found.iter().any(|f| stderr.contains(f))
}

fn require_deny(workspace: &Workspace) -> Result<()> {
    if shell::answers(&mut shell::cargo(&workspace.root, ["deny", "--version"])) {
        return Ok(());
    }
    bail!("cargo-deny is not installed: run `cargo install cargo-deny --locked`, then this again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_never_taken_for_a_missing_network() {
        let offline = "[ERROR] failed to fetch advisory database https://github.com/rustsec/…";
        assert!(is_unreachable(offline));
        assert!(!is_unreachable("error[vulnerability]: use after free"));
        assert!(!is_unreachable(&format!(
            "{offline}\nerror[vulnerability]: use after free"
        )));
        assert!(!is_unreachable("error: unexpected argument"));
    }
}
