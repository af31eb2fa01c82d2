//! Several secrets of one group at once: which sessions are under which, and their renewal.

use super::Sessions;
use super::attempt::Attempt;
use super::handshake::{GroupKey, Target};
use crate::ctx::Ctx;
use crate::event::Address;
use crate::id::PublicKey;
use crate::keys::{GroupKeys, Kid};
use crate::mutant::{self, Mutant};
use crate::wire::header::Flags;

impl Sessions {
    /// Takes other secrets into use. Attempts under a secret that is not among them end; sessions
    /// go on until [`Sessions::close_foreign`].
    pub(crate) fn set_keys(&mut self, keys: &[GroupKeys]) {
        let public = self.identity.public;
        let keys = keys.iter().map(|keys| GroupKey::new(keys, &public));
        let former = core::mem::replace(&mut self.identity.keys, keys.collect());
        if mutant::is(Mutant::RemovedAccepted) {
            self.identity.keys.extend(former);
        }
        let identity = &self.identity;
        let is_void = |(peer, attempt): (&PublicKey, &Attempt)| {
            identity.key(&attempt.target.kid).is_none().then_some(*peer)
        };
        let void: Vec<PublicKey> = self.attempts.iter().filter_map(is_void).collect();
        for peer in void {
            self.drop_attempt(&peer);
        }
    }

    /// Drops the sessions under secrets that this device holds no longer, except those with peers
    /// that `spares` names. Returns the peers that are left without a session to send on, and where
    /// they were.
    pub(crate) fn close_foreign(
        &mut self,
        spares: impl Fn(&PublicKey) -> bool,
    ) -> Vec<(PublicKey, Option<Address>)> {
        let identity = &self.identity;
        let (mut dropped, mut lost) = (Vec::new(), Vec::new());
        for (peer, slots) in &mut self.peers {
            let had = slots.current.is_some();
            if !spares(peer) {
                slots.retain(|kid| identity.key(kid).is_some(), &mut dropped);
            }
            if had && slots.current.is_none() {
                lost.push((*peer, slots.endpoint));
            }
        }
        self.free(dropped);
        for (peer, _) in &lost {
            self.close(peer);
        }
        lost
    }

    /// Begins a handshake with a peer there is a session with, which goes on until the new one is
    /// confirmed: the answer to [`SessionEvent::WornOut`], and what a change of secrets asks for.
    /// Does nothing while an attempt is under way.
    pub(crate) fn renew(&mut self, ctx: &mut Ctx<'_>, peer: &PublicKey, flags: Flags, kid: Kid) {
        let Some((boot, address)) = self.boot(peer).zip(self.endpoint(peer)) else {
            return;
        };
        let peer = *peer;
        let target = Target {
            peer,
            boot,
            flags,
            kid,
        };
        if !self.attempts.contains_key(&peer) && self.may_attempt(&target) {
            self.attempt(ctx, target, &[address]);
        }
    }

    /// The secret under which the session that is sent on was established.
    pub(crate) fn kid(&self, peer: &PublicKey) -> Option<Kid> {
        let current = self.peers.get(peer)?.current.as_ref();
        current.map(|session| session.kid)
    }
}
