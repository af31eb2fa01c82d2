//! T, the heartbeat interval, and the times that follow from it.

use core::time::Duration;

/// Up to so many members a leader beats four times a second, and every device repeats what it says
/// to a new peer. Beyond that the group is *large*: what was lost is asked for instead, or gossiped.
const SMALL_MAX: usize = 64;

/// T: how often a leader is heard, for a group of `members`. 250 ms up to 64 members, then growing
/// so that a leader sends no more than 256 heartbeats a second.
pub(crate) fn heartbeat_interval(members: usize) -> Duration {
    Duration::from_millis(250).max(Duration::from_secs(members as u64) / 256)
}

/// Whether a group of `members` is large.
pub(crate) const fn is_large(members: usize) -> bool {
    members > SMALL_MAX
}

/// After how much silence a leader is suspected: 2.4 T, so that two heartbeats in a row may be
/// lost.
pub(crate) fn silence(interval: Duration) -> Duration {
    interval * 12 / 5
}
