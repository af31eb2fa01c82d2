//! Draws a plan from a seed: who is there, how links are, what goes wrong.

use core::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::network::{Burst, Link};
use crate::oracle;
use crate::plan::{
    Action, BeatPlan, ClockDrift, ClockJump, CrashAtWrite, CryptoChoice, DevicePlan, Flap,
    LinkChange, LoseState, Mode, Pair, Plan, PluginDown, PluginFault, PluginPlan, PluginUp,
    Restart, Rotate, RotateWord, SendOne, StatePlan, Step, True, Who, WritesPlan,
};
use crate::seed::Seed;

/// A plan drawn from a seed. It always passes [`Plan::check`].
#[must_use]
pub fn draw(seed: Seed) -> Plan {
    let rng = seed.stream("swarm", 0);
    let mut plan = Plan::new(2, Duration::from_secs(60));
    plan.name = "swarm".to_owned();
    plan.seed = Some(seed);
    Draw {
        seed,
        rng,
        plan,
        begin: Duration::ZERO,
        end: Duration::ZERO,
    }
    .all()
}

mod lasting;
mod late;
mod lengths;
mod segments;
mod spans;

struct Draw {
    seed: Seed,
    rng: ChaCha12Rng,
    plan: Plan,
    /// When faults may begin and must have begun.
    begin: Duration,
    end: Duration,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Draw {
    fn all(mut self) -> Plan {
        self.plan.nodes = match self.rng.random_range(0..100) {
            0..20 => 2,
            20..83 => self.rng.random_range(3..=6),
            83..99 => self.rng.random_range(7..=12),
            _ => 25,
        };
        self.plan.spread = ms(self.rng.random_range(0..3_000));
        let real = self.rng.random_range(0..16) == 0 && self.plan.nodes <= 12;
        self.plan.crypto = Some(if real {
            CryptoChoice::Real
        } else {
            CryptoChoice::Toy
        });
        self.begin = ms(self.rng.random_range(1_000..20_000));
        self.end = self.begin + ms(self.rng.random_range(15_000..45_000));
        let rest = oracle::members_max(self.plan.nodes) + ms(6_000);
        if self.rng.random_bool(0.5) {
            self.plan.mode = Mode::Liveness;
            self.plan.calm = Some(self.end);
            self.plan.duration = self.end + rest;
        } else {
            self.plan.duration = ms(self.rng.random_range(60_000..100_000)).max(self.end);
        }
        self.plan.link = self.link();
        self.plugins();
        self.devices();
        self.beats();
        for _ in 0..self.rng.random_range(0..12) {
            self.fault();
        }
        self.apart();
        self.plan.steps.sort_by_key(|step| step.at);
        self.plan
    }

    /// What has streams of its own, so that what else a seed decides does not depend on it.
    fn apart(&mut self) {
        self.rng = self.seed.stream("swarm state", 0);
        if self.chance(60) {
            self.state();
        }
        self.rng = self.seed.stream("swarm", 1);
        if self.chance(30) {
            self.rotations();
        }
        if self.chance(15) {
            self.preemption();
        }
        self.rng = self.seed.stream("swarm versions", 0);
        if self.chance(15) {
            for node in self.some() {
                self.device(node).later = true;
            }
        }
        self.rng = self.seed.stream("swarm spans", 0);
        self.spans();
        self.rng = self.seed.stream("swarm segments", 0);
        if self.plan.nodes > 2 && self.chance(15) {
            self.segments();
        }
        self.rng = self.seed.stream("swarm minutes", 0);
        if self.chance(8) {
            self.away_for_a_minute();
        }
        self.rng = self.seed.stream("swarm floods", 0);
        if self.chance(12) {
            self.floods_from_within();
        }
        self.late();
        self.rng = self.seed.stream("swarm lengths", 0);
        if self.chance(20) {
            self.lengths();
        }
        if self.chance(if self.plan.nodes > 9 { 50 } else { 8 }) {
            self.credit();
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn node(&mut self) -> usize {
        self.rng.random_range(0..self.plan.nodes)
    }

    /// One device, the leader, or a few.
    fn who(&mut self) -> Who {
        match self.rng.random_range(0..10) {
            0..6 => Who::Nodes(vec![self.node()]),
            6..8 => Who::Leader,
            8 => Who::Nodes(self.some()),
            _ => Who::All,
        }
    }

    /// Each device by chance.
    fn some(&mut self) -> Vec<usize> {
        let nodes = 0..self.plan.nodes;
        nodes.filter(|_| self.rng.random_bool(0.4)).collect()
    }

    fn link(&mut self) -> Link {
        let mut link = match self.rng.random_range(0..10) {
            0..5 => Link::lan(),
            5..8 => Link::wireless(),
            _ => Link {
                delay: ms(self.rng.random_range(1..60)),
                jitter: ms(self.rng.random_range(0..40)),
                ..Link::lan()
            },
        };
        if self.chance(30) {
            link.loss = f64::from(self.rng.random_range(0..30)) / 100.0;
        }
        if self.chance(10) {
            link.duplicate = f64::from(self.rng.random_range(0..20)) / 100.0;
        }
        if self.chance(10) {
            link.reorder = f64::from(self.rng.random_range(0..30)) / 100.0;
        }
        if self.chance(10) {
            link.corrupt = f64::from(self.rng.random_range(0..5)) / 100.0;
        }
        if self.chance(5) {
            link.bandwidth = Some(self.rng.random_range(20_000..500_000));
        }
        if self.chance(5) {
            link.burst = Some(Burst {
                gap: ms(self.rng.random_range(500..5_000)),
                length: ms(self.rng.random_range(10..500)),
                loss: 0.9,
            });
        }
        link
    }

    fn plugins(&mut self) {
        let count = match self.rng.random_range(0..10) {
            0..7 => 1,
            7..9 => 2,
            _ => 3,
        };
        let names = ["app", "lamp", "sound"];
        self.plan.plugins = names[..count]
            .iter()
            .map(|name| PluginPlan::new(name))
            .collect();
    }

    fn devices(&mut self) {
        for index in 0..self.plan.nodes {
            let mut device = DevicePlan::new(index);
            if self.chance(15) {
                device.wall_offset = Some(self.rng.random_range(-86_400_000_000..86_400_000_000));
            }
            if self.chance(20) {
                device.drift_ppm = self.rng.random_range(-500..=500);
            }
            if self.chance(2) {
                device.drift_ppm = self.rng.random_range(-20_000..=20_000);
            }
            if self.chance(15) {
                device.priority = Some(self.rng.random_range(-5..=5));
            }
            if self.chance(8) {
                device.starts = Some(ms(self.rng.random_range(0..30_000)));
            }
            if self.chance(1) {
                device.protocol = 2;
            }
            if self.chance(4) {
                let mut plugins = self.plan.plugins.clone();
                if self.rng.random_bool(0.5) {
                    plugins.pop();
                } else if let Some(first) = plugins.first_mut() {
                    first.version = "0.2.0".to_owned();
                }
                device.plugins = Some(plugins);
            }
            if device != DevicePlan::new(index) {
                self.plan.devices.push(device);
            }
        }
    }

    fn beats(&mut self) {
        for plugin in self.plan.plugins.clone() {
            if self.chance(60) {
                self.plan.beats.push(BeatPlan {
                    plugin: Some(plugin.id),
                    every: ms(self.rng.random_range(100..2_000)),
                    len: self.rng.random_range(16..=1_000),
                });
            }
        }
    }

    /// Replicated state: who writes how much, and what disks make of it.
    fn state(&mut self) {
        let mut persists = false;
        for index in 0..self.plan.plugins.len() {
            let persist = self.chance(40);
            persists |= persist;
            let short = self.chance(30);
            self.plan.plugins[index].state = Some(StatePlan {
                interval: short.then(|| ms(self.rng.random_range(50..1_000))),
                persist,
                ..StatePlan::default()
            });
            let mut writes = WritesPlan::new(ms(self.rng.random_range(30..1_500)));
            writes.plugin = Some(self.plan.plugins[index].id.clone());
            writes.keys = self.rng.random_range(1..=12);
            writes.len = self.rng.random_range(16..=600);
            writes.kinds.retain(|_| self.rng.random_range(0..5) > 0);
            if !writes.kinds.is_empty() {
                self.plan.writes.push(writes);
            }
        }
        if persists && self.chance(25) {
            let lose = LoseState {
                node: self.who(),
                damaged: self.rng.random_bool(0.5),
                boots: false,
                down: ms(self.rng.random_range(1..5_000)),
            };
            let at = self.at();
            self.push(at, Action::LoseState(lose));
        }
    }

    fn at(&mut self) -> Duration {
        let (begin, end) = (self.begin.as_millis() as u64, self.end.as_millis() as u64);
        ms(self.rng.random_range(begin..end))
    }

    fn push(&mut self, at: Duration, action: Action) {
        let at = at.min(self.plan.duration);
        self.plan.steps.push(Step { at, action });
    }

    /// Mostly undone after a while, within the time of faults.
    fn undo(&mut self, at: Duration, longest: u64, action: Action) {
        if self.chance(85) {
            let after = ms(self.rng.random_range(10..longest));
            self.push((at + after).min(self.end), action);
        }
    }

    fn fault(&mut self) {
        let at = self.at();
        match self.rng.random_range(0..100) {
            0..30 => self.process(at),
            30..60 => self.network(at),
            60..70 => self.plugin(at),
            70..80 => self.disk(at),
            80..86 => self.clock(at),
            86..96 => self.hostile(at),
            _ => {
                let who = self.who();
                self.push(at, Action::Readdress(who));
            }
        }
    }

    fn process(&mut self, at: Duration) {
        let who = self.who();
        match self.rng.random_range(0..6) {
            0 => {
                self.push(at, Action::Crash(who));
                self.undo(at, 20_000, Action::Start(Who::All));
            }
            1 => {
                let down = ms(self.rng.random_range(1..8_000));
                self.push(at, Action::Restart(Restart { node: who, down }));
            }
            2 => {
                self.push(at, Action::Stop(who));
                self.undo(at, 15_000, Action::Start(Who::All));
            }
            3 | 4 => {
                self.push(at, Action::Pause(who));
                self.undo(at, 12_000, Action::Resume(Who::All));
            }
            _ => {
                self.push(at, Action::Suspend(who));
                self.undo(at, 30_000, Action::Resume(Who::All));
            }
        }
    }

    fn network(&mut self, at: Duration) {
        match self.rng.random_range(0..6) {
            0 | 1 => {
                let mut sides = vec![self.some()];
                if self.chance(20) {
                    let rest = (0..self.plan.nodes).filter(|node| !sides[0].contains(node));
                    sides.push(rest.collect());
                }
                self.push(at, Action::Partition(sides));
                self.undo(at, 30_000, Action::Heal(True));
            }
            2 => {
                let pair = Pair {
                    from: self.who(),
                    to: self.who(),
                    both: self.rng.random_bool(0.5),
                };
                self.push(at, Action::Cut(pair.clone()));
                self.undo(at, 20_000, Action::Mend(pair));
            }
            3 => {
                let link = self.link();
                let single = self.rng.random_bool(0.5);
                let change = LinkChange {
                    from: single.then(|| self.who()),
                    to: None,
                    one_way: single && self.rng.random_bool(0.5),
                    delay: Some(link.delay),
                    jitter: Some(link.jitter),
                    loss: Some(link.loss),
                    duplicate: Some(link.duplicate),
                    reorder: Some(link.reorder),
                    corrupt: Some(link.corrupt),
                    bandwidth: link.bandwidth,
                    burst: link.burst,
                };
                let back = LinkChange {
                    from: change.from.clone(),
                    ..LinkChange::default()
                };
                self.push(at, Action::Link(change));
                self.undo(at, 20_000, Action::Link(back));
            }
            _ => {
                let flap = Flap {
                    node: self.who(),
                    to: self.rng.random_bool(0.5).then(|| self.who()),
                    down: ms(self.rng.random_range(50..3_000)),
                    up: ms(self.rng.random_range(50..5_000)),
                    lasting: ms(self.rng.random_range(1_000..20_000)),
                };
                self.push(at, Action::Flap(flap));
            }
        }
    }

    /// The first two steps of one or two rotations, so that the secret that all began with is
    /// still accepted at the end, unless each of several leaders takes them: what a device that
    /// missed a third step may do is in the scenarios of rotation.
    fn rotations(&mut self) {
        for _ in 0..self.rng.random_range(1..=2) {
            let node = self.who();
            let at = self.at();
            for step in [RotateWord::Install, RotateWord::Use] {
                let after = ms(self.rng.random_range(0..8_000));
                let rotate = Rotate {
                    node: node.clone(),
                    step,
                    force: self.chance(20),
                };
                let at = if step == RotateWord::Use {
                    at + after
                } else {
                    at
                };
                self.push(at.min(self.end), Action::Rotate(rotate));
            }
        }
    }

    /// Some have opted to take over, once they have been members for a minute without a change.
    fn preemption(&mut self) {
        for plugin in &mut self.plan.plugins {
            plugin.preempt = true;
        }
        let own = self.plan.devices.iter_mut();
        for plugin in own.filter_map(|device| device.plugins.as_mut()).flatten() {
            plugin.preempt = true;
        }
        for index in 0..self.plan.nodes {
            let priority = self.rng.random_range(-5..=5);
            self.device(index).priority = Some(priority);
        }
        self.plan.duration += ms(70_000);
    }

    /// What one device has of its own.
    fn device(&mut self, index: usize) -> &mut DevicePlan {
        let devices = &mut self.plan.devices;
        let known = devices.iter().position(|device| device.index == index);
        let place = known.unwrap_or_else(|| {
            devices.push(DevicePlan::new(index));
            devices.len() - 1
        });
        &mut devices[place]
    }

    fn plugin(&mut self, at: Duration) {
        let index = self.rng.random_range(0..self.plan.plugins.len());
        let plugin = Some(self.plan.plugins[index].id.clone());
        let node = self.who();
        match self.rng.random_range(0..4) {
            0 | 1 => {
                let back = self.chance(90).then(|| ms(self.rng.random_range(1..1_000)));
                self.push(at, Action::PluginFault(PluginFault { node, plugin, back }));
            }
            2 => {
                let up = PluginUp {
                    node: node.clone(),
                    plugin: plugin.clone(),
                    version: None,
                    priority: None,
                };
                self.push(at, Action::PluginDown(PluginDown { node, plugin }));
                self.undo(at, 10_000, Action::PluginUp(up));
            }
            _ => {
                let to = match self.rng.random_range(0..3) {
                    0 => None,
                    1 => Some(Who::Leader),
                    _ => Some(Who::All),
                };
                let len = self.rng.random_range(16..1_000);
                let send = SendOne {
                    from: node,
                    to,
                    plugin,
                    len,
                };
                self.push(at, Action::Send(send));
            }
        }
    }

    fn disk(&mut self, at: Duration) {
        let node = self.who();
        if self.rng.random_bool(0.4) {
            self.push(at, Action::DiskFull(node));
            return self.undo(at, 20_000, Action::DiskFree(Who::All));
        }
        let crash = CrashAtWrite {
            node,
            write: self.rng.random_range(1..4),
            torn: self.rng.random_bool(0.5),
            down: self.chance(85).then(|| ms(self.rng.random_range(1..5_000))),
        };
        self.push(at, Action::CrashAtWrite(crash));
    }

    fn clock(&mut self, at: Duration) {
        let node = self.who();
        let action = if self.rng.random_bool(0.5) {
            let by = self.rng.random_range(-86_400_000_000..86_400_000_000);
            Action::ClockJump(ClockJump { node, by })
        } else {
            let ppm = self.rng.random_range(-500..=500);
            Action::ClockDrift(ClockDrift { node, ppm })
        };
        self.push(at, action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_can_be_run_and_survives_its_text() {
        for number in 0..500 {
            let plan = draw(Seed(number));
            assert_eq!(plan.check(), Ok(()), "{number}");
            assert_eq!(Plan::from_toml(&plan.to_toml()), Ok(plan), "{number}");
        }
    }

    #[test]
    fn the_kinds_of_faults_and_both_modes_come_up() {
        let plans: Vec<Plan> = (0..500).map(|number| draw(Seed(number))).collect();
        let text: String = plans.iter().map(Plan::to_toml).collect();
        for word in [
            "crash",
            "restart",
            "stop",
            "start",
            "pause",
            "suspend",
            "resume",
            "partition",
            "heal",
            "cut",
            "mend",
            "link",
            "flap",
            "disk_full",
            "disk_free",
            "crash_at_write",
            "lose_state",
            "persist = true",
            "[[writes]]",
            "clock_jump",
            "clock_drift",
            "clone",
            "stranger",
            "flood",
            "replay",
            "plugin_fault",
            "plugin_down",
            "plugin_up",
            "send",
            "readdress",
            "step = \"install\"",
            "step = \"use\"",
            "preempt = true",
            "liveness",
            "safety",
            "torn = true",
            "one_way = true",
            "both = false",
            "bandwidth",
            "burst",
            "protocol = 2",
            "later = true",
            "segment = 2",
            "seeds = [",
            "names = [",
            "kind = \"copies\"",
            "kind = \"insider\"",
            "[send_rate]",
        ] {
            assert!(text.contains(word), "{word} never comes up");
        }
        let long = |len: usize| len > 30_000;
        assert!(
            plans
                .iter()
                .any(|plan| plan.beats.iter().any(|beat| long(beat.len)))
        );
        let steps = || plans.iter().flat_map(|plan| &plan.steps);
        assert!(steps().any(|step| matches!(&step.action, Action::Send(send) if long(send.len))));
    }
}
