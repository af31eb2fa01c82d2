//! What goes wrong: links, partitions, crashes, stops, disks.

use core::time::Duration;

use consort_proto::{Access, Command, PluginSpec, StoreRecord, Time};
use rand::RngExt;

use super::Sim;
use super::drive::SYNC_MAX;
use crate::app::AppState;
use crate::checker::Observation;
use crate::device::{Backlog, Input};
use crate::network::Link;
use crate::timeline::{FaultKind, LaneState};

/// True time at the start of a run, in microseconds since the Unix epoch.
pub(super) const EPOCH: u64 = 1_790_000_000_000_000;
/// How long a device may take to stop in order.
const LEAVE_MAX: Duration = Duration::from_secs(2);

impl Sim {
    /// Puts a ceiling of epochs on a device's disk, as if it had been written in an earlier run.
    pub fn set_epoch_ceiling(&mut self, node: usize, plugin: &PluginSpec, ceiling: u64) {
        let group = plugin.group();
        let record = StoreRecord::EpochCeiling { group, ceiling };
        let disk = &mut self.devices[node].disk;
        disk.begin(self.now);
        disk.write(self.now, record);
        disk.settle(self.now);
    }

    /// Starts a device, the first time or again. Its installed plugins come up at once.
    ///
    /// # Panics
    /// The device runs already, or its node refuses its key.
    pub fn start(&mut self, node: usize) {
        let device = &mut self.devices[node];
        assert!(!device.is_up(), "n{node} runs already");
        let index = node as u64 | u64::from(device.life) << 32;
        let origin = Duration::from_micros(self.rng.random_range(0..3_600_000_000));
        let wall = self.wall(node);
        let seed = self.seed.bytes("node", index);
        let crypto = self.crypto.clone();
        let device = &mut self.devices[node];
        let booted = self
            .log
            .during(|| device.boot(self.now, wall, origin, seed, crypto));
        let specs: Vec<_> = device.installed.values().cloned().collect();
        if let Err(error) = booted {
            self.fail(&format!("n{node} does not start: {error}"));
        }
        self.note(&format!("n{node} starts"));
        self.changes += 1;
        self.recorder.state(self.now, node, Some(LaneState::Up));
        self.oracle.touch(self.now, node);
        if core::mem::take(&mut self.devices[node].disk.failed) {
            self.observe(node, &Observation::WritesLost);
        }
        self.observe(node, &Observation::Started);
        self.tell_names(node);
        self.input(node, Input::Timeout);
        for spec in specs {
            if self.is_hosted(&spec.id) {
                self.enter(node, spec);
            } else {
                self.plugin_up(node, spec);
            }
        }
        self.resume_writes(node);
    }

    /// Kills a device: nothing is said, what was not on the disk is lost.
    pub fn crash(&mut self, node: usize) {
        let now = self.now;
        self.secure_writes();
        self.recorder
            .mark(now, FaultKind::Process, "crash", &[node]);
        if self.devices[node].disk.crash(now) {
            self.observe(node, &Observation::WritesLost);
        }
        // Writes under way belong to a life that is over and are lost.
        self.devices[node].life += 1;
        self.stop(node, "crashes");
    }

    /// Kills a device if it runs.
    pub(crate) fn kill(&mut self, node: usize) {
        if self.is_up(node) {
            self.crash(node);
        }
    }

    /// Crashes a device and starts it again after `down`.
    pub fn restart(&mut self, node: usize, down: Duration) {
        self.crash(node);
        self.run_for(down);
        self.start(node);
    }

    /// Stops a device in order: it says goodbye, at most for two seconds. Returns at once; the
    /// device is down when [`Sim::is_up`] says so.
    pub fn leave(&mut self, node: usize) {
        self.note(&format!("n{node} is told to leave"));
        self.secure_writes();
        self.dismiss(node, false);
        if let Some(running) = &mut self.devices[node].running {
            running.leaving = true;
            self.oracle.touch(self.now, node);
        }
        self.input(node, Input::Command(Command::Leave));
    }

    /// Stops a device in order and waits until it is down.
    ///
    /// # Panics
    /// It takes longer than two seconds.
    pub fn leave_and_wait(&mut self, node: usize) -> Duration {
        self.leave(node);
        self.expect_within(LEAVE_MAX, "a device told to leave is down", |sim| {
            !sim.is_up(node)
        })
    }

    /// Ends the process of a device.
    pub(super) fn stop(&mut self, node: usize, why: &str) {
        self.note(&format!("n{node} {why}"));
        self.keep_writes(node);
        self.changes += 1;
        self.recorder.state(self.now, node, None);
        self.oracle.touch(self.now, node);
        self.lose_actor(node);
        let stopped = self.group_time(node).map(|(time, _)| (self.now, time));
        let device = &mut self.devices[node];
        device.stopped = stopped.or(device.stopped);
        device.running = None;
        device.disk.settle(Time::MAX);
        device.members.clear();
        device.clock = None;
        for app in device.apps.values_mut() {
            app.state = AppState::Down;
            app.forget(0);
        }
    }

    /// Stops a device's process as SIGSTOP does.
    pub fn pause(&mut self, node: usize) {
        self.note(&format!("n{node} is paused"));
        self.stand_still(node);
        if let Some(running) = &mut self.devices[node].running {
            running.backlog.get_or_insert_with(Backlog::default);
            self.recorder.state(self.now, node, Some(LaneState::Paused));
            self.oracle.touch(self.now, node);
        }
    }

    /// Lets a paused process go on. Chance decides whether its driver looks at its clock or at its
    /// socket first.
    pub fn resume(&mut self, node: usize) {
        self.note(&format!("n{node} goes on"));
        let clock_first = self.rng.random_bool(0.5);
        let Some(running) = &mut self.devices[node].running else {
            return;
        };
        let backlog = running.backlog.take().unwrap_or_default();
        self.devices[node].stood.1 = self.now;
        self.recorder.state(self.now, node, Some(LaneState::Up));
        self.oracle.touch(self.now, node);
        let Backlog {
            datagrams, others, ..
        } = backlog;
        if clock_first {
            self.input(node, Input::Timeout);
        }
        for input in datagrams.into_iter().chain(others) {
            self.input(node, input);
        }
        self.input(node, Input::Timeout);
        self.plan_turn(node);
    }

    /// Whether a device runs; a paused one does.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.devices[node].is_up()
    }

    /// Whether a device's process is stopped for the time being.
    #[must_use]
    pub fn is_paused(&self, node: usize) -> bool {
        self.devices[node].is_paused()
    }

    /// Separates devices into sides that do not reach each other. Those not named share one side.
    pub fn partition(&mut self, sides: &[&[usize]]) {
        let label = format!("partition {sides:?}");
        self.note(&label);
        self.recorder.ends(self.now, FaultKind::Partition, None);
        self.recorder
            .begins(self.now, FaultKind::Partition, &label, &[]);
        self.oracle.links_changed(self.now);
        self.network.partition(sides);
    }

    /// Ends the partition and all cuts.
    pub fn heal(&mut self) {
        self.note("the network is whole again");
        for kind in [FaultKind::Partition, FaultKind::Cut, FaultKind::Flap] {
            self.recorder.ends(self.now, kind, None);
        }
        self.oracle.links_changed(self.now);
        self.network.heal();
    }

    /// Cuts one direction.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        let label = format!("n{from} -> n{to} is cut");
        self.note(&label);
        self.recorder
            .begins(self.now, FaultKind::Cut, &label, &[from, to]);
        self.oracle.links_changed(self.now);
        self.network.cut(from, to);
    }

    /// Cuts both directions.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Mends one direction.
    pub fn mend_one_way(&mut self, from: usize, to: usize) {
        self.note(&format!("n{from} -> n{to} is mended"));
        self.recorder
            .ends(self.now, FaultKind::Cut, Some(&[from, to]));
        self.oracle.links_changed(self.now);
        self.network.mend(from, to);
    }

    /// Mends both directions.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.mend_one_way(a, b);
        self.mend_one_way(b, a);
    }

    /// Changes every link that has no settings of its own.
    pub fn set_links(&mut self, link: Link) {
        self.note(&format!("links become {link:?}"));
        self.recorder.ends(self.now, FaultKind::Link, Some(&[]));
        self.recorder
            .begins(self.now, FaultKind::Link, &describe(&link), &[]);
        self.oracle.links_changed(self.now);
        self.network.set_usual(link);
    }

    /// Changes one direction of one pair.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.note(&format!("n{from} -> n{to} becomes {link:?}"));
        self.recorder
            .ends(self.now, FaultKind::Link, Some(&[from, to]));
        self.recorder
            .begins(self.now, FaultKind::Link, &describe(&link), &[from, to]);
        self.oracle.links_changed(self.now);
        self.network.set_link(from, to, link);
    }

    /// Puts what is on one device's disk, except its key, onto another's, as copying a memory card
    /// does. The other one must be down.
    pub fn copy_disk(&mut self, from: usize, to: usize) {
        self.note(&format!("the disk of n{from} is copied to n{to}"));
        self.ledger.doubt(self.devices[to].id);
        let image = self.devices[from].disk.clone();
        self.devices[to].disk.restore(image);
    }

    /// Sets the boot counter on a device's disk, as restoring an old image of it does.
    pub fn set_boot_counter(&mut self, node: usize, boots: u64) {
        self.note(&format!("n{node} is to have been started {boots} times"));
        self.ledger.doubt(self.devices[node].id);
        self.devices[node].disk.set_boot_counter(boots);
    }

    /// Every link behaves like this from here on, also those that had settings of their own.
    pub fn level_links(&mut self, link: Link) {
        self.network.forget_special();
        self.set_links(link);
        self.recorder.ends(self.now, FaultKind::Link, None);
    }

    /// Lets every write of a device fail, or succeed again.
    pub fn set_disk_full(&mut self, node: usize, full: bool) {
        self.note(&format!("n{node} disk full: {full}"));
        self.devices[node].disk.full = full;
        self.recorder.ends(self.now, FaultKind::Disk, Some(&[node]));
        if full {
            self.recorder
                .begins(self.now, FaultKind::Disk, "disk full", &[node]);
        }
    }

    /// How long a device's disk takes for a write that is to be safe from a crash, from here on: at
    /// most `most`, at least half of that.
    ///
    /// # Panics
    /// It is so slow that nodes do not promise anything.
    pub fn set_disk_speed(&mut self, node: usize, most: Duration) {
        assert!(most <= SYNC_MAX, "{most:?} for a write");
        self.note(&format!("n{node}'s disk takes up to {most:?} for a write"));
        self.devices[node].disk.sync_takes = most / 2;
    }

    /// A device admits others from here on, also after restarts.
    pub fn set_access(&mut self, node: usize, access: Access) {
        self.note(&format!("n{node} admits others: {access:?}"));
        self.devices[node].config.access = access.clone();
        self.oracle.links_changed(self.now);
        self.input(node, Input::Command(Command::Access(access)));
    }

    /// The network of a device changed.
    pub fn network_changed(&mut self, node: usize) {
        self.input(node, Input::Command(Command::NetworkChanged));
    }
}

/// A link in a few words: what differs from a quiet one.
fn describe(link: &Link) -> String {
    let quiet = Link::lan();
    let mut words = Vec::new();
    if (link.delay, link.jitter) != (quiet.delay, quiet.jitter) {
        words.push(format!("delay {:?} + {:?}", link.delay, link.jitter));
    }
    for (name, chance) in [
        ("loss", link.loss),
        ("duplicate", link.duplicate),
        ("reorder", link.reorder),
        ("corrupt", link.corrupt),
    ] {
        if chance > 0.0 {
            words.push(format!("{name} {:.0} %", chance * 100.0));
        }
    }
    if let Some(rate) = link.bandwidth {
        words.push(format!("{rate} B/s"));
    }
    if link.burst.is_some() {
        words.push("bursts".to_owned());
    }
    if words.is_empty() {
        words.push("quiet links".to_owned());
    }
    words.join(", ")
}
