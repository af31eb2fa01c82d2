//! Core files of plugins that trapped, for debuggers: the form is that of WebAssembly's tool
//! conventions (`Coredump.md`).
//!
//! Nothing is kept unless somebody asked for it. Invariants: files and bytes of one run of the
//! program are bounded; a file is whole or absent; only this user can read it, for it holds all that
//! the plugin had in its memory. The name says plugin, device and group time, so the same run of a
//! simulation overwrites its own files and no others.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use consort_proto::PluginId;
use thiserror::Error;
use wasmtime::{Store, WasmCoreDump};

use crate::guest::Guest;

/// The most cores that one run of the program keeps.
const FILES_MAX: usize = 16;

/// The most bytes that they take together.
const BYTES_MAX: usize = 512 << 20;

/// The most characters of a device's name in a file's name.
const DEVICE_CHARS_MAX: usize = 64;

/// Where cores are kept, and how many there are.
#[derive(Clone, Debug)]
pub struct Cores(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    files: usize,
    bytes: usize,
}

/// Why a core was not kept.
#[derive(Debug, Error)]
enum CoreError {
    #[error("{FILES_MAX} cores are kept already")]
    TooMany,
    #[error("it has {bytes} bytes, and {left} are left for cores")]
    TooLarge { bytes: usize, left: usize },
    #[error("{} cannot be written: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Cores {
    /// Keeps cores in a folder, which is made, for this user alone, if it is missing. At most 16 files
    /// and 512 MiB for as long as this value and its clones live.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            kept: Mutex::new(Kept::default()),
        })))
    }

    /// Keeps the core that an error carries; in words, where it is or why it is not kept. None if
    /// the error carries none.
    pub(crate) fn keep(
        &self,
        error: &wasmtime::Error,
        plugin: &PluginId,
        store: &mut Store<Guest>,
    ) -> Option<String> {
        let dump = error.downcast_ref::<WasmCoreDump>()?;
        let guest = store.data();
        let device = &guest.view.this_device().name;
        let name = file_name(plugin, device, guest.clock.group_time());
        Some(match self.write(&name, plugin, dump, store) {
            Ok(path) => format!("its core is in {}", path.display()),
            Err(error) => format!("its core is not kept: {error}"),
        })
    }

    fn write(
        &self,
        name: &str,
        plugin: &PluginId,
        dump: &WasmCoreDump,
        store: &mut Store<Guest>,
    ) -> Result<PathBuf, CoreError> {
        // One at a time, so that the bounds hold and only one core is in memory.
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.files >= FILES_MAX {
            return Err(CoreError::TooMany);
        }
        let left = BYTES_MAX - kept.bytes;
        let fits = |bytes: usize| {
            let fits = (bytes <= left).then_some(());
            fits.ok_or(CoreError::TooLarge { bytes, left })
        };
        // A core is made whole in memory, and is about as large as the guest's memories.
        fits(store.data().memory.used())?;
        let core = dump.serialize(&mut *store, plugin.as_str());
        fits(core.len())?;
        let path = self.0.folder.join(name);
        replace(&path, &core).map_err(|source| CoreError::Write {
            path: path.clone(),
            source,
        })?;
        kept.files += 1;
        kept.bytes += core.len();
        Ok(path)
    }
}

/// Writes a file for this user alone, whole or not at all.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // What is left of it is of no use; the error says what went wrong.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Plugin, device and group time in microseconds. A device's name may hold anything; here it holds
/// what every file system takes.
fn file_name(plugin: &PluginId, device: &str, group_time_us: u64) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let device: String = device
        .chars()
        .take(DEVICE_CHARS_MAX)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    format!("{plugin}.{device}.{group_time_us}.core")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_says_plugin_device_and_time_whatever_the_device_is_called() {
        let plugin = PluginId::new("lights").expect("valid");
        let name = |device: &str| file_name(&plugin, device, 1_700);
        assert_eq!(name("n3"), "lights.n3.1700.core");
        assert_eq!(name("../x\u{1b}é"), "lights.___x__.1700.core");
        assert_eq!(
            name(&"x".repeat(1000)).len(),
            "lights..1700.core".len() + 64
        );
    }

    #[test]
    fn a_file_is_this_user_s_alone_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.core");
        for content in ["long content", "short"] {
            replace(&path, content.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), content);
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(folder.path()).expect("there").count();
        assert_eq!(files, 1, "nothing is left beside it");
        assert!(replace(Path::new("/nowhere/a.core"), b"").is_err());
    }
}
