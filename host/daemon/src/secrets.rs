//! The two secrets of a device, each in a file of its own in the data folder.
//!
//! `device.key` is what the device is: made at its first start, never replaced. `group.secret`
//! admits it to a group. It holds the text that people carry from device to device, and, once the
//! secret was rotated, the whole keyring.
//!
//! A file appears whole or not at all: it is written beside its place with mode 0600, synced, then
//! renamed. A file that others may read is refused, because its secret may be known already.
//! Nothing here puts a secret, or a part of one, into an error.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use consort_proto::crypto::{Crypto as _, Ring};
use consort_proto::{DeviceId, GroupSecret, Keyring, ParseKeyringError, StaticSecret};
use data_encoding::BASE32_NOPAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use tempfile::NamedTempFile;
use thiserror::Error;
use zeroize::Zeroizing;

/// The device key's file in the data folder.
pub const DEVICE_KEY_FILE: &str = "device.key";
/// The group secret's file in the data folder.
pub const GROUP_SECRET_FILE: &str = "group.secret";

/// Why a secret could not be read, made or stored. A secret stored before is unchanged.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Others may read the file.
    #[error(
        "{} may be read by others (mode {mode:04o}), so its secret may be known to them; if it is \
         not, close it with `chmod 600 {}`, else make a new one", path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no device key.
    #[error(
        "{} is not a device key (it is damaged, or another program's); restore it, or move it away \
         and this device gets a new key, and with it a new id, at the next start", .0.display()
    )]
    NoDeviceKey(PathBuf),
    /// The file is no group secret.
    #[error(
        "{} does not hold a group secret: {source}; give it again with `consort group join --replace`",
        path.display()
    )]
    NoGroupSecret {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        source: ParseKeyringError,
    },
    /// The file has become another group's.
    #[error(
        "{} holds the secret of another group since this daemon was started; it takes that at its \
         next start", .0.display()
    )]
    OtherGroup(PathBuf),
    /// There is a group secret already.
    #[error(
        "this device belongs to a group already ({}); with --replace it leaves that group for good",
        .0.display()
    )]
    Exists(PathBuf),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system's random generator failed")]
    Random,
}

/// Reads this device's key, and makes one at the first start.
///
/// # Errors
/// The file is exposed, damaged or out of reach, or a new one cannot be made.
pub fn device_key(data_dir: &Path) -> Result<StaticSecret, SecretError> {
    let path = data_dir.join(DEVICE_KEY_FILE);
    if let Some(text) = read(&path)? {
        return parse_device_key(&path, &text);
    }
    make_data_dir(data_dir)?;
    let mut bytes = Zeroizing::new([0; 32]);
    fill_random(&mut *bytes)?;
    let text = Zeroizing::new(format!(
        "{DEVICE_KEY_PREFIX}{}\n",
        BASE32_NOPAD.encode(&*bytes)
    ));
    if write_new(&path, text.as_bytes())? {
        return Ok(StaticSecret::new(*bytes));
    }
    // Another process made the key at the same moment: that one holds.
    let text = read(&path)?.ok_or_else(|| SecretError::NoDeviceKey(path.clone()))?;
    parse_device_key(&path, &text)
}

/// The id that belongs to a device's key; none for the few keys that no peer would accept.
#[must_use]
pub fn device_id(key: &StaticSecret) -> Option<DeviceId> {
    Ring.public_key(key).map(|public| public.device_id())
}

/// Reads the group's secrets; none if this device was not given one.
///
/// # Errors
/// The file is exposed, damaged, of a newer version or out of reach.
pub fn group_keyring(data_dir: &Path) -> Result<Option<Keyring>, SecretError> {
    let path = data_dir.join(GROUP_SECRET_FILE);
    let Some(text) = read(&path)? else {
        return Ok(None);
    };
    let keyring = text
        .parse()
        .map_err(|source| SecretError::NoGroupSecret { path, source })?;
    Ok(Some(keyring))
}

/// Reads the group's active secret; none if this device was not given one.
///
/// # Errors
/// As of [`group_keyring`].
pub fn group_secret(data_dir: &Path) -> Result<Option<GroupSecret>, SecretError> {
    let keyring = group_keyring(data_dir)?;
    Ok(keyring.map(|keyring| keyring.active_secret().clone()))
}

/// Stores the group's secrets after a rotation. What was given by hand meanwhile is kept with them.
///
/// # Errors
/// The file holds another group's secret by now, or cannot be read or written.
pub fn store_keyring(data_dir: &Path, keyring: &Keyring) -> Result<(), SecretError> {
    let path = data_dir.join(GROUP_SECRET_FILE);
    let text = match group_keyring(data_dir)? {
        Some(stored) if stored.group_id() != keyring.group_id() => {
            return Err(SecretError::OtherGroup(path));
        }
        Some(stored) => keyring.merge(&stored).to_text(),
        None => keyring.to_text(),
    };
    write_over(&path, text.as_bytes())
}

/// Makes a secret for a new group. It is not stored yet.
///
/// # Errors
/// The system gave no random bytes.
pub fn new_group_secret() -> Result<GroupSecret, SecretError> {
    let mut random = Zeroizing::new([0; 48]);
    fill_random(&mut *random)?;
    Ok(GroupSecret::from_random(&random))
}

/// Stores the group's secret and returns its file.
///
/// # Errors
/// There is one already and `replace` does not allow to overwrite it, or it cannot be written.
pub fn store_group_secret(
    data_dir: &Path,
    secret: &GroupSecret,
    replace: bool,
) -> Result<PathBuf, SecretError> {
    let path = data_dir.join(GROUP_SECRET_FILE);
    make_data_dir(data_dir)?;
    let text = Zeroizing::new(secret.to_text() + "\n");
    if replace {
        write_over(&path, text.as_bytes())?;
    } else if !write_new(&path, text.as_bytes())? {
        return Err(SecretError::Exists(path));
    }
    Ok(path)
}

/// Eight characters that tell one secret from another without giving anything away: two devices
/// that show the same hold the same secret.
#[must_use]
pub fn fingerprint(secret: &GroupSecret) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(b"consort group fingerprint v1");
    hash.update(Zeroizing::new(secret.to_text()).as_bytes());
    BASE32_NOPAD
        .encode(&hash.finish().as_ref()[..5])
        .to_ascii_lowercase()
}

/// The group's id as text, which stays when the secret is changed.
#[must_use]
pub fn group_id(secret: &GroupSecret) -> String {
    data_encoding::HEXLOWER.encode(secret.group_id())
}

const DEVICE_KEY_PREFIX: &str = "consort-device-key1-";

/// Longer than any of the texts, and a bound on what is read of a file put here by mistake.
const FILE_BYTES_MAX: u64 = 4096;

fn parse_device_key(path: &Path, text: &str) -> Result<StaticSecret, SecretError> {
    let decode = || {
        let body = text.trim().strip_prefix(DEVICE_KEY_PREFIX)?;
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(body.as_bytes()).ok()?);
        Some(StaticSecret::new(
            <[u8; 32]>::try_from(bytes.as_slice()).ok()?,
        ))
    };
    decode().ok_or_else(|| SecretError::NoDeviceKey(path.to_owned()))
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, SecretError> {
    let failed = |action| {
        move |source| SecretError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open")(error)),
    };
    let mode = file.metadata().map_err(failed("look at"))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    // Text that is no UTF-8 fits neither secret, and is refused as such by the caller.
    Ok(Some(Zeroizing::new(
        String::from_utf8_lossy(&bytes).into_owned(),
    )))
}

fn make_data_dir(data_dir: &Path) -> Result<(), SecretError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|source| SecretError::Io {
            action: "make the folder",
            path: data_dir.to_owned(),
            source,
        })
}

/// Writes a file that is not there yet; false if it is.
fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, SecretError> {
    match written_beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => sync_folder(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("make", path, error.error)),
    }
}

fn write_over(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let file = written_beside(path, bytes)?;
    file.persist(path)
        .map_err(|error| io_error("replace", path, error.error))?;
    sync_folder(path)
}

/// A synced temporary file, readable by its owner alone, that vanishes unless it is renamed.
fn written_beside(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, SecretError> {
    let failed = |source| io_error("write", path, source);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> Result<(), SecretError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| io_error("sync the folder of", path, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> SecretError {
    SecretError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), SecretError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| SecretError::Random)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_device_keeps_the_key_of_its_first_start() {
        let root = tempfile::tempdir().expect("a folder");
        let data_dir = root.path().join("a/b");
        let first = device_key(&data_dir).expect("made");
        let again = device_key(&data_dir).expect("read");
        assert_eq!(first.as_bytes(), again.as_bytes());
        assert_eq!(device_id(&first), device_id(&again));
        assert_eq!(mode(&data_dir), 0o700);
        assert_eq!(mode(&data_dir.join(DEVICE_KEY_FILE)), 0o600);
        assert_eq!(
            names(&data_dir),
            [DEVICE_KEY_FILE],
            "no temporary file stays"
        );
        let other = device_key(&root.path().join("c")).expect("made");
        assert_ne!(first.as_bytes(), other.as_bytes());
    }

    #[test]
    fn a_group_secret_is_not_overwritten_by_accident() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(group_secret(root.path()).expect("none yet"), None);
        let first = new_group_secret().expect("made");
        let path = store_group_secret(root.path(), &first, false).expect("stored");
        assert_eq!(mode(&path), 0o600);
        let second = new_group_secret().expect("made");
        let refused = store_group_secret(root.path(), &second, false);
        assert!(
            matches!(refused, Err(SecretError::Exists(_))),
            "{refused:?}"
        );
        assert_eq!(
            group_secret(root.path()).expect("read"),
            Some(first.clone())
        );
        store_group_secret(root.path(), &second, true).expect("replaced");
        assert_eq!(
            group_secret(root.path()).expect("read"),
            Some(second.clone())
        );
        assert_eq!(mode(&path), 0o600);
        assert_ne!(fingerprint(&first), fingerprint(&second));
        assert_eq!(
            names(root.path()),
            [GROUP_SECRET_FILE],
            "no temporary file stays"
        );
    }

    #[test]
    fn a_rotated_keyring_replaces_the_secret_of_its_own_group_only() {
        let root = tempfile::tempdir().expect("a folder");
        let first = new_group_secret().expect("made");
        store_group_secret(root.path(), &first, false).expect("stored");
        let old = group_keyring(root.path()).expect("read").expect("there");
        assert_eq!(old, first.clone().into());
        // What a rotation gave to a device that has the old secret only.
        let mut random = [9; 48];
        random[..16].copy_from_slice(first.group_id());
        let fresh = Keyring::from(GroupSecret::from_random(&random));
        store_keyring(root.path(), &fresh).expect("stored");
        let both = group_keyring(root.path()).expect("read").expect("there");
        assert_eq!(both, old.merge(&fresh), "what was there is kept");
        let path = root.path().join(GROUP_SECRET_FILE);
        assert_eq!(mode(&path), 0o600);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with("consort-keyring 1\n"), "{text}");

        let other = Keyring::from(new_group_secret().expect("made"));
        let refused = store_keyring(root.path(), &other);
        assert!(
            matches!(refused, Err(SecretError::OtherGroup(_))),
            "{refused:?}"
        );
        let kept = group_keyring(root.path()).expect("read");
        assert_eq!(kept, Some(both));
        assert_eq!(names(root.path()), [GROUP_SECRET_FILE]);
    }

    #[test]
    fn secrets_of_a_newer_version_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let secret = new_group_secret().expect("made");
        let path = store_group_secret(root.path(), &secret, false).expect("stored");
        std::fs::write(&path, "consort-keyring 2\nwho knows\n").expect("written");
        let refused = group_keyring(root.path()).expect_err("must be refused");
        let text = refused.to_string();
        assert!(text.contains("newer version of consort"), "{text}");
        let kept = store_keyring(root.path(), &secret.into());
        assert!(kept.is_err(), "nor is it written over");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        device_key(root.path()).expect("made");
        let path = root.path().join(DEVICE_KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let refused = device_key(root.path()).expect_err("must be refused");
        assert!(refused.to_string().contains("mode 0640"), "{refused}");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn damaged_files_are_refused_without_repeating_them() {
        let root = tempfile::tempdir().expect("a folder");
        let secret = new_group_secret().expect("made");
        store_group_secret(root.path(), &secret, false).expect("stored");
        let text = secret.to_text();
        let path = root.path().join(GROUP_SECRET_FILE);
        std::fs::write(&path, &text[..60]).expect("written");
        let refused = group_secret(root.path())
            .expect_err("must be refused")
            .to_string();
        assert!(refused.contains("80 characters"), "{refused}");
        assert!(!refused.contains(&text[10..20]), "{refused}");

        device_key(root.path()).expect("made");
        let path = root.path().join(DEVICE_KEY_FILE);
        let key = std::fs::read_to_string(&path).expect("read");
        for damaged in [&key[..30], "", "something else"] {
            std::fs::write(&path, damaged).expect("written");
            let refused = device_key(root.path())
                .expect_err("must be refused")
                .to_string();
            assert!(refused.contains("not a device key"), "{refused}");
            assert!(!refused.contains(&key[22..30]), "{refused}");
        }
    }
}
