//! One simulated device: its settings, its disk, the process that runs its node, its plugins.
//!
//! A device has a monotonic clock with an origin of its own, drawn anew at every start, so that a
//! protocol that compares clocks of two devices, or of two runs, is found out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::crypto::Crypto;
use consort_proto::{
    Address, ClockView, Command, DeviceId, Event, GroupSecret, NewNodeError, Node, NodeConfig,
    PluginId, PluginSpec, StoreRequest, Time, Transmit, Version,
};

use crate::app::App;
use crate::disk::Disk;

/// A device's settings.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Shown to people.
    pub name: String,
    /// Admits to a group; none makes a group of one.
    pub group: Option<GroupSecret>,
    /// Where it looks for members.
    pub seeds: Vec<Address>,
    /// Multicast reaches the devices of one segment; unicast crosses segments.
    pub segment: u32,
    /// Whether it has AES in hardware.
    pub aes_in_hardware: bool,
    /// Its wall clock minus true time, in microseconds.
    pub wall_offset: i64,
    /// The device whose key it has too, as the copy of a memory card does.
    pub clone_of: Option<usize>,
}

/// What a node is given.
#[derive(Debug)]
pub(crate) enum Input {
    Datagram {
        from: Address,
        payload: Bytes,
    },
    Timeout,
    Command(Command),
    Stored {
        token: u64,
        result: Result<(), String>,
    },
}

/// What a node gave in answer to one input.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) transmits: Vec<Transmit>,
    pub(crate) events: Vec<Event>,
    pub(crate) stores: Vec<StoreRequest>,
}

/// More than this from one input is a node that never comes to an end.
const OUTPUT_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) node: Node,
    /// The earliest wake-up that is planned for it.
    pub(crate) wake_at: Option<Time>,
    /// How often in a row it asked to be woken at once, and when.
    pub(crate) overdue: (Time, u32),
    pub(crate) backlog: Option<Backlog>,
    pub(crate) leaving: bool,
    origin: Duration,
}

/// What waits while the process is stopped: as much as a socket's buffer holds, and the rest.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) datagrams: VecDeque<Input>,
    pub(crate) others: VecDeque<Input>,
}

/// Datagrams that a socket holds for a process that does not read.
const SOCKET_BUFFER: usize = 300;

impl Backlog {
    /// Keeps an input; false if the socket's buffer is full.
    pub(crate) fn keep(&mut self, input: Input) -> bool {
        match input {
            Input::Datagram { .. } if self.datagrams.len() == SOCKET_BUFFER => return false,
            Input::Datagram { .. } => self.datagrams.push_back(input),
            Input::Timeout | Input::Command(_) | Input::Stored { .. } => {
                self.others.push_back(input);
            }
        }
        true
    }
}

impl Running {
    /// The device's monotonic time at virtual time `now`.
    pub(crate) fn local(&self, now: Time) -> Time {
        now + self.origin
    }

    /// Hands one input over and drains the answer.
    pub(crate) fn handle(&mut self, now: Time, input: Input) -> Output {
        let local = self.local(now);
        match input {
            Input::Datagram { from, payload } => self.node.handle_datagram(local, from, &payload),
            Input::Timeout => self.node.handle_timeout(local),
            Input::Command(command) => self.node.handle_command(local, command),
            Input::Stored { token, result } => self.node.handle_stored(local, token, result),
        }
        self.drain()
    }

    fn drain(&mut self) -> Output {
        Output {
            transmits: drain_all("datagrams", || self.node.poll_transmit()),
            events: drain_all("events", || self.node.poll_event()),
            stores: drain_all("stores", || self.node.poll_store()),
        }
    }

    /// When the node wants to be woken, in virtual time and not before `now`, and why.
    pub(crate) fn wants(&self, now: Time) -> Option<(Time, &'static str)> {
        let (local, reason) = self.node.poll_timeout()?;
        Some(((local - self.origin).max(now), reason))
    }
}

fn drain_all<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(one) = poll() {
        all.push(one);
        assert!(
            all.len() < OUTPUT_MAX,
            "a node never comes to an end with its {what}"
        );
    }
    all
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) id: DeviceId,
    pub(crate) address: Address,
    pub(crate) disk: Disk,
    pub(crate) running: Option<Box<Running>>,
    /// Counts the starts; what was planned for an earlier life does not reach a later one.
    pub(crate) life: u32,
    /// Plugins that come up with the device.
    pub(crate) installed: BTreeMap<PluginId, PluginSpec>,
    pub(crate) apps: BTreeMap<PluginId, App>,
    pub(crate) members: BTreeSet<DeviceId>,
    pub(crate) clock: Option<ClockView>,
    pub(crate) datagrams_sent: u64,
    pub(crate) bytes_sent: u64,
    /// How often it reported that two devices run with one key.
    pub(crate) clones_detected: u64,
}

impl Device {
    /// Makes the node of a new life.
    pub(crate) fn boot(
        &mut self,
        now: Time,
        wall: u64,
        origin: Duration,
        seed: [u8; 32],
        crypto: Arc<dyn Crypto>,
    ) -> Result<(), NewNodeError> {
        let config = NodeConfig {
            name: self.config.name.clone(),
            group: self.config.group.clone(),
            version: Version {
                major: 0,
                minor: 1,
                patch: 0,
            },
            port: match self.address {
                Address::Udp(socket) => socket.port(),
            },
            aes_in_hardware: self.config.aes_in_hardware,
            seeds: self.config.seeds.clone(),
            crypto,
        };
        self.disk.settle(now);
        self.life += 1;
        self.members.clear();
        self.clock = None;
        let node = Node::new(config, self.disk.boot(), now + origin, wall, seed)?;
        self.running = Some(Box::new(Running {
            node,
            wake_at: None,
            overdue: (Time::ZERO, 0),
            backlog: None,
            leaving: false,
            origin,
        }));
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.backlog.is_some())
    }
}
