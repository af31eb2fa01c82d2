//! Instances come and go: the first one, the next one after a fault, and the end of the attempts.

use std::sync::Arc;

use consort_proto::{PluginCommand, PluginId, StateView};
use tracing::warn;

use super::launch::Launched;
use super::life::{Announced, Life, Running};
use super::refused::Said;
use super::superseded::Superseded;
use super::{Candidate, Supervisor, lay_over};
use crate::fault::BETWEEN_FRAMES;
use crate::fence::Fence;
use crate::log_ring::LogRing;
use crate::plugin_log::{Level, LogSink};
use crate::status::HostEvent;
use crate::view::View;
use crate::{Fault, Instance, Outcome, StartError};

impl Supervisor {
    /// Takes a new content of the plugin's files.
    pub(super) fn load(&mut self, candidate: Arc<Candidate>) {
        if matches!(self.life, Life::Running(_)) {
            return self.launch_beside(candidate);
        }
        self.launches.cancel();
        let life = std::mem::replace(&mut self.life, Life::Setup);
        self.enter(Life::Setup);
        let launched = self.launch(&candidate);
        self.begin(life, candidate, launched);
    }

    /// A content was set up while nothing ran: it runs, or all stays as it was.
    pub(super) fn begin(&mut self, life: Life, candidate: Arc<Candidate>, launched: Launched) {
        let error = match launched {
            Ok((instance, outcome)) => {
                self.adopt(candidate);
                self.backoff.clear();
                return self.activate(instance, outcome);
            }
            Err(error) => error,
        };
        let (file, hash) = (candidate.file.clone(), candidate.hash.short());
        if self.candidate.is_some() {
            warn!(
                plugin = %self.id, file = %file.display(), %hash, cause = %error,
                backtrace = shown(error.backtrace()).map(display),
                "new content of the plugin's file refused; the old one stays {}", life.name()
            );
            self.note_error(&error);
            return self.enter(life);
        }
        match error {
            StartError::Fault(fault) => {
                self.adopt(candidate);
                self.fault(&fault);
            }
            StartError::Contract(_) | StartError::Refused { .. } => {
                warn!(plugin = %self.id, file = %file.display(), %hash, cause = %error, "plugin rejected");
                self.note_error(&error);
                self.enter(Life::Rejected);
            }
        }
    }

    /// Makes another instance of the code that faulted.
    pub(super) fn restart(&mut self) {
        let Some(candidate) = self.candidate.clone() else {
            return;
        };
        self.enter(Life::Setup);
        match self.launch(&candidate) {
            Ok((instance, outcome)) => self.activate(instance, outcome),
            Err(error) => self.fault(&as_fault(error)),
        }
    }

    /// What an instance of `candidate` reads that has issued `kept_back` so far.
    pub(super) fn state_for(
        &self,
        candidate: &Candidate,
        kept_back: &[PluginCommand],
    ) -> StateView {
        let mut state = if self.moves(candidate) {
            StateView::new(self.view.this_device().device, candidate.state_config())
        } else {
            self.view.state().clone()
        };
        state.set_config(candidate.state_config());
        lay_over(&mut state, kept_back, self.reading());
        state
    }

    /// Whether `candidate` is of another group than the content that counts.
    fn moves(&self, candidate: &Candidate) -> bool {
        let current = self.candidate.as_ref();
        current.is_some_and(|current| current.group() != candidate.group())
    }

    /// Makes `candidate` the content that counts.
    pub(super) fn adopt(&mut self, candidate: Arc<Candidate>) {
        if self.moves(&candidate) {
            self.view = View::new(self.view.this_device().clone());
            self.superseded = Superseded::default();
            self.elsewhere = true;
        }
        self.generation += 1;
        self.said = Said::default();
        self.mailbox
            .set_messages_max(candidate.settings.limits.mailbox);
        let mut board = self.board.lock();
        board.version = Some(candidate.settings.spec.version);
        board.generation = self.generation;
        board.hash = Some(candidate.hash.short());
        board.refused_capabilities = candidate.settings.refused();
        drop(board);
        *self.board.details() = Some(Arc::new(candidate.details()));
        for refused in candidate.settings.refused() {
            warn!(plugin = %self.id, file = %candidate.file.display(), "capability {refused}");
        }
        self.view.state_mut().set_config(candidate.state_config());
        self.candidate = Some(candidate);
    }

    /// An instance passed `setup`: it runs from here on, and learns what its plugin ought to know.
    pub(super) fn activate(&mut self, mut instance: Instance, setup: Outcome) {
        self.announce_up();
        self.send(setup);
        // A predecessor may have written since this one was set up.
        instance.set_state(self.view.state().clone());
        let running = Running {
            instance: Box::new(instance),
            since: self.now(),
        };
        self.enter(Life::Running(running));
        for event in self.view.replay() {
            self.deliver(&event);
        }
        if matches!(self.life, Life::Running(_))
            && let Some(event) = self.superseded.take()
        {
            self.deliver(&event);
        }
    }

    /// Keeps why something failed for whoever asks.
    pub(super) fn note_fault(&self, cause: String, backtrace: &[String]) {
        self.board.say(&cause);
        for frame in backtrace {
            self.board.say(&format!("  at {frame}"));
        }
        let mut board = self.board.lock();
        board.last_fault = Some(cause);
        board.last_backtrace = backtrace.to_vec();
    }

    /// Keeps why an instance did not start or take over.
    pub(super) fn note_error(&self, error: &StartError) {
        self.note_fault(error.to_string(), error.backtrace());
        self.say_core(error.core());
    }

    /// Tells where the core of a fault is, or why it was not kept.
    pub(super) fn say_core(&self, core: Option<&str>) {
        if let Some(core) = core {
            warn!(plugin = %self.id, "{core}");
            self.board.say(core);
        }
    }

    /// The instance is lost.
    pub(super) fn fault(&mut self, fault: &Fault) {
        let since = match std::mem::replace(&mut self.life, Life::Setup) {
            Life::Running(running) => Some(running.since),
            _ => None,
        };
        if self.fence.is_closed() {
            return self.enter(Life::Stopped);
        }
        warn!(
            plugin = %self.id, file = %self.file(), hash = %self.hash(), cause = %fault,
            backtrace = shown(&fault.backtrace).map(display), "plugin faulted"
        );
        self.note_fault(fault.to_string(), &fault.backtrace);
        self.say_core(fault.core.as_deref());
        if matches!(self.announced, Announced::Up(_)) {
            self.announced = Announced::Faulted;
            self.tell(HostEvent::Faulted(self.id.clone()));
        }
        let now = self.now();
        match self.backoff.fault(since, now) {
            Some(wait) => self.enter(Life::BackOff { until: now + wait }),
            None => {
                self.enter(Life::Quarantined);
                self.announce_down();
            }
        }
    }
}

/// A backtrace as a field of a line of the log; none if there is none.
pub(super) fn shown(backtrace: &[String]) -> Option<String> {
    (!backtrace.is_empty()).then(|| backtrace.join(BETWEEN_FRAMES))
}

/// A setup that refuses to run again counts as a fault.
pub(super) fn as_fault(error: StartError) -> Fault {
    match error {
        StartError::Fault(fault) => fault,
        StartError::Contract(cause) => Fault {
            callback: "start",
            cause,
            backtrace: Vec::new(),
            core: None,
        },
        StartError::Refused { callback, text } => Fault {
            callback,
            cause: format!("it failed: {text}"),
            backtrace: Vec::new(),
            core: None,
        },
    }
}

/// Brings a plugin's lines into the host's log, and where they can be asked for.
pub(super) struct TracingLog {
    pub(super) plugin: PluginId,
    pub(super) fence: Fence,
    pub(super) ring: LogRing,
}

impl LogSink for TracingLog {
    fn line(&mut self, level: Level, text: &str) {
        let (plugin, ring) = (&self.plugin, &self.ring);
        self.fence.pass(|| {
            ring.push(level, false, text);
            match level {
                Level::Trace => tracing::trace!(target: "plugin", plugin = %plugin, "{text}"),
                Level::Debug => tracing::debug!(target: "plugin", plugin = %plugin, "{text}"),
                Level::Info => tracing::info!(target: "plugin", plugin = %plugin, "{text}"),
                Level::Warn => tracing::warn!(target: "plugin", plugin = %plugin, "{text}"),
                Level::Error => tracing::error!(target: "plugin", plugin = %plugin, "{text}"),
            }
        });
    }
}
