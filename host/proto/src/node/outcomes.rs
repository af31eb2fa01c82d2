//! What the machines decide, carried to the others: one function per machine, and the slow work.

use core::time::Duration;
use std::collections::BTreeSet;

use rand::Rng as _;

use super::roster::Standing;
use super::{Node, PENDING_MAX, ctx};
use crate::ctx::Ctx;
use crate::discovery;
use crate::election::Input;
use crate::event::{Address, Event, RemovalReason, StoreRecord};
use crate::id::NodeId;
use crate::liveness;
use crate::membership;
use crate::mutant::{self, Mutant};
use crate::pace::is_large;
use crate::session::Sessions;
use crate::time::Time;
use crate::wire::message::{DownNotice, Message, Ping, Query, WhoIs};

/// How many members are asked about a silent leader, or for an unknown member.
const ASKED: usize = 3;
/// Every so many seconds others are asked about a member that there is no session with.
const RECORD_TURN: u64 = 8;
/// An attempt that goes on for longer may be made at an address that the member has left. Every so
/// many seconds others are asked then.
const MOVED_TO_AFTER: Duration = Duration::from_secs(2);
const SEEK_TURN: u64 = 4;
/// How often addresses are looked at that members moved to.
const MOVED_PERIOD: Duration = Duration::from_secs(10);

/// A member about which there is something to do.
struct Wanting {
    node: NodeId,
    connected: bool,
    recorded: bool,
    /// The group holds it for down.
    doubted: bool,
    /// It is its turn, and its session is silent.
    silent: bool,
}

impl Node {
    pub(super) fn settle_discovery(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.discovery.poll() {
            moved = true;
            for beacon in self.beacons() {
                match output {
                    discovery::Output::Everyone => ctx!(self).transmit_to_everyone(beacon),
                    discovery::Output::Hello(address) | discovery::Output::Call(_, address) => {
                        ctx!(self).transmit(address, beacon);
                    }
                }
            }
            if let discovery::Output::Call(node, _) = output
                && !mutant::is(Mutant::MissingUnasked)
            {
                self.ask_some(node, 1, &Message::WhoIs(WhoIs { device: node }));
            }
        }
        moved
    }

    pub(super) fn settle_membership(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.membership.poll() {
            moved = true;
            match output {
                membership::Output::Send { to, packet } => {
                    self.send_or_keep(to, Message::Membership(packet));
                }
                membership::Output::Notice {
                    to,
                    incarnation,
                    down,
                } => {
                    let notice = DownNotice { incarnation, down };
                    self.send(to, &Message::DownNotice(notice));
                }
                membership::Output::Up(node) => self.member_up(node),
                membership::Output::Down(node) => self.member_down(node),
            }
        }
        moved
    }

    /// A packet of membership waits for the session instead of counting as a failed probe.
    fn send_or_keep(&mut self, to: NodeId, message: Message) {
        if to == self.identity.node || !self.admits(to) || self.send(to, &message) {
            return;
        }
        let kept = self.pending.entry(to).or_default();
        if kept.len() == PENDING_MAX {
            kept.pop_front();
        }
        kept.push_back(message);
        self.seek(to);
    }

    fn member_up(&mut self, node: NodeId) {
        if node == self.identity.node || !self.admits(node) {
            return;
        }
        self.discovery.member_found(node);
        match self.roster.get(node) {
            Some(entry) if entry.refuses => {}
            Some(_) => self.roster.set_standing(node, Standing::Active),
            None => {
                self.roster.unknown.insert(node);
            }
        }
        self.record_present(node, true);
        self.update_interval();
        // A device that starts in a large group is told of all members at once, most of which are
        // about to dial it. The chores seek those who do not.
        if !is_large(self.membership.active_count()) {
            self.seek(node);
        }
        self.refresh_visibility(node);
    }

    /// The group's word is a hint: this device probes for itself first.
    fn member_down(&mut self, node: NodeId) {
        self.roster.unknown.remove(&node);
        self.update_interval();
        if mutant::is(Mutant::DownBelieved) {
            return self.member_gone(node, RemovalReason::Unreachable);
        }
        let entry = self.roster.get(node);
        if entry.is_some_and(|entry| entry.standing() == Standing::Active) {
            self.roster.set_standing(node, Standing::Doubted);
            self.liveness.verify(self.now, node);
        }
    }

    fn update_interval(&mut self) {
        let interval = self.interval();
        self.liveness.set_interval(interval);
        self.liveness
            .set_thrifty(is_large(self.membership.active_count()));
        for election in self.elections.values_mut() {
            election.handle(self.now, Input::Interval(interval));
        }
    }

    /// Opens a session to a member, or asks others how to reach it; them also where an attempt goes
    /// on, or a session is silent, for so long that the member may have moved.
    fn seek(&mut self, node: NodeId) {
        let Some(sessions) = &self.sessions else {
            return;
        };
        if let Some(entry) = self.roster.get(node) {
            let connected = sessions.is_established(&entry.key);
            let connecting = sessions.connecting_since(&entry.key);
            if connected && (!self.is_silent(node) || mutant::is(Mutant::SilentUnasked)) {
                return;
            }
            if connected || connecting.is_some() {
                let early = connecting.is_some_and(|at| self.now.since(at) < MOVED_TO_AFTER);
                if early || !is_turn(self.now, node, SEEK_TURN) || mutant::is(Mutant::MovedUnasked)
                {
                    return;
                }
            } else {
                let candidates = entry.told.candidates.clone();
                let boot = entry.boot;
                self.dial(node, boot, &candidates);
            }
        }
        self.ask_some(node, ASKED, &Message::WhoIs(WhoIs { device: node }));
    }

    /// Sends a question about a device to so many connected others, to those first that this device
    /// hears.
    fn ask_some(&mut self, about: NodeId, count: usize, question: &Message) {
        let mut asked = Vec::with_capacity(count);
        for silent in [false, true] {
            while asked.len() < count {
                let from = NodeId(self.rng.next_u64());
                let fits = |node: &NodeId| {
                    *node != about && !asked.contains(node) && self.is_silent(*node) == silent
                };
                let Some(node) = self.roster.connected_from(from).find(fits) else {
                    break;
                };
                asked.push(node);
            }
        }
        for node in asked {
            self.send(node, question);
        }
    }

    pub(super) fn settle_liveness(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.liveness.poll() {
            moved = true;
            match output {
                liveness::Output::Probe(node) => {
                    let bulletin = self.bulletin_for(node);
                    let sent = liveness::stamp(self.now);
                    self.send(node, &Message::Ping(Ping { sent, bulletin }));
                }
                liveness::Output::Ask { about } => {
                    let relay = self.leaders().contains(&about);
                    self.ask_some(
                        about,
                        ASKED,
                        &Message::Query(Query {
                            device: about,
                            relay,
                        }),
                    );
                }
                liveness::Output::Cleared(node) => {
                    tracing::debug!(?node, "a silent device gave a sign of life");
                }
                liveness::Output::Lost(node) => self.peer_lost(node),
            }
        }
        moved
    }

    /// Ten probes of a device stayed unanswered.
    fn peer_lost(&mut self, node: NodeId) {
        tracing::info!(device = ?node, "ten probes unanswered");
        let doubted = self
            .roster
            .get(node)
            .is_some_and(|entry| entry.standing() == Standing::Doubted);
        if doubted {
            self.member_gone(node, RemovalReason::Unreachable);
        } else {
            self.lose_claims(node);
            self.membership.suspect(self.now, node);
        }
    }

    /// A device's claims are void: it is lost, or runs anew.
    pub(super) fn lose_claims(&mut self, node: NodeId) {
        for election in self.elections.values_mut() {
            election.handle(self.now, Input::Lost { node });
        }
        self.settle_elections();
    }

    /// A device is a member no longer.
    pub(super) fn member_gone(&mut self, node: NodeId, reason: RemovalReason) {
        let now = self.now;
        self.lose_claims(node);
        let endpoint = self.endpoint(node);
        let Some(entry) = self.roster.get_mut(node) else {
            return;
        };
        let was_visible = core::mem::replace(&mut entry.visible, false);
        let (device, key) = (entry.device, entry.key);
        match reason {
            RemovalReason::Left | RemovalReason::Denied => {
                entry.record = None;
                self.roster.set_standing(node, Standing::Left);
                self.close_session(node, &key);
            }
            RemovalReason::Unreachable => {
                let others = entry.told.candidates.iter().copied();
                let others = others.filter(|address| Some(*address) != endpoint);
                let addresses = endpoint.into_iter().chain(others).collect();
                self.discovery.member_lost(now, node, addresses);
                self.roster
                    .set_standing(node, Standing::Missing { since: now });
            }
        }
        self.record_present(node, false);
        self.pending.remove(&node);
        self.drop_waiting(node);
        self.refresh_peer(node);
        if was_visible {
            self.events
                .push_back(Event::MemberRemoved { device, reason });
        }
    }

    /// Whether a device is part of the plugins' view. It stays until [`Node::member_gone`].
    pub(super) fn refresh_visibility(&mut self, node: NodeId) {
        let active = self.membership.is_active(node) && self.admits(node);
        let met = self
            .liveness
            .timing(node)
            .is_some_and(|timing| timing.round_trip().is_some());
        let entry = self.roster.get(node).filter(|entry| !entry.refuses);
        let returned = active && entry.is_some_and(|entry| entry.standing() != Standing::Active);
        if returned {
            self.roster.set_standing(node, Standing::Active);
        }
        let Some(entry) = self.roster.get_mut(node) else {
            return;
        };
        let recorded = entry
            .record
            .as_ref()
            .is_some_and(|record| record.boot == entry.boot);
        let known = recorded && (entry.visible || met || entry.connected_at.is_none());
        let visible = entry.is_member() && known;
        let changed = core::mem::replace(&mut entry.visible, visible) != visible;
        let device = entry.device;
        if returned {
            self.record_present(node, true);
        }
        if !changed {
            return;
        }
        if visible {
            self.events.push_back(Event::MemberAdded(device));
        } else {
            let reason = RemovalReason::Unreachable;
            self.events
                .push_back(Event::MemberRemoved { device, reason });
        }
        self.refresh_peer(node);
    }

    /// Once a second: members without a session or record, doubts, and what peers look like.
    pub(super) fn do_chores(&mut self) {
        for member in self.wanting_members() {
            let node = member.node;
            if !member.connected || member.silent {
                self.seek(node);
            }
            self.seek_record(node, member.connected, member.recorded);
            if member.doubted {
                self.membership.join(self.now, node);
                self.liveness.verify(self.now, node);
            }
        }
        let unknown: Vec<NodeId> = self.roster.unknown.iter().copied().collect();
        for node in unknown {
            self.seek(node);
        }
        self.part_with_missing();
        self.ask_to_join();
        self.remember_moved();
        self.renew_sessions();
        self.share_opinions();
        self.update_peers();
        self.state_chores();
    }

    /// The members about which there is something to do: those without a session or record, or in
    /// doubt, and those in whose turn their session is found silent. In a large group at rest there
    /// are none, and to find that takes one look at what is kept together of each.
    fn wanting_members(&mut self) -> Vec<Wanting> {
        let (now, limits) = (self.now, self.silence_limits());
        let sessions = self.sessions.as_ref();
        let mut wanting = Vec::new();
        for (node, entry) in self
            .roster
            .iter_mut()
            .filter(|(_, entry)| entry.is_member())
        {
            let limit = limits.of(node, true);
            let mut is_silent = || {
                if now.since(entry.heard_since) > limit {
                    let heard = sessions.and_then(|sessions| sessions.last_heard(&entry.key));
                    entry.heard_since = heard.unwrap_or(now);
                }
                now.since(entry.heard_since) > limit
            };
            let member = Wanting {
                node,
                silent: is_turn(now, node, SEEK_TURN) && is_silent(),
                connected: entry.connected_at.is_some(),
                recorded: entry.record.is_some(),
                doubted: entry.standing() == Standing::Doubted,
            };
            if member.silent || !member.connected || !member.recorded || member.doubted {
                wanting.push(member);
            }
        }
        wanting
    }

    /// Asks a member for its record, or others where there is no session with it; those also whether
    /// they know of a later one.
    fn seek_record(&mut self, node: NodeId, connected: bool, recorded: bool) {
        if recorded && (connected || !is_turn(self.now, node, RECORD_TURN)) {
            return;
        }
        if let Some(question) = self.record_question(node, recorded)
            && !self.send(node, &question)
        {
            self.ask_some(node, ASKED, &question);
        }
    }

    /// Members move: every now and then their addresses are looked at anew.
    fn remember_moved(&mut self) {
        if self.now >= self.moved_at {
            self.moved_at = self.now + MOVED_PERIOD;
            let connected = self.connected_addresses();
            self.discovery.refresh_remembered(&connected);
        }
        self.store_addresses();
    }

    /// Where the devices are that there are sessions with.
    pub(super) fn connected_addresses(&self) -> BTreeSet<Address> {
        let sessions = self.sessions.iter();
        sessions.flat_map(Sessions::endpoints).collect()
    }

    /// Keeps for the next start where members were reached.
    pub(super) fn store_addresses(&mut self) {
        if let Some(addresses) = self.discovery.addresses_to_store(self.now) {
            self.store(StoreRecord::Addresses(addresses), false);
        }
    }
}

/// Whether it is the second of so many in which a device has its turn.
fn is_turn(now: Time, node: NodeId, every: u64) -> bool {
    let second = now.as_micros() / 1_000_000;
    second.wrapping_add(node.0).is_multiple_of(every)
}
