//! From an attempt or an Init to a session: the part of [`Sessions`] that runs handshakes.

use core::time::Duration;

use bytes::Bytes;

use crate::ctx::Ctx;
use crate::event::Address;
use crate::id::PublicKey;
use crate::mutant::{self, Mutant};
use crate::session::attempt::{Attempt, CANDIDATES_MAX, Pending};
use crate::session::cookie;
use crate::session::handshake::{
    OpenedInit, Target, init_index, init_kid, init_mac1, into_transport, open_response,
    response_indices,
};
use crate::session::mac::MAC_LEN;
use crate::session::refusal::Refusal;
use crate::session::renewal::renew_at;
use crate::session::rival::Challenge;
use crate::session::slots::{Confirmed, HALF_OPEN_LIFE, Index, Origin, Session};
use crate::session::{Incoming, PEERS_MAX, SessionEvent, Sessions};
use crate::time::Time;
use crate::wire::header::Suite;

/// How often a device that is not admitted is mentioned in the log.
const DENIED_PERIOD: Duration = Duration::from_secs(60);

impl Sessions {
    /// Decides on an Init. The checks stand in order of their cost, so that a flood is refused by
    /// the cheap ones: length (by [`crate::wire::header::classify`]), group, first code, copies of
    /// what was seen, under load the address's bucket and its cookie; then the exchange of keys, the
    /// replay rule, and what concurs with it.
    pub(super) fn admit_init(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: Address,
        suite: Suite,
        datagram: &[u8],
    ) -> Result<Incoming, Refusal> {
        let mac1 = self.identity.check_init(datagram)?;
        if self.seen.contains(&mac1) && !mutant::is(Mutant::InitCopiesForgotten) {
            return Err(Refusal::Replayed);
        }
        if self.gate.count(ctx.now) {
            self.hold_back(ctx, from, datagram, &mac1)?;
        }
        self.seen.insert(mac1);

        let init = self.identity.open_init(ctx.rng, suite, datagram)?;
        if init.peer == self.identity.public {
            return Err(Refusal::OwnKey);
        }
        let other_boot = init.responder_boot != self.identity.boot;
        if other_boot && !mutant::is(Mutant::BootUnchecked) {
            return Ok(Incoming::WantsBeacon {
                to: from,
                kid: init.kid,
            });
        }
        let is_newer = self
            .counters
            .admit(&init.peer, init.initiator_boot, init.counter);
        if !is_newer && !mutant::is(Mutant::InitCountersForgotten) {
            return Err(Refusal::Replayed);
        }

        if !self.access.admits(&init.peer.device_id()) {
            self.mention_denied(&init.peer, from, ctx.now);
            return Err(Refusal::Denied);
        }
        if self.is_held_against(&init, from, ctx.now) {
            return Ok(Incoming::Nothing);
        }
        if !self.has_room_for(&init.peer) {
            return Err(Refusal::Full);
        }
        self.answer(ctx, from, init);
        Ok(Incoming::Nothing)
    }

    /// Says once a minute who knocks in vain: it holds the group secret, so somebody gave it that.
    fn mention_denied(&mut self, peer: &PublicKey, from: Address, now: Time) {
        self.denied.insert(*peer, (from, now));
        let last = self.denied_told_at;
        if last.is_none_or(|last| now.since(last) >= DENIED_PERIOD) {
            self.denied_told_at = Some(now);
            let device = peer.device_id();
            tracing::warn!(%device, %from, "a device that is not admitted holds the group secret");
        }
    }

    /// Under load: the sender's address must have a token left and return its cookie, or it is
    /// sent one.
    fn hold_back(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: Address,
        init: &[u8],
        mac1: &[u8; MAC_LEN],
    ) -> Result<(), Refusal> {
        if !self.gate.take_token(ctx.now, from) {
            return Err(Refusal::TooMany);
        }
        let cookie = self.baker.bake(ctx.rng, ctx.now, from);
        if cookie::is_signed(init, &cookie) || mutant::is(Mutant::CookieUnchecked) {
            return Ok(());
        }
        let kid = init_kid(init);
        let own = self.identity.public;
        let key = self.identity.cookie_key(&kid, &own);
        let key = key.ok_or(Refusal::OtherGroup)?;
        let reply = key.seal(ctx.rng, init_index(init), mac1, cookie);
        ctx.transmit(from, Bytes::copy_from_slice(&reply));
        Err(Refusal::NoCookie)
    }

    /// Takes a cookie and, once a round and address, sends an Init with it at once. The Init that
    /// it answers stays as it was: its Response may be under way all the same.
    pub(super) fn handle_cookie(
        &mut self,
        ctx: &mut Ctx<'_>,
        datagram: &[u8],
    ) -> Result<Incoming, Refusal> {
        let index = cookie::reply_index(datagram);
        let peer = *self.indices.get(&index).ok_or(Refusal::UnknownIndex)?;
        let attempt = self.attempts.get_mut(&peer).ok_or(Refusal::UnknownIndex)?;
        let pending = attempt.pending.iter_mut().find(|init| init.local == index);
        let pending = pending.ok_or(Refusal::UnknownIndex)?;
        let key = self.identity.cookie_key(&attempt.target.kid, &peer);
        let key = key.ok_or(Refusal::OtherGroup)?;
        let cookie = key.open(datagram, &pending.mac1).ok_or(Refusal::Forged)?;
        let address = pending.address;
        self.jar.keep(ctx.now, peer, address, cookie);
        if !core::mem::replace(&mut pending.is_spent, true) {
            self.send_init(ctx, &peer, address, true);
        }
        Ok(Incoming::Nothing)
    }

    /// Takes the answer to an Init of ours.
    pub(super) fn handle_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: Address,
        datagram: &[u8],
    ) -> Result<Incoming, Refusal> {
        let (local, remote) = response_indices(datagram);
        let peer = *self.indices.get(&local).ok_or(Refusal::UnknownIndex)?;
        let attempt = self.attempts.get_mut(&peer).ok_or(Refusal::UnknownIndex)?;
        let Target { boot, kid, .. } = attempt.target;
        self.identity.check_response(&kid, datagram)?;
        let at = attempt
            .pending
            .iter()
            .position(|pending| pending.local == local);
        let at = at.ok_or(Refusal::UnknownIndex)?;
        if open_response(&mut attempt.pending[at].state, datagram)? != boot {
            return Err(Refusal::OtherBoot);
        }
        let pending = attempt.pending.swap_remove(at);
        let asked = pending.sent_at;
        self.drop_attempt(&peer);

        let created = ctx.now;
        let serial = self.next_serial();
        let origin = Origin {
            local,
            remote,
            boot,
            kid,
            initiated: true,
            created,
            serial,
            renew_at: renew_at(ctx.rng, created, true),
        };
        let session = Session::new(origin, into_transport(pending.state));
        if self.establish(&peer, session, from, (asked, ctx.now)) == Confirmed::Rival {
            return Ok(Incoming::Nothing);
        }
        self.peers.entry(peer).or_default().last_heard = Some(ctx.now);
        // The peer may send only after this has reached it.
        let confirmation = self.send(ctx, &peer, &[]);
        debug_assert!(confirmation.is_ok(), "the session was just made");
        Ok(Incoming::Nothing)
    }

    /// Takes a half-open session into use after its first valid packet. Whether what is in that
    /// packet counts.
    pub(super) fn confirm(
        &mut self,
        peer: &PublicKey,
        index: Index,
        from: Address,
        now: Time,
    ) -> Result<bool, Refusal> {
        let slots = self.peers.get_mut(peer).ok_or(Refusal::UnknownIndex)?;
        let session = slots.take_half_open(index).ok_or(Refusal::UnknownIndex)?;
        let (boot, created) = (session.boot, session.created);
        match self.establish(peer, session, from, (created, now)) {
            Confirmed::Outdated => Err(Refusal::OtherBoot),
            Confirmed::Rival => Ok(false),
            Confirmed::Current { .. } | Confirmed::Previous | Confirmed::Restored => {
                let is_done = |a: &Attempt| a.target.boot == boot || a.started <= created;
                if self.attempts.get(peer).is_some_and(is_done) {
                    self.drop_attempt(peer);
                }
                Ok(true)
            }
        }
    }

    /// Whether a new attempt may begin; if not, says why in the log.
    pub(super) fn may_attempt(&self, target: &Target) -> bool {
        let peer = &target.peer;
        let reason = if *peer == self.identity.public {
            "it has the key of this device"
        } else if PublicKey::new(*peer.as_bytes()).is_err() {
            "its key is of low order"
        } else if !target.flags.speaks_our_version() {
            "it does not speak this protocol version"
        } else if !self.access.admits(&peer.device_id()) {
            "this device does not admit it"
        } else if self.identity.key(&target.kid).is_none() {
            "this device does not hold the secret that it uses"
        } else if !self.has_room_for(peer) {
            "there are too many peers already"
        } else {
            return true;
        };
        tracing::debug!(?peer, reason, "no handshake attempted");
        false
    }

    /// Starts an attempt, or adds addresses to the one that has the same target.
    pub(super) fn attempt(&mut self, ctx: &mut Ctx<'_>, target: Target, candidates: &[Address]) {
        let peer = target.peer;
        let latest = &candidates[..candidates.len().min(CANDIDATES_MAX)];
        if let Some(attempt) = self.attempts.get_mut(&peer)
            && attempt.target == target
        {
            attempt.hurry(ctx.now);
            let due = attempt.due;
            self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
            let mut untried = latest.to_vec();
            untried.retain(|address| attempt.add_candidate(*address));
            for address in untried {
                self.send_init(ctx, &peer, address, false);
            }
            return;
        }
        self.drop_attempt(&peer);
        let mut attempt = Attempt::new(target, ctx.now);
        // The oldest first: it is the first to make way.
        for address in latest.iter().rev() {
            attempt.add_candidate(*address);
        }
        self.attempts.insert(peer, attempt);
        self.continue_attempt(ctx, &peer);
    }

    /// Begins an attempt's next round, or gives up.
    pub(super) fn continue_attempt(&mut self, ctx: &mut Ctx<'_>, peer: &PublicKey) {
        let Some(attempt) = self.attempts.get_mut(peer) else {
            return;
        };
        if attempt.is_over(ctx.now) {
            tracing::debug!(?peer, "handshake given up: no answer from any address");
            ctx.counters.handshakes_failed += 1;
            self.drop_attempt(peer);
            self.events.push_back(SessionEvent::GaveUp { peer: *peer });
            return;
        }
        let stale: Vec<Index> = attempt.take_stale(ctx.now).map(|init| init.local).collect();
        let candidates = attempt.begin_round(ctx.now, ctx.rng);
        let due = attempt.due;
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
        self.free(stale);
        for address in candidates {
            self.send_init(ctx, peer, address, false);
        }
    }

    /// Ends an attempt, if there is one.
    pub(super) fn drop_attempt(&mut self, peer: &PublicKey) {
        if let Some(attempt) = self.attempts.remove(peer) {
            self.free(attempt.pending.into_iter().map(|init| init.local));
        }
    }

    /// Sends an Init with the cookie of its address, if there is one. `is_spent` says that it
    /// answers a cookie itself, so that none makes it be sent again.
    fn send_init(&mut self, ctx: &mut Ctx<'_>, peer: &PublicKey, address: Address, is_spent: bool) {
        let local = self.new_index(ctx, *peer);
        self.inits += 1;
        let Some(attempt) = self.attempts.get_mut(peer) else {
            return;
        };
        let written = self
            .identity
            .write_init(ctx.rng, &attempt.target, local, self.inits);
        let Some((state, mut packet)) = written else {
            self.free([local]);
            return;
        };
        let displaced = attempt.add_pending(Pending {
            local,
            state,
            address,
            mac1: init_mac1(&packet),
            sent_at: ctx.now,
            is_spent,
        });
        self.free(displaced.map(|init| init.local));
        if let Some(cookie) = self.jar.find(ctx.now, *peer, address) {
            cookie::sign(&mut packet, &cookie);
        }
        ctx.transmit(address, Bytes::copy_from_slice(&packet));
    }

    /// Two devices that dial each other at once must end with the same session: the attempt of the
    /// lower key wins. The other one gives way here; its next round comes if nothing else does.
    fn is_held_against(&mut self, init: &OpenedInit, from: Address, now: Time) -> bool {
        let Some(attempt) = self.attempts.get_mut(&init.peer) else {
            return false;
        };
        if mutant::is(Mutant::BothDial) {
            return false;
        }
        if self.identity.public < init.peer {
            return attempt.target.boot == init.initiator_boot && attempt.holds_against(from, now);
        }
        let given_up: Vec<Index> = attempt.pending.drain(..).map(|own| own.local).collect();
        self.free(given_up);
        false
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, from: Address, init: OpenedInit) {
        let (peer, boot, remote, kid) = (init.peer, init.initiator_boot, init.remote, init.kid);
        let local = self.new_index(ctx, peer);
        let Some((transport, packet)) = self.identity.write_response(init, local) else {
            self.free([local]);
            return;
        };
        let created = ctx.now;
        let serial = self.next_serial();
        let origin = Origin {
            local,
            remote,
            boot,
            kid,
            initiated: false,
            created,
            serial,
            renew_at: renew_at(ctx.rng, created, false),
        };
        self.sweep_by(created + HALF_OPEN_LIFE);
        let session = Session::new(origin, transport);
        ctx.transmit(from, Bytes::copy_from_slice(&packet));
        if mutant::is(Mutant::SessionUnconfirmed) {
            self.establish(&peer, session, from, (created, created));
            return;
        }
        let mut dropped = Vec::new();
        let slots = self.peers.entry(peer).or_default();
        slots.add_half_open(session, &mut dropped);
        self.free(dropped);
    }

    /// Places a confirmed session and tells the caller if it changes anything for it. Nothing in
    /// the handshake is older than `asked`.
    fn establish(
        &mut self,
        peer: &PublicKey,
        session: Box<Session>,
        from: Address,
        (asked, now): (Time, Time),
    ) -> Confirmed {
        let (boot, initiated) = (session.boot, session.initiated);
        self.sweep_by(session.renew_at);
        let (was, opinion) = (self.boot(peer), self.opinion(peer));
        let mut dropped = Vec::new();
        let slots = self.peers.entry(*peer).or_default();
        let challenge = Challenge {
            session,
            from,
            asked,
            now,
            opinion,
        };
        let confirmed = slots.confirm(challenge, &mut dropped);
        if matches!(confirmed, Confirmed::Current { .. } | Confirmed::Restored) {
            slots.endpoint = Some(from);
        }
        self.free(dropped);
        let is_new = Confirmed::Current { is_new: true };
        if confirmed == is_new || confirmed == Confirmed::Restored {
            tracing::debug!(?peer, address = %from, initiated, "session established");
            self.review_opinion(peer, was);
            self.events.push_back(SessionEvent::Established {
                peer: *peer,
                boot,
                address: from,
                initiated,
            });
        }
        if confirmed == Confirmed::Restored {
            self.note_clone(peer, from, now);
        }
        confirmed
    }

    /// Whether the peer is known or another one may be taken in. Peers that never confirm a session
    /// make room as they grow old.
    fn has_room_for(&self, peer: &PublicKey) -> bool {
        self.peers.contains_key(peer)
            || self.attempts.contains_key(peer)
            || self.peer_count() < PEERS_MAX
    }

    fn peer_count(&self) -> usize {
        let upper_bound = self.peers.len() + self.attempts.len();
        if upper_bound < PEERS_MAX {
            return upper_bound;
        }
        let is_dialled_only = |peer: &&PublicKey| !self.peers.contains_key(peer);
        self.peers.len() + self.attempts.keys().filter(is_dialled_only).count()
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
