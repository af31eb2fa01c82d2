//! What goes wrong: links, partitions, crashes, stops, disks.

use core::time::Duration;

use consort_proto::{Command, Time};
use rand::RngExt;

use super::Sim;
use crate::app::{AppState, View};
use crate::checker::Observation;
use crate::device::{Backlog, Input};
use crate::network::Link;

/// True time at the start of a run, in microseconds since the Unix epoch.
const EPOCH: u64 = 1_790_000_000_000_000;
/// How long a device may take to stop in order.
const LEAVE_MAX: Duration = Duration::from_secs(2);

impl Sim {
    /// Starts a device, the first time or again. Its installed plugins come up at once.
    ///
    /// # Panics
    /// The device runs already, or its node refuses its key.
    pub fn start(&mut self, node: usize) {
        let device = &mut self.devices[node];
        assert!(!device.is_up(), "n{node} runs already");
        let index = node as u64 | u64::from(device.life) << 32;
        let origin = Duration::from_micros(self.rng.random_range(0..3_600_000_000));
        let wall = EPOCH.saturating_add(self.now.as_micros());
        let wall = wall.saturating_add_signed(device.config.wall_offset);
        let seed = self.seed.bytes("node", index);
        let crypto = self.crypto.clone();
        let booted = self
            .log
            .during(|| device.boot(self.now, wall, origin, seed, crypto));
        let specs: Vec<_> = device.installed.values().cloned().collect();
        if let Err(error) = booted {
            self.fail(&format!("n{node} does not start: {error}"));
        }
        self.note(&format!("n{node} starts"));
        self.changes += 1;
        self.observe(node, &Observation::Started);
        self.input(node, Input::Timeout);
        for spec in specs {
            self.plugin_up(node, spec);
        }
    }

    /// Kills a device: nothing is said, what was not on the disk is lost.
    pub fn crash(&mut self, node: usize) {
        let now = self.now;
        if self.devices[node].disk.crash(now) {
            self.observe(node, &Observation::WritesLost);
        }
        // Writes under way belong to a life that is over and are lost.
        self.devices[node].life += 1;
        self.stop(node, "crashes");
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
        if let Some(running) = &mut self.devices[node].running {
            running.leaving = true;
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
        self.changes += 1;
        let device = &mut self.devices[node];
        device.running = None;
        device.disk.settle(Time::MAX);
        device.members.clear();
        device.clock = None;
        for app in device.apps.values_mut() {
            app.state = AppState::Down;
            app.view = View::default();
        }
    }

    /// Stops a device's process as SIGSTOP does.
    pub fn pause(&mut self, node: usize) {
        self.note(&format!("n{node} is paused"));
        if let Some(running) = &mut self.devices[node].running {
            running.backlog.get_or_insert_with(Backlog::default);
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
        let Backlog { datagrams, others } = running.backlog.take().unwrap_or_default();
        if clock_first {
            self.input(node, Input::Timeout);
        }
        for input in datagrams.into_iter().chain(others) {
            self.input(node, input);
        }
        self.input(node, Input::Timeout);
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
        self.note(&format!("partition {sides:?}"));
        self.network.partition(sides);
    }

    /// Ends the partition and all cuts.
    pub fn heal(&mut self) {
        self.note("the network is whole again");
        self.network.heal();
    }

    /// Cuts one direction.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.note(&format!("n{from} -> n{to} is cut"));
        self.network.cut(from, to);
    }

    /// Cuts both directions.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Mends both directions.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.note(&format!("n{a} <-> n{b} is mended"));
        self.network.mend(a, b);
        self.network.mend(b, a);
    }

    /// Changes every link that has no settings of its own.
    pub fn set_links(&mut self, link: Link) {
        self.note(&format!("links become {link:?}"));
        self.network.set_usual(link);
    }

    /// Changes one direction of one pair.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.note(&format!("n{from} -> n{to} becomes {link:?}"));
        self.network.set_link(from, to, link);
    }

    /// Puts what is on one device's disk, except its key, onto another's, as copying a memory card
    /// does. The other one must be down.
    pub fn copy_disk(&mut self, from: usize, to: usize) {
        self.note(&format!("the disk of n{from} is copied to n{to}"));
        let image = self.devices[from].disk.clone();
        self.devices[to].disk.restore(image);
    }

    /// Sets the boot counter on a device's disk, as restoring an old image of it does.
    pub fn set_boot_counter(&mut self, node: usize, boots: u64) {
        self.note(&format!("n{node} is to have been started {boots} times"));
        self.devices[node].disk.set_boot_counter(boots);
    }

    /// Lets every write of a device fail, or succeed again.
    pub fn set_disk_full(&mut self, node: usize, full: bool) {
        self.note(&format!("n{node} disk full: {full}"));
        self.devices[node].disk.full = full;
    }

    /// The network of a device changed.
    pub fn network_changed(&mut self, node: usize) {
        self.input(node, Input::Command(Command::NetworkChanged));
    }
}
