//! What is still to happen, ordered by time and, at the same time, by when it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use consort_proto::Time;

/// Events to come. The order is total, so a run never depends on how the queue is built. The heap
/// holds places only, which are quicker to move about than events are.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<T>>,
    free: Vec<usize>,
    sequence: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            order: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }

    /// Plans `event` for `at`, after whatever else is planned for the same time.
    pub(crate) fn push(&mut self, at: Time, event: T) {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        self.events[place] = Some(event);
        self.order.push(Reverse((at, self.sequence, place)));
        self.sequence += 1;
    }

    /// Takes the next event if it is due by `limit`.
    pub(crate) fn pop_until(&mut self, limit: Time) -> Option<(Time, T)> {
        let Reverse((at, ..)) = *self.order.peek()?;
        if at > limit {
            return None;
        }
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        let event = self.events[place].take();
        event.map(|event| (at, event))
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
        assert!(queue.order.is_empty());
        queue.push(Time::from_micros(5), 'e');
        assert_eq!(
            queue.pop_until(Time::MAX),
            Some((Time::from_micros(5), 'e'))
        );
        assert_eq!(queue.events.len(), 4, "places are used again");
    }
}
