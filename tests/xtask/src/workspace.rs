//! The workspace as cargo describes it: its folders, packages and targets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// What `cargo metadata` says.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo builds, which `CARGO_TARGET_DIR` or a configuration may have moved.
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the root.
    folder: PathBuf,
    pub(crate) targets: Vec<Target>,
}

/// One target of a package.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `cdylib`, `bin`, `example`, `test`, `bench`, …
    pub(crate) kinds: Vec<String>,
    pub(crate) crate_types: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this program belongs to.
    pub(crate) fn load() -> Result<Self> {
        // `cargo run` sets it to this package's folder, wherever the user stands.
        let folder = std::env::var_os("CARGO_MANIFEST_DIR")
            .context("start this by `cargo xtask`, which names the workspace")?;
        let arguments = ["metadata", "--no-deps", "--format-version=1"];
        let text = shell::output(&mut shell::cargo(Path::new(&folder), arguments))?;
        let metadata = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
        Self::from_metadata(&metadata).context("`cargo metadata` lacks an expected field")
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata["workspace_root"].as_str()?);
        let packages = metadata["packages"].as_array()?.iter();
        Some(Self {
            packages: packages
                .map(|package| package_from(package, &root))
                .collect::<Option<_>>()?,
            target: PathBuf::from(metadata["target_directory"].as_str()?),
            root,
        })
    }

    /// The packages somewhere under `folder`, which is relative to the root.
    pub(crate) fn packages_under(&self, folder: &str) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(move |package| package.folder.starts_with(folder))
    }
}

impl Target {
    /// Whether it is built as a WASM module or component: a C-style library.
    pub(crate) fn is_guest(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kinds.iter().any(|own| own == kind)
    }
}

fn package_from(package: &Value, root: &Path) -> Option<Package> {
    let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
    let targets = package["targets"]
        .as_array()?
        .iter()
        .map(target_from)
        .collect::<Option<_>>()?;
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        folder: folder.strip_prefix(root).ok()?.to_owned(),
        targets,
    })
}

fn target_from(target: &Value) -> Option<Target> {
    Some(Target {
        name: target["name"].as_str()?.to_owned(),
        kinds: texts(&target["kind"])?,
        crate_types: texts(&target["crate_types"])?,
    })
}

fn texts(list: &Value) -> Option<Vec<String>> {
    list.as_array()?
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_has_its_plugins() {
        let workspace = Workspace::load().expect("run by cargo");
        assert!(workspace.root.join("Cargo.lock").is_file());
        let plugins: Vec<_> = workspace.packages_under("plugins").collect();
        assert!(
            plugins
                .iter()
                .any(|package| package.name == "consort-heartbeat")
        );
        for package in plugins {
            assert!(
                package.targets.iter().any(Target::is_guest),
                "{}",
                package.name
            );
        }
        let names = workspace
            .packages_under("tests/xtask")
            .map(|package| package.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["xtask"]);
    }

    #[test]
    fn a_missing_field_is_noticed() {
        let metadata = serde_json::json!({ "workspace_root": "/w", "packages": [] });
        assert!(Workspace::from_metadata(&metadata).is_none());
    }
}
