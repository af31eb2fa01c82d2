//! Keeps the plugins' state in its file for as long as the disk lets it.
//!
//! Invariant: the file holds the state of a group as of one of its requests, whole. A later request
//! builds upon the earlier ones (a mark says that everything up to it is held), so that a request
//! never reaches the file without those before it: what could not be written is carried and goes
//! with the next attempt, and a group whose requests cannot be carried is not written again until
//! the next start, which then finds it as it was.
//!
//! A full disk is waited for. The file is whole then, as it was when the disk had room: putting it
//! aside would lose what no peer may have, and gain nothing, for what a start finds in it is of this
//! device's past and gives way to whatever is newer at its peers. What can be read no longer is put
//! aside, whatever brought that about.
//!
//! Nothing here stops the device: without its file it goes on, and takes its state from its peers
//! after a restart.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use consort_proto::{GroupKey, StoredState};
use ring::rand::SecureRandom as _;

use super::changes::Changes;
use super::state_file::{Aside, CommitError, Opener, StateFile, StateFileError, caught};

/// After how long a file that could not be written is tried again; twice as long after each further
/// failure, up to the other. An attempt reads the whole file.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(60);
/// What is carried for a disk that takes nothing, in bytes.
pub(super) const CARRIED_MAX: usize = 64 << 20;

const FROM_PEERS: &str = "this device takes its state from its peers";

/// The file, and what is on its way into it.
pub(super) struct StateKeeper {
    path: PathBuf,
    opener: Opener,
    file: File,
    /// What the file lacks.
    carried: Changes,
    /// After the last failure: for how long nothing is tried. The log says so then, once.
    pause: Option<Duration>,
    /// Groups that are not written until the next start, and why.
    refused: BTreeMap<u64, String>,
}

impl std::fmt::Debug for StateKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateKeeper")
            .field("path", &self.path)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum File {
    Open(StateFile),
    /// There is none; the first request makes it.
    Absent,
    /// It could not be used; it is tried again.
    Closed {
        last: Last,
        why: String,
        retry: Instant,
    },
    /// Nothing is kept until the next start.
    Off(String),
}

/// What a file that is opened anew must be.
#[derive(Clone, Copy, Debug)]
enum Last {
    /// Nothing of it was read: its content does not go with what is carried.
    Unread,
    /// The one that this run has read or made.
    Read { id: u64, run: u64 },
}

impl StateKeeper {
    /// Opens the file if there is one. Whatever is wrong with it is said in the log.
    pub(super) fn open(path: &Path, opener: Opener) -> (Self, Vec<StoredState>) {
        let mut keeper = Self {
            path: path.to_owned(),
            opener,
            file: File::Absent,
            carried: Changes::default(),
            pause: None,
            refused: BTreeMap::new(),
        };
        if matches!(path.try_exists(), Ok(false)) {
            return (keeper, Vec::new());
        }
        let opened = StateFile::open(&keeper.opener, path, new_id(), None);
        let loaded = opened.and_then(|mut file| {
            let loaded = file.load()?;
            Ok((file, loaded))
        });
        match loaded {
            Ok((file, loaded)) => {
                keeper.file = File::Open(file);
                (keeper, loaded)
            }
            Err(error) => {
                keeper.file = keeper.unread(&error);
                (keeper, Vec::new())
            }
        }
    }

    /// What comes after a file that could not be read at the start.
    fn unread(&mut self, error: &StateFileError) -> File {
        match error {
            StateFileError::Refused { .. } => self.closed(error, Last::Unread, Instant::now()),
            StateFileError::Newer { .. } => self.aside(error, Aside::Newer),
            StateFileError::Damaged { .. } => self.aside(error, Aside::Corrupt),
        }
    }

    fn closed(&mut self, error: &StateFileError, last: Last, now: Instant) -> File {
        if self.pause.is_none() {
            tracing::warn!(
                %error,
                "the plugins' state is not kept for now; the device goes on, and tries again"
            );
        }
        let pause = self
            .pause
            .map_or(RETRY_AFTER, |pause| RETRY_MAX.min(pause * 2));
        self.pause = Some(pause);
        File::Closed {
            last,
            why: error.to_string(),
            retry: now + pause,
        }
    }

    fn aside(&self, error: &StateFileError, why: Aside) -> File {
        match why.put(&self.path) {
            Ok(aside) => {
                tracing::warn!(
                    %error, aside = %aside.display(),
                    "the kept state cannot be read: its file was put aside, and {FROM_PEERS}"
                );
                File::Absent
            }
            Err(io) => {
                tracing::warn!(
                    %error, not_put_aside = %io,
                    "the kept state cannot be read: {FROM_PEERS}, and keeps none until it starts anew"
                );
                File::Off(error.to_string())
            }
        }
    }

    /// Whether there is something to try again, and when.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match &self.file {
            File::Closed { retry, .. } if !self.carried.is_empty() => Some(*retry),
            File::Open(_) | File::Absent | File::Closed { .. } | File::Off(_) => None,
        }
    }

    /// What became of a group's requests up to here.
    pub(super) fn outcome(&self, group: GroupKey) -> Result<(), String> {
        if let Some(reason) = self.refused.get(&group.0) {
            return Err(reason.clone());
        }
        match &self.file {
            File::Open(_) | File::Absent => Ok(()),
            File::Closed { why, .. } | File::Off(why) => Err(why.clone()),
        }
    }

    /// From here on nothing of this group is written.
    pub(super) fn refuse(&mut self, group: GroupKey, reason: String) {
        self.carried.remove(group);
        if let Entry::Vacant(vacant) = self.refused.entry(group.0) {
            tracing::warn!(
                ?group,
                reason,
                "the state of a plugin is not kept any further until this device starts anew"
            );
            vacant.insert(reason);
        }
    }

    /// Writes what is carried and these changes; `now` decides whether a closed file is tried.
    pub(super) fn keep(&mut self, changes: Changes, now: Instant) {
        self.carry(changes);
        if self.carried.is_empty() {
            return;
        }
        let attempt = caught(|| self.attempt(now));
        if attempt.is_err() {
            let file = std::mem::replace(&mut self.file, File::Absent);
            // What is left of it may panic once more.
            let _ = caught(|| drop(file));
            self.give_up(&StateFileError::Damaged {
                path: self.path.clone(),
                reason: "writing to it failed half-way".to_owned(),
            });
        }
    }

    fn carry(&mut self, changes: Changes) {
        if matches!(self.file, File::Off(_)) {
            return;
        }
        self.carried.absorb(changes);
        for group in self.refused.keys() {
            self.carried.remove(GroupKey(*group));
        }
        while self.carried.bytes() > CARRIED_MAX
            && let Some(group) = self.carried.largest()
        {
            self.refuse(group, "the disk is too slow for so much state".to_owned());
        }
    }

    fn attempt(&mut self, now: Instant) {
        if !self.reopened(now) {
            return;
        }
        while let File::Open(file) = &mut self.file {
            match file.commit(&self.carried) {
                Ok(()) => {
                    self.carried = Changes::default();
                    if self.pause.take().is_some() {
                        tracing::info!(file = %self.path.display(), "the plugins' state is kept again");
                    }
                    return;
                }
                Err(CommitError::Bound(group, reason)) => self.refuse(group, reason),
                Err(CommitError::File(error)) => {
                    // redb wants the file opened anew after any error.
                    let (id, run) = (file.id(), file.run());
                    self.failed(&error, Last::Read { id, run }, now);
                }
            }
        }
    }

    /// Whether the file is open, after an attempt to open it if it is time for one.
    fn reopened(&mut self, now: Instant) -> bool {
        let last = match &self.file {
            File::Open(_) => return true,
            File::Off(_) => return false,
            File::Closed { retry, .. } if now < *retry => return false,
            File::Closed { last, .. } => *last,
            File::Absent => Last::Unread,
        };
        match self.open_for(last) {
            Ok(file) => {
                self.file = File::Open(file);
                true
            }
            Err(error) => {
                self.failed(&error, last, now);
                false
            }
        }
    }

    fn failed(&mut self, error: &StateFileError, last: Last, now: Instant) {
        match error {
            StateFileError::Refused { .. } => self.file = self.closed(error, last, now),
            StateFileError::Newer { .. } | StateFileError::Damaged { .. } => self.give_up(error),
        }
    }

    /// Opens the file that this run has used before, or makes one.
    fn open_for(&self, last: Last) -> Result<StateFile, StateFileError> {
        let there = !matches!(self.path.try_exists(), Ok(false));
        match last {
            Last::Unread => {
                if there {
                    let aside = Aside::Corrupt.put(&self.path);
                    aside.map_err(|io| self.refused_by(&io))?;
                }
                let made = StateFile::open(&self.opener, &self.path, new_id(), None);
                if made.is_err() {
                    // Half a file would be taken for a damaged one.
                    let _ = std::fs::remove_file(&self.path);
                }
                made
            }
            Last::Read { id, run } => {
                let gone = || StateFileError::Damaged {
                    path: self.path.clone(),
                    reason: "it is not the file that was there before".to_owned(),
                };
                if !there {
                    return Err(gone());
                }
                let file = StateFile::open(&self.opener, &self.path, new_id(), Some(run))?;
                if file.id() == id {
                    Ok(file)
                } else {
                    Err(gone())
                }
            }
        }
    }

    fn refused_by(&self, io: &std::io::Error) -> StateFileError {
        StateFileError::Refused {
            path: self.path.clone(),
            reason: io.to_string(),
        }
    }

    /// The file is damaged while the device runs. A new one would lack what the node has handed
    /// over before, so that there is none until the next start.
    fn give_up(&mut self, error: &StateFileError) {
        self.file = File::Absent;
        self.carried = Changes::default();
        self.file = match self.aside(error, Aside::Corrupt) {
            File::Absent => File::Off(error.to_string()),
            other => other,
        };
    }
}

/// A number for a new file: whether a file is the one from before is all that it tells.
fn new_id() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers the daemon has not started.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
