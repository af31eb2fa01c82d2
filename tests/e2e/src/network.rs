//! A network of its own: namespaces whose only way to each other is a bridge.
//!
//! The bridge lies in a namespace too, so nothing of the machine's own network, its firewall
//! included, plays a part. A namespace that is cut off keeps its interface and its carrier: nothing
//! tells its device, packets just go nowhere, as behind a switch that broke.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A bridge with namespaces; all are removed when it is dropped.
#[derive(Debug)]
pub struct Switch {
    /// Where the bridge is.
    hub: String,
    namespaces: Vec<String>,
}

/// Which addresses the interfaces get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4, and the link-local IPv6 address that every interface has.
    Both,
    /// IPv4 alone.
    Ipv4,
    /// The link-local IPv6 address alone.
    Ipv6LinkLocal,
    /// There is no interface but the loopback, until [`Switch::plug`] adds one.
    NoInterface,
}

const BRIDGE: &str = "bridge";
/// The interface that a namespace has from the start.
const FIRST: &str = "eth0";

impl Switch {
    /// Makes `count` namespaces with an interface `eth0` each. None if that is not possible here,
    /// which it says in one line.
    ///
    /// # Panics
    /// The system allows it and then fails.
    #[must_use]
    pub fn new(count: usize, addresses: Addresses) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("consort-{}-{number}", std::process::id());
        if let Some(why) = why_not(&prefix) {
            eprintln!("skipped: {why}");
            return None;
        }
        let mut switch = Self {
            hub: format!("{prefix}-hub"),
            namespaces: Vec::new(),
        };
        ip(&["netns", "add", &switch.hub]);
        let bridge = [
            "link",
            "add",
            BRIDGE,
            "type",
            "bridge",
            "forward_delay",
            "0",
        ];
        switch.in_hub(&[bridge.as_slice(), &["mcast_snooping", "0"]].concat());
        switch.in_hub(&["link", "set", BRIDGE, "up"]);
        for index in 0..count {
            switch.add(&format!("{prefix}-{index}"), index, addresses);
        }
        Some(switch)
    }

    /// The namespaces in order.
    #[must_use]
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces
    }

    /// Nothing passes to or from this namespace any more.
    pub fn cut(&self, index: usize) {
        self.in_hub(&["link", "set", &port(index), "nomaster"]);
    }

    /// Undoes [`Switch::cut`].
    pub fn heal(&self, index: usize) {
        self.in_hub(&["link", "set", &port(index), "master", BRIDGE]);
    }

    /// Connects a namespace by one more interface, which gets this IPv4 address (as `ip` writes it,
    /// with the prefix's length) and comes up.
    pub fn plug(&self, index: usize, interface: &str, address: Option<&str>) {
        let port = match interface {
            FIRST => port(index),
            other => format!("{}-{other}", port(index)),
        };
        let peer = ["peer", "name", interface, "netns", &self.namespaces[index]];
        self.in_hub(&[["link", "add", &port, "type", "veth"].as_slice(), &peer].concat());
        self.in_hub(&["link", "set", &port, "master", BRIDGE]);
        self.in_hub(&["link", "set", &port, "up"]);
        if let Some(address) = address {
            self.inside(index, &["address", "add", address, "dev", interface]);
        }
        self.inside(index, &["link", "set", interface, "up"]);
    }

    /// Runs `ip` in a namespace.
    pub fn inside(&self, index: usize, arguments: &[&str]) {
        ip(&[&["-n", &self.namespaces[index]], arguments].concat());
    }

    /// Gives a namespace a file of its own in `/etc`, for programs that start later; it can be
    /// written again while they run.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_etc(&self, index: usize, file: &str, text: &str) {
        let folder = etc(&self.namespaces[index]);
        fs::create_dir_all(&folder).expect("a folder for the namespace");
        // In place: programs that run see this very file.
        fs::write(folder.join(file), text).expect("the file is written");
    }

    /// The IPv4 address of a namespace's first interface.
    #[must_use]
    pub fn ipv4(index: usize) -> String {
        format!("10.71.47.{}", index + 1)
    }

    /// Gives the namespace of the bridge an address on the devices' network, and gives its name.
    #[must_use]
    pub fn join_bridge(&self) -> String {
        self.in_hub(&["address", "add", "10.71.47.250/24", "dev", BRIDGE]);
        self.hub.clone()
    }

    fn add(&mut self, namespace: &str, index: usize, addresses: Addresses) {
        ip(&["netns", "add", namespace]);
        self.namespaces.push(namespace.to_owned());
        self.inside(index, &["link", "set", "lo", "up"]);
        if addresses == Addresses::Ipv4 {
            let disable = "net.ipv6.conf.default.disable_ipv6=1";
            ip(&["netns", "exec", namespace, "sysctl", "-q", "-w", disable]);
        }
        let address = format!("{}/24", Self::ipv4(index));
        match addresses {
            Addresses::Both | Addresses::Ipv4 => self.plug(index, FIRST, Some(&address)),
            Addresses::Ipv6LinkLocal => self.plug(index, FIRST, None),
            Addresses::NoInterface => {}
        }
    }

    fn in_hub(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.hub], arguments].concat());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for namespace in self.namespaces.iter().chain([&self.hub]) {
            // What is gone already needs no removal.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
            let _ = fs::remove_dir_all(etc(namespace));
        }
    }
}

/// Where `ip netns exec` takes a namespace's own files of `/etc` from.
fn etc(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

fn port(index: usize) -> String {
    format!("port{index}")
}

/// Why there can be no namespaces here.
fn why_not(probe: &str) -> Option<String> {
    match Command::new("ip").args(["netns", "add", probe]).output() {
        Ok(output) if output.status.success() => {
            ip(&["netns", "delete", probe]);
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("network namespaces need root ({})", said.trim()))
        }
        Err(error) => Some(format!("network namespaces need iproute2 ({error})")),
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {said}");
}
