//! What a responder remembers so that a recorded Init is worth nothing.
//!
//! Two memories, neither of which needs a clock or a disk. [`SeenMacs`] catches exact copies before
//! they cost an exchange of keys; it is bounded and may forget. [`InitCounters`] is the rule that
//! holds: an Init names the responder's boot, so it is void after a restart, and carries a counter
//! that must exceed all seen of the same initiator and boot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{BootId, PublicKey};
use crate::session::mac::MAC_LEN;

const SEEN_MAX: usize = 4096;
const BOOTS_MAX: usize = 8;
const PEERS_MAX: usize = 4096;

/// The codes of the Inits that were let through to Noise lately; the oldest is forgotten first.
#[derive(Default)]
pub(super) struct SeenMacs {
    known: BTreeSet<[u8; MAC_LEN]>,
    order: VecDeque<[u8; MAC_LEN]>,
}

impl SeenMacs {
    pub(super) fn contains(&self, mac: &[u8; MAC_LEN]) -> bool {
        self.known.contains(mac)
    }

    pub(super) fn insert(&mut self, mac: [u8; MAC_LEN]) {
        if !self.known.insert(mac) {
            return;
        }
        self.order.push_back(mac);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The highest counter seen per initiator and boot.
///
/// Eight boots are kept per initiator. What was forgotten lets an old Init pass once more, and
/// gives it nothing but a half-open session that nobody can confirm.
#[derive(Default)]
pub(super) struct InitCounters {
    peers: BTreeMap<PublicKey, Boots>,
    /// Orders the entries by last use.
    uses: u64,
}

#[derive(Default)]
struct Boots {
    /// The most lately used last.
    highest: VecDeque<(BootId, u64)>,
    last_use: u64,
}

impl InitCounters {
    /// Takes a counter if it exceeds all seen of this initiator's boot; else says no.
    pub(super) fn admit(&mut self, peer: &PublicKey, boot: BootId, counter: u64) -> bool {
        self.make_room_for(peer);
        self.uses += 1;
        let boots = self.peers.entry(*peer).or_default();
        let known = boots.highest.iter().position(|(b, _)| *b == boot);
        if known.is_some_and(|at| boots.highest[at].1 >= counter) {
            return false;
        }
        if let Some(at) = known {
            boots.highest.remove(at);
        } else if boots.highest.len() == BOOTS_MAX {
            boots.highest.pop_front();
        }
        boots.highest.push_back((boot, counter));
        boots.last_use = self.uses;
        true
    }

    fn make_room_for(&mut self, peer: &PublicKey) {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(peer) {
            return;
        }
        let oldest = self
            .peers
            .iter()
            .min_by_key(|(_, boots)| boots.last_use)
            .map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.peers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u16) -> PublicKey {
        let mut bytes = [9; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey::new(bytes).expect("no point of low order")
    }

    #[test]
    fn counters_must_grow_within_a_boot() {
        let mut counters = InitCounters::default();
        assert!(counters.admit(&key(1), BootId(1), 5));
        assert!(!counters.admit(&key(1), BootId(1), 5));
        assert!(!counters.admit(&key(1), BootId(1), 4));
        assert!(counters.admit(&key(1), BootId(2), 1));
        assert!(counters.admit(&key(2), BootId(1), 1));
        assert!(
            !counters.admit(&key(1), BootId(1), 5),
            "the older boot is still known"
        );
        assert!(counters.admit(&key(1), BootId(1), 6));
    }

    #[test]
    fn eight_boots_are_kept() {
        let mut counters = InitCounters::default();
        for boot in 0..BOOTS_MAX as u64 + 1 {
            assert!(counters.admit(&key(1), BootId(boot), 1));
        }
        for boot in 1..=BOOTS_MAX as u64 {
            assert!(!counters.admit(&key(1), BootId(boot), 1), "boot {boot}");
        }
        assert!(
            counters.admit(&key(1), BootId(0), 1),
            "the ninth youngest is forgotten"
        );
    }

    #[test]
    fn memories_are_bounded_and_forget_the_oldest() {
        let mut counters = InitCounters::default();
        let mut seen = SeenMacs::default();
        for n in 0..PEERS_MAX as u16 + 10 {
            assert!(counters.admit(&key(n), BootId(1), 1));
            let mut mac = [0; MAC_LEN];
            mac[..2].copy_from_slice(&n.to_be_bytes());
            seen.insert(mac);
            seen.insert(mac);
            assert!(seen.contains(&mac));
        }
        assert_eq!(counters.peers.len(), PEERS_MAX);
        assert_eq!(seen.known.len(), SEEN_MAX);
        assert_eq!(seen.order.len(), SEEN_MAX);
        assert!(!seen.contains(&[0; MAC_LEN]));
        assert!(!counters.admit(&key(10), BootId(1), 1));
        assert!(counters.admit(&key(9), BootId(1), 1));
    }
}
