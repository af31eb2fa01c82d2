//! Finding the other devices: when to send beacons, and to whom.
//!
//! Beacons go to everyone at 0, 50, 150, 350 and 750 ms after the start or a change of the network,
//! then every max(5 s, members / 20 s) ± 25 %, for ever: a beacon from a device that is no member is
//! what heals a partition. With each beacon to everyone goes one, as HELLO, to every seed and
//! remembered address that is not a member's. While members are missing that were lost within the
//! last hour, one HELLO a second goes round them.
//!
//! A beacon is a hint. It may start a handshake; it never ends a session or moves an address.

pub(crate) mod beacon;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::event::Address;
use crate::id::NodeId;
use crate::time::Time;

/// After how long the quick beacons follow the first.
const QUICK: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(350),
    Duration::from_millis(750),
];
const PERIOD: Duration = Duration::from_secs(5);
const HELLO_PERIOD: Duration = Duration::from_secs(1);
/// For how long a lost member is looked for.
const MISSING_FOR: Duration = Duration::from_secs(3600);
/// Beacons opened from one source: one a second.
const OPEN_PERIOD: Duration = Duration::from_secs(1);
/// Sources remembered for that; beyond it the oldest half is forgotten.
const SOURCES_MAX: usize = 1024;
/// Addresses that are said HELLO to with each beacon.
const ADDRESSES_MAX: usize = 256;

/// A beacon to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Everyone,
    Hello(Address),
}

#[derive(Debug)]
struct Missing {
    since: Time,
    address: Address,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Discovery {
    quick_from: Time,
    quick_sent: usize,
    next: Time,
    seeds: BTreeSet<Address>,
    missing: BTreeMap<NodeId, Missing>,
    hello_at: Time,
    hello_after: NodeId,
    opened: BTreeMap<Address, Time>,
    outputs: VecDeque<Output>,
}

impl Discovery {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            quick_from: now,
            quick_sent: 0,
            next: now,
            seeds: BTreeSet::new(),
            missing: BTreeMap::new(),
            hello_at: now,
            hello_after: NodeId(0),
            opened: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Starts the quick schedule anew.
    pub(crate) fn restart(&mut self, now: Time) {
        self.quick_from = now;
        self.quick_sent = 0;
        self.next = now;
    }

    /// More addresses to say HELLO to; new ones at once.
    pub(crate) fn add_seeds(&mut self, addresses: impl IntoIterator<Item = Address>) {
        for address in addresses {
            if self.seeds.len() < ADDRESSES_MAX && self.seeds.insert(address) {
                self.outputs.push_back(Output::Hello(address));
            }
        }
    }

    pub(crate) fn member_lost(&mut self, now: Time, node: NodeId, address: Address) {
        if self.missing.is_empty() {
            self.hello_at = now + HELLO_PERIOD;
        }
        self.missing.insert(
            node,
            Missing {
                since: now,
                address,
            },
        );
    }

    pub(crate) fn member_found(&mut self, node: NodeId) {
        self.missing.remove(&node);
    }

    /// Whether a beacon from this address may be opened now.
    pub(crate) fn may_open(&mut self, now: Time, from: Address) -> bool {
        if self.opened.len() >= SOURCES_MAX {
            self.opened.retain(|_, at| now.since(*at) < OPEN_PERIOD);
        }
        let recent = self
            .opened
            .get(&from)
            .is_some_and(|at| now.since(*at) < OPEN_PERIOD);
        // A flood from invented addresses fills the table; what is new then is refused.
        if recent || self.opened.len() >= SOURCES_MAX {
            return false;
        }
        self.opened.insert(from, now);
        true
    }

    pub(crate) fn next_timeout(&self) -> Time {
        if self.missing.is_empty() {
            self.next
        } else {
            self.next.min(self.hello_at)
        }
    }

    /// `connected` are the addresses of members: they need no HELLO.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Time,
        members: usize,
        connected: &BTreeSet<Address>,
        rng: &mut ChaCha12Rng,
    ) {
        if now >= self.next {
            self.outputs.push_back(Output::Everyone);
            let strangers = self.seeds.iter().filter(|seed| !connected.contains(*seed));
            self.outputs
                .extend(strangers.map(|seed| Output::Hello(*seed)));
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
            Some(after) => now.max(self.quick_from + *after),
            None => {
                let period = PERIOD.max(Duration::from_secs(members as u64) / 20);
                now + period * rng.random_range(750..=1250) / 1000
            }
        };
    }

    fn hello_next_missing(&mut self) {
        let after = NodeId(self.hello_after.0.saturating_add(1));
        let next = self
            .missing
            .range(after..)
            .next()
            .or_else(|| self.missing.iter().next());
        if let Some((node, missing)) = next {
            self.hello_after = *node;
            self.outputs.push_back(Output::Hello(missing.address));
        }
    }
}
