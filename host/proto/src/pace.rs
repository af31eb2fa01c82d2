//! T, the heartbeat interval, and the times that follow from it.

use core::time::Duration;

/// T: how often a leader is heard, for a group of `members`. 250 ms up to 64 members, then growing
/// so that a leader sends no more than 256 heartbeats a second.
pub(crate) fn heartbeat_interval(members: usize) -> Duration {
    Duration::from_millis(250).max(Duration::from_secs(members as u64) / 256)
}

/// After how much silence a leader is suspected: 2.4 T, so that two heartbeats in a row may be
/// lost.
pub(crate) fn silence(interval: Duration) -> Duration {
    interval * 12 / 5
}
