//! For how long the device state of absent devices is kept.
//!
//! Replicas lose sight of a device at different times. Each reckons until when it keeps what the
//! device wrote, and says so with whatever it sends of that; the latest such time holds everywhere.
//! So one that dropped the entries takes them in again from one that still keeps them, and none does
//! once all have dropped them. The times are rounded up, for replicas that lost sight of the device
//! within seconds to agree from the beginning.

use std::collections::{BTreeMap, BTreeSet};

use super::Replica;
use super::persist::Record;
use crate::id::NodeId;
use crate::time::micros;

/// Times are multiples of this part of `keep_absent`.
const PARTS: u64 = 24;

/// Which devices are members.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    present: BTreeSet<NodeId>,
    /// Until when, in group time, the entries of devices are kept that are not.
    absent: BTreeMap<NodeId, u64>,
    due: BTreeSet<(u64, NodeId)>,
    /// Grows with every change of these times.
    pub(super) changes: u64,
}

impl Presence {
    /// Until when the entries of a device are kept; 0 for as long as it is a member.
    pub(super) fn until(&self, node: NodeId) -> u64 {
        self.absent.get(&node).copied().unwrap_or(0)
    }

    pub(super) fn absent(&self) -> Vec<NodeId> {
        self.absent.keys().copied().collect()
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A device whose time is over at `now`.
    pub(super) fn take_due(&mut self, now: u64) -> Option<NodeId> {
        let (_, node) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.forget(node);
        Some(node)
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.changes += 1;
        if let Some(at) = self.absent.remove(&node) {
            self.due.remove(&(at, node));
        }
    }

    fn keep_until(&mut self, node: NodeId, at: u64) {
        self.forget(node);
        self.absent.insert(node, at);
        self.due.insert((at, node));
    }
}

impl Replica {
    /// A device is a member, or is one no longer.
    pub(crate) fn set_present(&mut self, now: u64, node: NodeId, present: bool) {
        if present {
            self.presence.forget(node);
            self.presence.present.insert(node);
        } else if self.presence.present.remove(&node) && !self.streams.of_device(node).is_empty() {
            self.presence.keep_until(node, self.kept_from(now));
        } else {
            return;
        }
        if self.knows(node) {
            self.soil(Record::Device(node));
        }
    }

    /// Until when the entries are kept of a device that is lost sight of at `now`.
    fn kept_from(&self, now: u64) -> u64 {
        let keep = micros(self.setup.config.keep_absent);
        let part = (keep / PARTS).max(1);
        let at = now.saturating_add(keep).div_ceil(part);
        at.saturating_mul(part)
    }

    /// Until when they are kept by the word `until`, 0 where their device was a member.
    fn kept_at_most(&self, now: u64, until: u64) -> u64 {
        match until {
            0 => self.kept_from(now),
            until => until.min(self.kept_from(now)),
        }
    }

    /// There is word of entries of a device by one who keeps them until `until`, or 0. Whether they
    /// are to be kept here.
    pub(super) fn meet(&mut self, now: u64, node: NodeId, until: u64) -> bool {
        if node == self.node || self.presence.present.contains(&node) {
            return true;
        }
        let at = self.kept_at_most(now, until);
        let held = self.presence.until(node);
        if at > held && at > now {
            self.presence.keep_until(node, at);
            self.soil(Record::Device(node));
        }
        at.max(held) > now
    }

    /// Entries of a device were kept over a restart until `until`, or 0.
    pub(super) fn meet_kept(&mut self, now: u64, node: NodeId, until: u64) {
        if node != self.node && self.presence.until(node) == 0 {
            let at = self.kept_at_most(now, until);
            self.presence.keep_until(node, at);
        }
    }

    /// Group time was set back to `now`: nothing is kept for longer than it would be from here on.
    pub(super) fn shorten_absence(&mut self, now: u64) {
        let longest = self.kept_from(now);
        for node in self.presence.absent() {
            if self.presence.until(node) > longest {
                self.presence.keep_until(node, longest);
                self.soil(Record::Device(node));
            }
        }
    }

    /// Drops what a device wrote into its own state.
    pub(super) fn drop_device(&mut self, node: NodeId) {
        for stream in self.streams.of_device(node) {
            self.drop_stream(stream);
        }
        self.soil(Record::Device(node));
    }
}
