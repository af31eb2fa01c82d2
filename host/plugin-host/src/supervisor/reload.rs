//! One generation hands over to the next.
//!
//! Order: new setup, beside the old one → (events wait) → old save → new restore → commit → old
//! demotion, old shutdown → new peers, new role → the events that waited. Until the commit the new
//! one's commands are kept back and any failure leaves the old one as it was. The group notices
//! nothing, unless the version changed. An incompatible version takes over what the old one saved, but leaves its group:
//! it knows neither the group's state nor peers and role until it has joined its own.
//!
//! Where group time is set back, the plugin's events wait already while its next instance is set up: for
//! the one before it time would stand still, and its quotas and timers with it.

use std::sync::Arc;

use tracing::{info, warn};

use super::launch::Launched;
use super::life::{Life, Running};
use super::start::{as_fault, shown};
use super::{Candidate, Supervisor};
use crate::{Instance, Outcome, ShutdownReason, StartError};

/// A new generation before the commit.
struct Successor {
    instance: Instance,
    /// What it asked for so far.
    kept_back: Outcome,
    /// The old one faulted in its `save`: it can neither run on nor be unloaded in order.
    predecessor_lost: bool,
}

impl Supervisor {
    /// Replaces a running generation by what was set up from `candidate`, or keeps it.
    pub(super) fn reload(
        &mut self,
        mut old: Running,
        candidate: Arc<Candidate>,
        launched: Launched,
    ) {
        let (from, to) = (self.hash(), candidate.hash.short());
        if launched.is_ok() {
            self.enter(Life::Reloading);
        }
        let hand_over =
            launched.and_then(|set_up| self.prepare(&mut old.instance, &candidate, set_up));
        match hand_over {
            Ok(successor) => {
                self.backoff.clear();
                self.commit(old, successor, Some(candidate));
                info!(
                    plugin = %self.id, from, to, generation = self.generation, "plugin reloaded"
                );
            }
            Err(error) => {
                warn!(
                    plugin = %self.id, file = %candidate.file.display(), hash = to, cause = %error,
                    backtrace = shown(error.backtrace()).map(display),
                    "reload failed; generation {} stays running", self.generation
                );
                self.note_error(&error);
                if matches!(self.life, Life::Reloading) {
                    self.enter(Life::Running(old));
                } else {
                    // It never stopped.
                    self.life = Life::Running(old);
                }
            }
        }
    }

    /// Group time was set back: a new instance of the same code takes over, so that time never
    /// runs back within one.
    pub(super) fn set_back(&mut self) {
        self.relaunch();
        let Some(candidate) = self.candidate.clone() else {
            return;
        };
        match std::mem::replace(&mut self.life, Life::Reloading) {
            Life::Running(mut old) => {
                self.enter(Life::Reloading);
                let hand_over = self
                    .launch(&candidate)
                    .and_then(|set_up| self.prepare(&mut old.instance, &candidate, set_up));
                match hand_over {
                    Ok(successor) => self.commit(old, successor, None),
                    Err(error) => self.fault(&as_fault(error)),
                }
            }
            // Whatever starts later reads the new time.
            other => self.life = other,
        }
    }

    /// Everything between the new one's setup and the commit.
    fn prepare(
        &mut self,
        old: &mut Instance,
        candidate: &Candidate,
        (mut instance, mut kept_back): (Instance, Outcome),
    ) -> Result<Successor, StartError> {
        let mut predecessor_lost = false;
        if instance.has_handover() {
            match old.save(self.reading()) {
                Ok(None) => {}
                Ok(Some((saved, outcome))) => {
                    self.send(outcome);
                    instance.set_state(self.state_for(candidate, &kept_back.commands));
                    let from = self.candidate.as_ref().map(|c| c.settings.spec.version);
                    let restored =
                        instance.restore(&saved, from.unwrap_or_default(), self.reading())?;
                    kept_back.extend(restored);
                }
                Err(fault) => {
                    warn!(
                        plugin = %self.id, file = %self.file(), hash = %self.hash(), cause = %fault,
                        backtrace = shown(&fault.backtrace).map(display),
                        "the old generation faulted while saving; the new one starts without its state"
                    );
                    self.say_core(fault.core.as_deref());
                    predecessor_lost = true;
                }
            }
        }
        Ok(Successor {
            instance,
            kept_back,
            predecessor_lost,
        })
    }

    /// The new generation is the one that counts from here on.
    fn commit(&mut self, old: Running, successor: Successor, candidate: Option<Arc<Candidate>>) {
        if !successor.predecessor_lost {
            self.unload(*old.instance, ShutdownReason::Reload);
        }
        if let Some(candidate) = candidate {
            self.adopt(candidate);
        }
        self.activate(successor.instance, successor.kept_back);
    }
}
