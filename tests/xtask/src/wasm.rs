//! Builds the plugins. The tests build the guests they need themselves.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell;
use crate::workspace::{Package, Workspace};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

/// Builds every plugin and puts it into `target/plugins/<id>.wasm`. Returns that folder, which
/// then holds these plugins and no others.
pub(crate) fn build_plugins(workspace: &Workspace) -> Result<PathBuf> {
    let plugins: Vec<_> = workspace
        .packages_under("plugins")
        .filter(has_guest)
        .collect();
    build(workspace, &plugins)?;
    let folder = workspace.target.join("plugins");
    clear(&folder)?;
    for package in plugins {
        let id = plugin_id(&package.name);
        for target in package.targets.iter().filter(|target| target.is_guest()) {
            let built =
                artifacts(workspace).join(format!("{}.wasm", target.name.replace('-', "_")));
            let place = folder.join(format!("{id}.wasm"));
            fs::copy(&built, &place)
                .with_context(|| format!("copy {} to {}", built.display(), place.display()))?;
            eprintln!("plugin {id}: {}", place.display());
        }
    }
    Ok(folder)
}

fn build(workspace: &Workspace, packages: &[&Package]) -> Result<()> {
    let mut cargo = shell::cargo(
        &workspace.root,
        ["build", "--target", TARGET, "--profile", PROFILE, "--lib"],
    );
    for package in packages {
        cargo.args(["--package", &package.name]);
    }
    shell::run(&mut cargo)
}

fn has_guest(package: &&Package) -> bool {
    package.targets.iter().any(|target| target.is_guest())
}

fn artifacts(workspace: &Workspace) -> PathBuf {
    workspace.target.join(TARGET).join(PROFILE)
}

/// A plugin is known by its package's name without the project's.
fn plugin_id(package: &str) -> &str {
    package.strip_prefix("consort-").unwrap_or(package)
}

/// Makes the folder, without plugins of an earlier state of the workspace.
fn clear(folder: &PathBuf) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
        {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_leave_out_the_project_s_name() {
        assert_eq!(plugin_id("consort-heartbeat"), "heartbeat");
        assert_eq!(plugin_id("my-app"), "my-app");
    }
}
