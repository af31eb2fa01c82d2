//! Rotation of the group's secret: which secrets this device holds, and who of the others lacks
//! some.
//!
//! Every device tells every other the shape of its keyring when a session opens and when the
//! keyring changes. Whoever sees that another lacks something offers its keyring, and again until
//! the other's shape says that it has arrived. So a step of a rotation is a step on one device,
//! and reaches the others, those included that were away, by the same rule as everything else.
//!
//! Invariants:
//! * A keyring is in force, told of, or handed on only after it was stored. While a write is under
//!   way or has failed, the one before is in force.
//! * A keyring only ever grows in the order of [`crate::keyring`]: what arrives is merged.
//! * A restricted secret goes to devices on this device's list and to nobody else.

mod command;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::event::{RotateError, RotateStep};
use crate::id::{DeviceId, NodeId};
use crate::keyring::{Keyring, Shape, kid};
use crate::keys::{GroupKeys, Kid};
use crate::mutant::{self, Mutant};
use crate::status::PeerKeyring;
use crate::time::{Time, micros};
use crate::wire::keyring::{KeyringOffer, KeyringState};

/// Offers and questions are spread over this time, so that a device that is behind is not offered
/// the same by all at once, and are repeated about as often.
const SPREAD: Duration = Duration::from_millis(500);
/// A question this soon after this device has told crossed the answer. One that is asked again
/// comes no sooner than [`SPREAD`].
const JUST_TOLD: Duration = Duration::from_millis(250);
/// How long a device leaves it to whoever took a step to bring it to the others.
const LEAVE_TO_FIRST: Duration = Duration::from_secs(1);
/// After a failed write no other is tried for this long.
const RETRY_WRITE: Duration = Duration::from_secs(5);
/// An epoch that lies further above this device's is refused, so that nobody uses them up.
const EPOCH_JUMP_MAX: u32 = 1 << 16;

/// What the others have to do with.
#[derive(Debug)]
pub(crate) enum Output {
    /// Persist this, and report by [`Rotation::handle_stored`].
    Store(Keyring),
    Tell(NodeId, KeyringState),
    Offer(NodeId, KeyringOffer),
    /// The keyring in force is another one.
    Adopted(Change),
    /// What became of an operator's step.
    Outcome(RotateStep, Result<u32, RotateError>),
}

/// What is different in a keyring that has come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Sessions under removed secrets are to end at once, except with those who are sent, or sent,
    /// the new one over them.
    pub(crate) cut: Option<Spared>,
}

/// Whose sessions outlive the removal of a stolen secret, until they are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spared {
    /// Of the devices on the list, for the one that took the step.
    Listed,
    /// Of the device that the new secret came from.
    Sender(NodeId),
}

#[derive(Debug)]
enum Cause {
    Operator(RotateStep),
    From(NodeId),
}

#[derive(Debug)]
struct Writing {
    ring: Keyring,
    cause: Cause,
}

/// What is known of a connected device's keyring.
#[derive(Debug)]
struct Peer {
    device: DeviceId,
    shape: Option<Shape>,
    failed: bool,
    tell_at: Time,
    offer_at: Time,
    /// When this device told it last.
    told_at: Option<Time>,
    /// Its entry in the timers, no later than either.
    timer: Option<Time>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Rotation {
    ring: Keyring,
    shape: Shape,
    keys: Vec<GroupKeys>,
    writing: Option<Writing>,
    /// What arrived while a write was under way.
    next: Option<(Keyring, NodeId)>,
    failed_at: Option<Time>,
    peers: BTreeMap<NodeId, Peer>,
    /// The devices that may hold a restricted secret; without a list none.
    listed: Option<BTreeSet<DeviceId>>,
    /// At most one entry per peer, so that opening a session costs the same however many there are.
    timers: BTreeSet<(Time, NodeId)>,
    outputs: VecDeque<Output>,
}

impl Rotation {
    pub(crate) fn new(ring: Keyring, listed: Option<BTreeSet<DeviceId>>) -> Self {
        Self {
            shape: ring.shape(),
            keys: ring.derive(),
            ring,
            writing: None,
            next: None,
            failed_at: None,
            peers: BTreeMap::new(),
            listed,
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The keyring in force.
    pub(crate) const fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// What the protocol uses of the secrets in force, the active one first.
    pub(crate) fn keys(&self) -> &[GroupKeys] {
        &self.keys
    }

    /// The same of one secret, if this device holds it.
    pub(crate) fn key(&self, kid: &Kid) -> Option<&GroupKeys> {
        self.keys.iter().find(|keys| keys.kid == *kid)
    }

    /// The secret to send under.
    pub(crate) fn active(&self) -> &GroupKeys {
        &self.keys[0]
    }

    /// Who may hold a restricted secret.
    pub(crate) fn set_listed(&mut self, listed: Option<BTreeSet<DeviceId>>) {
        self.listed = listed;
    }

    pub(crate) fn is_listed(&self, device: &DeviceId) -> bool {
        let listed = self.listed.as_ref();
        listed.is_some_and(|listed| listed.contains(device))
    }

    /// Whether another device is known to hold the active secret.
    pub(crate) fn has_active(&self, node: NodeId) -> bool {
        let shape = self.peers.get(&node).and_then(|peer| peer.shape.as_ref());
        shape.is_some_and(|shape| shape.holds(&self.shape.active.mark))
    }

    /// Whether this device could not store what it learnt last.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed_at.is_some()
    }

    /// How another device's keyring compares.
    pub(crate) fn standing(&self, node: NodeId) -> PeerKeyring {
        match self.peers.get(&node) {
            None => PeerKeyring::Unknown,
            Some(peer) => match &peer.shape {
                None => PeerKeyring::Unknown,
                Some(shape) if !shape.lacks(&self.shape) => PeerKeyring::Current,
                Some(_) if peer.failed => PeerKeyring::NotStored,
                Some(_) => PeerKeyring::Behind,
            },
        }
    }

    /// There is a session with a device, in a run that has told nothing yet.
    pub(crate) fn connected(
        &mut self,
        now: Time,
        rng: &mut ChaCha12Rng,
        node: NodeId,
        device: DeviceId,
    ) {
        self.disconnected(node);
        let peer = Peer {
            device,
            shape: None,
            failed: false,
            tell_at: Time::MAX,
            offer_at: Time::MAX,
            told_at: None,
            timer: None,
        };
        self.peers.insert(node, peer);
        self.tell(now, rng, node);
    }

    /// There is no session with a device.
    pub(crate) fn disconnected(&mut self, node: NodeId) {
        if let Some(at) = self.peers.remove(&node).and_then(|peer| peer.timer) {
            self.timers.remove(&(at, node));
        }
    }

    /// A device told the shape of its keyring.
    pub(crate) fn handle_state(
        &mut self,
        now: Time,
        rng: &mut ChaCha12Rng,
        from: NodeId,
        state: KeyringState,
    ) {
        let KeyringState {
            shape,
            failed,
            reply,
        } = state;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let behind = shape.lacks(&self.shape);
        let ahead = self.shape.lacks(&shape);
        peer.shape = Some(shape);
        let failed_before = core::mem::replace(&mut peer.failed, failed);
        let fails_anew = failed && !failed_before;
        // Both ask when a session opens; who asks again has not been told.
        let told = peer.told_at.is_some_and(|at| now.since(at) < JUST_TOLD);
        if ahead || (reply && !told) {
            self.tell(now, rng, from);
        } else if let Some(peer) = self.peers.get_mut(&from) {
            peer.tell_at = Time::MAX;
        }
        if !behind {
            self.offer_at(from, Time::MAX);
        } else if fails_anew {
            self.offer_at(from, now + RETRY_WRITE);
        } else if self
            .peers
            .get(&from)
            .is_some_and(|p| p.offer_at == Time::MAX)
        {
            self.offer_at(from, now + spread(rng));
        }
    }

    /// A device hands on its keyring.
    pub(crate) fn handle_offer(
        &mut self,
        now: Time,
        rng: &mut ChaCha12Rng,
        from: NodeId,
        offer: &KeyringOffer,
    ) {
        let offered = match offer.keyring(*self.ring.group_id()) {
            Ok(offered) => offered,
            Err(error) => {
                tracing::debug!(?from, %error, "a keyring was refused");
                return;
            }
        };
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let shape = offered.shape();
        let newest = |shape: &Shape| shape.keys.last().map_or(0, |key| key.epoch);
        let limit = newest(&self.shape).saturating_add(EPOCH_JUMP_MAX);
        if newest(&shape).max(shape.floor.epoch) > limit {
            tracing::warn!(?from, "a keyring far ahead of this one was refused");
            return;
        }
        peer.shape = Some(shape);
        let merged = self.ring.merge(&offered);
        let waits = self.failed_at.is_some_and(|at| now.since(at) < RETRY_WRITE);
        if merged == self.ring || (waits && self.writing.is_none()) {
            self.tell(now, rng, from);
        } else if self.writing.is_some() {
            let next = self
                .next
                .take()
                .map_or(merged.clone(), |(ring, _)| ring.merge(&merged));
            self.next = Some((next, from));
        } else {
            self.write(merged, Cause::From(from));
        }
    }

    /// The write that was asked for has been done, or could not be.
    pub(crate) fn handle_stored(
        &mut self,
        now: Time,
        rng: &mut ChaCha12Rng,
        result: Result<(), String>,
    ) {
        let Some(Writing { ring, cause }) = self.writing.take() else {
            return;
        };
        match result {
            Ok(()) => self.adopt(now, rng, ring, &cause),
            Err(_) if mutant::is(Mutant::KeyringUnstored) => self.adopt(now, rng, ring, &cause),
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the group's secrets could not be stored: they stay as they were"
                );
                self.failed_at = Some(now);
                match cause {
                    Cause::From(node) => self.tell(now, rng, node),
                    Cause::Operator(step) => {
                        let error = Err(RotateError::NotStored(reason));
                        self.outputs.push_back(Output::Outcome(step, error));
                    }
                }
            }
        }
        if let Some((ring, from)) = self.next.take() {
            let merged = self.ring.merge(&ring);
            if merged == self.ring || self.failed_at.is_some() {
                self.tell(now, rng, from);
            } else {
                self.write(merged, Cause::From(from));
            }
        }
    }

    /// When to call [`Rotation::handle_timeout`] next; may be early.
    pub(crate) fn next_timeout(&self) -> Time {
        self.timers.first().map_or(Time::MAX, |(at, _)| *at)
    }

    /// Tells and offers what is due. Harmless when early.
    pub(crate) fn handle_timeout(&mut self, now: Time, rng: &mut ChaCha12Rng) {
        let mut due = Vec::new();
        while let Some((at, node)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            due.push(node);
        }
        for node in due {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            peer.timer = None;
            if peer.tell_at <= now {
                self.tell(now, rng, node);
            }
            if self
                .peers
                .get(&node)
                .is_some_and(|peer| peer.offer_at <= now)
            {
                self.offer(now, rng, node);
            }
            self.set_timer(node);
        }
    }

    /// Moves a peer's timer forward to what is due next for it.
    fn set_timer(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let due = peer.tell_at.min(peer.offer_at);
        if due == Time::MAX || peer.timer.is_some_and(|at| at <= due) {
            return;
        }
        if let Some(later) = peer.timer.replace(due) {
            self.timers.remove(&(later, node));
        }
        self.timers.insert((due, node));
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn write(&mut self, ring: Keyring, cause: Cause) {
        self.outputs.push_back(Output::Store(ring.clone()));
        self.writing = Some(Writing { ring, cause });
    }

    fn adopt(&mut self, now: Time, rng: &mut ChaCha12Rng, ring: Keyring, cause: &Cause) {
        let before = core::mem::replace(&mut self.shape, ring.shape());
        self.keys = ring.derive();
        let stolen = ring.is_restricted_for(&before) && self.shape.floor > before.floor;
        self.ring = ring;
        self.failed_at = None;
        tracing::info!(keyring = ?self.ring, "the group's secrets have changed");
        let (cut, first_offer) = match cause {
            Cause::Operator(step) => {
                let epoch = self.shape.active.epoch;
                self.outputs.push_back(Output::Outcome(*step, Ok(epoch)));
                (Spared::Listed, None)
            }
            Cause::From(node) => (Spared::Sender(*node), Some(LEAVE_TO_FIRST)),
        };
        let cut = (stolen && !mutant::is(Mutant::StolenInGrace)).then_some(cut);
        self.outputs.push_back(Output::Adopted(Change { cut }));
        let teacher = match cause {
            Cause::From(node) => Some(*node),
            Cause::Operator(_) => None,
        };
        // A large group is told bit by bit.
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        let within =
            SPREAD.min(Duration::from_millis(5) * u32::try_from(nodes.len()).unwrap_or(100));
        for node in nodes {
            let wait = if Some(node) == teacher {
                Duration::ZERO
            } else {
                Duration::from_micros(rng.random_range(0..=micros(within)))
            };
            let shape = self.peers.get(&node).and_then(|peer| peer.shape.as_ref());
            let behind = shape.is_none_or(|shape| shape.lacks(&self.shape));
            let first = first_offer.map_or(Duration::ZERO, |first| first + spread(rng));
            self.offer_at(node, if behind { now + first } else { Time::MAX });
            self.tell_at(node, now + wait);
        }
        self.handle_timeout(now, rng);
    }

    /// Tells a device what this one holds, and again later while something is open between them.
    fn tell(&mut self, now: Time, rng: &mut ChaCha12Rng, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let unknown = peer.shape.is_none();
        let ahead = peer
            .shape
            .as_ref()
            .is_some_and(|shape| self.shape.lacks(shape));
        peer.tell_at = Time::MAX;
        peer.told_at = Some(now);
        let state = KeyringState {
            shape: self.shape.clone(),
            failed: self.failed_at.is_some(),
            reply: unknown,
        };
        self.outputs.push_back(Output::Tell(node, state));
        if unknown || ahead {
            self.tell_at(node, now + SPREAD + spread(rng));
        }
    }

    fn offer(&mut self, now: Time, rng: &mut ChaCha12Rng, node: NodeId) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let lacks = match &peer.shape {
            Some(shape) => shape.lacks(&self.shape) && self.may_offer(&peer.device, shape),
            None => false,
        };
        if lacks {
            let offer = KeyringOffer::new(&self.ring);
            self.outputs.push_back(Output::Offer(node, offer));
            let wait = if peer.failed { RETRY_WRITE } else { SPREAD };
            self.offer_at(node, now + wait + spread(rng));
        } else {
            self.offer_at(node, Time::MAX);
        }
    }

    fn may_offer(&self, device: &DeviceId, shape: &Shape) -> bool {
        !self.ring.is_restricted_for(shape)
            || self.is_listed(device)
            || mutant::is(Mutant::RestrictedToAnyone)
    }

    fn tell_at(&mut self, node: NodeId, at: Time) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.tell_at = at;
            self.set_timer(node);
        }
    }

    fn offer_at(&mut self, node: NodeId, at: Time) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.offer_at = at;
            self.set_timer(node);
        }
    }

    /// The secret that another device sends under, as far as it has told.
    pub(crate) fn active_of(&self, node: NodeId) -> Option<Kid> {
        let shape = self.peers.get(&node)?.shape.as_ref()?;
        Some(kid(&shape.active.mark))
    }
}

fn spread(rng: &mut ChaCha12Rng) -> Duration {
    Duration::from_micros(rng.random_range(0..=micros(SPREAD)))
}

#[cfg(test)]
mod tests;
