//! A few nodes on a wire that the test holds in its hands: it may keep datagrams back, read along,
//! and say something in a stranger's name.
//!
//! For what a simulated network does not do on purpose. Each datagram takes a millisecond; what is
//! sent to an address of nobody is kept for the test to see.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consort_proto::crypto::Ring;
use consort_proto::{
    Access, Address, Caller, Command, Destination, DeviceId, Event, GroupSecret, Lie, Node,
    NodeConfig, NodeStatus, PluginEvent, PluginId, SendRate, StaticSecret, Stored, Time, Version,
};

/// What the group's secret is made of.
const GROUP: [u8; 48] = [5; 48];
/// How long a datagram takes.
const TAKES: Duration = Duration::from_millis(1);

/// What a datagram is, by the low half of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Where a device is.
    Beacon,
    /// The first message of a handshake.
    Init,
    /// The second.
    Response,
    /// What is sent instead under load.
    Cookie,
    /// A packet of a session.
    Data,
    /// Anything else.
    Other,
}

/// A datagram on its way, or once on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flying {
    /// Its sender.
    pub from: Address,
    /// Where it goes.
    pub to: Address,
    /// What it says.
    pub bytes: Bytes,
}

impl Flying {
    /// What it is.
    #[must_use]
    pub fn packet(&self) -> Packet {
        match self.bytes.first().map(|byte| byte & 0x0f) {
            Some(1) => Packet::Beacon,
            Some(2 | 3) => Packet::Init,
            Some(4) => Packet::Response,
            Some(5) => Packet::Cookie,
            Some(6) => Packet::Data,
            _ => Packet::Other,
        }
    }
}

/// What the wire keeps back.
type Held = Box<dyn Fn(&Flying) -> bool>;

/// See the module's documentation.
pub struct Wire {
    now: Time,
    nodes: Vec<Node>,
    flying: VecDeque<(Time, Flying)>,
    held: Option<Held>,
    /// Nodes whose loop stands still.
    stopped: Vec<usize>,
    /// What was kept back.
    pub caught: Vec<Flying>,
    /// All that was sent so far, kept back or not.
    pub sent: Vec<Flying>,
    /// What went to addresses of nobody.
    pub astray: Vec<Flying>,
    events: Vec<Vec<Event>>,
}

/// The address of a node, or of nobody for numbers beyond.
#[must_use]
pub fn address(number: usize) -> Address {
    let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    Address::Udp(([10, 9, high, low], 4747).into())
}

/// A node with a key, a seed and an address of its own in a group that all share.
///
/// # Panics
/// Never: the keys are usable.
#[must_use]
pub fn node(number: usize) -> Node {
    in_life(number, 1, Time::ZERO)
}

/// The node that is started at `now`, for the time that `life` says.
fn in_life(number: usize, life: u8, now: Time) -> Node {
    let mut seed = [7; 32];
    // Not in the first byte, of which X25519 ignores three bits.
    seed[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    let config = NodeConfig {
        name: format!("n{number}"),
        group: Some(GroupSecret::from_random(&GROUP).into()),
        version: Version::default(),
        port: 4747,
        aes_in_hardware: true,
        seeds: Vec::new(),
        access: Access::default(),
        crypto: Arc::new(Ring),
        send_rate: SendRate::default(),
    };
    let stored = Stored {
        state: Vec::new(),
        secret: StaticSecret::new(seed),
        boot_counter: life.into(),
        epoch_ceilings: Vec::new(),
        addresses: Vec::new(),
    };
    seed[16] += life - 1;
    Node::new(config, stored, now, 1_700_000_000_000_000, seed).expect("a usable key")
}

/// Somebody with the group's secret who calls without end.
///
/// # Panics
/// Never: the key is usable.
#[must_use]
pub fn caller() -> Caller {
    let secret = GroupSecret::from_random(&GROUP);
    Caller::new(&secret, Arc::new(Ring), [9; 32]).expect("a usable key")
}

impl Wire {
    /// Nodes that were just started, each with the plugin that scenarios run.
    #[must_use]
    pub fn new(count: usize) -> Self {
        crate::mutate();
        let mut nodes: Vec<Node> = (0..count).map(node).collect();
        for node in &mut nodes {
            node.handle_command(Time::ZERO, Command::PluginUp(crate::app()));
        }
        Self {
            now: Time::ZERO,
            nodes,
            flying: VecDeque::new(),
            held: None,
            stopped: Vec::new(),
            caught: Vec::new(),
            sent: Vec::new(),
            astray: Vec::new(),
            events: vec![Vec::new(); count],
        }
    }

    /// Nodes that have become one group with one leader, who comes back with them.
    ///
    /// # Panics
    /// They do not within ten seconds.
    #[must_use]
    pub fn formed(count: usize) -> (Self, usize) {
        let mut wire = Self::new(count);
        wire.run_for(Duration::from_secs(10));
        let leaders: Vec<_> = (0..count)
            .map(|n| wire.status(n).plugins[0].leader)
            .collect();
        let leader = (0..count).find(|n| leaders.iter().all(|l| *l == Some(wire.id(*n))));
        let leader = leader.unwrap_or_else(|| panic!("no common leader: {leaders:?}"));
        (wire, leader)
    }

    /// A node's identity.
    #[must_use]
    pub fn id(&self, node: usize) -> DeviceId {
        self.nodes[node].device()
    }

    /// What a node shows of itself.
    #[must_use]
    pub fn status(&self, node: usize) -> NodeStatus {
        self.nodes[node].status(self.now)
    }

    /// The events of a node so far.
    #[must_use]
    pub fn events(&self, node: usize) -> &[Event] {
        &self.events[node]
    }

    /// What a node's plugin has learnt so far.
    pub fn plugin_events(&self, node: usize) -> impl Iterator<Item = &PluginEvent> {
        self.events[node].iter().filter_map(|event| match event {
            Event::Plugin { event, .. } => Some(event),
            _ => None,
        })
    }

    /// Keeps datagrams back from here on, instead of those that were kept back before.
    pub fn hold(&mut self, held: impl Fn(&Flying) -> bool + 'static) {
        self.held = Some(Box::new(held));
    }

    /// Lets all pass from here on; what was caught stays caught.
    pub fn let_pass(&mut self) {
        self.held = None;
    }

    /// A node's loop stands still, and what is sent to it is lost.
    pub fn stop(&mut self, node: usize) {
        self.stopped.push(node);
    }

    /// It goes on with what the test or the wire gives it next.
    pub fn resume(&mut self, node: usize) {
        self.stopped.retain(|stopped| *stopped != node);
    }

    /// A node is switched off and on again, and has lost all that it does not keep.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node] = in_life(node, 2, self.now);
        self.tell(node, Command::PluginUp(crate::app()));
    }

    /// As if a node had sent so many packets over its session with another one.
    pub fn wear_session(&mut self, node: usize, to: usize, sent: u64) {
        let to = self.id(to);
        self.nodes[node].wear_session(to, sent);
    }

    /// From here on a node's beacons say that it has no AES in hardware, which it has.
    pub fn deny_aes(&mut self, node: usize) {
        self.nodes[node].deny_aes();
    }

    /// Gives a datagram to a node, in anyone's name.
    pub fn inject(&mut self, to: usize, from: Address, bytes: &[u8]) {
        self.nodes[to].handle_datagram(self.now, from, bytes);
        self.drain(to);
    }

    /// A plugin of a node acts.
    pub fn command(&mut self, node: usize, id: PluginId, command: consort_proto::PluginCommand) {
        self.tell(node, Command::Plugin { id, command });
    }

    /// A node gets a command.
    pub fn tell(&mut self, node: usize, command: Command) {
        self.nodes[node].handle_command(self.now, command);
        self.drain(node);
    }

    /// A node tells another one a lie, over their session.
    ///
    /// # Panics
    /// They have none.
    pub fn lie(&mut self, from: usize, to: usize, lie: Lie) {
        let to = self.id(to);
        assert!(
            self.nodes[from].say(self.now, to, lie),
            "they are connected"
        );
        self.drain(from);
    }

    /// A node sends a plaintext of any bytes to another one, over their session.
    ///
    /// # Panics
    /// They have none.
    pub fn say(&mut self, from: usize, to: usize, plaintext: &[u8]) {
        let to = self.id(to);
        assert!(
            self.nodes[from].say_bytes(self.now, to, plaintext),
            "they are connected"
        );
        self.drain(from);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrives = self.flying.front().map(|(at, _)| *at);
            let wakes = (0..self.nodes.len()).filter_map(|n| self.wakes_at(n));
            let (wake, node) = wakes.min().unwrap_or((Time::MAX, 0));
            let next = arrives.map_or(wake, |at| at.min(wake));
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if arrives == Some(next) {
                self.deliver_next();
            } else {
                self.nodes[node].handle_timeout(self.now);
                self.drain(node);
            }
        }
        self.now = end;
    }

    fn wakes_at(&self, node: usize) -> Option<(Time, usize)> {
        if self.stopped.contains(&node) {
            return None;
        }
        let (at, _) = self.nodes[node].poll_timeout()?;
        Some((at, node))
    }

    fn deliver_next(&mut self) {
        let Some((_, flying)) = self.flying.pop_front() else {
            return;
        };
        match (0..self.nodes.len()).find(|n| address(*n) == flying.to) {
            Some(node) if self.stopped.contains(&node) => {}
            Some(node) => self.inject(node, flying.from, &flying.bytes),
            None => self.astray.push(flying),
        }
    }

    /// Takes what a node gives: datagrams fly, what it stores is stored.
    fn drain(&mut self, node: usize) {
        while let Some(transmit) = self.nodes[node].poll_transmit() {
            // One that is alone is heard by nobody in particular.
            let audience = 0..self.nodes.len().max(2);
            let others = audience.filter(|n| *n != node).map(address);
            let to: Vec<Address> = match transmit.to {
                Destination::Address(to) => vec![to],
                Destination::Everyone => others.collect(),
            };
            for to in to {
                self.send(Flying {
                    from: address(node),
                    to,
                    bytes: transmit.payload.clone(),
                });
            }
        }
        while let Some(event) = self.nodes[node].poll_event() {
            self.events[node].push(event);
        }
        while let Some(store) = self.nodes[node].poll_store() {
            self.nodes[node].handle_stored(self.now, store.token, Ok(()));
        }
    }

    fn send(&mut self, flying: Flying) {
        self.sent.push(flying.clone());
        if self.held.as_ref().is_some_and(|held| held(&flying)) {
            self.caught.push(flying);
        } else {
            self.flying.push_back((self.now + TAKES, flying));
        }
    }
}

impl core::fmt::Debug for Wire {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wire")
            .field("now", &self.now)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}
