//! What plays when: the decisions, free of host calls.
//!
//! A [`Plan`] says which item plays and, once that is decided, which one follows and when. The
//! leader derives each plan from the one that holds; a new leader goes on from the plan it finds.
//! Where an item stands at any instant follows from its start, so that whoever learns of the plan
//! in the middle of an item joins in at the right place.

use std::time::Duration;

use consort_plugin::GroupTime;
use serde::{Deserialize, Serialize};

use crate::items::{Items, SECONDS_MIN};

/// How often the leader looks whether something is to be decided.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// How long before its end the successor of an item is decided: at one of the two looks that fall
/// into this time, hence written at least once if one write is refused.
const DECIDE_AHEAD: Duration = Duration::from_secs(SECONDS_MIN);

/// How long ahead a switch is decided at least, so that everyone knows of it in time.
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

    /// How far into the item the instant `now` is.
    pub(crate) fn position(&self, now: GroupTime) -> Duration {
        now - self.start
    }

    fn end(&self) -> GroupTime {
        self.start + Duration::from_micros(self.length_us)
    }
}

/// What plays and what follows: the value that the leader writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
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

/// As leader: the plan to write because something has to be decided by now.
pub(crate) fn decide(items: &Items, known: Option<&Plan>, now: GroupTime) -> Option<Plan> {
    let Some(plan) = known else {
        return Some(Plan {
            current: Showing::new(items, 0, now + NOTICE),
            next: None,
        });
    };
    if now < plan.last().end() - DECIDE_AHEAD {
        return None;
    }
    followed_by_next(items, plan, now, plan.last().end().max(now + NOTICE))
}

/// As leader: the plan to write because a device asked to skip the showing that began at `start`.
/// Nothing if that is over, or about to be.
pub(crate) fn skip(items: &Items, plan: &Plan, start: GroupTime, now: GroupTime) -> Option<Plan> {
    if plan.playing(now)?.start != start {
        return None;
    }
    followed_by_next(items, plan, now, now + NOTICE)
}

/// `plan` with the item after its last one added at `start`. Nothing while its last item has not
/// begun: a plan holds one switch.
fn followed_by_next(items: &Items, plan: &Plan, now: GroupTime, start: GroupTime) -> Option<Plan> {
    if plan.switch_pending(now) {
        return None;
    }
    let current = plan.last().clone();
    let next = Showing::new(items, current.item.saturating_add(1), start);
    Some(Plan {
        current,
        next: Some(next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> GroupTime {
        GroupTime::from_micros(1_000_000_000) + Duration::from_secs(seconds)
    }

    fn items() -> Items {
        "a:10,b:20".parse().unwrap()
    }

    /// The plan of a first leader at 0: `a` plays from 1 to 11.
    fn started() -> Plan {
        decide(&items(), None, at(0)).unwrap()
    }

    fn name_at(plan: &Plan, seconds: u64) -> Option<&str> {
        plan.playing(at(seconds))
            .map(|showing| showing.name.as_str())
    }

    #[test]
    fn the_first_item_is_decided_ahead() {
        let plan = started();
        assert_eq!((name_at(&plan, 0), name_at(&plan, 1)), (None, Some("a")));
        assert_eq!(plan.next_switch(at(0)), Some(at(1)));
        assert_eq!(plan.next_switch(at(1)), None);
    }

    #[test]
    fn items_follow_each_other_without_a_gap() {
        let plan = started();
        assert_eq!(decide(&items(), Some(&plan), at(8)), None);
        let plan = decide(&items(), Some(&plan), at(9)).unwrap();
        assert_eq!(
            (name_at(&plan, 10), name_at(&plan, 11)),
            (Some("a"), Some("b"))
        );
        assert_eq!(plan.next_switch(at(10)), Some(at(11)));
        assert_eq!(decide(&items(), Some(&plan), at(28)), None);
        let plan = decide(&items(), Some(&plan), at(29)).unwrap();
        assert_eq!(plan.current.name, "b");
        assert_eq!(
            (name_at(&plan, 30), name_at(&plan, 31)),
            (Some("b"), Some("a"))
        );
    }

    #[test]
    fn the_shortest_items_follow_each_other_too() {
        let items: Items = "a:2,b:2".parse().unwrap();
        let mut plan = None;
        for second in 0..60 {
            plan = decide(&items, plan.as_ref(), at(second)).or(plan);
            let shows = plan.as_ref().and_then(|plan| name_at(plan, second));
            let expected = second
                .checked_sub(1)
                .map(|s| ["a", "b"][s as usize / 2 % 2]);
            assert_eq!(shows, expected, "in second {second}");
        }
    }

    #[test]
    fn a_plan_that_was_not_written_is_decided_again() {
        let plan = started();
        assert!(decide(&items(), Some(&plan), at(9)).is_some());
        assert!(decide(&items(), Some(&plan), at(10)).is_some());
        // Late: the item's end has come before it was decided, so it plays a little longer.
        let plan = decide(&items(), Some(&plan), at(11)).unwrap();
        assert_eq!(
            (name_at(&plan, 11), name_at(&plan, 12)),
            (Some("a"), Some("b"))
        );
    }

    #[test]
    fn a_skip_switches_once() {
        let plan = started();
        assert_eq!(
            skip(&items(), &plan, at(1), at(0)),
            None,
            "nothing plays yet"
        );
        let plan = skip(&items(), &plan, at(1), at(5)).unwrap();
        assert_eq!(
            skip(&items(), &plan, at(1), at(5)),
            None,
            "it is decided already"
        );
        assert_eq!(
            (name_at(&plan, 5), name_at(&plan, 6)),
            (Some("a"), Some("b"))
        );
        assert_eq!(
            skip(&items(), &plan, at(1), at(7)),
            None,
            "that showing is over"
        );
        assert!(skip(&items(), &plan, at(6), at(7)).is_some());
        assert_eq!(decide(&items(), Some(&plan), at(23)), None);
        assert!(decide(&items(), Some(&plan), at(24)).is_some());
    }

    #[test]
    fn a_new_leader_goes_on_from_what_it_finds() {
        let plan = started();
        // Promoted while `a` plays: nothing to decide before its end, and then `b` follows.
        assert_eq!(decide(&items(), Some(&plan), at(5)), None);
        let next = decide(&items(), Some(&plan), at(9)).unwrap().next.unwrap();
        assert_eq!(next.name, "b");
        // Promoted long after the end: the next item, decided ahead.
        let next = decide(&items(), Some(&plan), at(100))
            .unwrap()
            .next
            .unwrap();
        assert_eq!((next.name.as_str(), next.start), ("b", at(101)));
    }

    #[test]
    fn who_joins_in_the_middle_knows_the_place() {
        let plan = started();
        let showing = plan.playing(at(7)).unwrap();
        assert_eq!(showing.position(at(7)), Duration::from_secs(6));
        assert_eq!(showing.position(at(0)), Duration::ZERO);
    }

    #[test]
    fn an_item_from_a_longer_list_still_has_a_successor() {
        let mut plan = started();
        plan.current.item = u32::MAX;
        assert!(
            decide(&items(), Some(&plan), at(9))
                .unwrap()
                .next
                .unwrap()
                .item
                < 2
        );
    }
}
