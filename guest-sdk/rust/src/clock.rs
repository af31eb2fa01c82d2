//! The group's shared clock, and wake-ups on it.
//!
//! Devices act at the same instant by waking at the same [`GroupTime`], which one of them announces
//! a little ahead:
//!
//! ```no_run
//! use std::time::Duration;
//! use consort_plugin::clock::{self, Timer};
//! use consort_plugin::{GroupTime, Plugin, log};
//!
//! const FLASH: Timer = Timer::new(1);
//!
//! #[derive(Default)]
//! struct Flash;
//!
//! impl Plugin for Flash {
//!     fn setup(&mut self) -> Result<(), consort_plugin::BoxError> {
//!         // At multiples of the period, hence everywhere at once without a single message.
//!         clock::every(Duration::from_secs(5), FLASH);
//!         Ok(())
//!     }
//!
//!     fn timer(&mut self, token: u64, due: GroupTime) {
//!         match Timer::new(token) {
//!             FLASH => log::info!("flash of {due}, {:?} late", clock::now() - due),
//!             _ => {}
//!         }
//!     }
//! }
//! ```

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::consort::plugin::clock as host;

/// The group's time at this moment. It never runs backwards within one run of a plugin, also not
/// across a change of leader.
#[must_use]
pub fn now() -> GroupTime {
    GroupTime(host::now())
}

/// How well this device's clock is in step.
#[must_use]
pub fn quality() -> Quality {
    let quality = host::quality();
    Quality {
        synchronised: quality.synchronised,
        error_bound: Duration::from_micros(quality.error_bound),
    }
}

/// Calls [`Plugin::timer`](crate::Plugin::timer) at `time`, or at once if that has passed.
///
/// Setting a timer that is set already replaces it, whether it was set by this function or by
/// [`every`]. A timer is gone when this instance ends, by a reload too.
///
/// ```no_run
/// use std::time::Duration;
/// use consort_plugin::clock;
///
/// // Everybody who hears of this instant can set the same one.
/// let reveal = clock::at(clock::now() + Duration::from_secs(3), 1);
/// // No, not yet.
/// reveal.cancel();
/// ```
pub fn at(time: GroupTime, timer: impl Into<Timer>) -> Timer {
    let timer = timer.into();
    host::wake_at(time.0, timer.0);
    timer
}

/// Calls [`Plugin::timer`](crate::Plugin::timer) every `period` of group time, at multiples of it,
/// so that every device wakes at the same instants.
///
/// The period counts in whole microseconds; shorter than a millisecond it ends the callback.
/// Multiples that were missed are told once, as the latest of them. For the rest see [`at`].
///
/// ```no_run
/// use std::time::Duration;
/// use consort_plugin::clock::{self, Timer};
///
/// const TICK: Timer = Timer::new(1);
///
/// // In `setup`: at 0 and 30 seconds of each minute, on all devices.
/// clock::every(Duration::from_secs(30), TICK);
/// ```
pub fn every(period: Duration, timer: impl Into<Timer>) -> Timer {
    let timer = timer.into();
    host::wake_every(micros(period).max(1), timer.0);
    timer
}

/// One of a plugin's timers. The plugin itself gives it its number, which
/// [`Plugin::timer`](crate::Plugin::timer) gets back as its token. A constant of this type can be
/// matched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer(u64);

impl Timer {
    /// The timer of this number.
    #[must_use]
    pub const fn new(token: u64) -> Self {
        Self(token)
    }

    /// Its number.
    #[must_use]
    pub const fn token(self) -> u64 {
        self.0
    }

    /// Stops it, if it is set.
    pub fn cancel(self) {
        host::cancel(self.0);
    }
}

impl From<u64> for Timer {
    fn from(token: u64) -> Self {
        Self(token)
    }
}

/// How well a clock is in step with the group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Whether this device follows a reference, or is it.
    pub synchronised: bool,
    /// A bound on this device's error against the reference.
    pub error_bound: Duration,
}

/// An instant of the group's shared clock: microseconds since the Unix epoch.
///
/// Sums saturate. The difference of two instants is zero where the second is the later one.
/// Payloads carry it as a plain number.
///
/// ```
/// use std::time::Duration;
/// use consort_plugin::GroupTime;
///
/// let start = GroupTime::from_micros(1_000);
/// let end = start + Duration::from_millis(2);
/// assert_eq!(end.as_micros(), 3_000);
/// assert_eq!(end - start, Duration::from_millis(2));
/// assert_eq!(start - end, Duration::ZERO);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct GroupTime(u64);

impl GroupTime {
    /// The instant `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for GroupTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

impl AddAssign<Duration> for GroupTime {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for GroupTime {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }
}

impl Sub for GroupTime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for GroupTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whole microseconds of a span, cut at what 64 bits hold.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate() {
        let late = GroupTime::from_micros(u64::MAX - 1);
        assert_eq!((late + Duration::MAX).as_micros(), u64::MAX);
        assert_eq!((GroupTime::from_micros(5) - Duration::MAX).as_micros(), 0);
        let mut time = GroupTime::from_micros(5);
        time += Duration::from_micros(3);
        assert_eq!(time.to_string(), "8");
    }

    #[test]
    fn a_payload_carries_it_as_a_number() {
        let time = GroupTime::from_micros(1_700_000_000_000_000);
        let bytes = crate::payload::encode(&time).unwrap();
        assert_eq!(
            crate::payload::decode::<u64>(&bytes).unwrap(),
            time.as_micros()
        );
        assert_eq!(crate::payload::decode::<GroupTime>(&bytes).unwrap(), time);
    }
}
