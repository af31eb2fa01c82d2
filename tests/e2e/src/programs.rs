//! Where the programs under test are: the daemon and the plugins, built from this workspace.
//!
//! Each is built at most once per test process, by the cargo that runs the tests. That cargo holds
//! no lock any more while the tests run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use consort_test_guests::fixture;

const PLUGIN_TARGET: &str = "wasm32-wasip2";
const PLUGIN_PROFILE: &str = "plugin";

/// The daemon: the program that `CONSORT_BIN` names, or else the one of this workspace.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn consort() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("CONSORT_BIN") {
            return PathBuf::from(path);
        }
        cargo(&["build", "--quiet", "--workspace", "--bins"]);
        built(&target().join("debug").join("consort"))
    })
}

/// The program that plays a stranger on the devices' network, built beside the daemon.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn stranger() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        cargo(&["build", "--quiet", "--workspace", "--bins"]);
        built(&target().join("debug").join("stranger"))
    })
}

/// The plugin `heartbeat`.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn heartbeat() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| plugin("heartbeat"))
}

/// A plugin of `plugins/` by its name.
///
/// # Panics
/// It does not build, or there is none of this name.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    let package = format!("consort-{name}");
    let build = ["build", "--quiet", "--lib", "--package", &package];
    let into = ["--target", PLUGIN_TARGET, "--profile", PLUGIN_PROFILE];
    cargo(&[build.as_slice(), &into].concat());
    let folder = target().join(PLUGIN_TARGET).join(PLUGIN_PROFILE);
    built(&folder.join(format!("consort_{name}.wasm")))
}

/// A fixture of `tests/guests` by its name.
///
/// # Panics
/// The fixtures do not build, or there is none of this name.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    // Tests on several threads ask at once, and one cargo at a time is enough.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    fixture(name)
}

/// The folder that cargo builds into: this very program lies in its `debug`, a test in
/// `debug/deps`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the system names this program");
    let mut folders = program
        .ancestors()
        .skip_while(|folder| !folder.ends_with("debug"));
    let folder = folders.nth(1).expect("cargo built this program");
    folder.to_owned()
}

/// Runs cargo on the workspace. It does not see what the outer cargo says about this package: some
/// build scripts watch those variables, and their crates would be built anew.
fn cargo(arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .arg("--target-dir")
        .arg(target())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    let output = command.output().expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo {} failed:\n{errors}",
        arguments.join(" ")
    );
}

fn built(path: &Path) -> PathBuf {
    assert!(path.is_file(), "cargo did not make {}", path.display());
    path.to_owned()
}
