//! Devices that belong together, in one temporary folder.

use std::net::UdpSocket;
use std::path::Path;

use tempfile::TempDir;

use crate::device::Device;
use crate::leadership::{Role, agreed_leader, roles};
use crate::network::Switch;
use crate::{programs, wait};

/// Some devices. Fields are dropped in order: daemons before their folder.
#[derive(Debug)]
pub struct Group {
    /// The devices.
    pub devices: Vec<Device>,
    folder: TempDir,
}

impl Group {
    /// Devices on this machine's loopback that have each other's addresses as seeds, one secret
    /// and no plugin. `more` is added to the settings of each.
    #[must_use]
    pub fn on_loopback(count: usize, more: &str) -> Self {
        let ports = free_ports(count);
        let mut group = Self::empty();
        for (index, port) in ports.iter().enumerate() {
            let seeds = ports
                .iter()
                .filter(|other| *other != port)
                .map(|seed| localhost(*seed));
            let settings = loopback(*port, seeds) + more;
            group.add(&format!("device-{}", index + 1), None, &settings);
        }
        group.share_secret();
        group
    }

    /// One device in each namespace behind a switch, with one secret and no address of another.
    #[must_use]
    pub fn behind(switch: &Switch) -> Self {
        let mut group = Self::empty();
        for (index, namespace) in switch.namespaces().iter().enumerate() {
            group.add(&format!("device-{}", index + 1), Some(namespace), "");
        }
        group.share_secret();
        group
    }

    /// No device yet.
    #[must_use]
    pub fn empty() -> Self {
        // Short, so that a control socket's path fits.
        let folder = tempfile::Builder::new()
            .prefix("cst-")
            .tempdir()
            .expect("a folder");
        Self {
            devices: Vec::new(),
            folder,
        }
    }

    /// Adds a device.
    pub fn add(&mut self, name: &str, namespace: Option<&str>, settings: &str) -> &mut Device {
        self.devices
            .push(Device::new(self.folder.path(), name, namespace, settings));
        self.devices.last_mut().expect("one was added")
    }

    /// Where everything lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first device makes a group, the others join it, by the commands that people use.
    pub fn share_secret(&self) {
        let Some((first, others)) = self.devices.split_first() else {
            return;
        };
        first.run_with(&["group", "new"], "");
        let secret = first.run_with(&["group", "export"], "");
        for other in others {
            other.run_with(&["group", "join"], &secret);
        }
    }

    /// Copies a plugin into every device's plugins folder.
    pub fn install(&self, from: &Path, file: &str) {
        for device in &self.devices {
            device.install(from, file);
        }
    }

    /// Copies the plugin `heartbeat` into every device's plugins folder.
    pub fn install_heartbeat(&self) {
        self.install(programs::heartbeat(), "heartbeat.wasm");
    }

    /// Copies a plugin of `plugins/` into every device's plugins folder.
    pub fn install_plugin(&self, name: &str) {
        self.install(&programs::plugin(name), &format!("{name}.wasm"));
    }

    /// Starts every daemon and waits until all run.
    #[track_caller]
    pub fn start(&mut self) {
        for device in &mut self.devices {
            device.spawn();
        }
        for device in &mut self.devices {
            device.wait_running();
        }
    }

    /// How far each device's log has come: the places from which later lines are new.
    #[must_use]
    pub fn marks(&self) -> Vec<usize> {
        let devices = self.devices.iter();
        devices.map(|device| device.log().mark()).collect()
    }

    /// What was said of roles at one of these devices since the marks, if anything was.
    #[must_use]
    pub fn role_change(&self, among: &[usize], marks: &[usize]) -> Option<(String, Vec<Role>)> {
        among.iter().find_map(|place| {
            let device = &self.devices[*place];
            let changes = roles(device.log(), marks[*place]);
            (!changes.is_empty()).then(|| (device.name().to_owned(), changes))
        })
    }

    /// Waits until these devices follow one of them, and gives its place in the group.
    ///
    /// # Panics
    /// They do not.
    #[track_caller]
    pub fn wait_one_leader(&self, among: &[usize]) -> usize {
        let devices: Vec<&Device> = among.iter().map(|index| &self.devices[*index]).collect();
        among[wait::until("one leader", || agreed_leader(&devices))]
    }

    /// Waits until each of these devices counts all others among them as members.
    ///
    /// # Panics
    /// One does not.
    #[track_caller]
    pub fn wait_members(&self, among: &[usize]) {
        for index in among {
            let device = &self.devices[*index];
            let what = format!("{} counts {} members", device.name(), among.len() - 1);
            wait::until(&what, || {
                (device.members() == among.len() - 1).then_some(())
            });
        }
    }

    /// Waits until these devices are one group that has come to rest: one leader, all members, one
    /// clock. Gives the leader's place.
    ///
    /// # Panics
    /// They do not become one.
    #[track_caller]
    pub fn wait_settled(&self, among: &[usize]) -> usize {
        self.wait_members(among);
        for index in among {
            let device = &self.devices[*index];
            let what = format!("{} has the group's time", device.name());
            wait::until(&what, || device.has_group_time().then_some(()));
        }
        self.wait_one_leader(among)
    }

    /// The places of all devices but some.
    #[must_use]
    pub fn all_but(&self, out: &[usize]) -> Vec<usize> {
        (0..self.devices.len())
            .filter(|index| !out.contains(index))
            .collect()
    }
}

/// Settings of a device on the loopback.
#[must_use]
pub fn loopback(port: u16, seeds: impl Iterator<Item = String>) -> String {
    let seeds: Vec<String> = seeds.map(|seed| format!("\"{seed}\"")).collect();
    format!(
        "[network]\nlisten = [\"127.0.0.1\"]\nport = {port}\nmulticast = false\nseeds = [{}]\n",
        seeds.join(", ")
    )
}

/// An address on the loopback.
#[must_use]
pub fn localhost(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// UDP ports that were free a moment ago, all different.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    let bind = || UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let sockets: Vec<UdpSocket> = (0..count).map(|_| bind()).collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().expect("it is bound").port())
        .collect()
}
