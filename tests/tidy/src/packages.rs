//! Packages and what they depend on, as cargo sees them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, relative to the workspace.
    pub folder: PathBuf,
    /// What it says of itself.
    pub description: String,
    /// What its manifest names.
    pub dependencies: Vec<Dependency>,
}

/// A dependency in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the package depended on.
    pub name: String,
    /// Whether only tests, benchmarks and examples see it.
    pub for_tests: bool,
}

/// Every package of the workspace.
///
/// # Panics
/// `cargo metadata` fails or prints something unexpected.
#[must_use]
pub fn all(root: &Path) -> Vec<Package> {
    let text = cargo(
        root,
        &["metadata", "--no-deps", "--offline", "--format-version=1"],
    );
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata prints JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("metadata lists packages");
    packages
        .iter()
        .map(|package| package_from(package, root))
        .collect()
}

/// The names of everything that ends up in `package` on this platform, itself included: what it
/// depends on, what that depends on, and so forth, without what only builds or tests it.
///
/// # Panics
/// `cargo tree` fails.
#[must_use]
pub fn closure(root: &Path, package: &str) -> BTreeSet<String> {
    let arguments = [
        "tree",
        "--offline",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ];
    let text = cargo(root, &[&arguments[..], &["--package", package]].concat());
    text.lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

fn cargo(root: &Path, arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(arguments)
        .output();
    let output = output.expect("cargo runs this test, so it can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo {arguments:?} failed: {errors}"
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn package_from(package: &Value, root: &Path) -> Package {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text("manifest_path"));
    let folder = manifest.parent().expect("a manifest is in a folder");
    let dependencies = package["dependencies"]
        .as_array()
        .expect("metadata lists dependencies");
    Package {
        name: text("name"),
        folder: folder
            .strip_prefix(root)
            .expect("members are below the root")
            .to_owned(),
        description: text("description"),
        dependencies: dependencies.iter().map(dependency_from).collect(),
    }
}

fn dependency_from(dependency: &Value) -> Dependency {
    Dependency {
        name: dependency["name"]
            .as_str()
            .expect("a dependency has a name")
            .to_owned(),
        for_tests: dependency["kind"] == "dev",
    }
}
