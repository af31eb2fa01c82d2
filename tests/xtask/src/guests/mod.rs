//! The languages of plugins: for each, the project that `consort plugin new` writes and the tour
//! are built by the one command of the project's README, then run on the real plugin host.
//!
//! All of it has a time box. A language whose toolchain cannot be had, or whose turn comes too
//! late, is skipped by name and reason. One that does not build is a failure, and so is a run in
//! which none is built. The group of five languages is a step of its own, which is skipped where
//! there are fewer.

mod bindings;
mod mixed;
mod toolchains;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use self::toolchains::{Toolchains, Tools};
use crate::shell;
use crate::steps::{Skip, Steps};
use crate::workspace::Workspace;

/// How long one language may take, with the downloads and the first builds of compilers' own
/// libraries.
const LANGUAGE_TIME: Duration = Duration::from_secs(600);

/// What stays of the time box for running what was built.
const RUN_TIME: Duration = Duration::from_secs(360);

/// The stubs are those that the bindings' generator makes of the contract, and with them the SDK
/// and the tour pass the strict checker. TypeScript's checker is a part of its build.
const PYTHON_CHECK: &str = "rm -rf fresh && componentize-py -d wit -w plugin bindings fresh && \
     for stub in $(find stubs -name '*.pyi'); do \
         made=fresh${stub#stubs}; cmp $stub ${made%i} || exit 1; \
     done && mypy";

/// A language under test.
#[derive(Debug)]
struct Guest {
    /// As `consort plugin new --lang` has it.
    name: &'static str,
    tools: Tools,
    /// The tour's source below `guest-sdk`.
    tour: &'static str,
    /// Where it goes in a project.
    place: &'static str,
    /// What makes this language of it, if it is in another one.
    translate: Option<&'static str>,
    /// What else must hold of the project with the tour.
    check: Option<&'static str>,
    /// What the README's command makes.
    result: &'static str,
    /// The template once more, in a language that shares the project.
    also: Option<Also>,
}

/// A program that does what a language's template does.
#[derive(Debug)]
struct Also {
    name: &'static str,
    /// Its source below `guest-sdk`.
    source: &'static str,
    /// Where it goes in a project, and what it replaces there.
    place: &'static str,
    replaced: &'static str,
}

const CPP: Also = Also {
    name: "c++",
    source: "c/example/greeting.cpp",
    place: "plugin.cpp",
    replaced: "plugin.c",
};

/// The quick ones first, as the time box closes behind the last ones.
const GUESTS: [Guest; 8] = [
    Guest {
        name: "rust",
        tools: Tools::Rust,
        tour: "rust/example/plugin.rs",
        place: "plugin.rs",
        translate: None,
        check: None,
        result: "target/wasm32-wasip2/release/hello.wasm",
        also: None,
    },
    Guest {
        name: "assemblyscript",
        tools: Tools::Npm,
        tour: "assemblyscript/example/plugin.ts",
        place: "plugin.ts",
        translate: None,
        check: None,
        result: "hello.wasm",
        also: None,
    },
    Guest {
        name: "js",
        tools: Tools::Npm,
        tour: "js/example/plugin.ts",
        place: "tour.ts",
        translate: Some("npx esbuild tour.ts --outfile=plugin.js"),
        check: None,
        result: "hello.wasm",
        also: None,
    },
    Guest {
        name: "ts",
        tools: Tools::Npm,
        tour: "js/example/plugin.ts",
        place: "plugin.ts",
        translate: None,
        check: None,
        result: "hello.wasm",
        also: None,
    },
    Guest {
        name: "python",
        tools: Tools::PyPi,
        tour: "python/example/app.py",
        place: "app.py",
        translate: None,
        check: Some(PYTHON_CHECK),
        result: "hello.wasm",
        also: None,
    },
    Guest {
        name: "c",
        tools: Tools::PyPi,
        tour: "c/example/tour.c",
        place: "plugin.c",
        translate: None,
        check: None,
        result: "hello.wasm",
        also: Some(CPP),
    },
    Guest {
        name: "zig",
        tools: Tools::PyPi,
        tour: "zig/example/plugin.zig",
        place: "plugin.zig",
        translate: None,
        check: None,
        result: "zig-out/bin/hello.wasm",
        also: None,
    },
    Guest {
        name: "go",
        tools: Tools::PyPi,
        tour: "go/example/main.go",
        place: "main.go",
        translate: None,
        check: None,
        result: "hello.wasm",
        also: None,
    },
];

/// Builds and runs languages: all, or those that are named.
pub(crate) fn run(workspace: &Workspace, only: &[String], time_box: Duration) -> Result<ExitCode> {
    for name in only {
        ensure!(
            GUESTS.iter().any(|guest| guest.name == name),
            "no language {name}; there are {}",
            GUESTS.map(|guest| guest.name).join(", ")
        );
    }
    let mut steps = Steps::new();
    steps.step("build", || {
        let arguments = ["build", "--workspace", "--bins"];
        shell::run(&mut shell::cargo(&workspace.root, arguments))
    });
    add(workspace, &mut steps, only, time_box)?;
    Ok(steps.finish())
}

/// Adds the steps of every language to a chore that has built the workspace.
pub(crate) fn add(
    workspace: &Workspace,
    steps: &mut Steps,
    only: &[String],
    time_box: Duration,
) -> Result<()> {
    let chosen = |guest: &&Guest| only.is_empty() || only.iter().any(|name| name == guest.name);
    let bench = Bench::new(workspace, Instant::now() + time_box)?;
    let mut built: Vec<&str> = Vec::new();
    for guest in GUESTS.iter().filter(chosen) {
        steps.step(guest.name, || {
            let time = bench.time_left()?;
            bench.toolchains.prepare(guest.tools, time)?;
            bench.build(guest)?;
            built.push(guest.name);
            Ok(())
        });
    }
    steps.step("languages on the host", || bench.run_on_host(&built));
    let group = mixed::languages(&built);
    let too_few = mixed::too_few(&group, &GUESTS.map(|guest| guest.name), steps);
    steps.step("five languages in one group", || {
        if !group.is_empty() {
            bench.run_group(&group)?;
        }
        too_few.map_or(Ok(()), Err)
    });
    if GUESTS
        .iter()
        .filter(chosen)
        .any(|guest| ["c", "go"].contains(&guest.name))
    {
        steps.step("bindings made anew", || bench.compare_bindings());
    }
    Ok(())
}

/// The folders of this chore.
struct Bench<'a> {
    workspace: &'a Workspace,
    toolchains: Toolchains<'a>,
    /// One project per language, written anew each time.
    projects: PathBuf,
    /// `<language>.wasm`, as the tests want it.
    tours: PathBuf,
    templates: PathBuf,
    /// When the time box ends.
    end: Instant,
}

impl<'a> Bench<'a> {
    fn new(workspace: &'a Workspace, end: Instant) -> Result<Self> {
        let folder = workspace.target.join("languages");
        let bench = Self {
            workspace,
            toolchains: Toolchains::new(workspace, &folder),
            projects: folder.join("projects"),
            tours: folder.join("tours"),
            templates: folder.join("templates"),
            end,
        };
        for made_anew in [&bench.tours, &bench.templates] {
            if made_anew.exists() {
                fs::remove_dir_all(made_anew)?;
            }
            fs::create_dir_all(made_anew)?;
        }
        Ok(bench)
    }

    /// What a language may take at this moment.
    fn time_left(&self) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        match left.checked_sub(RUN_TIME) {
            Some(left) if !left.is_zero() => Ok(left.min(LANGUAGE_TIME)),
            _ => Err(Skip::because(&anyhow!("the time box is over"))),
        }
    }

    /// Builds a language's template and its tour in one project.
    fn build(&self, guest: &Guest) -> Result<()> {
        let project = self.projects.join(guest.name);
        if project.exists() {
            fs::remove_dir_all(&project)?;
        }
        let mut new = Command::new(self.workspace.target.join("debug/consort"));
        new.args(["plugin", "new", "hello", "--lang", guest.name, "--into"]);
        shell::run(new.arg(&project))?;
        let readme = fs::read_to_string(project.join("README.md"))?;
        let command = build_command(&readme)?;
        let file = format!("{}.wasm", guest.name);
        self.make(&project, command)?;
        let template = project.join("template.wasm");
        copy(&project.join(guest.result), &template)?;
        let source = self.workspace.root.join("guest-sdk").join(guest.tour);
        copy(&source, &project.join(guest.place))?;
        if let Some(translate) = guest.translate {
            self.make(&project, translate)?;
        }
        self.make(&project, command)?;
        if let Some(check) = guest.check {
            self.make(&project, check)?;
        }
        let tour = project.join("tour.wasm");
        copy(&project.join(guest.result), &tour)?;
        if let Some(also) = &guest.also {
            fs::remove_file(project.join(also.replaced))?;
            let source = self.workspace.root.join("guest-sdk").join(also.source);
            copy(&source, &project.join(also.place))?;
            self.make(&project, command)?;
            let file = format!("{}.wasm", also.name);
            copy(&project.join(guest.result), &self.templates.join(file))?;
        }
        // Both or none, as the tests expect both of each language.
        copy(&tour, &self.tours.join(&file))?;
        copy(&template, &self.templates.join(&file))
    }

    /// Runs the command of a README in its project, with the tools in front. It is no failure if
    /// the time box ends before the command has had what a language may take.
    fn make(&self, project: &Path, command: &str) -> Result<()> {
        let time = self.time_left()?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(project)
            .env("PATH", self.toolchains.path()?)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            // A project of its own, wherever this workspace builds.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS");
        shell::run_within(&mut shell, time).map_err(|error| {
            if error.is::<shell::TookTooLong>() && time < LANGUAGE_TIME {
                return Skip::because(&error.context("the time box is over"));
            }
            error
        })
    }

    /// Tests the languages that were built, each of which must be there.
    fn run_on_host(&self, built: &[&str]) -> Result<()> {
        ensure!(!built.is_empty(), "no language was built");
        // Two files of tests are named `languages`: one drives instances, one `consort sim`.
        self.test(&["--test", "languages", "--test", "templates"], built)
    }

    /// Runs daemons with a language each in one group.
    fn run_group(&self, languages: &[&str]) -> Result<()> {
        self.test(&["--test", "mixed_group"], languages)
    }

    /// Runs files of tests with these languages.
    fn test(&self, files: &[&str], languages: &[&str]) -> Result<()> {
        // As the whole workspace, like every build: one choice of features, one wasmtime.
        let arguments = [&["test", "--workspace"], files].concat();
        let mut cargo = shell::cargo(&self.workspace.root, arguments);
        cargo
            .env("CONSORT_LANGUAGES", languages.join(" "))
            .env("CONSORT_TOURS", &self.tours)
            .env("CONSORT_TEMPLATES", &self.templates);
        let left = self.end.saturating_duration_since(Instant::now());
        shell::run_within(&mut cargo, left.max(RUN_TIME))
    }

    fn compare_bindings(&self) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        let folder = self.workspace.target.join("languages");
        bindings::compare(self.workspace, &self.toolchains, &folder, left)
    }
}

/// The indented line below the heading `## Build`.
fn build_command(readme: &str) -> Result<&str> {
    let (_, below) = readme
        .split_once("\n## Build\n")
        .context("the README has no heading `## Build`")?;
    let mut commands = below.lines().filter_map(|line| line.strip_prefix("    "));
    let Some(command) = commands.next() else {
        bail!("the README names no command");
    };
    ensure!(
        commands.next().is_none(),
        "the README names more than one command"
    );
    Ok(command)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_one_below_its_heading() {
        let readme = "# a\n\n    not this\n\n## Build\n\n    make it\n\ngives `a`.\n";
        assert_eq!(build_command(readme).unwrap(), "make it");
        assert!(build_command("# a\n").is_err());
        assert!(build_command("\n## Build\nnothing\n").is_err());
        assert!(build_command("\n## Build\n    a\n    b\n").is_err());
    }
}
