//! What plays when: the decisions, free of host calls.
//!
//! A [`Plan`] says which item plays and, once that is decided, which one follows and when. Plans
//! are numbered; a device adopts a plan only if its number is larger than that of the plan it has,
//! so that repeated and late announcements are harmless. The leader derives the next plan from the
//! one that it adopted itself, by the same announcement as everyone: a plan that was not sent
//! never happened. A new leader goes on from the plan it knows.

use std::time::Duration;

use consort_plugin::GroupTime;
use serde::{Deserialize, Serialize};

use crate::items::{Items, SECONDS_MIN};

/// How often the leader looks whether something is to be decided, and announces its plan again.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// How long before its end the successor of an item is decided: at one of the two looks that fall
/// into this time, hence announced at least twice.
const DECIDE_AHEAD: Duration = Duration::from_secs(SECONDS_MIN);

/// How long ahead a switch is announced at least.
const NOTICE: Duration = PERIOD;

/// One item at its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Showing {
    pub(crate) item: u32,
    pub(crate) name: String,
    pub(crate) start: GroupTime,
    length_us: u64,
}

impl Showing {
    fn new(items: &Items, item: u32, start: GroupTime) -> Self {
        let (item, content) = items.at(item);
        let length_us = u64::try_from(content.length.as_micros()).unwrap_or(u64::MAX);
        Self {
            item,
            name: content.name.clone(),
            start,
            length_us,
        }
    }

    fn end(&self) -> GroupTime {
        self.start + Duration::from_micros(self.length_us)
    }
}

/// What plays and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) current: Showing,
    pub(crate) next: Option<Showing>,
}

impl Plan {
    /// What plays at `now`; before the first start, nothing.
    pub(crate) fn playing(&self, now: GroupTime) -> Option<&Showing> {
        [self.next.as_ref(), Some(&self.current)]
            .into_iter()
            .flatten()
            .find(|s| s.start <= now)
    }

    /// The next instant after `now` at which what plays changes, as far as that is decided.
    pub(crate) fn next_switch(&self, now: GroupTime) -> Option<GroupTime> {
        [Some(&self.current), self.next.as_ref()]
            .into_iter()
            .flatten()
            .map(|showing| showing.start)
            .find(|start| *start > now)
    }

    fn last(&self) -> &Showing {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// Whether a switch is announced that has not happened yet.
    fn switch_pending(&self, now: GroupTime) -> bool {
        self.last().start > now
    }
}

/// The plan that a device knows, and the items from which it would choose as leader.
#[derive(Debug, Default)]
pub(crate) struct Playlist {
    pub(crate) items: Items,
    plan: Option<Plan>,
    /// Whether the next plan counts whatever its number, as it comes from a leader new to us.
    new_leader: bool,
}

impl Playlist {
    /// The plan as far as this device knows it.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Takes a plan from an earlier version of the plugin.
    pub(crate) fn restore(&mut self, plan: Option<Plan>) {
        self.plan = plan;
    }

    /// Another device leads: what it announces first counts, whatever its number.
    pub(crate) fn follow_new_leader(&mut self) {
        self.new_leader = true;
    }

    /// Takes the leader's plan. Says whether it is news.
    pub(crate) fn adopt(&mut self, plan: Plan) -> bool {
        let known = self.plan.as_ref();
        let newer = known.is_none_or(|known| plan.number > known.number);
        if !newer && !self.new_leader {
            return false;
        }
        self.new_leader = false;
        let news = known != Some(&plan);
        self.plan = Some(plan);
        news
    }

    /// As leader: the plan to announce because something has to be decided by now.
    pub(crate) fn decide(&self, now: GroupTime) -> Option<Plan> {
        let Some(plan) = &self.plan else {
            let current = Showing::new(&self.items, 0, now + NOTICE);
            return Some(Plan {
                number: 1,
                current,
                next: None,
            });
        };
        if now < plan.last().end() - DECIDE_AHEAD {
            return None;
        }
        self.followed_by_next(plan, now, plan.last().end().max(now + NOTICE))
    }

    /// As leader: the plan to announce because a device asked to skip the showing that began at
    /// `start`. Nothing if that is over, or about to be.
    pub(crate) fn skip(&self, start: GroupTime, now: GroupTime) -> Option<Plan> {
        let plan = self.plan.as_ref()?;
        let playing = plan.playing(now)?;
        if playing.start != start || plan.switch_pending(now) {
            return None;
        }
        self.followed_by_next(plan, now, now + NOTICE)
    }

    /// `plan` with the item after its last one added at `start`. Nothing while its last item has
    /// not begun: a plan holds one switch.
    fn followed_by_next(&self, plan: &Plan, now: GroupTime, start: GroupTime) -> Option<Plan> {
        if plan.switch_pending(now) {
            return None;
        }
        let current = plan.last().clone();
        let next = Showing::new(&self.items, current.item.saturating_add(1), start);
        Some(Plan {
            number: plan.number.saturating_add(1),
            current,
            next: Some(next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> GroupTime {
        GroupTime::from_micros(1_000_000_000) + Duration::from_secs(seconds)
    }

    fn playlist() -> Playlist {
        Playlist {
            items: "a:10,b:20".parse().unwrap(),
            ..Playlist::default()
        }
    }

    /// A playlist whose first item, `a`, plays from 1 to 11.
    fn started() -> Playlist {
        let mut list = playlist();
        let plan = list.decide(at(0)).unwrap();
        assert!(list.adopt(plan));
        list
    }

    fn name_at(list: &Playlist, seconds: u64) -> Option<&str> {
        list.plan()
            .unwrap()
            .playing(at(seconds))
            .map(|showing| showing.name.as_str())
    }

    #[test]
    fn the_first_item_is_announced_ahead() {
        let list = started();
        let plan = list.plan().unwrap();
        assert_eq!((name_at(&list, 0), name_at(&list, 1)), (None, Some("a")));
        assert_eq!(plan.next_switch(at(0)), Some(at(1)));
        assert_eq!(plan.next_switch(at(1)), None);
    }

    #[test]
    fn items_follow_each_other_without_a_gap() {
        let mut list = started();
        assert_eq!(list.decide(at(8)), None);
        let plan = list.decide(at(9)).unwrap();
        assert!(list.adopt(plan));
        assert_eq!(
            (name_at(&list, 10), name_at(&list, 11)),
            (Some("a"), Some("b"))
        );
        assert_eq!(list.plan().unwrap().next_switch(at(10)), Some(at(11)));
        assert_eq!(list.decide(at(28)), None);
        let plan = list.decide(at(29)).unwrap();
        assert_eq!(plan.current.name, "b");
        assert!(list.adopt(plan));
        assert_eq!(
            (name_at(&list, 30), name_at(&list, 31)),
            (Some("b"), Some("a"))
        );
    }

    #[test]
    fn the_shortest_items_follow_each_other_too() {
        let mut list = Playlist {
            items: "a:2,b:2".parse().unwrap(),
            ..Playlist::default()
        };
        for second in 0..60 {
            if let Some(plan) = list.decide(at(second)) {
                assert!(list.adopt(plan));
            }
            let expected = second
                .checked_sub(1)
                .map(|s| ["a", "b"][s as usize / 2 % 2]);
            assert_eq!(name_at(&list, second), expected, "in second {second}");
        }
    }

    #[test]
    fn a_plan_that_was_not_sent_is_decided_again() {
        let mut list = started();
        assert!(list.decide(at(9)).is_some());
        assert!(list.decide(at(10)).is_some());
        // Late: the item ends before its end can be announced, so it plays a little longer.
        let plan = list.decide(at(11)).unwrap();
        assert!(list.adopt(plan));
        assert_eq!(
            (name_at(&list, 11), name_at(&list, 12)),
            (Some("a"), Some("b"))
        );
    }

    #[test]
    fn a_skip_switches_once() {
        let mut list = started();
        assert_eq!(list.skip(at(1), at(0)), None, "nothing plays yet");
        let plan = list.skip(at(1), at(5)).unwrap();
        assert!(list.adopt(plan));
        assert_eq!(
            list.skip(at(1), at(5)),
            None,
            "the switch is announced already"
        );
        assert_eq!(
            (name_at(&list, 5), name_at(&list, 6)),
            (Some("a"), Some("b"))
        );
        assert_eq!(list.skip(at(1), at(7)), None, "that showing is over");
        assert!(list.skip(at(6), at(7)).is_some());
        assert_eq!(list.decide(at(23)), None);
        assert!(list.decide(at(24)).is_some());
    }

    #[test]
    fn old_and_repeated_plans_change_nothing() {
        let mut list = started();
        let first = list.plan().unwrap().clone();
        let second = list.decide(at(9)).unwrap();
        assert!(list.adopt(second.clone()));
        assert!(!list.adopt(first));
        assert!(!list.adopt(second.clone()));
        assert_eq!(list.plan(), Some(&second));
    }

    #[test]
    fn a_new_leader_goes_on_from_what_it_knows() {
        let mut follower = playlist();
        assert!(follower.adopt(started().plan().unwrap().clone()));
        // Promoted while `a` plays: nothing to decide before its end, and then `b` follows.
        assert_eq!(follower.decide(at(5)), None);
        assert_eq!(follower.decide(at(9)).unwrap().next.unwrap().name, "b");
        // Promoted long after the end: the next item, announced ahead.
        let next = follower.decide(at(100)).unwrap().next.unwrap();
        assert_eq!((next.name.as_str(), next.start), ("b", at(101)));
    }

    #[test]
    fn the_first_plan_of_a_new_leader_counts_whatever_its_number() {
        let mut list = started();
        let plan = list.decide(at(9)).unwrap();
        assert!(list.adopt(plan));
        let foreign = Plan {
            number: 1,
            current: Showing::new(&list.items, 1, at(20)),
            next: None,
        };
        assert!(!list.adopt(foreign.clone()));
        list.follow_new_leader();
        assert!(list.adopt(foreign.clone()));
        assert_eq!(list.plan(), Some(&foreign));
        list.follow_new_leader();
        assert!(!list.adopt(foreign), "known already, so no news");
    }

    #[test]
    fn an_item_from_a_longer_list_still_has_a_successor() {
        let mut list = playlist();
        let mut plan = started().plan().unwrap().clone();
        plan.current.item = u32::MAX;
        assert!(list.adopt(plan));
        assert!(list.decide(at(9)).unwrap().next.unwrap().item < 2);
    }
}
