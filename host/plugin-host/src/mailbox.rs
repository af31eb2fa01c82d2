//! What waits for a plugin's thread: controls from the host, events in their order, and requests of
//! local programs.
//!
//! Invariants: messages are bounded in number and bytes, the oldest is dropped first and counted; role and peer events
//! are never dropped; updates of one peer are merged where nothing about that peer came between;
//! requests are bounded and take turns with the events, so that neither starve;
//! of the group's state, between two role or peer events, at most a whole state and one update
//! wait, with each key once.

mod state;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use consort_proto::{PluginEvent, StateUpdate};

use self::state::UpdateIndex;
use crate::local::LOCAL_REQUESTS_MAX;

/// Bytes of payload that wait at most.
const BYTES_MAX: usize = 4 << 20;
/// The most events that are handed over at once.
const BATCH_MAX: usize = 32;

/// One plugin's mailbox. `C` is what the host itself has to say, `R` what local programs ask.
pub(crate) struct Mailbox<C, R> {
    waiting: Mutex<Waiting<C, R>>,
    arrival: Condvar,
}

struct Waiting<C, R> {
    controls: VecDeque<C>,
    events: VecDeque<PluginEvent>,
    requests: VecDeque<R>,
    /// Events were taken last, so that it is a request's turn.
    request_next: bool,
    /// Of the last update of the state among the events.
    keys: UpdateIndex,
    messages: usize,
    bytes: usize,
    messages_max: usize,
    messages_dropped: u64,
    poked: bool,
}

/// What was taken from a mailbox.
pub(crate) enum Taken<C, R> {
    /// Controls go before everything else.
    Control(C),
    /// One request.
    Request(R),
    /// At least one event.
    Events(Vec<PluginEvent>),
    /// The deadline passed, or somebody wants deadlines to be looked at again.
    Nothing,
}

impl<C, R> Mailbox<C, R> {
    pub(crate) fn new(messages_max: usize) -> Self {
        let waiting = Waiting {
            controls: VecDeque::new(),
            events: VecDeque::new(),
            requests: VecDeque::new(),
            request_next: false,
            keys: UpdateIndex::default(),
            messages: 0,
            bytes: 0,
            messages_max,
            messages_dropped: 0,
            poked: false,
        };
        Self {
            waiting: Mutex::new(waiting),
            arrival: Condvar::new(),
        }
    }

    pub(crate) fn set_messages_max(&self, messages_max: usize) {
        self.lock().messages_max = messages_max;
    }

    /// Adds an event.
    pub(crate) fn push(&self, event: PluginEvent) {
        self.lock().push(event);
        self.arrival.notify_one();
    }

    /// Adds a control.
    pub(crate) fn control(&self, control: C) {
        self.lock().controls.push_back(control);
        self.arrival.notify_one();
    }

    /// Adds a request, unless too many wait: then it comes back.
    pub(crate) fn request(&self, request: R) -> Result<(), R> {
        let mut waiting = self.lock();
        if waiting.requests.len() >= LOCAL_REQUESTS_MAX {
            return Err(request);
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.arrival.notify_one();
        Ok(())
    }

    /// Makes the plugin's thread look at its deadlines again.
    pub(crate) fn poke(&self) {
        self.lock().poked = true;
        self.arrival.notify_one();
    }

    /// Messages dropped so far.
    pub(crate) fn messages_dropped(&self) -> u64 {
        self.lock().messages_dropped
    }

    /// Counts messages that were taken but reached no instance.
    pub(crate) fn count_dropped(&self, messages: u64) {
        self.lock().messages_dropped += messages;
    }

    /// Waits for something, at most until `deadline`.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Taken<C, R> {
        let mut waiting = self.lock();
        loop {
            if let Some(taken) = waiting.take(BATCH_MAX) {
                return taken;
            }
            waiting = match deadline {
                None => self
                    .arrival
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return Taken::Nothing;
                    }
                    let woken = self.arrival.wait_timeout(waiting, rest);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes what comes next without waiting: a control, a request or one event.
    pub(crate) fn next(&self) -> Option<Taken<C, R>> {
        self.lock().take(1)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.controls.is_empty() && waiting.requests.is_empty() && waiting.events.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C, R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C, R> Waiting<C, R> {
    fn take(&mut self, events_max: usize) -> Option<Taken<C, R>> {
        if let Some(control) = self.controls.pop_front() {
            return Some(Taken::Control(control));
        }
        if (self.request_next || self.events.is_empty())
            && let Some(request) = self.requests.pop_front()
        {
            self.request_next = false;
            return Some(Taken::Request(request));
        }
        if !self.events.is_empty() {
            self.request_next = true;
            self.keys = UpdateIndex::default();
            let batch: Vec<_> = self
                .events
                .drain(..self.events.len().min(events_max))
                .collect();
            self.messages -= batch.iter().filter(|event| is_message(event)).count();
            self.bytes -= batch.iter().map(payload_len).sum::<usize>();
            return Some(Taken::Events(batch));
        }
        std::mem::take(&mut self.poked).then_some(Taken::Nothing)
    }

    fn push(&mut self, event: PluginEvent) {
        let event = match event {
            PluginEvent::State(update) => return self.push_state(update),
            other => other,
        };
        match &event {
            PluginEvent::LeaderMessage { payload, .. }
            | PluginEvent::PeerMessage { payload, .. } => {
                self.bytes += payload.len();
                while self.messages > 0
                    && (self.messages >= self.messages_max || self.bytes > BYTES_MAX)
                {
                    self.drop_oldest_message();
                }
                self.messages += 1;
            }
            PluginEvent::PeerUpdated(peer) => {
                let last = self.events.iter_mut().rev().find(|queued| match queued {
                    PluginEvent::PeerAdded(other)
                    | PluginEvent::PeerUpdated(other)
                    | PluginEvent::PeerRemoved(other) => other.device == peer.device,
                    PluginEvent::PromoteLeader(leadership)
                    | PluginEvent::PromoteFollower(leadership) => {
                        leadership.leader.device == peer.device
                    }
                    PluginEvent::DemoteLeader
                    | PluginEvent::DemoteFollower
                    | PluginEvent::TermChanged { .. }
                    | PluginEvent::BroadcastsHeld(_)
                    | PluginEvent::LeaderMessage { .. }
                    | PluginEvent::PeerMessage { .. }
                    | PluginEvent::State(_)
                    | PluginEvent::Joined(_)
                    | PluginEvent::WritesSuperseded(_) => false,
                });
                if let Some(PluginEvent::PeerUpdated(queued)) = last {
                    queued.clone_from(peer);
                    return;
                }
            }
            PluginEvent::PeerAdded(_)
            | PluginEvent::PeerRemoved(_)
            | PluginEvent::PromoteLeader(_)
            | PluginEvent::DemoteLeader
            | PluginEvent::PromoteFollower(_)
            | PluginEvent::DemoteFollower
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::State(_)
            | PluginEvent::Joined(_)
            | PluginEvent::WritesSuperseded(_) => {}
        }
        self.events.push_back(event);
    }

    /// Adds an update of the state, to one that waits already if nothing about roles and peers
    /// came between. What changes after a whole state is news, so it stays apart from that.
    fn push_state(&mut self, update: StateUpdate) {
        let mut later = self.events.iter_mut().rev();
        let waiting = later.find_map(|event| match event {
            PluginEvent::State(waiting) => Some(Some(waiting)),
            PluginEvent::PeerUpdated(_)
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::LeaderMessage { .. }
            | PluginEvent::PeerMessage { .. } => None,
            PluginEvent::PeerAdded(_)
            | PluginEvent::PeerRemoved(_)
            | PluginEvent::PromoteLeader(_)
            | PluginEvent::DemoteLeader
            | PluginEvent::PromoteFollower(_)
            | PluginEvent::DemoteFollower
            | PluginEvent::Joined(_)
            | PluginEvent::WritesSuperseded(_) => Some(None),
        });
        match waiting.flatten() {
            Some(waiting) if update.whole || !waiting.whole => self.keys.merge(waiting, update),
            Some(_) | None => {
                self.keys = UpdateIndex::default();
                self.events.push_back(PluginEvent::State(update));
            }
        }
    }

    fn drop_oldest_message(&mut self) {
        if let Some(oldest) = self.events.iter().position(is_message) {
            let dropped = self.events.remove(oldest);
            self.bytes -= dropped.as_ref().map_or(0, payload_len);
            self.messages -= 1;
            self.messages_dropped += 1;
        }
    }
}

/// What a message carries; nothing for other events.
fn payload_len(event: &PluginEvent) -> usize {
    match event {
        PluginEvent::LeaderMessage { payload, .. } | PluginEvent::PeerMessage { payload, .. } => {
            payload.len()
        }
        PluginEvent::PeerAdded(_)
        | PluginEvent::PeerUpdated(_)
        | PluginEvent::PeerRemoved(_)
        | PluginEvent::PromoteLeader(_)
        | PluginEvent::DemoteLeader
        | PluginEvent::PromoteFollower(_)
        | PluginEvent::DemoteFollower
        | PluginEvent::TermChanged { .. }
        | PluginEvent::BroadcastsHeld(_)
        | PluginEvent::State(_)
        | PluginEvent::Joined(_)
        | PluginEvent::WritesSuperseded(_) => 0,
    }
}

/// Whether an event may be dropped.
pub(crate) fn is_message(event: &PluginEvent) -> bool {
    matches!(
        event,
        PluginEvent::LeaderMessage { .. } | PluginEvent::PeerMessage { .. }
    )
}

#[cfg(test)]
mod tests {
    use consort_proto::{Origin, Peer, PublicKey, StateChange, StateOutcome};

    use super::*;

    fn peer(round_trip: u32) -> Peer {
        Peer {
            device: PublicKey::new([9; 32])
                .expect("no point of low order")
                .device_id(),
            name: "nine".into(),
            address: "10.0.0.9".into(),
            is_self: false,
            clock_delta: 0,
            round_trip,
        }
    }

    fn message(number: u8) -> PluginEvent {
        PluginEvent::PeerMessage {
            sender: peer(1),
            payload: vec![number].into(),
        }
    }

    fn take(mailbox: &Mailbox<(), ()>) -> Vec<PluginEvent> {
        match mailbox.take(Some(Instant::now())) {
            Taken::Events(events) => events,
            Taken::Control(()) | Taken::Request(()) | Taken::Nothing => Vec::new(),
        }
    }

    #[test]
    fn the_oldest_message_is_dropped_and_counted() {
        let mailbox = Mailbox::<(), ()>::new(2);
        mailbox.push(message(1));
        mailbox.push(PluginEvent::DemoteFollower);
        mailbox.push(message(2));
        mailbox.push(message(3));
        assert_eq!(mailbox.messages_dropped(), 1);
        assert_eq!(
            take(&mailbox),
            [PluginEvent::DemoteFollower, message(2), message(3)]
        );
        mailbox.push(message(4));
        mailbox.push(message(5));
        assert_eq!(mailbox.messages_dropped(), 1, "there is room again");
    }

    #[test]
    fn long_messages_are_bounded_by_their_bytes() {
        let mailbox = Mailbox::<(), ()>::new(1000);
        let long = |number: u8| PluginEvent::PeerMessage {
            sender: peer(1),
            payload: vec![number; 64 << 10].into(),
        };
        for number in 0..100 {
            mailbox.push(long(number));
        }
        assert_eq!(mailbox.messages_dropped(), 100 - 64, "4 MiB wait");
        assert_eq!(take(&mailbox)[0], long(36), "the oldest went first");
        for number in 0..32 {
            mailbox.push(long(number));
        }
        assert_eq!(mailbox.messages_dropped(), 36, "what was taken made room");
    }

    #[test]
    fn updates_merge_and_nothing_else_is_lost() {
        let mailbox = Mailbox::<(), ()>::new(2);
        for round_trip in 0..1000 {
            mailbox.push(PluginEvent::PeerUpdated(peer(round_trip)));
        }
        mailbox.push(PluginEvent::PeerRemoved(peer(7)));
        mailbox.push(PluginEvent::PeerAdded(peer(8)));
        mailbox.push(PluginEvent::PeerUpdated(peer(9)));
        let expected = [
            PluginEvent::PeerUpdated(peer(999)),
            PluginEvent::PeerRemoved(peer(7)),
            PluginEvent::PeerAdded(peer(8)),
            PluginEvent::PeerUpdated(peer(9)),
        ];
        assert_eq!(take(&mailbox), expected);
    }

    fn told(changes: &[(&str, i64)]) -> StateUpdate {
        let changes = changes.iter().map(|(key, sum)| StateChange {
            origin: Origin::Counter,
            key: (*key).into(),
            outcome: StateOutcome::Counted(*sum),
            own: false,
        });
        StateUpdate {
            changes: changes.collect(),
            handled: 1,
            room: u64::MAX,
            whole: false,
        }
    }

    #[test]
    fn updates_of_the_state_merge_between_role_events() {
        let mailbox = Mailbox::<(), ()>::new(2);
        mailbox.push(PluginEvent::State(told(&[("a", 1), ("b", 1)])));
        mailbox.push(message(1));
        mailbox.push(PluginEvent::State(told(&[("b", 2), ("c", 2)])));
        mailbox.push(PluginEvent::DemoteFollower);
        mailbox.push(PluginEvent::State(told(&[("a", 3)])));
        mailbox.push(PluginEvent::State(told(&[("a", 4)])));
        let merged = |changes, handled| {
            PluginEvent::State(StateUpdate {
                handled,
                ..told(changes)
            })
        };
        let expected = [
            merged(&[("a", 1), ("b", 2), ("c", 2)], 2),
            message(1),
            PluginEvent::DemoteFollower,
            merged(&[("a", 4)], 2),
        ];
        assert_eq!(take(&mailbox), expected);
        mailbox.push(PluginEvent::State(told(&[("a", 5)])));
        mailbox.push(PluginEvent::State(told(&[("b", 6)])));
        assert_eq!(take(&mailbox), [merged(&[("a", 5), ("b", 6)], 2)]);
    }

    #[test]
    fn a_whole_state_replaces_what_waits_and_later_changes_are_news() {
        let mailbox = Mailbox::<(), ()>::new(2);
        let whole = |changes, handled| {
            PluginEvent::State(StateUpdate {
                whole: true,
                handled,
                ..told(changes)
            })
        };
        mailbox.push(PluginEvent::State(told(&[("a", 1)])));
        mailbox.push(whole(&[("b", 2)], 0));
        mailbox.push(PluginEvent::State(told(&[("b", 3)])));
        mailbox.push(PluginEvent::State(told(&[("b", 4)])));
        let later = PluginEvent::State(StateUpdate {
            handled: 2,
            ..told(&[("b", 4)])
        });
        assert_eq!(take(&mailbox), [whole(&[("b", 2)], 1), later]);
    }

    #[test]
    fn controls_go_first_and_events_come_in_batches() {
        let mailbox = Mailbox::<u8, ()>::new(100);
        for number in 0..40 {
            mailbox.push(message(number));
        }
        mailbox.control(7);
        assert!(matches!(mailbox.take(None), Taken::Control(7)));
        assert!(matches!(mailbox.take(None), Taken::Events(events) if events.len() == BATCH_MAX));
        assert!(matches!(mailbox.take(None), Taken::Events(events) if events.len() == 8));
        mailbox.poke();
        assert!(matches!(mailbox.take(None), Taken::Nothing));
    }

    #[test]
    fn requests_are_bounded_and_take_turns_with_events() {
        let mailbox = Mailbox::<(), usize>::new(1000);
        for number in 0..LOCAL_REQUESTS_MAX {
            assert_eq!(mailbox.request(number), Ok(()));
        }
        assert_eq!(mailbox.request(99), Err(99), "too many wait");
        for number in 0..80 {
            mailbox.push(message(number));
        }
        let mut order = String::new();
        for _ in 0..6 {
            order.push(match mailbox.take(Some(Instant::now())) {
                Taken::Events(_) => 'e',
                Taken::Request(_) => 'r',
                Taken::Control(()) | Taken::Nothing => '-',
            });
        }
        assert_eq!(order, "ererer");
        assert!(matches!(mailbox.take(None), Taken::Request(3)));
    }
}
