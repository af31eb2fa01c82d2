//! Callbacks that take long, and disks that forget everything but who they are of.

use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, LoseState};

impl Draw {
    /// Both, each from a stream of its own: what else a seed decides does not depend on it.
    pub(super) fn late(&mut self) {
        self.rng = self.seed.stream("swarm late writes", 0);
        self.late_writes();
        self.rng = self.seed.stream("swarm forgotten boots", 0);
        self.forgotten_boots();
    }

    /// In some runs, what plugins write leaves their hosts late.
    fn late_writes(&mut self) {
        if self.chance(25) {
            let slow = self.rng.random_range(1..=60);
            for writes in &mut self.plan.writes {
                writes.slow = slow;
            }
        }
    }

    /// A device comes back with its key and nothing else of its state, its count of starts included.
    fn forgotten_boots(&mut self) {
        if self.chance(8) {
            let lose = LoseState {
                node: self.who(),
                damaged: false,
                boots: true,
                down: ms(self.rng.random_range(1..8_000)),
            };
            let at = self.at();
            self.push(at, Action::LoseState(lose));
        }
    }
}
