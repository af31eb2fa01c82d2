//! The device's wall clock.

use crate::time::{Time, micros};

/// The device's wall clock, from its value at one time and the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    at: Time,
    wall: u64,
}

impl WallClock {
    pub(crate) fn new(at: Time, wall: u64) -> Self {
        Self { at, wall }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now(&self, now: Time) -> u64 {
        self.wall.saturating_add(micros(now.since(self.at)))
    }
}
