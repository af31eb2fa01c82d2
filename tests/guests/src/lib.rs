//! Fixture plugins for the tests of the plugin host, built on demand.
//!
//! The plugins are this crate's examples. They are built once per process, into a target folder
//! of their own, so that the cargo that runs the tests is not in the way.

pub mod bombs;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const COMPONENT_TARGET: &str = "wasm32-wasip2";
const MODULE_TARGET: &str = "wasm32-unknown-unknown";

/// The path of a fixture as a component.
///
/// # Panics
/// The fixtures do not build, or there is none of this name.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    artifact(COMPONENT_TARGET, name)
}

/// The path of a fixture as a core module that carries its component type.
///
/// # Panics
/// The fixtures do not build, or there is none of this name.
#[must_use]
pub fn fixture_module(name: &str) -> PathBuf {
    artifact(MODULE_TARGET, name)
}

/// A plugin of `plugins/` by its name.
///
/// # Panics
/// It does not build, or there is none of this name.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    let package = format!("consort-{name}");
    let target = cargo_build(&[
        "--package",
        &package,
        "--lib",
        "--profile",
        "plugin",
        "--target",
        COMPONENT_TARGET,
    ]);
    let folder = target.join(COMPONENT_TARGET).join("plugin");
    let path = folder.join(format!("consort_{name}.wasm"));
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

fn artifact(target: &str, name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(build);
    let path = folder
        .join(target)
        .join("plugin/examples")
        .join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "there is no fixture {name}: {} is missing",
        path.display()
    );
    path
}

/// Builds all fixtures and gives the target folder.
fn build() -> PathBuf {
    cargo_build(&[
        "--package",
        "consort-test-guests",
        "--examples",
        "--features",
        "guest",
        "--profile",
        "plugin",
        "--target",
        COMPONENT_TARGET,
        "--target",
        MODULE_TARGET,
    ])
}

/// Builds for the guests' targets; gives the target folder.
fn cargo_build(arguments: &[&str]) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from)
        .join("guests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet"])
        .args(arguments)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&workspace)
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the plugins do not build:\n{errors}"
    );
    target
}
