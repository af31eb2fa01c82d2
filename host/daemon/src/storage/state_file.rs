//! The file `state.redb`: what plugins asked to keep, group by group.
//!
//! | table | what |
//! |---|---|
//! | `meta` | `format`; `run`, how many runs have written; `file`, a random number made with the file |
//! | `groups` | for each group the run that wrote it last |
//! | `state` | (group, key) → value, both opaque |
//!
//! Values come from plugins and from peers, so that each transaction commits in two phases: a
//! commit in one phase is told from a torn one by a checksum without a key, and who chooses the
//! data could choose it so that a torn commit passes (redb, `WriteTransaction::set_two_phase_commit`).
//! redb does not verify pages as it reads them, so that the whole file is checked when it is opened.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use consort_proto::{GroupKey, StoredState};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    WriteTransaction,
};

use super::changes::Changes;
use super::{existing, is_content};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const GROUPS: TableDefinition<'_, u64, u64> = TableDefinition::new("groups");
const STATE: TableDefinition<'_, (u64, &[u8]), &[u8]> = TableDefinition::new("state");

/// The layout of the tables above. What is in the values has versions of its own.
pub(super) const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
const RUN_KEY: &str = "run";
const FILE_KEY: &str = "file";

/// Groups that a start reads at most, those written last. A run may add as many again; the next
/// start drops the oldest.
pub(super) const GROUPS_MAX: usize = 64;
/// Keys and values of one group, in bytes: a replica at its largest (twice the largest quota of
/// 16 MiB and a little) with what its records add.
pub(super) const GROUP_BYTES_MAX: u64 = 40 << 20;
/// Keys and values that a start reads at most.
const LOADED_BYTES_MAX: u64 = 256 << 20;
/// Pages that redb keeps in memory, in bytes. The file is read once, at the start.
const CACHE: usize = 1 << 20;

/// How the database in the file is opened; tests put a failing disk in between.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send>;

/// Opens the file, and makes it if there is none.
pub(super) fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE).create(path)
}

/// Why a file of kept state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateFileError {
    /// A newer program made it.
    #[error("{path} has format {found}, this program reads up to {FORMAT}")]
    Newer { path: PathBuf, found: u64 },
    /// Its content is at fault.
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    /// The disk or the file system refuses.
    #[error("{path} cannot be used: {reason}")]
    Refused { path: PathBuf, reason: String },
}

/// Does what redb panics at where a file is damaged in some ways. The damage is reported as such, so
/// nothing is printed of the panic; of another thread that panics in this very moment neither.
pub(super) fn caught<T>(what: impl FnOnce() -> T) -> std::thread::Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
    std::panic::set_hook(hook);
    result
}

/// Why changes were not committed. None of them is on the disk, or all are.
#[derive(Debug)]
pub(super) enum CommitError {
    /// This group would be larger than it may be; nothing is wrong with the file.
    Bound(GroupKey, String),
    /// The file must be opened anew.
    File(StateFileError),
}

/// The open file.
#[derive(Debug)]
pub(super) struct StateFile {
    database: Database,
    path: PathBuf,
    /// The number made with the file.
    id: u64,
    /// This run's number in the file.
    run: u64,
    /// Bytes of keys and values by group.
    sizes: BTreeMap<u64, u64>,
}

impl StateFile {
    /// Opens the file and checks all of it; `new_id` is the number of a file that is made here.
    /// `run` is given where this run has used the file before.
    pub(super) fn open(
        opener: &Opener,
        path: &Path,
        new_id: u64,
        run: Option<u64>,
    ) -> Result<Self, StateFileError> {
        let attempt = || -> Result<Result<Self, u64>, redb::Error> {
            let mut database = opener(path)?;
            let sound = database.check_integrity()?;
            if !sound {
                tracing::info!(file = %path.display(), "kept state is as of an earlier write");
            }
            Self::read_head(database, path, new_id, run)
        };
        match caught(attempt) {
            Ok(Ok(Ok(file))) => Ok(file),
            Ok(Ok(Err(found))) => Err(StateFileError::Newer {
                path: path.to_owned(),
                found,
            }),
            Ok(Err(error)) => Err(classify(path, error)),
            Err(_) => Err(StateFileError::Damaged {
                path: path.to_owned(),
                reason: "reading it failed half-way".to_owned(),
            }),
        }
    }

    /// Reads what says how to read the rest, or the number of the format where that is newer.
    fn read_head(
        database: Database,
        path: &Path,
        new_id: u64,
        run: Option<u64>,
    ) -> Result<Result<Self, u64>, redb::Error> {
        let (mut id, mut last_run) = (new_id, 0);
        let mut sizes = BTreeMap::new();
        let read = database.begin_read()?;
        if let Some(meta) = existing(read.open_table(META))? {
            let number = |key| -> Result<Option<u64>, redb::Error> {
                Ok(meta.get(key)?.map(|value| value.value()))
            };
            let format = number(FORMAT_KEY)?.unwrap_or(FORMAT);
            if format > FORMAT {
                return Ok(Err(format));
            }
            id = number(FILE_KEY)?.unwrap_or(new_id);
            last_run = number(RUN_KEY)?.unwrap_or(0);
        }
        if let Some(groups) = existing(read.open_table(GROUPS))? {
            for entry in groups.iter()? {
                sizes.insert(entry?.0.value(), 0);
            }
        }
        if let Some(state) = existing(read.open_table(STATE))? {
            for entry in state.iter()? {
                let (key, value) = entry?;
                let (group, key) = key.value();
                *sizes.entry(group).or_default() += bytes(key, value.value());
            }
        }
        drop(read);
        Ok(Ok(Self {
            database,
            path: path.to_owned(),
            id,
            run: run.unwrap_or(last_run.saturating_add(1)),
            sizes,
        }))
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Everything in the file, within the bounds; groups beyond them are deleted from it.
    pub(super) fn load(&mut self) -> Result<Vec<StoredState>, StateFileError> {
        let mut loaded = Vec::new();
        let within = |error| classify(&self.path, error);
        let (keep, excess) = self.choose().map_err(within)?;
        if !excess.is_empty() {
            tracing::warn!(
                groups = excess.len(),
                file = %self.path.display(),
                "kept state of the plugins that were away the longest is dropped: \
                 at most {GROUPS_MAX} groups and {LOADED_BYTES_MAX} bytes are kept"
            );
            self.delete(&excess).map_err(within)?;
        }
        for group in keep {
            let records = self.records(group).map_err(within)?;
            let group = GroupKey(group);
            loaded.push(StoredState { group, records });
        }
        for group in excess {
            self.sizes.remove(&group);
        }
        Ok(loaded)
    }

    /// The groups to keep and those beyond the bounds. Written last is kept first.
    fn choose(&self) -> Result<(Vec<u64>, Vec<u64>), redb::Error> {
        let read = self.database.begin_read()?;
        let mut runs = BTreeMap::new();
        if let Some(groups) = existing(read.open_table(GROUPS))? {
            for entry in groups.iter()? {
                let (group, run) = entry?;
                runs.insert(group.value(), run.value());
            }
        }
        let mut groups: Vec<(u64, u64)> = self.sizes.iter().map(|(g, n)| (*g, *n)).collect();
        groups.sort_by_key(|(group, _)| {
            (
                std::cmp::Reverse(runs.get(group).copied().unwrap_or(0)),
                *group,
            )
        });
        let (mut keep, mut excess, mut total) = (Vec::new(), Vec::new(), 0_u64);
        for (group, bytes) in groups {
            let fits = keep.len() < GROUPS_MAX
                && bytes <= GROUP_BYTES_MAX
                && total.saturating_add(bytes) <= LOADED_BYTES_MAX;
            if fits {
                total += bytes;
                keep.push(group);
            } else {
                excess.push(group);
            }
        }
        Ok((keep, excess))
    }

    fn records(&self, group: u64) -> Result<Vec<(Bytes, Bytes)>, redb::Error> {
        let read = self.database.begin_read()?;
        let mut records = Vec::new();
        let Some(state) = existing(read.open_table(STATE))? else {
            return Ok(records);
        };
        for entry in state.range((group, &[][..])..)? {
            let (key, value) = entry?;
            let (of, key) = key.value();
            if of != group {
                break;
            }
            let copy = Bytes::copy_from_slice;
            records.push((copy(key), copy(value.value())));
        }
        Ok(records)
    }

    fn delete(&self, groups: &[u64]) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        {
            let mut runs = transaction.open_table(GROUPS)?;
            let mut state = transaction.open_table(STATE)?;
            for group in groups {
                runs.remove(group)?;
            }
            state.retain(|(group, _), _| !groups.contains(&group))?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    /// Brings all changes to the disk in one transaction.
    pub(super) fn commit(&mut self, changes: &Changes) -> Result<(), CommitError> {
        match self.try_commit(changes) {
            Ok(Ok(sizes)) => {
                self.sizes = sizes;
                Ok(())
            }
            Ok(Err((group, reason))) => Err(CommitError::Bound(group, reason)),
            Err(error) => Err(CommitError::File(classify(&self.path, error))),
        }
    }

    /// The sizes after the commit, or the group that would be too large.
    #[expect(clippy::type_complexity, reason = "three outcomes, each used once")]
    fn try_commit(
        &self,
        changes: &Changes,
    ) -> Result<Result<BTreeMap<u64, u64>, (GroupKey, String)>, redb::Error> {
        let mut sizes = self.sizes.clone();
        let transaction = self.begin()?;
        {
            let mut meta = transaction.open_table(META)?;
            for (key, value) in [
                (FORMAT_KEY, FORMAT),
                (RUN_KEY, self.run),
                (FILE_KEY, self.id),
            ] {
                meta.insert(key, value)?;
            }
            let mut groups = transaction.open_table(GROUPS)?;
            let mut state = transaction.open_table(STATE)?;
            for (group, keys) in changes.iter() {
                groups.insert(group.0, self.run)?;
                if !sizes.contains_key(&group.0) && sizes.len() >= 2 * GROUPS_MAX {
                    return Ok(Err((
                        group,
                        format!("{} groups are kept already", sizes.len()),
                    )));
                }
                let size = sizes.entry(group.0).or_default();
                for (key, value) in keys {
                    let place = (group.0, &key[..]);
                    let before = match value {
                        Some(value) => {
                            *size += bytes(key, value);
                            state.insert(place, &value[..])?
                        }
                        None => state.remove(place)?,
                    };
                    *size -= before.map_or(0, |before| bytes(key, before.value()));
                }
                if *size > GROUP_BYTES_MAX {
                    let reason = format!("its {size} bytes are more than {GROUP_BYTES_MAX}");
                    return Ok(Err((group, reason)));
                }
            }
        }
        transaction.commit()?;
        Ok(Ok(sizes))
    }
}

fn bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn classify(path: &Path, error: redb::Error) -> StateFileError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error {
        redb::Error::Io(source) if !is_content(&source) => StateFileError::Refused { path, reason },
        redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen => {
            StateFileError::Refused { path, reason }
        }
        _ => StateFileError::Damaged { path, reason },
    }
}

/// Why a file is put aside.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aside {
    /// Its content is at fault. The names end: the file before is replaced then.
    Corrupt,
    /// A newer program made it, and wants it back some day: none is replaced.
    Newer,
}

impl Aside {
    fn name(self) -> (&'static str, u64) {
        match self {
            Self::Corrupt => ("corrupt", 8),
            Self::Newer => ("newer", 64),
        }
    }

    /// Renames the file to `NAME.WHY-N` with the first N that is free.
    pub(super) fn put(self, path: &Path) -> io::Result<PathBuf> {
        let (why, most) = self.name();
        let name = |number: u64| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{why}-{number}"));
            PathBuf::from(name)
        };
        let free = (1..=most).find(|number| !name(*number).exists());
        let number = match (free, self) {
            (Some(free), _) => free,
            (None, Self::Corrupt) => most,
            (None, Self::Newer) => {
                let all = format!("there are {most} files of this name already");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, all));
            }
        };
        std::fs::rename(path, name(number))?;
        Ok(name(number))
    }
}
