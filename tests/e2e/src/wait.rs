//! Waiting for what is going to happen.

use std::time::{Duration, Instant};

/// How long a test waits before it gives up: far beyond what any step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is something.
///
/// # Panics
/// There is nothing within [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// [`until`] with a patience of its own, for what costs minutes of CPU time.
///
/// # Panics
/// There is nothing within `patience`.
#[track_caller]
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks for a while and fails as soon as something is there that must not be.
///
/// # Panics
/// Something is there.
#[track_caller]
pub fn never<T: std::fmt::Debug>(
    what: &str,
    lasting: Duration,
    mut look: impl FnMut() -> Option<T>,
) {
    let deadline = Instant::now() + lasting;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            panic!("{what}: {found:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
