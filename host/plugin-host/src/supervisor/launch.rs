//! How an instance is made: on a thread of its own, which `priority` tells from those that run plugins.
//!
//! A running generation goes on being called while the next one is set up; where nothing runs, the
//! plugin's thread waits. Invariants: what a `setup` asks for is kept back until its generation takes
//! over; the newest content of the files wins, and what was set up from an older one, or before group
//! time was set back, is dropped; at most [`BESIDE_MAX`] instances of a plugin are being set up at a time, so that
//! one that is blocked in a system call does not keep the next content out.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use consort_proto::StateView;
use tracing::{info, warn};

use super::life::Life;
use super::start::TracingLog;
use super::{Candidate, Control, Supervisor};
use crate::priority::SetUp;
use crate::status::GroupClock;
use crate::{Instance, InstanceSettings, Outcome, StartError};

/// The most threads that set up instances of one plugin.
const BESIDE_MAX: usize = 2;

/// An instance that passed `setup`, with what it asked for in it, or why there is none.
pub(super) type Launched = Result<(Instance, Outcome), StartError>;

/// All that an instance is made from besides the code.
struct Plan {
    settings: InstanceSettings,
    state: StateView,
    clock: Arc<dyn GroupClock>,
}

impl Plan {
    fn carry_out(self, candidate: &Candidate) -> Launched {
        let mut instance = Instance::new(&candidate.code, self.settings, self.clock.reading())?;
        instance.set_state(self.state);
        let outcome = instance.setup(self.clock.reading())?;
        Ok((instance, outcome))
    }
}

/// What came of setting an instance up beside the one that runs.
pub(crate) struct Landing {
    attempt: u64,
    launched: Launched,
}

/// The contents that are being set up beside the running generation.
#[derive(Debug, Default)]
pub(super) struct Launches {
    /// The content that is to take over, if any.
    wanted: Option<Arc<Candidate>>,
    /// Whether a thread has been started for it.
    is_under_way: bool,
    /// Counts the contents that were wanted, also again.
    attempt: u64,
    /// Threads under way, whatever for.
    threads: usize,
}

impl Launches {
    /// From here on `candidate` is to take over, and nothing that was wanted before.
    fn want(&mut self, candidate: Arc<Candidate>) {
        self.cancel();
        self.wanted = Some(candidate);
    }

    /// Nothing that was wanted is to take over.
    pub(super) fn cancel(&mut self) {
        self.wanted = None;
        self.is_under_way = false;
        self.attempt += 1;
    }

    /// What a thread is to be started for, if there may be one.
    fn due(&self) -> Option<Arc<Candidate>> {
        let may_start = !self.is_under_way && self.threads < BESIDE_MAX;
        self.wanted.as_ref().filter(|_| may_start).cloned()
    }

    fn note_start(&mut self) -> u64 {
        self.is_under_way = true;
        self.threads += 1;
        self.attempt
    }

    /// A thread has ended; gives the content that it was for if that is still wanted.
    fn note_end(&mut self, attempt: u64) -> Option<Arc<Candidate>> {
        self.threads -= 1;
        if attempt != self.attempt {
            return None;
        }
        self.is_under_way = false;
        self.wanted.take()
    }
}

impl Supervisor {
    /// Makes an instance and sets it up, while this thread waits. In virtual time, and where no thread
    /// can be started, this thread does it.
    pub(super) fn launch(&self, candidate: &Arc<Candidate>) -> Launched {
        let here = || self.plan(candidate).carry_out(candidate);
        if candidate.code.is_deterministic() {
            return here();
        }
        let (result, launched) = mpsc::sync_channel(1);
        let spawned = self.spawn(
            self.plan(candidate),
            Arc::clone(candidate),
            move |launched| {
                // The other end waits.
                let _ = result.send(launched);
            },
        );
        match spawned {
            Ok(()) => launched.recv().expect("it sends whatever happens"),
            Err(_) => here(),
        }
    }

    /// Has a content set up beside the generation that runs; [`Supervisor::land`] goes on.
    pub(super) fn launch_beside(&mut self, candidate: Arc<Candidate>) {
        self.launches.want(candidate);
        self.start_wanted();
    }

    /// What is being set up beside was begun before group time was set back: it is set up again.
    pub(super) fn relaunch(&mut self) {
        if let Some(candidate) = self.launches.wanted.clone() {
            self.launch_beside(candidate);
        }
    }

    fn start_wanted(&mut self) {
        let Some(candidate) = self.launches.due() else {
            return;
        };
        info!(
            plugin = %self.id, hash = candidate.hash.short(),
            "new content is being set up; generation {} goes on meanwhile", self.generation
        );
        if let Err(error) = self.start_thread(Arc::clone(&candidate)) {
            warn!(
                plugin = %self.id, cause = %error,
                "no thread can be started to set the plugin up; it waits for its new generation"
            );
            self.launches.cancel();
            let launched = self.launch(&candidate);
            self.take_over(candidate, launched);
        }
    }

    fn start_thread(&mut self, candidate: Arc<Candidate>) -> io::Result<()> {
        let (plan, mailbox) = (self.plan(&candidate), Arc::clone(&self.mailbox));
        let attempt = self.launches.attempt;
        self.spawn(plan, candidate, move |launched| {
            mailbox.control(Control::Landed(Box::new(Landing { attempt, launched })));
        })?;
        self.launches.note_start();
        Ok(())
    }

    /// Carries `plan` out on a thread of its own, which ends with handing over what came of it.
    fn spawn(
        &self,
        plan: Plan,
        candidate: Arc<Candidate>,
        hand_over: impl FnOnce(Launched) + Send + 'static,
    ) -> io::Result<()> {
        let set_up = SetUp::of_this_thread();
        let body = move || {
            set_up.begin();
            let carried_out = catch_unwind(AssertUnwindSafe(|| plan.carry_out(&candidate)));
            hand_over(carried_out.unwrap_or_else(|_| {
                Err(StartError::Contract("the host panicked on it".to_owned()))
            }));
        };
        let thread = thread::Builder::new().name(format!("setup-{}", self.id));
        thread.spawn(body).map(drop)
    }

    /// Something was set up, or was not.
    pub(super) fn land(&mut self, landing: Landing) {
        if let Some(candidate) = self.launches.note_end(landing.attempt) {
            self.take_over(candidate, landing.launched);
        }
        self.start_wanted();
    }

    /// What was set up replaces the generation that runs, or whatever became of it meanwhile.
    fn take_over(&mut self, candidate: Arc<Candidate>, launched: Launched) {
        match std::mem::replace(&mut self.life, Life::Setup) {
            Life::Running(old) => self.reload(old, candidate, launched),
            life => self.begin(life, candidate, launched),
        }
    }

    fn plan(&self, candidate: &Candidate) -> Plan {
        let settings = InstanceSettings {
            plugin: self.id.clone(),
            this_device: self.view.this_device().clone(),
            config: Arc::clone(&candidate.settings.config),
            limits: candidate.settings.limits.clone(),
            files: candidate.settings.capabilities.files.clone(),
            local: candidate.settings.capabilities.local,
            seed: self.surroundings.seed,
            run: self.surroundings.runs.fetch_add(1, Ordering::Relaxed),
            log: Box::new(TracingLog {
                plugin: self.id.clone(),
                fence: self.fence.clone(),
                ring: self.board.log().clone(),
            }),
        };
        Plan {
            settings,
            state: self.state_for(candidate, &[]),
            clock: Arc::clone(&self.surroundings.clock),
        }
    }
}
