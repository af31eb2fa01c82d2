//! `cargo xtask fuzz NAME`: drives one target of tests/fuzz with libFuzzer, on the stable toolchain.
//!
//! The program is built into a folder of its own, with the instrumentation that libFuzzer reads;
//! what it finds worth keeping goes to `target/fuzz/corpus/NAME`, which begins with the inputs that
//! the repository keeps, and what it finds wrong to `target/fuzz/found/NAME`. Cryptography is left as
//! it is: instrumented it takes nine tenths of a run, and no input leads to other places in it. So this
//! program also stands between cargo and the compiler, to choose the flags for each crate.

use std::env;
use std::ffi::OsString;
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
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Clink-dead-code",
    "-Cdebug-assertions",
];

/// Crates that do arithmetic on secrets and numbers, and no more.
const PLAIN: [&str; 19] = [
    "aead",
    "blake2",
    "block_buffer",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cpufeatures",
    "crypto_common",
    "curve25519_dalek",
    "digest",
    "generic_array",
    "hybrid_array",
    "inout",
    "poly1305",
    "sha2",
    "subtle",
    "typenum",
    "universal_hash",
    "zeroize",
];

/// Set while this program is the compiler that cargo calls.
const AS_COMPILER: &str = "CONSORT_FUZZ_COMPILER";

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
        // Entropic schedules cost more than they gain where a run meets ten thousand places.
        .args(["-timeout=20", "-rss_limit_mb=2048", "-entropic=0"])
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

/// Compiles one crate, if cargo called this program for that; then its arguments are the compiler and
/// what it gets.
pub(crate) fn as_compiler() -> Option<ExitCode> {
    env::var_os(AS_COMPILER)?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (compiler, arguments) = arguments.split_first()?;
    let mut rustc = Command::new(compiler);
    rustc.args(arguments);
    if is_instrumented(arguments) {
        rustc.args(FLAGS);
    }
    let status = rustc.status().ok()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Some(ExitCode::from(code.unwrap_or(1)))
}

/// Whether a crate is part of the fuzzer, and not of what runs while building: that is compiled for
/// no explicit platform.
fn is_instrumented(arguments: &[OsString]) -> bool {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let named = arguments.iter().skip_while(|it| *it != "--crate-name");
    let name = named.skip(1).find_map(|name| name.to_str());
    has("--target") && name.is_some_and(|name| !PLAIN.contains(&name))
}

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
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(AS_COMPILER, "1")
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

    #[test]
    fn only_what_is_fuzzed_is_instrumented() {
        let given =
            |text: &str| is_instrumented(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        let host = "x86_64-unknown-linux-gnu";
        assert!(given(&format!(
            "--crate-name consort_proto --target {host}"
        )));
        assert!(!given(&format!("--crate-name poly1305 --target {host}")));
        assert!(
            !given("--crate-name build_script_build build.rs"),
            "runs while building"
        );
        assert!(!given("-vV"));
    }
}
