//! Who can reach whom, for how long, and what follows from it.
//!
//! A *part* is a set of running devices of one secret that nothing connects to any other: two
//! devices are in one part if anything passes between them, directly or over others, in any
//! direction. A part is *clean* if each of its devices reaches each other one over a good link
//! ([`is_good`]). Promises about agreement hold in clean parts. A part is *fair* if the same is so
//! over fair links ([`is_fair`]), which lose twice as much: it promises that a leader all agree on,
//! and a member, stay. A part that is neither promises safety only.
//!
//! For each group of a plugin in a clean part there is a time from which on all of its members must
//! agree on one leader among them:
//! - at once, if the part is what remains of one that agreed, leader included: others' deaths and
//!   absence change nothing;
//! - after [`vacancy_max`], if the leader is what is gone;
//! - after [`converge_max`] else: devices started, went on, came together.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use consort_proto::{GroupKey, Time};

use crate::network::Link;

/// The largest loss of a good link, both ways.
const LOSS_MAX: f64 = 0.1;
/// The longest a datagram may take on a good link. Ten probes are sent within T, at least 250 ms,
/// and their answers must be back then.
const DELAY_MAX: Duration = Duration::from_millis(40);
/// The largest loss of a fair link, both ways, and the longest that a datagram takes: at a fifth of
/// loss a leader is taken for dead by chance where most of its ten answers come too late to count.
const FAIR_LOSS_MAX: f64 = 0.2;
const FAIR_DELAY_MAX: Duration = Duration::from_millis(20);
/// Beyond this many devices the parts are looked at no more than once a second.
const EAGER_MAX: usize = 64;
const LAZY_PERIOD: Duration = Duration::from_secs(1);

/// The unit of the election's times in a group of `members`.
pub(crate) fn unit(members: usize) -> Duration {
    Duration::from_millis(250).max(Duration::from_secs(members as u64) / 256)
}

/// How long a group may be without a leader: 2.4 T of silence, T of probes, at most ten ranks of
/// 50 ms; two who claim at once need no more than 4 T to decide; a quarter second for what is on
/// its way.
pub(crate) fn vacancy_max(members: usize) -> Duration {
    unit(members) * 75 / 10 + Duration::from_millis(750)
}

/// How long devices that can reach each other may take to agree.
///
/// Beacons come every max(5 s, members / 20 s) + 25 %; a handshake that was tried before is tried
/// again after 6.25 s at most; a device waits for two seconds after its start; then come what a
/// vacancy takes, and the same again for a claim that meets another. At the largest loss of a good
/// link the first beacon and the first answer may both be lost.
pub(crate) fn converge_max(members: usize) -> Duration {
    let beacon = Duration::from_secs(5).max(Duration::from_secs(members as u64) / 20) * 5 / 4;
    beacon * 2 + Duration::from_millis(6_250 + 2_000) + vacancy_max(members) * 2
}

/// How long devices that can reach each other may take to see each other and nobody else: a
/// member that is gone is probed by someone within a few seconds, is suspect for 4 s, and then is
/// probed by each.
pub(crate) fn members_max(members: usize) -> Duration {
    converge_max(members) + Duration::from_secs(10)
}

/// Whether promises about time hold over this link.
pub(crate) fn is_good(link: &Link) -> bool {
    is_within(link, LOSS_MAX, DELAY_MAX)
}

/// Whether what was agreed on holds over this link.
pub(crate) fn is_fair(link: &Link) -> bool {
    is_good(link) || is_within(link, FAIR_LOSS_MAX, FAIR_DELAY_MAX)
}

fn is_within(link: &Link, loss: f64, delay: Duration) -> bool {
    let reorder = if link.reorder > 0.0 { 20 } else { 0 };
    let slowest = link.delay + link.jitter + Duration::from_millis(reorder);
    link.loss + link.corrupt <= loss
        && link.burst.is_none()
        && link.bandwidth.is_none()
        && slowest <= delay
}

/// Devices that can reach each other.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) nodes: Vec<usize>,
    pub(crate) since: Time,
    pub(crate) clean: bool,
    /// So is what is clean.
    pub(crate) fair: bool,
    pub(crate) groups: BTreeMap<GroupKey, Agreement>,
    /// Whether it came together from several parts and has not agreed since.
    pub(crate) healing: bool,
}

/// What is known of one plugin's group in a part.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    /// The devices that run it.
    pub(crate) members: Vec<usize>,
    /// From when on all agree.
    pub(crate) due: Time,
    /// On whom they agreed when it was last looked at.
    pub(crate) leader: Option<usize>,
    /// Since when they differ about the term, if they do.
    pub(crate) terms_differ: Option<Time>,
}

/// A part as it is found: its devices, whether it is clean, who runs what.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) nodes: Vec<usize>,
    pub(crate) clean: bool,
    pub(crate) fair: bool,
    pub(crate) groups: BTreeMap<GroupKey, Vec<usize>>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Devices whose own state changed since the last look.
    touched: BTreeSet<usize>,
    dirty: bool,
    changed_at: Time,
    looked_at: Time,
    /// Copies and their originals: nothing is promised about them.
    doubted: BTreeSet<usize>,
    pub(crate) parts: Vec<Part>,
}

impl Oracle {
    /// A device's own state changed: it started, stopped, went on, runs other plugins, moved.
    pub(crate) fn touch(&mut self, now: Time, node: usize) {
        self.touched.insert(node);
        self.links_changed(now);
    }

    /// What links let through changed.
    pub(crate) const fn links_changed(&mut self, now: Time) {
        self.dirty = true;
        self.changed_at = now;
    }

    /// Nothing is promised about this device from here on.
    pub(crate) fn doubt(&mut self, node: usize) {
        self.doubted.insert(node);
        self.dirty = true;
    }

    /// The devices whose own state changed since the last look.
    pub(crate) const fn touched(&self) -> &BTreeSet<usize> {
        &self.touched
    }

    pub(crate) fn is_touched(&self, node: usize) -> bool {
        self.touched.contains(&node)
    }

    /// Whether something changed that was not looked at yet.
    pub(crate) const fn is_unseen(&self) -> bool {
        self.dirty
    }

    pub(crate) fn is_doubted(&self, node: usize) -> bool {
        self.doubted.contains(&node)
    }

    /// Whether the parts must be looked at anew.
    pub(crate) fn is_stale(&self, now: Time, devices: usize) -> bool {
        self.dirty && (devices <= EAGER_MAX || now.since(self.looked_at) >= LAZY_PERIOD)
    }

    /// Whether an agreement is awaited whose time is to be written down.
    pub(crate) fn is_healing(&self) -> bool {
        self.parts.iter().any(|part| part.healing)
    }

    /// Takes in the parts as they are since the last change. The parts that healed no more.
    pub(crate) fn update(&mut self, now: Time, found: Vec<Found>) -> Vec<Part> {
        let old = core::mem::take(&mut self.parts);
        let kept = |found: &Found| {
            let untouched = !found.nodes.iter().any(|node| self.touched.contains(node));
            let same = |part: &&Part| {
                let as_found = (part.clean, part.fair) == (found.clean, found.fair);
                part.nodes == found.nodes && as_found && untouched
            };
            old.iter().find(same)
        };
        let parts: Vec<Part> = found
            .into_iter()
            .map(|found| match kept(&found) {
                Some(part) => part.clone(),
                None => self.part(&old, found),
            })
            .collect();
        let gone = |part: &Part| !matches!(kept_in(&parts, part), Some(same) if same.healing);
        let broken = old
            .iter()
            .filter(|part| part.healing && gone(part))
            .cloned()
            .collect();
        self.parts = parts;
        self.touched.clear();
        self.dirty = false;
        self.looked_at = now;
        broken
    }

    /// A part that is not what it was.
    fn part(&self, old: &[Part], found: Found) -> Part {
        let since = self.changed_at;
        let from = |part: &&Part| part.nodes.iter().any(|node| found.nodes.contains(node));
        let sources = old.iter().filter(from).count();
        let groups = found
            .groups
            .into_iter()
            .map(|(key, members)| (key, self.agreement(old, key, members, since)))
            .collect();
        Part {
            healing: found.clean && sources > 1,
            nodes: found.nodes,
            clean: found.clean,
            fair: found.fair,
            since,
            groups,
        }
    }

    fn agreement(
        &self,
        old: &[Part],
        key: GroupKey,
        members: Vec<usize>,
        since: Time,
    ) -> Agreement {
        let remains = |before: &&Agreement| {
            members
                .iter()
                .all(|node| before.members.contains(node) && !self.touched.contains(node))
        };
        let before = old
            .iter()
            .filter(|part| part.clean)
            .filter_map(|part| part.groups.get(&key))
            .find(remains);
        let leader = before.and_then(|before| before.leader);
        let due = match (before, leader) {
            (Some(before), Some(leader)) if members.contains(&leader) => before.due,
            (Some(before), Some(_)) => since.max(before.due) + vacancy_max(before.members.len()),
            (Some(_) | None, _) => since + converge_max(members.len()),
        };
        Agreement {
            leader: leader.filter(|leader| members.contains(leader)),
            due,
            members,
            terms_differ: None,
        }
    }
}

fn kept_in<'a>(parts: &'a [Part], part: &Part) -> Option<&'a Part> {
    parts
        .iter()
        .find(|other| other.nodes == part.nodes && other.since == part.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupKey = GroupKey::SYSTEM;

    const fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    fn found(nodes: &[usize]) -> Found {
        Found {
            nodes: nodes.to_vec(),
            clean: true,
            fair: true,
            groups: BTreeMap::from([(GROUP, nodes.to_vec())]),
        }
    }

    /// Five devices that agreed on device 0 long ago.
    fn agreed() -> Oracle {
        let mut oracle = Oracle::default();
        (0..5).for_each(|node| oracle.touch(at(1), node));
        assert!(oracle.is_stale(at(1), 5));
        oracle.update(at(1), vec![found(&[0, 1, 2, 3, 4])]);
        let group = oracle.parts[0].groups.get_mut(&GROUP).expect("it is there");
        assert_eq!(group.due, at(1) + converge_max(5));
        group.leader = Some(0);
        oracle
    }

    #[test]
    fn what_remains_with_the_leader_goes_on_agreeing() {
        let mut oracle = agreed();
        oracle.touch(at(100), 3);
        oracle.update(at(100), vec![found(&[0, 1, 2, 4])]);
        let group = &oracle.parts[0].groups[&GROUP];
        assert_eq!(
            (group.due, group.leader),
            (at(1) + converge_max(5), Some(0))
        );
        assert_eq!(oracle.parts[0].since, at(100));
    }

    #[test]
    fn without_the_leader_there_is_a_vacancy() {
        let mut oracle = agreed();
        oracle.links_changed(at(100));
        oracle.update(at(100), vec![found(&[0, 1]), found(&[2, 3, 4])]);
        assert_eq!(oracle.parts[0].groups[&GROUP].leader, Some(0));
        let group = &oracle.parts[1].groups[&GROUP];
        assert_eq!((group.due, group.leader), (at(100) + vacancy_max(5), None));
    }

    #[test]
    fn what_comes_together_heals_and_a_restart_is_no_remnant() {
        let mut oracle = agreed();
        oracle.links_changed(at(100));
        oracle.update(at(100), vec![found(&[0, 1]), found(&[2, 3, 4])]);
        oracle.links_changed(at(200));
        assert!(
            oracle
                .update(at(200), vec![found(&[0, 1, 2, 3, 4])])
                .is_empty()
        );
        assert!(oracle.is_healing());
        assert_eq!(
            oracle.parts[0].groups[&GROUP].due,
            at(200) + converge_max(5)
        );
        oracle.touch(at(201), 1);
        let broken = oracle.update(at(201), vec![found(&[0, 1, 2, 3, 4])]);
        assert_eq!(broken.len(), 1, "it did not heal as it was");
        assert!(!oracle.is_healing());
        assert_eq!(
            oracle.parts[0].groups[&GROUP].due,
            at(201) + converge_max(5)
        );
    }

    #[test]
    fn good_links_are_quick_and_lose_little() {
        assert!(is_good(&Link::lan()) && is_good(&Link::lan().with_loss(0.1)));
        assert!(is_good(&Link::wireless()));
        let lossy = Link::lan().with_loss(0.2);
        assert!(!is_good(&lossy) && is_fair(&lossy));
        assert!(!is_fair(&Link::lan().with_loss(0.21)));
        let slow = |delay, link: &Link| Link {
            delay: Duration::from_millis(delay),
            ..*link
        };
        assert!(!is_fair(&slow(50, &Link::lan())));
        assert!(is_fair(&slow(30, &Link::lan())) && !is_fair(&slow(30, &lossy)));
    }
}
