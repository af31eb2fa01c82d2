//! What the devices know, asked from outside.

use core::fmt::Write;
use std::collections::BTreeSet;

use consort_proto::{Address, DeviceId, NodeStatus, PeerState, PluginSpec};

use super::Sim;
use crate::app::{App, AppRole, AppState};
use crate::checker::MessageReport;

impl Sim {
    /// How many devices there are, up or not.
    #[must_use]
    pub const fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The device's identity.
    #[must_use]
    pub fn id(&self, node: usize) -> DeviceId {
        self.devices[node].id
    }

    /// The device's address.
    #[must_use]
    pub fn address(&self, node: usize) -> Address {
        self.devices[node].address
    }

    /// The device with this identity.
    #[must_use]
    pub fn node_of(&self, device: DeviceId) -> Option<usize> {
        self.by_id.get(&device).copied()
    }

    /// A plugin on a device.
    ///
    /// # Panics
    /// The device never ran that plugin.
    #[must_use]
    pub fn app(&self, node: usize, plugin: &PluginSpec) -> &App {
        match self.devices[node].apps.get(&plugin.id) {
            Some(app) => app,
            None => self.fail(&format!("n{node} never ran {}", plugin.id)),
        }
    }

    /// Whom a plugin was told as leader, and the term.
    #[must_use]
    pub fn leader_seen(&self, node: usize, plugin: &PluginSpec) -> Option<(usize, u64)> {
        let (leader, term) = self.app(node, plugin).view.leader()?;
        Some((self.node_of(leader)?, term))
    }

    /// Whether a plugin was told that it leads.
    #[must_use]
    pub fn leads(&self, node: usize, plugin: &PluginSpec) -> bool {
        matches!(self.app(node, plugin).view.role, AppRole::Leader(_))
    }

    /// The devices whose plugin was told that it leads.
    #[must_use]
    pub fn leaders(&self, plugin: &PluginSpec) -> Vec<usize> {
        (0..self.devices.len())
            .filter(|node| self.leads(*node, plugin))
            .collect()
    }

    /// The peers that a plugin was told of, itself included.
    #[must_use]
    pub fn peers_seen(&self, node: usize, plugin: &PluginSpec) -> BTreeSet<usize> {
        let peers = self.app(node, plugin).view.peers.keys();
        peers.filter_map(|device| self.node_of(*device)).collect()
    }

    /// The members that a device was told of, itself not included.
    #[must_use]
    pub fn members_seen(&self, node: usize) -> BTreeSet<usize> {
        self.devices[node]
            .members
            .iter()
            .filter_map(|device| self.node_of(*device))
            .collect()
    }

    /// The one live leader among `nodes` on whom all of them agree, and the term.
    #[must_use]
    pub fn agree(&self, plugin: &PluginSpec, nodes: &[usize]) -> Option<(usize, u64)> {
        let seen = self.leader_seen(*nodes.first()?, plugin)?;
        let sound = nodes.contains(&seen.0)
            && self.leads(seen.0, plugin)
            && self.is_up(seen.0)
            && self.app(seen.0, plugin).state == AppState::Up;
        let same = nodes
            .iter()
            .all(|node| self.leader_seen(*node, plugin) == Some(seen));
        (sound && same).then_some(seen)
    }

    /// Whether each of `nodes` sees exactly these devices as peers of the plugin.
    #[must_use]
    pub fn all_see_all(&self, plugin: &PluginSpec, nodes: &[usize]) -> bool {
        let all: BTreeSet<usize> = nodes.iter().copied().collect();
        nodes
            .iter()
            .all(|node| self.peers_seen(*node, plugin) == all)
    }

    /// How often any plugin was told to lead.
    #[must_use]
    pub fn promotions(&self, plugin: &PluginSpec) -> u64 {
        self.sum(plugin, |app| app.promotions)
    }

    /// How often any plugin was told to lead no longer.
    #[must_use]
    pub fn demotions(&self, plugin: &PluginSpec) -> u64 {
        self.sum(plugin, |app| app.demotions)
    }

    /// Counts promotions, demotions and followings anew from here on.
    pub fn reset_counts(&mut self) {
        for app in self
            .devices
            .iter_mut()
            .flat_map(|device| device.apps.values_mut())
        {
            (app.promotions, app.demotions, app.followings) = (0, 0, 0);
        }
    }

    /// How many messages the plugin got, summed over all devices.
    #[must_use]
    pub fn messages(&self, plugin: &PluginSpec) -> u64 {
        self.sum(plugin, |app| app.messages)
    }

    fn sum(&self, plugin: &PluginSpec, count: impl Fn(&App) -> u64) -> u64 {
        self.devices
            .iter()
            .filter_map(|device| device.apps.get(&plugin.id))
            .map(count)
            .sum()
    }

    /// What became of a message.
    ///
    /// # Panics
    /// No message of that number was sent.
    #[must_use]
    pub fn message(&self, number: u64) -> &MessageReport {
        match self.delivery.report(number) {
            Some(report) => report,
            None => self.fail(&format!("message {number} was never sent")),
        }
    }

    /// Who got a message.
    #[must_use]
    pub fn receivers(&self, number: u64) -> Vec<usize> {
        self.message(number).delivered.keys().copied().collect()
    }

    /// Datagrams and bytes that a device sent, a datagram to everyone counted once.
    #[must_use]
    pub fn sent(&self, node: usize) -> (u64, u64) {
        (
            self.devices[node].datagrams_sent,
            self.devices[node].bytes_sent,
        )
    }

    /// How many members a device removed, over all its lives.
    #[must_use]
    pub fn members_lost(&self, node: usize) -> u64 {
        self.devices[node].members_lost
    }

    /// How often a device reported, over all its lives, that two run with one key.
    #[must_use]
    pub fn clones_detected(&self, node: usize) -> u64 {
        self.devices[node].clones_detected
    }

    /// The node's own account of itself; none if it is down.
    #[must_use]
    pub fn status(&self, node: usize) -> Option<NodeStatus> {
        let running = self.devices[node].running.as_ref()?;
        Some(running.node.status(running.local(self.now)))
    }

    /// Group time at a device, in microseconds since the Unix epoch, and whether it follows the
    /// group's reference.
    #[must_use]
    pub fn group_time(&self, node: usize) -> Option<(u64, bool)> {
        let device = &self.devices[node];
        let (clock, running) = (device.clock?, device.running.as_ref()?);
        Some((
            clock.group_time(running.local(self.now)),
            clock.synchronised,
        ))
    }

    /// How far the group times of `nodes` lie apart, in microseconds; none while one of them does
    /// not follow the reference.
    #[must_use]
    pub fn clock_spread(&self, nodes: &[usize]) -> Option<u64> {
        let times: Option<Vec<u64>> = nodes
            .iter()
            .map(|node| {
                self.group_time(*node)
                    .and_then(|(time, synced)| synced.then_some(time))
            })
            .collect();
        let times = times?;
        Some(times.iter().max()? - times.iter().min()?)
    }

    /// What every plugin of every device knows, one line each.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (node, device) in self.devices.iter().enumerate() {
            let state = match (device.is_up(), device.is_paused()) {
                (false, _) => "down",
                (true, true) => "paused",
                (true, false) => "up",
            };
            let members = self.members_seen(node);
            writeln!(text, "  n{node} {state}, members {members:?}").expect("text fits a string");
            let strangers = self
                .status(node)
                .into_iter()
                .flat_map(|status| status.peers);
            for peer in strangers.filter(|peer| peer.state != PeerState::Member) {
                let (name, heard) = (self.named(peer.device), peer.last_heard);
                let (record, trip) = (peer.name.is_some(), peer.round_trip_us);
                let known = format!("record {record}, round trip {trip:?}");
                writeln!(
                    text,
                    "     {name} is {:?}, heard {heard:?} ago, {known}",
                    peer.state
                )
                .expect("text fits a string");
            }
            for (id, app) in &device.apps {
                let role = match &app.view.role {
                    AppRole::None => "no tenure".to_owned(),
                    AppRole::Leader(tenure) => format!("leads in term {}", tenure.term),
                    AppRole::Follower(tenure) => {
                        format!(
                            "follows {} in term {}",
                            self.named(tenure.leader.device),
                            tenure.term
                        )
                    }
                };
                let peers: BTreeSet<String> = app
                    .view
                    .peers
                    .keys()
                    .map(|device| self.named(*device))
                    .collect();
                writeln!(text, "     {id} {:?}: {role}, peers {peers:?}", app.state)
                    .expect("text fits a string");
            }
        }
        text
    }

    /// A device's name in traces.
    pub(super) fn named(&self, device: DeviceId) -> String {
        self.node_of(device)
            .map_or_else(|| format!("{device:?}"), |node| format!("n{node}"))
    }
}
