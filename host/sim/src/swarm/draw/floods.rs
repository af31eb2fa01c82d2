//! Floods of handshakes that carry the code of the group, so that they reach what stands behind it:
//! copies of those that devices began, and fresh ones by somebody who holds the secret.

use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, Flood, FloodKind};

impl Draw {
    /// One or two, of which some bring the devices they meet under load.
    pub(super) fn floods_from_within(&mut self) {
        for _ in 0..self.rng.random_range(1..=2) {
            let kind = if self.chance(35) {
                FloodKind::Copies
            } else {
                FloodKind::Insider
            };
            let flood = Flood {
                kind,
                to: self.who(),
                rate: self.rng.random_range(20..400),
                lasting: ms(self.rng.random_range(300..4_000)),
            };
            let at = self.at();
            self.push(at, Action::Flood(flood));
        }
    }
}
