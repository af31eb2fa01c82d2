//! Plugins: coming up, faulting, going, being told things, and acting.

use core::time::Duration;

use bytes::Bytes;
use consort_proto::{Command, PluginCommand, PluginEvent, PluginId, PluginSpec, SendQuota};

use super::{Beat, Happening, Sim};
use crate::app::{App, AppRole, AppState, Refused};
use crate::checker::Observation;
use crate::device::Input;
use crate::message;
use crate::timeline::{FaultKind, LaneRole};

impl Sim {
    /// Gives a device a plugin that comes up with it from its next start on.
    pub fn add_plugin(&mut self, node: usize, spec: PluginSpec) {
        let device = &mut self.devices[node];
        let app = App::new(spec.clone(), device.id);
        device.apps.entry(spec.id.clone()).or_insert(app);
        device.installed.insert(spec.id.clone(), spec);
    }

    /// A plugin's instance is ready on a device: the first time, after a fault, or after a reload
    /// with another version.
    pub fn plugin_up(&mut self, node: usize, spec: PluginSpec) {
        self.note(&format!("n{node} {} {} is up", spec.id, spec.version));
        let session = self.next_session();
        let device = &mut self.devices[node];
        device.installed.insert(spec.id.clone(), spec.clone());
        let app = device
            .apps
            .entry(spec.id.clone())
            .or_insert_with(|| App::new(spec.clone(), device.id));
        // One that faulted for so long that it was taken out of its group is a new one.
        let other = app.spec.group() != spec.group();
        let fresh = app.state == AppState::Down || app.view.peers.is_empty();
        if fresh {
            app.forget(session);
        } else if other {
            app.forget_state(session);
        }
        app.state = AppState::Up;
        app.spec = spec.clone();
        self.oracle.touch(self.now, node);
        let (quota, config) = (app.quota(), app.state_config());
        app.set_quota(quota);
        if fresh {
            self.observe(node, &Observation::PluginStarted { plugin: &spec.id });
        }
        let id = spec.id.clone();
        self.input(node, Input::Command(Command::PluginQuota { id, quota }));
        let id = spec.id.clone();
        self.input(node, Input::Command(Command::PluginState { id, config }));
        self.input(node, Input::Command(Command::PluginUp(spec)));
    }

    /// Changes what a plugin may send, on every device and for the rest of the run.
    pub fn set_quota(&mut self, plugin: &PluginSpec, quota: SendQuota) {
        for node in 0..self.devices.len() {
            if let Some(app) = self.devices[node].apps.get_mut(&plugin.id) {
                app.set_quota(quota);
            }
            let id = plugin.id.clone();
            self.input(node, Input::Command(Command::PluginQuota { id, quota }));
        }
    }

    /// A plugin's instance faulted; [`Sim::plugin_up`] brings it back.
    pub fn plugin_fault(&mut self, node: usize, plugin: &PluginSpec) {
        self.note(&format!("n{node} {} faults", plugin.id));
        self.secure_writes();
        self.recorder
            .mark(self.now, FaultKind::Plugin, "plugin faults", &[node]);
        self.set_state(node, &plugin.id, AppState::Faulted);
        self.input(
            node,
            Input::Command(Command::PluginFaulted(plugin.id.clone())),
        );
    }

    /// A plugin is gone for now: unloaded or quarantined.
    pub fn plugin_down(&mut self, node: usize, plugin: &PluginSpec) {
        self.note(&format!("n{node} {} goes down", plugin.id));
        self.secure_writes();
        self.devices[node].installed.remove(&plugin.id);
        self.recorder
            .mark(self.now, FaultKind::Plugin, "plugin goes down", &[node]);
        self.set_state(node, &plugin.id, AppState::Down);
        self.input(node, Input::Command(Command::PluginDown(plugin.id.clone())));
    }

    pub(super) fn set_state(&mut self, node: usize, plugin: &PluginId, state: AppState) {
        if let Some(app) = self.devices[node].apps.get_mut(plugin) {
            app.state = state;
            self.changes += 1;
            self.oracle.touch(self.now, node);
        }
    }

    /// A payload for one message, of `len` bytes or as long as its number needs.
    pub fn payload(&mut self, len: usize) -> Bytes {
        self.next_message += 1;
        message::payload(self.next_message, len)
    }

    /// A plugin acts. Its payload must come from [`Sim::payload`].
    ///
    /// # Errors
    /// The plugin's host refuses the command.
    pub fn command(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        command: PluginCommand,
    ) -> Result<(), Refused> {
        let command = self.checked(node, plugin, command)?;
        self.input(node, Input::Command(command));
        Ok(())
    }

    /// What a plugin's host does with a command: checks it, and shows it to the checkers.
    pub(super) fn checked(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        command: PluginCommand,
    ) -> Result<Command, Refused> {
        if self.devices[node].is_paused() || !self.devices[node].is_up() {
            return Err(Refused::NotRunning);
        }
        let mut app = self.devices[node]
            .apps
            .remove(&plugin.id)
            .ok_or(Refused::NotRunning)?;
        let group_now = self.group_time(node);
        let group_now = group_now.map_or_else(|| self.wall(node), |(time, _)| time);
        let checked = app.check(self.now, group_now, &command);
        if checked.is_ok() {
            self.observe(
                node,
                &Observation::Sent {
                    app: &app,
                    command: &command,
                },
            );
        }
        self.devices[node].apps.insert(plugin.id.clone(), app);
        checked?;
        Ok(Command::Plugin {
            id: plugin.id.clone(),
            command,
        })
    }

    /// A plugin acts several times in one callback: `send_to_all`, `count` times `len` bytes. The
    /// messages' numbers.
    ///
    /// # Errors
    /// The plugin's host refuses one of them; then none is sent.
    pub fn burst(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        len: usize,
        count: usize,
    ) -> Result<Vec<u64>, Refused> {
        let (mut numbers, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let payload = self.payload(len);
            numbers.push(self.next_message);
            commands.push(self.checked(node, plugin, PluginCommand::SendToAll(payload))?);
        }
        self.input(node, Input::Commands(commands));
        Ok(numbers)
    }

    /// Broadcasts `len` bytes as leader; the message's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn broadcast(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        len: usize,
    ) -> Result<u64, Refused> {
        self.act(node, plugin, len, PluginCommand::Broadcast)
    }

    /// Sends `len` bytes to the leader; the message's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn send_to_leader(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        len: usize,
    ) -> Result<u64, Refused> {
        self.act(node, plugin, len, PluginCommand::SendToLeader)
    }

    /// Sends `len` bytes to one member; the message's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn send(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        to: usize,
        len: usize,
    ) -> Result<u64, Refused> {
        let to = self.devices[to].id;
        let command = |payload| PluginCommand::Send { to, payload };
        self.act(node, plugin, len, command)
    }

    /// Sends `len` bytes to all members; the message's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn send_to_all(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        len: usize,
    ) -> Result<u64, Refused> {
        self.act(node, plugin, len, PluginCommand::SendToAll)
    }

    /// Sends a new payload of `len` bytes; the message's number.
    fn act(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        len: usize,
        command: impl FnOnce(Bytes) -> PluginCommand,
    ) -> Result<u64, Refused> {
        let payload = self.payload(len);
        self.command(node, plugin, command(payload))?;
        Ok(self.next_message)
    }

    /// From here on, whoever leads `plugin` broadcasts `len` bytes at every interval.
    pub fn start_beat(&mut self, plugin: &PluginSpec, every: Duration, len: usize) {
        let index = self.beats.len();
        self.beats.push(Beat {
            plugin: plugin.id.clone(),
            every,
            len,
            stopped: false,
        });
        self.queue.push(self.now + every, Happening::Beat { index });
    }

    /// Ends all steady traffic.
    pub fn stop_beats(&mut self) {
        for beat in &mut self.beats {
            beat.stopped = true;
        }
    }

    pub(super) fn beat(&mut self, index: usize) {
        let beat = &self.beats[index];
        if beat.stopped {
            return;
        }
        let (plugin, every, len) = (beat.plugin.clone(), beat.every, beat.len);
        self.queue.push(self.now + every, Happening::Beat { index });
        for node in 0..self.devices.len() {
            let Some(app) = self.devices[node].apps.get(&plugin) else {
                continue;
            };
            if !matches!(app.view.role, AppRole::Leader(_)) {
                continue;
            }
            let expected = app.view.peers.len() as u64;
            let spec = app.spec.clone();
            match self.broadcast(node, &spec, len) {
                Ok(_) => {
                    self.stats.beats += 1;
                    self.stats.deliveries_expected += expected;
                }
                Err(Refused::Busy) => self.stats.beats_busy += 1,
                Err(
                    Refused::NotRunning
                    | Refused::NotLeader
                    | Refused::NoLeader
                    | Refused::UnknownPeer
                    | Refused::TooLarge
                    | Refused::Write(_),
                ) => {}
            }
        }
    }

    /// A node tells a plugin something: the checkers look first, then the plugin takes it in.
    pub(super) fn told(&mut self, node: usize, plugin: &PluginId, event: PluginEvent) {
        let group = self.devices[node]
            .apps
            .get(plugin)
            .map(|app| app.spec.group());
        if let Some(group) = group
            && let Err(problem) = self.check_wards(node, group, &event)
        {
            self.fail(&problem);
        }
        let Some(mut app) = self.devices[node].apps.remove(plugin) else {
            self.fail(&format!(
                "n{node} is told of {plugin}, which it never ran: {event:?}"
            ));
        };
        self.trace_told(node, plugin, &event);
        self.observe(
            node,
            &Observation::Told {
                app: &app,
                event: &event,
            },
        );
        if let PluginEvent::WritesSuperseded(keys) = &event {
            self.mind_report(node, &app, keys);
        }
        if app.hosted {
            self.deliver_to_actor(node, &event);
        }
        app.record(self.now, event);
        self.record_role(node, plugin, &app);
        self.devices[node].apps.insert(plugin.clone(), app);
        self.changes += 1;
    }

    fn record_role(&mut self, node: usize, plugin: &PluginId, app: &App) {
        let role = match &app.view.role {
            AppRole::None => None,
            AppRole::Leader(tenure) => Some(LaneRole::Leader { term: tenure.term }),
            AppRole::Follower(tenure) => Some(LaneRole::Follower {
                leader: self.node_of(tenure.leader.device).unwrap_or(usize::MAX),
                term: tenure.term,
            }),
        };
        self.recorder.role(self.now, node, plugin, role);
    }

    fn trace_told(&mut self, node: usize, plugin: &PluginId, event: &PluginEvent) {
        let line = match event {
            PluginEvent::PeerAdded(peer) => format!("peer {} added", self.named(peer.device)),
            PluginEvent::PeerRemoved(peer) => format!("peer {} removed", self.named(peer.device)),
            PluginEvent::PromoteLeader(tenure) => format!("LEADS in term {}", tenure.term),
            PluginEvent::PromoteFollower(tenure) => {
                format!(
                    "follows {} in term {}",
                    self.named(tenure.leader.device),
                    tenure.term
                )
            }
            PluginEvent::DemoteLeader
            | PluginEvent::DemoteFollower
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::WritesSuperseded(_) => format!("{event:?}"),
            PluginEvent::State(update) => {
                let line = format!("{plugin}: {}", super::state::describe(update));
                return self.trace.detail(self.now, node, &line);
            }
            PluginEvent::Joined(group) => {
                let line = format!("{plugin}: joins group {group:?}");
                return self.trace.detail(self.now, node, &line);
            }
            PluginEvent::PeerUpdated(peer) => {
                let name = self.named(peer.device);
                let line = format!("{plugin}: {name} {} {}", peer.clock_delta, peer.round_trip);
                return self.trace.detail(self.now, node, &line);
            }
            PluginEvent::LeaderMessage { payload, .. }
            | PluginEvent::PeerMessage { payload, .. } => {
                let number = message::number(payload);
                let line = format!("{plugin}: message {number:?} of {} B", payload.len());
                return self.trace.detail(self.now, node, &line);
            }
        };
        self.note(&format!("n{node} {plugin}: {line}"));
    }
}
