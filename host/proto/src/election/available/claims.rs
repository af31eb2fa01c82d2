//! Others' claims to one group, as far as they are known and believed.
//!
//! What a device says of itself counts until it says otherwise or has been silent for too long.
//! What a third member reports counts only while the claiming device itself is out of hearing, and
//! only if it was heard after this device held it for lost.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::election::{Claimed, Known, Source};
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

#[derive(Debug, Default)]
pub(super) struct Claims {
    known: BTreeMap<NodeId, Known>,
    /// When each device last claimed in its own words.
    spoke: BTreeMap<NodeId, Time>,
    /// When each device was lost, as far back as a report may reach.
    lost: BTreeMap<NodeId, Time>,
    /// The largest epoch that another claimed or a member was told of.
    exceeded_by: u64,
    /// The largest epoch that a member named as in its way.
    in_the_way: u64,
}

impl Claims {
    /// The device itself claims.
    pub(super) fn heard(&mut self, now: Time, node: NodeId, claim: Claimed) {
        self.spoke.insert(node, now);
        self.lost.remove(&node);
        self.exceeded(claim.epoch);
        self.known.insert(
            node,
            Known {
                epoch: claim.epoch,
                followers: claim.followers,
                source: Source::Own,
                at: now,
            },
        );
    }

    /// A member heard the device claim at `heard`. Returns whether that counts.
    pub(super) fn reported(
        &mut self,
        now: Time,
        node: NodeId,
        claim: Claimed,
        heard: Time,
        hearing: Duration,
    ) -> bool {
        let speaks = self
            .spoke
            .get(&node)
            .is_some_and(|at| now.since(*at) < hearing);
        let after_loss = self.lost.get(&node).is_none_or(|lost| heard > *lost);
        let refuted = !after_loss && !mutant::is(Mutant::ReportBeforeLoss);
        if speaks || refuted {
            return false;
        }
        self.exceeded(claim.epoch);
        self.known.insert(
            node,
            Known {
                epoch: claim.epoch,
                followers: claim.followers,
                source: Source::Reported,
                at: heard,
            },
        );
        true
    }

    /// The device claims no longer, by its own word or its group's. Returns whether it did.
    pub(super) fn remove(&mut self, node: NodeId) -> bool {
        self.known.remove(&node).is_some()
    }

    /// The device was not to be reached at `now`. Losses older than any report that still counts
    /// are forgotten.
    pub(super) fn lost(&mut self, now: Time, node: NodeId, hearing: Duration) {
        self.known.remove(&node);
        self.lost.retain(|_, at| now.since(*at) < hearing);
        self.spoke.retain(|_, at| now.since(*at) < hearing);
        self.spoke.remove(&node);
        self.lost.insert(node, now);
    }

    /// Somebody was told of this epoch by another than this device.
    pub(super) fn exceeded(&mut self, epoch: u64) {
        self.exceeded_by = self.exceeded_by.max(epoch);
    }

    /// A member was told of a tenure of this epoch and follows none that is not beyond it.
    pub(super) fn in_the_way(&mut self, epoch: u64) {
        self.in_the_way = self.in_the_way.max(epoch);
        self.exceeded(epoch);
    }

    /// The epoch that is in some member's way to a tenure of `epoch`.
    pub(super) fn blocks(&self, epoch: u64) -> Option<u64> {
        (self.in_the_way >= epoch).then_some(self.in_the_way)
    }

    /// Whether others were told of an epoch that `own` does not exceed; true once per epoch.
    pub(super) fn take_exceeded(&mut self, own: u64) -> bool {
        let exceeded = self.exceeded_by >= own;
        if exceeded {
            self.exceeded_by = 0;
        }
        exceeded
    }

    /// Forgets claims that were not confirmed for `patience`, the followed leader's excepted: its
    /// life is decided by probes.
    pub(super) fn expire(&mut self, now: Time, patience: Duration, followed: Option<NodeId>) {
        self.known
            .retain(|node, known| Some(*node) == followed || now.since(known.at) < patience);
    }

    /// When the next claim expires.
    pub(super) fn expiry(&self, patience: Duration) -> Option<Time> {
        self.known.values().map(|known| known.at + patience).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn known(&self) -> &BTreeMap<NodeId, Known> {
        &self.known
    }
}
