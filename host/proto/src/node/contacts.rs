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
/// How lately a missing device must have been heard to be asked to join, and how long after it was
/// lost: what a beacon or a handshake asks for comes first.
const REJOIN_HEARD: Duration = Duration::from_secs(1);

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
    }

    /// A session with a missing device makes a short partition heal quickly; a device that is off
    /// for longer gets no more heartbeats, and a handshake when it is back.
    pub(super) fn part_with_missing(&mut self) {
        let now = self.now;
        let gone = |(node, entry): (NodeId, &Entry)| match entry.standing {
            Standing::Missing { since } if entry.connected_at.is_some() => {
                (now.since(since) > MISSING_SESSION_LIFE).then_some((node, entry.key))
            }
            _ => None,
        };
        let gone: Vec<(NodeId, PublicKey)> = self.roster.iter().filter_map(gone).collect();
        for (node, key) in gone {
            self.close_session(node, &key);
        }
    }

    /// A missing device that is heard over its session may hold this one for missing, too. What a
    /// beacon of it asked for may have gone to where it was before it moved, and no further beacon
    /// comes to an address of a session.
    pub(super) fn rejoin_missing(&mut self) {
        let heard_since = |(node, entry): (NodeId, &Entry)| match entry.standing {
            Standing::Missing { since } if entry.connected_at.is_some() && !entry.refuses => {
                let heard = self.liveness.last_heard(node)?;
                let lately = self.now.since(heard) < REJOIN_HEARD;
                (lately && heard > since + REJOIN_HEARD).then_some(node)
            }
            _ => None,
        };
        if mutant::is(Mutant::MissingNotRejoined) {
            return;
        }
        let heard: Vec<NodeId> = self.roster.iter().filter_map(heard_since).collect();
        for node in heard {
            self.membership.join(self.now, node);
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
    }
}
