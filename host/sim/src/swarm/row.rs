//! A row of numbered runs on several threads, of which the outcome depends on the runs alone.
//!
//! Numbers are handed out in their order. Once as many runs have failed as asked for, no further
//! number is handed out, and whatever was run beyond the last of these failures *in the order of
//! their numbers* is left out. A number below that one was handed out before it and is not given
//! up, so the rest is complete, however the threads took turns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many runs there are, on how many threads, and with how many failures they end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) runs: u64,
    /// At least one.
    pub(super) threads: usize,
    /// At least one.
    pub(super) failures_max: usize,
}

/// What the runs came to, each in the order of their numbers.
#[derive(Debug)]
pub(super) struct Row<T, F> {
    pub(super) results: Vec<T>,
    pub(super) failures: Vec<F>,
}

/// Makes the runs. `done` hears how many were made so far, from any thread.
pub(super) fn run<T: Send, F: Send>(
    bounds: Bounds,
    one: impl Fn(u64) -> (T, Option<F>) + Sync,
    done: impl Fn(u64) + Sync,
) -> Row<T, F> {
    let (next, finished) = (AtomicU64::new(0), AtomicU64::new(0));
    let kept = Mutex::new(Kept {
        failures_max: bounds.failures_max.max(1),
        results: BTreeMap::new(),
        failures: BTreeMap::new(),
    });
    std::thread::scope(|scope| {
        for _ in 0..bounds.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let beyond = lock(&kept).end().is_some_and(|end| number > end);
                    if number >= bounds.runs || beyond {
                        break;
                    }
                    let (result, failure) = one(number);
                    lock(&kept).take(number, result, failure);
                    done(finished.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    kept.row()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Kept<T, F> {
    failures_max: usize,
    results: BTreeMap<u64, T>,
    failures: BTreeMap<u64, F>,
}

impl<T, F> Kept<T, F> {
    /// The number of the last failure that counts, if there are enough of them. It only falls.
    fn end(&self) -> Option<u64> {
        self.failures.keys().nth(self.failures_max - 1).copied()
    }

    fn take(&mut self, number: u64, result: T, failure: Option<F>) {
        self.results.insert(number, result);
        self.failures
            .extend(failure.map(|failure| (number, failure)));
    }

    fn row(self) -> Row<T, F> {
        let end = self.end().unwrap_or(u64::MAX);
        let results = self.results.into_iter();
        let failures = self.failures.into_iter();
        Row {
            results: results
                .take_while(|(number, _)| *number <= end)
                .map(|(_, result)| result)
                .collect(),
            failures: failures
                .take_while(|(number, _)| *number <= end)
                .map(|(_, failure)| failure)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    /// Every fifth run fails, after a while that is longer for some than for others.
    fn row(threads: usize, failures_max: usize) -> Row<u64, u64> {
        let bounds = Bounds {
            runs: 40,
            threads,
            failures_max,
        };
        let one = |number: u64| {
            let slow = if number == 3 { 40 } else { number * 7 % 4 };
            std::thread::sleep(Duration::from_millis(slow));
            (number, (number % 5 == 3).then_some(number))
        };
        run(bounds, one, |_| {})
    }

    #[test]
    fn the_row_ends_with_the_last_failure_that_counts() {
        for threads in [1, 2, 7, 60] {
            let found = row(threads, 3);
            assert_eq!(found.failures, [3, 8, 13], "{threads} threads");
            assert!(
                found.results.iter().copied().eq(0..=13),
                "{threads} threads"
            );
        }
    }

    #[test]
    fn without_as_many_failures_all_is_run() {
        for threads in [1, 7] {
            let found = row(threads, 9);
            assert_eq!(found.failures, [3, 8, 13, 18, 23, 28, 33, 38]);
            assert!(found.results.iter().copied().eq(0..40));
        }
    }
}
