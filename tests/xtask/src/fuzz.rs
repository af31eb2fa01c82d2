//! `cargo xtask fuzz NAME`: drives one target of tests/fuzz with libFuzzer, on the stable toolchain.
//!
//! The program is built into a folder of its own, with the instrumentation that libFuzzer reads;
//! what it finds worth keeping goes to `target/fuzz/corpus/NAME`, which begins with the inputs that
//! the repository keeps, and what it finds wrong to `target/fuzz/found/NAME`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell;
use crate::workspace::Workspace;

const FOLDER: &str = "tests/fuzz/corpus";

/// Coverage by counters and tables of comparisons. `-Clink-dead-code` keeps a function that nobody
/// calls from upsetting the tables.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Clink-dead-code -Cdebug-assertions";

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct FuzzArguments {
    /// The target; without one they are listed.
    name: Option<String>,
    /// List the targets.
    #[arg(long)]
    list: bool,
    /// Replace the inputs that the repository keeps by the smallest set that covers the same as all
    /// that was found.
    #[arg(long)]
    minimise: bool,
    /// Flags of libFuzzer, such as -max_total_time=60, or files to run.
    #[arg(last = true)]
    flags: Vec<String>,
}

/// Builds the program and becomes a fuzzer.
pub(crate) fn run(workspace: &Workspace, arguments: &FuzzArguments) -> Result<ExitCode> {
    let names = names(&workspace.root)?;
    let name = match &arguments.name {
        Some(name) if !arguments.list => name,
        _ => {
            for name in names {
                println!("{name}");
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !names.contains(name) {
        bail!("no target is called {name}; there are {}", names.join(", "));
    }
    let program = build(workspace)?;
    let kept = workspace.root.join(FOLDER).join(name);
    let (corpus, found) = (
        folder(workspace, "corpus", name)?,
        folder(workspace, "found", name)?,
    );
    let fuzzer = || {
        let mut fuzzer = Command::new(&program);
        fuzzer.env("CONSORT_FUZZ_TARGET", name);
        fuzzer
    };
    if arguments.minimise {
        return minimise(fuzzer(), &kept, &corpus).map(|()| ExitCode::SUCCESS);
    }
    let mut fuzzer = fuzzer();
    fuzzer
        .args(["-timeout=20", "-rss_limit_mb=2048"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(&arguments.flags);
    // Files among the flags are run alone; without any, libFuzzer writes to the first folder.
    if arguments.flags.iter().all(|flag| flag.starts_with('-')) {
        fuzzer.arg(&corpus).arg(&kept);
    }
    shell::run(&mut fuzzer)?;
    Ok(ExitCode::SUCCESS)
}

/// The targets: each has a folder of inputs, which the test `replay` holds against the list there.
fn names(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root.join(FOLDER)).context(FOLDER)?;
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string());
    let names: std::io::Result<Vec<_>> = entries.map(name).collect();
    let mut names: Vec<String> = names?.into_iter().flatten().collect();
    names.sort();
    Ok(names)
}

/// A folder of this target's below the build folder.
fn folder(workspace: &Workspace, what: &str, name: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("fuzz").join(what).join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Builds for an explicit platform: then the flags are not used for what runs while building.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    if !shell::exists("c++") {
        bail!("libFuzzer is built from source and needs a C++ compiler as `c++`");
    }
    let mut rustc = Command::new("rustc");
    let text = shell::output(rustc.arg("-vV").current_dir(&workspace.root))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not name its platform")?;
    let target = workspace.target.join("fuzz");
    let arguments = ["build", "--package=consort-fuzz", "--features=libfuzzer"];
    let mut cargo = shell::cargo(&workspace.root, arguments);
    cargo.args(["--bin=fuzz", "--target", host]);
    cargo
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target);
    shell::run(&mut cargo)?;
    Ok(target.join(host).join("debug/fuzz"))
}

/// Merges all that was found into an empty folder, which then takes the place of what is kept.
fn minimise(mut fuzzer: Command, kept: &Path, corpus: &Path) -> Result<()> {
    let smallest = corpus.with_extension("smallest");
    if smallest.exists() {
        fs::remove_dir_all(&smallest)?;
    }
    fs::create_dir_all(&smallest)?;
    shell::run(
        fuzzer
            .arg("-merge=1")
            .args([smallest.as_path(), kept, corpus]),
    )?;
    fs::remove_dir_all(kept)?;
    fs::create_dir_all(kept)?;
    for entry in fs::read_dir(&smallest)? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_folders() {
        let workspace = Workspace::load().expect("run by cargo");
        let names = names(&workspace.root).expect("readable");
        assert!(names.iter().any(|name| name == "handshake"), "{names:?}");
    }
}
