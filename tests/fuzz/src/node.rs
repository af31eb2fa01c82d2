//! A node and everything that can be done to it.
//!
//! The node has an honest member beside it, with which it has formed a group before the input
//! begins; what the input does to it comes from the network, from that member, from plugins, from
//! the disk and from the clock. After each step the node has said little, and named a time that
//! moves on.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::crypto::Ring;
use consort_proto::{
    Access, Address, Command, Destination, DeviceId, FalseEntry, FalseKind, GroupSecret, Lie,
    MAX_DATAGRAM, Node, NodeConfig, PluginCommand, PluginId, PluginSpec, RotateStep, Scope,
    SendQuota, SendRate, StateConfig, StateWrite, StaticSecret, Stored, Time, Version,
};

use crate::bytes_of::Choices;

/// Steps of one input.
const STEPS_MAX: usize = 192;
/// What one input to a node may make it say.
const OUTPUT_MAX: usize = 2_000;
/// How often in a row a node may ask to be woken at one instant.
const WAKES_MAX: usize = 200;
/// Steps from here on change what holds for a node; the others say by their remainder what they are.
const SETTINGS_FROM: u8 = 238;
/// Datagrams kept to be replayed.
const LOG_MAX: usize = 512;
const TAKES: Duration = Duration::from_millis(1);

/// The node under test, and the member beside it.
const NODE: usize = 0;
const MEMBER: usize = 1;

fn address(number: usize) -> Address {
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    Address::Udp(([10, 0, 0, number], 4747).into())
}

fn new_node(number: usize) -> Node {
    let mut seed = [7; 32];
    seed[16] = u8::try_from(number).unwrap_or(u8::MAX);
    let config = NodeConfig {
        name: format!("n{number}"),
        group: Some(GroupSecret::from_random(&[5; 48]).into()),
        version: Version::default(),
        port: 4747,
        aes_in_hardware: true,
        seeds: vec![address(1 - number)],
        access: Access::default(),
        crypto: Arc::new(Ring),
        send_rate: SendRate::default(),
    };
    let stored = Stored {
        state: Vec::new(),
        secret: StaticSecret::new(seed),
        boot_counter: 1,
        epoch_ceilings: Vec::new(),
        addresses: Vec::new(),
    };
    Node::new(config, stored, Time::ZERO, 1_700_000_000_000_000, seed).expect("a usable key")
}

fn plugin(number: usize) -> PluginId {
    let names = ["app", "lamp", "door"];
    PluginId::new(names[number % names.len()]).expect("a name")
}

fn spec(number: usize, minor: u8, priority: u8) -> PluginSpec {
    PluginSpec {
        id: plugin(number),
        version: Version {
            major: 0,
            minor: u32::from(minor % 3),
            patch: 0,
        },
        priority: i16::from(priority),
        preempt: priority % 4 == 3,
    }
}

struct World {
    now: Time,
    nodes: [Node; 2],
    /// When each arrives, from whom, at whom.
    flying: VecDeque<(Time, usize, usize, Bytes)>,
    log: Vec<Bytes>,
    stores: Vec<u64>,
    is_cut: bool,
}

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::formed();
    let mut choices = Choices::new(bytes);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        world.step(&mut choices);
    }
    world.is_cut = false;
    world.run_for(Duration::from_millis(500));
}

impl World {
    fn formed() -> Self {
        let mut world = Self {
            now: Time::ZERO,
            nodes: [new_node(NODE), new_node(MEMBER)],
            flying: VecDeque::new(),
            log: Vec::new(),
            stores: Vec::new(),
            is_cut: false,
        };
        for node in [NODE, MEMBER] {
            world.command(node, Command::PluginUp(spec(0, 1, 0)));
        }
        world.run_for(Duration::from_millis(3_500));
        world
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let step = choices.byte();
        match step % 14 {
            _ if step >= SETTINGS_FROM => {
                let node = choices.below(2);
                let command = self.setting(choices);
                self.command(node, command);
            }
            0 => self.run_for(Duration::from_millis(4 * u64::from(choices.byte()))),
            1 => self.stall(Duration::from_millis(u64::from(choices.word()))),
            2 => {
                let (from, datagram) = (choices.below(4), choices.slice(true));
                self.take(from, datagram);
            }
            3 => self.replay(choices),
            4 => {
                let plaintext = choices.slice(true);
                self.say(plaintext);
            }
            5 => {
                let (kind, body) = (choices.byte() % 34, choices.slice(true));
                let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
                self.say(&[&[kind], &length[..], body].concat());
            }
            6 => self.lie(choices),
            7 => {
                let command = plugin_life(choices);
                self.command(NODE, command);
            }
            8 => {
                let node = choices.below(2);
                let command = self.plugin_act(choices);
                self.command(node, command);
            }
            9 => {
                let command = match choices.below(4) {
                    0 => Command::NetworkChanged,
                    1 => Command::WallClock(u64::from(choices.word()) << choices.below(49)),
                    2 => Command::Seeds((0..choices.below(8)).map(address).collect()),
                    _ => Command::Leave,
                };
                self.command(NODE, command);
            }
            10 => self.stored(choices),
            11 => self.is_cut = choices.byte() & 1 == 1,
            12 => {
                self.nodes[NODE].handle_timeout(self.now);
                self.drain(NODE);
            }
            _ => self.run_for(Duration::from_millis(u64::from(choices.byte()))),
        }
    }

    /// Time in which the node's loop stands still.
    fn stall(&mut self, time: Duration) {
        self.flying.clear();
        self.now += time;
        self.wake(NODE);
    }

    fn take(&mut self, from: usize, datagram: &[u8]) {
        self.nodes[NODE].handle_datagram(self.now, address(from), datagram);
        self.drain(NODE);
    }

    /// A datagram of the past, as it was or spoilt.
    fn replay(&mut self, choices: &mut Choices<'_>) {
        let (at, from) = (usize::from(choices.word()), choices.below(4));
        let (byte, with) = (usize::from(choices.word()), choices.byte());
        let Some(datagram) = self.log.get(at % self.log.len().max(1)) else {
            return;
        };
        let mut datagram = datagram.to_vec();
        let len = datagram.len().max(1);
        if let Some(byte) = datagram.get_mut(byte % len) {
            *byte ^= with;
        }
        self.take(from, &datagram);
    }

    /// The member says any bytes over its session.
    fn say(&mut self, plaintext: &[u8]) {
        let to = self.nodes[NODE].device();
        self.nodes[MEMBER].say_bytes(self.now, to, plaintext);
        self.drain(MEMBER);
    }

    fn lie(&mut self, choices: &mut Choices<'_>) {
        let devices = [self.nodes[NODE].device(), self.nodes[MEMBER].device()];
        let (by, about) = (devices[choices.below(2)], devices[choices.below(2)]);
        let lie = match choices.below(5) {
            0 => Lie::Down { by, device: about },
            1 => Lie::Record {
                device: about,
                name: String::from_utf8_lossy(choices.slice(false)).into_owned(),
            },
            2 => Lie::Entry(false_entry(by, choices)),
            3 => Lie::Part {
                group: spec(choices.below(3), 1, 0).group(),
                seq: u64::from(choices.word()),
                second: choices.byte() & 1 == 1,
            },
            _ => Lie::Relayed {
                leader: about,
                group: spec(choices.below(3), 1, 0).group(),
                epoch: u64::from(choices.word()),
                payload: Bytes::copy_from_slice(choices.slice(false)),
            },
        };
        self.nodes[MEMBER].say(self.now, devices[NODE], lie);
        self.drain(MEMBER);
    }

    fn plugin_act(&mut self, choices: &mut Choices<'_>) -> Command {
        let id = plugin(choices.below(3));
        let payload = Bytes::from(vec![choices.byte(); usize::from(choices.word())]);
        let command = match choices.below(6) {
            4 | 5 => PluginCommand::Write(write(payload, choices)),
            0 => PluginCommand::Broadcast(payload),
            1 => PluginCommand::SendToLeader(payload),
            2 => PluginCommand::SendToAll(payload),
            _ => PluginCommand::Send {
                to: self.nodes[choices.below(2)].device(),
                payload,
            },
        };
        Command::Plugin { id, command }
    }

    /// Another list of devices, another quota, other settings of a plugin's state, or a step of a
    /// rotation.
    fn setting(&self, choices: &mut Choices<'_>) -> Command {
        let id = plugin(choices.below(3));
        match choices.below(4) {
            0 => Command::Rotate {
                step: [
                    RotateStep::Install,
                    RotateStep::Use,
                    RotateStep::Remove,
                    RotateStep::Compromised,
                ][choices.below(4)],
                force: choices.byte() & 1 == 1,
            },
            1 => {
                let bits = choices.byte();
                let listed = |from: u32| {
                    let named = [NODE, MEMBER].map(|node| self.nodes[node].device());
                    let bits = u32::from(bits) >> from;
                    let named = named.into_iter().zip(0..);
                    named.filter_map(move |(device, bit)| (bits >> bit & 1 == 1).then_some(device))
                };
                let allow = (bits & 1 == 1).then(|| listed(1).collect());
                let access = Access::new(allow, listed(3).collect());
                Command::Access(access.expect("two devices fit a list"))
            }
            2 => Command::PluginQuota {
                id,
                quota: quota(choices),
            },
            _ => Command::PluginState {
                id,
                config: StateConfig {
                    interval: Duration::from_millis(choices.word().into()),
                    quota: u64::from(choices.word()) << choices.below(16),
                    persist: choices.byte() & 1 == 1,
                    writes: quota(choices),
                    keep_absent: Duration::from_millis(u64::from(choices.word()) << 4),
                },
            },
        }
    }

    /// Something was stored, or could not be, or nobody asked.
    fn stored(&mut self, choices: &mut Choices<'_>) {
        let token = match choices.below(3) {
            0 => u64::from(choices.word()),
            _ => self.stores.pop().unwrap_or(0),
        };
        let result = match choices.below(2) {
            0 => Ok(()),
            _ => Err("no space left on device".to_owned()),
        };
        self.nodes[NODE].handle_stored(self.now, token, result);
        self.drain(NODE);
    }

    fn command(&mut self, node: usize, command: Command) {
        self.nodes[node].handle_command(self.now, command);
        self.drain(node);
    }

    /// Lets time pass; datagrams between the two arrive unless the wire is cut.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrives = self.flying.front().map_or(Time::MAX, |(at, ..)| *at);
            let wakes = [NODE, MEMBER].map(|node| self.wakes_at(node));
            let next = arrives.min(wakes[NODE]).min(wakes[MEMBER]);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if next == arrives {
                self.arrive();
            } else {
                self.wake(usize::from(next == wakes[MEMBER] && next != wakes[NODE]));
            }
        }
        self.now = end;
    }

    fn wakes_at(&self, node: usize) -> Time {
        let timeout = self.nodes[node].poll_timeout();
        timeout.map_or(Time::MAX, |(at, _)| at)
    }

    fn arrive(&mut self) {
        if let Some((_, from, to, datagram)) = self.flying.pop_front() {
            self.nodes[to].handle_datagram(self.now, address(from), &datagram);
            self.drain(to);
        }
    }

    /// Does what the node named this time for, until it names a later one.
    fn wake(&mut self, node: usize) {
        for _ in 0..WAKES_MAX {
            if self.wakes_at(node) > self.now {
                return;
            }
            self.nodes[node].handle_timeout(self.now);
            self.drain(node);
        }
        let asked = self.nodes[node].poll_timeout();
        panic!("asks without end to be woken at {:?}: {asked:?}", self.now);
    }

    fn drain(&mut self, node: usize) {
        let mut said = 0;
        while let Some(transmit) = self.nodes[node].poll_transmit() {
            said += 1;
            assert!(transmit.payload.len() <= MAX_DATAGRAM, "it fits a datagram");
            let other = 1 - node;
            let reaches = match transmit.to {
                Destination::Everyone => true,
                Destination::Address(to) => to == address(other),
            };
            if self.log.len() < LOG_MAX {
                self.log.push(transmit.payload.clone());
            }
            if reaches && !self.is_cut {
                let arrives = self.now + TAKES;
                self.flying
                    .push_back((arrives, node, other, transmit.payload));
            }
        }
        while self.nodes[node].poll_event().is_some() {
            said += 1;
        }
        while let Some(store) = self.nodes[node].poll_store() {
            said += 1;
            if node == MEMBER {
                self.nodes[node].handle_stored(self.now, store.token, Ok(()));
            } else if self.stores.len() < LOG_MAX {
                self.stores.push(store.token);
            }
        }
        assert!(said <= OUTPUT_MAX, "n{node} says {said} things at once");
    }
}

/// A quota of anything from nothing to more than there is.
fn quota(choices: &mut Choices<'_>) -> SendQuota {
    let mut number = || u32::from(choices.word()) << choices.below(17);
    SendQuota {
        messages_per_second: number(),
        message_burst: number(),
        bytes_per_second: number(),
        byte_burst: number(),
    }
}

/// A write of any kind, under one of a few keys.
fn write(value: Bytes, choices: &mut Choices<'_>) -> StateWrite {
    let scopes = [Scope::Leader, Scope::Device, Scope::Shared];
    let scope = scopes[choices.below(scopes.len())];
    let key: Arc<str> = format!("k{}", choices.below(6)).into();
    match choices.below(4) {
        0 => StateWrite::Delete { scope, key },
        1 => StateWrite::Add {
            name: key,
            delta: i64::from(choices.word()) - (1 << 15),
        },
        kind => StateWrite::Put {
            scope,
            key,
            value,
            ttl_ms: (kind == 3).then(|| u64::from(choices.word())),
        },
    }
}

/// An entry or a table that its writer never wrote.
fn false_entry(writer: DeviceId, choices: &mut Choices<'_>) -> FalseEntry {
    let (kind, epoch) = (choices.below(4), u64::from(choices.byte()));
    FalseEntry {
        group: spec(choices.below(3), 1, 0).group(),
        writer,
        kind: match kind {
            0 => FalseKind::Device,
            1 => FalseKind::Shared,
            2 => FalseKind::Leader(epoch),
            _ => FalseKind::Table(epoch),
        },
        direct: choices.byte() & 1 == 1,
        key: String::from_utf8_lossy(choices.slice(false)).into_owned(),
        value: Bytes::copy_from_slice(choices.slice(true)),
    }
}

fn plugin_life(choices: &mut Choices<'_>) -> Command {
    let number = choices.below(3);
    match choices.below(3) {
        0 => Command::PluginUp(spec(number, choices.byte(), choices.byte())),
        1 => Command::PluginFaulted(plugin(number)),
        _ => Command::PluginDown(plugin(number)),
    }
}
