//! The thread that writes the plugins' state.
//!
//! It is not the thread of the other records: a write of state can be megabytes on a slow card,
//! and a candidate waits for its epoch's ceiling to reach the disk before it may lead.
//!
//! What waits for the thread is one change per key, however long the disk takes.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consort_proto::GroupKey;

use super::changes::Changes;
use super::state_keeper::{CARRIED_MAX, StateKeeper};
use super::worker::{Done, StoreOutcome};

/// The longest that a transaction may take so that what was written a second ago is on the disk: the
/// node hands changes over after a quarter of a second, and they may wait for the one under way.
const SLOW: Duration = Duration::from_millis(375);
/// Requests whose outcome is open at most.
const OPEN_MAX: usize = 4096;

/// Hands changes to the writing thread. Dropping it waits until what waits is written, or could
/// not be.
#[derive(Debug)]
pub(super) struct StateQueue {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Changes,
    /// The requests' tokens and groups, in their order.
    open: Vec<(u64, GroupKey)>,
    /// Groups of which a request found no room.
    overrun: Vec<GroupKey>,
    closing: bool,
}

impl StateQueue {
    pub(super) fn start(keeper: StateKeeper, done: Done) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || work(keeper, &of_thread, &done))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Takes one request without waiting for the disk.
    ///
    /// # Errors
    /// Too much waits; the group is not kept any further in this run.
    pub(super) fn submit(
        &self,
        token: u64,
        group: GroupKey,
        changes: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), String> {
        let mut waiting = self.shared.lock();
        if waiting.open.len() >= OPEN_MAX || waiting.changes.bytes() > CARRIED_MAX {
            if !waiting.overrun.contains(&group) {
                waiting.overrun.push(group);
            }
            return Err("the disk is too slow for so much state".to_owned());
        }
        waiting.changes.add(group, changes);
        waiting.open.push((token, group));
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for StateQueue {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes state panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, a time has come, or it is over.
    fn take(&self, until: Option<Instant>) -> Waiting {
        let mut waiting = self.lock();
        while waiting.open.is_empty() && !waiting.closing {
            let pause = until.map(|until| until.saturating_duration_since(Instant::now()));
            waiting = match pause {
                Some(pause) if pause.is_zero() => break,
                Some(pause) => {
                    let woken = self.changed.wait_timeout(waiting, pause);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.changed.wait(waiting);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        Waiting {
            closing: waiting.closing,
            ..std::mem::take(&mut *waiting)
        }
    }
}

/// Writes what waits, all in one transaction, again and again until the queue is closed and empty.
fn work(mut keeper: StateKeeper, shared: &Shared, done: &Done) {
    let mut slow_said = false;
    loop {
        let retry = keeper.retry_at();
        let taken = shared.take(retry);
        for group in taken.overrun {
            keeper.refuse(group, "the disk is too slow for so much state".to_owned());
        }
        let now = match retry {
            // The last attempt does not wait for its time.
            Some(retry) if taken.closing => retry,
            _ => Instant::now(),
        };
        let began = Instant::now();
        keeper.keep(taken.changes, now);
        let took = began.elapsed();
        if took > SLOW && !std::mem::replace(&mut slow_said, true) {
            tracing::warn!(
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "the disk is slow: more than the last second of the plugins' state may be lost if \
                 the power goes"
            );
        }
        for (token, group) in taken.open {
            let result = keeper.outcome(group);
            done(StoreOutcome { token, result });
        }
        if taken.closing {
            return;
        }
    }
}
