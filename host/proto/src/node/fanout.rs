//! The fan-out tree: who uses it, what goes through it, and what it gives out.
//!
//! A message for many goes through the tree when its sender has not the credit to send it straight.
//! Each receiver is told the payload's digest by the sender itself, twice; the payload comes through
//! other members. A member passes on only what it verified, so that nobody can use the tree to
//! flood the group, and a member that passes nothing on costs its subtree the time to ask.

use core::time::Duration;

use bytes::Bytes;

use super::Node;
use super::parts::{frame, frames, queue};
use super::traffic::Delivery;
use crate::cost::{BRANCH_COST, BRANCHES, NOTICE_COST, STRAIGHT_MAX};
use crate::id::{BootId, GroupKey, NodeId};
use crate::messaging::App;
use crate::messaging::awaited::{self, Body, Due, Told, Verified};
use crate::messaging::kept::MessageKey;
use crate::messaging::outbound::Cargo;
use crate::messaging::tree;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::part::{Ask, Branch, Class, GroupRef, Head, Notice, part_count};
use rand::RngExt;

/// When notices are told again, and how many wait for that.
const REMIND_AFTER: Duration = Duration::from_millis(150);
const REMINDERS_MAX: usize = 256;

/// A notice that is told once more.
#[derive(Debug)]
pub(super) struct Reminder {
    at: Time,
    group: GroupKey,
    notice: Bytes,
}

impl Node {
    /// Whether sending straight would have to wait for credit, and the tree takes less.
    pub(super) fn needs_tree(&mut self, app: &App, receivers: usize) -> bool {
        if receivers <= STRAIGHT_MAX || !matches!(app.class, Class::Broadcast | Class::ToAll) {
            return false;
        }
        let len = app.payload.len();
        let parts = part_count(u32::try_from(len).unwrap_or(u32::MAX)) as usize;
        let straight = receivers * (len + parts * 28);
        let fanned = BRANCHES * (len + parts * BRANCH_COST) + 2 * receivers * NOTICE_COST;
        let outbound = &mut self.messaging.outbound;
        fanned < straight && !outbound.affords(self.now, receivers * len, receivers * parts)
    }

    /// Tells each receiver the digest, and gives the payload to the first members of the tree.
    pub(super) fn fan_out(&mut self, app: App, to: &[NodeId]) {
        let (now, group) = (self.now, app.group);
        let key = (self.identity.node, self.identity.boot, app.seq);
        let notice = self.notice(&app);
        for node in to {
            let notice = core::slice::from_ref(&notice);
            queue(&mut self.messaging, *node, notice, Cargo::Own);
        }
        if self.reminders.len() == REMINDERS_MAX {
            self.reminders.pop_front();
        }
        let at = now + REMIND_AFTER;
        self.reminders.push_back(Reminder { at, group, notice });
        let digest = awaited::told(&app, key, &app.payload).digest;
        let message = app.clone();
        self.messaging
            .kept
            .keep(now, key, message, None, Some(digest), to.len());
        self.branch_out(key, &app, tree::EVERYONE);
    }

    pub(super) fn notice(&self, app: &App) -> Bytes {
        frame(Message::Notice(self.notice_of(app)))
    }

    /// What this device tells of a message of its own.
    pub(super) fn notice_of(&self, app: &App) -> Notice {
        let key = (self.identity.node, self.identity.boot, app.seq);
        let told = awaited::told(app, key, &app.payload);
        Notice {
            head: Head {
                group: GroupRef::Key(app.group),
                class: app.class,
                epoch: app.epoch,
                seq: app.seq,
            },
            total: told.total,
            digest: told.digest,
        }
    }

    /// Passes a message on to the members within `range`, each the first of a part of it.
    fn branch_out(&mut self, key: MessageKey, app: &App, range: (u64, u64)) {
        let (origin, boot, seq) = key;
        let Some(plugin) = self.plugin_of(app.group) else {
            return;
        };
        let others = plugin.peers.keys().filter(|node| **node != origin);
        let members = others.map(|node| (tree::position(*node, origin, seq), *node));
        for (child, range) in tree::branches(range, members.collect()) {
            let wrap = |part| {
                Message::Branch(Branch {
                    origin,
                    boot,
                    range,
                    part,
                })
            };
            let frames = frames(app, GroupRef::Key(app.group), wrap);
            queue(&mut self.messaging, child, &frames, Cargo::Passed);
        }
    }

    /// A payload of another member's message, or a part of one.
    pub(super) fn take_branch(&mut self, from: NodeId, branch: Branch) {
        let Branch {
            origin,
            boot,
            range,
            part,
        } = branch;
        let key = (origin, boot, part.head.seq);
        let GroupRef::Key(group) = part.head.group else {
            return;
        };
        if origin == self.identity.node || self.plugin_of(group).is_none() {
            return;
        }
        if !self.messaging.is_fresh(origin, boot, part.head.seq) {
            self.supply_late(key, range);
            return;
        }
        if let Some(message) = self.assemble(from, (origin, boot), group, part) {
            let body = Body {
                from,
                message,
                range,
            };
            if let Some(verified) = self.messaging.waiting.body(self.now, key, body) {
                self.take_verified(key, verified);
            }
        }
    }

    /// The message came another way before; whoever depends on this device still gets it.
    fn supply_late(&mut self, key: MessageKey, range: (u64, u64)) {
        let kept = self.messaging.kept.get(&key);
        let message = kept
            .filter(|kept| kept.digest.is_some())
            .map(|kept| kept.message.clone());
        if let Some(message) = message
            && range.0 <= range.1
            && self.messaging.kept.pass_on(&key)
        {
            self.branch_out(key, &message, range);
        }
    }

    /// The sender itself says what a message is; the payload may be there or come.
    pub(super) fn take_notice(&mut self, from: NodeId, notice: &Notice) {
        let Some(entry) = self.roster.get(from) else {
            return;
        };
        let Head {
            class,
            epoch,
            seq,
            group,
        } = notice.head;
        let (boot, group) = (entry.boot, entry.group(group));
        let Some(group) = group.filter(|group| self.plugin_of(*group).is_some()) else {
            return;
        };
        let for_many = matches!(class, Class::Broadcast | Class::ToAll);
        if !for_many || !self.messaging.is_fresh(from, boot, seq) {
            return;
        }
        let told = Told {
            group,
            class,
            epoch,
            total: notice.total,
            digest: notice.digest,
        };
        let key = (from, boot, seq);
        if let Some(verified) = self.messaging.waiting.notice(self.now, key, told) {
            self.take_verified(key, verified);
        }
    }

    fn take_verified(&mut self, key: MessageKey, verified: Verified) {
        let (origin, boot, seq) = key;
        let Verified {
            message,
            digest,
            range,
        } = verified;
        let (now, copy) = (self.now, message.clone());
        self.messaging.reassembly.forget(origin, boot, seq);
        self.messaging
            .kept
            .keep(now, key, copy, None, Some(digest), BRANCHES);
        if range.0 <= range.1 && self.messaging.kept.pass_on(&key) {
            self.branch_out(key, &message, range);
        }
        self.relay(key, &message);
        self.deliver(Delivery {
            origin,
            boot,
            message,
        });
    }

    /// Asks for halves that are missing, and tells notices again.
    pub(super) fn settle_tree(&mut self) -> bool {
        let mut moved = false;
        let now = self.now;
        while self
            .reminders
            .front()
            .is_some_and(|reminder| reminder.at <= now)
        {
            moved = true;
            if let Some(Reminder { group, notice, .. }) = self.reminders.pop_front() {
                let plugin = self.plugin_of(group);
                let members = plugin.map(|plugin| plugin.peers.keys().copied().collect());
                let members: Vec<NodeId> = members.unwrap_or_default();
                for node in members {
                    let notice = core::slice::from_ref(&notice);
                    queue(&mut self.messaging, node, notice, Cargo::Again);
                }
            }
        }
        loop {
            let messaging = &mut self.messaging;
            let reassembly = &messaging.reassembly;
            let is_arriving =
                |key: &MessageKey| reassembly.senders(key.0, key.1, key.2).next().is_some();
            let Some(due) = messaging.waiting.poll(now, is_arriving) else {
                return moved;
            };
            moved = true;
            self.ask_half(due);
        }
    }

    fn ask_half(&mut self, due: Due) {
        match due {
            Due::AskNotice { key } => self.ask(key.0, key, true, 0),
            Due::AskBody {
                key,
                total,
                group,
                of_sender,
            } => {
                let missing = u64::MAX >> (64 - part_count(total).clamp(1, 64));
                let plugin = self.plugin_of(group);
                let peers = plugin.map(|plugin| plugin.peers.keys().copied().collect());
                let peers: Vec<NodeId> = peers.unwrap_or_default();
                let to = if of_sender || peers.is_empty() {
                    key.0
                } else {
                    peers[self.rng.random_range(0..peers.len())]
                };
                self.ask(to, key, false, missing);
            }
            Due::Lost { key, noticed: true } => self.messaging.counts_mut(key.0).lost += 1,
            Due::Lost { .. } => {}
        }
    }

    fn ask(&mut self, to: NodeId, key: MessageKey, notice: bool, missing: u64) {
        let (origin, boot, seq): (NodeId, BootId, u64) = key;
        let ask = Ask {
            origin,
            boot,
            seq,
            notice,
            missing,
        };
        self.send(to, &Message::Ask(ask));
    }

    pub(super) fn next_reminder(&self) -> Option<Time> {
        self.reminders.front().map(|reminder| reminder.at)
    }
}
