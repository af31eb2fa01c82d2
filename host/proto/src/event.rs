//! What goes into a node and what comes out of it, apart from datagrams.
//!
//! A plugin's whole knowledge of its group is a fold over its [`PluginEvent`]s, in order: whoever
//! applies them has the plugin's view without asking the node. That is what makes a plugin's run a
//! function of the events it got.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::Access;
use crate::id::{DeviceId, GroupKey, PluginId, Version};
use crate::keyring::Keyring;
use crate::quota::SendQuota;
use crate::state::{StateConfig, StateUpdate, StateWrite};

/// Where datagrams go to and come from. Opaque to the protocol: it compares addresses and hands
/// them back, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Address {
    /// A UDP socket address.
    Udp(SocketAddr),
}

impl Address {
    /// The host's part as text, without the port.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Udp(socket) => socket.ip().to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(socket) => socket.fmt(f),
        }
    }
}

/// A device that runs a plugin and is alive in the group, as one device sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub device: DeviceId,
    /// From its own configuration; not unique.
    pub name: String,
    /// The host it was last heard from, without port; `127.0.0.1` for this device.
    pub address: String,
    /// Whether it is this device.
    pub is_self: bool,
    /// Its wall clock minus this device's, in microseconds.
    pub clock_delta: i64,
    /// Smoothed round trip in microseconds; 0 for this device.
    pub round_trip: u32,
}

/// One tenure of one leader; (term, leader) is the fencing token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Who leads.
    pub leader: Peer,
    /// Grows with every change of leader.
    pub term: u64,
}

/// What a plugin learns, in order.
///
/// The node guarantees: a peer is added before it leads and removed after its demotion; every
/// promotion is ended by exactly one demotion of the same kind; a new instance is told the peers
/// and the role again by its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginEvent {
    /// A device joined the plugin's group. This device itself is the first.
    PeerAdded(Peer),
    /// What is known of a present peer changed (address, round trip, clock). No callback.
    PeerUpdated(Peer),
    /// A device left the plugin's group.
    PeerRemoved(Peer),
    /// The plugin takes part in this group from here on: what was told before is of an earlier
    /// stay, perhaps in the group of another version. No callback.
    Joined(GroupKey),
    /// This device leads from here on.
    PromoteLeader(Leadership),
    /// This device leads no longer.
    DemoteLeader,
    /// Another device leads from here on.
    PromoteFollower(Leadership),
    /// That device leads no longer.
    DemoteFollower,
    /// The same leader re-affirmed its leadership in a higher term. No callback.
    TermChanged {
        /// The new term.
        term: u64,
    },
    /// This device leads but lost touch with its followers; until `false` follows, broadcasts are
    /// refused as `busy`. No callback. A demotion ends it too.
    BroadcastsHeld(bool),
    /// From the leader's broadcast.
    LeaderMessage {
        /// The tenure in which it was sent.
        sender: Leadership,
        /// What the leader sent.
        payload: Bytes,
    },
    /// From any member, to the leader, to this device or to all.
    PeerMessage {
        /// Who sent it.
        sender: Peer,
        /// What it sent.
        payload: Bytes,
    },
    /// The group's state changed, or this device's own writes were accounted for.
    State(StateUpdate),
    /// Leader-state keys that this device wrote as leader and the group did not adopt.
    WritesSuperseded(Vec<Arc<str>>),
}

/// What a plugin asks of its group. The host has checked it against the plugin's view and quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginCommand {
    /// From the leader to every member, this device included.
    Broadcast(Bytes),
    /// To the leader; a local delivery on the leader itself.
    SendToLeader(Bytes),
    /// To one member.
    Send {
        /// The member.
        to: DeviceId,
        /// What it gets.
        payload: Bytes,
    },
    /// To every member, this device included.
    SendToAll(Bytes),
    /// Writes to the group's state. Each is accounted for by one [`PluginEvent::State`], in order.
    Write(StateWrite),
}

/// A plugin that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSpec {
    /// Which plugin.
    pub id: PluginId,
    /// Which version of it.
    pub version: Version,
    /// Rank of this device in elections; the highest leads where the leader is vacant.
    pub priority: i16,
    /// Whether this device takes over from a leader of lower priority that lives and is healthy,
    /// once it has been a member without interruption for 60 s.
    #[serde(default)]
    pub preempt: bool,
}

impl PluginSpec {
    /// The group this plugin belongs to.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        GroupKey::new(&self.id, self.version)
    }
}

/// What the driver tells a node.
#[derive(Clone, Debug)]
pub enum Command {
    /// A plugin's instance passed `setup` and may join its group; also after a fault, and with
    /// another version after a reload.
    PluginUp(PluginSpec),
    /// What a plugin may send, from here on. Without it, the default quota holds.
    PluginQuota {
        /// Which plugin.
        id: PluginId,
        /// Its quota. The plugin's host refuses what exceeds it; the node drops what exceeds it by
        /// more than a quarter.
        quota: SendQuota,
    },
    /// How a plugin's state is kept, from here on. Without it, the defaults hold.
    PluginState {
        /// Which plugin.
        id: PluginId,
        /// Its settings; out of bounds, the nearest that is allowed counts.
        config: StateConfig,
    },
    /// A plugin's instance faulted and is being restarted. It keeps a leadership it holds if
    /// [`Command::PluginUp`] follows within 250 ms.
    PluginFaulted(PluginId),
    /// A plugin is gone for now: unloaded, quarantined, or its reload failed for good. It hands a
    /// leadership over.
    PluginDown(PluginId),
    /// A plugin acts.
    Plugin {
        /// Which plugin.
        id: PluginId,
        /// What it wants.
        command: PluginCommand,
    },
    /// What the names among the seeds stand for, all of them together, in place of what was told
    /// before; at most 256 count.
    Seeds(Vec<Address>),
    /// Other devices are admitted from here on. Sessions with those that are not are closed, and
    /// they are members no longer.
    Access(Access),
    /// The network changed: beacons start their quick schedule anew, and peers hear at once where
    /// this device is.
    NetworkChanged,
    /// The device's wall clock was set: its new value, in microseconds since the Unix epoch.
    WallClock(u64),
    /// A step of a rotation of the group's secret, for the whole group. [`Event::Rotated`] tells
    /// what came of it.
    Rotate {
        /// Which step.
        step: RotateStep,
        /// Whether to pass over members that are not ready for it.
        force: bool,
    },
    /// Stop in order: name successors, say goodbye to all.
    Leave,
}

/// A step of a rotation of the group's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateStep {
    /// Make a fresh secret that everybody accepts and nobody sends under.
    Install,
    /// Send under the fresh secret; the former one is still accepted.
    Use,
    /// Accept the former secret no longer.
    Remove,
    /// Replace a secret that strangers may hold: a fresh one goes to listed devices only, and is
    /// the only one from then on.
    Compromised,
}

/// Why a step of a rotation was not taken. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RotateError {
    /// There is no secret to rotate.
    #[error("this device belongs to no group")]
    NoGroup,
    /// The step before is not stored yet.
    #[error("this device is storing other secrets right now; try again in a moment")]
    Busy,
    /// A secret waits to be used.
    #[error(
        "a rotation is under way: the secret of epoch {0} is installed; go on with `use`, or install another one in its place with --force"
    )]
    Staged(u32),
    /// No secret waits to be used.
    #[error("no secret is installed that could be used; begin with `install`")]
    NothingStaged,
    /// No secret is on its way out.
    #[error("no former secret is left to be removed")]
    NothingRetiring,
    /// Members lack the secret that is to be used.
    #[error("{} of the present members do not hold the new secret yet", .0.len())]
    NotHeld(Vec<DeviceId>),
    /// Members send under the secret that is to be removed.
    #[error("{} of the present members do not use the new secret yet", .0.len())]
    NotUsed(Vec<DeviceId>),
    /// Nobody says who may hold the fresh secret.
    #[error(
        "this device has no list of allowed devices, so there is nobody to give a fresh secret to; name the devices of the group in `group.allow` first"
    )]
    NoList,
    /// All epochs have been used.
    #[error("no further secret can be made in this group; make a new group")]
    UsedUp,
    /// The disk refused.
    #[error("the secrets could not be stored: {0}")]
    NotStored(String),
}

/// What a node tells the driver.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something for a plugin.
    Plugin {
        /// Which plugin.
        id: PluginId,
        /// What it learns.
        event: PluginEvent,
    },
    /// How group time follows from the monotonic clock from here on.
    Clock(ClockView),
    /// Group time was set back by `by`: running plugins must start anew, so that time never runs
    /// back within one run.
    ClockSetBack {
        /// By how much.
        by: Duration,
    },
    /// A device became a member.
    MemberAdded(DeviceId),
    /// A device is a member no longer.
    MemberRemoved {
        /// Which device.
        device: DeviceId,
        /// Why.
        reason: RemovalReason,
    },
    /// What came of [`Command::Rotate`] on this device: the epoch that is active, or why nothing
    /// was changed. The other devices follow; [`crate::PeerStatus::keyring`] tells how far.
    Rotated {
        /// Which step.
        step: RotateStep,
        /// The active secret's epoch, or why not.
        result: Result<u32, RotateError>,
    },
    /// Two devices run with one key, as after copying a memory card. Comes once for as long as
    /// both go on; of this device itself too, kept or not.
    CloneDetected {
        /// Whose key.
        device: DeviceId,
        /// Where the one is that goes on as before.
        kept_at: Address,
        /// Where the one is that no member takes notice of.
        refused_at: Address,
    },
}

/// Why a member was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// It said goodbye.
    Left,
    /// Neither the group's probes nor this device's own reached it.
    Unreachable,
    /// This device does not admit it any more.
    Denied,
}

/// How this device's group time follows from its monotonic clock:
/// `group = group_at + elapsed * (1 + rate) + min(elapsed, slew_us) * slew`, where `elapsed` is the
/// monotonic time since `at`, and rates are in parts per billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockView {
    /// Monotonic time of the last change, in microseconds.
    pub at: u64,
    /// Group time then, in microseconds since the Unix epoch.
    pub group_at: u64,
    /// How much faster group time runs than the monotonic clock, at most 1,000,000 either way.
    pub rate_ppb: i32,
    /// How much faster still until `slew_us` have passed, to make an error good; at most 1,000,000
    /// either way.
    pub slew_ppb: i32,
    /// How long the slew lasts, in microseconds.
    pub slew_us: u64,
    /// Whether the distance to the group's reference is known: this device is the reference,
    /// follows it, or has lost it and knows of no other.
    pub synchronised: bool,
    /// Bound on the error at `at`, against the reference followed last, in microseconds; the largest
    /// number if there is none.
    pub error_bound: u64,
    /// By how much the bound grows with time.
    pub bound_ppb: u32,
}

impl ClockView {
    /// A device's own time, which is nobody else's.
    #[must_use]
    pub const fn free_running(now: crate::time::Time, wall: u64) -> Self {
        Self {
            at: now.as_micros(),
            group_at: wall,
            rate_ppb: 0,
            slew_ppb: 0,
            slew_us: 0,
            synchronised: false,
            error_bound: u64::MAX,
            bound_ppb: 0,
        }
    }

    /// Group time at monotonic time `now`, in microseconds since the Unix epoch.
    #[must_use]
    pub fn group_time(&self, now: crate::time::Time) -> u64 {
        let elapsed = i128::from(now.as_micros()) - i128::from(self.at);
        let faster = elapsed * i128::from(self.rate_ppb) + self.slewed(elapsed);
        let group = i128::from(self.group_at) + elapsed + faster / 1_000_000_000;
        u64::try_from(group).unwrap_or(0)
    }

    /// Bound on the error at monotonic time `now` against the reference followed last, in
    /// microseconds; the largest number if there is none.
    #[must_use]
    pub fn error_bound_at(&self, now: crate::time::Time) -> u64 {
        let elapsed = now.as_micros().saturating_sub(self.at);
        let grown = u128::from(elapsed) * u128::from(self.bound_ppb) / 1_000_000_000;
        self.error_bound
            .saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
    }

    /// What is still to be slewed at `now`, in microseconds.
    pub(crate) fn unslewed(&self, now: crate::time::Time) -> i128 {
        let elapsed = i128::from(now.as_micros()) - i128::from(self.at);
        let all = i128::from(self.slew_us) * i128::from(self.slew_ppb);
        (all - self.slewed(elapsed)) / 1_000_000_000
    }

    /// What the slew adds in `elapsed` microseconds, in billionths of one.
    fn slewed(&self, elapsed: i128) -> i128 {
        elapsed.min(self.slew_us.into()) * i128::from(self.slew_ppb)
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One address.
    Address(Address),
    /// Every usable interface, by multicast and, where configured, broadcast.
    Everyone,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: Destination,
    /// The datagram, at most [`crate::MAX_DATAGRAM`] bytes.
    pub payload: Bytes,
}

/// What a node wants persisted. Losing it must not lose more than the field's documentation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRequest {
    /// Comes back in [`crate::Node::handle_stored`].
    pub token: u64,
    /// What it is.
    pub record: StoreRecord,
    /// Whether it must have reached the disk before `handle_stored` is called.
    pub sync: bool,
}

/// A record that survives restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRecord {
    /// The epoch below which this device may have claimed in a group: counting starts there after
    /// a restart.
    EpochCeiling {
        /// Which group.
        group: GroupKey,
        /// The ceiling.
        ceiling: u64,
    },
    /// Where members were reached, to be tried at the next start. At most 256.
    Addresses(Vec<Address>),
    /// The group's secrets, in place of those at the start. The node goes by it, and hands it on,
    /// only once it is stored; lost, it would leave the device out of its group.
    Keyring(Keyring),
    /// Changes to the kept state of one group: all of them or none. Lost, the device has what its
    /// peers have.
    State {
        /// Which group.
        group: GroupKey,
        /// Keys and what is under them from here on, both opaque; none deletes. Keys have at most
        /// 512 bytes.
        changes: Vec<(Bytes, Option<Bytes>)>,
    },
}
