//! Looks at what the devices agree on, and whether they must by now.
//!
//! The parts are found anew whenever a device or a link changed. Agreement is looked at four times
//! a second, and after every change in what plugins know while parts that came together have not
//! agreed yet. None of this draws randomness or reaches a node, so watching changes no run.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use consort_proto::{DeviceId, GroupKey};

use super::Sim;
use crate::app::{AppRole, AppState};
use crate::network::Link;
use crate::oracle::{self, Found, Part};
use crate::timeline::Heal;

/// The time from one look to the next.
const PERIOD: Duration = Duration::from_millis(250);
/// How long members that agree on a leader may differ about its term: a re-affirmation is told
/// with every heartbeat.
const TERMS_MAX: Duration = Duration::from_secs(3);
/// How long a leader may take to hand over to a better device that has opted for it.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// How long two devices must have been in one part before neither may take the other for gone.
const REMOVAL_GRACE: Duration = Duration::from_secs(5);

impl Sim {
    /// Before an event: takes in what changed since the last one.
    pub(super) fn watch(&mut self) {
        if self.oracle.is_stale(self.now, self.devices.len()) {
            let touched = self.oracle.touched().clone();
            self.tend_wards(&touched);
            let found = self.find_parts();
            for part in self.oracle.update(self.now, found) {
                self.heal_ends(&part, false);
            }
        }
        if self.oracle.is_healing() && self.watched_changes != self.changes {
            self.watched_changes = self.changes;
            self.look_for_heals();
        }
        if self.now >= self.next_look {
            self.next_look = self.now + PERIOD;
            self.look();
            self.secure_writes();
        }
    }

    fn look_for_heals(&mut self) {
        for index in 0..self.oracle.parts.len() {
            let part = &self.oracle.parts[index];
            if part.healing && self.agrees(part) {
                let part = part.clone();
                self.oracle.parts[index].healing = false;
                self.heal_ends(&part, true);
            }
        }
    }

    fn heal_ends(&mut self, part: &Part, healed: bool) {
        self.recorder.heal(Heal {
            at: part.since,
            healed: healed.then_some(self.now),
            nodes: part.nodes.clone(),
        });
    }

    /// Whether all groups of a part agree, term included.
    fn agrees(&self, part: &Part) -> bool {
        part.groups.iter().all(|(key, group)| {
            let (leader, terms) = self.leader_of(*key, &group.members);
            leader.is_some() && terms == 1
        })
    }

    /// The one live leader whom all of `members` were told of, and how many terms they were told.
    fn leader_of(&self, key: GroupKey, members: &[usize]) -> (Option<usize>, usize) {
        let (mut leaders, mut terms) = (BTreeSet::new(), BTreeSet::new());
        for node in members {
            let (leader, term) = self.told_by(*node, key).unzip();
            leaders.insert(leader);
            terms.insert(term);
            if leaders.len() > 1 {
                return (None, terms.len());
            }
        }
        let leader = leaders.first().copied().flatten();
        let leader = leader.and_then(|id: DeviceId| self.node_of(id));
        let sound = leader.filter(|leader| {
            let app = self.app_of(*leader, key);
            members.contains(leader)
                && app.is_some_and(|app| matches!(app.view.role, AppRole::Leader(_)))
        });
        (sound, terms.len())
    }

    pub(super) fn app_of(&self, node: usize, key: GroupKey) -> Option<&crate::app::App> {
        let mut apps = self.devices[node].apps.values();
        apps.find(|app| app.state == AppState::Up && app.spec.group() == key)
    }

    pub(super) fn told_by(&self, node: usize, key: GroupKey) -> Option<(DeviceId, u64)> {
        self.app_of(node, key)?.view.leader()
    }

    fn look(&mut self) {
        self.look_at_clocks();
        let mut problem = None;
        for index in 0..self.oracle.parts.len() {
            if !self.oracle.parts[index].fair {
                continue;
            }
            let keys: Vec<GroupKey> = self.oracle.parts[index].groups.keys().copied().collect();
            if !self.oracle.parts[index].clean {
                keys.into_iter()
                    .for_each(|key| self.guard_if_agreed(index, key));
                continue;
            }
            for key in keys {
                problem = problem.or_else(|| self.look_at(index, key).err());
            }
            problem = problem.or_else(|| self.look_at_members(index).err());
        }
        if let Some(problem) = problem {
            self.fail(&problem);
        }
    }

    fn look_at(&mut self, part: usize, key: GroupKey) -> Result<(), String> {
        let Some(group) = self.oracle.parts[part].groups.get(&key) else {
            return Ok(());
        };
        let (leader, terms) = self.leader_of(key, &group.members);
        let (now, due) = (self.now, group.due);
        let since = self.oracle.parts[part].since;
        if leader.is_none()
            && now >= due
            && let Some(before) = group.leader
            && group
                .members
                .iter()
                .any(|node| self.may_take_over(key, *node, before))
        {
            if let Some(group) = self.oracle.parts[part].groups.get_mut(&key) {
                (group.due, group.leader) = (now + HAND_OVER_MAX, None);
            }
            return Ok(());
        }
        if leader.is_none() && now >= due {
            let told: Vec<String> = group
                .members
                .iter()
                .map(|node| match self.told_by(*node, key) {
                    Some((leader, term)) => format!("n{node}: {} in {term}", self.named(leader)),
                    None => format!("n{node}: nobody"),
                })
                .collect();
            return Err(format!(
                "no agreement on a leader, due at {due}, in a part that is as it is since {since}: \
                 {}",
                told.join(", ")
            ));
        }
        if let (Some(before), Some(after)) = (group.leader, leader)
            && before != after
            && now >= due
            && !self.may_take_over(key, after, before)
        {
            return Err(format!(
                "n{after} leads instead of n{before}, which was live and in reach of all"
            ));
        }
        let differ = (leader.is_some() && terms > 1)
            .then(|| group.terms_differ.unwrap_or(now))
            .filter(|_| now >= due);
        if differ.is_some_and(|from| now.since(from) > TERMS_MAX) {
            return Err(format!("{terms} terms of one leader for {TERMS_MAX:?}"));
        }
        let members = group.members.clone();
        if let Some(leader) = leader.filter(|_| terms == 1 && now >= due) {
            self.guard(key, leader, &members);
        }
        if let Some(group) = self.oracle.parts[part].groups.get_mut(&key) {
            group.leader = leader.or(group.leader);
            group.terms_differ = differ;
        }
        Ok(())
    }

    /// Over links that are fair and no better nobody has to agree; who has is guarded.
    fn guard_if_agreed(&mut self, part: usize, key: GroupKey) {
        let group = &self.oracle.parts[part].groups[&key];
        if self.now < group.due {
            return;
        }
        let members = group.members.clone();
        if let (Some(leader), 1) = self.leader_of(key, &members) {
            self.guard(key, leader, &members);
        }
    }

    /// Whether a device has opted to take over from that leader.
    pub(super) fn may_take_over(&self, key: GroupKey, node: usize, leader: usize) -> bool {
        let spec = |node| self.app_of(node, key).map(|app| &app.spec);
        let (Some(better), Some(led)) = (spec(node), spec(leader)) else {
            return false;
        };
        better.preempt && better.priority > led.priority
    }

    /// In a part that is as it is for long enough, all are members of all, and nobody else is.
    fn look_at_members(&self, index: usize) -> Result<(), String> {
        let part = &self.oracle.parts[index];
        if self.now.since(part.since) < oracle::members_max(part.nodes.len()) {
            return Ok(());
        }
        for node in &part.nodes {
            let members = &self.devices[*node].members;
            let here = |other: &&usize| members.contains(&self.devices[**other].id);
            let missing: Vec<_> = part
                .nodes
                .iter()
                .filter(|n| *n != node && !here(n))
                .collect();
            if !missing.is_empty() || members.len() + 1 != part.nodes.len() {
                let seen = self.members_seen(*node);
                let since = part.since;
                return Err(format!(
                    "n{node} has members {seen:?} and lacks {missing:?} in a part of {:?} that is \
                     as it is since {since}",
                    part.nodes
                ));
            }
        }
        Ok(())
    }

    /// A member that was in reach all the while must not be taken for gone.
    pub(super) fn check_removal(&self, node: usize, device: DeviceId) -> Result<(), String> {
        let Some(other) = self.node_of(device) else {
            return Ok(());
        };
        let together = |part: &&Part| part.nodes.contains(&node) && part.nodes.contains(&other);
        let Some(part) = self.oracle.parts.iter().find(together) else {
            return Ok(());
        };
        let lasted = self.now.since(part.since);
        if part.fair && lasted > oracle::members_max(part.nodes.len()) + REMOVAL_GRACE {
            return Err(format!(
                "n{node} takes n{other} for gone, which was in reach for {lasted:?}"
            ));
        }
        Ok(())
    }

    /// The parts as they are.
    fn find_parts(&self) -> Vec<Found> {
        let mut rest: Vec<usize> = (0..self.devices.len())
            .filter(|node| self.takes_part(*node))
            .collect();
        let mut parts = Vec::new();
        while let Some(first) = rest.first().copied() {
            let (mut nodes, mut next) = (vec![first], 0);
            rest.retain(|node| *node != first);
            while let Some(node) = nodes.get(next).copied() {
                let (near, far) = rest.iter().partition(|other| self.touches(node, **other));
                nodes.extend::<Vec<usize>>(near);
                rest = far;
                next += 1;
            }
            nodes.sort_unstable();
            parts.push(self.found(nodes));
        }
        parts
    }

    pub(super) fn takes_part(&self, node: usize) -> bool {
        let device = &self.devices[node];
        let leaving = device
            .running
            .as_ref()
            .is_some_and(|running| running.leaving);
        device.is_up() && !device.is_paused() && !leaving
    }

    /// Whether anything passes between two devices in any direction.
    pub(super) fn touches(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.devices[a].config, &self.devices[b].config);
        let admitted =
            one.access.admits(&self.devices[b].id) && other.access.admits(&self.devices[a].id);
        admitted
            && self.share_secret(a, b)
            && one.protocol == 1
            && other.protocol == 1
            && (self.network.connects(a, b) || self.network.connects(b, a))
    }

    fn found(&self, nodes: Vec<usize>) -> Found {
        let mut groups: BTreeMap<GroupKey, Vec<usize>> = BTreeMap::new();
        for node in &nodes {
            for app in self.devices[*node].apps.values() {
                if app.state == AppState::Up {
                    groups.entry(app.spec.group()).or_default().push(*node);
                }
            }
        }
        let clean = self.is_sound(&nodes, oracle::is_good);
        Found {
            clean,
            fair: clean || self.is_sound(&nodes, oracle::is_fair),
            nodes,
            groups,
        }
    }

    /// Whether these find each other, and each reaches each over a link that is good `enough`.
    fn is_sound(&self, nodes: &[usize], enough: fn(&Link) -> bool) -> bool {
        let plain = self.network.is_plain();
        self.are_acquainted(nodes)
            && !self.has_estranged(nodes)
            && nodes.iter().all(|node| {
                let device = &self.devices[*node];
                // A plugin on its way between up and down is nobody's promise.
                let steady = device
                    .apps
                    .values()
                    .all(|app| app.state != AppState::Faulted);
                steady
                    && !self.oracle.is_doubted(*node)
                    && (plain || self.reaches_all(*node, nodes, enough))
            })
            && (!plain || nodes.len() < 2 || enough(self.network.link(nodes[0], nodes[1])))
    }

    /// Whether something passes between one of these and a device of their group that shares no
    /// secret with it any more, since it missed more rotations than a keyring remembers. Sessions
    /// under a secret that is gone last for two minutes; whoever lacks a restricted secret is cut
    /// off at once.
    fn has_estranged(&self, nodes: &[usize]) -> bool {
        if self
            .devices
            .iter()
            .all(|device| device.disk.keyring().is_none())
        {
            return false;
        }
        let all = 0..self.devices.len();
        let rings: Vec<_> = all.clone().map(|node| self.stored_keyring(node)).collect();
        let open = |node: usize| {
            let ring = rings[node].as_ref();
            ring.filter(|ring| !ring.entries().any(|entry| entry.restricted))
        };
        let estranged = |one: usize, other: usize| {
            let same = self.devices[one].config.group == self.devices[other].config.group;
            let rings = open(one).zip(open(other)).filter(|_| same && one != other);
            rings.is_some_and(|(ours, theirs)| !ours.shares_secret_with(theirs))
                && (self.network.connects(one, other) || self.network.connects(other, one))
        };
        let others: Vec<usize> = all.filter(|node| self.takes_part(*node)).collect();
        let mut pairs = nodes.iter().flat_map(|a| others.iter().map(|b| (*a, *b)));
        pairs.any(|(one, other)| estranged(one, other))
    }

    /// Whether these devices find each other, whatever they knew before: multicast or a seed leads
    /// from each segment of theirs to each other one, directly or over others.
    fn are_acquainted(&self, nodes: &[usize]) -> bool {
        let segment = |node: usize| self.devices[node].config.segment;
        let mut known = BTreeSet::from([segment(nodes[0])]);
        let all: BTreeSet<u32> = nodes.iter().map(|node| segment(*node)).collect();
        loop {
            let before = known.len();
            for (a, b) in nodes
                .iter()
                .flat_map(|a| nodes.iter().map(move |b| (*a, *b)))
            {
                let one = known.contains(&segment(a)) != known.contains(&segment(b));
                if one && self.is_seed(a, b) {
                    known.extend([segment(a), segment(b)]);
                }
            }
            if known.len() == all.len() || known.len() == before {
                return known.len() == all.len();
            }
        }
    }

    /// Whether a device's settings lead it to another, where that is at present.
    fn is_seed(&self, node: usize, other: usize) -> bool {
        let config = &self.devices[node].config;
        config.names.contains(&other) || config.seeds.contains(&self.devices[other].address)
    }

    fn reaches_all(&self, node: usize, nodes: &[usize], enough: fn(&Link) -> bool) -> bool {
        nodes.iter().all(|other| {
            let good = || enough(self.network.link(node, *other));
            node == *other || (self.network.connects(node, *other) && good())
        })
    }
}
