//! One device's effort to open a session with a peer.
//!
//! An attempt goes in rounds. Each round sends an Init with a fresh ephemeral key to every candidate
//! address at once; the first valid Response wins, whichever round it answers. The first eight
//! rounds are 250 ms apart, the others twice as long each up to 5 s, all with jitter. A sign of life
//! of the peer brings the next round forward.

use core::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use snow::HandshakeState;

use crate::event::Address;
use crate::mutant::{self, Mutant};
use crate::session::handshake::Target;
use crate::session::mac::MAC_LEN;
use crate::session::slots::Index;
use crate::time::{Time, micros};

/// How many addresses are tried at once.
pub(super) const CANDIDATES_MAX: usize = 4;
const RETRY_MIN: Duration = Duration::from_millis(250);
/// So many rounds follow each other quickly. At a fifth of all datagrams lost a round fails with
/// probability 0.36; doubling from the first on, one pair in sixty waits for more than 4 s, and
/// some pair of ten devices does in half of all starts.
const QUICK_ROUNDS: u32 = 8;
const RETRY_MAX: Duration = Duration::from_secs(5);
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// For how long an Init awaits its Response, and how many do at once.
const PENDING_LIFE: Duration = Duration::from_secs(2);
const PENDING_MAX: usize = 8;
/// How long an Init is held against one that the peer sent at the same time.
const HOLD: Duration = Duration::from_millis(250);

/// One Init that awaits its Response.
pub(super) struct Pending {
    pub(super) local: Index,
    pub(super) state: HandshakeState,
    pub(super) address: Address,
    /// Its first code, to which a cookie is bound.
    pub(super) mac1: [u8; MAC_LEN],
    pub(super) sent_at: Time,
    /// Whether a cookie that answers it makes no further Init: it had one, or is one.
    pub(super) is_spent: bool,
}

/// An effort under way.
pub(super) struct Attempt {
    pub(super) target: Target,
    pub(super) started: Time,
    /// When the next round is due.
    pub(super) due: Time,
    /// The Inits that await their Responses, in the order in which they were sent; empty once the
    /// peer's own attempt has been given way to.
    pub(super) pending: Vec<Pending>,
    candidates: Vec<Address>,
    /// How many Inits this round has sent.
    sent: usize,
    rounds: u32,
    round_at: Time,
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
            rounds: 0,
            round_at: now,
            delay: RETRY_MIN,
        }
    }

    /// Takes an address to try; the most lately heard of stay. Whether it is to be tried in this
    /// round still.
    pub(super) fn add_candidate(&mut self, address: Address) -> bool {
        if self.candidates.contains(&address) {
            return false;
        }
        if mutant::is(Mutant::AddressesEndless) {
            self.candidates.push(address);
            return true;
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        self.candidates.push(address);
        self.sent < CANDIDATES_MAX
    }

    /// Notes an Init that was sent. Returns the one that it displaces.
    pub(super) fn add_pending(&mut self, pending: Pending) -> Option<Pending> {
        self.sent += usize::from(!pending.is_spent);
        let displaced = (self.pending.len() == PENDING_MAX).then(|| self.pending.remove(0));
        self.pending.push(pending);
        displaced
    }

    /// Whether the attempt has gone on for too long.
    pub(super) fn is_over(&self, now: Time) -> bool {
        now.since(self.started) >= GIVE_UP_AFTER
    }

    /// Begins the next round and returns where to send.
    pub(super) fn begin_round(&mut self, now: Time, rng: &mut ChaCha12Rng) -> Vec<Address> {
        let jitter = rng.random_range(0..=micros(self.delay) / 4);
        self.due = now + self.delay + Duration::from_micros(jitter);
        self.rounds += 1;
        if self.rounds >= QUICK_ROUNDS {
            self.delay = (self.delay * 2).min(RETRY_MAX);
        }
        self.round_at = now;
        self.sent = 0;
        self.candidates.clone()
    }

    /// The peer gave a sign of life: the next round need not wait for longer than the first ones
    /// do. Anyone can replay a beacon, so it brings one round forward and no more.
    pub(super) fn hurry(&mut self, now: Time) {
        self.due = self.due.min(now.max(self.round_at + RETRY_MIN));
    }

    /// Takes out the Inits that have waited for too long.
    pub(super) fn take_stale(&mut self, now: Time) -> impl Iterator<Item = Pending> {
        let is_stale = |init: &Pending| now.since(init.sent_at) >= PENDING_LIFE;
        let stale = self
            .pending
            .iter()
            .take_while(|init| is_stale(init))
            .count();
        self.pending.drain(..stale)
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
