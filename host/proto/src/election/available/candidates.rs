//! The members that run the plugin healthily, and the orders among them: who claims first, which
//! of two claims is stronger, who may take over from a leader that lives.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::election::Candidate;
use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// For how long a device must have been a member, and quiet, before it takes over from a leader
/// that lives.
const STABLE: Duration = Duration::from_secs(60);

/// Greater is stronger: more followers, then priority, then the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strength {
    followers: u32,
    priority: i16,
    id: Reverse<NodeId>,
}

impl Strength {
    pub(super) fn new(followers: u32, candidate: Candidate, id: NodeId) -> Self {
        Self {
            followers,
            priority: candidate.priority,
            id: Reverse(id),
        }
    }
}

/// This device and the others that run the plugin.
#[derive(Debug)]
pub(super) struct Candidates {
    me: NodeId,
    own: Candidate,
    others: BTreeMap<NodeId, Candidate>,
    /// Those that would take over, and since when they have been here as they are.
    preempting: BTreeMap<NodeId, Time>,
}

impl Candidates {
    pub(super) fn new(me: NodeId, own: Candidate) -> Self {
        Self {
            me,
            own,
            others: BTreeMap::new(),
            preempting: BTreeMap::new(),
        }
    }

    pub(super) fn own(&self) -> Candidate {
        self.own
    }

    pub(super) fn set_own(&mut self, own: Candidate) {
        self.own = own;
    }

    pub(super) fn set_flapping(&mut self, flapping: bool) {
        self.own.flapping = flapping;
    }

    /// A member came, changed or went.
    pub(super) fn set(&mut self, now: Time, node: NodeId, candidate: Option<Candidate>) {
        let before = match candidate {
            Some(candidate) => self.others.insert(node, candidate),
            None => self.others.remove(&node),
        };
        match candidate.filter(|candidate| candidate.preempts && !candidate.flapping) {
            Some(candidate) if before.is_some_and(|before| before.is_like(candidate)) => {}
            Some(_) => {
                self.preempting.insert(node, now);
            }
            None => {
                self.preempting.remove(&node);
            }
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Candidate> {
        self.others.get(&node).copied()
    }

    /// How many, the suspect left out, claim before this device.
    pub(super) fn rank(&self, suspect: Option<NodeId>) -> u32 {
        let own = order(self.me, self.own);
        let ahead = self.others.iter().filter(|(node, candidate)| {
            Some(**node) != suspect && order(**node, **candidate) < own
        });
        u32::try_from(ahead.count()).unwrap_or(u32::MAX)
    }

    /// The other member that claims first.
    pub(super) fn best_other(&self) -> Option<NodeId> {
        let others = self.others.iter();
        others
            .min_by_key(|(node, candidate)| order(**node, **candidate))
            .map(|(node, _)| *node)
    }

    /// The best of those that may take over from this device, which leads.
    pub(super) fn preempting(&self, now: Time, follows: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let is_stable = |since| now.since(since) >= STABLE || mutant::is(Mutant::PreemptionHasty);
        let stable = self
            .preempting
            .iter()
            .filter(|(node, since)| is_stable(**since) && follows(**node));
        let better = stable.filter_map(|(node, _)| {
            let candidate = self.get(*node)?;
            (candidate.priority > self.own.priority).then_some((order(*node, candidate), *node))
        });
        better.min().map(|(_, node)| node)
    }
}

/// Smaller claims earlier.
fn order(node: NodeId, candidate: Candidate) -> (bool, Reverse<i16>, bool, NodeId) {
    let Candidate {
        flapping,
        priority,
        incomplete,
        preempts: _,
    } = candidate;
    (flapping, Reverse(priority), incomplete, node)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn candidate(priority: i16, preempts: bool, flapping: bool) -> Candidate {
        Candidate {
            priority,
            preempts,
            flapping,
            incomplete: false,
        }
    }

    fn at(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn rank_goes_by_flapping_then_priority_then_state_then_id() {
        let mut all = Candidates::new(NodeId(5), candidate(0, false, false));
        all.set(at(0), NodeId(1), Some(candidate(9, false, true)));
        all.set(at(0), NodeId(2), Some(candidate(0, false, false)));
        all.set(at(0), NodeId(9), Some(candidate(1, false, false)));
        assert_eq!((all.rank(None), all.rank(Some(NodeId(9)))), (2, 1));
        assert_eq!(all.best_other(), Some(NodeId(9)));
        let incomplete = Candidate {
            incomplete: true,
            ..candidate(0, false, false)
        };
        all.set(at(0), NodeId(2), Some(incomplete));
        assert_eq!(all.rank(None), 1, "ahead of one that lacks state");
        all.set(at(0), NodeId(2), Some(candidate(0, false, false)));
        all.set_flapping(true);
        assert_eq!(
            all.rank(None),
            3,
            "last, behind a better one that flaps too"
        );
    }

    #[test]
    fn taking_over_needs_the_wish_a_higher_priority_and_a_minute_without_change() {
        let mut all = Candidates::new(NodeId(5), candidate(0, true, false));
        let anyone = |_| true;
        all.set(at(0), NodeId(1), Some(candidate(1, false, false)));
        all.set(at(0), NodeId(2), Some(candidate(0, true, false)));
        assert_eq!(all.preempting(at(100), anyone), None);
        all.set(at(0), NodeId(3), Some(candidate(1, true, false)));
        assert_eq!(all.preempting(at(59), anyone), None);
        assert_eq!(all.preempting(at(60), anyone), Some(NodeId(3)));
        assert_eq!(all.preempting(at(60), |_| false), None, "it must follow");
        all.set(at(61), NodeId(3), Some(candidate(1, true, false)));
        assert_eq!(all.preempting(at(62), anyone), Some(NodeId(3)), "no change");
        all.set(at(62), NodeId(3), None);
        all.set(at(63), NodeId(3), Some(candidate(1, true, false)));
        assert_eq!(all.preempting(at(100), anyone), None, "it was away");
        all.set(at(70), NodeId(3), Some(candidate(1, true, true)));
        assert_eq!(all.preempting(at(500), anyone), None, "it flaps");
    }
}
