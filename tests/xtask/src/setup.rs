//! What the chores need besides Rust: WASM targets, a C compiler, network tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::shell;
use crate::steps::Skip;
use crate::workspace::Workspace;

const TARGETS: [&str; 2] = ["wasm32-wasip2", "wasm32-unknown-unknown"];

/// Sees to it that the standard library is there for the WASM targets.
pub(crate) fn wasm_targets(workspace: &Workspace) -> Result<()> {
    let mut missing = Vec::new();
    for target in TARGETS {
        if !has_target(workspace, target)? {
            missing.push(target);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("rustup target add {}", missing.join(" "));
    if !shell::exists("rustup") {
        bail!(
            "Rust's standard library for {} is missing, and so is rustup, which would install it. \
             Install rustup (https://rustup.rs) and run `{by_hand}` in {}, or install these targets \
             the way this Rust was installed",
            missing.join(" and "),
            workspace.root.display()
        );
    }
    let mut add = Command::new("rustup");
    add.current_dir(&workspace.root)
        .args(["target", "add"])
        .args(&missing);
    shell::run(&mut add).with_context(|| {
        format!(
            "run `{by_hand}` in {} with network access",
            workspace.root.display()
        )
    })
}

/// Whether this toolchain has the target, installed by whatever means.
fn has_target(workspace: &Workspace, target: &str) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(&workspace.root)
        .args(["--print", "target-libdir", "--target", target]);
    let folder = shell::output(&mut rustc)?;
    Ok(Path::new(folder.trim()).is_dir())
}

/// Checks for the C compiler that links programs and compiles the cryptography.
pub(crate) fn c_compiler() -> Result<()> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if !shell::exists(&compiler) {
        bail!(
            "no C compiler: `{}` does not run. Install one (Debian, Ubuntu: `apt-get install gcc \
             libc6-dev`; Fedora: `dnf install gcc`; macOS: `xcode-select --install`)",
            compiler.to_string_lossy()
        );
    }
    Ok(())
}

/// Network tools for the tests in network namespaces. Without them, or without root, those tests
/// skip themselves; one line says so here.
pub(crate) fn network_tools() {
    if !is_root() {
        eprintln!("note: not root, so the tests in network namespaces will be skipped");
        return;
    }
    let all = || has("ip") && has("nft");
    if all() || (debian_packages(&["iproute2", "nftables"]).is_ok() && all()) {
        return;
    }
    eprintln!(
        "note: `ip` or `nft` not found, so tests in network namespaces will be skipped (Debian, \
         Ubuntu: `apt-get install iproute2 nftables`)"
    );
}

/// Whether tests that need network namespaces had them.
///
/// # Errors
/// A [`Skip`]: there can be none here.
pub(crate) fn network_namespaces() -> Result<()> {
    let probe = format!("consort-xtask-{}", std::process::id());
    possible("network namespaces", "ip", &["netns", "add", &probe])?;
    shell::run(Command::new("ip").args(["netns", "delete", &probe]))
}

/// Whether tests that need user namespaces had them.
///
/// # Errors
/// A [`Skip`]: there can be none here.
pub(crate) fn user_namespaces() -> Result<()> {
    let probe = ["--user", "--map-root-user", "true"];
    possible("user namespaces", "unshare", &probe)
}

/// Whether tests that drop packets on purpose could.
///
/// # Errors
/// A [`Skip`]: there is no nftables here, or it may not be used.
pub(crate) fn packet_filters() -> Result<()> {
    possible("packet filters", "nft", &["list", "tables"])
}

/// What tests need is there if this command succeeds, which they try themselves.
fn possible(what: &str, program: &str, probe: &[&str]) -> Result<()> {
    let line = format!("`{program} {}`", probe.join(" "));
    let why = match Command::new(program).args(probe).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow!("{line} says: {}", said.trim())
        }
        Err(error) => anyhow!("{line}: {error}"),
    };
    let reason = why.context(format!(
        "there are no {what}, so the tests that need them passed without doing anything"
    ));
    Err(Skip::because(&reason))
}

fn has(tool: &str) -> bool {
    // Old versions know no --version.
    let answers = |tool: &str| shell::answers(Command::new(tool).arg("-V"));
    answers(tool) || answers(&format!("/usr/sbin/{tool}"))
}

/// Installs packages of Debian.
///
/// # Errors
/// The system is another one, or the packages cannot be had.
pub(crate) fn debian_packages(packages: &[&str]) -> Result<()> {
    if !shell::exists("apt-get") {
        bail!("there is no apt-get");
    }
    if !is_root() {
        bail!("only root installs packages");
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        shell::run(&mut command)
    };
    let install = [
        &["install", "-y", "-q", "--no-install-recommends"],
        packages,
    ]
    .concat();
    // A fresh system has no package lists; those of an older one may still do.
    apt(&install).or_else(|_| {
        apt(&["update", "-q"])?;
        apt(&install)
    })
}

fn is_root() -> bool {
    shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_possible_is_skipped_with_its_reason() {
        assert!(possible("shells", "sh", &["-c", "exit 0"]).is_ok());
        for (program, probe, word) in [
            ("sh", ["-c", "echo not allowed >&2; exit 1"], "not allowed"),
            ("no-such-program", ["a", "b"], "`no-such-program a b`"),
        ] {
            let error = possible("shells", program, &probe).expect_err("it is not possible");
            assert!(error.is::<Skip>(), "{error:#}");
            let said = error.to_string();
            assert!(said.contains("no shells") && said.contains(word), "{said}");
        }
    }
}
