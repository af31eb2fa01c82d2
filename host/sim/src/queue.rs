//! What is still to happen, ordered by time and, at the same time, by when it was planned.

use std::collections::BTreeMap;

use consort_proto::Time;

/// Events to come. The order is total, so a run never depends on how the queue is built.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<(Time, u64), T>,
    sequence: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Plans `event` for `at`, after whatever else is planned for the same time.
    pub(crate) fn push(&mut self, at: Time, event: T) {
        self.entries.insert((at, self.sequence), event);
        self.sequence += 1;
    }

    /// Takes the next event if it is due by `limit`.
    pub(crate) fn pop_until(&mut self, limit: Time) -> Option<(Time, T)> {
        let (at, _) = *self.entries.first_key_value()?.0;
        if at > limit {
            return None;
        }
        self.entries.pop_first().map(|((at, _), event)| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_by_time_then_by_planning() {
        let mut queue = Queue::new();
        for (at, name) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            queue.push(Time::from_micros(at), name);
        }
        assert_eq!(queue.pop_until(Time::from_micros(9)), None);
        let mut order = String::new();
        while let Some((_, name)) = queue.pop_until(Time::MAX) {
            order.push(name);
        }
        assert_eq!(order, "abcd");
        assert!(queue.entries.is_empty());
    }
}
