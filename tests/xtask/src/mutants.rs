//! `cargo xtask mutants`: switches the guards of the protocol off one at a time, and demands that a
//! test notices each.
//!
//! docs/mutants.md is the list: a guard's name and the scenario that fails without it. That the list
//! and the guards in host/proto/src/mutant.rs have the same names is checked first, then that each
//! scenario passes with all guards in place.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::shell;
use crate::steps::Steps;
use crate::workspace::Workspace;

const LIST: &str = "docs/mutants.md";
const GUARDS: &str = "host/proto/src/mutant.rs";
/// Seeds of each scenario. The first that notices ends a run.
const SEEDS: &str = "3";
/// A scenario without a guard may go on for ever; that is no failure that shows what is wrong.
const PATIENCE: Duration = Duration::from_secs(300);

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mutant {
    name: String,
    test: Test,
}

/// A scenario: a file of tests/scenarios and a test in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    file: String,
    name: String,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// It did not run, or ended in a way of its own.
    Odd,
    Endless,
}

/// Builds the scenarios with the switch and runs the list, or the lines whose names contain
/// `filter`.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<ExitCode> {
    let mut steps = Steps::new();
    steps.step("mutants", || check(workspace, filter));
    Ok(steps.finish())
}

/// The whole check as one step.
pub(crate) fn check(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut mutants = list(&workspace.root)?;
    mutants.retain(|mutant| filter.is_none_or(|part| mutant.name.contains(part)));
    ensure!(!mutants.is_empty(), "{LIST} lists no such guard");
    let programs = build(workspace, &mutants)?;
    let folder = workspace.root.join("tests/scenarios");
    let program = |test: &Test| -> Result<&Path> {
        let program = programs.get(&test.file).map(PathBuf::as_path);
        program.with_context(|| format!("there is no tests/scenarios/tests/{}.rs", test.file))
    };
    let mut tests: Vec<&Test> = mutants.iter().map(|mutant| &mutant.test).collect();
    tests.sort();
    tests.dedup();
    for test in tests {
        let verdict = outcome(program(test)?, &folder, &test.name, None)?;
        let Test { file, name } = test;
        ensure!(
            verdict == Verdict::Passed,
            "{file}::{name} does not pass with all guards in place ({verdict:?})"
        );
    }
    let mut survivors = Vec::new();
    for Mutant { name, test } in &mutants {
        let began = Instant::now();
        let verdict = outcome(program(test)?, &folder, &test.name, Some(name))?;
        let (seconds, Test { file, name: test }) = (began.elapsed().as_secs_f64(), test);
        let word = if verdict == Verdict::Failed {
            "noticed"
        } else {
            survivors.push(name.as_str());
            "MISSED "
        };
        eprintln!("{word} {seconds:6.1} s  {name:<28} {file}::{test}");
    }
    if survivors.is_empty() {
        eprintln!("each of {} missing guards was noticed", mutants.len());
        return Ok(());
    }
    bail!("nothing failed without: {}", survivors.join(", "))
}

/// Reads the list, and holds it against the guards there are.
fn list(root: &Path) -> Result<Vec<Mutant>> {
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    let mutants = mutants_in(&read(LIST)?)?;
    let listed: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    let source = read(GUARDS)?;
    let known = names_in(&source);
    let unlisted: Vec<_> = known.iter().filter(|name| !listed.contains(name)).collect();
    let unknown: Vec<_> = listed.iter().filter(|name| !known.contains(name)).collect();
    ensure!(
        unlisted.is_empty() && unknown.is_empty() && listed.len() == known.len(),
        "{LIST} and {GUARDS} differ: {unlisted:?} are not listed, {unknown:?} are no guards"
    );
    Ok(mutants)
}

/// The lines of the table whose first cell is a name and whose last is a test, both in backticks.
fn mutants_in(text: &str) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let quoted = |cell: &str| {
            cell.trim()
                .strip_prefix('`')?
                .strip_suffix('`')
                .map(str::to_owned)
        };
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let name = cells.first().copied().and_then(quoted);
        let test = cells.last().copied().and_then(quoted);
        let test = test.as_deref().and_then(|test| test.split_once("::"));
        let (Some(name), Some((file, test)), 4) = (name, test, cells.len()) else {
            bail!("{LIST}: expected a name, two texts and `file::test`, found {line}");
        };
        let (file, test) = (file.to_owned(), test.to_owned());
        let test = Test { file, name: test };
        mutants.push(Mutant { name, test });
    }
    Ok(mutants)
}

/// The names that the source gives: `Variant = "name",`.
fn names_in(source: &str) -> Vec<&str> {
    let name = |line: &'_ str| -> Option<(usize, usize)> {
        let begin = line.find(" = \"")? + 4;
        let end = line.strip_suffix("\",")?.len();
        (begin <= end).then_some((begin, end))
    };
    let lines = source.lines();
    lines
        .filter_map(|line| name(line).map(|(begin, end)| &line[begin..end]))
        .collect()
}

/// Builds the scenarios that are needed; the program of each by the name of its file.
fn build(workspace: &Workspace, mutants: &[Mutant]) -> Result<BTreeMap<String, PathBuf>> {
    let mut files: Vec<&str> = mutants
        .iter()
        .map(|mutant| mutant.test.file.as_str())
        .collect();
    files.sort_unstable();
    files.dedup();
    let mut arguments = vec!["test", "--package=consort-scenarios", "--features=mutants"];
    arguments.extend(["--no-run", "--message-format=json-render-diagnostics"]);
    arguments.extend(files.iter().flat_map(|file| ["--test", file]));
    let mut cargo = shell::cargo(&workspace.root, arguments);
    let text = shell::output(cargo.stderr(Stdio::inherit()))?;
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(messages
        .filter_map(|message: Value| program_of(&message))
        .collect())
}

fn program_of(message: &Value) -> Option<(String, PathBuf)> {
    let program = message["executable"].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), PathBuf::from(program)))
}

/// Runs one test, with a guard off or with none.
fn outcome(program: &Path, folder: &Path, test: &str, off: Option<&str>) -> Result<Verdict> {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .args(["--exact", test])
        .env("CARGO_MANIFEST_DIR", folder)
        .env("CONSORT_RUNS", SEEDS)
        .env_remove("CONSORT_SEED")
        .env_remove("CONSORT_MUTANT")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(off) = off {
        command.env("CONSORT_MUTANT", off);
    }
    let mut child = command.spawn().context("cannot run the scenarios")?;
    let mut stdout = child.stdout.take().context("it was asked for")?;
    let text = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Verdict::Endless);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let text = text.join().ok().context("reading does not panic")??;
    Ok(verdict(&text))
}

fn verdict(text: &str) -> Verdict {
    if text.contains("no guard is called") {
        Verdict::Odd
    } else if text.contains("ok. 1 passed; 0 failed") {
        Verdict::Passed
    } else if text.contains("FAILED. 0 passed; 1 failed") {
        Verdict::Failed
    } else {
        Verdict::Odd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_is_listed_with_its_test() {
        let workspace = Workspace::load().expect("run by cargo");
        let mutants = list(&workspace.root).expect("the list is whole");
        for Mutant { name, test } in &mutants {
            let path = format!("tests/scenarios/tests/{}.rs", test.file);
            let source = std::fs::read_to_string(workspace.root.join(&path)).expect(&path);
            let begin = format!("\nfn {}()", test.name);
            assert!(
                source.contains(&begin),
                "{name}: {path} has no {}",
                test.name
            );
        }
    }

    #[test]
    fn a_line_that_is_no_guard_is_not_skipped() {
        let line = "| `a` | b | c | `file::test` |";
        let mutants = mutants_in(&format!("# Title\n| name | b |\n|---|\n{line}\n")).expect("fine");
        assert_eq!(mutants.len(), 1);
        assert_eq!((&*mutants[0].name, &*mutants[0].test.file), ("a", "file"));
        assert!(mutants_in("| `a` | b | c | test |").is_err());
        assert!(mutants_in("| `a` | b | `file::test` |").is_err());
    }

    #[test]
    fn only_a_test_that_ran_and_failed_has_noticed() {
        let failed = "test result: FAILED. 0 passed; 1 failed; 0 ignored";
        assert_eq!(verdict(failed), Verdict::Failed);
        assert_eq!(
            verdict("test result: ok. 1 passed; 0 failed"),
            Verdict::Passed
        );
        assert_eq!(verdict("test result: ok. 0 passed; 0 failed"), Verdict::Odd);
        assert_eq!(
            verdict(&format!("no guard is called x\n{failed}")),
            Verdict::Odd
        );
        assert_eq!(verdict(""), Verdict::Odd);
    }
}
