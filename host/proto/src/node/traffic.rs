//! Plugins' messages, out and in.

use bytes::Bytes;

use super::Node;
use crate::event::{Leadership, PluginCommand, PluginEvent};
use crate::id::{BootId, GroupKey, NodeId, PluginId};
use crate::wire::message::{App, Class, Message};

/// A message of a plugin on its way in.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) origin: NodeId,
    pub(super) boot: BootId,
    pub(super) message: App,
}

impl Node {
    /// Delivers the broadcasts that waited for the tenure that is followed and has been told.
    pub(super) fn deliver_held(&mut self, group: GroupKey) {
        let Some((leader, epoch)) = self.followed(group) else {
            return;
        };
        let Some(boot) = self.roster.get(leader).map(|entry| entry.boot) else {
            return;
        };
        for message in self.messaging.release(self.now, group, leader, epoch) {
            self.deliver(Delivery {
                origin: leader,
                boot,
                message,
            });
        }
    }

    /// A plugin's message arrived, straight or relayed.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Delivery {
            origin,
            boot,
            message,
        } = delivery;
        let Some(plugin) = self.plugin_of(message.group) else {
            return;
        };
        let id = plugin.spec.id.clone();
        let peer = plugin.peers.get(&origin).cloned();
        let leads = self
            .elections
            .get(&message.group)
            .is_some_and(|e| e.claim().is_some());
        let event = match message.class {
            Class::Broadcast => {
                match self.followed(message.group) {
                    Some(tenure) if tenure == (origin, message.epoch) => {}
                    Some((leader, epoch)) if leader == origin && message.epoch < epoch => {
                        self.counters.messages_stale += 1;
                        return;
                    }
                    _ if leads => {
                        self.counters.messages_stale += 1;
                        return;
                    }
                    _ => {
                        self.messaging.hold(self.now, origin, message);
                        return;
                    }
                }
                let Some(leader) = peer else { return };
                let sender = Leadership {
                    leader,
                    term: message.epoch,
                };
                PluginEvent::LeaderMessage {
                    sender,
                    payload: message.payload,
                }
            }
            Class::ToLeader if !leads => {
                self.counters.messages_stale += 1;
                return;
            }
            Class::ToLeader | Class::Direct | Class::ToAll => {
                let Some(sender) = peer else {
                    self.counters.messages_stale += 1;
                    return;
                };
                PluginEvent::PeerMessage {
                    sender,
                    payload: message.payload,
                }
            }
        };
        if self.messaging.accept(origin, boot, message.seq) {
            self.tell(&id, event);
        } else {
            self.counters.messages_duplicate += 1;
        }
    }

    /// A plugin sends. Its host has checked what can be checked in place; what has changed since
    /// then loses the message, as the network may.
    pub(super) fn plugin_acts(&mut self, id: &PluginId, command: PluginCommand) {
        let Some(plugin) = self.plugins.get(id) else {
            return;
        };
        let group = plugin.group;
        let Some(election) = self.elections.get(&group) else {
            return;
        };
        let (claim, followed) = (election.claim(), election.followed());
        let everyone: Vec<NodeId> = plugin.peers.keys().copied().collect();
        match command {
            PluginCommand::Broadcast(payload) => {
                let Some((epoch, _)) = claim.filter(|_| !election.is_held()) else {
                    return;
                };
                let sender = Leadership {
                    leader: self.this_peer(),
                    term: epoch,
                };
                self.send_app(group, Class::Broadcast, epoch, &everyone, &payload);
                self.tell(id, PluginEvent::LeaderMessage { sender, payload });
            }
            PluginCommand::SendToLeader(payload) => {
                if claim.is_some() {
                    self.tell_self(id, payload);
                } else if let Some((leader, _)) = followed {
                    self.send_app(group, Class::ToLeader, 0, &[leader], &payload);
                }
            }
            PluginCommand::Send { to, payload } => {
                if to == self.identity.device {
                    self.tell_self(id, payload);
                } else if let Some(node) = self.roster.find(&to).filter(|n| everyone.contains(n)) {
                    self.send_app(group, Class::Direct, 0, &[node], &payload);
                }
            }
            PluginCommand::SendToAll(payload) => {
                self.send_app(group, Class::ToAll, 0, &everyone, &payload);
                self.tell_self(id, payload);
            }
        }
    }

    fn tell_self(&mut self, id: &PluginId, payload: Bytes) {
        let sender = self.this_peer();
        self.tell(id, PluginEvent::PeerMessage { sender, payload });
    }

    fn send_app(
        &mut self,
        group: GroupKey,
        class: Class,
        epoch: u64,
        to: &[NodeId],
        payload: &Bytes,
    ) {
        if payload.len() > crate::MAX_PAYLOAD {
            tracing::warn!(
                len = payload.len(),
                "a plugin's message above the limit was dropped"
            );
            return;
        }
        let app = self.messaging.number(group, class, epoch, payload.clone());
        let message = Message::App(app);
        for node in to {
            self.send(*node, &message);
        }
    }
}
