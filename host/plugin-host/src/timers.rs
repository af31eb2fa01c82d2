//! A plugin's wake-ups on group time.
//!
//! A token has one timer; setting it again replaces it. Periodic timers fire at multiples of their
//! period, so that every device wakes at the same instants; multiples that were missed are fired
//! once, as the latest of them.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// The most timers a plugin may have.
pub(crate) const TIMERS_MAX: usize = 1024;

/// The shortest period in microseconds.
pub(crate) const PERIOD_US_MIN: u64 = 1_000;

/// Why a timer was not set. It ends the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimerError {
    /// The table is full.
    #[error(
        "it set more than {TIMERS_MAX} timers; cancel those that are no longer needed, or use one token again"
    )]
    TooMany,
    /// The period is too short.
    #[error(
        "it called clock.wake-every with a period of {0} us; the shortest is {PERIOD_US_MIN} us"
    )]
    PeriodTooShort(u64),
}

/// The timers of one instance.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_token: BTreeMap<u64, Timer>,
    by_due: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    due: u64,
    period: Option<u64>,
}

impl Timers {
    /// Sets a timer that fires once.
    pub(crate) fn wake_at(&mut self, due: u64, token: u64) -> Result<(), TimerError> {
        self.set(token, Timer { due, period: None })
    }

    /// Sets a timer that fires at every multiple of `period` after `now`.
    pub(crate) fn wake_every(
        &mut self,
        now: u64,
        period: u64,
        token: u64,
    ) -> Result<(), TimerError> {
        if period < PERIOD_US_MIN {
            return Err(TimerError::PeriodTooShort(period));
        }
        let due = (now / period).saturating_add(1).saturating_mul(period);
        self.set(
            token,
            Timer {
                due,
                period: Some(period),
            },
        )
    }

    /// Forgets a timer.
    pub(crate) fn cancel(&mut self, token: u64) {
        if let Some(timer) = self.by_token.remove(&token) {
            self.by_due.remove(&(timer.due, token));
        }
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// The tokens that are due at `now`, earliest first, at most `limit`.
    pub(crate) fn due(&self, now: u64, limit: usize) -> Vec<u64> {
        self.by_due
            .range(..=(now, u64::MAX))
            .take(limit)
            .map(|(_, token)| *token)
            .collect()
    }

    /// Takes the timer of `token` if it is due at `now`, and sets a periodic one anew. Gives the
    /// time it was due; for a periodic timer the latest multiple that has passed.
    pub(crate) fn take(&mut self, token: u64, now: u64) -> Option<u64> {
        let timer = *self.by_token.get(&token)?;
        if timer.due > now {
            return None;
        }
        self.cancel(token);
        let Some(period) = timer.period else {
            return Some(timer.due);
        };
        let latest = now / period * period;
        let next = Timer {
            due: latest.saturating_add(period),
            period: Some(period),
        };
        self.by_token.insert(token, next);
        self.by_due.insert((next.due, token));
        Some(latest)
    }

    fn set(&mut self, token: u64, timer: Timer) -> Result<(), TimerError> {
        self.cancel(token);
        if self.by_token.len() >= TIMERS_MAX {
            return Err(TimerError::TooMany);
        }
        self.by_token.insert(token, timer);
        self.by_due.insert((timer.due, token));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_timer_per_token() {
        let mut timers = Timers::default();
        timers.wake_at(50, 1).expect("there is room");
        timers.wake_at(20, 1).expect("there is room");
        timers.wake_at(30, 2).expect("there is room");
        assert_eq!(timers.due(40, 10), [1, 2]);
        assert_eq!(timers.take(1, 40), Some(20));
        assert_eq!(timers.take(1, 40), None);
        timers.cancel(2);
        assert_eq!(timers.next_due(), None);
    }

    #[test]
    fn periods_fire_at_multiples_and_missed_ones_once() {
        let mut timers = Timers::default();
        timers
            .wake_every(1_000_300, 1_000, 9)
            .expect("there is room");
        assert_eq!(timers.next_due(), Some(1_001_000));
        assert_eq!(timers.take(9, 1_000_999), None);
        assert_eq!(timers.take(9, 1_001_000), Some(1_001_000));
        assert_eq!(timers.take(9, 1_005_200), Some(1_005_000));
        assert_eq!(timers.next_due(), Some(1_006_000));
        timers.wake_every(2_000, 1_000, 9).expect("there is room");
        assert_eq!(
            timers.next_due(),
            Some(3_000),
            "a multiple is not due at once"
        );
    }

    #[test]
    fn the_table_is_bounded() {
        let mut timers = Timers::default();
        for token in 0..TIMERS_MAX as u64 {
            timers.wake_at(5, token).expect("there is room");
        }
        assert_eq!(timers.wake_at(5, u64::MAX), Err(TimerError::TooMany));
        assert_eq!(timers.wake_at(6, 0), Ok(()), "replacing needs no room");
        assert_eq!(
            timers.wake_every(0, 999, 0),
            Err(TimerError::PeriodTooShort(999))
        );
        assert_eq!(timers.due(10, 32).len(), 32);
    }
}
