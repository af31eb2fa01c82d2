//! Group time: one clock for all members, with the system group's leader as reference.
//!
//! Group time belongs to an *era*, a random number made with the clock's first reference, from that
//! device's wall clock. Within an era group time never runs back and never jumps: a follower slews
//! towards the reference, and a new reference carries on from its own estimate, at the rate that it
//! found. A device that meets another era, because it booted alone, takes the other over with one
//! step, or by slewing where that lies behind by a few milliseconds only.
//!
//! A follower's samples come with heartbeats: the reference's group time when it sent, and the
//! round trip of the stamp that the heartbeat returns. [`window`] makes an estimate of offset and
//! rate of them. Between samples a follower runs at the rate; what it is off by is slewed away.
//!
//! What is published is a line, [`ClockView`], with a bound on its error against the reference that
//! was followed last. The bound grows with time at what the rate may be off by, so a reference that
//! is lost needs nothing to be done: group time runs on at the rate, and the bound tells how good
//! it still is. A device knows no bound, and says so, before its first sample, after it was the
//! reference itself and is no longer, and while it follows a device that it has no sample of yet.

mod wall;
mod window;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

pub(crate) use wall::WallClock;
use window::{Sample, Window, share};

use crate::event::ClockView;
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// The fastest slew, in parts per billion: a millisecond a second, which nobody sees or hears.
const SLEW_MAX: i64 = 1_000_000;
/// In how long an error is slewed away where the rate allows, in microseconds.
const SLEW_OVER: i64 = 2_000_000;
/// Another era that lies behind by no more than this is slewed to, in microseconds: devices whose
/// wall clocks agree start together without starting their plugins anew.
const BACK_SLEWED_MAX: u64 = 10_000;
/// Errors below this are left alone, in microseconds.
const CLOSE_ENOUGH: i64 = 5;

/// What happened to group time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It follows another line from here on.
    Changed(ClockView),
    /// It was set back by this much.
    SetBack(Duration),
    /// It was set forward: what was to last for a time may be over at once.
    SetForward,
}

/// What a heartbeat of the reference says. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Who sent it.
    pub(crate) source: NodeId,
    /// Its era.
    pub(crate) era: u64,
    /// Its group time when it sent.
    pub(crate) group: u64,
    /// When this device got it, by its own clock.
    pub(crate) received: Time,
    /// The time from the stamp that it returns to the receipt, by this device's clock.
    pub(crate) elapsed: u32,
    /// For how much of that the reference held the stamp, in group time.
    pub(crate) held: u32,
}

/// Whose clock this one goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nobody's that it has samples of.
    Unknown,
    /// Its own: it is the reference, since then.
    Own(Time),
    /// That of the device it has samples of, be it lost or not.
    Other(NodeId),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GroupClock {
    era: u64,
    view: ClockView,
    source: Source,
    window: Window,
    outputs: VecDeque<Output>,
}

impl GroupClock {
    pub(crate) fn new(now: Time, wall: u64, era: u64) -> Self {
        let view = ClockView::free_running(now, wall);
        Self {
            era,
            view,
            source: Source::Unknown,
            window: Window::new(0),
            outputs: VecDeque::from([Output::Changed(view)]),
        }
    }

    /// This device is the reference from here on: its own estimate carries on, at its rate.
    pub(crate) fn lead(&mut self, now: Time) {
        self.source = Source::Own(now);
        self.window = Window::new(i64::from(self.view.rate_ppb));
        self.set(ClockView {
            synchronised: true,
            error_bound: 0,
            bound_ppb: 0,
            ..self.line(now)
        });
    }

    /// This device is the reference no longer: how far it is from the next one is not known.
    pub(crate) fn stand_down(&mut self, now: Time) {
        if let Source::Own(_) = self.source {
            self.forget_source(now);
        }
    }

    /// Another device is the reference from here on.
    pub(crate) fn follow(&mut self, now: Time, reference: NodeId) {
        if self.source != Source::Other(reference) {
            self.forget_source(now);
        }
    }

    fn forget_source(&mut self, now: Time) {
        self.source = Source::Unknown;
        self.window = Window::new(i64::from(self.view.rate_ppb));
        self.set(ClockView {
            synchronised: false,
            error_bound: u64::MAX,
            bound_ppb: 0,
            ..self.line(now)
        });
    }

    /// Era and group time at `now`, for a heartbeat.
    pub(crate) fn reading(&self, now: Time) -> (u64, u64) {
        (self.era, self.view.group_time(now))
    }

    /// How much of group time passes in `us` microseconds of this device.
    pub(crate) fn group_span(&self, us: u32) -> u32 {
        let span = i128::from(us) + share(us.into(), self.view.rate_ppb.into());
        u32::try_from(span).unwrap_or(u32::MAX)
    }

    /// The device whose clock this one goes by; `own` if it is this one.
    pub(crate) fn reference(&self, own: NodeId) -> Option<NodeId> {
        match self.source {
            Source::Unknown => None,
            Source::Own(_) => Some(own),
            Source::Other(other) => Some(other),
        }
    }

    /// Since when this device is the reference, or goes by samples of another one.
    pub(crate) fn since(&self) -> Option<Time> {
        match self.source {
            Source::Own(since) => Some(since),
            Source::Unknown | Source::Other(_) => self.window.oldest(),
        }
    }

    /// A heartbeat of the reference told its group time.
    pub(crate) fn sample(&mut self, now: Time, reading: &Reading) {
        let same_era = reading.era == self.era;
        if self.source != Source::Other(reading.source) || !same_era {
            self.source = Source::Other(reading.source);
            let rate = if same_era { self.view.rate_ppb } else { 0 };
            self.window = Window::new(rate.into());
        }
        let sample = self.interval(reading);
        self.window.push(sample);
        if same_era {
            self.steer(now);
        } else {
            self.adopt(now, reading.era);
        }
    }

    /// The reading was under way for between nothing and the round trip. The stamp was held for a
    /// time by the reference's clock, which this device's clock knows with an uncertainty.
    fn interval(&self, reading: &Reading) -> Sample {
        let rate = self.window.rate();
        let held = i128::from(reading.held) - share(reading.held.into(), rate.best);
        let off = share(reading.held.into(), rate.uncertainty());
        let round_trip = (i128::from(reading.elapsed) - held).max(0);
        let middle = i128::from(reading.group) + round_trip / 2;
        let half = (round_trip + off) / 2 + 2;
        Sample {
            at: reading.received,
            offset: middle - i128::from(reading.received.as_micros()),
            half: u64::try_from(half).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Another era was found: one step.
    fn adopt(&mut self, now: Time, era: u64) {
        self.era = era;
        let before = self.view.group_time(now);
        let Some(best) = self.window.best(now) else {
            return;
        };
        let group = best.offset + i128::from(now.as_micros());
        let group = u64::try_from(group.max(0)).unwrap_or(u64::MAX);
        if (1..=BACK_SLEWED_MAX).contains(&before.saturating_sub(group)) {
            self.steer(now);
            return;
        }
        self.set(ClockView {
            at: now.as_micros(),
            group_at: group,
            slew_ppb: 0,
            slew_us: 0,
            ..self.bounded(best.half, 0)
        });
        if group < before {
            let by = Duration::from_micros(before - group);
            tracing::warn!(
                back_ms = by.as_millis() as u64,
                "group time was set back to join the group's"
            );
            self.outputs.push_back(Output::SetBack(by));
        } else {
            let by = Duration::from_micros(group - before);
            tracing::info!(
                forward_ms = by.as_millis() as u64,
                "group time was set to the group's"
            );
            self.outputs.push_back(Output::SetForward);
        }
    }

    /// Turns the line towards the estimate, unless it leads there already.
    fn steer(&mut self, now: Time) {
        let Some(best) = self.window.best(now) else {
            return;
        };
        let group = self.view.group_time(now);
        let error = best.offset + i128::from(now.as_micros()) - i128::from(group);
        let error = i64::try_from(error).unwrap_or(i64::MAX);
        let next = ClockView {
            ..self.bounded(best.half, error.unsigned_abs())
        };
        let on_its_way = i128::from(error) - self.view.unslewed(now);
        let stated = self.view.error_bound_at(now);
        let better = next.error_bound.saturating_add(next.error_bound / 4 + 10) < stated;
        let keeps = on_its_way.unsigned_abs() <= CLOSE_ENOUGH.unsigned_abs().into()
            && next.rate_ppb == self.view.rate_ppb
            && next.bound_ppb == self.view.bound_ppb
            && next.synchronised == self.view.synchronised
            && next.error_bound <= stated
            && !better;
        if keeps {
            return;
        }
        let (slew, lasts) = slew(error);
        self.set(ClockView {
            at: now.as_micros(),
            group_at: group,
            slew_ppb: slew,
            slew_us: lasts,
            ..next
        });
    }

    /// The line as it is, from `now` on and without a slew.
    fn line(&self, now: Time) -> ClockView {
        ClockView {
            at: now.as_micros(),
            group_at: self.view.group_time(now),
            slew_ppb: 0,
            slew_us: 0,
            ..self.view
        }
    }

    /// A view with the rate that was found, whose error is no more than `half` and `error`
    /// microseconds together.
    fn bounded(&self, half: u64, error: u64) -> ClockView {
        let rate = self.window.rate();
        let growth = if mutant::is(Mutant::BoundStandsStill) {
            0
        } else {
            rate.uncertainty()
        };
        ClockView {
            rate_ppb: i32::try_from(rate.best).unwrap_or(0),
            synchronised: true,
            // One more for what rounding takes.
            error_bound: half.saturating_add(error).saturating_add(1),
            bound_ppb: u32::try_from(growth).unwrap_or(u32::MAX),
            ..self.view
        }
    }

    fn set(&mut self, view: ClockView) {
        self.view = view;
        self.outputs.push_back(Output::Changed(view));
    }
}

/// How to slew an error away: at what rate, in parts per billion, and for how many microseconds.
fn slew(error: i64) -> (i32, u64) {
    if error.abs() <= CLOSE_ENOUGH {
        return (0, 0);
    }
    let rate = error.saturating_mul(1_000_000_000 / SLEW_OVER);
    let rate = rate.clamp(-SLEW_MAX, SLEW_MAX);
    let lasts = i128::from(error) * 1_000_000_000 / i128::from(rate);
    (rate as i32, u64::try_from(lasts).unwrap_or(u64::MAX))
}
