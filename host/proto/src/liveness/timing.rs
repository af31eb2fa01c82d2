//! Round trip and wall-clock difference to one peer, from stamps on probes and heartbeats.
//!
//! A stamp is the low 32 bits of its maker's monotonic microseconds and is only ever compared with
//! the same device's clock, modulo 2^32 (71 minutes).

use crate::time::{Time, micros};

/// Round trips longer than this are answers to forgotten probes.
const ROUND_TRIP_MAX: u32 = 30_000_000;

/// The peer's clock may show more time than this device's between two instants, by one part in
/// this: 5 %. No bound is promised for clocks beyond 1000 ppm, but a device with one has its
/// members' time all the same.
const CLOCKS_APART: u32 = 20;

/// A stamp that came back. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    /// From the stamp to the receipt, by this device's clock.
    pub(crate) elapsed: u32,
    /// How long the peer held it, by the peer's clock.
    pub(crate) held: u32,
}

impl Echo {
    /// The round trip; nothing where the two clocks disagree by more than that.
    pub(crate) fn round_trip(self) -> u32 {
        self.elapsed.saturating_sub(self.held)
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    /// Smoothed round trip in microseconds (weight 1/8, RFC 6298).
    round_trip: Option<u32>,
    /// The wall-clock difference of the sample with the smallest round trip since the last reset,
    /// with that round trip, which ages so that later samples take over.
    clock: Option<(i64, u32)>,
    /// The peer's last stamp and when it came.
    echo: Option<(u32, Time)>,
}

/// This device's stamp at `now`.
pub(crate) fn stamp(now: Time) -> u32 {
    now.as_micros() as u32
}

impl Timing {
    /// A stamp of the peer arrived; it goes back with the next heartbeat.
    pub(crate) fn stamped(&mut self, now: Time, sent: u32) {
        self.echo = Some((sent, now));
    }

    /// The peer's last stamp and for how many microseconds it was held.
    pub(crate) fn take_echo(&mut self, now: Time) -> Option<(u32, u32)> {
        let (sent, at) = self.echo.take()?;
        Some((sent, u32::try_from(micros(now.since(at))).ok()?))
    }

    /// This device's stamp came back after the peer held it for `held` microseconds.
    pub(crate) fn echoed(&mut self, received: Time, sent: u32, held: u32) -> Option<Echo> {
        let elapsed = stamp(received).wrapping_sub(sent);
        let too_long = elapsed.saturating_sub(held) > ROUND_TRIP_MAX;
        let too_short = held.saturating_sub(elapsed) > held / CLOCKS_APART;
        if too_long || too_short {
            return None;
        }
        let echo = Echo { elapsed, held };
        let sample = echo.round_trip();
        let smoothed = match self.round_trip {
            Some(before) => (u64::from(before) * 7 + u64::from(sample)).div_ceil(8) as u32,
            None => sample,
        };
        self.round_trip = Some(smoothed);
        Some(echo)
    }

    /// The peer's wall clock was `theirs` when it answered; `ours` is this device's at receipt.
    pub(crate) fn wall(&mut self, sample: u32, theirs: u64, ours: u64) {
        let at_receipt = theirs.saturating_add(u64::from(sample / 2));
        let delta = i64::try_from(i128::from(at_receipt) - i128::from(ours)).unwrap_or(i64::MAX);
        match &mut self.clock {
            Some((kept, best)) if sample > *best && kept.abs_diff(delta) < u64::from(sample) => {
                *best = best.saturating_add(*best / 8 + 1);
            }
            clock => *clock = Some((delta, sample)),
        }
    }

    /// Smoothed round trip in microseconds.
    pub(crate) fn round_trip(&self) -> Option<u32> {
        self.round_trip
    }

    /// The peer's wall clock minus this device's, in microseconds.
    pub(crate) fn clock_delta(&self) -> Option<i64> {
        self.clock.map(|(delta, _)| delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_excludes_the_time_held_and_survives_the_wrap() {
        let mut timing = Timing::default();
        let before_wrap = Time::from_micros(u64::from(u32::MAX) - 100);
        let after_wrap = Time::from_micros(u64::from(u32::MAX) + 900);
        assert_eq!(
            timing.echoed(after_wrap, stamp(before_wrap), 600),
            Some(Echo {
                elapsed: 1000,
                held: 600
            })
        );
        assert_eq!(timing.round_trip(), Some(400));
        assert_eq!(timing.echoed(after_wrap, stamp(before_wrap), 5000), None);
    }

    #[test]
    fn a_slow_clock_shows_less_than_the_peer_held() {
        let mut timing = Timing::default();
        let (sent, received) = (Time::from_micros(0), Time::from_micros(249_900));
        let echo = timing.echoed(received, stamp(sent), 250_000);
        assert_eq!(echo.map(Echo::round_trip), Some(0));
        assert_eq!(timing.echoed(received, stamp(sent), 264_000), None);
    }

    #[test]
    fn the_clock_difference_comes_from_the_quickest_answer() {
        let mut timing = Timing::default();
        timing.wall(200, 1_000_000, 500_000);
        assert_eq!(timing.clock_delta(), Some(500_100));
        timing.wall(90_000, 1_080_000, 600_000);
        assert_eq!(timing.clock_delta(), Some(500_100));
        timing.wall(100, 1_000_000, 500_000);
        assert_eq!(timing.clock_delta(), Some(500_050));
    }

    #[test]
    fn a_set_clock_is_believed_at_once() {
        let mut timing = Timing::default();
        timing.wall(200, 1_000_000, 500_000);
        timing.wall(400, 9_000_000_000, 500_000);
        assert_eq!(timing.clock_delta(), Some(8_999_500_200));
    }
}
