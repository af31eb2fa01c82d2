//! What a responder remembers so that a recorded Init is worth nothing.
//!
//! Two memories, neither of which needs a clock or a disk. [`SeenMacs`] catches exact copies before
//! they cost an exchange of keys; it is bounded and may forget. [`InitCounters`] is the rule that
//! holds: an Init names the responder's boot, so it is void after a restart, and carries a counter
//! that must exceed all seen of the same initiator and boot.

use std::collections::VecDeque;

use crate::id::{BootId, PublicKey};
use crate::session::lru::Lru;
use crate::session::mac::MAC_LEN;

const SEEN_MAX: usize = 4096;
const BOOTS_MAX: usize = 8;
const PEERS_MAX: usize = 4096;

/// The codes of the Inits that were let through to Noise lately. A copy that arrives again and
/// again stays known, whatever else arrives.
pub(super) struct SeenMacs(Lru<[u8; MAC_LEN], ()>);

impl Default for SeenMacs {
    fn default() -> Self {
        Self(Lru::new(SEEN_MAX))
    }
}

impl SeenMacs {
    /// Whether it was let through lately; then it is remembered for longer.
    pub(super) fn contains(&mut self, mac: &[u8; MAC_LEN]) -> bool {
        self.0.get(mac).is_some()
    }

    pub(super) fn insert(&mut self, mac: [u8; MAC_LEN]) {
        self.0.insert(mac, ());
    }
}

/// The highest counter seen per initiator and boot.
///
/// Eight boots are kept per initiator. What was forgotten lets an old Init pass once more, and
/// gives it nothing but a half-open session that nobody can confirm.
pub(super) struct InitCounters(Lru<PublicKey, Boots>);

/// Counters by boot, the most lately used last.
type Boots = VecDeque<(BootId, u64)>;

impl Default for InitCounters {
    fn default() -> Self {
        Self(Lru::new(PEERS_MAX))
    }
}

impl InitCounters {
    /// Takes a counter if it exceeds all seen of this initiator's boot; else says no.
    pub(super) fn admit(&mut self, peer: &PublicKey, boot: BootId, counter: u64) -> bool {
        let boots = self.0.get_or_insert(*peer, VecDeque::new);
        let known = boots.iter().position(|(b, _)| *b == boot);
        if known.is_some_and(|at| boots[at].1 >= counter) {
            return false;
        }
        if let Some(at) = known {
            boots.remove(at);
        } else if boots.len() == BOOTS_MAX {
            boots.pop_front();
        }
        boots.push_back((boot, counter));
        true
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
        let mac = |n: u16| {
            let mut mac = [0; MAC_LEN];
            mac[..2].copy_from_slice(&n.to_be_bytes());
            mac
        };
        for n in 0..PEERS_MAX as u16 + 10 {
            assert!(counters.admit(&key(n), BootId(1), 1));
            seen.insert(mac(n));
            seen.insert(mac(n));
            assert!(seen.contains(&mac(n)));
            assert!(seen.contains(&mac(0)), "a copy that keeps coming is known");
        }
        assert_eq!(counters.0.len(), PEERS_MAX);
        assert_eq!(seen.0.len(), SEEN_MAX);
        assert!(!seen.contains(&mac(1)));
        assert!(!counters.admit(&key(10), BootId(1), 1));
        assert!(counters.admit(&key(9), BootId(1), 1));
    }
}
