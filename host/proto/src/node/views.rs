//! What plugins are told of the members that run them too.
//!
//! A plugin is told of a peer before that peer leads and after it was demoted: additions come
//! first, then the election learns of the change, then removals.

use super::Node;
use super::plugins::Health;
use crate::election::{Candidate, Input};
use crate::event::{Event, Peer, PluginEvent, PluginSpec};
use crate::id::{GroupKey, NodeId, PluginId};

impl Node {
    /// Brings what one plugin and the elections know of everyone up to the present view.
    pub(super) fn refresh_views(&mut self) {
        let everyone: Vec<NodeId> = self.roster.iter().map(|(node, _)| node).collect();
        for node in everyone {
            self.refresh_peer(node);
        }
    }

    /// Brings what every plugin and every election knows of one device up to the present view.
    pub(super) fn refresh_peer(&mut self, node: NodeId) {
        let entry = self.roster.get(node).filter(|entry| entry.visible);
        let candidate = entry.map(|entry| Candidate {
            flapping: entry.record.as_ref().is_some_and(|record| record.flapping),
            ..Candidate::default()
        });
        if let Some(system) = self.elections.get_mut(&GroupKey::SYSTEM) {
            system.handle(self.now, Input::Member { node, candidate });
        }
        let up = self
            .plugins
            .values()
            .filter(|plugin| plugin.health != Health::Down);
        let told = up.map(|plugin| {
            let offer = entry.and_then(|entry| entry.plugin(&plugin.spec));
            let candidate = offer.map(|offer| Candidate {
                priority: offer.priority,
                preempts: offer.preempts,
                flapping: offer.flapping,
                incomplete: offer.incomplete,
            });
            let known = plugin.peers.contains_key(&node);
            (plugin.spec.id.clone(), plugin.group, candidate, known)
        });
        let told = told.filter(|(_, _, candidate, known)| candidate.is_some() || *known);
        for (id, group, candidate, known) in told.collect::<Vec<_>>() {
            if candidate.is_some() && !known {
                self.add_peer(&id, node);
            }
            self.tell_election(group, Input::Member { node, candidate });
            self.settle_elections();
            if candidate.is_none() {
                self.remove_peer(&id, node);
            }
        }
    }

    fn add_peer(&mut self, id: &PluginId, node: NodeId) {
        let Some(peer) = self.peer(node) else { return };
        if let Some(plugin) = self.plugins.get_mut(id) {
            plugin.peers.insert(node, peer.clone());
            let group = plugin.group;
            self.state_present(group, node, true);
        }
        self.tell(id, PluginEvent::PeerAdded(peer));
    }

    fn remove_peer(&mut self, id: &PluginId, node: NodeId) {
        let plugin = self.plugins.get_mut(id);
        let removed = plugin.and_then(|plugin| Some((plugin.group, plugin.peers.remove(&node)?)));
        if let Some((group, peer)) = removed {
            self.state_present(group, node, false);
            self.tell(id, PluginEvent::PeerRemoved(peer));
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
            .or_else(|| entry.told.candidates.first().copied());
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

    /// The devices that a heartbeat for these groups goes to.
    pub(super) fn audience(&self, groups: &[GroupKey]) -> Vec<NodeId> {
        let to_all = groups.contains(&GroupKey::SYSTEM);
        let plugins = groups.iter().filter_map(|group| self.plugin_of(*group));
        let specs: Vec<&PluginSpec> = plugins.map(|plugin| &plugin.spec).collect();
        let runs_one = |entry: &super::roster::Entry| {
            to_all || specs.iter().any(|spec| entry.plugin(spec).is_some())
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
