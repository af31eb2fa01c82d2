//! Who compiles a file, where several find at once that its code is not kept: devices of a group on
//! one machine that share the folder, or plugins of one device with the same content.
//!
//! The first to lock a file named after the entry has the claim. The others wait until it is given
//! up, by the code being kept or by failing, and then look again. The lock is the operating system's
//! (flock), so that a process that is killed gives up its claims. Nothing depends on a claim but
//! that work is done once: where none can be had, everyone compiles.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tracing::debug;

/// What the files end with that claims lock.
const EXTENSION: &str = "claim";

/// How often those who wait look at a claim of others.
const LOOK: Duration = Duration::from_millis(20);

/// The claim to compile one file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Whoever has it open already finds it unlocked; who makes it anew locks another file.
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(file = %self.path.display(), %error, "a claim was not removed");
        }
    }
}

/// Takes the claim named after an entry. None after another one was waited for, where no claim can
/// be had, and once `cancelled` is true.
pub(super) fn take(entry: &Path, cancelled: &AtomicBool) -> Option<Claim> {
    let path = entry.with_extension(EXTENSION);
    let mut waited = false;
    while !cancelled.load(Ordering::Acquire) {
        match lock(&path) {
            Ok(lock) => {
                let claim = Claim { path, _lock: lock };
                return (!waited).then_some(claim);
            }
            Err(Errno::EWOULDBLOCK) => {
                waited = true;
                thread::sleep(LOOK);
            }
            Err(error) => {
                debug!(file = %path.display(), %error, "no claim to compile was had");
                return None;
            }
        }
    }
    None
}

fn lock(path: &Path) -> Result<Flock<File>, Errno> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[test]
    fn one_has_the_claim_and_the_others_wait_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = folder.path().join("entry.code");
        let claim = take(&entry, &GO_ON).expect("the first");
        let other = folder.path().join("other.code");
        drop(take(&other, &GO_ON).expect("nobody else wants this one"));
        let given_up = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let claim = take(&entry, &GO_ON);
                        assert!(given_up.load(Ordering::Acquire), "it waited");
                        claim.is_none()
                    })
                })
                .collect();
            thread::sleep(LOOK * 3);
            given_up.store(true, Ordering::Release);
            drop(claim);
            for thread in waiting {
                assert!(thread.join().expect("it ends"), "who waited looks again");
            }
        });
        assert!(take(&entry, &GO_ON).is_some(), "it is free");
        let mut left = fs::read_dir(folder.path()).expect("readable");
        assert!(left.next().is_none(), "no file stays");
    }

    #[test]
    fn who_is_cancelled_waits_no_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = folder.path().join("entry.code");
        let _claim = take(&entry, &GO_ON).expect("the first");
        assert!(take(&entry, &AtomicBool::new(true)).is_none());
    }

    #[test]
    fn without_a_folder_there_is_no_claim_and_no_wait() {
        let entry = Path::new("/nonexistent/folder/entry.code");
        assert!(take(entry, &GO_ON).is_none());
    }
}
