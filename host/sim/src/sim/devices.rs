//! Faults of devices and of who they are: sleep, clocks, disks, copies, strangers, addresses.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use consort_proto::{Address, Caller, Command};
use rand::RngExt;

use super::faults::EPOCH;
use super::{Happening, Sim};
use crate::device::{Backlog, Input};
use crate::disk::Fuse;
use crate::timeline::{FaultKind, LaneState};

impl Sim {
    /// Suspends a whole device: its process stands still and what arrives is lost. Its monotonic
    /// clock goes on, as one that counts suspension does. [`Sim::resume`] ends it.
    pub fn suspend(&mut self, node: usize) {
        self.note(&format!("n{node} is suspended"));
        self.stand_still(node);
        if let Some(running) = &mut self.devices[node].running {
            running.backlog.get_or_insert_with(Backlog::default).asleep = true;
            self.recorder
                .state(self.now, node, Some(LaneState::Suspended));
            self.oracle.touch(self.now, node);
        }
    }

    /// Sets a device's wall clock forward, or back, by so many microseconds, and tells its node.
    pub fn jump_clock(&mut self, node: usize, by: i64) {
        self.note(&format!("n{node}'s wall clock jumps by {by} µs"));
        let device = &mut self.devices[node];
        device.config.wall_offset = device.config.wall_offset.saturating_add(by);
        let wall = self.wall(node);
        self.recorder
            .mark(self.now, FaultKind::Clock, "clock jump", &[node]);
        self.input(node, Input::Command(Command::WallClock(wall)));
    }

    /// Lets a device's clocks go faster than true time from here on, by parts per million.
    pub fn set_drift(&mut self, node: usize, ppm: i32) {
        self.note(&format!("n{node}'s clocks drift by {ppm} ppm"));
        let now = self.now;
        let device = &mut self.devices[node];
        device.config.drift_ppm = ppm;
        device.paced = now;
        if let Some(running) = &mut device.running {
            running.clock.set_drift(now, ppm);
            // What was planned for the old rate may come too late.
            running.wake_at = None;
        }
        self.recorder
            .mark(now, FaultKind::Clock, "clock drift", &[node]);
        self.plan_wake(node);
    }

    /// The wall clock of a device that starts now or whose clock was set.
    pub(super) fn wall(&self, node: usize) -> u64 {
        let truth = EPOCH.saturating_add(self.now.as_micros());
        truth.saturating_add_signed(self.devices[node].config.wall_offset)
    }

    /// Crashes a device in the middle of the `writes`-th write from here on, `torn` or not, and
    /// starts it again after `down`.
    pub fn crash_at_write(&mut self, node: usize, writes: u32, torn: bool, down: Option<Duration>) {
        self.note(&format!(
            "n{node} will crash at its write {writes}, torn: {torn}"
        ));
        self.devices[node].disk.fuse = Some(Fuse { writes, torn, down });
    }

    /// The power goes in the middle of a write.
    pub(super) fn blow(&mut self, node: usize, fuse: Fuse) {
        let now = self.now;
        if fuse.torn {
            let rng = &mut self.rng;
            self.devices[node].disk.tear(now, || rng.random_bool(0.5));
        }
        self.crash(node);
        if let Some(down) = fuse.down {
            self.queue.push(now + down, Happening::Start { node });
        }
    }

    /// Starts a second device with the key, the disk and the settings of another, as they are.
    /// Its number.
    ///
    /// # Panics
    /// There is no such device.
    pub fn clone_device(&mut self, node: usize) -> usize {
        let original = &self.devices[node];
        let mut config = original.config.clone();
        config.name = format!("{}'", config.name);
        config.clone_of = Some(node);
        let (disk, id) = (original.disk.copy(), original.id);
        let plugins: Vec<_> = original.installed.values().cloned().collect();
        let copy = self.add_as(config, &plugins, disk, id);
        self.oracle.doubt(node);
        self.oracle.doubt(copy);
        self.ledger.doubt(id);
        self.note(&format!("n{copy} is a copy of n{node}"));
        let label = format!("copy of n{node}");
        self.recorder
            .mark(self.now, FaultKind::Hostile, &label, &[node, copy]);
        self.start(copy);
        copy
    }

    /// Starts a device that runs the same plugins as device 0 under another group's secret. Its
    /// number.
    pub fn add_stranger(&mut self) -> usize {
        let node = self.devices.len();
        let secret = super::build::secret(self.seed, node as u64);
        let mut config = self.devices[0].config.clone();
        config.name = format!("s{node}");
        config.group = Some(secret);
        config.wall_offset = 0;
        let plugins: Vec<_> = self.devices[0].installed.values().cloned().collect();
        let node = self.add(config, &plugins);
        self.note(&format!("n{node} is a stranger"));
        self.recorder
            .mark(self.now, FaultKind::Hostile, "stranger", &[node]);
        self.start(node);
        node
    }

    /// Somebody who holds the secret that the group began with, and is none of its devices.
    ///
    /// # Panics
    /// Never: one key of eight is acceptable.
    #[must_use]
    pub fn insider(&self) -> Caller {
        let secret = super::build::secret(self.seed, 0);
        (0..8)
            .find_map(|attempt| {
                let seed = self.seed.bytes("insider", attempt);
                Caller::new(&secret, self.crypto.clone(), seed)
            })
            .expect("one key of eight is acceptable")
    }

    /// Gives a device another address, as another lease of its network does, and tells its node
    /// that the network changed.
    pub fn readdress(&mut self, node: usize) {
        let Address::Udp(old) = self.devices[node].address;
        let lease = match old.ip() {
            IpAddr::V4(ip) => ip.octets()[1].wrapping_add(1).max(1),
            IpAddr::V6(_) => 1,
        };
        let host = u16::try_from(node + 1).expect("fewer than 65,535 devices");
        let [high, low] = host.to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(10, lease, high, low));
        let address = Address::Udp(SocketAddr::new(ip, old.port()));
        self.note(&format!("n{node} moves to {address}"));
        self.by_address.remove(&self.devices[node].address);
        self.by_address.insert(address, node);
        self.devices[node].address = address;
        self.recorder
            .mark(self.now, FaultKind::Network, "new address", &[node]);
        self.oracle.touch(self.now, node);
        self.network_changed(node);
        for other in 0..self.devices.len() {
            if self.devices[other].config.names.contains(&node) {
                self.tell_names(other);
            }
        }
    }

    /// Tells a node what the names among its seeds stand for.
    pub(super) fn tell_names(&mut self, node: usize) {
        let names = &self.devices[node].config.names;
        if !names.is_empty() {
            let addresses = names.iter().map(|name| self.devices[*name].address);
            let addresses = addresses.collect();
            self.input(node, Input::Command(Command::Seeds(addresses)));
        }
    }

    /// Cuts a device off the network, or brings it back.
    pub fn set_unplugged(&mut self, node: usize, down: bool) {
        self.note(&format!("n{node} off the network: {down}"));
        self.network.set_unplugged(node, down);
        self.oracle.links_changed(self.now);
    }

    /// A flapping link goes down or up, in one direction.
    pub fn set_flapped(&mut self, from: usize, to: usize, down: bool) {
        self.note(&format!("n{from} -> n{to} down: {down}"));
        self.network.set_flapped(from, to, down);
        self.oracle.links_changed(self.now);
    }
}
