//! Real daemons, one per network namespace, on one bridge; they find each other by multicast.
//!
//! A time begins when this program acts (a signal, the first start of a process) and ends when the
//! line of the daemon's log is read here that says it happened.

use std::process::Command;
use std::time::{Duration, Instant};

use consort_e2e::firewall::Firewall;
use consort_e2e::log::Line;
use consort_e2e::network::Addresses;
use consort_e2e::{Device, Group, Role, Switch, wait};

use crate::Daemons;
use crate::samples::Samples;

/// Ethernet, IPv4 and UDP headers around each datagram.
const HEADERS: u64 = 14 + 20 + 8;
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Settings of every device.
pub(crate) const IPV4: &str = "[network]\nlisten = [\"0.0.0.0\"]\n";

/// A group, and the network it needs.
pub(crate) struct Lab {
    pub(crate) group: Group,
    switch: Switch,
}

impl Lab {
    /// None where there can be no namespaces or no firewall; it has been said why.
    pub(crate) fn new(setting: &Daemons) -> Option<Self> {
        let switch = Switch::new(setting.nodes.into(), Addresses::Ipv4)?;
        for namespace in switch.namespaces().iter().filter(|_| setting.loss > 0) {
            Firewall::of(namespace)?.lose(setting.loss);
        }
        let group = Group::behind(&switch);
        for device in &group.devices {
            device.configure(IPV4);
        }
        group.install_heartbeat();
        Some(Self { group, switch })
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        self.group.all_but(&[])
    }

    /// The firewalls of all devices; none where there is no nftables.
    pub(crate) fn firewalls(&self) -> Option<Vec<Firewall>> {
        let namespaces = self.switch.namespaces().iter();
        namespaces
            .map(|namespace| Firewall::of(namespace))
            .collect()
    }
}

fn promoted(line: &Line) -> bool {
    Role::of(line) == Some(Role::Promoted)
}

pub(crate) fn title(setting: &Daemons, what: &str) -> String {
    format!("{what}, {} devices, {} % loss", setting.nodes, setting.loss)
}

pub(crate) fn kill(setting: &Daemons) -> Option<()> {
    end_leader(setting, "leader killed -> next promoted", Device::kill)
}

pub(crate) fn stop(setting: &Daemons) -> Option<()> {
    end_leader(setting, "leader stopped -> next promoted", |device| {
        let before = Instant::now();
        device.stop();
        before
    })
}

/// Ends the leader again and again; `end` gives the moment before.
fn end_leader(setting: &Daemons, what: &str, end: impl Fn(&mut Device) -> Instant) -> Option<()> {
    let mut lab = Lab::new(setting)?;
    lab.group.start();
    let mut samples = Samples::default();
    for _ in 0..setting.times {
        let leader = lab.group.wait_settled(&lab.all());
        let marks = lab.group.marks();
        let ended = end(&mut lab.group.devices[leader]);
        let rest = lab.group.all_but(&[leader]);
        let first = wait::until("a promotion", || {
            let found = rest.iter().filter_map(|place| {
                let log = lab.group.devices[*place].log();
                log.find(marks[*place], promoted)
            });
            found.map(|line| line.at).min()
        });
        samples.add(first.saturating_duration_since(ended));
        lab.group.wait_one_leader(&rest);
        lab.group.devices[leader].start();
    }
    samples.print(&title(setting, what));
    Some(())
}

pub(crate) fn remove(setting: &Daemons) -> Option<()> {
    let mut lab = Lab::new(setting)?;
    lab.group.start();
    let mut samples = Samples::default();
    for round in 0..setting.times as usize {
        let all = lab.all();
        let leader = lab.group.wait_settled(&all);
        let followers = lab.group.all_but(&[leader]);
        let victim = followers[round % followers.len()];
        let marks = lab.group.marks();
        let id = lab.group.devices[victim].id().to_owned();
        let ended = lab.group.devices[victim].kill();
        let left = |line: &Line| {
            line.is_by_plugin("heartbeat")
                && line.message.starts_with(&format!("peer removed {id}"))
        };
        let rest = lab.group.all_but(&[victim]);
        let last = rest.iter().map(|place| {
            let log = lab.group.devices[*place].log();
            log.wait(marks[*place], "its removal", left).at
        });
        let last = last.max().unwrap_or(ended);
        samples.add(last.saturating_duration_since(ended));
        lab.group.devices[victim].start();
    }
    samples.print(&title(setting, "follower killed -> removed everywhere"));
    Some(())
}

pub(crate) fn cold_start(setting: &Daemons) -> Option<()> {
    let mut starts = Starts::default();
    for _ in 0..setting.times {
        let mut lab = Lab::new(setting)?;
        starts.measure(&mut lab);
    }
    starts.print(setting, "first start");
    Some(())
}

pub(crate) fn power_cut(setting: &Daemons) -> Option<()> {
    let mut starts = Starts::default();
    let mut lab = Lab::new(setting)?;
    lab.group.start();
    for _ in 0..setting.times {
        lab.group.wait_settled(&lab.all());
        // What the devices learn in their first seconds is on disk.
        std::thread::sleep(Duration::from_secs(5));
        for device in &mut lab.group.devices {
            device.kill();
        }
        starts.measure(&mut lab);
    }
    starts.print(setting, "all start again");
    Some(())
}

/// What it took until a group was one.
#[derive(Default)]
struct Starts {
    leader: Samples,
    members: Samples,
    discovery: Samples,
}

impl Starts {
    fn measure(&mut self, lab: &mut Lab) {
        let before = Instant::now();
        lab.group.start();
        let all = lab.all();
        lab.group.wait_one_leader(&all);
        self.leader.add(before.elapsed());
        lab.group.wait_members(&all);
        self.members.add(before.elapsed());
        self.discovery.add(lab.discovery());
    }

    fn print(self, setting: &Daemons, what: &str) {
        let print = |samples: Samples, what: &str| samples.print(&title(setting, what));
        print(self.leader, &format!("{what} -> one leader"));
        print(self.members, &format!("{what} -> all see all"));
        let what = "the last one runs -> each has each as a member";
        print(self.discovery, what);
    }
}

pub(crate) fn idle(setting: &Daemons) -> Option<()> {
    let mut lab = Lab::new(setting)?;
    lab.group.start();
    let all = lab.all();
    let leader = lab.group.wait_settled(&all);
    std::thread::sleep(Duration::from_secs(10));
    let before: Vec<u64> = all.iter().map(|place| lab.sent(*place)).collect();
    std::thread::sleep(IDLE_FOR);
    let rates: Vec<u64> = all
        .iter()
        .map(|place| (lab.sent(*place) - before[*place]) / IDLE_FOR.as_secs())
        .collect();
    let mut followers: Vec<u64> = all
        .iter()
        .filter(|place| **place != leader)
        .map(|place| rates[*place])
        .collect();
    followers.sort_unstable();
    println!(
        "{}: leader {} B/s, followers {} to {} B/s (with one beat of the plugin a second)",
        title(setting, "sent by idle devices"),
        rates[leader],
        followers.first().unwrap_or(&0),
        followers.last().unwrap_or(&0)
    );
    Some(())
}

impl Lab {
    /// From when the last daemon said that it runs until the last one had all others as members, by
    /// their own stamps.
    fn discovery(&self) -> Duration {
        let devices = &self.group.devices;
        let running = |line: &Line| line.message == "running";
        let runs = devices.iter().map(|device| {
            let line = device.log().wait(0, "the daemon runs", running);
            line.written_us().expect("a time")
        });
        let mut met = Vec::new();
        for (device, other) in pairs(devices) {
            let added =
                |line: &Line| line.message == "member added" && line.field("device") == other.id();
            let line = device.log().wait(0, "it has the other as a member", added);
            met.push(line.written_us().expect("a time"));
        }
        let (runs, met) = (runs.max(), met.into_iter().max());
        let took = met.unwrap_or(0) - runs.unwrap_or(0);
        Duration::from_micros(u64::try_from(took).unwrap_or(0))
    }

    /// Bytes of UDP payload that a device has sent.
    pub(crate) fn sent(&self, place: usize) -> u64 {
        let namespace = &self.switch.namespaces()[place];
        let output = Command::new("ip")
            .args(["-n", namespace, "-s", "-j", "link", "show", "eth0"])
            .output()
            .expect("iproute2 is there");
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let sent = &links[0]["stats64"]["tx"];
        let number = |key: &str| sent[key].as_u64().expect("a counter");
        number("bytes").saturating_sub(number("packets") * HEADERS)
    }
}

/// Each device with each other one.
fn pairs(devices: &[Device]) -> impl Iterator<Item = (&Device, &Device)> {
    devices.iter().flat_map(move |one| {
        let others = devices.iter().filter(|other| other.id() != one.id());
        others.map(move |other| (one, other))
    })
}
