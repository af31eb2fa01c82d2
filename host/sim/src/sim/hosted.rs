//! The plugin whose own code runs: its host on each device gets turns, and what comes of them
//! reaches the node when the turn is over.
//!
//! A turn takes as long as the plugin's instructions do. Meanwhile its mailbox fills, as that of a
//! plugin on a thread does; a paused device gives no turns.

use core::fmt;
use std::collections::BTreeSet;

use consort_proto::{Command, Peer, PluginCommand, PluginEvent, PluginId, PluginSpec, Time};

use super::faults::EPOCH;
use super::{Happening, Sim};
use crate::actor::{Entrance, Heard, LogLevel, Moment, PluginFigures, Said, Stage};
use crate::app::{App, AppState};
use crate::checker::Observation;
use crate::device::{Hosted, Input};
use crate::timeline::FaultKind;

/// The plugin whose own code runs, and who listens to it.
pub(crate) struct Hosting {
    pub(crate) plugin: PluginId,
    pub(crate) stage: Box<dyn Stage>,
    pub(crate) audience: Box<dyn FnMut(&Heard)>,
    pub(crate) figures: PluginFigures,
    /// What must not be heard.
    pub(crate) bans: Vec<Ban>,
    /// Texts that are waited for.
    pub(crate) wanted: Vec<Wanted>,
}

impl fmt::Debug for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

/// Something that must not happen between two times.
#[derive(Clone, Debug)]
pub(crate) struct Ban {
    /// What is said when it does.
    pub(crate) what: String,
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) banned: Banned,
}

/// See [`Ban`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Banned {
    /// A line of the plugin's log at this level or a graver one.
    Lines(LogLevel),
    /// A fault.
    Faults,
}

/// A text that is waited for in the plugin's log.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Which of the plan's expectations it is.
    pub(crate) expectation: usize,
    pub(crate) from: Time,
    pub(crate) contains: String,
    /// The devices that wrote it.
    pub(crate) nodes: BTreeSet<usize>,
}

impl Sim {
    /// The plugin of `hosting` runs its own code from here on. No device may have started.
    pub(crate) fn host(&mut self, hosting: Hosting) {
        for device in &mut self.devices {
            if let Some(app) = device.apps.get_mut(&hosting.plugin) {
                app.hosted = true;
            }
        }
        self.hosting = Some(Box::new(hosting));
    }

    pub(crate) fn hosting(&self) -> Option<&Hosting> {
        self.hosting.as_deref()
    }

    pub(super) fn is_hosted(&self, plugin: &PluginId) -> bool {
        self.hosting()
            .is_some_and(|hosting| hosting.plugin == *plugin)
    }

    /// What the plugin did so far, if its own code runs.
    pub(crate) fn plugin_figures(&self) -> Option<PluginFigures> {
        let hosting = self.hosting()?;
        let mut figures = hosting.figures.clone();
        for device in &self.devices {
            let app = device.apps.get(&hosting.plugin);
            figures.messages_received += app.map_or(0, |app| app.messages);
            if let Some(hosted) = &device.actor {
                figures.messages_dropped += hosted.actor.dropped();
                figures.quarantined += usize::from(hosted.actor.state() == "quarantined");
                figures.running += usize::from(hosted.actor.state() == "running");
            }
        }
        Some(figures)
    }

    /// Says what the scenario does, where the plugin's log is heard: at the group time of the first
    /// device that has it, so that it stands in order with the devices' lines.
    pub(crate) fn announce(&mut self, text: &str) {
        let moments = (0..self.devices.len()).filter_map(|node| self.moment(node));
        let known = moments
            .filter(|moment| moment.synchronised)
            .map(|m| m.group_time);
        let truth = EPOCH.saturating_add(self.now.as_micros());
        let heard = Heard {
            at: self.now,
            group_time: known.min().unwrap_or(truth),
            node: None,
            name: "-".to_owned(),
            level: LogLevel::Info,
            by_host: true,
            text: text.to_owned(),
        };
        if let Some(hosting) = &mut self.hosting {
            (hosting.audience)(&heard);
        }
    }

    /// The plugin comes to a device that has just started, or gets it back.
    pub(super) fn enter(&mut self, node: usize, spec: PluginSpec) {
        let (index, device) = (self.life_index(node), &mut self.devices[node]);
        let app = device
            .apps
            .entry(spec.id.clone())
            .or_insert_with(|| App::new(spec.clone(), device.id));
        app.hosted = true;
        let peer = Peer {
            device: device.id,
            name: device.config.name.clone(),
            address: String::from("127.0.0.1"),
            is_self: true,
            clock_delta: 0,
            round_trip: 0,
        };
        let entrance = Entrance {
            node,
            device: peer,
            spec,
            seed: self.seed.bytes("plugin", index),
        };
        let Some(hosting) = &self.hosting else {
            return;
        };
        let actor = hosting.stage.begin(entrance);
        self.devices[node].actor = Some(Hosted {
            actor,
            wake_at: None,
            busy: None,
        });
        self.plan_turn(node);
    }

    /// Names a plugin's stay on a device: its life, and the actors before it.
    fn life_index(&mut self, node: usize) -> u64 {
        self.sessions += 1;
        node as u64 | self.sessions << 32
    }

    /// The plugin is installed again on a device that runs.
    pub(crate) fn readmit(&mut self, node: usize, spec: PluginSpec) {
        if self.devices[node].actor.is_none() && self.is_up(node) {
            let device = &mut self.devices[node];
            device.installed.insert(spec.id.clone(), spec.clone());
            self.enter(node, spec);
        }
    }

    /// The plugin's instance faults, because the scenario says so.
    pub(crate) fn fault_actor(&mut self, node: usize) {
        let Some(now) = self.moment(node) else {
            return;
        };
        let hosted = self.devices[node].actor.as_mut();
        let said = hosted.map(|hosted| hosted.actor.fault(&now));
        self.carry_out(node, said.unwrap_or_default());
        self.plan_turn(node);
    }

    /// The plugin ends in order, `removed` from the device or with it.
    pub(crate) fn dismiss(&mut self, node: usize, removed: bool) {
        let (Some(now), Some(plugin)) = (self.moment(node), self.hosted_id()) else {
            return;
        };
        if self.is_paused(node) {
            return;
        }
        if removed {
            self.devices[node].installed.remove(&plugin);
        }
        let Some(mut hosted) = self.devices[node].actor.take() else {
            return;
        };
        let finished = hosted.busy.take().map(|(_, said)| said);
        self.forget_actor(&hosted);
        let said = hosted.actor.stop(&now, removed);
        self.carry_out(node, finished.unwrap_or_default());
        self.carry_out(node, said);
    }

    fn hosted_id(&self) -> Option<PluginId> {
        Some(self.hosting()?.plugin.clone())
    }

    /// The device's process is gone, and the plugin's host with it.
    pub(super) fn lose_actor(&mut self, node: usize) {
        if let Some(hosted) = self.devices[node].actor.take() {
            self.forget_actor(&hosted);
        }
    }

    fn forget_actor(&mut self, hosted: &Hosted) {
        if let Some(hosting) = &mut self.hosting {
            hosting.figures.messages_dropped += hosted.actor.dropped();
        }
    }

    pub(super) fn set_back_actor(&mut self, node: usize) {
        if let Some(hosted) = &mut self.devices[node].actor {
            hosted.actor.clock_set_back();
        }
        self.plan_turn(node);
    }

    pub(super) fn deliver_to_actor(&mut self, node: usize, event: &PluginEvent) {
        if let Some(hosted) = &mut self.devices[node].actor {
            hosted.actor.deliver(event.clone());
            self.plan_turn(node);
        }
    }

    /// A program on a device that runs asks the plugin something.
    pub(crate) fn request(&mut self, node: usize, topic: &str, payload: &[u8]) {
        let Some(now) = self.moment(node) else {
            return;
        };
        if let Some(hosted) = &mut self.devices[node].actor {
            hosted.actor.request(&now, topic, payload);
            self.plan_turn(node);
        }
    }

    /// Plans the next turn, unless an earlier one is planned: that one will plan again.
    pub(super) fn plan_turn(&mut self, node: usize) {
        let now = self.now;
        let Some(moment) = self.moment(node) else {
            return;
        };
        let device = &mut self.devices[node];
        let (Some(hosted), Some(running)) = (&mut device.actor, &device.running) else {
            return;
        };
        let at = match &hosted.busy {
            Some((until, _)) => Some(*until),
            None if hosted.actor.has_mail() => Some(now),
            None => hosted
                .actor
                .wake_at(&moment)
                .map(|local| running.clock.virtual_time(local)),
        };
        let Some(at) = at.map(|at| at.max(now)).filter(|at| *at < Time::MAX) else {
            return;
        };
        if hosted.wake_at.is_none_or(|planned| at < planned) {
            hosted.wake_at = Some(at);
            let life = device.life;
            self.queue.push(at, Happening::Turn { node, life });
        }
    }

    /// A planned turn has come.
    pub(super) fn turn(&mut self, node: usize) {
        let now = self.now;
        let Some(hosted) = &mut self.devices[node].actor else {
            return;
        };
        if hosted.wake_at != Some(now) {
            return;
        }
        hosted.wake_at = None;
        if self.is_paused(node) {
            return;
        }
        match self.devices[node]
            .actor
            .as_mut()
            .map(|hosted| hosted.busy.take())
        {
            Some(Some((until, said))) if until <= now => self.carry_out(node, said),
            Some(Some(busy)) => {
                if let Some(hosted) = &mut self.devices[node].actor {
                    hosted.busy = Some(busy);
                }
            }
            Some(None) | None => self.act_actor(node),
        }
        self.plan_turn(node);
    }

    fn act_actor(&mut self, node: usize) {
        let Some(moment) = self.moment(node) else {
            return;
        };
        let Some(hosted) = &mut self.devices[node].actor else {
            return;
        };
        let turn = hosted.actor.turn(&moment);
        if turn.took.is_zero() {
            return self.carry_out(node, turn.said);
        }
        hosted.busy = Some((self.now + turn.took, turn.said));
        if let Some(hosting) = &mut self.hosting {
            hosting.figures.busy += turn.took;
        }
    }

    /// This instant as a device that runs sees it.
    fn moment(&self, node: usize) -> Option<Moment> {
        let device = &self.devices[node];
        let running = device.running.as_ref()?;
        let local = running.local(self.now);
        Some(match &device.clock {
            Some(clock) => Moment {
                local,
                group_time: clock.group_time(local),
                synchronised: clock.synchronised,
                error_bound: clock.error_bound_at(local),
            },
            None => Moment {
                local,
                group_time: self.wall(node),
                synchronised: false,
                error_bound: 0,
            },
        })
    }

    /// Passes on what a plugin's host said.
    fn carry_out(&mut self, node: usize, said: Vec<Said>) {
        let Some(plugin) = self.hosted_id() else {
            return;
        };
        for said in said {
            // A crash in the middle takes the rest with it.
            let Some(app) = self.devices[node].apps.get_mut(&plugin) else {
                return;
            };
            let spec = app.spec.clone();
            match said {
                Said::Quota(quota) => app.set_quota(quota),
                Said::State(config) => app.set_state_config(config),
                Said::Up(spec) => self.plugin_up(node, spec),
                Said::Faulted => self.plugin_fault(node, &spec),
                Said::Down => self.given_up(node, &plugin),
                Said::Commands(commands) => self.pass_on(node, &plugin, commands),
                Said::Line {
                    group_time,
                    level,
                    by_host,
                    text,
                } => self.hear(node, group_time, level, by_host, text),
                Said::Fault(cause) => {
                    if let Some(hosting) = &mut self.hosting {
                        hosting.figures.faults += 1;
                    }
                    self.check_bans(node, Banned::Faults, &cause);
                }
            }
        }
    }

    /// There is no instance and none on its way; the plugin comes again with the next start.
    fn given_up(&mut self, node: usize, plugin: &PluginId) {
        self.note(&format!("n{node} {plugin} goes down"));
        self.secure_writes();
        self.recorder
            .mark(self.now, FaultKind::Plugin, "plugin goes down", &[node]);
        self.set_state(node, plugin, AppState::Down);
        self.input(node, Input::Command(Command::PluginDown(plugin.clone())));
    }

    /// What one callback asked for goes to the node, past the checkers.
    fn pass_on(&mut self, node: usize, plugin: &PluginId, commands: Vec<PluginCommand>) {
        let group_now = self.moment(node).map_or(0, |moment| moment.group_time);
        let Some(mut app) = self.devices[node].apps.remove(plugin) else {
            return;
        };
        for command in &commands {
            self.observe(node, &Observation::Sent { app: &app, command });
            if let PluginCommand::Write(write) = command {
                app.data.replay(write, group_now);
            }
        }
        self.devices[node].apps.insert(plugin.clone(), app);
        if let Some(hosting) = &mut self.hosting {
            let writes = commands
                .iter()
                .filter(|command| matches!(command, PluginCommand::Write(_)))
                .count() as u64;
            hosting.figures.writes += writes;
            hosting.figures.messages_sent += commands.len() as u64 - writes;
        }
        let commands = commands.into_iter().map(|command| Command::Plugin {
            id: plugin.clone(),
            command,
        });
        self.input(node, Input::Commands(commands.collect()));
    }

    fn hear(&mut self, node: usize, group_time: u64, level: LogLevel, by_host: bool, text: String) {
        let heard = Heard {
            at: self.now,
            group_time,
            node: Some(node),
            name: self.devices[node].config.name.clone(),
            level,
            by_host,
            text,
        };
        self.trace
            .comment(&format!("{} n{node} log: {}", self.now, heard.text));
        let Some(hosting) = &mut self.hosting else {
            return;
        };
        (hosting.audience)(&heard);
        if by_host {
            return;
        }
        hosting.figures.lines[level as usize] += 1;
        for wanted in &mut hosting.wanted {
            if self.now >= wanted.from && heard.text.contains(&wanted.contains) {
                self.changes += u64::from(wanted.nodes.insert(node));
            }
        }
        self.check_bans(node, Banned::Lines(level), &heard.text);
    }

    fn check_bans(&self, node: usize, seen: Banned, text: &str) {
        let breaks = |ban: &&Ban| {
            let due = (ban.from..=ban.to).contains(&self.now);
            due && match (ban.banned, seen) {
                (Banned::Lines(least), Banned::Lines(level)) => level >= least,
                (Banned::Faults, Banned::Faults) => true,
                (Banned::Lines(_), Banned::Faults) | (Banned::Faults, Banned::Lines(_)) => false,
            }
        };
        if let Some(ban) = self.hosting().and_then(|h| h.bans.iter().find(breaks)) {
            let what = match seen {
                Banned::Lines(level) => format!("logs at {}", level.as_str()),
                Banned::Faults => "has a fault".to_owned(),
            };
            self.fail(&format!("{}: n{node} {what}: {text}", ban.what));
        }
    }
}
