//! Encrypted sessions with peers, by Noise handshakes over datagrams.
//!
//! ```text
//! initiator                                 responder
//!     | Init: static key, both boots, counter   |   Attempt, up to four addresses at once
//!     |---------------------------------------->|   admitted, answered: a half-open session
//!     |                         Response: boot  |
//!     |<----------------------------------------|
//!   current                                     |
//!     | Data (empty)                            |
//!     |---------------------------------------->|   confirmed: current
//! ```
//!
//! Invariants:
//! * Whoever lacks the group secret gets no answer, except to exact copies of a member's packets,
//!   and no answer is longer than what it answers.
//! * A peer is who its static key says, taken from a message that was authenticated as a whole.
//! * Nothing is sent on a session before the peer has proved to hold its keys, and no packet is
//!   delivered twice.
//! * The address of a peer moves only with the newest authenticated packet of the current session.
//! * `indices` holds exactly the indices of all sessions and pending Inits.

mod attempt;
mod cookie;
mod establish;
mod fuzzing;
mod gate;
mod handshake;
mod keys;
mod lru;
mod mac;
mod memory;
mod refusal;
mod renewal;
mod rival;
mod slots;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use thiserror::Error;

use crate::MAX_DATAGRAM;
use crate::access::Access;
use crate::crypto::Crypto;
use crate::ctx::Ctx;
use crate::event::Address;
use crate::id::{BootId, PublicKey};
use crate::keys::{GroupKeys, Kid, StaticSecret};
use crate::mutant::{self, Mutant};
use crate::pool::Pool;
use crate::time::Time;
use crate::wire::header::{DATA_HEADER_LEN, DATA_OVERHEAD, Flags, Kind, classify};
use attempt::Attempt;
use cookie::{Baker, Jar};
pub(crate) use fuzzing::sign;
use gate::Gate;
pub(crate) use handshake::Target;
use handshake::{GroupKey, Identity};
use lru::Lru;
use memory::{InitCounters, SeenMacs};
use refusal::Refusal;
pub(crate) use rival::Opinion;
use slots::{Index, Slot, Slots, data_index};

/// How many peers can have sessions or attempts at once.
const PEERS_MAX: usize = 1024;
/// A session is left alone by [`Sessions::connect`] if its peer was heard within this time.
const FRESH: Duration = Duration::from_secs(15);

/// The largest plaintext that fits one datagram.
pub(crate) const MAX_PLAINTEXT: usize = MAX_DATAGRAM - DATA_OVERHEAD;

/// What a datagram was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A fresh packet of this peer; an empty one confirms a session or keeps it alive.
    Data {
        /// Who sent it.
        peer: PublicKey,
        /// What it sent.
        plaintext: Bytes,
    },
    /// A member dialled another boot of this device: answer with the sealed beacon.
    WantsBeacon {
        /// Where it asked from.
        to: Address,
        /// Under which secret, which it holds for certain.
        kid: Kid,
    },
    /// Nothing for the caller: progress of a handshake, or a datagram that was refused and
    /// counted.
    Nothing,
}

/// What is known of the sessions with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Its boot in the session that is sent on.
    pub(crate) boot: Option<BootId>,
    /// Where packets to it go.
    pub(crate) endpoint: Option<Address>,
    /// When a packet of it was last opened.
    pub(crate) last_heard: Option<Time>,
}

/// What became of a session or attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    /// There is a session to send on where there was none, or only one with another boot of the
    /// peer. Comes before the packet that confirmed it: drain events before using
    /// [`Incoming::Data`].
    Established {
        /// With whom.
        peer: PublicKey,
        /// Which run of the peer.
        boot: BootId,
        /// Where the peer is.
        address: Address,
        /// Whether this device began the handshake.
        initiated: bool,
    },
    /// An attempt ended without a session.
    GaveUp {
        /// Whom it was meant for.
        peer: PublicKey,
    },
    /// Two devices run with one key. Comes after [`Self::Established`] for the one that is kept.
    Cloned {
        /// Whose key.
        peer: PublicKey,
        /// Where the kept one is.
        kept_at: Address,
        /// Where the quarantined one is.
        refused_at: Address,
    },
    /// A boot of the peer that is not the one in use gave a sign of life, at most once a second.
    RivalHeard {
        /// Whose key.
        peer: PublicKey,
        /// Which boot.
        boot: BootId,
        /// From where.
        address: Address,
        /// Whether to dial it, so that it proves to be running; else it is to be told that it is
        /// quarantined, by [`Sessions::send_to_rival`].
        dial: bool,
    },
    /// The session in use should be renewed: answer with [`Sessions::renew`]. It is said again as
    /// long as nothing came of it.
    WornOut {
        /// With whom.
        peer: PublicKey,
    },
    /// There is nothing to send on any more: the session grew too old without being renewed.
    Expired {
        /// With whom.
        peer: PublicKey,
    },
}

/// Devices that are not admitted and of whose calls is told.
const DENIED_MAX: usize = 64;

/// Why nothing was sent. No state was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no session with the peer that could carry the packet")]
pub(crate) struct NoSession;

/// All sessions of a device, and its attempts at more.
pub(crate) struct Sessions {
    identity: Identity,
    /// Boxed: what is large is not moved about as the tree grows.
    peers: BTreeMap<PublicKey, Box<Slots>>,
    attempts: BTreeMap<PublicKey, Attempt>,
    indices: BTreeMap<Index, PublicKey>,
    counters: InitCounters,
    seen: SeenMacs,
    gate: Gate,
    baker: Baker,
    jar: Jar,
    access: Access,
    denied_told_at: Option<Time>,
    /// Where and when devices that are not admitted called last.
    denied: Lru<PublicKey, (Address, Time)>,
    /// Which boot to keep of peers that run in two.
    opinions: BTreeMap<PublicKey, Opinion>,
    events: VecDeque<SessionEvent>,
    /// No attempt is due before this.
    wake: Option<Time>,
    /// No session is too old before this.
    sweep_at: Option<Time>,
    /// How many Inits were written in this boot.
    inits: u64,
    serial: u64,
    sealed: Pool,
    opened: Pool,
}

impl Sessions {
    /// No sessions yet. `keys` are those of the secrets that handshakes may be under, `flags` the
    /// ones in this device's beacons.
    pub(crate) fn new(
        keys: &[GroupKeys],
        secret: StaticSecret,
        public: PublicKey,
        boot: BootId,
        flags: Flags,
        crypto: Arc<dyn Crypto>,
    ) -> Self {
        let keys = keys.iter().map(|keys| GroupKey::new(keys, &public));
        Self {
            identity: Identity {
                keys: keys.collect(),
                secret,
                public,
                boot,
                flags,
                crypto,
            },
            peers: BTreeMap::new(),
            attempts: BTreeMap::new(),
            indices: BTreeMap::new(),
            counters: InitCounters::default(),
            seen: SeenMacs::default(),
            gate: Gate::default(),
            baker: Baker::default(),
            jar: Jar::default(),
            access: Access::default(),
            denied_told_at: None,
            denied: Lru::new(DENIED_MAX),
            opinions: BTreeMap::new(),
            events: VecDeque::new(),
            wake: None,
            sweep_at: None,
            inits: 0,
            serial: 0,
            sealed: Pool::default(),
            opened: Pool::default(),
        }
    }

    /// Starts an attempt at a session with this boot of a peer, or adds addresses to the one under
    /// way. Does nothing if there is a session with that boot whose peer was heard lately.
    pub(crate) fn connect(&mut self, ctx: &mut Ctx<'_>, target: Target, candidates: &[Address]) {
        let peer = target.peer;
        if self.is_fresh(&target, ctx.now) {
            self.drop_refuted_attempt(&peer);
            return;
        }
        if self.is_kept_waiting(&peer, target.boot, ctx.now) {
            return;
        }
        if !self.may_attempt(&target) {
            self.events.push_back(SessionEvent::GaveUp { peer });
            return;
        }
        self.attempt(ctx, target, candidates);
    }

    /// Takes an Init, Response, cookie or data packet; refuses any other datagram.
    pub(crate) fn handle_datagram(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: Address,
        datagram: &[u8],
    ) -> Incoming {
        let taken = match classify(datagram) {
            Kind::Init(suite) => self.admit_init(ctx, from, suite, datagram),
            Kind::Response => self.handle_response(ctx, from, datagram),
            Kind::Data => self.handle_data(ctx, from, datagram),
            Kind::Cookie => self.handle_cookie(ctx, datagram),
            Kind::Beacon | Kind::Unknown => Err(Refusal::Malformed),
        };
        taken.unwrap_or_else(|refusal| {
            refusal.count(ctx.counters);
            tracing::debug!(%from, len = datagram.len(), reason = %refusal, "datagram refused");
            Incoming::Nothing
        })
    }

    /// Seals a packet for a peer and sends it to where the peer was last heard. The plaintext has
    /// at most [`MAX_PLAINTEXT`] bytes.
    ///
    /// # Errors
    /// There is no session to send on.
    pub(crate) fn send(
        &mut self,
        ctx: &mut Ctx<'_>,
        peer: &PublicKey,
        plaintext: &[u8],
    ) -> Result<(), NoSession> {
        debug_assert!(
            plaintext.len() <= MAX_PLAINTEXT,
            "packets are cut to fit a datagram"
        );
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(NoSession);
        }
        let slots = self.peers.get_mut(peer).ok_or(NoSession)?;
        let session = slots.current.as_mut().ok_or(NoSession)?;
        let endpoint = slots.endpoint.ok_or(NoSession)?;
        let now = ctx.now;
        let packet = self.sealed.fill(DATA_OVERHEAD + plaintext.len(), |out| {
            session.seal(now, plaintext, out).ok_or(NoSession)
        })?;
        let worn = session.has_just_worn();
        ctx.transmit(endpoint, packet);
        if worn {
            self.sweep_by(ctx.now);
        }
        Ok(())
    }

    /// Whether there is a session to send on.
    pub(crate) fn is_established(&self, peer: &PublicKey) -> bool {
        self.boot(peer).is_some()
    }

    /// All three at once: which boot of the peer is sent to, where, and when it was last heard.
    pub(crate) fn contact(&self, peer: &PublicKey) -> Contact {
        let slots = self.peers.get(peer);
        Contact {
            boot: slots.and_then(|slots| Some(slots.current.as_ref()?.boot)),
            endpoint: slots.and_then(|slots| slots.endpoint),
            last_heard: slots.and_then(|slots| slots.last_heard),
        }
    }

    /// The peer's boot in the session that is sent on.
    pub(crate) fn boot(&self, peer: &PublicKey) -> Option<BootId> {
        self.contact(peer).boot
    }

    /// Where packets to the peer go.
    pub(crate) fn endpoint(&self, peer: &PublicKey) -> Option<Address> {
        self.contact(peer).endpoint
    }

    /// Where packets go to all peers that there are sessions with.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Address> {
        let connected = self.peers.values().filter(|slots| slots.current.is_some());
        connected.filter_map(|slots| slots.endpoint)
    }

    /// When a packet of the peer was last opened.
    pub(crate) fn last_heard(&self, peer: &PublicKey) -> Option<Time> {
        self.contact(peer).last_heard
    }

    /// Whether an attempt is under way.
    pub(crate) fn is_connecting(&self, peer: &PublicKey) -> bool {
        self.connecting_since(peer).is_some()
    }

    /// Since when an attempt is under way.
    pub(crate) fn connecting_since(&self, peer: &PublicKey) -> Option<Time> {
        self.attempts.get(peer).map(|attempt| attempt.started)
    }

    /// Admits other devices from here on. Sessions with those that are not, and attempts at them,
    /// are gone.
    pub(crate) fn set_access(&mut self, access: Access) {
        self.access = access;
        self.denied = Lru::new(DENIED_MAX);
        let known = self.peers.keys().chain(self.attempts.keys());
        let denied = known.filter(|peer| !self.access.admits(&peer.device_id()));
        for peer in denied.copied().collect::<Vec<PublicKey>>() {
            self.close(&peer);
        }
    }

    /// Devices that are not admitted and called lately, the last [`DENIED_MAX`] of them: where from,
    /// and when.
    pub(crate) fn denied_callers(&self) -> impl Iterator<Item = (&PublicKey, &(Address, Time))> {
        self.denied.iter()
    }

    /// Forgets the sessions with a peer and the attempt at one. What protects against replay is
    /// kept.
    pub(crate) fn close(&mut self, peer: &PublicKey) {
        self.drop_attempt(peer);
        if let Some(slots) = self.peers.remove(peer) {
            for index in slots.indices() {
                self.indices.remove(&index);
            }
        }
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Begins the rounds that are due, ends the attempts that went on for too long and the sessions
    /// that are too old. Harmless when early.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Ctx<'_>) {
        self.sweep(ctx);
        if self.wake.is_none_or(|wake| wake > ctx.now) {
            return;
        }
        let is_due =
            |(peer, attempt): (&PublicKey, &Attempt)| (attempt.due <= ctx.now).then_some(*peer);
        let due: Vec<PublicKey> = self.attempts.iter().filter_map(is_due).collect();
        for peer in due {
            self.continue_attempt(ctx, &peer);
        }
        self.wake = self.attempts.values().map(|attempt| attempt.due).min();
    }

    /// When to call [`Sessions::handle_timeout`] next; may be early.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.wake.into_iter().chain(self.sweep_at).min()
    }

    fn handle_data(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: Address,
        datagram: &[u8],
    ) -> Result<Incoming, Refusal> {
        let index = data_index(datagram);
        let peer = *self.indices.get(&index).ok_or(Refusal::UnknownIndex)?;
        let slots = self.peers.get_mut(&peer).ok_or(Refusal::UnknownIndex)?;
        let (slot, session) = slots.find(index).ok_or(Refusal::UnknownIndex)?;
        let mut is_newest = false;
        let len = datagram.len() - DATA_HEADER_LEN;
        let plaintext = self.opened.fill(len, |out| {
            let (len, newest) = session.open(ctx.now, datagram, out)?;
            is_newest = newest;
            Ok(len)
        })?;
        let counts = match slot {
            Slot::Current if is_newest || mutant::is(Mutant::EndpointByAnyPacket) => {
                slots.endpoint = Some(from);
                true
            }
            Slot::Previous if is_newest && peer < self.identity.public => {
                if slots.follow_to_previous() {
                    slots.endpoint = Some(from);
                }
                true
            }
            Slot::Current | Slot::Previous => true,
            Slot::HalfOpen => self.confirm(&peer, index, from, ctx.now)?,
            Slot::Rival => mutant::is(Mutant::QuarantinedCounts),
        };
        if !counts {
            return self.rival_heard(&peer, from, ctx.now);
        }
        if let Some(slots) = self.peers.get_mut(&peer) {
            slots.last_heard = Some(ctx.now);
        }
        Ok(Incoming::Data { peer, plaintext })
    }

    fn is_fresh(&self, target: &Target, now: Time) -> bool {
        let heard = self.last_heard(&target.peer);
        self.boot(&target.peer) == Some(target.boot)
            && heard.is_some_and(|at| now.since(at) <= FRESH)
    }

    /// Ends an attempt at another boot of a peer that was heard on its session since: the hint of
    /// that boot was an old one.
    fn drop_refuted_attempt(&mut self, peer: &PublicKey) {
        let heard = self.last_heard(peer);
        if self
            .attempts
            .get(peer)
            .is_some_and(|attempt| heard > Some(attempt.started))
        {
            self.drop_attempt(peer);
        }
    }

    /// An unused index, so that a packet is received at one place only.
    fn new_index(&mut self, ctx: &mut Ctx<'_>, peer: PublicKey) -> Index {
        let mut index = Index::new(ctx.rng.next_u32());
        // Ends: there are far more indices than sessions and attempts are allowed to be.
        while self.indices.contains_key(&index) {
            index = index.next();
        }
        self.indices.insert(index, peer);
        index
    }

    fn free(&mut self, dropped: impl IntoIterator<Item = Index>) {
        for index in dropped {
            self.indices.remove(&index);
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("peers", &self.peers.keys())
            .field("attempts", &self.attempts.keys())
            .finish_non_exhaustive()
    }
}
