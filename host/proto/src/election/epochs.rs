//! How far a group's epochs have come, and the ceiling that outlives a crash.
//!
//! The persisted ceiling stays ahead of every epoch seen and is raised in the background, so that
//! no write stands between a vacancy and a promotion. After a restart counting begins at the
//! ceiling, above every epoch that this device can have used.

use crate::mutant::{self, Mutant};

/// An epoch this far above the largest seen is refused: one faulty device must not use up the
/// numbers of a group's life.
const JUMP_MAX: u64 = 1 << 32;
/// How far the persisted ceiling lies above the largest epoch seen.
const CEILING_AHEAD: u64 = 16;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// The largest seen or claimed.
    max: u64,
    /// The ceiling whose write was asked for last.
    asked: u64,
    /// The ceiling that is on the disk: counting starts there after a restart.
    kept: u64,
}

impl Epochs {
    /// After a restart any epoch below the persisted ceiling may have been used.
    pub(crate) fn at_start(ceiling: u64) -> Self {
        Self {
            max: ceiling,
            asked: ceiling,
            kept: ceiling,
        }
    }

    /// The largest seen or claimed.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Whether an epoch that another names is out of all reason.
    pub(super) fn refuses(&self, epoch: u64) -> bool {
        epoch > self.max.saturating_add(JUMP_MAX) && !mutant::is(Mutant::LeapAdmitted)
    }

    /// Takes in an epoch. Returns the ceiling to persist, if it has to rise.
    pub(super) fn see(&mut self, epoch: u64) -> Option<u64> {
        self.max = self.max.max(epoch);
        if self.max.saturating_add(CEILING_AHEAD / 2) <= self.asked {
            return None;
        }
        self.asked = self.max.saturating_add(CEILING_AHEAD);
        Some(self.asked)
    }

    /// The epoch above all seen.
    pub(super) fn next(&self) -> u64 {
        self.max.saturating_add(1)
    }

    /// A write has ended. One that failed is asked for again with the next epoch.
    pub(crate) fn stored(&mut self, ceiling: u64, kept: bool) {
        if kept {
            self.kept = self.kept.max(ceiling);
        } else if ceiling == self.asked {
            self.asked = self.kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_rises_in_steps_ahead_of_what_is_seen() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.see(1), Some(17));
        assert!((2..=9).all(|epoch| epochs.see(epoch).is_none()));
        assert_eq!(epochs.see(10), Some(26));
        assert_eq!(Epochs::at_start(26).next(), 27);
    }

    #[test]
    fn a_ceiling_that_was_not_written_is_asked_for_again() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.see(1), Some(17));
        epochs.stored(17, false);
        assert_eq!(epochs.see(2), Some(18));
        epochs.stored(18, true);
        assert_eq!(epochs.see(3), None);
    }

    #[test]
    fn leaps_are_refused_and_the_largest_epoch_does_not_overflow() {
        let epochs = Epochs::at_start(5);
        assert!(!epochs.refuses(5 + JUMP_MAX));
        assert!(epochs.refuses(6 + JUMP_MAX));
        let mut last = Epochs::at_start(u64::MAX);
        assert_eq!((last.next(), last.see(u64::MAX)), (u64::MAX, None));
    }
}
