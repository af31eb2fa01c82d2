//! One plugin's local programs: who has subscribed to what, and what is retained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use consort_plugin_host::{LocalMessage, is_local_topic};
use consort_proto::PluginId;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use super::line::Said;

/// The most clients of one plugin.
pub(super) const CLIENTS_MAX: usize = 32;
/// The most lines that wait for one client.
const QUEUE_LINES_MAX: usize = 1024;
/// The most bytes that wait for one client. What is retained fits into it twice.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// The most topics that one client subscribes to by name.
const SUBSCRIPTIONS_MAX: usize = 64;
/// The most topics with a retained message; the one that was published the longest ago makes room.
const RETAINED_MAX: usize = 256;
/// The most bytes of all retained messages, as lines.
const RETAINED_BYTES_MAX: usize = 1 << 20;

/// Passes messages of one plugin on.
pub(super) struct Hub {
    id: PluginId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    members: BTreeMap<u64, Member>,
    retained: Retained,
}

/// What the hub knows of a client.
struct Member {
    topics: Topics,
    queue: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
}

enum Topics {
    All,
    Some(BTreeSet<String>),
}

/// What the hub and a client's task share.
#[derive(Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    end: Mutex<Option<End>>,
    ended: Notify,
}

/// Why a client is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It does not read what it is told.
    TooSlow,
    /// The plugin is unloaded, or does not hold the capability any more.
    Closed,
}

/// A client's side of its membership; dropping it ends it.
pub(super) struct Client {
    hub: Arc<Hub>,
    number: u64,
    queue: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
}

/// Why a subscription does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubscribeError {
    #[error("a topic is 1 to 128 bytes without control characters")]
    Topic,
    #[error(
        "{SUBSCRIPTIONS_MAX} topics are subscribed to already; \
         without a topic you are told everything"
    )]
    TooMany,
}

impl Hub {
    pub(super) fn new(id: PluginId) -> Self {
        Self {
            id,
            state: Mutex::default(),
        }
    }

    pub(super) const fn id(&self) -> &PluginId {
        &self.id
    }

    /// Takes a client in, unless there are too many.
    pub(super) fn join(self: &Arc<Self>) -> Option<Client> {
        let mut state = self.lock();
        if state.closed || state.members.len() >= CLIENTS_MAX {
            return None;
        }
        state.next += 1;
        let number = state.next;
        let (sender, queue) = mpsc::channel(QUEUE_LINES_MAX);
        let shared = Arc::new(Shared::default());
        let member = Member {
            topics: Topics::Some(BTreeSet::new()),
            queue: sender,
            shared: Arc::clone(&shared),
        };
        state.members.insert(number, member);
        Some(Client {
            hub: Arc::clone(self),
            number,
            queue,
            shared,
        })
    }

    /// Passes a message on to those who subscribed, and keeps it if it is to be retained.
    pub(super) fn publish(&self, message: &LocalMessage) {
        let line = |retained| {
            let said = Said::Message {
                topic: &message.topic,
                payload: (&message.payload[..]).into(),
                retained,
            };
            said.encode()
        };
        let mut state = self.lock();
        let State {
            members, retained, ..
        } = &mut *state;
        if message.retain {
            let forgotten = retained.keep(&message.topic, line(true));
            if forgotten > 0 {
                tracing::debug!(plugin = %self.id, forgotten, "retained messages made room");
            }
        } else {
            retained.forget(&message.topic);
        }
        let mut encoded = None;
        let of_topic = members.values().filter(|m| m.topics.has(&message.topic));
        for member in of_topic {
            member.offer(&self.id, encoded.get_or_insert_with(|| line(false)).clone());
        }
    }

    /// Sends every client away.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for member in state.members.values() {
            member.shared.end(End::Closed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Queues a line. A client that lets too much wait is sent away.
    fn offer(&self, plugin: &PluginId, line: Bytes) {
        if self.shared.why().is_some() {
            return;
        }
        let bytes = line.len();
        let waiting = self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = waiting + bytes <= QUEUE_BYTES_MAX && self.queue.try_send(line).is_ok();
        if !fits {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            tracing::warn!(
                %plugin, waiting_bytes = waiting,
                "a local program does not read what it subscribed to; it is sent away"
            );
            self.shared.end(End::TooSlow);
        }
    }
}

impl Shared {
    /// The first reason is the one that counts.
    fn end(&self, why: End) {
        self.lock().get_or_insert(why);
        self.ended.notify_one();
    }

    fn why(&self) -> Option<End> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    fn has(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(topics) => topics.contains(topic),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::Some(topics) if topics.is_empty())
    }
}

impl Client {
    /// Subscribes to one topic or to all. The confirmation is queued, then what is retained.
    pub(super) fn subscribe(
        &self,
        topic: Option<String>,
        id: Option<&Value>,
    ) -> Result<(), SubscribeError> {
        if topic.as_deref().is_some_and(|topic| !is_local_topic(topic)) {
            return Err(SubscribeError::Topic);
        }
        let mut state = self.hub.lock();
        let State {
            members, retained, ..
        } = &mut *state;
        let Some(member) = members.get_mut(&self.number) else {
            return Ok(());
        };
        let said = Said::Subscribed {
            id,
            topic: topic.as_deref(),
        };
        let confirmation = said.encode();
        let follows = retained.of(topic.as_deref());
        match (&mut member.topics, topic) {
            (topics, None) => *topics = Topics::All,
            (Topics::All, Some(_)) => {}
            (Topics::Some(topics), Some(topic)) => {
                if topics.len() >= SUBSCRIPTIONS_MAX && !topics.contains(&topic) {
                    return Err(SubscribeError::TooMany);
                }
                topics.insert(topic);
            }
        }
        for line in std::iter::once(confirmation).chain(follows) {
            member.offer(&self.hub.id, line);
        }
        Ok(())
    }

    /// Ends a subscription, or all of them.
    pub(super) fn unsubscribe(&self, topic: Option<&str>, id: Option<&Value>) {
        let mut state = self.hub.lock();
        let Some(member) = state.members.get_mut(&self.number) else {
            return;
        };
        match (&mut member.topics, topic) {
            (topics, None) => *topics = Topics::Some(BTreeSet::new()),
            (Topics::Some(topics), Some(topic)) => {
                topics.remove(topic);
            }
            (Topics::All, Some(_)) => {}
        }
        member.offer(&self.hub.id, Said::Unsubscribed { id, topic }.encode());
    }

    /// Queues a line of its own.
    pub(super) fn say(&self, said: &Said<'_>) {
        let state = self.hub.lock();
        if let Some(member) = state.members.get(&self.number) {
            member.offer(&self.hub.id, said.encode());
        }
    }

    /// Whether it has subscribed to nothing.
    pub(super) fn listens_to_nothing(&self) -> bool {
        let state = self.hub.lock();
        let member = state.members.get(&self.number);
        member.is_none_or(|member| member.topics.is_none())
    }

    /// The next line for it, or why it is sent away.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        let line = tokio::select! {
            biased;
            why = ended(&self.shared) => return Err(why),
            line = self.queue.recv() => line,
        };
        // Without a member of the hub there is nobody to queue anything.
        self.count_taken(line).ok_or(End::Closed)
    }

    /// The next line for it, if one waits.
    pub(super) fn next_waiting(&mut self) -> Option<Bytes> {
        let line = self.queue.try_recv().ok();
        self.count_taken(line)
    }

    fn count_taken(&self, line: Option<Bytes>) -> Option<Bytes> {
        let bytes = line.as_ref().map_or(0, Bytes::len);
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        line
    }

    /// Bytes that wait for it.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Acquire)
    }

    /// Waits until it is sent away.
    pub(super) async fn ended(&self) -> End {
        ended(&self.shared).await
    }
}

async fn ended(shared: &Shared) -> End {
    loop {
        if let Some(why) = shared.why() {
            return why;
        }
        shared.ended.notified().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hub.lock().members.remove(&self.number);
    }
}

/// The last message of each topic that is to be retained, as the line that later subscribers get.
#[derive(Default)]
struct Retained {
    lines: BTreeMap<String, Bytes>,
    /// Topics in the order in which they were published last.
    order: VecDeque<String>,
    bytes: usize,
}

impl Retained {
    /// Keeps a line; gives how many others made room for it.
    fn keep(&mut self, topic: &str, line: Bytes) -> usize {
        self.forget(topic);
        self.bytes += line.len();
        self.lines.insert(topic.to_owned(), line);
        self.order.push_back(topic.to_owned());
        let mut forgotten = 0;
        while self.lines.len() > RETAINED_MAX || self.bytes > RETAINED_BYTES_MAX {
            let Some(oldest) = self.order.front().cloned() else {
                break;
            };
            self.forget(&oldest);
            forgotten += 1;
        }
        forgotten
    }

    fn forget(&mut self, topic: &str) {
        if let Some(line) = self.lines.remove(topic) {
            self.bytes -= line.len();
            self.order.retain(|other| other != topic);
        }
    }

    /// What is retained under a topic, or under all, ordered by topic.
    fn of(&self, topic: Option<&str>) -> Vec<Bytes> {
        match topic {
            Some(topic) => self.lines.get(topic).cloned().into_iter().collect(),
            None => self.lines.values().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(PluginId::new("app").expect("valid")))
    }

    fn message(topic: &str, bytes: usize, retain: bool) -> LocalMessage {
        LocalMessage {
            topic: topic.to_owned(),
            payload: vec![b'x'; bytes].into(),
            retain,
        }
    }

    fn lines(client: &mut Client) -> Vec<String> {
        let waiting = std::iter::from_fn(|| client.next_waiting());
        let text = waiting.map(|line| String::from_utf8(line.to_vec()).expect("text"));
        text.collect()
    }

    #[test]
    fn messages_go_to_those_who_subscribed() {
        let hub = hub();
        let (mut one, mut all, mut none) = (
            hub.join().expect("room"),
            hub.join().expect("room"),
            hub.join().expect("room"),
        );
        one.subscribe(Some("a".into()), None).expect("allowed");
        all.subscribe(None, None).expect("allowed");
        for topic in ["a", "b", "a"] {
            hub.publish(&message(topic, 1, false));
        }
        one.unsubscribe(Some("a"), None);
        hub.publish(&message("a", 1, false));
        assert_eq!(lines(&mut one).len(), 1 + 2 + 1);
        assert_eq!(lines(&mut all).len(), 1 + 4);
        assert!(lines(&mut none).is_empty() && none.listens_to_nothing());
        assert_eq!(all.waiting_bytes(), 0);
    }

    #[test]
    fn the_last_message_is_retained_until_another_is_published() {
        let hub = hub();
        hub.publish(&message("a", 1, true));
        hub.publish(&message("a", 2, true));
        hub.publish(&message("b", 3, true));
        let mut client = hub.join().expect("room");
        client.subscribe(Some("a".into()), None).expect("allowed");
        let told = lines(&mut client);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("\"xx\"") && told[1].contains("\"retained\":true"));
        hub.publish(&message("a", 4, false));
        let mut later = hub.join().expect("room");
        later.subscribe(None, None).expect("allowed");
        let told = lines(&mut later);
        assert_eq!(told.len(), 2, "only b is retained: {told:?}");
    }

    #[test]
    fn what_is_retained_is_bounded() {
        let mut retained = Retained::default();
        let line = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
        let forgotten: usize = (0..300)
            .map(|number| retained.keep(&format!("topic {number}"), line(10)))
            .sum();
        assert_eq!(
            (forgotten, retained.lines.len()),
            (300 - RETAINED_MAX, RETAINED_MAX)
        );
        assert!(
            retained.of(Some("topic 0")).is_empty(),
            "the oldest made room"
        );
        for number in 0..20 {
            retained.keep(&format!("large {number}"), line(100 << 10));
        }
        assert!(retained.bytes <= RETAINED_BYTES_MAX && retained.lines.len() == 10);
        let bytes: usize = retained.of(None).iter().map(Bytes::len).sum();
        assert_eq!(bytes, retained.bytes);
        assert_eq!(retained.order.len(), retained.lines.len());
    }

    #[test]
    fn clients_and_their_queues_are_bounded() {
        let hub = hub();
        let mut clients: Vec<_> = (0..CLIENTS_MAX)
            .map(|_| hub.join().expect("room"))
            .collect();
        assert!(hub.join().is_none(), "too many");
        let mut slow = clients.pop().expect("one");
        slow.subscribe(None, None).expect("allowed");
        for _ in 0..200 {
            hub.publish(&message("a", 64 << 10, false));
        }
        assert_eq!(slow.shared.why(), Some(End::TooSlow));
        assert!(slow.waiting_bytes() <= QUEUE_BYTES_MAX);
        assert!(lines(&mut slow).len() < 70);
        drop(slow);
        let many = hub.join().expect("there is room again");
        many.subscribe(None, None).expect("allowed");
        for _ in 0..2 * QUEUE_LINES_MAX {
            hub.publish(&message("a", 1, false));
        }
        assert_eq!(many.shared.why(), Some(End::TooSlow));
        let named = hub.join();
        assert!(
            named.is_none(),
            "one that was sent away counts until it has gone"
        );
        drop(many);
        let named = hub.join().expect("room");
        for number in 0..SUBSCRIPTIONS_MAX {
            named
                .subscribe(Some(number.to_string()), None)
                .expect("allowed");
        }
        assert_eq!(
            named.subscribe(Some("more".into()), None),
            Err(SubscribeError::TooMany)
        );
        assert_eq!(
            named.subscribe(Some("\n".into()), None),
            Err(SubscribeError::Topic)
        );
        hub.close();
        assert_eq!(named.shared.why(), Some(End::Closed));
        drop(named);
        assert!(hub.join().is_none(), "closed");
    }
}
