//! Plugins' messages, out and in.

use core::time::Duration;

use bytes::Bytes;

use super::{Node, parts};
use crate::event::{Leadership, PluginCommand, PluginEvent};
use crate::id::{BootId, GroupKey, NodeId, PluginId};
use crate::messaging::App;
use crate::messaging::outbound::Cargo;
use crate::mutant::{self, Mutant};
use crate::quota::{QuotaMeter, SendQuota};
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::part::{CHUNK, Class, GroupRef};

/// Quotas remembered; a device runs fewer plugins.
const QUOTAS_MAX: usize = 64;
/// How long after the first record a device is taken to know the groups' short numbers.
const SLOT_SETTLES: Duration = Duration::from_secs(5);

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
        let (seq, len) = (message.seq, message.payload.len());
        let event = match message.class {
            Class::Broadcast => {
                match self.followed(message.group) {
                    Some(tenure) if tenure == (origin, message.epoch) => {}
                    _ if mutant::is(Mutant::BroadcastOfAnyone) => {}
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
        if self.is_first(origin, boot, seq, len) {
            self.tell(&id, event);
        }
    }

    /// Whether a message comes for the first time; counts it.
    fn is_first(&mut self, origin: NodeId, boot: BootId, seq: u64, len: usize) -> bool {
        let is_first = self.messaging.accept(origin, boot, seq);
        if is_first {
            if len > CHUNK {
                // Parts of it that came another way are not a message that was lost.
                self.messaging.reassembly.forget(origin, boot, seq);
            }
            self.messaging.counts_mut(origin).received += 1;
        } else {
            self.messaging.counts_mut(origin).duplicates += 1;
            self.counters.messages_duplicate += 1;
        }
        is_first
    }

    /// A plugin acts. Its host has checked what can be checked in place; what has changed since
    /// then loses the message, as the network may.
    pub(super) fn plugin_acts(&mut self, id: &PluginId, command: PluginCommand) {
        let command = match command {
            PluginCommand::Write(write) => return self.plugin_writes(id, &write),
            command => command,
        };
        let Some(plugin) = self.plugins.get(id) else {
            return;
        };
        let group = plugin.group;
        let everyone: Vec<NodeId> = plugin.peers.keys().copied().collect();
        if !self.is_within_quota(id, &command) {
            return;
        }
        let Some(election) = self.elections.get(&group) else {
            return;
        };
        let (claim, followed) = (election.claim(), election.followed());
        let held = election.is_held() && !mutant::is(Mutant::HeldBroadcast);
        match command {
            PluginCommand::Broadcast(payload) => {
                let Some((epoch, _)) = claim.filter(|_| !held) else {
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
            PluginCommand::Write(_) => {}
        }
    }

    fn tell_self(&mut self, id: &PluginId, payload: Bytes) {
        let sender = self.this_peer();
        self.tell(id, PluginEvent::PeerMessage { sender, payload });
    }

    /// What a plugin may send. The node's own meter is a little wider than the host's: they do not
    /// run on the same clock.
    pub(super) fn set_quota(&mut self, id: PluginId, quota: &SendQuota) {
        if self.quotas.len() < QUOTAS_MAX || self.quotas.contains_key(&id) {
            self.quotas.insert(id, QuotaMeter::new(&widened(quota)));
        }
    }

    /// Whether the plugin may send this; counts what it may not.
    fn is_within_quota(&mut self, id: &PluginId, command: &PluginCommand) -> bool {
        let (PluginCommand::Broadcast(payload)
        | PluginCommand::SendToLeader(payload)
        | PluginCommand::Send { payload, .. }
        | PluginCommand::SendToAll(payload)) = command
        else {
            return true;
        };
        let len = payload.len();
        if len > crate::MAX_PAYLOAD {
            tracing::warn!(plugin = %id, len, "a plugin's message above the limit was dropped");
            return false;
        }
        if !self.quotas.contains_key(id) {
            self.set_quota(id.clone(), &SendQuota::default());
        }
        let meter = self.quotas.get_mut(id);
        let allowed = meter.is_some_and(|meter| meter.take(self.now.as_micros(), len));
        if !allowed {
            self.counters.messages_over_quota += 1;
        }
        allowed || mutant::is(Mutant::QuotaAtTheHostAlone)
    }

    /// Sends a message straight to each of `to`, or through the fan-out tree where there is not
    /// the credit for that.
    fn send_app(
        &mut self,
        group: GroupKey,
        class: Class,
        epoch: u64,
        to: &[NodeId],
        payload: &Bytes,
    ) {
        let app = self.messaging.number(group, class, epoch, payload.clone());
        if self.needs_tree(&app, to.len()) {
            self.fan_out(app, to);
        } else {
            self.send_straight(app, to);
        }
    }

    fn send_straight(&mut self, app: App, to: &[NodeId]) {
        let slot = self.slots.of(app.group);
        let mut by_key: Option<Vec<Bytes>> = None;
        let mut by_slot: Option<Vec<Bytes>> = None;
        for node in to {
            let short = slot.filter(|slot| self.knows_slots(*node, slot.since));
            let frames = match short {
                Some(slot) => by_slot.get_or_insert_with(|| {
                    parts::frames(&app, GroupRef::Slot(slot.number), Message::Part)
                }),
                None => by_key.get_or_insert_with(|| {
                    parts::frames(&app, GroupRef::Key(app.group), Message::Part)
                }),
            };
            parts::queue(&mut self.messaging, *node, frames, Cargo::Own);
        }
        if app.payload.len() > CHUNK {
            let key = (self.identity.node, self.identity.boot, app.seq);
            let one = to.first().copied().filter(|_| to.len() == 1);
            let (now, count) = (self.now, to.len());
            self.messaging.kept.keep(now, key, app, one, None, count);
        }
    }

    /// Whether a device has this one's record with a number that was given out at `since`, as far
    /// as this one can tell: records go out at once and are asked for within 200 ms.
    fn knows_slots(&self, node: NodeId, since: Time) -> bool {
        let connected = self.roster.get(node).and_then(|entry| entry.connected_at);
        let settled = |at: Time| self.now.since(at) >= SLOT_SETTLES;
        settled(since) && connected.is_some_and(settled)
    }
}

fn widened(quota: &SendQuota) -> SendQuota {
    let wider = |limit: u32| limit.saturating_add(limit / 4);
    SendQuota {
        messages_per_second: wider(quota.messages_per_second),
        message_burst: wider(quota.message_burst),
        bytes_per_second: wider(quota.bytes_per_second),
        byte_burst: wider(quota.byte_burst),
    }
}
