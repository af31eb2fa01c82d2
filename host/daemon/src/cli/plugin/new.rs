//! `consort plugin new`: writes a project that builds with the one command its README names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use consort_proto::PluginId;
use thiserror::Error;

use super::templates::Language;
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin's id: lower-case letters, digits, `-`, `_` and `.`.
    #[arg(value_name = "NAME", value_parser = plugin_id)]
    name: PluginId,
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// Where the project goes; otherwise a folder of its name here.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

fn plugin_id(text: &str) -> Result<PluginId, String> {
    PluginId::new(text.to_owned()).map_err(|error| error.to_string())
}

/// Why no project was written, or only a part of it.
#[derive(Debug, Error)]
pub(crate) enum NewError {
    /// Something is in the way.
    #[error("{} is there already; choose another name, or another folder by --into", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

pub(super) fn run(args: &Args) -> Result<(), NewError> {
    let folder = args
        .into
        .clone()
        .unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let taken = fs::read_dir(&folder).map_or_else(
        |error| error.kind() != io::ErrorKind::NotFound,
        |mut entries| entries.next().is_some(),
    );
    if taken {
        return Err(NewError::Exists(folder));
    }
    for file in args.lang.project(&args.name) {
        write(&folder.join(&file.path), &file.text)?;
    }
    output::note(&format!(
        "wrote {}; its README.md says how to build it",
        folder.display()
    ));
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let failed = |source| NewError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path) -> Args {
        Args {
            name: PluginId::new("hello").expect("a plain name"),
            lang: Language::C,
            into: Some(folder.to_owned()),
        }
    }

    #[test]
    fn a_project_is_written_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let project = folder.path().join("deep/hello");
        run(&args(&project)).expect("it is written");
        assert!(project.join("consort/include/consort.h").is_file());
        let makefile = fs::read_to_string(project.join("Makefile")).expect("written");
        assert!(makefile.contains("hello.wasm:"), "{makefile}");
        assert!(matches!(run(&args(&project)), Err(NewError::Exists(_))));
    }

    #[test]
    fn an_empty_folder_will_do_and_a_file_will_not() {
        let folder = tempfile::tempdir().expect("a folder");
        run(&args(folder.path())).expect("an empty folder is no obstacle");
        let file = folder.path().join("README.md");
        assert!(matches!(run(&args(&file)), Err(NewError::Exists(_))));
    }
}
