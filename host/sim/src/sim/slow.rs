//! Callbacks that take long: what a plugin writes in one leaves its host when it ends.
//!
//! The host checks a write when it is made, by what it was told so far. The node gets it later, and may
//! know better by then.

use core::time::Duration;

use consort_proto::{Command, PluginSpec};

use super::{Edit, Happening, Sim};
use crate::app::{AppState, Refused};
use crate::device::Input;
use crate::ledger::Late;

/// How often it is looked whether a process goes on.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Writes that wait for the end of their callback.
#[derive(Debug)]
pub(super) struct Slow {
    plugin: PluginSpec,
    session: u64,
    numbers: Vec<u64>,
    commands: Vec<Command>,
}

impl Sim {
    /// A plugin writes several times in one callback that takes so long; the writes' numbers, or why
    /// each was refused. What it writes in callbacks after it waits, too. All that is lost if its
    /// instance ends before.
    pub fn edit_all_taking(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        edits: Vec<Edit>,
        takes: Duration,
    ) -> Vec<Result<u64, Refused>> {
        let now = self.now;
        if let Some(app) = self.devices[node].apps.get_mut(&plugin.id) {
            // One callback at a time: within another one these writes are part of it.
            let end = app.busy.filter(|end| *end >= now);
            app.busy = end.or(Some(now + takes));
        }
        self.edit_all(node, plugin, edits)
    }

    /// Hands a callback's writes to the node, when it ends.
    pub(super) fn end_callback(
        &mut self,
        node: usize,
        plugin: &PluginSpec,
        numbers: Vec<u64>,
        commands: Vec<Command>,
    ) {
        let app = self.devices[node].apps.get(&plugin.id);
        let busy = app.and_then(|app| Some((app.busy?, app.session())));
        let Some((end, session)) = busy.filter(|(end, _)| *end >= self.now) else {
            return self.input(node, Input::Commands(commands));
        };
        let writes = Box::new(Slow {
            plugin: plugin.clone(),
            session,
            numbers,
            commands,
        });
        let life = self.devices[node].life;
        self.queue
            .push(end, Happening::HandOver { node, life, writes });
    }

    /// A process that stands still ends no callback.
    fn stay_busy(&mut self, node: usize, writes: Slow) {
        let end = self.now + LOOK_AGAIN;
        let device = &mut self.devices[node];
        let life = device.life;
        if let Some(app) = device.apps.get_mut(&writes.plugin.id) {
            app.busy = app.busy.max(Some(end));
        }
        let writes = Box::new(writes);
        self.queue
            .push(end, Happening::HandOver { node, life, writes });
    }

    /// A callback that took long has ended.
    pub(super) fn hand_over(&mut self, node: usize, writes: Slow) {
        let device = &self.devices[node];
        let Some(app) = device.apps.get(&writes.plugin.id) else {
            return;
        };
        if app.session() != writes.session || app.state != AppState::Up {
            return;
        }
        if device.is_paused() {
            return self.stay_busy(node, writes);
        }
        let leads = app.view.leader().filter(|leader| leader.0 == device.id);
        let late = Late {
            physical: self.state_now(node) / 1000,
            near: self.near(node, &writes.plugin),
            term: leads.map(|(_, term)| term),
        };
        self.ledger.hand(&writes.numbers, self.now, &late);
        self.input(node, Input::Commands(writes.commands));
    }
}
