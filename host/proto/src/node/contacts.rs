//! What the sessions tell: devices that can be reached, and that cannot any more.

use core::time::Duration;

use super::Node;
use super::roster::{Entry, Standing};
use crate::access::Access;
use crate::event::{Address, RemovalReason};
use crate::id::{BootId, NodeId, PublicKey};
use crate::mutant::{self, Mutant};
use crate::pace::is_large;
use crate::session::SessionEvent;

/// For how long the session with a missing device is kept.
const MISSING_SESSION_LIFE: Duration = Duration::from_secs(30);
/// How lately a device that is no member must have been heard to be asked to join, and how long
/// after it was lost, or the session with it opened: what a beacon or a handshake asks for comes
/// first, and where a large group forms gossip does.
const REJOIN_HEARD: Duration = Duration::from_secs(1);
const STRANGER_FOR: Duration = Duration::from_secs(5);
/// A session is silent if nothing has come over it for this time, and between members for no less
/// than two turns of being probed.
const SILENT_AFTER: Duration = Duration::from_secs(15);
const TURN: Duration = Duration::from_secs(1);

/// See [`Node::silence_limits`].
pub(super) struct SilenceLimits {
    /// For a member that this device does not follow.
    member: Duration,
    followed: Vec<NodeId>,
}

impl SilenceLimits {
    pub(super) fn of(&self, node: NodeId, is_member: bool) -> Duration {
        if is_member && !self.followed.contains(&node) {
            self.member
        } else {
            SILENT_AFTER
        }
    }
}

impl Node {
    pub(super) fn settle_sessions(&mut self) -> bool {
        let mut moved = false;
        while let Some(event) = self
            .sessions
            .as_mut()
            .and_then(|sessions| sessions.poll_event())
        {
            moved = true;
            match event {
                SessionEvent::Established {
                    peer,
                    boot,
                    address,
                    initiated,
                } => {
                    self.session_opened(peer, boot, address, initiated);
                }
                SessionEvent::GaveUp { peer } => {
                    tracing::debug!(device = ?peer.device_id(), "no answer to the handshake");
                }
                SessionEvent::Cloned { .. } | SessionEvent::RivalHeard { .. } => {
                    self.take_clone_event(event);
                }
                SessionEvent::WornOut { peer } => self.renew_session(&peer),
                SessionEvent::Expired { peer } => self.session_expired(peer),
            }
        }
        moved
    }

    fn session_opened(&mut self, key: PublicKey, boot: BootId, address: Address, initiated: bool) {
        let now = self.now;
        let flags = self.identity.flags;
        let Some(entry) = self.roster.learn(key, boot, flags) else {
            return;
        };
        let node = entry.device.node();
        let restarted = entry.connected_at.is_some() && entry.boot != boot;
        if entry.boot != boot
            || entry
                .record
                .as_ref()
                .is_some_and(|record| record.boot != boot)
        {
            entry.restarted(boot);
        }
        entry.connected_at = Some(now);
        entry.add_candidate(address);
        tracing::debug!(device = ?entry.device, %address, initiated, restarted, "session opened");
        if restarted {
            self.lose_claims(node);
        }
        self.refresh_visibility(node);
        self.keyring_connected(node);
        self.liveness.connected(now, node);
        self.liveness.heard(now, node);
        self.tell_record(node, false);
        for seen in self.clones_seen() {
            self.send(node, &seen);
        }
        // Of two strangers one asking is enough; in a large group gossip makes up for a loss.
        let large = is_large(self.membership.active_count());
        if initiated || !(large || self.membership.is_active(node)) {
            self.membership.join(now, node);
        }
        self.tell_losses(node);
        for message in self.pending.remove(&node).unwrap_or_default() {
            self.send(node, &message);
        }
        self.discovery.reached(address);
        self.store_addresses();
    }

    /// Other devices are admitted: those that are not are cut off at once.
    pub(super) fn set_access(&mut self, access: Access) {
        if let Some(sessions) = &mut self.sessions {
            sessions.set_access(access.clone());
        }
        if let Some(rotation) = &mut self.rotation {
            rotation.set_listed(access.named());
        }
        self.config.access = access;
        let denied = self.roster.iter().map(|(node, _)| node);
        let denied: Vec<NodeId> = denied.filter(|node| !self.admits(*node)).collect();
        for node in denied {
            self.discovery.member_found(node);
            self.member_gone(node, RemovalReason::Denied);
        }
        let access = &self.config.access;
        self.roster.unknown.retain(|node| access.admits_node(*node));
    }

    /// Whether this device has anything to do with another. Gossip of a denied one goes by.
    pub(super) fn admits(&self, node: NodeId) -> bool {
        self.config.access.admits_node(node)
    }

    /// Nothing can be sent to a device any more. If it is a member, the chores open a session anew.
    fn session_expired(&mut self, peer: PublicKey) {
        let node = peer.device_id().node();
        if let Some(rotation) = &mut self.rotation {
            rotation.disconnected(node);
        }
        if let Some(entry) = self.roster.get_mut(node) {
            entry.connected_at = None;
        }
        self.state_unreachable(node);
    }

    /// A session with a missing device makes a short partition heal quickly; a device that is off
    /// for longer gets no more heartbeats, and a handshake when it is back.
    pub(super) fn part_with_missing(&mut self) {
        let now = self.now;
        let gone = |(node, entry): (NodeId, &Entry)| match entry.standing() {
            Standing::Missing { since } if entry.connected_at.is_some() => {
                (now.since(since) > MISSING_SESSION_LIFE).then_some((node, entry.key))
            }
            _ => None,
        };
        let gone: Vec<(NodeId, PublicKey)> = self.roster.outsiders().filter_map(gone).collect();
        for (node, key) in gone {
            self.close_session(node, &key);
        }
    }

    /// A device that is heard over its session and no member may take this one for none, too. What
    /// a beacon or a handshake asked for may have been lost, or have gone to where the device was
    /// before it moved, and no further beacon comes to an address of a session.
    pub(super) fn ask_to_join(&mut self) {
        let outside = |(node, entry): (NodeId, &Entry)| {
            let connected = entry.connected_at.filter(|_| !entry.refuses)?;
            let since = match entry.standing() {
                Standing::Missing { since } if !mutant::is(Mutant::MissingNotRejoined) => {
                    since + REJOIN_HEARD
                }
                Standing::Stranger | Standing::Left if !mutant::is(Mutant::AskedOnce) => {
                    connected + STRANGER_FOR
                }
                _ => return None,
            };
            let heard = self.liveness.last_heard(node)?;
            let lately = self.now.since(heard) < REJOIN_HEARD;
            (lately && heard > since).then_some(node)
        };
        let outside: Vec<NodeId> = self.roster.outsiders().filter_map(outside).collect();
        for node in outside {
            self.membership.join(self.now, node);
        }
    }

    /// Whether there is a session over which nothing has come for so long that both may have moved:
    /// then each sends to where the other was. A leader that is followed is heard at every beat,
    /// where others are heard by turns.
    pub(super) fn is_silent(&self, node: NodeId) -> bool {
        let (Some(entry), Some(sessions)) = (self.roster.get(node), &self.sessions) else {
            return false;
        };
        let Some(heard) = sessions.last_heard(&entry.key) else {
            return false;
        };
        let silence = self.now.since(heard);
        silence > SILENT_AFTER && silence > self.silence_limits().of(node, entry.is_member())
    }

    /// After how much silence sessions count as silent at present.
    pub(super) fn silence_limits(&self) -> SilenceLimits {
        let members = u32::try_from(self.membership.active_count()).unwrap_or(u32::MAX);
        let followed = self
            .elections
            .values()
            .filter_map(|election| election.followed());
        SilenceLimits {
            member: SILENT_AFTER.max(TURN * 2 * members),
            followed: followed.map(|(leader, _)| leader).collect(),
        }
    }

    pub(super) fn close_session(&mut self, node: NodeId, key: &PublicKey) {
        if let Some(sessions) = &mut self.sessions {
            sessions.close(key);
        }
        if let Some(rotation) = &mut self.rotation {
            rotation.disconnected(node);
        }
        self.liveness.forget(node);
        if let Some(entry) = self.roster.get_mut(node) {
            entry.connected_at = None;
        }
        self.state_unreachable(node);
    }
}
