//! Plugins' messages: numbered at the sender, delivered at most once at the receiver.
//!
//! A number is unique within the sender's boot, over all groups and classes, so one window per
//! boot recognises what was delivered before, whichever way it came: straight, over a later
//! session, or relayed by a member that vouches for the leader. Old boots' windows are remembered
//! for a while, since a relay may bring a straggler of the boot before.
//!
//! A broadcast of a tenure that this device does not follow yet is held for a moment: the claim
//! may be under way, or this device may still be convincing itself that the former leader is gone.
//!
//! [`Outbound`] paces what is sent, [`Reassembly`] puts long messages together, [`Store`] keeps
//! what others may ask for, [`Waiting`] and [`tree`] are the fan-out tree.

pub(crate) mod awaited;
pub(crate) mod kept;
pub(crate) mod outbound;
pub(crate) mod reassembly;
pub(crate) mod tree;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::SendRate;
use crate::id::{BootId, GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::status::MessageCounts;
use crate::time::Time;
use crate::window::Window;
use crate::wire::part::Class;

use awaited::Waiting;
use kept::Store;
use outbound::Outbound;
use reassembly::Reassembly;

/// Boots remembered per sender.
const BOOTS_MAX: usize = 4;
/// Senders remembered.
const SENDERS_MAX: usize = 4096;
/// Broadcasts held per group, their bytes, and for how long.
const HELD_MAX: usize = 32;
const HELD_BYTES_MAX: usize = 256 << 10;
const HELD_FOR: Duration = Duration::from_secs(2);
/// For how long a member's request to relay a leader's broadcasts holds.
const RELAY_FOR: Duration = Duration::from_secs(3);

/// A plugin's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) group: GroupKey,
    pub(crate) class: Class,
    /// The sender's tenure for a broadcast, else 0.
    pub(crate) epoch: u64,
    /// Unique within the sender's boot.
    pub(crate) seq: u64,
    pub(crate) payload: Bytes,
}

/// A broadcast that waits for its tenure.
#[derive(Debug)]
struct Held {
    at: Time,
    leader: NodeId,
    message: App,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Messaging {
    pub(crate) outbound: Outbound,
    pub(crate) reassembly: Reassembly,
    pub(crate) kept: Store,
    pub(crate) waiting: Waiting,
    counts: BTreeMap<NodeId, MessageCounts>,
    sequence: u64,
    windows: BTreeMap<NodeId, VecDeque<(BootId, Window)>>,
    held: BTreeMap<GroupKey, VecDeque<Held>>,
    /// Which members want which leader's broadcasts relayed, and until when.
    relays: BTreeMap<(NodeId, NodeId), Time>,
}

impl Messaging {
    pub(crate) fn new(rate: SendRate) -> Self {
        Self {
            outbound: Outbound::new(rate),
            reassembly: Reassembly::default(),
            kept: Store::default(),
            waiting: Waiting::default(),
            counts: BTreeMap::new(),
            sequence: 0,
            windows: BTreeMap::new(),
            held: BTreeMap::new(),
            relays: BTreeMap::new(),
        }
    }

    /// The statistics of what goes to and comes from a device.
    pub(crate) fn counts_mut(&mut self, peer: NodeId) -> &mut MessageCounts {
        if self.counts.len() >= SENDERS_MAX && !self.counts.contains_key(&peer) {
            self.counts.pop_first();
        }
        self.counts.entry(peer).or_default()
    }

    /// The statistics of what went to and came from a device.
    pub(crate) fn counts(&self, peer: NodeId) -> MessageCounts {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// Numbers a message to send.
    pub(crate) fn number(
        &mut self,
        group: GroupKey,
        class: Class,
        epoch: u64,
        payload: Bytes,
    ) -> App {
        self.sequence += 1;
        App {
            group,
            class,
            epoch,
            seq: self.sequence,
            payload,
        }
    }

    /// Whether a message could still be delivered.
    pub(crate) fn is_fresh(&self, sender: NodeId, boot: BootId, seq: u64) -> bool {
        let mut boots = self.windows.get(&sender).into_iter().flatten();
        let window = boots.find(|(known, _)| *known == boot);
        window.is_none_or(|(_, window)| window.is_fresh(seq))
    }

    /// Whether a message is delivered for the first time; marks it delivered.
    pub(crate) fn accept(&mut self, sender: NodeId, boot: BootId, seq: u64) -> bool {
        if self.windows.len() >= SENDERS_MAX && !self.windows.contains_key(&sender) {
            self.windows.pop_first();
        }
        let boots = self.windows.entry(sender).or_default();
        let known = boots.iter_mut().find(|(known, _)| *known == boot);
        let window = match known {
            Some((_, window)) => window,
            None => {
                boots.truncate(BOOTS_MAX - 1);
                boots.push_front((boot, Window::default()));
                &mut boots[0].1
            }
        };
        let fresh = window.is_fresh(seq);
        if fresh {
            window.commit(seq);
        }
        fresh || mutant::is(Mutant::DuplicatesDelivered)
    }

    /// Holds a broadcast whose tenure is not followed. Beyond the bound the oldest is dropped.
    pub(crate) fn hold(&mut self, now: Time, leader: NodeId, message: App) {
        let held = self.held.entry(message.group).or_default();
        let mut bytes: usize = held.iter().map(|held| held.message.payload.len()).sum();
        bytes += message.payload.len();
        while held.len() == HELD_MAX || (bytes > HELD_BYTES_MAX && !held.is_empty()) {
            bytes -= held
                .pop_front()
                .map_or(0, |held| held.message.payload.len());
        }
        held.push_back(Held {
            at: now,
            leader,
            message,
        });
    }

    /// The held broadcasts of a tenure that is followed from here on. Those of other tenures stay
    /// until they are too old.
    pub(crate) fn release(
        &mut self,
        now: Time,
        group: GroupKey,
        leader: NodeId,
        epoch: u64,
    ) -> Vec<App> {
        let Some(held) = self.held.get_mut(&group) else {
            return Vec::new();
        };
        held.retain(|held| now.since(held.at) < HELD_FOR);
        let fits = |held: &Held| held.leader == leader && held.message.epoch == epoch;
        let (ready, rest): (Vec<_>, Vec<_>) = held.drain(..).partition(fits);
        if rest.is_empty() {
            self.held.remove(&group);
        } else {
            self.held.insert(group, rest.into());
        }
        ready.into_iter().map(|held| held.message).collect()
    }

    /// `member` hears `leader` through this device only.
    pub(crate) fn relay(&mut self, now: Time, leader: NodeId, member: NodeId) {
        self.relays.retain(|_, until| *until > now);
        self.relays.insert((leader, member), now + RELAY_FOR);
    }

    /// The members to whom this leader's broadcasts are passed on.
    pub(crate) fn relayed_to(&self, now: Time, leader: NodeId) -> Vec<NodeId> {
        let range = self
            .relays
            .range((leader, NodeId(0))..=(leader, NodeId(u64::MAX)));
        range
            .filter(|(_, until)| **until > now)
            .map(|((_, member), _)| *member)
            .collect()
    }
}
