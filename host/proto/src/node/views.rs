//! What plugins are told of the members that run them too.
//!
//! A plugin is told of a peer before that peer leads and after it was demoted: additions come
//! first, then the election learns of the change, then removals.

use std::collections::BTreeMap;

use super::Node;
use super::plugins::{Health, candidate};
use crate::election::Candidate;
use crate::event::{Event, Peer, PluginEvent};
use crate::id::{GroupKey, NodeId, PluginId};

impl Node {
    /// Brings every plugin's peers, and every election's candidates, up to the present view.
    pub(super) fn refresh_views(&mut self) {
        let everyone = self
            .roster
            .visible()
            .map(|(node, _)| (node, Candidate::default()));
        let everyone = everyone.collect();
        if let Some(system) = self.elections.get_mut(&GroupKey::SYSTEM) {
            system.set_others(self.now, everyone);
        }
        let up = self
            .plugins
            .values()
            .filter(|plugin| plugin.health != Health::Down);
        let up: Vec<(PluginId, GroupKey)> = up
            .map(|plugin| (plugin.spec.id.clone(), plugin.spec.group()))
            .collect();
        for (id, group) in up {
            self.refresh_view(&id, group);
        }
    }

    /// Brings what is told of one device up to the present view: the same as
    /// [`Node::refresh_views`] where nothing else changed, at a cost that does not grow with the
    /// group.
    pub(super) fn refresh_peer(&mut self, node: NodeId) {
        let visible = self.roster.get(node).is_some_and(|entry| entry.visible);
        if let Some(system) = self.elections.get_mut(&GroupKey::SYSTEM) {
            system.set_other(self.now, node, visible.then(Candidate::default));
        }
        let up = self
            .plugins
            .values()
            .filter(|plugin| plugin.health != Health::Down);
        let up: Vec<(PluginId, GroupKey)> = up
            .map(|plugin| (plugin.spec.id.clone(), plugin.spec.group()))
            .collect();
        for (id, group) in up {
            self.refresh_peer_of(&id, group, node);
        }
    }

    fn refresh_peer_of(&mut self, id: &PluginId, group: GroupKey, node: NodeId) {
        let entry = self.roster.get(node).filter(|entry| entry.visible);
        let present = entry.and_then(|entry| entry.plugin(group));
        let present = present.map(|(spec, penalised)| candidate(&spec, penalised));
        let Some(plugin) = self.plugins.get(id) else {
            return;
        };
        if present.is_some()
            && !plugin.peers.contains_key(&node)
            && let Some(peer) = self.peer(node)
        {
            if let Some(plugin) = self.plugins.get_mut(id) {
                plugin.peers.insert(node, peer.clone());
            }
            self.tell(id, PluginEvent::PeerAdded(peer));
        }
        if let Some(election) = self.elections.get_mut(&group) {
            election.set_other(self.now, node, present);
        }
        self.settle_elections();
        if present.is_none()
            && let Some(plugin) = self.plugins.get_mut(id)
            && let Some(peer) = plugin.peers.remove(&node)
        {
            self.tell(id, PluginEvent::PeerRemoved(peer));
        }
    }

    fn refresh_view(&mut self, id: &PluginId, group: GroupKey) {
        let mut present = BTreeMap::new();
        for (node, entry) in self.roster.visible() {
            if let Some((spec, penalised)) = entry.plugin(group) {
                present.insert(node, candidate(&spec, penalised));
            }
        }
        let Some(plugin) = self.plugins.get(id) else {
            return;
        };
        let added: Vec<NodeId> = present
            .keys()
            .filter(|node| !plugin.peers.contains_key(node))
            .copied()
            .collect();
        let removed: Vec<NodeId> = plugin
            .peers
            .keys()
            .filter(|node| !present.contains_key(node))
            .copied()
            .collect();
        for node in added {
            let Some(peer) = self.peer(node) else {
                continue;
            };
            if let Some(plugin) = self.plugins.get_mut(id) {
                plugin.peers.insert(node, peer.clone());
            }
            self.tell(id, PluginEvent::PeerAdded(peer));
        }
        if let Some(election) = self.elections.get_mut(&group) {
            election.set_others(self.now, present);
        }
        self.settle_elections();
        for node in removed {
            let peer = self
                .plugins
                .get_mut(id)
                .and_then(|plugin| plugin.peers.remove(&node));
            if let Some(peer) = peer {
                self.tell(id, PluginEvent::PeerRemoved(peer));
            }
        }
    }

    /// Tells plugins what changed noticeably about the peers that were heard since the last time.
    pub(super) fn update_peers(&mut self) {
        for node in self.roster.take_stirred() {
            let Some(peer) = self.peer(node) else {
                continue;
            };
            for (id, plugin) in &mut self.plugins {
                let Some(told) = plugin.peers.get_mut(&node) else {
                    continue;
                };
                if differs(told, &peer) {
                    told.clone_from(&peer);
                    self.events.push_back(Event::Plugin {
                        id: id.clone(),
                        event: PluginEvent::PeerUpdated(peer.clone()),
                    });
                }
            }
        }
    }

    pub(super) fn this_peer(&self) -> Peer {
        Peer {
            device: self.identity.device,
            name: self.identity.name.clone(),
            address: String::from("127.0.0.1"),
            is_self: true,
            clock_delta: 0,
            round_trip: 0,
        }
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<Peer> {
        let entry = self.roster.get(node)?;
        let record = entry.record.as_ref()?;
        let address = self
            .endpoint(node)
            .or_else(|| entry.candidates.first().copied());
        let timing = self.liveness.timing(node);
        Some(Peer {
            device: entry.device,
            name: record.name.clone(),
            address: address.map(|address| address.host()).unwrap_or_default(),
            is_self: false,
            clock_delta: timing.and_then(|timing| timing.clock_delta()).unwrap_or(0),
            round_trip: timing.and_then(|timing| timing.round_trip()).unwrap_or(0),
        })
    }

    /// The members that a heartbeat for these groups goes to.
    pub(super) fn audience(&self, groups: &[GroupKey]) -> Vec<NodeId> {
        let runs_one = |entry: &super::roster::Entry| {
            groups
                .iter()
                .any(|group| *group == GroupKey::SYSTEM || entry.plugin(*group).is_some())
        };
        let connected = self
            .roster
            .iter()
            .filter(|(_, entry)| entry.connected_at.is_some());
        connected
            .filter(|(_, entry)| runs_one(entry))
            .map(|(node, _)| node)
            .collect()
    }
}

/// Whether a plugin should hear of the difference.
fn differs(told: &Peer, now: &Peer) -> bool {
    let round_trip = told.round_trip.abs_diff(now.round_trip);
    told.name != now.name
        || told.address != now.address
        || told.clock_delta.abs_diff(now.clock_delta) > 1000
        || (round_trip > 100 && round_trip > told.round_trip / 4)
}
