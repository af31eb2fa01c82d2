//! How many beacons are opened: at most one a second of one source.
//!
//! Opening a beacon costs a decryption, and anyone may send what looks like one. Sources are kept
//! in two generations of a second each, so that a flood costs two look-ups a datagram and a bounded
//! table, never a sweep. A flood from invented addresses fills the table; what is new then waits
//! for the next generation.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::event::Address;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Between two beacons that are opened of one source.
const PERIOD: Duration = Duration::from_secs(1);
/// Sources of one generation.
const SOURCES_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Gate {
    turned: Time,
    recent: BTreeMap<Address, Time>,
    older: BTreeMap<Address, Time>,
}

impl Gate {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            turned: now,
            recent: BTreeMap::new(),
            older: BTreeMap::new(),
        }
    }

    /// Whether a beacon from this address may be opened now; if so, it counts as opened.
    pub(super) fn admit(&mut self, now: Time, from: Address) -> bool {
        if now.since(self.turned) >= PERIOD {
            // What leaves has been there for longer than a period.
            self.older = core::mem::take(&mut self.recent);
            self.turned = now;
        }
        let last = self.recent.get(&from).or_else(|| self.older.get(&from));
        if last.is_some_and(|at| now.since(*at) < PERIOD) || self.recent.len() >= SOURCES_MAX {
            return mutant::is(Mutant::BeaconsEndless);
        }
        self.recent.insert(from, now);
        true
    }

    #[cfg(test)]
    pub(super) fn sources(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}
