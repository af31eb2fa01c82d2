//! How much a plugin's thread counts when the processor is short.
//!
//! A thread earns CPU time while the clock goes on, a fifth of a core, and its ordinary callbacks spend
//! it. One that has spent more than it earned goes on at a lower priority: whatever else the device
//! does, the daemon's heartbeats and the plugins that use little among it, comes first, and it takes what
//! is left. Where the system allows it (`CAP_SYS_NICE`, or systemd's `LimitNICE=`), a thread that has
//! saved up again returns to its old priority; otherwise it stays where it is as long as the thread
//! lives. `setup` and
//! `restore`, for which interpreters take seconds, are free.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use nix::libc;
use tracing::debug;

/// The shortest time for which Linux (6.12 and later) lets a thread ask to run undisturbed. The usual
/// one is some 3 ms, which a thread that wakes may have to wait for another to end.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Stands for the usual one.
const USUAL_SLICE: Duration = Duration::ZERO;

/// How much lower: a thread at this niceness gets a tenth of what one at the usual one gets.
const STEP: i32 = 10;

/// A thread earns one part in so many of the time that passes.
const EARNED_PART: u32 = 5;

/// What a thread saves up at most, and owes at most.
const SAVED_MAX: Duration = Duration::from_millis(20);
const OWED_MAX: Duration = Duration::from_millis(500);

/// What is called next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callback {
    /// It ought to be short.
    Ordinary,
    /// It may take its time.
    Lengthy,
}

/// This thread, and those that it starts from here on, ask for short turns: it waits less for others
/// when it wakes, and they for it. Where the system does not know of that, nothing changes.
pub fn ask_for_short_turns() {
    // What is refused changes nothing.
    let _ = set(current(), SHORT_SLICE);
}

/// This process, which has one thread yet, comes after all others from here on. Where the system
/// refuses, it keeps the priority of its parent.
#[allow(unsafe_code, reason = "the system call has no safe form here")]
pub(crate) fn yield_to_others(niceness: i32) {
    // SAFETY: nice(2) takes and gives numbers, and touches no memory of this process.
    let _ = unsafe { libc::nice(niceness) };
    let _ = set(current(), USUAL_SLICE);
}

/// A callback begins on this thread, which has used so much CPU time so far.
pub(crate) fn begin(callback: Callback, cpu: Duration) {
    THREAD.with_borrow_mut(|thread| {
        thread.note(cpu);
        thread.account.callback = callback;
    });
}

/// The callback goes on, and the thread has used so much CPU time so far.
pub(crate) fn look(cpu: Duration) {
    THREAD.with_borrow_mut(|thread| thread.note(cpu));
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread::default());
}

struct Thread {
    account: Account,
    usual: i32,
    /// Whether it is to run at the lower priority, as far as this was tried.
    lowered: bool,
}

impl Default for Thread {
    fn default() -> Self {
        Self {
            account: Account::new(Instant::now()),
            usual: current(),
            lowered: false,
        }
    }
}

impl Thread {
    fn note(&mut self, cpu: Duration) {
        self.account.note(Instant::now(), cpu);
        let lowered = self.account.is_overdrawn(self.lowered);
        if lowered != self.lowered {
            self.lowered = lowered;
            let (step, slice) = if lowered {
                (STEP, USUAL_SLICE)
            } else {
                (0, SHORT_SLICE)
            };
            let done = set(self.usual.saturating_add(step), slice);
            let thread = std::thread::current();
            debug!(
                thread = thread.name().unwrap_or_default(),
                lowered, done, "a plugin's thread runs at another priority"
            );
        }
    }
}

/// What a thread has earned and not spent, in microseconds; negative for a debt.
struct Account {
    saved: i64,
    at: Instant,
    cpu: Duration,
    callback: Callback,
}

impl Account {
    const fn new(now: Instant) -> Self {
        Self {
            saved: SAVED_MAX.as_micros() as i64,
            at: now,
            cpu: Duration::ZERO,
            callback: Callback::Lengthy,
        }
    }

    fn note(&mut self, now: Instant, cpu: Duration) {
        let earned = now.saturating_duration_since(self.at) / EARNED_PART;
        let spent = match self.callback {
            Callback::Ordinary => cpu.saturating_sub(self.cpu),
            Callback::Lengthy => Duration::ZERO,
        };
        let saved = self.saved.saturating_add(micros(earned));
        let saved = saved.min(micros(SAVED_MAX)).saturating_sub(micros(spent));
        self.saved = saved.max(-micros(OWED_MAX));
        (self.at, self.cpu) = (now, cpu);
    }

    /// Whether it is in debt, or was and has not saved up again.
    const fn is_overdrawn(&self, before: bool) -> bool {
        let enough = if before {
            SAVED_MAX.as_micros() as i64 / 2
        } else {
            0
        };
        self.saved < enough
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The niceness of this thread: on Linux, zero stands for the calling one.
#[allow(unsafe_code, reason = "the system call has no safe form here")]
fn current() -> i32 {
    // SAFETY: getpriority(2) takes and gives numbers, and touches no memory of this process.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets it and the length of turns, and says whether the system agreed. Nothing depends on it but who
/// waits for whom.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the system call has no safe form here")]
fn set(niceness: i32, slice: Duration) -> bool {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        sched_nice: niceness.min(19),
        sched_priority: 0,
        sched_runtime: slice.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: sched_setattr(2) only reads the structure, whose size it is told in it; zero stands for
    // the calling thread, and there are no flags.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
}

/// Elsewhere niceness is the process's, so that one plugin would slow down all.
#[cfg(not(target_os = "linux"))]
const fn set(_niceness: i32, _slice: Duration) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Whether a thread is lowered after callbacks that each take so long and use so much.
    fn after(callbacks: u32, each: Duration, used: Duration, callback: Callback) -> bool {
        let mut now = Instant::now();
        let (mut account, mut cpu, mut lowered) = (Account::new(now), ms(3), false);
        for _ in 0..=callbacks {
            account.note(now, cpu);
            lowered = account.is_overdrawn(lowered);
            account.callback = callback;
            now += each;
            cpu += used;
        }
        lowered
    }

    #[test]
    fn a_thread_that_uses_more_than_a_fifth_of_a_core_is_lowered() {
        assert!(!after(1, ms(15), ms(15), Callback::Ordinary), "saved up");
        assert!(after(2, ms(15), ms(15), Callback::Ordinary));
        assert!(after(1_000, ms(10), ms(3), Callback::Ordinary));
        assert!(!after(1_000, ms(10), ms(1), Callback::Ordinary));
        assert!(!after(1_000, ms(10), ms(10), Callback::Lengthy), "free");
    }

    #[test]
    fn it_returns_when_it_has_saved_up_again() {
        let start = Instant::now();
        let mut account = Account::new(start);
        account.callback = Callback::Ordinary;
        account.note(start + ms(100), ms(100));
        assert!(account.is_overdrawn(false));
        account.note(start + ms(300), ms(100));
        assert!(account.is_overdrawn(true), "not at once");
        account.note(start + ms(600), ms(100));
        assert!(!account.is_overdrawn(true));
        // However much it owes, it is not for ever.
        account.note(start + ms(10_600), ms(10_100));
        account.note(start + ms(13_600), ms(10_100));
        assert!(!account.is_overdrawn(true));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_thread_s_priority_is_its_own() {
        let usual = current();
        let lowered = std::thread::spawn(move || {
            begin(Callback::Ordinary, Duration::ZERO);
            look(Duration::from_secs(1));
            current()
        });
        let lowered = lowered.join().expect("it ran");
        assert_eq!(lowered, (usual + STEP).min(19));
        assert_eq!(current(), usual);
    }
}
