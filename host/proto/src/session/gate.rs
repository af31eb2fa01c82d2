//! What stands before the costly step of admitting an Init when many arrive.
//!
//! A leaky bucket counts the Inits that passed the cheap checks: each is worth 10 ms, which drain
//! as time goes by. At a second's worth (a burst of 100, or more than 100 a second for long enough)
//! the device is *under load*, until it is back at a quarter. An answered Init costs 0.3 ms on a
//! two-gigahertz core and several times that on a small board, so this is where a flood starts to
//! take a noticeable share of one. The count goes on while under load, over what is refused too,
//! so a flood does not switch it off by being held back.
//!
//! Under load an address may send 20 Inits a second in bursts of 5, and must have returned the
//! cookie that it was given there ([`super::cookie`]). Buckets are bounded; beyond the bound the one
//! used least lately is forgotten, since the cookie stands behind it.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::event::Address;
use crate::mutant::{self, Mutant};
use crate::session::lru::Lru;
use crate::time::Time;

/// What one Init is worth.
const COST: Duration = Duration::from_millis(10);
const LOADED_AT: Duration = Duration::from_secs(1);
const CALM_AT: Duration = Duration::from_millis(250);
/// The most that is counted: load ends this long after a flood, less the quarter.
const DEBT_MAX: Duration = Duration::from_secs(2);

/// Per address: 20 a second.
const BUCKET_PERIOD: Duration = Duration::from_millis(50);
/// Per address: this many at once.
const BUCKET_BURST: u32 = 5;
const BUCKETS_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Gate {
    /// How much the counted Inits are worth, at `counted_at`.
    debt: Duration,
    counted_at: Time,
    loaded: bool,
    /// When each source's bucket will be full again.
    buckets: Lru<Source, Time>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            debt: Duration::ZERO,
            counted_at: Time::ZERO,
            loaded: false,
            buckets: Lru::new(BUCKETS_MAX),
        }
    }
}

impl Gate {
    /// Counts an Init that passed the cheap checks. Whether the device is under load.
    pub(super) fn count(&mut self, now: Time) -> bool {
        let drained = now.since(self.counted_at);
        self.counted_at = now;
        self.debt = self.debt.saturating_sub(drained);
        if self.debt <= CALM_AT {
            self.loaded = false;
        }
        self.debt = (self.debt + COST).min(DEBT_MAX);
        if self.debt >= LOADED_AT {
            self.loaded = true;
        }
        self.loaded
    }

    /// Takes a token from the bucket of an address, if there is one. The bucket is kept as the time
    /// at which it is full again (the generic cell rate algorithm, ITU-T I.371).
    pub(super) fn take_token(&mut self, now: Time, from: Address) -> bool {
        let full_at = self.buckets.get_or_insert(Source::of(from), || Time::ZERO);
        let base = (*full_at).max(now);
        if base.since(now) > BUCKET_PERIOD * (BUCKET_BURST - 1) {
            return mutant::is(Mutant::BucketsEndless);
        }
        *full_at = base + BUCKET_PERIOD;
        true
    }
}

/// Whose bucket an address draws from: an IPv4 host, or an IPv6 network of 64 bits, which is what
/// one host can take all its addresses from. Link-local addresses count one by one: all devices of
/// a segment share that network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source(u128);

impl Source {
    fn of(address: Address) -> Self {
        let Address::Udp(socket) = address;
        match socket.ip().to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self(ip.to_bits()),
            IpAddr::V6(ip) => Self(Ipv6Addr::to_bits(ip) >> 64 << 64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(1_000_000 + ms * 1000)
    }

    fn address(text: &str) -> Address {
        Address::Udp(text.parse().expect("an address"))
    }

    #[test]
    fn load_begins_at_a_burst_of_a_hundred_and_ends_at_a_quarter() {
        let mut gate = Gate::default();
        let begins = (1..).find(|_| gate.count(at(0)));
        assert_eq!(begins, Some(100));
        assert!(gate.count(at(700)), "still above a quarter");
        assert!(!gate.count(at(800)), "below");
        assert!(!gate.count(at(800)), "and not at once again");
    }

    #[test]
    fn a_hundred_a_second_are_no_load_and_more_are() {
        for (gap_us, loaded) in [(10_100, false), (9_000, true)] {
            let mut gate = Gate::default();
            let found = (0..2_000).any(|n| gate.count(Time::from_micros(n * gap_us)));
            assert_eq!(found, loaded, "one each {gap_us} µs");
        }
    }

    #[test]
    fn load_lasts_as_long_as_the_flood_and_ends_soon_after() {
        let mut gate = Gate::default();
        for ms in 0..5_000 {
            let loaded = gate.count(at(ms));
            assert!(loaded || ms < 150, "at {ms} ms");
        }
        assert!(gate.debt <= DEBT_MAX);
        assert!(!gate.count(at(5_000 + 1_751)));
    }

    #[test]
    fn an_address_has_five_at_once_and_twenty_a_second() {
        let mut gate = Gate::default();
        let (one, other) = (address("10.0.0.1:1"), address("10.0.0.2:1"));
        let taken = (0..100).filter(|_| gate.take_token(at(0), one)).count();
        assert_eq!(taken, 5);
        assert!(gate.take_token(at(0), other), "each its own");
        assert!(
            !gate.take_token(at(0), address("10.0.0.1:2")),
            "whatever the port"
        );
        let taken = (1..=10_000)
            .filter(|ms| gate.take_token(at(*ms), one))
            .count();
        assert_eq!(taken, 200);
        let taken = (0..100).filter(|_| gate.take_token(at(20_000), one));
        assert_eq!(taken.count(), 5, "no more is saved up");
    }

    #[test]
    fn ipv6_counts_by_network_but_link_local_by_host() {
        let same = |a: &str, b: &str| Source::of(address(a)) == Source::of(address(b));
        assert!(same("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2"));
        assert!(!same("[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"));
        assert!(!same("[fe80::1]:1", "[fe80::2]:1"));
        assert!(same("[::ffff:10.0.0.1]:1", "10.0.0.1:1"));
    }

    #[test]
    fn buckets_are_bounded() {
        let mut gate = Gate::default();
        for n in 0..100_000u32 {
            let ip = core::net::Ipv4Addr::from_bits(n);
            assert!(gate.take_token(at(0), Address::Udp((ip, 1).into())));
        }
        assert_eq!(gate.buckets.len(), BUCKETS_MAX);
    }
}
