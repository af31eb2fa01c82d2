//! One device's protocol, driven from outside.
//!
//! The node composes the machines: it alone hands one's outputs to another. A datagram goes
//! through `inbound`, what the machines decide through `outcomes`; what plugins are told of others
//! is in `views`, what they send and get in `traffic`, `parts` and `fanout`. Every input ends in
//! [`Node::settle`], which carries outputs between machines until there are none, sends what
//! `batch` has collected, and fixes when the node wants to be woken.

mod batch;
mod bulletin;
mod clones;
mod contacts;
mod fanout;
mod group_clock;
mod inbound;
mod insider;
mod leadership;
mod outcomes;
mod parts;
mod plugins;
mod roster;
mod rotate;
mod snapshot;
mod state;
mod traffic;
mod versions;
mod views;
mod wake;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::clock::{GroupClock, WallClock};
use crate::config::{NodeConfig, Stored};
use crate::ctx::Ctx;
use crate::discovery::Discovery;
use crate::election::{Departure, Election, Epochs, Input, Past};
use crate::event::{Address, Command, Event, StoreRecord, StoreRequest, Transmit};
use crate::id::{BootId, DeviceId, GroupKey, NodeId, PluginId, PublicKey};
use crate::liveness::{Health, Liveness};
use crate::membership::Membership;
use crate::messaging::Messaging;
use crate::pace::heartbeat_interval;
use crate::quota::QuotaMeter;
use crate::rotation::Rotation;
use crate::session::Sessions;
use crate::status::Counters;
use crate::time::Time;
use crate::wire::header::Flags;
use crate::wire::message::{Goodbye, Message};

use batch::Batch;
use clones::Clones;
use fanout::Reminder;
pub use insider::{FalseEntry, FalseKind, InTree, Lie};
use plugins::{Plugin, Slots};
use roster::Roster;
use state::States;

/// How long a device listens before it claims a leadership after its start.
const DISCOVERY_ROUND: Duration = Duration::from_secs(2);
/// How often slow work is looked at: introductions, records, doubts, updates of peers.
const CHORES_PERIOD: Duration = Duration::from_secs(1);
/// Heartbeats in a burst after a claim, and the repeats of a goodbye; and their distance.
const BURST: u8 = 4;
const BURST_GAP: Duration = Duration::from_millis(10);
/// Packets kept for a member while the session to it opens.
const PENDING_MAX: usize = 4;
/// Steps of [`Node::settle`]: machines answer each other a few times, never for ever.
const SETTLE_MAX: usize = 10_000;

/// What this device is to others, fixed for this run.
#[derive(Debug)]
struct Identity {
    node: NodeId,
    device: DeviceId,
    key: PublicKey,
    boot: BootId,
    flags: Flags,
    name: String,
}

impl Identity {
    fn new(config: &NodeConfig, key: PublicKey, boot: BootId) -> Self {
        Self {
            node: key.device_id().node(),
            device: key.device_id(),
            key,
            boot,
            flags: Flags::new(config.aes_in_hardware),
            name: plugins::cut_name(&config.name),
        }
    }

    fn open_sessions(&self, group: &Rotation, config: &NodeConfig, stored: &Stored) -> Sessions {
        let (secret, crypto) = (stored.secret.clone(), config.crypto.clone());
        let mut sessions = Sessions::new(
            group.keys(),
            secret,
            self.key,
            self.boot,
            self.flags,
            crypto,
        );
        sessions.set_access(config.access.clone());
        sessions
    }
}

/// One election per group that this device takes part in.
type Elections = BTreeMap<GroupKey, Box<dyn Election>>;

/// Numbers that only grow.
#[derive(Debug, Default)]
struct Serials {
    record: u32,
    bulletin: u32,
    beacon: u64,
    store: u64,
}

/// A message that goes to all connected devices several times.
#[derive(Debug)]
struct Repeat {
    at: Time,
    left: u8,
    message: Message,
}

/// When heartbeats go out.
#[derive(Debug)]
struct Beats {
    next: Time,
    burst_left: u8,
    burst_at: Time,
}

impl Beats {
    fn new(now: Time) -> Self {
        Self {
            next: Time::MAX,
            burst_left: 0,
            burst_at: now,
        }
    }
}

/// An orderly stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Leaving,
    Left,
}

/// One device's protocol as a state machine. See the crate's documentation for how to drive it.
pub struct Node {
    config: NodeConfig,
    identity: Identity,
    rotation: Option<Rotation>,
    rotating: rotate::Progress,
    rng: ChaCha12Rng,
    started: Time,
    now: Time,
    /// When the datagram at hand arrived, at or before `now`.
    received: Time,
    life: Life,

    sessions: Option<Sessions>,
    discovery: Discovery,
    membership: Membership,
    liveness: Liveness,
    elections: Elections,
    messaging: Messaging,
    quotas: BTreeMap<PluginId, QuotaMeter>,
    slots: Slots,
    reminders: VecDeque<Reminder>,
    batch: Batch,
    clock: GroupClock,
    wall: WallClock,
    states: States,

    roster: Roster,
    plugins: BTreeMap<PluginId, Plugin>,
    /// What elections that ended, or have yet to begin, left behind.
    pasts: BTreeMap<GroupKey, Past>,
    /// Ceilings of epochs that are being written, by token.
    ceilings: BTreeMap<u64, (GroupKey, u64)>,
    pending: BTreeMap<NodeId, VecDeque<Message>>,
    repeats: Vec<Repeat>,
    beats: Beats,
    chores_at: Time,
    serials: Serials,
    moved_at: Time,
    strangers_told_at: Option<Time>,
    /// When each device of another version was last mentioned in the log.
    foreign_told: BTreeMap<NodeId, Time>,
    clones: Clones,
    health: Health,
    /// When this device's loop came back after it had been away for long.
    woke_at: Option<Time>,
    epochs_told_at: Option<Time>,

    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stores: VecDeque<StoreRequest>,
    counters: Counters,
    deadline: (Time, &'static str),
}

/// Why a node could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewNodeError {
    /// The stored secret gives a public key that peers refuse.
    #[error("the device's key is unusable; remove it and a new one is made at the next start")]
    UnusableKey,
}

/// Borrows what a machine works with, leaving the machines themselves free.
macro_rules! ctx {
    ($node:ident) => {
        Ctx {
            now: $node.now,
            rng: &mut $node.rng,
            outbox: &mut $node.outbox,
            counters: &mut $node.counters,
        }
    };
}
use ctx;

impl Node {
    /// Makes a node. `wall` is the device's wall clock at `now`, in microseconds since the Unix
    /// epoch; `seed` decides all that is random.
    ///
    /// # Errors
    /// The stored key is unusable.
    pub fn new(
        config: NodeConfig,
        stored: Stored,
        now: Time,
        wall: u64,
        seed: [u8; 32],
    ) -> Result<Self, NewNodeError> {
        let key = config
            .crypto
            .public_key(&stored.secret)
            .ok_or(NewNodeError::UnusableKey)?;
        let mut rng = ChaCha12Rng::from_seed(seed);
        let identity = Identity::new(&config, key, BootId(rng.next_u64()));
        let listed = config.access.named();
        let rotation = config.group.clone().map(|ring| Rotation::new(ring, listed));
        let sessions = rotation
            .as_ref()
            .map(|group| identity.open_sessions(group, &config, &stored));
        let discovery = Discovery::new(now, &config.seeds, &stored.addresses);
        let membership = Membership::new(identity.node, stored.boot_counter, rng.random());
        let states = States::new(&identity, stored.boot_counter, stored.state);
        let mut node = Self {
            membership,
            discovery,
            liveness: Liveness::new(now, heartbeat_interval(1)),
            elections: BTreeMap::new(),
            messaging: Messaging::new(config.send_rate),
            quotas: BTreeMap::new(),
            slots: Slots::default(),
            reminders: VecDeque::new(),
            batch: Batch::default(),
            clock: GroupClock::new(now, wall, rng.next_u64()),
            wall: WallClock::new(now, wall),
            states,
            roster: Roster::default(),
            plugins: BTreeMap::new(),
            pasts: pasts(stored.epoch_ceilings),
            ceilings: BTreeMap::new(),
            pending: BTreeMap::new(),
            repeats: Vec::new(),
            beats: Beats::new(now),
            chores_at: now + CHORES_PERIOD,
            serials: Serials::default(),
            moved_at: now,
            strangers_told_at: None,
            foreign_told: BTreeMap::new(),
            clones: Clones::default(),
            health: Health::default(),
            woke_at: None,
            epochs_told_at: None,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            stores: VecDeque::new(),
            counters: Counters::default(),
            deadline: (now, "start"),
            started: now,
            now,
            received: now,
            life: Life::Running,
            config,
            identity,
            rotation,
            rotating: rotate::Progress::default(),
            sessions,
            rng,
        };
        node.open_system();
        node.settle();
        Ok(node)
    }

    /// This device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.identity.device
    }

    /// The time that [`Node::poll_timeout`] named has come. Harmless when early.
    pub fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        if let Some(sessions) = &mut self.sessions {
            sessions.handle_timeout(&mut ctx!(self));
        }
        if self.life == Life::Running {
            self.time_machines();
        }
        self.time_repeats();
        self.settle();
    }

    /// The driver or a plugin wants something.
    pub fn handle_command(&mut self, now: Time, command: Command) {
        self.begin(now);
        match command {
            Command::PluginUp(spec) => self.plugin_up(spec),
            Command::PluginQuota { id, quota } => self.set_quota(id, &quota),
            Command::PluginState { id, config } => self.set_state_config(id, config),
            Command::PluginFaulted(id) => self.plugin_faulted(&id),
            Command::PluginDown(id) => self.plugin_down(&id),
            Command::Plugin { id, command } => self.plugin_acts(&id, command),
            Command::Seeds(addresses) => {
                if self.rotation.is_some() {
                    self.discovery.set_resolved(addresses);
                }
            }
            Command::Access(access) => self.set_access(access),
            Command::NetworkChanged => self.network_changed(),
            Command::WallClock(wall) => self.wall = WallClock::new(self.now, wall),
            Command::Rotate { step, force } => self.rotate(step, force),
            Command::Leave => self.leave(),
        }
        self.settle();
    }

    /// What [`Node::poll_store`] asked for has been done, or could not be.
    ///
    /// A ceiling that could not be stored is asked for again with the next epoch: until then a
    /// restart may count from an epoch that was used before, which the group repairs by
    /// re-affirming.
    pub fn handle_stored(&mut self, now: Time, token: u64, result: Result<(), String>) {
        self.begin(now);
        if let Some((group, ceiling)) = self.ceilings.remove(&token) {
            let kept = result.is_ok();
            match self.elections.get_mut(&group) {
                Some(election) => election.handle(self.now, Input::Stored { ceiling, kept }),
                None => {
                    let past = self.pasts.entry(group).or_default();
                    past.epochs.stored(ceiling, kept);
                }
            }
        }
        if self.rotating.is_stored_by(token) {
            self.keyring_stored(result);
        } else if self.state_stored(token, &result) {
            // The store tells of a lasting failure once; this comes again and again.
            tracing::debug!(token, ?result, "state kept, or not");
        } else if let Err(reason) = result {
            tracing::warn!(
                token,
                reason,
                "storing failed; the device goes on without it"
            );
        }
        self.settle();
    }

    /// The next datagram to send. Messages to one device that arose since the last drain share
    /// datagrams, so a driver that has several inputs at hand may give all before it drains.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.flush();
        self.outbox.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing to persist.
    pub fn poll_store(&mut self) -> Option<StoreRequest> {
        self.stores.pop_front()
    }

    /// When to call [`Node::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        (self.life != Life::Left).then_some(self.deadline)
    }

    /// Whether an orderly stop has said all it has to say.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.life == Life::Left
    }

    /// T, for the members there are.
    fn interval(&self) -> Duration {
        heartbeat_interval(self.membership.active_count() + 1)
    }

    fn time_machines(&mut self) {
        let now = self.now;
        if self.rotation.is_some() && now >= self.discovery.next_timeout() {
            let connected = if self.discovery.is_beacon_due(now) {
                self.connected_addresses()
            } else {
                BTreeSet::new()
            };
            let members = self.membership.active_count();
            self.discovery
                .handle_timeout(now, members, &connected, &mut self.rng);
        }
        self.membership.handle_timeout(now);
        self.time_rotation();
        self.time_state();
        self.liveness.handle_timeout(now);
        for election in self.elections.values_mut() {
            election.handle(now, Input::Timeout);
        }
        self.time_plugins();
        self.time_beats();
        if now >= self.chores_at {
            self.chores_at = now + CHORES_PERIOD;
            self.do_chores();
        }
    }

    fn time_repeats(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        for repeat in &mut self.repeats {
            if repeat.left > 0 && now >= repeat.at {
                repeat.left -= 1;
                repeat.at = now + BURST_GAP;
                due.push(repeat.message.clone());
            }
        }
        self.repeats.retain(|repeat| repeat.left > 0);
        for message in due {
            self.send_to_connected(&message);
        }
    }

    /// Sends a message to all connected devices, four times 10 ms apart.
    fn repeat(&mut self, message: Message) {
        self.send_to_connected(&message);
        self.repeats.push(Repeat {
            at: self.now + BURST_GAP,
            left: BURST - 1,
            message,
        });
    }

    /// Peers learn this device's new address from the first packet that comes from it, so each is
    /// sent one at once.
    fn network_changed(&mut self) {
        self.discovery.restart(self.now);
        self.liveness.probe_connected();
    }

    fn leave(&mut self) {
        if self.life != Life::Running {
            return;
        }
        self.life = Life::Leaving;
        for election in self.elections.values_mut() {
            election.handle(self.now, Input::Leave(Departure::Stop));
        }
        let groups: Vec<GroupKey> = self.elections.keys().copied().collect();
        for group in groups {
            self.push_all(group);
        }
        self.flush_last_state();
        self.settle_elections();
        self.membership.leave(self.now);
        self.repeat(Message::Goodbye(Goodbye {}));
    }

    /// Carries outputs between the machines until there are none, then fixes the next timeout.
    fn settle(&mut self) {
        for _ in 0..SETTLE_MAX {
            let moved = self.settle_sessions()
                | self.settle_discovery()
                | self.settle_membership()
                | self.settle_liveness()
                | self.settle_elections()
                | self.settle_messages()
                | self.settle_state()
                | self.settle_clock()
                | self.settle_rotation();
            if !moved {
                break;
            }
        }
        self.pay_out();
        if self.life == Life::Leaving && self.repeats.is_empty() {
            self.life = Life::Left;
        }
        self.deadline = self.next_deadline();
    }

    fn next_deadline(&self) -> (Time, &'static str) {
        let grouped = self.rotation.is_some();
        let mut next = (Time::MAX, "nothing");
        let mut consider = |at: Option<Time>, why: &'static str| {
            if let Some(at) = at.filter(|at| *at < next.0) {
                next = (at, why);
            }
        };
        consider(
            self.sessions.as_ref().and_then(Sessions::next_timeout),
            "handshake",
        );
        consider(self.repeats.iter().map(|repeat| repeat.at).min(), "repeat");
        consider(self.next_message_timeout(), "messages");
        if self.life == Life::Running {
            consider(Some(self.chores_at), "chores");
            consider(grouped.then(|| self.discovery.next_timeout()), "beacon");
            consider(self.membership.next_timeout(), "membership");
            consider(Some(self.liveness.next_timeout()), "probe");
            let elections = self
                .elections
                .values()
                .filter_map(|election| election.next_timeout())
                .min();
            consider(elections, "election");
            consider(self.next_plugin_timeout(), "plugin fault");
            consider(self.next_beat(), "heartbeat");
            consider(self.next_rotation(), "rotation");
            consider(self.next_state_timeout(), "state");
        }
        (next.0.max(self.now), next.1)
    }

    fn endpoint(&self, node: NodeId) -> Option<Address> {
        let key = &self.roster.get(node)?.key;
        self.sessions.as_ref()?.endpoint(key)
    }

    fn send_to_connected(&mut self, message: &Message) {
        let connected: Vec<NodeId> = self.roster.connected().collect();
        for node in connected {
            self.send(node, message);
        }
    }

    /// Returns the token of the request.
    fn store(&mut self, record: StoreRecord, sync: bool) -> u64 {
        self.serials.store += 1;
        if let StoreRecord::EpochCeiling { group, ceiling } = record {
            self.ceilings.insert(self.serials.store, (group, ceiling));
        }
        self.stores.push_back(StoreRequest {
            token: self.serials.store,
            record,
            sync,
        });
        self.serials.store
    }
}

/// What elections of earlier runs left behind.
fn pasts(ceilings: Vec<(GroupKey, u64)>) -> BTreeMap<GroupKey, Past> {
    let past = |ceiling| Past {
        epochs: Epochs::at_start(ceiling),
        ..Past::default()
    };
    let ceilings = ceilings.into_iter();
    ceilings
        .map(|(group, ceiling)| (group, past(ceiling)))
        .collect()
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("device", &self.identity.device)
            .finish_non_exhaustive()
    }
}
