//! A node's state as plain data, for observers.

use super::Node;
use super::plugins::Health;
use super::roster::{Entry, Standing};
use crate::election;
use crate::event::Address;
use crate::id::{NodeId, PublicKey};
use crate::status::{
    CloneStatus, MessageCounts, NodeStatus, PeerKeyring, PeerState, PeerStatus, PluginStatus, Role,
};
use crate::time::Time;

impl Node {
    /// What the node looks like at `now`.
    #[must_use]
    pub fn status(&self, now: Time) -> NodeStatus {
        let mut peers: Vec<PeerStatus> = self
            .roster
            .iter()
            .map(|(node, entry)| self.peer_status(now, node, entry))
            .collect();
        peers.extend(self.denied_callers(now));
        peers.sort_by_key(|peer| peer.device);
        NodeStatus {
            device: self.identity.device,
            name: self.identity.name.clone(),
            has_group: self.rotation.is_some(),
            keyring: self.keyring_status(),
            peers,
            plugins: self
                .plugins
                .keys()
                .filter_map(|id| self.plugin_status(id))
                .collect(),
            clone: self.clones.own(now).map(|notice| CloneStatus {
                quarantined_here: notice.refused,
                kept_at: notice.kept_at.to_string(),
                quarantined_at: notice.refused_at.to_string(),
            }),
            counters: self.counters,
        }
    }

    fn peer_status(&self, now: Time, node: NodeId, entry: &Entry) -> PeerStatus {
        let heard = self
            .sessions
            .as_ref()
            .and_then(|s| s.last_heard(&entry.key));
        let clone = self
            .sessions
            .as_ref()
            .and_then(|s| s.quarantined(&entry.key, now));
        let timing = self.liveness.timing(node);
        let address = self
            .endpoint(node)
            .or_else(|| entry.told.candidates.first().copied());
        let plugins = entry.record.iter().flat_map(|record| &record.plugins);
        PeerStatus {
            device: entry.device,
            name: entry.record.as_ref().map(|record| record.name.clone()),
            version: entry.record.as_ref().map(|record| record.program),
            address: address.map(|address| address.to_string()),
            state: self.peer_state(node, entry),
            missing_for: match entry.standing() {
                Standing::Missing { since } => Some(now.since(since)),
                Standing::Stranger | Standing::Active | Standing::Doubted | Standing::Left => None,
            },
            quarantined_clone: clone.map(|address| address.to_string()),
            refuses: entry.refuses,
            last_heard: heard.map(|heard| now.since(heard)),
            round_trip_us: timing.and_then(|timing| timing.round_trip()),
            clock_delta_us: timing.and_then(|timing| timing.clock_delta()),
            keyring: self.peer_keyring(node),
            plugins: plugins
                .map(|plugin| crate::event::PluginSpec {
                    id: plugin.id.clone(),
                    version: plugin.version,
                    priority: plugin.priority,
                    preempt: plugin.preempts,
                })
                .collect(),
            messages: self.messaging.counts(node),
        }
    }

    /// The devices that called in vain and are not known otherwise.
    fn denied_callers(&self, now: Time) -> Vec<PeerStatus> {
        let callers = self.sessions.iter().flat_map(|s| s.denied_callers());
        let unknown = callers.filter(|(key, _)| self.roster.get(key.device_id().node()).is_none());
        let status = |(key, (address, called)): (&PublicKey, &(Address, Time))| PeerStatus {
            device: key.device_id(),
            name: None,
            version: None,
            address: Some(address.to_string()),
            state: PeerState::Denied,
            missing_for: None,
            quarantined_clone: None,
            refuses: false,
            last_heard: Some(now.since(*called)),
            round_trip_us: None,
            clock_delta_us: None,
            keyring: PeerKeyring::Unknown,
            plugins: Vec::new(),
            messages: MessageCounts::default(),
        };
        unknown.map(status).collect()
    }

    fn peer_state(&self, node: NodeId, entry: &Entry) -> PeerState {
        let connecting = self
            .sessions
            .as_ref()
            .is_some_and(|s| s.is_connecting(&entry.key));
        match entry.standing() {
            _ if !self.admits(node) => PeerState::Denied,
            _ if !entry.flags.speaks_our_version() => {
                let (lowest, highest) = entry.flags.versions();
                PeerState::Incompatible { lowest, highest }
            }
            Standing::Missing { .. } => PeerState::Missing,
            Standing::Left => PeerState::Left,
            Standing::Doubted => PeerState::Suspect,
            Standing::Active if self.liveness.is_suspect(node) => PeerState::Suspect,
            Standing::Active if entry.visible => PeerState::Member,
            Standing::Active | Standing::Stranger if entry.connected_at.is_some() => {
                PeerState::Connected
            }
            Standing::Active | Standing::Stranger if connecting => PeerState::Connecting,
            Standing::Active | Standing::Stranger => PeerState::Known,
        }
    }

    fn plugin_status(&self, id: &crate::id::PluginId) -> Option<PluginStatus> {
        let plugin = self.plugins.get(id)?;
        let election = self.elections.get(&plugin.group);
        let members = |plugin: &super::plugins::Plugin| match plugin.health {
            Health::Down => 0,
            Health::Up | Health::Faulted { .. } => plugin.peer_count() + 1,
        };
        let role = election.map_or(election::Role::Idle, |election| election.role());
        let (role, leader, term) = match role {
            election::Role::Idle => (Role::None, None, 0),
            election::Role::Waiting { epoch } => (Role::Electing, None, epoch),
            election::Role::Following { leader, epoch } => {
                let device = self.roster.get(leader).map(|entry| entry.device);
                (Role::Follower, device, epoch)
            }
            election::Role::Leading { epoch, .. } => {
                (Role::Leader, Some(self.identity.device), epoch)
            }
        };
        Some(PluginStatus {
            spec: plugin.spec.clone(),
            role,
            leader,
            term,
            members: members(plugin),
            state: self.state_status(plugin.group),
        })
    }
}
