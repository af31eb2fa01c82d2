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
    Access, Address, ClockView, Command, DeviceId, Event, GroupSecret, Keyring, NewNodeError, Node,
    NodeConfig, PluginId, PluginSpec, RotateError, RotateStep, SendRate, StoreRequest, Time,
    Transmit, Version,
};

use crate::actor::{Actor, Said};
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
    /// Devices it is given by name: it learns their present addresses, also when they move.
    pub names: Vec<usize>,
    /// Which devices it admits.
    pub access: Access,
    /// Multicast reaches the devices of one segment; unicast crosses segments.
    pub segment: u32,
    /// Whether it has AES in hardware.
    pub aes_in_hardware: bool,
    /// Its wall clock minus true time, in microseconds.
    pub wall_offset: i64,
    /// The device whose key it has too, as the copy of a memory card does.
    pub clone_of: Option<usize>,
    /// How much faster than true time its clocks go, in parts per million.
    pub drift_ppm: i32,
    /// The protocol version in the first byte of its datagrams, and the only one that its beacons
    /// say it speaks. Another than 1 stands for a device that is not understood.
    pub protocol: u8,
    /// Whether it speaks as a later minor version may: unknown messages, unknown fields.
    pub later: bool,
    /// What plugins' messages may take of its network.
    pub send_rate: SendRate,
}

/// What a node is given.
#[derive(Debug)]
pub(crate) enum Input {
    Datagram {
        /// When it arrived, in virtual time.
        at: Time,
        from: Address,
        payload: Bytes,
    },
    Timeout,
    Command(Command),
    /// What came at once: given one by one, then drained.
    Commands(Vec<Command>),
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

/// A device's monotonic clock: where it stood at some virtual time, and its rate since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClock {
    at: Time,
    stood: Time,
    /// Local microseconds in a million of virtual time.
    rate: u64,
}

const MILLION: u64 = 1_000_000;

impl LocalClock {
    pub(crate) fn new(at: Time, stood: Time, drift_ppm: i32) -> Self {
        let rate = MILLION.saturating_add_signed(i64::from(drift_ppm)).max(1);
        Self { at, stood, rate }
    }

    /// The clock at virtual time `now`.
    pub(crate) fn local(&self, now: Time) -> Time {
        let passed = u128::from(consort_proto::micros(now.since(self.at)));
        let local = passed * u128::from(self.rate) / u128::from(MILLION);
        self.stood + Duration::from_micros(u64::try_from(local).unwrap_or(u64::MAX))
    }

    /// The first virtual time at which the clock shows at least `local`.
    pub(crate) fn virtual_time(&self, local: Time) -> Time {
        if local == Time::MAX {
            return Time::MAX;
        }
        let passed = u128::from(consort_proto::micros(local.since(self.stood)));
        let needed = (passed * u128::from(MILLION)).div_ceil(u128::from(self.rate));
        self.at + Duration::from_micros(u64::try_from(needed).unwrap_or(u64::MAX))
    }

    /// Goes on from here at another rate.
    pub(crate) fn set_drift(&mut self, now: Time, drift_ppm: i32) {
        *self = Self::new(now, self.local(now), drift_ppm);
    }
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) node: Node,
    /// The earliest wake-up that is planned for it.
    pub(crate) wake_at: Option<Time>,
    /// How often in a row it asked to be woken at once, and when.
    pub(crate) overdue: (Time, u32),
    pub(crate) backlog: Option<Backlog>,
    pub(crate) leaving: bool,
    pub(crate) clock: LocalClock,
}

/// What waits while the process is stopped: as much as a socket's buffer holds, and the rest.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) datagrams: VecDeque<Input>,
    pub(crate) others: VecDeque<Input>,
    /// Whether the whole device sleeps: its network is off, datagrams are lost.
    pub(crate) asleep: bool,
}

/// The kernel's word for when a datagram arrived counts for so long, as with the daemon.
const RECEIVED_MAX: Duration = Duration::from_secs(1);

/// Datagrams that a socket holds for a process that does not read.
const SOCKET_BUFFER: usize = 300;

impl Backlog {
    /// Keeps an input; false if the socket's buffer is full.
    pub(crate) fn keep(&mut self, input: Input) -> bool {
        match input {
            Input::Datagram { .. } if self.asleep || self.datagrams.len() == SOCKET_BUFFER => {
                return false;
            }
            Input::Datagram { .. } => self.datagrams.push_back(input),
            Input::Timeout | Input::Command(_) | Input::Commands(_) | Input::Stored { .. } => {
                self.others.push_back(input);
            }
        }
        true
    }
}

impl Running {
    /// The device's monotonic time at virtual time `now`.
    pub(crate) fn local(&self, now: Time) -> Time {
        self.clock.local(now)
    }

    /// Hands one input over and drains the answer.
    pub(crate) fn handle(&mut self, now: Time, input: Input) -> Output {
        let local = self.local(now);
        match input {
            Input::Datagram { at, from, payload } => {
                let waited = now.since(at) <= RECEIVED_MAX;
                let received = if waited { self.local(at) } else { local };
                self.node
                    .handle_datagram_received(local, received, from, &payload);
            }
            Input::Timeout => self.node.handle_timeout(local),
            Input::Command(command) => self.node.handle_command(local, command),
            Input::Commands(commands) => {
                for command in commands {
                    self.node.handle_command(local, command);
                }
            }
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
        Some((self.clock.virtual_time(local).max(now), reason))
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

/// A plugin's host on one device.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) actor: Box<dyn Actor>,
    /// The earliest turn that is planned for it.
    pub(crate) wake_at: Option<Time>,
    /// Until when it is busy, and what comes of it then.
    pub(crate) busy: Option<(Time, Vec<Said>)>,
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
    /// The host of the plugin whose own code runs, while the device does.
    pub(crate) actor: Option<Hosted>,
    pub(crate) members: BTreeSet<DeviceId>,
    pub(crate) clock: Option<ClockView>,
    /// When its last run ended, and its group time then.
    pub(crate) stopped: Option<(Time, u64)>,
    /// What its group time may not fall behind, and since when its clocks have their pace.
    pub(crate) shown: u64,
    pub(crate) paced: Time,
    /// The era of its group time.
    pub(crate) era: u64,
    /// When its process last stopped for a while, and when it last went on.
    pub(crate) stood: (Time, Time),
    /// How often its group time was set back.
    pub(crate) set_backs: u64,
    /// What came of the last step of a rotation taken here.
    pub(crate) rotated: Option<(RotateStep, Result<u32, RotateError>)>,
    pub(crate) datagrams_sent: u64,
    pub(crate) bytes_sent: u64,
    /// How many members it removed.
    pub(crate) members_lost: u64,
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
        self.disk.settle(now);
        let given = self.config.group.clone().map(Keyring::from);
        let config = NodeConfig {
            name: self.config.name.clone(),
            group: self.disk.keyring().or(given),
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
            access: self.config.access.clone(),
            crypto,
            send_rate: self.config.send_rate,
        };
        self.life += 1;
        self.members.clear();
        self.clock = None;
        self.shown = 0;
        let mut node = Node::new(config, self.disk.boot(), now + origin, wall, seed)?;
        if self.config.protocol != 1 {
            node.speak_only(self.config.protocol);
        }
        if self.config.later {
            node.speak_later();
        }
        self.running = Some(Box::new(Running {
            node,
            wake_at: None,
            overdue: (Time::ZERO, 0),
            backlog: None,
            leaving: false,
            clock: LocalClock::new(now, now + origin, self.config.drift_ppm),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_wakes_when_it_shows_the_time() {
        for ppm in [-50_000, -3, 0, 7, 20_000] {
            let mut clock = LocalClock::new(Time::from_micros(5), Time::from_micros(1_000), ppm);
            for _ in 0..3 {
                for wanted in [1_000, 1_001, 999_999, 123_456_789] {
                    let wanted = Time::from_micros(wanted).max(clock.stood);
                    let at = clock.virtual_time(wanted);
                    assert!(clock.local(at) >= wanted, "{ppm}");
                    let before = at - Duration::from_micros(1);
                    assert!(before < clock.at || clock.local(before) <= wanted, "{ppm}");
                }
                clock.set_drift(clock.at + Duration::from_secs(10), -ppm);
            }
        }
        let fast = LocalClock::new(Time::ZERO, Time::ZERO, 10_000);
        assert_eq!(
            fast.local(Time::from_micros(1_000_000)).as_micros(),
            1_010_000
        );
        assert_eq!(fast.virtual_time(Time::MAX), Time::MAX);
    }
}
