//! Long times in short plans: clocks that are years off, deletions that are soon forgotten.

use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, True};

/// A clock without a battery, or set by hand to anything.
const YEARS_US: i64 = 12 * 366 * 86_400_000_000;

impl Draw {
    pub(super) fn spans(&mut self) {
        if self.chance(20) {
            for node in 0..self.plan.nodes {
                if self.chance(10) {
                    let off = self.rng.random_range(-YEARS_US..YEARS_US);
                    self.device(node).wall_offset = Some(off);
                }
            }
        }
        if self.chance(10) {
            self.forget_soon();
        }
    }

    /// Deletions are forgotten within the plan's time, mostly while two sides are apart.
    fn forget_soon(&mut self) {
        let keep = ms(self.rng.random_range(25_000..35_000));
        for plugin in &mut self.plan.plugins {
            if let Some(state) = &mut plugin.state {
                state.keep_absent = Some(keep);
            }
        }
        if self.chance(70) {
            let side = self.some();
            let over = self.begin + keep + ms(self.rng.random_range(1_000..20_000));
            self.push(self.begin, Action::Partition(vec![side]));
            let later = over.saturating_sub(self.end);
            self.plan.duration += later;
            self.plan.calm = self.plan.calm.map(|calm| calm + later);
            self.push(over, Action::Heal(True));
        }
    }
}
