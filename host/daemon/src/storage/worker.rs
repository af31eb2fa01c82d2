//! The thread that writes to the store, and where requests go.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use consort_proto::{StoreRecord, StoreRequest};

use super::Records;
use super::state_keeper::StateKeeper;
use super::state_worker::StateQueue;

/// Requests that wait at most; beyond that a request fails at once.
const QUEUE_MAX: usize = 256;
/// Requests that share one transaction at most.
const BATCH_MAX: usize = 64;

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOutcome {
    /// The request's token.
    pub token: u64,
    /// Whether it has reached the disk, else why not.
    pub result: Result<(), String>,
}

/// Where outcomes go. Called on the writing threads; may wait.
pub type Done = Arc<dyn Fn(StoreOutcome) + Send + Sync>;

/// Hands requests to the writing threads. Dropping it waits until what is queued is written.
#[derive(Debug)]
pub struct StoreHandle {
    queue: Option<SyncSender<StoreRequest>>,
    thread: Option<JoinHandle<()>>,
    state: StateQueue,
}

impl StoreHandle {
    pub(super) fn start(records: Records, keeper: StateKeeper, done: Done) -> io::Result<Self> {
        let state = StateQueue::start(keeper, Arc::clone(&done))?;
        let (queue, requests) = mpsc::sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || work(&records, &requests, &done))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            state,
        })
    }

    /// Queues a request without waiting.
    ///
    /// # Errors
    /// The queue is full or the thread is gone; nothing is written for this request.
    pub fn submit(&self, request: StoreRequest) -> Result<(), String> {
        let request = match request.record {
            StoreRecord::State { group, changes } => {
                return self.state.submit(request.token, group, changes);
            }
            record => StoreRequest { record, ..request },
        };
        let queue = self.queue.as_ref().expect("taken only while dropping");
        queue.try_send(request).map_err(|e| match e {
            TrySendError::Full(_) => format!("{QUEUE_MAX} writes are waiting for the disk"),
            TrySendError::Disconnected(_) => "the writing thread has ended".to_owned(),
        })
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writing thread panicked");
        }
    }
}

/// Writes batch after batch until the queue is closed and empty.
fn work(records: &Records, requests: &Receiver<StoreRequest>, done: &Done) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(BATCH_MAX - 1));
        let is_keyring = |request: &StoreRequest| matches!(request.record, StoreRecord::Keyring(_));
        let result = if batch.iter().all(is_keyring) {
            Ok(())
        } else {
            records.apply(&batch)
        };
        if let Err(reason) = &result {
            tracing::error!(reason, "writing to the store failed");
        }
        for request in batch {
            let result = match &request.record {
                StoreRecord::Keyring(keyring) => records.store_keyring(keyring),
                StoreRecord::EpochCeiling { .. }
                | StoreRecord::Addresses(_)
                | StoreRecord::State { .. } => result.clone(),
            };
            let token = request.token;
            done(StoreOutcome { token, result });
        }
    }
}
