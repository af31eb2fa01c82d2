//! One device's effort to open a session with a peer.
//!
//! An attempt goes in rounds. Each round sends an Init with a fresh ephemeral key to every candidate
//! address at once; the first valid Response wins. Rounds are 250 ms apart, then twice as long each
//! up to 5 s, with jitter.

use core::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use snow::HandshakeState;

use crate::event::Address;
use crate::session::handshake::Target;
use crate::session::slots::Index;
use crate::time::{Time, micros};

/// How many addresses are tried at once.
pub(super) const CANDIDATES_MAX: usize = 4;
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// How long an Init is held against one that the peer sent at the same time.
const HOLD: Duration = Duration::from_millis(250);

/// One Init that awaits its Response.
pub(super) struct Pending {
    pub(super) local: Index,
    pub(super) state: HandshakeState,
    pub(super) address: Address,
    pub(super) sent_at: Time,
}

/// An effort under way.
pub(super) struct Attempt {
    pub(super) target: Target,
    pub(super) started: Time,
    /// When the next round is due.
    pub(super) due: Time,
    /// The Inits of this round; empty once the peer's own attempt has been given way to.
    pub(super) pending: Vec<Pending>,
    candidates: Vec<Address>,
    /// How many Inits this round has sent.
    sent: usize,
    delay: Duration,
}

impl Attempt {
    /// An attempt whose first round is due at once.
    pub(super) fn new(target: Target, now: Time) -> Self {
        Self {
            target,
            started: now,
            due: now,
            pending: Vec::new(),
            candidates: Vec::new(),
            sent: 0,
            delay: RETRY_MIN,
        }
    }

    /// Takes an address to try; the most lately heard of stay. Whether it is to be tried in this
    /// round still.
    pub(super) fn add_candidate(&mut self, address: Address) -> bool {
        if self.candidates.contains(&address) {
            return false;
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        self.candidates.push(address);
        self.sent < CANDIDATES_MAX
    }

    /// Notes an Init that was sent.
    pub(super) fn add_pending(&mut self, pending: Pending) {
        self.sent += 1;
        self.pending.push(pending);
    }

    /// Whether the attempt has gone on for too long.
    pub(super) fn is_over(&self, now: Time) -> bool {
        now.since(self.started) >= GIVE_UP_AFTER
    }

    /// Begins the next round and returns where to send; the Inits of the last one are taken out
    /// of `pending` by the caller first.
    pub(super) fn begin_round(&mut self, now: Time, rng: &mut ChaCha12Rng) -> Vec<Address> {
        let jitter = rng.random_range(0..=micros(self.delay) / 4);
        self.due = now + self.delay + Duration::from_micros(jitter);
        self.delay = (self.delay * 2).min(RETRY_MAX);
        self.sent = 0;
        self.candidates.clone()
    }

    /// Whether an Init of ours is likely to reach the peer just now at `address`, the one that the
    /// peer's Init came from.
    ///
    /// Only a recent Init to that very address counts: held for longer, or sent to a stale address,
    /// it would make both sides wait for an answer that never comes.
    pub(super) fn holds_against(&self, address: Address, now: Time) -> bool {
        self.pending
            .iter()
            .any(|p| p.address == address && now.since(p.sent_at) < HOLD)
    }
}
