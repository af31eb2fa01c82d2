//! Work on plugins' files that takes long: one thread per plugin at most, and the newest content of
//! a file wins.
//!
//! Invariant: of the jobs of one plugin only the newest one's result is handed over, and nothing is
//! handed over once [`Jobs::cancel`] or a newer [`Jobs::start`] has returned.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use consort_proto::PluginId;

/// How long a stopping host waits for work that was given up. A compiler that is a child is ended
/// within a fraction of it; one in this process is left behind.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The jobs under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<Mutex<BTreeMap<PluginId, Job>>>);

/// Says whether the job's result is still wanted.
type Job = Arc<AtomicBool>;

impl Jobs {
    /// Begins work on a plugin and gives up older work on it. `work` is told when it is given up;
    /// what it returns goes to `hand_over`.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn start<T>(
        &self,
        id: &PluginId,
        work: impl FnOnce(&AtomicBool) -> Option<T> + Send + 'static,
        hand_over: impl FnOnce(T) + Send + 'static,
    ) -> io::Result<()> {
        let job = Job::default();
        if let Some(older) = self.lock().insert(id.clone(), Arc::clone(&job)) {
            older.store(true, Ordering::Release);
        }
        let (jobs, plugin) = (self.clone(), id.clone());
        let body = move || {
            let result = work(&job);
            let mut current = jobs.lock();
            if !current
                .get(&plugin)
                .is_some_and(|newest| Arc::ptr_eq(newest, &job))
            {
                return;
            }
            current.remove(&plugin);
            // Handed over under the lock, so that it cannot follow a newer job's result.
            if let Some(result) = result {
                hand_over(result);
            }
        };
        let spawned = thread::Builder::new()
            .name(format!("compile-{id}"))
            .spawn(body);
        if spawned.is_err() {
            self.lock().remove(id);
        }
        spawned.map(drop)
    }

    /// Gives up the work on a plugin.
    pub(crate) fn cancel(&self, id: &PluginId) {
        if let Some(job) = self.lock().remove(id) {
            job.store(true, Ordering::Release);
        }
    }

    /// Gives up all work and waits a little for its end.
    pub(crate) fn stop(&self) {
        let jobs = std::mem::take(&mut *self.lock());
        for job in jobs.values() {
            job.store(true, Ordering::Release);
        }
        let deadline = Instant::now() + STOP_MAX;
        // Each thread holds one of the two references to its job.
        while jobs.values().any(|job| Arc::strong_count(job) > 1) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginId, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn id() -> PluginId {
        PluginId::new("app").expect("valid")
    }

    fn until_cancelled(cancelled: &AtomicBool) {
        while !cancelled.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_newest_wins() {
        let jobs = Jobs::default();
        let (results, handed) = channel();
        let to = results.clone();
        let work = |cancelled: &AtomicBool| {
            until_cancelled(cancelled);
            Some("old")
        };
        jobs.start(&id(), work, move |result| to.send(result).expect("open"))
            .expect("a thread");
        jobs.start(
            &id(),
            |_| Some("new"),
            move |result| {
                results.send(result).expect("open");
            },
        )
        .expect("a thread");
        let all: Vec<_> = handed.iter().collect();
        assert_eq!(all, ["new"]);
    }

    #[test]
    fn what_is_given_up_hands_nothing_over() {
        let jobs = Jobs::default();
        let (results, handed) = channel();
        let work = |cancelled: &AtomicBool| {
            until_cancelled(cancelled);
            Some(())
        };
        let to = results.clone();
        jobs.start(&id(), work, move |()| to.send(()).expect("open"))
            .expect("a thread");
        jobs.cancel(&id());
        jobs.start(&id(), work, move |()| results.send(()).expect("open"))
            .expect("a thread");
        jobs.stop();
        assert!(handed.iter().next().is_none());
    }
}
