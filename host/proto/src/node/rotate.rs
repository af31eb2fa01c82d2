//! Rotation of the group's secret, carried to sessions, beacons, disk and peers.
//!
//! Sessions go on when their secret is no longer the active one, and when it is removed in an
//! orderly rotation; they are renewed under the active secret bit by bit, which loses nothing, and
//! what is still under a removed one after two minutes is closed. When a stolen secret is replaced
//! they are closed at once, except with the devices that the new one comes from or goes to.

use core::time::Duration;

use bytes::Bytes;
use zeroize::Zeroize;

use super::{Node, ctx};
use crate::ctx::Ctx;
use crate::discovery::beacon::{self, Beacon};
use crate::event::{Address, Event, RotateError, RotateStep, StoreRecord};
use crate::id::{BootId, DeviceId, NodeId, PublicKey};
use crate::keys::Kid;
use crate::rotation::{Change, Output, Rotation, Spared};
use crate::session::Target;
use crate::status::{KeyringStatus, PeerKeyring};
use crate::time::Time;
use crate::wire::keyring::{KeyringOffer, KeyringState};
use crate::wire::message::Message;

/// Sessions renewed per second: at least so many, and one in so many of all.
const RENEWALS_MIN: usize = 8;
const RENEWALS_PART: usize = 16;
/// The lower key renews first; the higher one does if that has brought nothing for this long.
const LOWER_FIRST: Duration = Duration::from_secs(10);
/// How long sessions under a removed secret go on: after an orderly rotation, and after a secret
/// was stolen, for those that are spared.
const FOREIGN_LIFE: Duration = Duration::from_secs(120);
const SPARED_LIFE: Duration = Duration::from_secs(10);

/// How far this device has carried a rotation out.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The request to store a keyring that is under way.
    store: Option<u64>,
    /// Since when sessions are renewed under another secret; none once all are.
    renewing: Option<Time>,
    /// When sessions under removed secrets end.
    foreign_until: Option<Time>,
}

impl Progress {
    /// Whether this request is the one to store a keyring.
    pub(super) fn is_stored_by(&self, token: u64) -> bool {
        self.store == Some(token)
    }
}

impl Node {
    /// An operator takes a step.
    pub(super) fn rotate(&mut self, step: RotateStep, force: bool) {
        let members = self.roster.iter().filter(|(_, entry)| entry.is_member());
        let present: Vec<(NodeId, DeviceId)> =
            members.map(|(node, entry)| (node, entry.device)).collect();
        match &mut self.rotation {
            Some(rotation) => rotation.handle_command(&mut self.rng, step, force, &present),
            None => self.events.push_back(Event::Rotated {
                step,
                result: Err(RotateError::NoGroup),
            }),
        }
    }

    pub(super) fn keyring_stored(&mut self, result: Result<(), String>) {
        self.rotating.store = None;
        if let Some(rotation) = &mut self.rotation {
            rotation.handle_stored(self.now, &mut self.rng, result);
        }
    }

    pub(super) fn take_keyring_state(&mut self, from: NodeId, state: KeyringState) {
        if let Some(rotation) = &mut self.rotation {
            rotation.handle_state(self.now, &mut self.rng, from, state);
            let active = rotation.active_of(from);
            if let Some(entry) = self.roster.get_mut(from) {
                entry.told.kid = active.or(entry.told.kid);
            }
        }
    }

    pub(super) fn take_keyring_offer(&mut self, from: NodeId, offer: &KeyringOffer) {
        if let Some(rotation) = &mut self.rotation {
            rotation.handle_offer(self.now, &mut self.rng, from, offer);
        }
    }

    /// A session was opened with a device, in another run than before.
    pub(super) fn keyring_connected(&mut self, node: NodeId) {
        let Some((rotation, entry)) = self.rotation.as_mut().zip(self.roster.get_mut(node)) else {
            return;
        };
        rotation.connected(self.now, &mut self.rng, node, entry.device);
        let kid = self.sessions.as_ref().and_then(|s| s.kid(&entry.key));
        entry.told.kid = kid.or(entry.told.kid);
        if kid != Some(rotation.active().kid) {
            self.rotating.renewing.get_or_insert(self.now);
        }
    }

    pub(super) fn time_rotation(&mut self) {
        if let Some(rotation) = &mut self.rotation {
            rotation.handle_timeout(self.now, &mut self.rng);
        }
        if self.rotating.foreign_until.is_some_and(|at| at <= self.now) {
            self.rotating.foreign_until = None;
            self.close_foreign(|_| false);
        }
    }

    pub(super) fn next_rotation(&self) -> Option<Time> {
        let rotation = self.rotation.as_ref().map(Rotation::next_timeout);
        rotation
            .into_iter()
            .chain(self.rotating.foreign_until)
            .min()
    }

    pub(super) fn settle_rotation(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.rotation.as_mut().and_then(Rotation::poll) {
            moved = true;
            match output {
                Output::Store(ring) => {
                    let token = self.store(StoreRecord::Keyring(ring), true);
                    self.rotating.store = Some(token);
                }
                Output::Tell(node, state) => {
                    self.send(node, &Message::KeyringState(state));
                }
                Output::Offer(node, offer) => self.send_offer(node, offer),
                Output::Adopted(change) => self.keyring_changed(change),
                Output::Outcome(step, result) => {
                    self.events.push_back(Event::Rotated { step, result });
                }
            }
        }
        moved
    }

    /// Leaves no copy of the secrets behind.
    fn send_offer(&mut self, to: NodeId, offer: KeyringOffer) {
        let (Some(entry), Some(sessions)) = (self.roster.get(to), &mut self.sessions) else {
            return;
        };
        let mut plaintext = Vec::with_capacity(crate::session::MAX_PLAINTEXT);
        Message::KeyringOffer(offer).encode(&mut plaintext);
        // Without a session the device is offered the same when there is one.
        let _ = sessions.send(&mut ctx!(self), &entry.key, &plaintext);
        plaintext.zeroize();
    }

    fn keyring_changed(&mut self, change: Change) {
        let (Some(rotation), Some(sessions)) = (&self.rotation, &mut self.sessions) else {
            return;
        };
        sessions.set_keys(rotation.keys());
        self.rotating.renewing = Some(self.now);
        match change.cut {
            None => self.rotating.foreign_until = Some(self.now + FOREIGN_LIFE),
            Some(spared) => {
                self.rotating.foreign_until = Some(self.now + SPARED_LIFE);
                self.cut(spared);
            }
        }
        self.renew_sessions();
    }

    /// Closes the sessions under a stolen secret, and dials those who may hold the new one under
    /// that.
    fn cut(&mut self, spared: Spared) {
        let Some(rotation) = &self.rotation else {
            return;
        };
        let is_spared = |key: &PublicKey| match spared {
            Spared::Listed => rotation.is_listed(&key.device_id()),
            Spared::Sender(node) => key.device_id().node() == node,
        };
        let spared: Vec<PublicKey> = self
            .roster
            .iter()
            .map(|(_, entry)| entry.key)
            .filter(is_spared)
            .collect();
        let active = rotation.active().kid;
        for (node, address) in self.close_foreign(|key| spared.contains(key)) {
            let Some(entry) = self.roster.get_mut(node) else {
                continue;
            };
            entry.told.kid = Some(active);
            let boot = entry.boot;
            self.dial(node, boot, &[address]);
        }
    }

    /// Closes the sessions under secrets that this device holds no longer. Returns with whom, and
    /// where they were.
    fn close_foreign(&mut self, spares: impl Fn(&PublicKey) -> bool) -> Vec<(NodeId, Address)> {
        let Some(sessions) = &mut self.sessions else {
            return Vec::new();
        };
        let lost = sessions.close_foreign(spares);
        let mut closed = Vec::new();
        for (key, address) in lost {
            let node = key.device_id().node();
            self.close_session(node, &key);
            closed.extend(address.map(|address| (node, address)));
        }
        closed
    }

    /// Once a second: sessions under another secret than the active one are renewed under that
    /// with those who hold it.
    pub(super) fn renew_sessions(&mut self) {
        let (Some(since), Some(rotation)) = (self.rotating.renewing, &self.rotation) else {
            return;
        };
        let Some(sessions) = &mut self.sessions else {
            return;
        };
        let active = rotation.active().kid;
        let stale = |(_, entry): &(NodeId, &super::roster::Entry)| {
            entry.connected_at.is_some() && sessions.kid(&entry.key) != Some(active)
        };
        let stale: Vec<(NodeId, PublicKey)> = self
            .roster
            .iter()
            .filter(stale)
            .map(|(node, entry)| (node, entry.key))
            .collect();
        if stale.is_empty() {
            self.rotating.renewing = None;
            return;
        }
        let all = self.now.since(since) >= LOWER_FIRST;
        let most = RENEWALS_MIN.max(stale.len() / RENEWALS_PART);
        let ready = stale
            .into_iter()
            .filter(|(node, key)| (all || self.identity.key < *key) && rotation.has_active(*node));
        for (node, key) in ready.take(most) {
            if let Some(entry) = self.roster.get(node) {
                sessions.renew(&mut ctx!(self), &key, entry.flags, active);
            }
        }
    }

    /// Dials a device, under the secret that it was last seen to use if this one holds that.
    pub(super) fn dial(&mut self, node: NodeId, boot: BootId, candidates: &[Address]) {
        let (Some(entry), Some(kid)) = (self.roster.get(node), self.kid_for(node)) else {
            return;
        };
        let target = Target {
            peer: entry.key,
            boot,
            flags: entry.flags,
            kid,
        };
        if let Some(sessions) = &mut self.sessions {
            sessions.connect(&mut ctx!(self), target, candidates);
        }
    }

    /// Asks for a session in place of one that was used for long.
    pub(super) fn renew_session(&mut self, peer: &PublicKey) {
        let node = peer.device_id().node();
        let (Some(entry), Some(kid)) = (self.roster.get(node), self.kid_for(node)) else {
            return;
        };
        if let Some(sessions) = &mut self.sessions {
            sessions.renew(&mut ctx!(self), peer, entry.flags, kid);
        }
    }

    /// The secret for a handshake with a device.
    fn kid_for(&self, node: NodeId) -> Option<Kid> {
        let (entry, rotation) = (self.roster.get(node)?, self.rotation.as_ref()?);
        let known = entry.told.kid.filter(|kid| rotation.key(kid).is_some());
        Some(known.unwrap_or(rotation.active().kid))
    }

    /// This device's beacon under the active secret, and under the retiring ones too: two halves of
    /// a group that rotated apart have nothing else in common.
    pub(super) fn beacons(&mut self) -> Vec<Bytes> {
        let Some(rotation) = &self.rotation else {
            return Vec::new();
        };
        let mut kids: Vec<Kid> = vec![rotation.active().kid];
        kids.extend(rotation.ring().retiring());
        kids.iter().filter_map(|kid| self.beacon(kid)).collect()
    }

    /// Seals this device's beacon under a secret that it holds.
    pub(super) fn beacon(&mut self, kid: &Kid) -> Option<Bytes> {
        let keys = self.rotation.as_ref()?.key(kid)?;
        self.serials.beacon += 1;
        let beacon = Beacon {
            key: self.identity.key,
            boot: self.identity.boot,
            seq: self.serials.beacon,
            port: self.config.port,
            flags: self.identity.flags,
        };
        let sealed = beacon::seal(keys, &mut self.rng, &beacon);
        Some(Bytes::copy_from_slice(&sealed))
    }

    pub(super) fn keyring_status(&self) -> Option<KeyringStatus> {
        let rotation = self.rotation.as_ref()?;
        Some(KeyringStatus {
            entries: rotation.ring().entries().collect(),
            not_stored: rotation.has_failed(),
        })
    }

    pub(super) fn peer_keyring(&self, node: NodeId) -> PeerKeyring {
        let rotation = self.rotation.as_ref();
        rotation.map_or(PeerKeyring::Unknown, |rotation| rotation.standing(node))
    }
}
