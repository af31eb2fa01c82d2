//! Plugins that were told to end, and the threads that did not.
//!
//! Nobody waits for a plugin's end: its last callbacks may take as long as its limits allow, and a
//! system call that blocks takes any time. A thread that is overdue is left behind with its fence
//! closed. Invariants: a plugin's next thread is started after its last one has ended or was left
//! behind; at most [`LEFT_BEHIND_MAX`] threads are left behind at a time.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consort_proto::PluginId;
use tracing::{error, warn};

use crate::allowance::Limits;
use crate::fence::Fence;
use crate::keeper::Actor;
use crate::limit_table::SETUP_CPU_MS_MAX;
use crate::orders::Answer;

/// The most threads that may be left behind, each with the memory of its plugin. Beyond, no plugin
/// gets a new thread until one of them ends.
pub(crate) const LEFT_BEHIND_MAX: usize = 16;

/// What a plugin gets for its end beyond twice the CPU time that its callbacks may take.
const MARGIN: Duration = Duration::from_secs(2);

/// Plugins on their way out.
#[derive(Default)]
pub(crate) struct Departures {
    leaving: BTreeMap<PluginId, Departure>,
    left_behind: Vec<JoinHandle<()>>,
}

struct Departure {
    thread: JoinHandle<()>,
    fence: Fence,
    until: Instant,
    /// Who waits for it.
    answers: Vec<SyncSender<Answer>>,
}

/// A plugin that is gone.
pub(crate) struct Gone {
    pub(crate) id: PluginId,
    /// Its thread was left behind, so it could not say that the plugin is down.
    pub(crate) overdue: bool,
    pub(crate) answers: Vec<SyncSender<Answer>>,
}

/// How long a plugin may take to end: the callback under way, which may be its `setup`, its demotion
/// and its `shutdown`, on a machine that has other things to do.
pub(crate) fn longest_end(limits: Option<&Limits>) -> Duration {
    let longest = Duration::from_millis(SETUP_CPU_MS_MAX.unsigned_abs());
    let cpu = limits.map_or(longest, |limits| {
        limits.setup_cpu.max(limits.cpu) + 2 * limits.cpu
    });
    2 * cpu + MARGIN
}

impl Departures {
    /// Sees a plugin off that was told to end.
    pub(crate) fn add(&mut self, id: &PluginId, actor: Actor, until: Instant) {
        let departure = Departure {
            thread: actor.thread,
            fence: actor.fence,
            until,
            answers: Vec::new(),
        };
        self.leaving.insert(id.clone(), departure);
    }

    /// Whether a plugin is on its way out.
    pub(crate) fn has(&self, id: &PluginId) -> bool {
        self.leaving.contains_key(id)
    }

    /// Lets somebody wait until a plugin is gone; it comes back if the plugin is not leaving.
    pub(crate) fn wait_for(
        &mut self,
        id: &PluginId,
        answer: SyncSender<Answer>,
    ) -> Option<SyncSender<Answer>> {
        match self.leaving.get_mut(id) {
            Some(departure) => {
                departure.answers.push(answer);
                None
            }
            None => Some(answer),
        }
    }

    /// When the next one is overdue.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.values().map(|departure| departure.until).min()
    }

    /// Those whose thread has ended, and those that are overdue at `now`.
    pub(crate) fn take_gone(&mut self, now: Instant) -> Vec<Gone> {
        let over = |departure: &Departure| departure.fence.has_ended() || now >= departure.until;
        let leaving = std::mem::take(&mut self.leaving);
        let (gone, leaving) = leaving
            .into_iter()
            .partition(|(_, departure)| over(departure));
        self.leaving = leaving;
        let gone: BTreeMap<PluginId, Departure> = gone;
        gone.into_iter()
            .map(|(id, departure)| self.end(id, departure))
            .collect()
    }

    fn end(&mut self, id: PluginId, departure: Departure) -> Gone {
        let overdue = !departure.fence.has_ended();
        // A thread that sets up a next generation may be on its way yet.
        departure.fence.close();
        if overdue {
            warn!(
                plugin = %id,
                "the plugin does not end, it is blocked in a system call; its thread is left behind, \
                 and nothing it does counts any more"
            );
            self.left_behind.push(departure.thread);
        } else if departure.thread.join().is_err() {
            error!(plugin = %id, "a plugin's thread ended by a panic");
        }
        Gone {
            id,
            overdue,
            answers: departure.answers,
        }
    }

    /// Whether as many threads were left behind as may be.
    pub(crate) fn are_full(&mut self) -> bool {
        self.left_behind.retain(|thread| !thread.is_finished());
        self.left_behind.len() >= LEFT_BEHIND_MAX
    }

    /// All that are leaving, for a host that stops.
    pub(crate) fn take_all(&mut self) -> Vec<(PluginId, JoinHandle<()>, Fence)> {
        let leaving = std::mem::take(&mut self.leaving).into_iter();
        leaving
            .map(|(id, departure)| (id, departure.thread, departure.fence))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel, sync_channel};

    use super::*;
    use crate::mailbox::Mailbox;

    /// A plugin's thread that ends when it is told.
    fn actor(name: &str) -> (PluginId, Actor, Sender<()>) {
        let (release, blocked) = channel::<()>();
        let fence = Fence::default();
        let own = fence.clone();
        let thread = std::thread::spawn(move || {
            // It is over when the sender is dropped, too.
            let _ = blocked.recv();
            own.note_end();
        });
        let mailbox = Arc::new(Mailbox::new(1));
        let id = PluginId::new(name.to_owned()).expect("an id");
        let actor = Actor {
            mailbox,
            thread,
            fence,
        };
        (id, actor, release)
    }

    #[test]
    fn the_overdue_are_left_behind_and_count_until_they_end() {
        let mut departures = Departures::default();
        let now = Instant::now();
        let (id, stuck, release) = actor("stuck");
        let fence = stuck.fence.clone();
        departures.add(&id, stuck, now + MARGIN);
        let (answer, answered) = sync_channel(1);
        assert!(departures.wait_for(&id, answer).is_none());
        assert!(departures.take_gone(now).is_empty() && departures.has(&id));
        assert_eq!(departures.next_deadline(), Some(now + MARGIN));
        let gone = departures.take_gone(now + MARGIN);
        assert!(gone[0].overdue && gone[0].answers.len() == 1);
        assert!(fence.is_closed() && !departures.has(&id));
        fence.pass(|| panic!("nothing gets out"));
        drop((gone, answered));

        let others: Vec<_> = (1..LEFT_BEHIND_MAX)
            .map(|number| actor(&format!("stuck-{number}")))
            .collect();
        let mut releases = vec![release];
        for (id, actor, release) in others {
            assert!(!departures.are_full());
            departures.add(&id, actor, now);
            assert_eq!(departures.take_gone(now).len(), 1);
            releases.push(release);
        }
        assert!(departures.are_full());
        drop(releases);
        while departures.are_full() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn those_that_end_in_time_are_no_burden() {
        let mut departures = Departures::default();
        let now = Instant::now();
        let (id, actor, release) = actor("good");
        let fence = actor.fence.clone();
        departures.add(&id, actor, now + Duration::from_secs(3600));
        drop(release);
        while !fence.has_ended() {
            std::thread::yield_now();
        }
        let gone = departures.take_gone(now);
        assert!(gone.len() == 1 && !gone[0].overdue);
        assert!(!departures.are_full() && departures.left_behind.is_empty());
    }

    #[test]
    fn an_end_may_take_what_the_limits_allow() {
        let limits = Limits::default();
        assert_eq!(longest_end(Some(&limits)), Duration::from_millis(12_400));
        assert_eq!(longest_end(None), Duration::from_secs(122));
    }
}
