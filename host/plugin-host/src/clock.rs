//! The clocks a guest sees. All of them follow from the readings given with each call.
//!
//! Group time is the reading, a microsecond more at each further reading within a call, and never
//! less than before. WASI's clocks run along with it; only they move on when the guest waits, so
//! that waiting costs no real time and group time stays true.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault::HostFault;

/// Group time as this device sees it at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// Microseconds since the Unix epoch.
    pub group_time_us: u64,
    /// Whether this device follows the group's reference, or is it.
    pub synchronised: bool,
    /// Bound on the error against the reference.
    pub error_bound_us: u64,
}

/// One guest's clocks.
#[derive(Debug)]
pub(crate) struct GuestClock {
    reading: ClockReading,
    last_us: u64,
    wasi: WasiClock,
    waited: Duration,
    waiting_max: Duration,
}

impl GuestClock {
    pub(crate) fn new(waiting_max: Duration) -> Self {
        Self {
            reading: ClockReading::default(),
            last_us: 0,
            wasi: WasiClock::default(),
            waited: Duration::ZERO,
            waiting_max,
        }
    }

    pub(crate) fn start_call(&mut self, reading: ClockReading) {
        self.reading = reading;
        self.last_us = self.last_us.max(reading.group_time_us);
        self.wasi.advance_to(self.last_us.saturating_mul(1_000));
        self.waited = Duration::ZERO;
    }

    /// Group time without moving it on.
    pub(crate) fn group_time(&self) -> u64 {
        self.last_us
    }

    /// Group time for the guest.
    pub(crate) fn read(&mut self) -> u64 {
        self.last_us = self.last_us.saturating_add(1);
        self.last_us
    }

    pub(crate) fn reading(&self) -> ClockReading {
        self.reading
    }

    /// The clock that WASI's interfaces share.
    pub(crate) fn wasi(&self) -> WasiClock {
        self.wasi.clone()
    }

    /// Moves WASI's clocks on to `until_ns`.
    pub(crate) fn wait_until(&mut self, until_ns: u64) -> Result<(), HostFault> {
        let ahead = Duration::from_nanos(until_ns.saturating_sub(self.wasi.peek()));
        self.waited = self.waited.saturating_add(ahead);
        if self.waited > self.waiting_max {
            return Err(HostFault::OverWait {
                limit: self.waiting_max,
            });
        }
        self.wasi.advance_to(until_ns);
        Ok(())
    }
}

/// Nanoseconds since the Unix epoch, shared by WASI's wall and monotonic clocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct WasiClock(Arc<AtomicU64>);

impl WasiClock {
    /// The time for the guest; a microsecond passes.
    pub(crate) fn read(&self) -> u64 {
        self.0
            .fetch_add(1_000, Ordering::Relaxed)
            .saturating_add(1_000)
    }

    fn peek(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn advance_to(&self, nanos: u64) {
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl wasmtime_wasi::HostWallClock for WasiClock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.read())
    }
}

impl wasmtime_wasi::HostMonotonicClock for WasiClock {
    fn resolution(&self) -> u64 {
        1_000
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(group_time_us: u64) -> ClockReading {
        ClockReading {
            group_time_us,
            ..ClockReading::default()
        }
    }

    #[test]
    fn time_never_runs_back_and_waiting_leaves_group_time_alone() {
        let mut clock = GuestClock::new(Duration::from_secs(5));
        clock.start_call(at(1_000));
        assert_eq!((clock.read(), clock.read()), (1_001, 1_002));
        clock.wait_until(3_000_000_000).expect("within the limit");
        assert_eq!(clock.read(), 1_003);
        assert!(clock.wasi().read() > 3_000_000_000);
        clock.start_call(at(500));
        assert_eq!(clock.read(), 1_004);
        assert!(clock.wasi().read() > 3_000_000_000);
    }

    #[test]
    fn waiting_is_bounded_per_call() {
        let mut clock = GuestClock::new(Duration::from_secs(5));
        clock.start_call(at(0));
        clock.wait_until(3_000_000_000).expect("within the limit");
        assert!(clock.wait_until(6_000_000_000).is_err());
        clock.start_call(at(0));
        clock
            .wait_until(6_000_000_000)
            .expect("another call has its own limit");
    }
}
