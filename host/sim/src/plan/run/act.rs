//! What steps do to the simulator.

use core::time::Duration;
use std::sync::Arc;

use consort_proto::{PluginSpec, Time};

use super::super::{Action, Flap, LinkChange, LoseState, Pair, PluginUp, Replay, SendOne, Who};
use super::flood::ADDRESSES as STRANGERS;
use super::{Act, Runner, calm_link};
use crate::app::AppState;
use crate::network::Link;
use crate::sim::{Recorded, Sim};
use crate::timeline::FaultKind;

/// The time between two datagrams of a replay.
const REPLAY_EVERY: Duration = Duration::from_micros(200);
/// When to look again for an instance whose process stands still.
const BACK_AGAIN: Duration = Duration::from_millis(5);

impl Runner<'_> {
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Step(index) => {
                let action = self.plan.steps[index].action.clone();
                self.step(index, action);
            }
            Act::Start(node) => self.start(node),
            // An instance comes back within its process: not while that stands still.
            Act::PluginBack(node, spec) if self.sim.is_paused(node) => {
                let later = self.sim.now() + BACK_AGAIN;
                self.plan_time(later, Act::PluginBack(node, spec));
            }
            Act::PluginBack(node, spec) => {
                if self.sim.is_up(node) && self.sim.app(node, &spec).state == AppState::Faulted {
                    self.sim.plugin_up(node, spec);
                }
            }
            Act::Flap { flap, down, until } => self.flap(flap, down, until),
            Act::Flood(flooding) => self.flood(flooding),
            Act::Replay {
                forged,
                datagrams,
                next,
            } => self.replay(forged, datagrams, next),
            Act::ExpectBegins(index) => self.expect_begins(index),
            Act::ExpectEnds(index) => self.expect_ends(index),
            Act::Calm => self.calm(),
            Act::StopWrites => self.sim.stop_writes(),
            Act::Probe(number) => self.probe(number),
            Act::Verdict => self.verdict(),
        }
    }

    fn step(&mut self, index: usize, action: Action) {
        let now = self.sim.now();
        if self.sim.hosting().is_some() {
            self.sim.announce(&words(&action));
        }
        match action {
            Action::Start(who) => self.each(&who, Self::start),
            Action::Crash(who) => self.each(&who, |runner, node| runner.sim.kill(node)),
            Action::Restart(restart) => self.each(&restart.node, |runner, node| {
                runner.sim.kill(node);
                runner.plan_time(now + restart.down, Act::Start(node));
            }),
            Action::Stop(who) => self.each_up(&who, |runner, node| runner.sim.leave(node)),
            Action::Pause(who) => self.each_up(&who, |runner, node| runner.sim.pause(node)),
            Action::Suspend(who) => self.each_up(&who, |runner, node| runner.sim.suspend(node)),
            Action::Resume(who) => self.each_up(&who, Self::resume),
            Action::Partition(sides) => {
                let sides: Vec<&[usize]> = sides.iter().map(Vec::as_slice).collect();
                self.sim.partition(&sides);
            }
            Action::Cut(pair) => self.pairs(&pair, Sim::cut_one_way),
            Action::Mend(pair) => self.pairs(&pair, Sim::mend_one_way),
            Action::Heal(_) => {
                self.agenda
                    .retain(|_, act| !matches!(act, Act::Flap { .. }));
                self.sim.heal();
            }
            Action::Link(change) => self.change_links(&change),
            Action::Flap(flap) => self.flap(index, true, now + flap.lasting),
            Action::Rotate(rotate) => self.each_going(&rotate.node, |runner, node| {
                let step = rotate.step.into();
                runner.sim.begin_rotate(node, step, rotate.force);
            }),
            Action::Readdress(who) => self.each(&who, |runner, node| runner.sim.readdress(node)),
            Action::DiskFull(_)
            | Action::DiskFree(_)
            | Action::CrashAtWrite(_)
            | Action::LoseState(_)
            | Action::ClockJump(_)
            | Action::ClockDrift(_) => self.machine(action),
            Action::Clone(_) | Action::Stranger(_) | Action::Flood(_) | Action::Replay(_) => {
                self.hostile(action);
            }
            Action::PluginFault(_)
            | Action::PluginDown(_)
            | Action::PluginUp(_)
            | Action::Local(_)
            | Action::Send(_) => self.plugins(action),
        }
    }

    /// Disks and clocks.
    fn machine(&mut self, action: Action) {
        match action {
            Action::DiskFull(who) => {
                self.each(&who, |runner, node| runner.sim.set_disk_full(node, true));
            }
            Action::DiskFree(who) => {
                self.each(&who, |runner, node| runner.sim.set_disk_full(node, false));
            }
            Action::CrashAtWrite(crash) => self.each_up(&crash.node, |runner, node| {
                runner
                    .sim
                    .crash_at_write(node, crash.write, crash.torn, crash.down);
            }),
            Action::LoseState(lose) => self.lose_state(&lose),
            Action::ClockJump(jump) => {
                self.each(&jump.node, |runner, node| {
                    runner.sim.jump_clock(node, jump.by)
                });
            }
            Action::ClockDrift(drift) => {
                self.each(&drift.node, |runner, node| {
                    runner.sim.set_drift(node, drift.ppm)
                });
            }
            _ => {}
        }
    }

    fn lose_state(&mut self, lose: &LoseState) {
        let back = self.sim.now() + lose.down;
        self.each(&lose.node, |runner, node| {
            runner.sim.kill(node);
            if lose.damaged {
                runner.sim.corrupt_state(node);
            } else {
                runner.sim.wipe_state(node);
            }
            if lose.boots {
                runner.sim.set_boot_counter(node, 0);
            }
            runner.plan_time(back, Act::Start(node));
        });
    }

    /// Others on the network.
    fn hostile(&mut self, action: Action) {
        match action {
            Action::Clone(clone) if clone.node < self.sim.device_count() => {
                self.sim.clone_device(clone.node);
            }
            Action::Stranger(stranger) => {
                for _ in 0..stranger.count {
                    self.sim.add_stranger();
                }
            }
            Action::Flood(flood) => {
                self.begin_flood(&flood);
            }
            Action::Replay(replay) => self.begin_replay(&replay),
            _ => {}
        }
    }

    /// The plugin whose own code runs.
    fn hosted(&mut self, action: Action) {
        match action {
            Action::PluginFault(fault) => self.each_going(&fault.node, |runner, node| {
                runner.sim.fault_actor(node);
            }),
            Action::PluginDown(down) => self.each_going(&down.node, |runner, node| {
                runner.sim.dismiss(node, true);
            }),
            Action::PluginUp(up) => self.each_going(&up.node, |runner, node| {
                let spec = runner.plugins[0].clone();
                let own = runner.sim.spec_of(node, &spec.id);
                runner.sim.readmit(node, own.unwrap_or(spec));
            }),
            Action::Local(request) => {
                let payload = request.payload().unwrap_or_default();
                self.each_up(&request.node, |runner, node| {
                    runner.sim.request(node, &request.topic, &payload);
                });
            }
            _ => {}
        }
    }

    /// Plugins and what they send.
    fn plugins(&mut self, action: Action) {
        match action {
            action if self.sim.hosting().is_some() => self.hosted(action),
            Action::PluginFault(fault) => {
                let spec = self.plugin(fault.plugin.as_ref());
                self.each_going(&fault.node, |runner, node| {
                    runner.plugin_fault(node, &spec, fault.back);
                });
            }
            Action::PluginDown(down) => {
                let spec = self.plugin(down.plugin.as_ref());
                self.each_going(&down.node, |runner, node| {
                    if runner.state(node, &spec) != AppState::Down {
                        runner.sim.plugin_down(node, &spec);
                    }
                });
            }
            Action::PluginUp(up) => self.each_going(&up.node, |runner, node| {
                runner.plugin_up(node, &up);
            }),
            Action::Send(send) => self.send(&send),
            _ => {}
        }
    }

    /// The devices that are meant now.
    pub(super) fn nodes(&self, who: &Who) -> Vec<usize> {
        let count = self.sim.device_count();
        let leaders = self.sim.leaders_of(&self.plugins[0].id);
        match who {
            Who::Nodes(nodes) => nodes.iter().copied().filter(|node| *node < count).collect(),
            Who::All => (0..self.plan.nodes).collect(),
            Who::Leader => leaders,
            Who::Followers => (0..self.plan.nodes)
                .filter(|node| self.sim.is_up(*node) && !leaders.contains(node))
                .collect(),
        }
    }

    fn each(&mut self, who: &Who, mut act: impl FnMut(&mut Self, usize)) {
        for node in self.nodes(who) {
            act(self, node);
        }
    }

    fn each_up(&mut self, who: &Who, mut act: impl FnMut(&mut Self, usize)) {
        for node in self.nodes(who) {
            if self.sim.is_up(node) {
                act(self, node);
            }
        }
    }

    /// Those whose process is up and does not stand still.
    fn each_going(&mut self, who: &Who, mut act: impl FnMut(&mut Self, usize)) {
        self.each_up(who, |runner, node| {
            if !runner.sim.is_paused(node) {
                act(runner, node);
            }
        });
    }

    fn pairs(&mut self, pair: &Pair, act: impl Fn(&mut Sim, usize, usize)) {
        let (from, to) = (self.nodes(&pair.from), self.nodes(&pair.to));
        for a in &from {
            for b in to.iter().filter(|b| *b != a) {
                act(&mut self.sim, *a, *b);
                if pair.both {
                    act(&mut self.sim, *b, *a);
                }
            }
        }
    }

    fn start(&mut self, node: usize) {
        if let Some(started) = self.started.get_mut(node) {
            *started = true;
        }
        if !self.sim.is_up(node) {
            self.sim.start(node);
        }
    }

    fn resume(&mut self, node: usize) {
        if self.sim.is_paused(node) {
            self.sim.resume(node);
        }
    }

    fn change_links(&mut self, change: &LinkChange) {
        let link = change.apply(&self.plan.link);
        if change.from.is_none() && change.to.is_none() {
            return self.sim.set_links(link);
        }
        let pair = Pair {
            from: change.from.clone().unwrap_or(Who::All),
            to: change.to.clone().unwrap_or(Who::All),
            both: !change.one_way,
        };
        self.pairs(&pair, |sim, a, b| sim.set_link(a, b, link));
    }

    /// One turn of what flaps.
    fn flap(&mut self, index: usize, down: bool, until: Time) {
        let Action::Flap(flap) = &self.plan.steps[index].action else {
            return;
        };
        let flap: Flap = flap.clone();
        let (now, over) = (self.sim.now(), self.sim.now() >= until);
        let down = down && !over;
        for node in self.nodes(&flap.node) {
            match &flap.to {
                None => self.sim.set_unplugged(node, down),
                Some(to) => {
                    for other in self.nodes(to).into_iter().filter(|other| *other != node) {
                        self.sim.set_flapped(node, other, down);
                        self.sim.set_flapped(other, node, down);
                    }
                }
            }
        }
        if !over {
            let next = now + if down { flap.down } else { flap.up };
            let turn = Act::Flap {
                flap: index,
                down: !down,
                until,
            };
            self.plan_time(next.min(until), turn);
        }
    }

    fn begin_replay(&mut self, replay: &Replay) {
        let nodes = self.nodes(&replay.to);
        let since = self.sim.now() - replay.last;
        let datagrams: Arc<[Recorded]> = self
            .sim
            .recorded()
            .iter()
            .filter(|d| d.at >= since && nodes.contains(&d.to) && d.from != d.to)
            .cloned()
            .collect();
        let label = format!("replay of {} datagrams", datagrams.len());
        self.sim
            .mark_flood(&label, REPLAY_EVERY * datagrams.len() as u32);
        self.replay(replay.forged, datagrams, 0);
    }

    fn replay(&mut self, forged: bool, datagrams: Arc<[Recorded]>, next: usize) {
        let Some(datagram) = datagrams.get(next) else {
            return;
        };
        let from = if forged {
            self.strange_address(STRANGERS)
        } else {
            self.sim.address(datagram.from)
        };
        if self.sim.is_up(datagram.to) {
            self.sim.relay(datagram.from, datagram.to);
            self.sim.inject(datagram.to, from, datagram.payload.clone());
        }
        let later = Act::Replay {
            forged,
            datagrams,
            next: next + 1,
        };
        self.plan_time(self.sim.now() + REPLAY_EVERY, later);
    }

    fn state(&self, node: usize, spec: &PluginSpec) -> AppState {
        self.sim.app_state(node, &spec.id)
    }

    fn plugin_fault(&mut self, node: usize, spec: &PluginSpec, back: Option<Duration>) {
        if self.state(node, spec) != AppState::Up {
            return;
        }
        let spec = self.sim.app(node, spec).spec.clone();
        self.sim.plugin_fault(node, &spec);
        if let Some(back) = back {
            self.plan_time(self.sim.now() + back, Act::PluginBack(node, spec));
        }
    }

    fn plugin_up(&mut self, node: usize, up: &PluginUp) {
        let mut spec = self.plugin(up.plugin.as_ref());
        if let Some(before) = self.sim.spec_of(node, &spec.id) {
            spec = before;
        }
        if let Some(version) = up.version.as_ref().and_then(|text| text.parse().ok()) {
            spec.version = version;
        }
        spec.priority = up.priority.unwrap_or(spec.priority);
        self.sim.plugin_up(node, spec);
    }

    fn send(&mut self, send: &SendOne) {
        let spec = self.plugin(send.plugin.as_ref());
        for from in self.nodes(&send.from) {
            // What a plugin's host refuses is no fault of the run.
            let _refused = match &send.to {
                None => self.sim.broadcast(from, &spec, send.len),
                Some(Who::Leader) => self.sim.send_to_leader(from, &spec, send.len),
                Some(Who::All | Who::Followers) => self.sim.send_to_all(from, &spec, send.len),
                Some(Who::Nodes(nodes)) => {
                    let Some(to) = nodes.first().filter(|to| **to < self.sim.device_count()) else {
                        continue;
                    };
                    self.sim.send(from, &spec, *to, send.len)
                }
            };
        }
    }

    /// All faults end.
    fn calm(&mut self) {
        self.agenda
            .retain(|_, act| !matches!(act, Act::Flap { .. } | Act::Flood(_) | Act::Replay { .. }));
        self.sim.calm_disks();
        self.sim.heal();
        self.sim.level_links(calm_link(self.plan));
        for node in 0..self.sim.device_count() {
            self.resume(node);
            if node >= self.plan.nodes {
                self.sim.kill(node);
            }
        }
        for node in 0..self.plan.nodes {
            if self.started[node] {
                self.start(node);
                for spec in self.sim.faulted(node) {
                    self.sim.plugin_up(node, spec);
                }
            }
        }
    }

    /// Near the end of a run that must come to rest, whoever leads broadcasts.
    fn probe(&mut self, number: u32) {
        if number == 0 {
            self.sim.stop_beats();
        }
        for (spec, members) in self.sim.clean_groups() {
            for node in &members {
                if self.sim.leads(*node, &spec)
                    && let Ok(message) = self.sim.broadcast(*node, &spec, 64)
                {
                    self.probes.push((spec.clone(), members.clone(), message));
                }
            }
        }
    }

    /// At the end of a run that must come to rest: messages reach everyone, and replicas are equal
    /// and hold what they must.
    fn verdict(&mut self) {
        for (spec, members) in self.sim.clean_groups() {
            let sent: Vec<u64> = self
                .probes
                .iter()
                .filter(|(of, to, _)| of.group() == spec.group() && *to == members)
                .map(|(_, _, message)| *message)
                .collect();
            for node in &members {
                let got = sent
                    .iter()
                    .filter(|m| self.sim.receivers(**m).contains(node))
                    .count();
                if got == 0 {
                    self.sim.fail(&format!(
                        "n{node} got none of the last {} broadcasts of {}",
                        sent.len(),
                        spec.id
                    ));
                }
            }
            self.sim.judge_state(&spec, &members);
        }
    }
}

/// An action in the words of a plan.
fn words(action: &Action) -> String {
    let table = toml::Table::try_from(action).unwrap_or_default();
    let entries = table.iter().map(|(key, value)| format!("{key} = {value}"));
    entries.collect::<Vec<_>>().join(", ")
}

/// What a flood or a replay looks like in the timeline.
impl Sim {
    pub(crate) fn mark_flood(&mut self, label: &str, lasting: Duration) {
        self.mark_until(FaultKind::Hostile, label, lasting);
    }
}

impl LinkChange {
    /// A link with this change.
    pub(in super::super) fn apply(&self, link: &Link) -> Link {
        Link {
            delay: self.delay.unwrap_or(link.delay),
            jitter: self.jitter.unwrap_or(link.jitter),
            loss: self.loss.unwrap_or(link.loss),
            duplicate: self.duplicate.unwrap_or(link.duplicate),
            reorder: self.reorder.unwrap_or(link.reorder),
            corrupt: self.corrupt.unwrap_or(link.corrupt),
            bandwidth: self.bandwidth.or(link.bandwidth),
            burst: self.burst.or(link.burst),
        }
    }
}
