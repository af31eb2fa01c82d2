//! The bindings that wit-bindgen has made of the contract, for C and for Go, are those that it makes
//! of it today. Those of Python are compared where they are used, by componentize-py; Rust's are made
//! at every build; the other SDKs have theirs by hand, and `tests/tidy` looks through all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::toolchains::{Toolchains, answers};
use crate::shell::{self, TookTooLong};
use crate::steps::Skip;
use crate::workspace::Workspace;

/// The version that made what is kept.
const VERSION: &str = "0.63.0";

/// Makes them anew in `folder` and compares.
pub(super) fn compare(
    workspace: &Workspace,
    toolchains: &Toolchains<'_>,
    folder: &Path,
    time: Duration,
) -> Result<()> {
    let generator = generator(toolchains, folder, time)?;
    let sdk = workspace.root.join("guest-sdk");
    let wit = workspace.root.join("wit");
    let fresh = folder.join("bindings");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let mut c = Command::new(&generator);
    c.arg("c").arg(&wit);
    c.args(["--world", "plugin", "--no-object-file", "--out-dir"]);
    shell::run(c.arg(fresh.join("c")))?;
    same(&sdk.join("c/bindings"), &fresh.join("c"))?;

    let Some(formatter) = formatter(toolchains)? else {
        let why = anyhow!("those for C are up to date; there is no gofmt for those for Go");
        return Err(Skip::because(&why));
    };
    let programs = generator.parent().context("a program is in a folder")?;
    let mut paths = vec![programs.to_owned(), formatter];
    paths.extend(std::env::split_paths(&toolchains.path()?));
    let path = std::env::join_paths(paths)?;
    let mut go = Command::new("sh");
    go.arg("generate.sh").arg(&wit).env("PATH", path);
    fs::create_dir_all(fresh.join("go"))?;
    fs::copy(sdk.join("go/generate.sh"), fresh.join("go/generate.sh"))?;
    shell::run(go.current_dir(fresh.join("go")))?;
    same(
        &sdk.join("go/internal/bindings"),
        &fresh.join("go/internal/bindings"),
    )
}

/// The folder of gofmt, which comes with Go and not always on the search path.
fn formatter(toolchains: &Toolchains<'_>) -> Result<Option<PathBuf>> {
    let mut ask = Command::new("go");
    ask.args(["env", "GOROOT"])
        .env("PATH", toolchains.path()?)
        .env("GOTOOLCHAIN", "local");
    let Ok(root) = shell::output(&mut ask) else {
        return Ok(None);
    };
    let programs = Path::new(root.trim()).join("bin");
    Ok(Some(programs).filter(|folder| folder.join("gofmt").is_file()))
}

/// wit-bindgen in the right version: where it is installed, or below the target folder.
fn generator(toolchains: &Toolchains<'_>, folder: &Path, time: Duration) -> Result<PathBuf> {
    let own = folder.join("wit-bindgen/bin/wit-bindgen");
    for folder in std::env::split_paths(&toolchains.path()?) {
        let program = folder.join("wit-bindgen");
        if program.is_file() && is_right(&program) {
            return Ok(program);
        }
    }
    if is_right(&own) {
        return Ok(own);
    }
    let outside = std::env::temp_dir();
    let mut ask = shell::cargo(&outside, ["info", "--quiet", "wit-bindgen-cli"]);
    answers(&mut ask, "crates.io")?;
    let package = format!("wit-bindgen-cli@{VERSION}");
    let mut install = shell::cargo(&outside, ["install", "--quiet", "--locked"]);
    install
        .args([&package, "--no-default-features", "--features", "c,go"])
        .arg("--root")
        .arg(folder.join("wit-bindgen"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    shell::run_within(&mut install, time).map_err(|error| match error.is::<TookTooLong>() {
        true => Skip::because(&error),
        false => error,
    })?;
    Ok(own)
}

fn is_right(program: &Path) -> bool {
    let version = shell::output(Command::new(program).arg("--version"));
    version.is_ok_and(|text| text.trim().ends_with(VERSION))
}

/// Holds what is kept against what is made anew.
fn same(kept: &Path, made: &Path) -> Result<()> {
    let (old, new) = (files(kept)?, files(made)?);
    let differs = |name: &&PathBuf| old.get(*name) != new.get(*name);
    let mut names: Vec<&PathBuf> = old.keys().chain(new.keys()).filter(differs).collect();
    names.dedup();
    ensure!(
        names.is_empty(),
        "{} is not what wit-bindgen {VERSION} makes of wit/ ({}): {names:?}",
        kept.display(),
        made.display()
    );
    Ok(())
}

/// All files below a folder, by their names in it.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).with_context(|| format!("read {}", next.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_owned();
                found.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_is_named() {
        let folder = std::env::temp_dir().join(format!("consort-same-{}", std::process::id()));
        let (kept, made) = (folder.join("kept"), folder.join("made"));
        for side in [&kept, &made] {
            fs::create_dir_all(side.join("inner")).unwrap();
            fs::write(side.join("inner/a"), "a").unwrap();
        }
        same(&kept, &made).unwrap();
        fs::write(made.join("b"), "b").unwrap();
        fs::write(made.join("inner/a"), "other").unwrap();
        let told = same(&kept, &made).unwrap_err().to_string();
        assert!(told.contains("\"b\"") && told.contains("inner/a"), "{told}");
        fs::remove_dir_all(folder).unwrap();
    }
}
