//! What survives a restart, in the data folder.
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked while a daemon runs: one daemon per data folder |
//! | `consort.redb` | format version, boot counter, epoch ceilings, remembered addresses |
//! | `boot_counter` | the boot counter once more, as text |
//! | `consort.redb.corrupt-N` | a store that could not be read, put aside |
//! | `state.redb` | state that plugins asked to keep; made when the first does |
//! | `state.redb.corrupt-N`, `.newer-N` | such a file that could not be read, put aside |
//! | `group.secret` | the group's secrets, see [`crate::secrets`] |
//!
//! The boot counter must never run back: peers take a device that counts lower for an older run of
//! itself. So it is kept twice, and a start takes the larger value plus one. Where the store was
//! put aside and the text is gone too, counting goes on at N × 65,536 with the N of the file put
//! aside, which is above all earlier values as long as a device was started less than 65,536 times
//! since the last such accident. Only 22 bits of the counter count on the wire; that is room for
//! 63 accidents.
//!
//! After [`Storage::open`] all writing happens on two threads of their own, one for the plugins'
//! state and one for everything else. Each takes what is queued, commits it in one synchronous
//! transaction and then reports each request, so that a request is never reported before it has
//! reached the disk. The plugins' state has a file of its own, so that whatever happens to it
//! touches neither counter nor epochs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use consort_proto::{Address, GroupKey, Keyring, StoreRequest, StoredState};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use crate::secrets;

mod changes;
mod state_file;
mod state_keeper;
mod state_worker;
mod worker;

use state_keeper::StateKeeper;

pub use worker::{Done, StoreHandle, StoreOutcome};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const EPOCHS: TableDefinition<'_, u64, u64> = TableDefinition::new("epoch_ceilings");
const ADDRESSES: TableDefinition<'_, u64, &str> = TableDefinition::new("addresses");

/// The layout of the tables above.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
const BOOT_KEY: &str = "boot_counter";

/// How far the boot counter jumps when nothing is left of it.
const BOOT_JUMP: u64 = 65_536;
/// Files put aside are numbered up to this.
const QUARANTINED_MAX: u64 = 63;
/// What is remembered at most.
const ADDRESSES_MAX: usize = 256;

/// Held for as long as the daemon uses its data folder.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("another daemon uses the data folder {0}: stop it, or name another with data_dir")]
    Held(PathBuf),
    /// The folder or the lock file could not be made.
    #[error("cannot use {path} as data folder: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataLock {
    /// Makes the data folder if it is missing (mode 0700) and locks it.
    ///
    /// # Errors
    /// Another daemon holds the lock, or the folder cannot be written.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        make_private_dir(data_dir).map_err(io_error(data_dir))?;
        let path = data_dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(data_dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(LockError::Io { path, source }),
        }
    }
}

/// Makes a folder that only its owner may enter; one that exists keeps its mode.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// What earlier runs left, this start counted already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// How often the device was started, this start included; it has reached the disk.
    pub boot_counter: u64,
    /// Ceilings of claimed epochs.
    pub epoch_ceilings: Vec<(GroupKey, u64)>,
    /// Where members were reached.
    pub addresses: Vec<Address>,
    /// State that plugins asked to keep.
    pub state: Vec<StoredState>,
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A newer program made it.
    #[error(
        "{path} has format {found}, this program reads up to {FORMAT}: \
         run the newer program, or move the file away to begin anew"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store refused for another reason.
    #[error("cannot use {path}: {reason}")]
    Store {
        /// The store.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// An open store.
#[derive(Debug)]
pub struct Storage {
    records: Records,
    state: StateKeeper,
}

/// All records but the plugins' state.
#[derive(Debug)]
struct Records {
    database: Database,
    path: PathBuf,
}

impl Storage {
    /// Opens or makes the store, counts this start, and brings the counter to the disk. A store
    /// that cannot be read is put aside and made anew.
    ///
    /// # Errors
    /// The file system refuses, or the store is of a newer format.
    pub fn open(data_dir: &Path) -> Result<(Self, Remembered), StorageError> {
        let path = data_dir.join("consort.redb");
        let mirror = data_dir.join("boot_counter");
        let (database, mut remembered, quarantined) = match open_and_read(&path) {
            Ok((database, remembered)) => (database, remembered, None),
            Err(OpenError::Fatal(error)) => return Err(error),
            Err(OpenError::Corrupt(reason)) => {
                let number = quarantine(&path, &reason)?;
                let (database, remembered) = open_and_read(&path).map_err(|e| e.fatal(&path))?;
                (database, remembered, Some(number))
            }
        };
        let mirrored = read_mirror(&mirror);
        remembered.boot_counter = next_boot_counter(remembered.boot_counter, mirrored, quarantined);
        write_mirror(&mirror, remembered.boot_counter).map_err(|source| StorageError::Io {
            path: mirror,
            source,
        })?;
        let records = Records { database, path };
        records
            .write(|transaction| {
                let mut meta = transaction.open_table(META)?;
                meta.insert(FORMAT_KEY, FORMAT)?;
                meta.insert(BOOT_KEY, remembered.boot_counter)?;
                Ok(())
            })
            .map_err(|e| StorageError::Store {
                path: records.path.clone(),
                reason: e,
            })?;
        let path = data_dir.join("state.redb");
        let (state, kept) = StateKeeper::open(&path, Box::new(state_file::open_file));
        remembered.state = kept;
        Ok((Self { records, state }, remembered))
    }

    /// Starts the writing threads. Results go to `done`, those of state and those of everything
    /// else each in the order of the requests.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(self, done: Done) -> Result<StoreHandle, StorageError> {
        let path = self.records.path.clone();
        StoreHandle::start(self.records, self.state, done)
            .map_err(|source| StorageError::Io { path, source })
    }
}

impl Records {
    /// One synchronous transaction.
    fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), String> {
        let whole = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            body(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        whole().map_err(|e| e.to_string())
    }

    /// Brings the group's secrets to their file.
    fn store_keyring(&self, keyring: &Keyring) -> Result<(), String> {
        let data_dir = self.path.parent().unwrap_or(Path::new("."));
        secrets::store_keyring(data_dir, keyring).map_err(|e| e.to_string())
    }

    /// Brings requests to the disk, all or none, keyrings apart.
    fn apply(&self, requests: &[StoreRequest]) -> Result<(), String> {
        use consort_proto::StoreRecord;
        self.write(|transaction| {
            for request in requests {
                match &request.record {
                    StoreRecord::EpochCeiling { group, ceiling } => {
                        transaction.open_table(EPOCHS)?.insert(group.0, ceiling)?;
                    }
                    StoreRecord::Addresses(addresses) => {
                        let mut table = transaction.open_table(ADDRESSES)?;
                        table.retain(|_, _| false)?;
                        for (i, Address::Udp(socket)) in
                            (0..).zip(addresses.iter().take(ADDRESSES_MAX))
                        {
                            table.insert(i, socket.to_string().as_str())?;
                        }
                    }
                    // In files of their own.
                    StoreRecord::Keyring(_) | StoreRecord::State { .. } => {}
                }
            }
            Ok(())
        })
    }
}

/// The start's number, from what the store and the text beside it say.
fn next_boot_counter(stored: u64, mirrored: Option<u64>, quarantined: Option<u64>) -> u64 {
    let jump = match (quarantined, mirrored) {
        (Some(number), None) => number.saturating_mul(BOOT_JUMP),
        (Some(_) | None, _) => 0,
    };
    stored
        .max(mirrored.unwrap_or(0))
        .max(jump)
        .saturating_add(1)
}

enum OpenError {
    /// The file's content is at fault.
    Corrupt(String),
    /// Anything else; the file stays.
    Fatal(StorageError),
}

impl OpenError {
    fn from_redb(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(reason) => Self::Corrupt(reason),
            redb::Error::Io(source) if is_content(&source) => Self::Corrupt(source.to_string()),
            redb::Error::Io(source) => Self::Fatal(StorageError::Io {
                path: path.to_owned(),
                source,
            }),
            redb::Error::UpgradeRequired(version) => {
                Self::Corrupt(format!("file format {version} is not readable"))
            }
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Corrupt(error.to_string()),
            other => Self::Fatal(StorageError::Store {
                path: path.to_owned(),
                reason: other.to_string(),
            }),
        }
    }

    fn fatal(self, path: &Path) -> StorageError {
        match self {
            Self::Fatal(error) => error,
            Self::Corrupt(reason) => StorageError::Store {
                path: path.to_owned(),
                reason,
            },
        }
    }
}

/// Whether an error speaks of what is in the file rather than of access to it.
fn is_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Opens the store and reads all of it. The reading also serves as check: redb verifies pages as
/// they are read, and panics on some damage, which is caught and taken for what it is.
fn open_and_read(path: &Path) -> Result<(Database, Remembered), OpenError> {
    let attempt = || -> Result<(Database, Result<Remembered, u64>), redb::Error> {
        let database = Database::create(path)?;
        let read = read_all(&database)?;
        Ok((database, read))
    };
    match std::panic::catch_unwind(attempt) {
        Ok(Ok((database, Ok(remembered)))) => Ok((database, remembered)),
        Ok(Ok((_, Err(found)))) => Err(OpenError::Fatal(StorageError::Newer {
            path: path.to_owned(),
            found,
        })),
        Ok(Err(error)) => Err(OpenError::from_redb(path, error)),
        Err(_) => Err(OpenError::Corrupt("reading it failed half-way".to_owned())),
    }
}

/// Everything in the store, or the number of its format where that is a newer one.
fn read_all(database: &Database) -> Result<Result<Remembered, u64>, redb::Error> {
    let mut remembered = Remembered::default();
    let read = database.begin_read()?;
    if let Some(meta) = existing(read.open_table(META))? {
        let format = meta.get(FORMAT_KEY)?.map_or(FORMAT, |value| value.value());
        if format > FORMAT {
            return Ok(Err(format));
        }
        remembered.boot_counter = meta.get(BOOT_KEY)?.map_or(0, |value| value.value());
    }
    if let Some(epochs) = existing(read.open_table(EPOCHS))? {
        for entry in epochs.iter()? {
            let (group, ceiling) = entry?;
            remembered
                .epoch_ceilings
                .push((GroupKey(group.value()), ceiling.value()));
        }
    }
    if let Some(addresses) = existing(read.open_table(ADDRESSES))? {
        for entry in addresses.iter()?.take(ADDRESSES_MAX) {
            let (_, text) = entry?;
            match text.value().parse() {
                Ok(socket) => remembered.addresses.push(Address::Udp(socket)),
                Err(_) => tracing::warn!(text = text.value(), "a remembered address is unreadable"),
            }
        }
    }
    Ok(Ok(remembered))
}

/// A table that was not written yet is none.
fn existing<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts an unreadable store aside; returns the number in its new name.
fn quarantine(path: &Path, reason: &str) -> Result<u64, StorageError> {
    let name = |number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{number}"));
        PathBuf::from(name)
    };
    let number = (1..QUARANTINED_MAX)
        .find(|n| !name(*n).exists())
        .unwrap_or(QUARANTINED_MAX);
    let aside = name(number);
    fs::rename(path, &aside).map_err(|source| StorageError::Io {
        path: path.to_owned(),
        source,
    })?;
    tracing::error!(
        reason, file = %path.display(), aside = %aside.display(),
        "the store is unreadable: it was put aside and made anew; \
         remembered addresses and epochs are lost"
    );
    Ok(number)
}

/// The boot counter kept as text; none if it is missing or unreadable.
fn read_mirror(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let counter = text.trim().parse().ok();
    if counter.is_none() {
        tracing::warn!(file = %path.display(), "the boot counter is unreadable and is made anew");
    }
    counter
}

/// Replaces the text as a whole and brings it to the disk.
fn write_mirror(path: &Path, counter: u64) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    writeln!(file, "{counter}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests;
