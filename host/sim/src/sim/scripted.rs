//! What a plan asks of the simulator besides faults.

use core::time::Duration;
use std::collections::BTreeMap;

use consort_proto::{PluginId, PluginSpec};

use super::Sim;
use crate::app::{App, AppState};
use crate::summary::Deliveries;
use crate::timeline::FaultKind;

impl Sim {
    /// Replaces the plugins that come up with a device that was never started.
    pub(crate) fn install(&mut self, node: usize, plugins: Vec<PluginSpec>) {
        let device = &mut self.devices[node];
        device.installed.clear();
        device.apps.clear();
        for spec in plugins {
            let app = App::new(spec.clone(), device.id);
            device.apps.insert(spec.id.clone(), app);
            device.installed.insert(spec.id.clone(), spec);
        }
    }

    /// The devices whose plugin of that id was told that it leads.
    pub(crate) fn leaders_of(&self, plugin: &PluginId) -> Vec<usize> {
        (0..self.devices.len())
            .filter(|node| {
                let app = self.devices[*node].apps.get(plugin);
                app.is_some_and(|app| matches!(app.view.role, crate::app::AppRole::Leader(_)))
            })
            .collect()
    }

    /// Whether a plugin runs on a device; it does not where it never did.
    pub(crate) fn app_state(&self, node: usize, plugin: &PluginId) -> AppState {
        let app = self.devices[node].apps.get(plugin);
        app.map_or(AppState::Down, |app| app.state)
    }

    /// The version and priority of a plugin on a device.
    pub(crate) fn spec_of(&self, node: usize, plugin: &PluginId) -> Option<PluginSpec> {
        let app = self.devices[node].apps.get(plugin);
        app.map(|app| app.spec.clone())
    }

    /// The plugins of a device whose instance faulted.
    pub(crate) fn faulted(&self, node: usize) -> Vec<PluginSpec> {
        let apps = self.devices[node].apps.values();
        apps.filter(|app| app.state == AppState::Faulted)
            .map(|app| app.spec.clone())
            .collect()
    }

    /// The groups that have promises to keep: one plugin each, and the devices that run it.
    pub(crate) fn clean_groups(&self) -> Vec<(PluginSpec, Vec<usize>)> {
        let mut groups = Vec::new();
        for part in self.oracle.parts.iter().filter(|part| part.clean) {
            let mut specs = BTreeMap::new();
            for node in &part.nodes {
                for app in self.devices[*node].apps.values() {
                    specs
                        .entry(app.spec.group())
                        .or_insert_with(|| app.spec.clone());
                }
            }
            for (key, group) in &part.groups {
                if let Some(spec) = specs.remove(key) {
                    groups.push((spec, group.members.clone()));
                }
            }
        }
        groups
    }

    /// Disks have room, and no crash is planned.
    pub(crate) fn calm_disks(&mut self) {
        for node in 0..self.devices.len() {
            self.devices[node].disk.fuse = None;
            if self.devices[node].disk.full {
                self.set_disk_full(node, false);
            }
        }
    }

    /// Something in the timeline that lasts for a time known beforehand.
    pub(crate) fn mark_until(&mut self, kind: FaultKind, label: &str, lasting: Duration) {
        self.note(label);
        self.recorder
            .lasts(self.now, self.now + lasting, kind, label);
    }

    /// What became of all messages.
    pub(crate) fn deliveries(&self) -> Deliveries {
        self.delivery.totals()
    }
}
