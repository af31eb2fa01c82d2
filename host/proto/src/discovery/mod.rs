//! Finding the other devices: when to send beacons, and to whom.
//!
//! Beacons go to everyone at 0, 50, 150, 350 and 750 ms after the start or a change of the network,
//! then every max(5 s, members / 20 s) ± 25 %, for ever: a beacon from a device that is no member is
//! what heals a partition. With each beacon to everyone goes one, as HELLO, to every seed and
//! remembered address that is not a member's, all at once. While members are missing that were lost
//! within the last hour, one HELLO a second goes round them, and round the addresses of each; so does
//! the question to another device where they are.
//!
//! A beacon is a hint. It may start a handshake; it never ends a session or moves an address. Of
//! one source at most one a second is opened.

mod addresses;
pub(crate) mod beacon;
mod gate;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::event::Address;
use crate::id::NodeId;
use crate::pace::is_large;
use crate::time::Time;

use addresses::Addresses;
use gate::Gate;

/// After how long the quick beacons follow the first.
const QUICK: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(350),
    Duration::from_millis(750),
];
const PERIOD: Duration = Duration::from_secs(5);
/// Beyond a hundred members, a second of the period for so many of them.
const MEMBERS_PER_SECOND: u32 = 20;
const HELLO_PERIOD: Duration = Duration::from_secs(1);
/// For how long a lost member is looked for.
const MISSING_FOR: Duration = Duration::from_secs(3600);
/// Missing members looked for at once; with more, each would be called too seldom to matter.
const MISSING_MAX: usize = 2048;

/// A beacon to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Everyone,
    Hello(Address),
    /// To where this missing device was: it is its turn to be looked for.
    Call(NodeId, Address),
}

#[derive(Debug)]
struct Missing {
    since: Time,
    /// Where it was; never empty.
    addresses: Vec<Address>,
    calls: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Discovery {
    quick_from: Time,
    quick_sent: usize,
    next: Time,
    addresses: Addresses,
    missing: BTreeMap<NodeId, Missing>,
    hello_at: Time,
    hello_after: NodeId,
    gate: Gate,
    outputs: VecDeque<Output>,
}

impl Discovery {
    /// `seeds` from the settings and addresses `remembered` from earlier runs are said HELLO to
    /// with the first beacon.
    pub(crate) fn new(now: Time, seeds: &[Address], remembered: &[Address]) -> Self {
        Self {
            quick_from: now,
            quick_sent: 0,
            next: now,
            addresses: Addresses::new(seeds, remembered),
            missing: BTreeMap::new(),
            hello_at: now,
            hello_after: NodeId(0),
            gate: Gate::new(now),
            outputs: VecDeque::new(),
        }
    }

    /// Starts the quick schedule anew.
    pub(crate) fn restart(&mut self, now: Time) {
        self.quick_from = now;
        self.quick_sent = 0;
        self.next = now;
    }

    /// What the names among the seeds stand for, in place of what they stood for before; new
    /// addresses are said HELLO to at once.
    pub(crate) fn set_resolved(&mut self, addresses: Vec<Address>) {
        let new = self.addresses.set_resolved(addresses);
        self.outputs.extend(new.into_iter().map(Output::Hello));
    }

    /// A session opened at this address: it is remembered if there is room.
    pub(crate) fn reached(&mut self, address: Address) {
        self.addresses.reached(address);
    }

    /// These are the addresses of members at present, some of which may have moved: they take the
    /// place of remembered ones.
    pub(crate) fn refresh_remembered(&mut self, connected: &BTreeSet<Address>) {
        self.addresses.refresh(connected);
    }

    /// What is to be remembered for the next run, if it is time to store it.
    pub(crate) fn addresses_to_store(&mut self, now: Time) -> Option<Vec<Address>> {
        self.addresses.due_to_be_stored(now)
    }

    /// A member is lost that was reached at these addresses, the likeliest first.
    pub(crate) fn member_lost(&mut self, now: Time, node: NodeId, addresses: Vec<Address>) {
        let has_room = self.missing.len() < MISSING_MAX || self.missing.contains_key(&node);
        if addresses.is_empty() || !has_room {
            return;
        }
        if self.missing.is_empty() {
            self.hello_at = now + HELLO_PERIOD;
        }
        let missing = Missing {
            since: now,
            addresses,
            calls: 0,
        };
        self.missing.insert(node, missing);
    }

    pub(crate) fn member_found(&mut self, node: NodeId) {
        self.missing.remove(&node);
    }

    /// Whether a beacon from this address may be opened now.
    pub(crate) fn may_open(&mut self, now: Time, from: Address) -> bool {
        self.gate.admit(now, from)
    }

    pub(crate) fn next_timeout(&self) -> Time {
        if self.missing.is_empty() {
            self.next
        } else {
            self.next.min(self.hello_at)
        }
    }

    /// Whether a beacon to everyone is due, for which the addresses of members are wanted.
    pub(crate) fn is_beacon_due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// `connected` are the addresses of members, which need no HELLO; they count only when a
    /// beacon is due.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Time,
        members: usize,
        connected: &BTreeSet<Address>,
        rng: &mut ChaCha12Rng,
    ) {
        if self.is_beacon_due(now) {
            self.outputs.push_back(Output::Everyone);
            let strangers = self.addresses.all();
            let strangers = strangers.difference(connected);
            self.outputs.extend(strangers.copied().map(Output::Hello));
            self.schedule(now, members, rng);
        }
        if !self.missing.is_empty() && now >= self.hello_at {
            self.hello_at = now + HELLO_PERIOD;
            self.missing
                .retain(|_, missing| now.since(missing.since) < MISSING_FOR);
            self.hello_next_missing();
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn schedule(&mut self, now: Time, members: usize, rng: &mut ChaCha12Rng) {
        self.quick_sent += 1;
        self.next = match QUICK.get(self.quick_sent) {
            // One beacon that is heard is enough in a large group: the others hear of it.
            Some(after) if !is_large(members) => now.max(self.quick_from + *after),
            Some(_) | None => {
                let grown = Duration::from_secs(members as u64) / MEMBERS_PER_SECOND;
                now + PERIOD.max(grown) * rng.random_range(750..=1250) / 1000
            }
        };
    }

    fn hello_next_missing(&mut self) {
        let after = NodeId(self.hello_after.0.saturating_add(1));
        let is_behind = self.missing.range(after..).next().is_none();
        let from = if is_behind { NodeId(0) } else { after };
        if let Some((node, missing)) = self.missing.range_mut(from..).next() {
            self.hello_after = *node;
            let address = missing.addresses[missing.calls % missing.addresses.len()];
            missing.calls += 1;
            self.outputs.push_back(Output::Call(*node, address));
        }
    }
}

#[cfg(test)]
mod tests;
