//! The plugins folder: which plugins lie in it, and their files' content.
//!
//! A plugin is `<id>/plugin.wasm`, with an optional `plugin.toml` beside it, or a bare `<id>.wasm`.
//! Symlinks are followed within the folder; one that leads out of it is refused, since what lies
//! elsewhere may be anyone's, and changes there are not noticed. Hidden entries and other files are
//! passed over; what looks like a plugin and is none is named with the reason.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    let root = folder.canonicalize()?;
    for path in paths {
        if let Err(why) = scan.entry(&root, &path) {
            scan.ignored.push((path, why));
        }
    }
    Ok(scan)
}

impl Scan {
    /// Looks at one entry of the folder; an error says why it is not taken.
    fn entry(&mut self, root: &Path, path: &Path) -> Result<(), String> {
        let Some((name, wasm, manifest)) = candidate(path)? else {
            return Ok(());
        };
        let Some(wasm_stamp) = stamp(root, &wasm)? else {
            return Ok(());
        };
        let manifest = match manifest {
            Some(path) => stamp(root, &path)?.map(|stamp| (path, stamp)),
            None => None,
        };
        let id = PluginId::new(name).map_err(|invalid| invalid.to_string())?;
        if self.plugins.contains_key(&id) {
            return Err(format!(
                "the folder {id} holds the plugin already; remove one of the two"
            ));
        }
        if self.plugins.len() >= PLUGINS_MAX {
            return Err(format!("a folder may hold {PLUGINS_MAX} plugins"));
        }
        let (manifest, manifest_stamp) = manifest.unzip();
        let fingerprint = (wasm_stamp, manifest_stamp);
        let found = Found {
            wasm,
            manifest,
            fingerprint,
        };
        self.plugins.insert(id, found);
        Ok(())
    }
}

/// The name and files of what may be a plugin.
type Candidate = Option<(String, PathBuf, Option<PathBuf>)>;

fn candidate(path: &Path) -> Result<Candidate, String> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    if name.starts_with('.') {
        return Ok(None);
    }
    let bare = name.strip_suffix(".wasm");
    if path.is_dir() {
        let wasm = path.join("plugin.wasm");
        if bare.is_some() && fs::symlink_metadata(&wasm).is_err() {
            return Err(
                "it is a folder; a plugin is a file <id>.wasm or <id>/plugin.wasm".to_owned(),
            );
        }
        return Ok(Some((
            name.to_owned(),
            wasm,
            Some(path.join("plugin.toml")),
        )));
    }
    if name.ends_with(".cwasm") {
        return Err(
            "it is named as precompiled code, which would run outside the sandbox; \
             copy the .wasm file that it was made from"
                .to_owned(),
        );
    }
    Ok(bare.map(|id| (id.to_owned(), path.to_owned(), None)))
}

/// The stamp of a file that may be read; none if it is missing.
fn stamp(root: &Path, path: &Path) -> Result<Option<Stamp>, String> {
    // A symlink whose target is missing is missing, too: the target may come.
    let (Ok(metadata), Ok(real)) = (fs::metadata(path), path.canonicalize()) else {
        return Ok(None);
    };
    let name = path.file_name().unwrap_or_default().display();
    if !real.starts_with(root) {
        return Err(format!(
            "{name} is a symbolic link that leads out of the plugins folder, to {}; \
             copy the file into the folder",
            real.display()
        ));
    }
    if !metadata.is_file() {
        return Err(format!(
            "{name} is no plain file; a plugin is a file <id>.wasm or <id>/plugin.wasm"
        ));
    }
    Ok(Some(Stamp::from(&metadata)))
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
    pub(crate) fn new(wasm: &[u8], manifest: Option<&str>) -> Self {
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
        let stamp = |path: &Path| fs::metadata(path).ok().as_ref().map(Stamp::from);
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
    // What was a plain file a moment ago may be a pipe by now, which must not be waited for.
    File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
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
        let why = &scan.ignored[1].1;
        assert_eq!(
            why,
            "the folder one holds the plugin already; remove one of the two"
        );
    }

    #[test]
    fn what_looks_like_a_plugin_and_is_none_is_named() {
        let outside = tempfile::tempdir().expect("a temporary folder");
        fs::write(outside.path().join("plugin.wasm"), "x").expect("written");
        fs::write(outside.path().join("plugin.toml"), "x").expect("written");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| folder.path().join(path);
        let link = |from: PathBuf, to: &str| {
            std::os::unix::fs::symlink(from, at(to)).expect("linked");
        };
        for made in ["folder.wasm", "deep", "deep/plugin.wasm", "half"] {
            fs::create_dir(at(made)).expect("made");
        }
        fs::write(at("half/plugin.wasm"), "x").expect("written");
        link(outside.path().join("plugin.toml"), "half/plugin.toml");
        link(outside.path().join("plugin.wasm"), "leak.wasm");
        link(outside.path().to_owned(), "leaks");
        link(PathBuf::from("/dev/zero"), "zero.wasm");
        fs::write(at("app.cwasm"), "x").expect("written");
        nix::unistd::mkfifo(&at("pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let scan = scan(folder.path()).expect("readable");
        assert!(scan.plugins.is_empty(), "{:?}", scan.plugins);
        let why = |name: &str| {
            let of_it = |(path, _): &&(PathBuf, String)| *path == at(name);
            let found = scan.ignored.iter().find(of_it);
            found.map(|(_, why)| why.as_str()).unwrap_or_default()
        };
        for (name, expected) in [
            ("folder.wasm", "it is a folder"),
            ("deep", "plugin.wasm is no plain file"),
            ("half", "plugin.toml is a symbolic link that leads out"),
            ("leak.wasm", "leads out of the plugins folder"),
            ("leaks", "leads out of the plugins folder"),
            ("zero.wasm", "leads out of the plugins folder"),
            ("app.cwasm", "precompiled code"),
            ("pipe.wasm", "is no plain file"),
        ] {
            assert!(why(name).contains(expected), "{name}: {}", why(name));
        }
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
