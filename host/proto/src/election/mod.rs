//! Who leads one plugin's group. One [`Election`] runs per group that this device takes part in.
//!
//! An election is a mode: a machine that takes [`Input`]s in, hands [`Output`]s out and shows its
//! [`Role`]. There is one mode, [`available`](self::available): every component of a partitioned
//! network has a leader. A mode that keeps to one leader at most (explicit voters, votes on the
//! disk, leases) fits behind the same interface: votes are claims and follows, a lease is a
//! timeout, and a vote's write is acknowledged by [`Input::Stored`].
//!
//! Invariants of every mode:
//! - Promotions and demotions alternate, in the order of the outputs.
//! - A device is never told of a tenure older than one it was told of before.
//! - What an input costs does not grow with the group, but for a vacancy and a beat.

mod available;
mod damping;
mod epochs;
mod input;
mod output;

use core::fmt::Debug;
use core::time::Duration;
use std::collections::BTreeMap;

pub(crate) use damping::Damping;
pub(crate) use epochs::Epochs;
pub(crate) use input::{Claimed, Departure, Input};
pub(crate) use output::{Output, Role};

use crate::id::{GroupKey, NodeId};
use crate::time::Time;

/// The election of one group.
pub(crate) trait Election: Debug + Send {
    /// Takes something in.
    fn handle(&mut self, now: Time, input: Input);

    /// The next decision, in order.
    fn poll(&mut self) -> Option<Output>;

    /// Whether [`Election::poll`] has something.
    fn has_output(&self) -> bool;

    /// When to hand in [`Input::Timeout`] next.
    fn next_timeout(&self) -> Option<Time>;

    /// What this device is to the group.
    fn role(&self) -> Role;

    /// Others' claims, as far as they are known and believed.
    fn known_claims(&self) -> &BTreeMap<NodeId, Known>;

    /// The epoch that a device which claims `epoch` ought to exceed, if it does not: for this
    /// device's sake, or for that of a member which says so.
    fn seen_beyond(&self, claimant: NodeId, epoch: u64) -> Option<u64>;

    /// While this device follows nobody: the largest epoch that keeps it from following a claim it
    /// knows of.
    fn in_the_way(&self) -> Option<u64>;

    /// Whether this device ranks last for now, for having lost the leadership too often.
    fn is_flapping(&self) -> bool;

    /// The penalty for losses of leadership that this device saw `node` suffer, in thousandths.
    fn penalty_seen(&self, now: Time, node: NodeId) -> Option<u32>;

    /// What a later election of this group on this device continues from.
    fn past(&self) -> Past;

    /// This device's claim: epoch and number of followers, itself included.
    fn claim(&self) -> Option<(u64, u32)> {
        match self.role() {
            Role::Leading {
                epoch, followers, ..
            } => Some((epoch, followers)),
            Role::Idle | Role::Waiting { .. } | Role::Following { .. } => None,
        }
    }

    /// The tenure this device follows.
    fn followed(&self) -> Option<(NodeId, u64)> {
        match self.role() {
            Role::Following { leader, epoch } => Some((leader, epoch)),
            Role::Idle | Role::Waiting { .. } | Role::Leading { .. } => None,
        }
    }

    /// Whether this device leads but lost touch with its followers.
    fn is_held(&self) -> bool {
        matches!(self.role(), Role::Leading { held: true, .. })
    }
}

/// Where a claim is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The claiming device itself.
    Own,
    /// A member that hears it.
    Reported,
}

/// Another device's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: u64,
    pub(crate) followers: u32,
    pub(crate) source: Source,
    at: Time,
}

/// What an election knows of a member that runs the plugin healthily.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// From its configuration; higher leads rather.
    pub(crate) priority: i16,
    /// Takes over from a leader of lower priority once it has been stable for long enough.
    pub(crate) preempts: bool,
    /// Ranks last for now.
    pub(crate) flapping: bool,
    /// Lacks much of the group's state: others of its priority lead rather.
    pub(crate) incomplete: bool,
}

impl Candidate {
    /// Whether the other differs in nothing but how much of the state it has.
    pub(crate) fn is_like(self, other: Self) -> bool {
        let incomplete = other.incomplete;
        Self { incomplete, ..self } == other
    }
}

/// What outlives an election of a group on this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) epochs: Epochs,
    pub(crate) damping: Damping,
}

/// What an election begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) group: GroupKey,
    pub(crate) me: NodeId,
    pub(crate) own: Candidate,
    pub(crate) past: Past,
    /// T.
    pub(crate) interval: Duration,
}

/// An election in the mode `available`.
pub(crate) fn open(setup: Setup) -> Box<dyn Election> {
    Box::new(available::Available::new(setup))
}
