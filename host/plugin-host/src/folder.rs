//! The plugins folder: which plugins lie in it, and their files' content.
//!
//! A plugin is `<id>/plugin.wasm`, with an optional `plugin.toml` beside it, or a bare `<id>.wasm`.
//! Symlinks are followed; hidden entries and other files are passed over.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use consort_proto::PluginId;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::compile::FILE_BYTES_MAX;

/// The largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// The most plugins of one folder; the rest is passed over.
const PLUGINS_MAX: usize = 256;

/// A plugin's files as they lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) wasm: PathBuf,
    pub(crate) manifest: Option<PathBuf>,
    /// Changes whenever the files may have changed.
    pub(crate) fingerprint: (Stamp, Option<Stamp>),
}

/// A file's size, time of change and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
        }
    }
}

/// What a scan saw.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) plugins: BTreeMap<PluginId, Found>,
    /// Entries that look like plugins and are none, with the reason.
    pub(crate) ignored: Vec<(PathBuf, String)>,
}

/// Looks through the folder.
///
/// # Errors
/// The folder is missing or unreadable.
pub(crate) fn scan(folder: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    // Folders come first, so that a folder wins over a bare file of the same name.
    paths.sort_by_cached_key(|path| (!path.is_dir(), path.clone()));
    for path in paths {
        scan.entry(&path);
    }
    Ok(scan)
}

impl Scan {
    fn entry(&mut self, path: &Path) {
        let Some((name, wasm, manifest)) = candidate(path) else {
            return;
        };
        let Some(wasm_stamp) = stamp(&wasm) else {
            return;
        };
        let manifest = manifest.and_then(|path| stamp(&path).map(|stamp| (path, stamp)));
        let id = match PluginId::new(name) {
            Ok(id) => id,
            Err(invalid) => return self.ignored.push((path.to_owned(), invalid.to_string())),
        };
        if self.plugins.contains_key(&id) {
            let why = format!("the folder {id} holds the plugin already");
            return self.ignored.push((path.to_owned(), why));
        }
        if self.plugins.len() >= PLUGINS_MAX {
            let why = format!("a folder may hold {PLUGINS_MAX} plugins");
            return self.ignored.push((path.to_owned(), why));
        }
        let (manifest, manifest_stamp) = manifest.unzip();
        let fingerprint = (wasm_stamp, manifest_stamp);
        self.plugins.insert(
            id,
            Found {
                wasm,
                manifest,
                fingerprint,
            },
        );
    }
}

/// The name and files of what may be a plugin.
fn candidate(path: &Path) -> Option<(String, PathBuf, Option<PathBuf>)> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    if path.is_dir() {
        let manifest = path.join("plugin.toml");
        return Some((name.to_owned(), path.join("plugin.wasm"), Some(manifest)));
    }
    let id = name.strip_suffix(".wasm")?;
    Some((id.to_owned(), path.to_owned(), None))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    metadata.is_file().then(|| Stamp::from(&metadata))
}

/// The content of a plugin's files.
pub(crate) struct Content {
    pub(crate) wasm: Vec<u8>,
    pub(crate) manifest: Option<String>,
    pub(crate) hash: ContentHash,
}

/// SHA-256 over a plugin's files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentHash([u8; 32]);

impl ContentHash {
    fn new(wasm: &[u8], manifest: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        hash.update((wasm.len() as u64).to_be_bytes());
        hash.update(wasm);
        hash.update(manifest.unwrap_or_default());
        Self(hash.finalize().into())
    }

    /// The first twelve digits, for people.
    pub(crate) fn short(&self) -> String {
        self.0[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.short())
    }
}

/// Why a plugin's files were not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system says no.
    #[error("{} cannot be read: {source}", .file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A manifest is no text, or too long.
    #[error("{}: a plugin.toml is UTF-8 text of at most {} KiB", .0.display(), MANIFEST_BYTES_MAX >> 10)]
    Manifest(PathBuf),
    /// The files changed meanwhile.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
}

impl Found {
    /// Reads the files. A file beyond the size limit is read up to the limit and one byte, which
    /// the compiler then refuses.
    ///
    /// # Errors
    /// A file is unreadable, or changes meanwhile.
    pub(crate) fn read(&self) -> Result<Content, ReadError> {
        let wasm = read_bounded(&self.wasm, FILE_BYTES_MAX as u64 + 1)?;
        let manifest = match &self.manifest {
            Some(path) => {
                let bytes = read_bounded(path, MANIFEST_BYTES_MAX + 1)?;
                let text = String::from_utf8(bytes).ok();
                let text = text.filter(|text| text.len() as u64 <= MANIFEST_BYTES_MAX);
                Some(text.ok_or_else(|| ReadError::Manifest(path.clone()))?)
            }
            None => None,
        };
        let fingerprint = (stamp(&self.wasm), self.manifest.as_deref().and_then(stamp));
        if fingerprint != (Some(self.fingerprint.0), self.fingerprint.1) {
            return Err(ReadError::Changed(self.wasm.clone()));
        }
        let hash = ContentHash::new(&wasm, manifest.as_deref());
        Ok(Content {
            wasm,
            manifest,
            hash,
        })
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io {
        file: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_bare_files_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir(at("one")).expect("made");
        fs::create_dir(at("empty")).expect("made");
        fs::create_dir(at(".hidden")).expect("made");
        for file in [
            "one/plugin.wasm",
            "one/plugin.toml",
            "one.wasm",
            "two.wasm",
            "Bad Name.wasm",
            "readme.md",
            ".hidden/plugin.wasm",
        ] {
            fs::write(at(file), "x").expect("written");
        }
        std::os::unix::fs::symlink(at("two.wasm"), at("link.wasm")).expect("linked");
        std::os::unix::fs::symlink(at("gone"), at("dangling.wasm")).expect("linked");
        let scan = scan(folder.path()).expect("readable");
        let ids: Vec<_> = scan.plugins.keys().map(PluginId::as_str).collect();
        assert_eq!(ids, ["link", "one", "two"]);
        let one = &scan.plugins[&PluginId::new("one").expect("valid")];
        assert_eq!(one.wasm, at("one/plugin.wasm"));
        assert_eq!(one.manifest, Some(at("one/plugin.toml")));
        let ignored: Vec<_> = scan.ignored.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(ignored, [at("Bad Name.wasm"), at("one.wasm")]);
    }

    #[test]
    fn the_hash_covers_both_files() {
        let plain = ContentHash::new(b"ab", None);
        assert_ne!(plain, ContentHash::new(b"a", Some("b")));
        assert_ne!(plain, ContentHash::new(b"ab", Some("b")));
        assert_eq!(plain, ContentHash::new(b"ab", Some("")));
        assert_eq!(plain.short().len(), 12);
    }

    #[test]
    fn a_change_while_reading_is_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a.wasm");
        fs::write(&file, "one").expect("written");
        let found = scan(folder.path())
            .expect("readable")
            .plugins
            .into_values()
            .next();
        let found = found.expect("one plugin");
        assert_eq!(found.read().expect("readable").wasm, b"one");
        fs::write(&file, "longer").expect("written");
        assert!(matches!(found.read(), Err(ReadError::Changed(_))));
    }
}
