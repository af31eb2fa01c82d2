//! When to look at the plugins folder, and when what is seen there may be acted on.
//!
//! The operating system's notices only say that a look is worth while; what counts is what a scan
//! finds. A change is acted on once it has stood still for a while, so that a file being written
//! is not taken for a finished one, and a file that is replaced by way of its removal does not
//! unload its plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use consort_proto::PluginId;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use crate::folder::{Found, Scan};

/// How long a change must stand still.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// How long a file must be missing before its plugin is unloaded.
const REMOVAL: Duration = Duration::from_secs(1);

/// How often to look even without notice: symlinked files give none.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often to look where the operating system gives no notice.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// A burst of notices ends in one look.
const GATHER: Duration = Duration::from_millis(30);

/// Wakes up whoever looks after the folder.
#[derive(Clone, Debug)]
pub(crate) struct Bell(SyncSender<()>);

impl Bell {
    pub(crate) fn ring(&self) {
        match self.0.try_send(()) {
            // One ring that is not yet heard is as good as two.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// Asks the operating system for notices, which ring the bell.
type Connect = fn(&Path, Bell) -> notify::Result<RecommendedWatcher>;

/// Watches the folder.
pub(crate) struct FolderWatch {
    folder: PathBuf,
    connect: Connect,
    bell: Bell,
    rings: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    warned: bool,
}

impl FolderWatch {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self::by(watch, folder)
    }

    fn by(connect: Connect, folder: PathBuf) -> Self {
        let (sender, rings) = sync_channel(1);
        Self {
            folder,
            connect,
            bell: Bell(sender),
            rings,
            watcher: None,
            warned: false,
        }
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The folder was seen (or not); sets the operating system's watch up or drops it.
    pub(crate) fn set_present(&mut self, present: bool) {
        if !present {
            self.watcher = None;
            return;
        }
        if self.watcher.is_some() {
            return;
        }
        match (self.connect)(&self.folder, self.bell()) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) if !self.warned => {
                self.warned = true;
                warn!(
                    folder = %self.folder.display(), %error,
                    "the operating system does not report changes of the plugins folder; looking every {} ms",
                    POLL_EVERY.as_millis()
                );
            }
            Err(_) => {}
        }
    }

    /// Waits until a look is worth while, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        let rhythm = if self.watcher.is_some() {
            LOOK_EVERY
        } else {
            POLL_EVERY
        };
        let until = deadline.map_or(rhythm, |at| at.saturating_duration_since(Instant::now()));
        match self.rings.recv_timeout(until.min(rhythm)) {
            Ok(()) => std::thread::sleep(GATHER),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn watch(folder: &Path, bell: Bell) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !is_mere_reading(event.kind)) {
            bell.ring();
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// The scans' own reading is reported too.
fn is_mere_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    }
}

/// A change that has stood still long enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A plugin is new, or its files changed.
    Written(PluginId, Found),
    /// A plugin's file is gone.
    Removed(PluginId),
}

/// Turns scans into changes.
#[derive(Debug, Default)]
pub(crate) struct Settler {
    seen: BTreeMap<PluginId, Seen>,
    scanned_before: bool,
}

#[derive(Debug)]
struct Seen {
    /// What the last scan found; none if the file was missing.
    found: Option<Found>,
    since: Instant,
    acted_on: bool,
}

impl Settler {
    /// Takes a scan made at `now`. What the first scan finds counts as settled.
    pub(crate) fn observe(&mut self, scan: &Scan, now: Instant) -> Vec<Change> {
        let first = !std::mem::replace(&mut self.scanned_before, true);
        for (id, found) in &scan.plugins {
            self.notice(id, found, now);
        }
        for (id, seen) in &mut self.seen {
            if !scan.plugins.contains_key(id) && seen.found.is_some() {
                *seen = Seen {
                    found: None,
                    since: now,
                    acted_on: false,
                };
            }
        }
        let mut changes = Vec::new();
        for (id, seen) in &mut self.seen {
            let settled = first || now.saturating_duration_since(seen.since) >= seen.settles_in();
            if settled && !seen.acted_on {
                seen.acted_on = true;
                changes.push(match &seen.found {
                    Some(found) => Change::Written(id.clone(), found.clone()),
                    None => Change::Removed(id.clone()),
                });
            }
        }
        self.seen
            .retain(|_, seen| seen.found.is_some() || !seen.acted_on);
        changes
    }

    /// A change could not be acted on after all: its file moved on meanwhile.
    pub(crate) fn unsettle(&mut self, id: &PluginId, now: Instant) {
        if let Some(seen) = self.seen.get_mut(id) {
            seen.acted_on = false;
            seen.since = now;
        }
    }

    /// What was acted on is to be acted on again, at once. Says whether there is anything.
    pub(crate) fn renew(&mut self, id: &PluginId, now: Instant) -> bool {
        let found = self.seen.get_mut(id).filter(|seen| seen.found.is_some());
        let Some(seen) = found else {
            return false;
        };
        if seen.acted_on {
            seen.acted_on = false;
            seen.since = now.checked_sub(DEBOUNCE).unwrap_or(now);
        }
        true
    }

    /// When the next change may be settled.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let waiting = self.seen.values().filter(|seen| !seen.acted_on);
        waiting.map(|seen| seen.since + seen.settles_in()).min()
    }

    fn notice(&mut self, id: &PluginId, found: &Found, now: Instant) {
        let known = self
            .seen
            .get(id)
            .is_some_and(|seen| seen.found.as_ref() == Some(found));
        if !known {
            let seen = Seen {
                found: Some(found.clone()),
                since: now,
                acted_on: false,
            };
            self.seen.insert(id.clone(), seen);
        }
    }
}

impl Seen {
    fn settles_in(&self) -> Duration {
        if self.found.is_some() {
            DEBOUNCE
        } else {
            REMOVAL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::scan;

    struct Folder {
        folder: tempfile::TempDir,
        settler: Settler,
        start: Instant,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            Self {
                folder,
                settler: Settler::default(),
                start: Instant::now(),
            }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.folder.path().join("a.wasm"), text).expect("written");
        }

        fn remove(&self) {
            std::fs::remove_file(self.folder.path().join("a.wasm")).expect("removed");
        }

        /// What is settled `at_ms` after the start.
        fn look(&mut self, at_ms: u64) -> Option<&'static str> {
            let scan = scan(self.folder.path()).expect("readable");
            let changes = self
                .settler
                .observe(&scan, self.start + Duration::from_millis(at_ms));
            changes.first().map(|change| match change {
                Change::Written(..) => "written",
                Change::Removed(_) => "removed",
            })
        }
    }

    #[test]
    fn a_change_must_stand_still() {
        let mut folder = Folder::new();
        assert_eq!(folder.look(0), None);
        folder.write("1");
        assert_eq!(folder.look(10), None);
        folder.write("12");
        assert_eq!(folder.look(200), None);
        assert_eq!(folder.look(400), None, "it changed at 200");
        assert_eq!(folder.look(450), Some("written"));
        assert_eq!(folder.look(900), None, "once");
    }

    #[test]
    fn a_short_absence_is_no_removal() {
        let mut folder = Folder::new();
        folder.write("1");
        assert_eq!(folder.look(0), Some("written"), "the first scan is settled");
        folder.remove();
        assert_eq!(folder.look(100), None);
        folder.write("new");
        assert_eq!(folder.look(500), None);
        assert_eq!(folder.look(750), Some("written"));
        folder.remove();
        assert_eq!(folder.look(1_000), None);
        assert_eq!(folder.look(2_000), Some("removed"));
        assert_eq!(folder.look(9_000), None);
        assert!(folder.settler.seen.is_empty());
    }

    #[test]
    fn without_notices_the_folder_is_looked_at_more_often() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let refuse: Connect = |_, _| Err(notify::Error::generic("no watch is left"));
        for (connect, rhythm) in [(refuse, POLL_EVERY), (watch, LOOK_EVERY)] {
            let mut watch = FolderWatch::by(connect, folder.path().to_owned());
            watch.set_present(true);
            assert_eq!(watch.watcher.is_none(), rhythm == POLL_EVERY);
            assert_eq!(watch.warned, rhythm == POLL_EVERY);
            let start = Instant::now();
            watch.wait(None);
            let waited = start.elapsed();
            assert!(waited >= rhythm && waited < 2 * rhythm, "{waited:?}");
            // Whoever rings is heard all the same.
            watch.bell().ring();
            let start = Instant::now();
            watch.wait(None);
            assert!(start.elapsed() < POLL_EVERY, "{:?}", start.elapsed());
        }
    }
}
