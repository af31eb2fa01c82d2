//! Watches group time on every device.
//!
//! Within one era it does not jump, is slewed and paced within bounds, and it never runs back but
//! where the node says so, which ends the run of its plugins. And what a device states about its error is true: the simulator knows
//! what the clock of the device shows that it goes by.

use core::time::Duration;

use consort_proto::{ClockView, Time};

use super::Sim;

/// The largest difference of two clocks' pace for which a bound is promised, in parts per million.
const APART_MAX: i64 = 999;
/// How long the datagrams of a sample of the clock are under way at most.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// What two clocks of whole microseconds may seem to be apart besides.
const ROUNDING: u64 = 3;
/// How much faster or slower than its device's clock group time may run, and how much of that again
/// to make an error good, in parts per billion.
const PACE_MAX: u32 = 1_000_000;

impl Sim {
    /// A node follows another line of group time from here on.
    pub(super) fn follow_line(&mut self, node: usize, view: ClockView) {
        let now = self.now;
        let device = &mut self.devices[node];
        let Some(running) = &device.running else {
            return;
        };
        let local = running.local(now);
        let era = running.node.clock_since().0;
        let jump = device
            .clock
            .filter(|_| device.era == era)
            .map(|old| old.group_time(local).abs_diff(view.group_time(local)));
        device.clock = Some(view);
        if view
            .rate_ppb
            .unsigned_abs()
            .max(view.slew_ppb.unsigned_abs())
            > PACE_MAX
        {
            self.fail(&format!("n{node}: group time hurries: {view:?}"));
        }
        if let Some(by) = jump.filter(|by| *by > 1) {
            self.fail(&format!("n{node}: group time jumps by {by} µs in its era"));
        }
    }

    /// After a node's events: group time has not run back without a word.
    pub(super) fn check_line(&mut self, node: usize, set_back: bool) {
        let Some((shows, _)) = self.group_time(node) else {
            return;
        };
        let device = &mut self.devices[node];
        if let Some(running) = &device.running {
            device.era = running.node.clock_since().0;
        }
        let shown = core::mem::replace(&mut device.shown, shows);
        if shows + 1 < shown && !set_back {
            let by = shown - shows;
            self.fail(&format!(
                "n{node}: group time runs back by {by} µs without a word"
            ));
        }
    }

    /// Every device that states a bound is within it.
    pub(super) fn look_at_clocks(&mut self) {
        for node in 0..self.devices.len() {
            if self.devices[node].is_up() && !self.devices[node].is_paused() {
                self.check_line(node, false);
            }
            if let Some((error, bound)) = self.clock_error(node)
                && error > bound.saturating_add(ROUNDING)
            {
                self.fail(&format!(
                    "n{node}: group time is off by {error} µs, said to be within {bound}"
                ));
            }
        }
    }

    /// The error of a device's group time against the device that it goes by, and the bound that
    /// it states, in microseconds. None where it states none, where that device is down or goes by
    /// another one, and while a clock's pace is not what the bound builds upon.
    #[must_use]
    pub fn clock_error(&self, node: usize) -> Option<(u64, u64)> {
        let device = &self.devices[node];
        let (view, running) = (device.clock?, device.running.as_ref()?);
        let reference = self.node_of(running.node.clock_reference()?)?;
        let other = &self.devices[reference];
        let leading = other.running.as_ref()?;
        let doubted = self.oracle.is_doubted(node) || self.oracle.is_doubted(reference);
        if !view.synchronised || reference == node || doubted {
            return None;
        }
        let (era, samples) = running.node.clock_since();
        let (same, leads) = leading.node.clock_since();
        let leads_itself = leading.node.clock_reference() == Some(other.id);
        let samples = running.clock.virtual_time(samples?);
        let throughout = leading.clock.virtual_time(leads?) <= samples;
        // A sample older than a change of pace seems to be as old as that. What a sample is made of
        // was sent a round trip before.
        let sent = samples - ROUND_TRIP;
        let steady = device.paced < sent && other.paced < sent;
        if era != same
            || !leads_itself
            || !throughout
            || !steady
            || !self.keeps_pace(node, other.clock?, reference)
        {
            return None;
        }
        let error = self
            .group_time(node)?
            .0
            .abs_diff(self.group_time(reference)?.0);
        Some((error, view.error_bound_at(running.local(self.now))))
    }

    /// Whether a device's clock runs as fast as the reference's group time, or nearly.
    fn keeps_pace(&self, node: usize, line: ClockView, reference: usize) -> bool {
        let drift = |node: usize| i64::from(self.devices[node].config.drift_ppm);
        let group = drift(reference) + i64::from(line.rate_ppb) / 1_000;
        group.abs_diff(drift(node)) <= APART_MAX.unsigned_abs()
    }

    /// How often a device's group time was set back, over all its lives.
    #[must_use]
    pub fn set_backs(&self, node: usize) -> u64 {
        self.devices[node].set_backs
    }

    /// What a device states about its group time; none if it is down.
    #[must_use]
    pub fn clock_view(&self, node: usize) -> Option<(ClockView, Time)> {
        let device = &self.devices[node];
        let local = device.running.as_ref()?.local(self.now);
        Some((device.clock?, local))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::{Seed, Sim, spec};

    /// Two devices whose clocks drift apart, and which of them follows the other's.
    fn following() -> (Sim, usize) {
        let mut sim = Sim::builder("following", Seed(5))
            .devices(2)
            .plugin(spec("app"))
            .device(0, |config| config.drift_ppm = 200)
            .build();
        sim.start_all(Duration::from_millis(500));
        sim.run_for(Duration::from_secs(10));
        let follows = (0..2).find(|node| sim.clock_error(*node).is_some());
        let follower = follows.expect("one goes by the other's clock");
        (sim, follower)
    }

    /// What the checkers say of a change.
    fn complaint(change: impl FnOnce(&mut Sim, usize)) -> String {
        let (mut sim, node) = following();
        sim.look_at_clocks();
        let failed = catch_unwind(AssertUnwindSafe(|| change(&mut sim, node)));
        let failed = failed.expect_err("it is noticed");
        failed.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn a_bound_that_is_too_small_is_noticed() {
        let said = complaint(|sim, node| {
            if let Some(view) = &mut sim.devices[node].clock {
                view.group_at += 5_000;
            }
            sim.look_at_clocks();
        });
        assert!(said.contains("said to be within"), "{said}");
    }

    #[test]
    fn a_jump_is_noticed() {
        let said = complaint(|sim, node| {
            let mut view = sim.devices[node].clock.expect("it runs");
            view.group_at += 50;
            sim.follow_line(node, view);
        });
        assert!(said.contains("group time jumps by 50"), "{said}");
    }

    #[test]
    fn haste_is_noticed() {
        for rate in [true, false] {
            let said = complaint(|sim, node| {
                let mut view = sim.devices[node].clock.expect("it runs");
                let pace = if rate {
                    &mut view.rate_ppb
                } else {
                    &mut view.slew_ppb
                };
                *pace = -1_000_001;
                sim.follow_line(node, view);
            });
            assert!(said.contains("hurries"), "{said}");
        }
    }

    #[test]
    fn time_that_runs_back_is_noticed() {
        let said = complaint(|sim, node| {
            sim.devices[node].shown += 3_000_000;
            sim.look_at_clocks();
        });
        assert!(said.contains("without a word"), "{said}");
    }
}
