//! How much a plugin's thread counts when the processor is short.
//!
//! The daemon's own threads come first, where the system allows it: what the plugins of all devices ask
//! of them is bounded by quotas, and a heartbeat must not wait until eleven new plugins had their turns.
//! A thread earns CPU time while the clock goes on, a fifth of a core, and its ordinary callbacks spend
//! it. One that has spent more than it earned goes on at a lower priority: whatever else the device
//! does, the daemon's heartbeats and the plugins that use little among it, comes first, and it takes what
//! is left. Where the system allows it (`CAP_SYS_NICE`, or systemd's `LimitNICE=`), a thread that has
//! saved up again returns to its old priority; otherwise it stays where it is as long as the thread
//! lives. `restore`, for which interpreters take seconds, is free. `setup` has a thread of its own, which
//! is lowered like any other: plugins that are installed together, or fail and begin anew, do not hold
//! up those that run, and none pays later for what its `setup` took. It is not lowered from its start,
//! since an instance is made with the process's memory map locked, for which others would wait with it.
//! A thread whose plugin used little in its first second asks for short turns from there on, so that it
//! need not wait for the turns of newer ones to end.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::libc;
use tracing::debug;

/// The shortest time for which Linux (6.12 and later) lets a thread ask to run undisturbed. The usual
/// one is some 3 ms, which a thread that wakes may have to wait for another to end.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Stands for the usual one.
const USUAL_SLICE: Duration = Duration::ZERO;

/// How much lower or higher: a thread gets a tenth of what one gets whose niceness is this much lower.
const STEP: i32 = 10;

/// For how long a thread is new.
const PROBATION: Duration = Duration::from_secs(1);

/// How long callbacks of one kind go on before what they used is looked at.
const BETWEEN: Duration = Duration::from_millis(5);

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

/// This thread, and those that it starts from here on, come before the plugins and ask for short turns,
/// so that they wait less for others when they wake. Where the system does not allow the one or know the
/// other, that changes nothing.
pub fn come_first() {
    let usual = *USUAL.get_or_init(current);
    if !set(usual.saturating_sub(STEP), SHORT_SLICE) {
        let _ = set(usual, SHORT_SLICE);
    }
}

/// This thread, and those that it starts from here on, have the priority that the process was started
/// with.
pub(crate) fn come_as_usual() {
    if let Some(usual) = USUAL.get() {
        let _ = set(*usual, SHORT_SLICE);
    }
}

/// The process's priority when it was started, if [`come_first`] asked for another one.
static USUAL: OnceLock<i32> = OnceLock::new();

/// This process, which has one thread yet, comes after all others from here on. Where the system
/// refuses, it keeps the priority of its parent.
#[allow(unsafe_code, reason = "the system call has no safe form here")]
pub(crate) fn yield_to_others(niceness: i32) {
    // SAFETY: nice(2) takes and gives numbers, and touches no memory of this process.
    let _ = unsafe { libc::nice(niceness) };
    let _ = set(current(), USUAL_SLICE);
}

/// A callback begins on this thread, which has used as much CPU time so far as `cpu` says. It is not
/// asked at each of many short ones.
pub(crate) fn begin(callback: Callback, cpu: impl FnOnce() -> Duration) {
    THREAD.with_borrow_mut(|thread| {
        let now = Instant::now();
        if callback != thread.account.callback || now.duration_since(thread.account.at) >= BETWEEN {
            thread.note(now, cpu());
            thread.account.callback = callback;
        }
    });
}

/// The callback goes on, and the thread has used so much CPU time so far.
pub(crate) fn look(cpu: Duration) {
    THREAD.with_borrow_mut(|thread| thread.note(Instant::now(), cpu));
}

/// What a thread that sets a plugin up begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetUp {
    usual: i32,
}

impl SetUp {
    /// For this thread's plugin.
    pub(crate) fn of_this_thread() -> Self {
        let usual = THREAD.with_borrow(|thread| thread.usual);
        Self { usual }
    }

    /// This thread sets the plugin up from here on.
    pub(crate) fn begin(self) {
        THREAD.with_borrow_mut(|thread| {
            thread.usual = self.usual;
            thread.account.is_lengthy_free = false;
            thread.take_terms();
        });
    }
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread::default());
}

/// What a thread that calls a plugin may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Usual priority and turns.
    New,
    /// Usual priority, short turns.
    Good,
    /// Lower priority, as far as the system agreed.
    Overdrawn,
}

struct Thread {
    account: Account,
    usual: i32,
    standing: Standing,
}

impl Standing {
    /// What is added to the usual niceness, and how long turns are.
    const fn terms(self) -> (i32, Duration) {
        match self {
            Self::New => (0, USUAL_SLICE),
            Self::Good => (0, SHORT_SLICE),
            Self::Overdrawn => (STEP, USUAL_SLICE),
        }
    }
}

impl Default for Thread {
    fn default() -> Self {
        let thread = Self {
            account: Account::new(Instant::now()),
            usual: current(),
            standing: Standing::New,
        };
        thread.take_terms();
        thread
    }
}

impl Thread {
    fn note(&mut self, now: Instant, cpu: Duration) {
        self.account.note(now, cpu);
        let standing = self.account.standing(self.standing);
        if standing != self.standing {
            self.standing = standing;
            let done = self.take_terms();
            let thread = std::thread::current();
            debug!(
                thread = thread.name().unwrap_or_default(),
                ?standing,
                done,
                "a plugin's thread runs at another priority"
            );
        }
    }

    /// Says whether the system agreed.
    fn take_terms(&self) -> bool {
        let (step, slice) = self.standing.terms();
        set(self.usual.saturating_add(step), slice)
    }
}

/// What a thread has earned and not spent, in microseconds; negative for a debt.
struct Account {
    saved: i64,
    since: Instant,
    at: Instant,
    cpu: Duration,
    callback: Callback,
    is_lengthy_free: bool,
}

impl Account {
    const fn new(now: Instant) -> Self {
        Self {
            saved: SAVED_MAX.as_micros() as i64,
            since: now,
            at: now,
            cpu: Duration::ZERO,
            callback: Callback::Lengthy,
            is_lengthy_free: true,
        }
    }

    fn note(&mut self, now: Instant, cpu: Duration) {
        let earned = now.saturating_duration_since(self.at) / EARNED_PART;
        let spent = match self.callback {
            Callback::Lengthy if self.is_lengthy_free => Duration::ZERO,
            Callback::Ordinary | Callback::Lengthy => cpu.saturating_sub(self.cpu),
        };
        let saved = self.saved.saturating_add(micros(earned));
        let saved = saved.min(micros(SAVED_MAX)).saturating_sub(micros(spent));
        self.saved = saved.max(-micros(OWED_MAX));
        (self.at, self.cpu) = (now, cpu);
    }

    /// Where a thread stands that stood at `before`: one that was in debt stays there until it has
    /// saved up again.
    fn standing(&self, before: Standing) -> Standing {
        let is_new = before == Standing::New && self.at.duration_since(self.since) < PROBATION;
        let enough = match before {
            Standing::New | Standing::Good => 0,
            Standing::Overdrawn => SAVED_MAX.as_micros() as i64 / 2,
        };
        if self.saved < enough {
            Standing::Overdrawn
        } else if is_new {
            Standing::New
        } else {
            Standing::Good
        }
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

    /// Where a thread stands after callbacks that each take so long and use so much.
    fn after(callbacks: u32, each: Duration, used: Duration, callback: Callback) -> Standing {
        let mut now = Instant::now();
        let (mut account, mut cpu, mut standing) = (Account::new(now), ms(3), Standing::New);
        for _ in 0..=callbacks {
            account.note(now, cpu);
            standing = account.standing(standing);
            account.callback = callback;
            now += each;
            cpu += used;
        }
        standing
    }

    #[test]
    fn a_thread_that_uses_more_than_a_fifth_of_a_core_is_lowered() {
        let after_ordinary =
            |callbacks, each, used| after(callbacks, ms(each), ms(used), Callback::Ordinary);
        assert_eq!(after_ordinary(1, 15, 15), Standing::New, "saved up");
        assert_eq!(after_ordinary(2, 15, 15), Standing::Overdrawn);
        assert_eq!(after_ordinary(1_000, 10, 3), Standing::Overdrawn);
        assert_eq!(after_ordinary(90, 10, 1), Standing::New);
        assert_eq!(after_ordinary(1_000, 10, 1), Standing::Good);
        let lengthy = after(1_000, ms(10), ms(10), Callback::Lengthy);
        assert_eq!(lengthy, Standing::Good, "free");
    }

    #[test]
    fn it_returns_when_it_has_saved_up_again() {
        let start = Instant::now();
        let mut account = Account::new(start);
        account.callback = Callback::Ordinary;
        account.note(start + ms(100), ms(100));
        let lowered = account.standing(Standing::New);
        assert_eq!(lowered, Standing::Overdrawn);
        account.note(start + ms(300), ms(100));
        assert_eq!(account.standing(lowered), lowered, "not at once");
        account.note(start + ms(1_600), ms(100));
        assert_eq!(account.standing(lowered), Standing::Good);
        // However much it owes, it is not for ever.
        account.note(start + ms(10_600), ms(10_100));
        account.note(start + ms(13_600), ms(10_100));
        assert_eq!(account.standing(lowered), Standing::Good);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_thread_s_priority_is_its_own() {
        let usual = current();
        let lowered = std::thread::spawn(move || {
            begin(Callback::Ordinary, || Duration::ZERO);
            look(Duration::from_secs(1));
            let given = SetUp::of_this_thread();
            let set_up = move || {
                given.begin();
                begin(Callback::Lengthy, || Duration::ZERO);
                let before = current();
                look(Duration::from_secs(1));
                (before, current())
            };
            let set_up = std::thread::spawn(set_up).join().expect("it ran");
            (current(), set_up)
        });
        let (lowered, set_up) = lowered.join().expect("it ran");
        assert_eq!(lowered, (usual + STEP).min(19));
        assert_eq!(set_up.1, lowered, "a debt is not counted twice");
        // Whoever may lower itself only, stays where its parent is.
        assert!([usual, lowered].contains(&set_up.0), "{set_up:?}");
        assert_eq!(current(), usual);
    }
}
