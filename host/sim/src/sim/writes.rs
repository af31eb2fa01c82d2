//! Steady writes to replicated state, drawn from the seed: all kinds, deletions, values that expire,
//! and now and then a large one.

use core::time::Duration;
use std::sync::Arc;

use consort_proto::{PluginId, PluginSpec, STATE_VALUE_MAX, Scope};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::state::Edit;
use super::{Happening, Sim};
use crate::app::{AppRole, AppState};
use crate::message::PAYLOAD_MIN;

/// A kind of replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Whoever leads writes.
    Leader,
    /// Each device writes its own.
    Device,
    /// Anyone writes.
    Shared,
    /// Anyone adds.
    Counter,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Leader, Self::Device, Self::Shared, Self::Counter];
}

/// Steady writes: in each callback mostly one, at a device drawn anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The time from one callback to the next, over all devices.
    pub every: Duration,
    /// What is written.
    pub kinds: Vec<Kind>,
    /// How many keys of each kind there are.
    pub keys: u32,
    /// Bytes of a value, at most.
    pub len: usize,
    /// In how many of a thousand puts the first key gets up to 64 KiB.
    pub large: u32,
    /// How many of a hundred puts expire, after 1 to 30 s.
    pub expiring: u32,
    /// How many of a hundred writes delete.
    pub deleting: u32,
    /// How many of a hundred callbacks take 1 to 3 s.
    pub slow: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(100),
            kinds: Kind::ALL.to_vec(),
            keys: 8,
            len: 200,
            large: 5,
            expiring: 10,
            deleting: 15,
            slow: 0,
        }
    }
}

/// A workload that goes on.
#[derive(Debug)]
pub(super) struct Running {
    plugin: PluginId,
    workload: Workload,
    rng: ChaCha12Rng,
    stopped: bool,
}

impl Sim {
    /// From here on, devices that run `plugin` write to its state.
    pub fn start_writes(&mut self, plugin: &PluginSpec, workload: Workload) {
        let index = self.workloads.len();
        let every = workload.every;
        self.workloads.push(Running {
            plugin: plugin.id.clone(),
            workload,
            rng: self.seed.stream("writes", index as u64),
            stopped: false,
        });
        self.queue
            .push(self.now + every, Happening::Write { index });
    }

    /// Ends all steady writes.
    pub fn stop_writes(&mut self) {
        for running in &mut self.workloads {
            running.stopped = true;
        }
    }

    pub(super) fn workload(&mut self, index: usize) {
        if self.workloads[index].stopped {
            return;
        }
        let every = self.workloads[index].workload.every;
        self.queue
            .push(self.now + every, Happening::Write { index });
        let mut rng = self.workloads[index].rng.clone();
        let plugin = self.workloads[index].plugin.clone();
        let workload = self.workloads[index].workload.clone();
        let count = if rng.random_range(0..5) == 0 {
            rng.random_range(2..=5)
        } else {
            1
        };
        let node = rng.random_range(0..self.devices.len());
        let mut writers = Vec::new();
        for _ in 0..count {
            let kind = workload.kinds[rng.random_range(0..workload.kinds.len())];
            let node = match kind {
                Kind::Leader => self.some_leader(&plugin, &mut rng),
                Kind::Device | Kind::Shared | Kind::Counter => Some(node),
            };
            let runs = |node: &usize| self.writes_now(*node, &plugin);
            if let Some(node) = node.filter(runs) {
                let edit = self.draw(node, &plugin, &workload, kind, &mut rng);
                writers.push((node, edit));
            }
        }
        let slow = workload.slow > 0 && rng.random_range(0..100) < workload.slow;
        let takes = slow.then(|| Duration::from_millis(rng.random_range(1_000..3_000)));
        self.workloads[index].rng = rng;
        let mut by_node: Vec<(usize, Vec<Edit>)> = Vec::new();
        for (node, edit) in writers {
            match by_node.iter_mut().find(|(other, _)| *other == node) {
                Some((_, edits)) => edits.push(edit),
                None => by_node.push((node, vec![edit])),
            }
        }
        for (node, edits) in by_node {
            if let Some(spec) = self.spec_of(node, &plugin) {
                // What the plugin's host refuses was not written.
                let _refused = match takes {
                    Some(takes) => self.edit_all_taking(node, &spec, edits, takes),
                    None => self.edit_all(node, &spec, edits),
                };
            }
        }
    }

    fn some_leader(&self, plugin: &PluginId, rng: &mut ChaCha12Rng) -> Option<usize> {
        let leaders = self.leaders_of(plugin);
        let place = rng.random_range(0..leaders.len().max(1));
        leaders.get(place).copied()
    }

    fn writes_now(&self, node: usize, plugin: &PluginId) -> bool {
        let device = &self.devices[node];
        let app = device.apps.get(plugin);
        device.is_up() && !device.is_paused() && app.is_some_and(|app| app.state == AppState::Up)
    }

    fn draw(
        &self,
        node: usize,
        plugin: &PluginId,
        workload: &Workload,
        kind: Kind,
        rng: &mut ChaCha12Rng,
    ) -> Edit {
        let mut number = rng.random_range(0..workload.keys.max(1));
        let scope = match kind {
            Kind::Leader => Scope::Leader,
            Kind::Device => Scope::Device,
            Kind::Shared => Scope::Shared,
            Kind::Counter => {
                let delta = rng.random_range(-20..=100);
                let name = format!("c{number}").into();
                return Edit::Add { name, delta };
            }
        };
        let mut len = rng.random_range(PAYLOAD_MIN..=workload.len.max(PAYLOAD_MIN));
        if rng.random_range(0..1000) < workload.large {
            number = 0;
            len = rng.random_range(PAYLOAD_MIN..=STATE_VALUE_MAX);
        }
        let key: Arc<str> = format!("k{number}").into();
        let expires = rng.random_range(0..100) < workload.expiring;
        let ttl = expires.then(|| Duration::from_millis(rng.random_range(1_000..30_000)));
        let deletes = rng.random_range(0..100) < workload.deleting;
        if deletes && self.has(node, plugin, scope, &key) {
            return Edit::Delete { scope, key };
        }
        Edit::Put {
            scope,
            key,
            len,
            ttl,
        }
    }

    fn has(&self, node: usize, plugin: &PluginId, scope: Scope, key: &str) -> bool {
        let origin = scope.origin(self.devices[node].id);
        let app = self.devices[node].apps.get(plugin);
        app.is_some_and(|app| {
            let leads = matches!(app.view.role, AppRole::Leader(_)) || scope != Scope::Leader;
            leads && app.data.get(origin, key, self.state_now(node)).is_some()
        })
    }
}
