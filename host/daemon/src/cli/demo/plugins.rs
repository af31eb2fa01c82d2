//! Finds the plugins that the demonstration runs, and gives each device its copy.
//!
//! A plugin lies in a folder as `<id>.wasm` or as `<id>/plugin.wasm` with its manifest beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DemoError;
use super::log_line::HEARTBEAT;

/// The folder to take the plugins from: the one given, else the first usual one that has the
/// heartbeat plugin.
pub(super) fn find(given: Option<&Path>) -> Result<PathBuf, DemoError> {
    let looked_at = match given {
        Some(folder) => vec![folder.to_owned()],
        None => usual_folders(),
    };
    let found = looked_at
        .iter()
        .find(|folder| has_heartbeat(folder))
        .cloned();
    found.ok_or(DemoError::NoPlugins(looked_at))
}

/// Copies all plugins in `from` to the new folder `to` and returns their ids.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Vec<String>, DemoError> {
    let failed = |source| DemoError::Prepare {
        what: "copy the plugins",
        source,
    };
    fs::create_dir(to).map_err(failed)?;
    let mut ids = Vec::new();
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(id) = copy_plugin(&path, to).map_err(failed)? {
            ids.push(id);
        }
        if ids.len() > PLUGINS_MAX {
            let source = io::Error::other(format!("there are more than {PLUGINS_MAX}"));
            return Err(failed(source));
        }
    }
    ids.sort();
    Ok(ids)
}

/// A demonstration with more plugins is a folder given by mistake.
const PLUGINS_MAX: usize = 64;

fn usual_folders() -> Vec<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("plugins")));
    [PathBuf::from("plugins"), PathBuf::from("target/plugins")]
        .into_iter()
        .chain(beside)
        .collect()
}

fn has_heartbeat(folder: &Path) -> bool {
    folder.join(HEARTBEAT).with_extension("wasm").is_file()
        || folder.join(HEARTBEAT).join("plugin.wasm").is_file()
}

fn copy_plugin(path: &Path, to: &Path) -> io::Result<Option<String>> {
    let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else {
        return Ok(None);
    };
    let id = stem.to_string_lossy().into_owned();
    if path.is_file()
        && path
            .extension()
            .is_some_and(|extension| extension == "wasm")
    {
        fs::copy(path, to.join(name))?;
        return Ok(Some(id));
    }
    if !path.join("plugin.wasm").is_file() {
        return Ok(None);
    }
    let folder = to.join(name);
    fs::create_dir(&folder)?;
    for file in ["plugin.wasm", "plugin.toml"] {
        if path.join(file).is_file() {
            fs::copy(path.join(file), folder.join(file))?;
        }
    }
    Ok(Some(name.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_plugin_are_found_and_copied() {
        let root = tempfile::tempdir().expect("a folder");
        let from = root.path().join("from");
        fs::create_dir_all(from.join("other")).expect("made");
        fs::create_dir_all(from.join("no-plugin")).expect("made");
        fs::write(from.join("other/plugin.wasm"), "o").expect("written");
        fs::write(from.join("other/plugin.toml"), "t").expect("written");
        fs::write(from.join("README.md"), "r").expect("written");
        let missing = find(Some(&from)).expect_err("no heartbeat").to_string();
        assert!(
            missing.contains("heartbeat.wasm") && missing.contains("from"),
            "{missing}"
        );
        fs::write(from.join("heartbeat.wasm"), "h").expect("written");
        assert_eq!(find(Some(&from)).expect("found"), from);
        let to = root.path().join("to");
        assert_eq!(copy(&from, &to).expect("copied"), ["heartbeat", "other"]);
        assert_eq!(fs::read(to.join("heartbeat.wasm")).expect("read"), b"h");
        assert_eq!(fs::read(to.join("other/plugin.toml")).expect("read"), b"t");
        assert!(!to.join("README.md").exists());
    }
}
