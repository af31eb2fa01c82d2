//! Compiled code on disk, private to this user.
//!
//! Loading compiled code runs it outside the sandbox, so nothing is loaded that this host did not
//! write: each entry carries a keyed hash (BLAKE2s, RFC 7693) over its name and its content, with a
//! key that lies in the same folder and that, like the entries, only the owner can read. A file
//! that is damaged, altered, renamed, open to others or another user's is put aside with a warning
//! and compiled anew. An entry's name is the SHA-256 of the plugin's file and a hash of all that
//! compiled code depends on, so that another build or another machine does not find it.
//!
//! An entry is read into memory, checked there and loaded from there: what happens to its file
//! meanwhile or later changes nothing. Several processes may share a folder; [`CodeCache::claim`] keeps
//! them from compiling the same file at once.

mod claim;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use blake2::Blake2sMac;
use blake2::digest::{KeyInit, Mac, consts::U32};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tracing::{debug, warn};
use wasmtime::Engine;

pub(crate) use claim::Claim;

/// The file that holds the key.
const KEY_FILE: &str = "key";

/// What entries end with; nothing else in the folder is touched.
const EXTENSION: &str = "code";

/// The longest entry that is read: the longest code and its hash.
const ENTRY_BYTES_MAX: u64 = (256 << 20) + HASH_BYTES as u64;

/// All entries together; beyond, the ones that were not used for longest are removed.
const TOTAL_BYTES_MAX: u64 = 512 << 20;

const HASH_BYTES: usize = 32;

/// The folder of compiled code.
#[derive(Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    key: Key,
    /// What compiled code depends on besides the plugin's file.
    engine: [u8; 8],
}

/// Tells the files of one process apart that are being written; it may have the folder open more than
/// once.
static WRITES: AtomicU64 = AtomicU64::new(0);

struct Key([u8; HASH_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl CodeCache {
    /// Opens the folder, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be made private, or belongs to another user.
    pub(crate) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let folder = folder.canonicalize()?;
        owned(&fs::metadata(&folder)?)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let mut settings = EngineHash(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        Ok(Self {
            key: key(&folder)?,
            engine: settings.finish().to_be_bytes(),
            folder,
        })
    }

    /// The compiled code of a plugin's file, if it is there and sound.
    pub(crate) fn get(&self, wasm: &[u8]) -> Option<Vec<u8>> {
        let name = self.name(wasm);
        let path = self.folder.join(&name);
        let entry = match read_private(&path, ENTRY_BYTES_MAX) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.put_aside(&path, &error.to_string());
                return None;
            }
        };
        let code = entry
            .split_at_checked(HASH_BYTES)
            .filter(|(hash, code)| self.mac(&name, code).verify_slice(hash).is_ok());
        let Some((_, code)) = code else {
            self.put_aside(&path, "it is not what was written");
            return None;
        };
        let code = code.to_vec();
        // The time of the last use decides what is removed first; nothing else depends on it.
        let touched = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            debug!(file = %path.display(), %error, "the time of a use was not noted");
        }
        Some(code)
    }

    /// The claim to compile a plugin's file whose code is not kept. None if another had it, which was
    /// waited for: the code may be kept now.
    pub(crate) fn claim(&self, wasm: &[u8], cancelled: &AtomicBool) -> Option<Claim> {
        claim::take(&self.folder.join(self.name(wasm)), cancelled)
    }

    /// Keeps compiled code. Without room for it, it is compiled again at the next start.
    pub(crate) fn put(&self, wasm: &[u8], code: &[u8]) {
        let name = self.name(wasm);
        let hash = self.mac(&name, code).finalize().into_bytes();
        let path = self.folder.join(&name);
        let aside = aside(&path);
        let written = write_private(&aside, &[&hash, code]).and_then(|()| fs::rename(&aside, path));
        if let Err(error) = written {
            warn!(
                folder = %self.folder.display(), cause = %error,
                "compiled code is not kept; it is compiled again at the next start"
            );
            // It may not be there.
            let _ = fs::remove_file(&aside);
        }
        self.shrink();
    }

    /// An entry that passed the checks and yet is not taken by the engine.
    pub(crate) fn reject(&self, wasm: &[u8], cause: &str) {
        self.put_aside(&self.folder.join(self.name(wasm)), cause);
    }

    fn put_aside(&self, path: &Path, cause: &str) {
        warn!(file = %path.display(), cause, "compiled code is not used; it is compiled anew");
        // Where it cannot be removed, it is replaced.
        if let Err(error) = fs::remove_file(path) {
            debug!(file = %path.display(), %error, "compiled code was not removed");
        }
    }

    fn name(&self, wasm: &[u8]) -> String {
        let content = Sha256::digest(wasm);
        format!("{}-{}.{EXTENSION}", hex(&content), hex(&self.engine))
    }

    fn mac(&self, name: &str, code: &[u8]) -> Blake2sMac<U32> {
        <Blake2sMac<U32> as KeyInit>::new((&self.key.0).into())
            .chain_update(b"consort compiled code v1")
            .chain_update((name.len() as u64).to_be_bytes())
            .chain_update(name)
            .chain_update(code)
    }

    /// Removes what was not used for longest until the rest fits, and what was left half-written.
    fn shrink(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut found: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok()?;
                let used = metadata.modified().ok()?;
                entry
                    .file_name()
                    .to_str()?
                    .contains(&format!(".{EXTENSION}"))
                    .then(|| (used, metadata.len(), entry.path()))
            })
            .collect();
        found.sort_by(|one, other| other.cmp(one));
        let mut total = 0;
        for (_, bytes, path) in found {
            total += bytes;
            if total > TOTAL_BYTES_MAX && fs::remove_file(&path).is_ok() {
                debug!(file = %path.display(), "compiled code of long ago was removed");
            }
        }
    }
}

/// The folder's key, which is made if there is none that can be used.
fn key(folder: &Path) -> io::Result<Key> {
    let path = folder.join(KEY_FILE);
    match read_private(&path, HASH_BYTES as u64) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(Key(key)),
            Err(_) => replace_key(&path, "it has another length"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => replace_key(&path, &error.to_string()),
    }
    let mut key = [0; HASH_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let aside = aside(&path);
    // It may be left from a process of the same number.
    let _ = fs::remove_file(&aside);
    write_private(&aside, &[&key])?;
    let linked = fs::hard_link(&aside, &path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(Key(key)),
        // Another was faster; its key is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let bytes = read_private(&path, HASH_BYTES as u64)?;
            let key = bytes.try_into();
            key.map(Key)
                .map_err(|_| io::Error::other("its key has another length"))
        }
        Err(error) => Err(error),
    }
}

/// Where a file is written before it gets its name.
fn aside(path: &Path) -> PathBuf {
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.{number}", std::process::id()));
    aside.into()
}

fn replace_key(path: &Path, cause: &str) {
    warn!(file = %path.display(), cause, "the key of compiled code is replaced; plugins are compiled anew");
    if let Err(error) = fs::remove_file(path) {
        debug!(file = %path.display(), %error, "the key was not removed");
    }
}

/// Reads a file that must be this user's own, plain, and closed to others.
fn read_private(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    owned(&metadata)?;
    let denied = |text| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if !metadata.is_file() {
        return denied("it is no plain file");
    }
    if metadata.mode() & 0o077 != 0 {
        return denied("it is open to other users");
    }
    if metadata.len() > bytes_max {
        return Err(io::Error::other("it is too long"));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn owned(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it belongs to another user; remove it, or run as its owner",
    ))
}

fn write_private(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what the engine names, the same in every process.
struct EngineHash(Sha256);

impl Hasher for EngineHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        Engine::new(&crate::engine::config(&crate::metering::Metering::CpuClock))
            .expect("an engine")
    }

    fn entry(folder: &Path) -> PathBuf {
        let mut entries = fs::read_dir(folder).expect("readable");
        let code = entries.find_map(|entry| {
            let path = entry.expect("readable").path();
            path.extension()
                .is_some_and(|ext| ext == EXTENSION)
                .then_some(path)
        });
        code.expect("an entry")
    }

    #[test]
    fn what_was_put_comes_back_in_another_process_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("cache");
        let cache = CodeCache::open(&folder, &engine()).expect("private");
        assert_eq!(cache.get(b"one"), None);
        cache.put(b"one", b"code");
        assert_eq!(cache.get(b"one").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get(b"two"), None);
        let again = CodeCache::open(&folder, &engine()).expect("private");
        assert_eq!(again.get(b"one").as_deref(), Some(&b"code"[..]));
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&entry(&folder)), 0o600);
        assert_eq!(mode(&folder.join(KEY_FILE)), 0o600);
    }

    #[test]
    fn what_was_altered_is_not_taken() {
        let alter: [fn(&Path); 7] = [
            |path| fs::write(path, b"").expect("written"),
            |path| {
                let whole = fs::read(path).expect("read");
                fs::write(path, &whole[..whole.len() - 1]).expect("written");
            },
            |path| {
                let mut whole = fs::read(path).expect("read");
                *whole.last_mut().expect("long") ^= 1;
                fs::write(path, whole).expect("written");
            },
            |path| {
                let mut whole = fs::read(path).expect("read");
                whole[3] ^= 0x80;
                fs::write(path, whole).expect("written");
            },
            |path| {
                let open = fs::Permissions::from_mode(0o640);
                fs::set_permissions(path, open).expect("changed");
            },
            |path| {
                let aside = path.with_extension("aside");
                fs::rename(path, &aside).expect("renamed");
                std::os::unix::fs::symlink(aside, path).expect("linked");
            },
            |path| fs::write(path.with_file_name(KEY_FILE), [7; HASH_BYTES]).expect("written"),
        ];
        for (number, alter) in alter.into_iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let cache = CodeCache::open(folder.path(), &engine()).expect("private");
            cache.put(b"one", b"the code of one");
            alter(&entry(folder.path()));
            let again = CodeCache::open(folder.path(), &engine()).expect("private");
            assert_eq!(again.get(b"one"), None, "alteration {number}");
            again.put(b"one", b"anew");
            assert_eq!(again.get(b"one").as_deref(), Some(&b"anew"[..]), "{number}");
        }
    }

    #[test]
    fn an_entry_under_another_name_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = CodeCache::open(folder.path(), &engine()).expect("private");
        cache.put(b"one", b"the code of one");
        let two = folder.path().join(cache.name(b"two"));
        fs::copy(entry(folder.path()), &two).expect("copied");
        assert_eq!(cache.get(b"two"), None);
        assert!(!two.exists(), "it is put aside");
    }

    #[test]
    fn a_folder_that_many_open_at_once_has_one_key() {
        let engine = engine();
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let folder = folder.path().join("cache");
            let open = || CodeCache::open(&folder, &engine).expect("private").key.0;
            let keys: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
                let keys = threads.into_iter().map(|thread| thread.join());
                keys.map(|key| key.expect("it opened")).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
        }
    }

    #[test]
    fn a_key_of_another_length_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(KEY_FILE), b"short").expect("written");
        let cache = CodeCache::open(folder.path(), &engine()).expect("private");
        cache.put(b"one", b"code");
        assert_eq!(cache.get(b"one").as_deref(), Some(&b"code"[..]));
    }
}
