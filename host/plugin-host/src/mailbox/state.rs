//! Updates of a group's state, merged while they wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use consort_proto::{Origin, StateChange, StateUpdate};

/// Where the keys of the last waiting update are. Built when the first update is merged into it,
/// since most find nothing waiting.
#[derive(Debug, Default)]
pub(super) struct UpdateIndex(Option<BTreeMap<(Origin, Arc<str>), usize>>);

impl UpdateIndex {
    /// Adds a later update to a waiting one: it tells each key once, as it is after both.
    pub(super) fn merge(&mut self, waiting: &mut StateUpdate, later: StateUpdate) {
        waiting.handled = waiting.handled.saturating_add(later.handled);
        waiting.room = later.room;
        if later.whole {
            waiting.whole = true;
            waiting.changes = later.changes;
            self.0 = None;
            return;
        }
        let index = self.0.get_or_insert_with(|| index(&waiting.changes));
        for change in later.changes {
            let place = (change.origin, Arc::clone(&change.key));
            match index.get(&place) {
                Some(at) => replace(&mut waiting.changes[*at], change),
                None => {
                    index.insert(place, waiting.changes.len());
                    waiting.changes.push(change);
                }
            }
        }
    }
}

fn index(changes: &[StateChange]) -> BTreeMap<(Origin, Arc<str>), usize> {
    let places = changes.iter().enumerate();
    places
        .map(|(at, change)| ((change.origin, Arc::clone(&change.key)), at))
        .collect()
}

/// A value is whose write it is. A sum is news as long as anyone else's addition is part of it.
fn replace(earlier: &mut StateChange, mut later: StateChange) {
    if later.origin == Origin::Counter {
        later.own &= earlier.own;
    }
    *earlier = later;
}

#[cfg(test)]
mod tests {
    use consort_proto::StateOutcome;

    use super::*;

    fn change(origin: Origin, own: bool) -> StateChange {
        StateChange {
            origin,
            key: "k".into(),
            outcome: StateOutcome::Deleted,
            own,
        }
    }

    fn update(change: StateChange) -> StateUpdate {
        StateUpdate {
            changes: vec![change],
            handled: 0,
            room: u64::MAX,
            whole: false,
        }
    }

    #[test]
    fn an_own_write_over_news_is_no_news_but_an_own_addition_is() {
        for (origin, own) in [(Origin::Shared, true), (Origin::Counter, false)] {
            let mut waiting = update(change(origin, false));
            UpdateIndex::default().merge(&mut waiting, update(change(origin, true)));
            assert_eq!(waiting, update(change(origin, own)));
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        let mut waiting = update(change(Origin::Shared, false));
        let mut keys = UpdateIndex::default();
        keys.merge(&mut waiting, update(change(Origin::Leader, false)));
        keys.merge(&mut waiting, update(change(Origin::Leader, false)));
        assert_eq!(waiting.changes.len(), 2);
    }
}
