//! Replicated state: plugins that write and read, and what is checked once all is quiet.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::{
    ClockView, Command, Origin, PluginCommand, PluginSpec, Scope, StateConfig, StateOutcome,
    StateWrite, micros,
};

use super::Sim;
use crate::app::{App, AppState, Refused};
use crate::device::Input;
use crate::ledger::{Act, Fate, Group, Member, Written, differ};
use crate::message;
use crate::timeline::FaultKind;

/// How long a write may take to reach all members in reach of its writer; the same for a large one.
const SPREAD_MAX: Duration = Duration::from_secs(2);
const SPREAD_LARGE_MAX: Duration = Duration::from_secs(10);
/// How long what is there may take to reach a member that came into reach later.
const CATCH_UP_MAX: Duration = Duration::from_secs(45);
/// Writes longer than this travel in pieces.
const LARGE: usize = 900;
/// A step of group time that state does not take for a clock's error, in microseconds.
const STEP_LARGE: u64 = 60_000_000;
/// How long a write may take to reach the disk: what is promised, where a disk takes at most
/// [`SYNC_MAX`](super::drive::SYNC_MAX) for a write.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// One write of a plugin; values are made by the simulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Puts a value.
    Put {
        /// Where.
        scope: Scope,
        /// Under which key.
        key: Arc<str>,
        /// Its length; at least [`crate::PAYLOAD_MIN`].
        len: usize,
        /// After how long it expires.
        ttl: Option<Duration>,
    },
    /// Deletes a key.
    Delete {
        /// Where.
        scope: Scope,
        /// Which key.
        key: Arc<str>,
    },
    /// Adds to a counter.
    Add {
        /// Which.
        name: Arc<str>,
        /// How much.
        delta: i64,
    },
}

impl Sim {
    /// Puts `len` bytes under a key, which stay; the write's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn put(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        scope: Scope,
        key: &str,
        len: usize,
    ) -> Result<u64, Refused> {
        let (key, ttl) = (key.into(), None);
        let edit = Edit::Put {
            scope,
            key,
            len,
            ttl,
        };
        self.edit(node, plugin, edit)
    }

    /// Deletes a key; the write's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn delete(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        scope: Scope,
        key: &str,
    ) -> Result<u64, Refused> {
        let key = key.into();
        self.edit(node, plugin, Edit::Delete { scope, key })
    }

    /// Adds to a counter; the write's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn add_to(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        name: &str,
        delta: i64,
    ) -> Result<u64, Refused> {
        let name = name.into();
        self.edit(node, plugin, Edit::Add { name, delta })
    }

    /// A plugin writes; the write's number.
    ///
    /// # Errors
    /// The plugin's host refuses it.
    pub fn edit(&mut self, node: usize, plugin: &PluginSpec, edit: Edit) -> Result<u64, Refused> {
        let mut results = self.edit_all(node, plugin, vec![edit]);
        results.pop().unwrap_or(Err(Refused::NotRunning))
    }

    /// A plugin writes several times in one callback; the writes' numbers, or why each was refused.
    pub fn edit_all(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        edits: Vec<Edit>,
    ) -> Vec<Result<u64, Refused>> {
        let mut commands = Vec::new();
        let results = edits.into_iter().map(|edit| {
            let (number, command) = self.prepare(node, plugin, edit)?;
            commands.push(command);
            Ok(number)
        });
        let results: Vec<Result<u64, Refused>> = results.collect();
        if commands.is_empty() {
            return results;
        }
        let numbers = results.iter().filter_map(|one| one.ok()).collect();
        self.end_callback(node, plugin, numbers, commands);
        results
    }

    /// Checks a write as the plugin's host does, and enters it in the ledger.
    fn prepare(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        edit: Edit,
    ) -> Result<(u64, Command), Refused> {
        let (number, now) = (self.ledger.next(), self.state_now(node));
        let (write, act) = write_of(edit, number, now);
        let (origin, key) = write.place(self.devices[node].id);
        let app = self.devices[node].apps.get(&plugin.id);
        let app = app.ok_or(Refused::NotRunning)?;
        let before = app.data.get(origin, &key, now);
        let before = before.and_then(|value| message::number(&value));
        let term = match origin {
            Origin::Leader => app.view.leader().map(|leader| leader.1),
            Origin::Device(_) | Origin::Shared | Origin::Counter => None,
        };
        let session = app.session();
        let command = self.checked(node, plugin, PluginCommand::Write(write))?;
        let group = self.group_of(node, plugin);
        self.note_write(node, number, origin, &key, act);
        self.ledger.record(Written {
            node,
            at: self.now,
            origin,
            key,
            act,
            fate: Fate::Handed,
            seen: [(node, self.now)].into(),
            device: self.devices[node].id,
            session,
            group,
            physical: now / 1000,
            highest: 0,
            term,
            before,
            near: self.near(node, plugin),
            holders: [].into(),
            kept: [].into(),
            told_in: None,
        });
        Ok((number, command))
    }

    fn note_write(&mut self, node: usize, number: u64, origin: Origin, key: &str, act: Act) {
        let origin = match origin {
            Origin::Device(_) => "device".to_owned(),
            other => format!("{other:?}"),
        };
        let line = format!("write {number}: {origin} {key:?} {act:?}");
        self.trace.detail(self.now, node, &line);
    }

    /// Sessions of a plugin's members that see `node` and that it sees.
    pub(super) fn near(&self, node: usize, plugin: &PluginSpec) -> Vec<u64> {
        let Some(app) = self.devices[node].apps.get(&plugin.id) else {
            return Vec::new();
        };
        let (id, group) = (self.devices[node].id, app.spec.group());
        let peers = app.view.peers.keys().filter_map(|peer| self.node_of(*peer));
        let apps = peers.filter_map(|peer| self.app_of(peer, group));
        apps.filter(|other| other.view.peers.contains_key(&id))
            .map(App::session)
            .collect()
    }

    fn group_of(&self, node: usize, plugin: &PluginSpec) -> Group {
        let app = self.devices[node].apps.get(&plugin.id);
        let key = app.map(|app| app.spec.group());
        (self.secret_of(node), key.unwrap_or_else(|| plugin.group()))
    }

    fn secret_of(&self, node: usize) -> Option<[u8; 16]> {
        let secret = self.devices[node].config.group.as_ref();
        secret.map(|secret| *secret.group_id())
    }

    /// Group time at a device, as its plugins' host has it.
    pub(super) fn state_now(&self, node: usize) -> u64 {
        self.group_time(node)
            .map_or_else(|| self.wall(node), |(time, _)| time)
    }

    /// How a plugin's state is kept, on every device and for the rest of the run.
    pub fn set_state_config(&mut self, plugin: &PluginSpec, config: StateConfig) {
        self.ledger.remember_for(config.keep_absent);
        for node in 0..self.devices.len() {
            if let Some(app) = self.devices[node].apps.get_mut(&plugin.id) {
                app.set_state_config(config);
            }
            let id = plugin.id.clone();
            self.input(node, Input::Command(Command::PluginState { id, config }));
        }
    }

    /// What a plugin reads under a key.
    #[must_use]
    pub fn read(
        &self,
        node: usize,
        plugin: &PluginSpec,
        origin: Origin,
        key: &str,
    ) -> Option<Bytes> {
        self.app(node, plugin)
            .data
            .get(origin, key, self.state_now(node))
    }

    /// Which write a plugin reads under a key.
    #[must_use]
    pub fn shown(
        &self,
        node: usize,
        plugin: &PluginSpec,
        origin: Origin,
        key: &str,
    ) -> Option<u64> {
        message::number(&self.read(node, plugin, origin, key)?)
    }

    /// What a plugin reads of a counter.
    #[must_use]
    pub fn counter(&self, node: usize, plugin: &PluginSpec, name: &str) -> i64 {
        self.app(node, plugin).data.counter(name)
    }

    /// A write, and what became of it.
    ///
    /// # Panics
    /// There is none of that number.
    #[must_use]
    pub fn written(&self, number: u64) -> &Written {
        match self.ledger.get(number) {
            Some(written) => written,
            None => self.fail(&format!("write {number} was never made")),
        }
    }

    /// How many writes plugins' hosts let pass, and how many of them nodes refused.
    #[must_use]
    pub fn writes(&self) -> (usize, usize) {
        self.ledger.counts()
    }

    /// Whether the plugins of `nodes` were told the same state.
    #[must_use]
    pub fn same_state(&self, plugin: &PluginSpec, nodes: &[usize]) -> bool {
        let (members, now) = self.replicas(plugin, nodes);
        members.len() == nodes.len() && differ(&members, now).is_none()
    }

    /// Waits until the replicas of `nodes` are equal, then checks that they hold what they must;
    /// the time it took.
    ///
    /// # Panics
    /// They are not within `limit`, or hold something else.
    pub fn expect_state(
        &mut self,
        plugin: &PluginSpec,
        nodes: &[usize],
        limit: Duration,
    ) -> Duration {
        let took = self.run_until(limit, |sim| sim.same_state(plugin, nodes));
        self.judge_state(plugin, nodes);
        took.unwrap_or(limit)
    }

    /// Checks that the replicas of `nodes` are equal and hold what they must.
    ///
    /// # Panics
    /// They do not.
    pub fn judge_state(&self, plugin: &PluginSpec, nodes: &[usize]) {
        let Some(first) = nodes.first() else {
            return;
        };
        let (members, now) = self.replicas(plugin, nodes);
        let group = self.group_of(*first, plugin);
        if let Err(problem) = self.ledger.judge(group, &members, self.now, now) {
            self.fail(&format!("{}: {problem}", plugin.id));
        }
    }

    /// The replicas of those of `nodes` that run a plugin, and group time at the one whose clock
    /// goes ahead of the others.
    fn replicas(&self, plugin: &PluginSpec, nodes: &[usize]) -> (Vec<Member<'_>>, u64) {
        let now = nodes.iter().map(|node| self.state_now(*node)).max();
        let up = nodes.iter().filter_map(|node| {
            let app = self.devices[*node].apps.get(&plugin.id)?;
            (app.state == AppState::Up).then(|| Member {
                node: *node,
                device: self.devices[*node].id,
                session: app.session(),
                told: app.told(),
            })
        });
        (up.collect(), now.unwrap_or(0))
    }

    /// What a device's disk kept of replicated state is gone; it must be down.
    pub fn wipe_state(&mut self, node: usize) {
        self.note(&format!("n{node}'s kept state is gone"));
        self.devices[node].disk.wipe_state();
        self.ledger.lose(node);
    }

    /// Damages what a device's disk kept of replicated state, as far as the next start reads it:
    /// every third record or so. How many records that is.
    pub fn corrupt_state(&mut self, node: usize) -> usize {
        let rng = &mut self.rng;
        let damaged = self.devices[node].disk.damage_state(|value| {
            use rand::RngExt;
            let mut wrong = value.to_vec();
            let place = rng.random_range(0..wrong.len().max(1));
            match rng.random_range(0..6) {
                0 => wrong.truncate(place),
                1 => *wrong.get_mut(place)? ^= 1 << rng.random_range(0..8),
                _ => return None,
            }
            Some(wrong.into())
        });
        self.note(&format!(
            "{damaged} records of n{node}'s kept state are damaged"
        ));
        self.recorder
            .mark(self.now, FaultKind::Disk, "state damaged", &[node]);
        self.ledger.lose(node);
        damaged
    }

    /// Looks who has the writes by now that their writers might take with them.
    pub(super) fn secure_writes(&mut self) {
        if self.oracle.is_unseen() {
            return;
        }
        for number in self.ledger.unsecured() {
            if let Some(holders) = self.ledger.get(number).and_then(|w| self.holders(w)) {
                self.ledger.secure(number, self.now, &holders);
            }
        }
    }

    /// Sessions that have a write, if it had time to reach them; none if it had not.
    fn holders(&self, written: &Written) -> Option<Vec<u64>> {
        let part = self
            .oracle
            .parts
            .iter()
            .find(|part| part.clean && part.nodes.contains(&written.node))?;
        let key = written.group.1;
        let own = self.app_of(written.node, key)?;
        if own.session() != written.session {
            return None;
        }
        let mut others = part.nodes.iter().filter_map(|node| self.app_of(*node, key));
        let large = matches!(written.act, Act::Put { len, .. } if len > LARGE);
        let spread = if large { SPREAD_LARGE_MAX } else { SPREAD_MAX };
        let spread = spread.max(own.state_config().interval * 2);
        if part.since <= written.at {
            let due = written.at + spread <= self.now;
            let near = others.map(App::session);
            return due.then(|| near.filter(|s| written.near.contains(s)).collect());
        }
        let id = self.devices[written.node].id;
        let mutual = |app: &App| app.view.peers.contains_key(&id);
        let due = part.since.max(written.at) + CATCH_UP_MAX <= self.now;
        (due && others.all(mutual)).then(|| self.near_all(&part.nodes, key))
    }

    fn near_all(&self, nodes: &[usize], key: consort_proto::GroupKey) -> Vec<u64> {
        let apps = nodes.iter().filter_map(|node| self.app_of(*node, key));
        apps.map(App::session).collect()
    }

    /// A process is about to stand still; what it has not kept by now it keeps after it goes on.
    pub(super) fn stand_still(&mut self, node: usize) {
        let device = &mut self.devices[node];
        if !device.is_paused() && self.now >= device.stood.1 + KEPT_MAX {
            device.stood.0 = self.now;
        }
    }

    /// A device is about to stop: what its disk keeps.
    pub(super) fn keep_writes(&mut self, node: usize) {
        let device = &self.devices[node];
        if device.disk.full || device.disk.failed {
            return;
        }
        let persist = |app: &&App| app.state_config().persist && app.state == AppState::Up;
        let apps = device.apps.values().filter(persist);
        let sessions: Vec<u64> = apps.map(App::session).collect();
        if !sessions.is_empty() {
            // A process that stands still keeps nothing.
            let (stood, went_on) = device.stood;
            let stands = device.is_paused() || self.now < went_on + KEPT_MAX;
            let settled = if stands { stood } else { self.now } - KEPT_MAX;
            self.ledger.keep(node, &sessions, settled);
        }
    }

    /// A device's group time is to follow another line.
    pub(super) fn mind_step(&mut self, node: usize, view: &ClockView) {
        let device = &self.devices[node];
        if let (Some(running), Some(old)) = (&device.running, device.clock) {
            let local = running.local(self.now);
            if old.group_time(local).abs_diff(view.group_time(local)) > STEP_LARGE {
                self.ledger.loosen(self.now + CATCH_UP_MAX);
            }
        }
    }

    /// A device has started: what its disk had kept.
    pub(super) fn resume_writes(&mut self, node: usize) {
        let apps = self.devices[node].apps.values();
        let persist = apps.filter(|app| app.state_config().persist);
        let specs: Vec<_> = persist
            .map(|app| (app.spec.clone(), app.session()))
            .collect();
        let by = self.leap_at_start(node);
        for (spec, session) in specs {
            self.ledger.leap(session, by);
            let group = self.group_of(node, &spec);
            self.ledger.resume(node, group, session, self.now);
        }
    }

    /// By how much a device's group time has gone on between two runs beyond what has passed.
    fn leap_at_start(&self, node: usize) -> Duration {
        let Some((at, stopped)) = self.devices[node].stopped else {
            return Duration::ZERO;
        };
        let due = stopped.saturating_add(micros(self.now.since(at)));
        Duration::from_micros(self.state_now(node).saturating_sub(due))
    }

    /// A device's plugin was told that it has superseded writes: what that is worth.
    pub(super) fn mind_report(&mut self, node: usize, app: &App, keys: &[Arc<str>]) {
        let key = app.spec.group();
        let group = (self.secret_of(node), key);
        let leader = app.view.leader().map(|(leader, _)| leader);
        let mut others = (0..self.devices.len()).filter(|other| *other != node);
        let contested = others.any(|other| {
            let device = &self.devices[other];
            let led_by = self.told_by(other, key).map(|(leader, _)| leader);
            let leads = led_by == Some(device.id) && led_by != leader;
            device.is_up() && leads && self.secret_of(other) == group.0
        });
        if contested && leader.is_some() {
            self.ledger.contest(group, app.session(), keys);
        }
    }

    /// A number for one more session.
    pub(super) const fn next_session(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }
}

/// What a plugin was told, in a few words.
pub(super) fn describe(update: &consort_proto::StateUpdate) -> String {
    let changes = update.changes.iter().map(|change| {
        let what = match &change.outcome {
            StateOutcome::Put { value, .. } => {
                format!("write {}", message::number(value).unwrap_or(0))
            }
            StateOutcome::Counted(sum) => format!("sum {sum}"),
            StateOutcome::Deleted => "deleted".to_owned(),
            StateOutcome::Expired => "expired".to_owned(),
        };
        let own = if change.own { " (own)" } else { "" };
        let origin = match change.origin {
            Origin::Device(device) => format!("{device:?}"),
            other => format!("{other:?}"),
        };
        format!("{origin} {:?}: {what}{own}", change.key)
    });
    let changes: Vec<String> = changes.take(20).collect();
    let (whole, handled, count) = (update.whole, update.handled, update.changes.len());
    let whole = if whole { "whole state" } else { "state" };
    format!(
        "{whole}, {handled} handled, {count} changes: {}",
        changes.join(", ")
    )
}

/// A write as its plugin hands it over, and for the ledger.
fn write_of(edit: Edit, number: u64, now: u64) -> (StateWrite, Act) {
    match edit {
        Edit::Put {
            scope,
            key,
            len,
            ttl,
        } => {
            let value = message::payload(number, len);
            let ttl_ms = ttl.map(|ttl| consort_proto::micros(ttl) / 1000);
            let act = Act::Put {
                len: value.len(),
                expires_at: ttl_ms.map(|ttl| now.saturating_add(ttl * 1000)),
            };
            let write = StateWrite::Put {
                scope,
                key,
                value,
                ttl_ms,
            };
            (write, act)
        }
        Edit::Delete { scope, key } => (StateWrite::Delete { scope, key }, Act::Delete),
        Edit::Add { name, delta } => (StateWrite::Add { name, delta }, Act::Add(delta)),
    }
}
