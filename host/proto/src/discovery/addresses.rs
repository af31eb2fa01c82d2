//! Whom to say HELLO to besides everyone: addresses from the settings, addresses that names in the
//! settings stand for at present, and addresses at which members were reached, in this run or
//! earlier ones.
//!
//! What is remembered is bounded, and written down only when an address is new, not more often than
//! every ten seconds: a group that forms opens many sessions at once, and flash memory wears. While
//! half of what may be remembered are addresses of members, nothing is exchanged, so that a large
//! group comes to rest too.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use crate::event::Address;
use crate::time::Time;

/// Addresses of each of the two kinds of seeds.
const SEEDS_MAX: usize = 256;
/// Addresses remembered. One that answers leads to the whole group.
const REMEMBERED_MAX: usize = 32;
const STORE_PERIOD: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    configured: BTreeSet<Address>,
    resolved: BTreeSet<Address>,
    /// Of the members last seen first.
    remembered: VecDeque<Address>,
    /// Whether an address is new since they were last stored.
    is_unstored: bool,
    stored_at: Option<Time>,
}

impl Addresses {
    /// `remembered` comes in the order it was stored in.
    pub(super) fn new(configured: &[Address], remembered: &[Address]) -> Self {
        let mut addresses = Self {
            configured: configured.iter().copied().take(SEEDS_MAX).collect(),
            ..Self::default()
        };
        for address in remembered {
            let is_new = !addresses.remembered.contains(address);
            if is_new && addresses.remembered.len() < REMEMBERED_MAX {
                addresses.remembered.push_back(*address);
            }
        }
        addresses
    }

    /// Every address, once.
    pub(super) fn all(&self) -> BTreeSet<Address> {
        let seeds = self.configured.union(&self.resolved);
        seeds.chain(&self.remembered).copied().collect()
    }

    /// What names stand for from here on. Returns the addresses that are new.
    pub(super) fn set_resolved(&mut self, addresses: Vec<Address>) -> Vec<Address> {
        let known = self.all();
        self.resolved = addresses.into_iter().take(SEEDS_MAX).collect();
        self.resolved.difference(&known).copied().collect()
    }

    /// A session opened at this address: it is remembered if there is room.
    pub(super) fn reached(&mut self, address: Address) {
        if self.remembered.len() < REMEMBERED_MAX && !self.remembered.contains(&address) {
            self.remembered.push_front(address);
            self.is_unstored = true;
        }
    }

    /// These are the addresses of members at present: they take the place of others.
    pub(super) fn refresh(&mut self, connected: &BTreeSet<Address>) {
        let (mut useful, others): (VecDeque<_>, VecDeque<_>) = self
            .remembered
            .iter()
            .copied()
            .partition(|address: &Address| connected.contains(address));
        if useful.len() >= REMEMBERED_MAX / 2 {
            return;
        }
        let new = connected.iter().filter(|new| !useful.contains(new));
        let new: Vec<Address> = new.copied().take(REMEMBERED_MAX - useful.len()).collect();
        self.is_unstored |= !new.is_empty();
        useful.extend(new);
        useful.extend(others);
        useful.truncate(REMEMBERED_MAX);
        self.remembered = useful;
    }

    /// What is to be stored, if it is time for it.
    pub(super) fn due_to_be_stored(&mut self, now: Time) -> Option<Vec<Address>> {
        let is_early = self
            .stored_at
            .is_some_and(|at| now.since(at) < STORE_PERIOD);
        if !self.is_unstored || is_early {
            return None;
        }
        self.is_unstored = false;
        self.stored_at = Some(now);
        Some(self.remembered.iter().copied().collect())
    }
}
