//! What a leader keeps of its tenure: who follows, and whether it has touch with them.
//!
//! A leader that lost touch *holds*: it counts itself without followers, sends no heartbeats and
//! refuses broadcasts until one round of probes has passed. What it reads meanwhile may have
//! waited in its socket for as long as it was away, so a follower counts again only when it
//! answers something that was sent after the hold began.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// How long a leader that was away reads what waits in its socket before it probes.
pub(super) const DRAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) epoch: u64,
    /// Members that acknowledged this tenure, and when last.
    followers: BTreeMap<NodeId, Time>,
    /// The number of followers told last, this device included.
    pub(super) announced: u32,
    hold: Option<Hold>,
    /// Since when another claim has stood beside this one.
    pub(super) contested_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    since: Time,
    /// When the probes go out, until they have.
    probe_at: Option<Time>,
    until: Time,
}

impl Tenure {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            followers: BTreeMap::new(),
            announced: 1,
            hold: None,
            contested_since: None,
        }
    }

    /// A member follows; `asked` is when this device sent what that answers.
    pub(super) fn followed_by(&mut self, now: Time, node: NodeId, asked: Option<Time>) {
        let fresh = match self.hold {
            Some(hold) => asked.is_some_and(|asked| asked >= hold.since),
            None => true,
        };
        if fresh || mutant::is(Mutant::StaleFollowCounts) {
            self.followers.insert(node, now);
        }
    }

    pub(super) fn left_by(&mut self, node: NodeId) {
        self.followers.remove(&node);
    }

    /// Whether the member acknowledged this tenure at or after `since`.
    pub(super) fn is_followed_by(&self, node: NodeId, since: Time) -> bool {
        self.followers.get(&node).is_some_and(|at| *at >= since)
    }

    /// Counts the followers that the coming heartbeats tell; forgets those silent for `patience`.
    /// Returns whether there were some and all have been silent for `silence`.
    pub(super) fn count(&mut self, now: Time, silence: Duration, patience: Duration) -> bool {
        let lost_touch = !self.followers.is_empty()
            && self.followers.values().all(|at| now.since(*at) >= silence);
        self.followers.retain(|_, at| now.since(*at) < patience);
        self.announced = u32::try_from(self.followers.len()).map_or(u32::MAX, |count| count + 1);
        lost_touch
    }

    /// Holds for one round of probes, which begins after `drain`. Returns whether it did not yet.
    pub(super) fn hold(&mut self, now: Time, drain: Duration, round: Duration) -> bool {
        self.followers.clear();
        self.announced = 1;
        let probe_at = now + drain;
        let hold = Hold {
            since: now,
            probe_at: Some(probe_at),
            until: probe_at + round,
        };
        self.hold.replace(hold).is_none()
    }

    pub(super) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether the probes of a hold are due; true once.
    pub(super) fn take_probes(&mut self, now: Time) -> bool {
        let probe_at = self.hold.as_mut().map(|hold| &mut hold.probe_at);
        probe_at.is_some_and(|at| at.take_if(|at| now >= *at).is_some())
    }

    /// Whether a hold is over; true once.
    pub(super) fn take_release(&mut self, now: Time) -> bool {
        self.hold.take_if(|hold| now >= hold.until).is_some()
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let hold = self.hold.as_ref();
        hold.map(|hold| hold.probe_at.unwrap_or(hold.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    const T: Duration = Duration::from_millis(250);

    #[test]
    fn silence_of_all_followers_is_noticed_once() {
        let mut tenure = Tenure::new(1);
        tenure.followed_by(at(0), NodeId(1), None);
        tenure.followed_by(at(400), NodeId(2), None);
        assert!(!tenure.count(at(700), T * 12 / 5, T * 4));
        assert_eq!(tenure.announced, 3);
        assert!(tenure.count(at(1000), T * 12 / 5, T * 4));
        assert_eq!(tenure.announced, 2, "one was silent for too long");
        assert!(tenure.hold(at(1000), Duration::ZERO, T));
        assert!(!tenure.count(at(1001), T * 12 / 5, T * 4));
    }

    #[test]
    fn while_held_only_answers_to_later_probes_count() {
        let mut tenure = Tenure::new(1);
        assert!(tenure.hold(at(1000), DRAIN, T) && !tenure.hold(at(1000), DRAIN, T));
        tenure.followed_by(at(1001), NodeId(1), None);
        tenure.followed_by(at(1001), NodeId(1), Some(at(999)));
        tenure.count(at(1002), T, T);
        assert_eq!(tenure.announced, 1, "what waited in the socket is stale");
        assert!(!tenure.take_probes(at(1009)) && tenure.take_probes(at(1010)));
        tenure.followed_by(at(1012), NodeId(1), Some(at(1010)));
        assert!(!tenure.take_release(at(1259)) && tenure.take_release(at(1260)));
        assert!(!tenure.is_held());
        tenure.count(at(1261), T, T * 4);
        assert_eq!(tenure.announced, 2);
    }
}
