//! One plugin's thread: it owns the plugin's instance, feeds it, and replaces it.
//!
//! Invariants: only this thread touches the instance; `view` is what the plugin ought to know, so
//! it is kept up to date whether an instance runs or not, and a new instance is brought up to it
//! by a replay; `view` holds the writes that were sent, and none of a callback that failed, so the
//! group's state as its plugin sees it outlives any instance; what the daemon is told of one plugin
//! comes from this thread alone, so it comes in order; a plugin of an incompatible version is of
//! another group, and begins with nothing of the former one: its view is new, and what the node
//! says is passed over until it says that the plugin joined its own group.

mod launch;
mod life;
mod local;
mod refused;
mod reload;
mod start;
mod superseded;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use consort_proto::{
    GroupKey, Peer, PluginCommand, PluginEvent, PluginId, SendQuota, StateConfig, StateView,
};
use sha2::{Digest, Sha256};
use tracing::{debug, info, warn};

pub(crate) use self::launch::Landing;
use self::launch::Launches;
use self::life::{Announced, Life};
use self::refused::Said;
use self::start::shown;
use self::superseded::Superseded;
use crate::backoff::Backoff;
use crate::engine::Runtime;
use crate::fence::Fence;
use crate::folder::ContentHash;
use crate::mailbox::{Mailbox, Taken, is_message};
use crate::manifest::Settings;
use crate::status::{Board, GroupClock, HostEvent, PluginDetails};
use crate::view::{Effect, View};
use crate::{ClockReading, Code, Fault, Instance, Level, LocalRequest, Outcome, ShutdownReason};

/// The longest sleep; group time may run a little faster than this machine's clock.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What all plugins of a host share.
pub(crate) struct Surroundings {
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<dyn GroupClock>,
    pub(crate) out: Arc<dyn Fn(HostEvent) + Send + Sync>,
    pub(crate) this_device: Peer,
    pub(crate) seed: [u8; 32],
    /// Instances made so far; each has random streams of its own.
    pub(crate) runs: AtomicU64,
}

/// What waits for one plugin's thread.
pub(crate) type PluginMailbox = Mailbox<Control, LocalRequest>;

/// What the host tells a plugin's thread.
pub(crate) enum Control {
    /// A content of its file is being compiled.
    Compiling,
    /// A content of its file is usable.
    Load(Box<Candidate>),
    /// A content of its file is not usable.
    Refused {
        /// Which file, or which of two.
        file: PathBuf,
        /// Which content.
        hash: String,
        /// Why.
        cause: String,
    },
    /// A content was set up beside the generation that runs, or was not.
    Landed(Box<Landing>),
    /// Group time was set back.
    SetBack,
    /// Unload and end.
    Stop(ShutdownReason),
}

/// A content of a plugin's files that compiled.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) settings: Settings,
    pub(crate) code: Code,
    pub(crate) file: PathBuf,
    pub(crate) hash: ContentHash,
}

impl Candidate {
    /// What an observer may want to know of it.
    pub(crate) fn details(&self) -> PluginDetails {
        let Settings {
            spec,
            config,
            limits,
            capped,
            capabilities,
            state,
            ..
        } = self.settings.clone();
        PluginDetails {
            file: self.file.clone(),
            spec,
            config,
            limits,
            capped,
            capabilities,
            state,
            exports: self.code.exports(),
            imports: self.code.imports(),
        }
    }

    /// How the plugin's state is kept.
    fn state_config(&self) -> StateConfig {
        self.settings.state
    }

    /// The group that it takes part in.
    fn group(&self) -> GroupKey {
        self.settings.spec.group()
    }
}

/// One plugin's supervisor; [`Supervisor::run`] is the thread's body.
pub(crate) struct Supervisor {
    id: PluginId,
    surroundings: Arc<Surroundings>,
    mailbox: Arc<PluginMailbox>,
    board: Board,
    fence: Fence,
    view: View,
    /// What the node says is of another group than the plugin's.
    elsewhere: bool,
    superseded: Superseded,
    life: Life,
    announced: Announced,
    /// As the daemon was told.
    quota: Option<SendQuota>,
    /// As the daemon was told.
    state_config: Option<StateConfig>,
    /// As the daemon was told.
    local: bool,
    candidate: Option<Arc<Candidate>>,
    launches: Launches,
    generation: u64,
    /// What the log has named of what the generation was refused.
    said: Said,
    backoff: Backoff,
}

impl Supervisor {
    pub(crate) fn new(
        id: PluginId,
        surroundings: Arc<Surroundings>,
        mailbox: Arc<PluginMailbox>,
        board: Board,
        fence: Fence,
    ) -> Self {
        let seed = Sha256::new()
            .chain_update(b"consort plugin back-off v1")
            .chain_update(surroundings.seed)
            .chain_update(id.as_str());
        Self {
            view: View::new(surroundings.this_device.clone()),
            elsewhere: false,
            superseded: Superseded::default(),
            life: Life::Discovered,
            announced: Announced::Down,
            quota: None,
            state_config: None,
            local: false,
            candidate: None,
            launches: Launches::default(),
            generation: 0,
            said: Said::default(),
            backoff: Backoff::new(seed.finalize().into()),
            id,
            surroundings,
            mailbox,
            board,
            fence,
        }
    }

    /// Serves the plugin until it is stopped, or left behind.
    pub(crate) fn run(mut self) {
        info!(plugin = %self.id, "plugin discovered");
        while !self.fence.is_closed() {
            match self.mailbox.take(self.wake_at()) {
                Taken::Control(Control::Stop(reason)) => return self.stop(reason),
                Taken::Control(_) if self.fence.is_ending() => {}
                Taken::Control(control) => self.handle_control(control),
                Taken::Request(request) => self.handle_request(request),
                Taken::Events(events) => {
                    for event in events {
                        if self.fence.is_ending() {
                            break;
                        }
                        self.handle_event(&event);
                    }
                }
                Taken::Nothing => {}
            }
            if !self.fence.is_ending() {
                self.handle_deadline();
            }
        }
    }

    /// One piece of work, if any is due: for whoever moves a plugin on step by step instead of
    /// giving it a thread.
    pub(crate) fn step(&mut self) {
        match self.mailbox.next() {
            Some(Taken::Control(control)) => self.handle_control(control),
            Some(Taken::Request(request)) => self.handle_request(request),
            Some(Taken::Events(events)) => {
                for event in events {
                    self.handle_event(&event);
                }
            }
            Some(Taken::Nothing) | None => {}
        }
        self.handle_deadline();
    }

    /// Loses the instance, if one runs, for a cause that is not its own.
    pub(crate) fn lose(&mut self, fault: &Fault) {
        if matches!(self.life, Life::Running(_)) {
            self.fault(fault);
        }
    }

    /// When to look at back-off and timers again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match &self.life {
            Life::BackOff { until } => Some(*until),
            Life::Running(running) => {
                let due = running.instance.next_timer()?;
                let wait = due.saturating_sub(self.reading().group_time_us);
                Some(self.now() + Duration::from_micros(wait).min(SLEEP_MAX))
            }
            Life::Discovered
            | Life::Compiling
            | Life::Setup
            | Life::Reloading
            | Life::Quarantined
            | Life::Rejected
            | Life::Stopped => None,
        }
    }

    fn handle_deadline(&mut self) {
        let now = self.now();
        match &mut self.life {
            Life::BackOff { until } if now >= *until => self.restart(),
            Life::Running(running) => {
                let reading = self.surroundings.clock.reading();
                if running
                    .instance
                    .next_timer()
                    .is_some_and(|due| due <= reading.group_time_us)
                {
                    let (outcome, result) = running.instance.fire_timers(reading);
                    self.send(outcome);
                    self.finish(result.map(|()| Outcome::default()));
                }
            }
            Life::BackOff { .. }
            | Life::Discovered
            | Life::Compiling
            | Life::Setup
            | Life::Reloading
            | Life::Quarantined
            | Life::Rejected
            | Life::Stopped => {}
        }
    }

    fn handle_event(&mut self, event: &PluginEvent) {
        if let (PluginEvent::Joined(group), Some(candidate)) = (event, &self.candidate) {
            self.elsewhere = *group != candidate.group();
        }
        if self.elsewhere {
            self.mailbox.count_dropped(is_message(event).into());
            return;
        }
        if self.view.apply(event) == Effect::Contradiction {
            debug!(plugin = %self.id, ?event, "event does not fit the plugin's view; ignored");
        }
        if let PluginEvent::WritesSuperseded(keys) = event {
            warn!(
                plugin = %self.id, count = keys.len(), keys = %superseded::listed(keys),
                "leader state written here was not adopted by the group"
            );
        }
        if matches!(self.life, Life::Running(_)) {
            return self.deliver(event);
        }
        match event {
            PluginEvent::WritesSuperseded(keys) => {
                let left_out = self.superseded.note(keys);
                if left_out > 0 {
                    warn!(plugin = %self.id, left_out, "the plugin will not be told of all of them");
                }
            }
            event => self.mailbox.count_dropped(is_message(event).into()),
        }
    }

    fn handle_control(&mut self, control: Control) {
        match control {
            Control::Compiling => {
                if matches!(self.life, Life::Discovered | Life::Rejected) {
                    self.enter(Life::Compiling);
                }
            }
            Control::Load(candidate) => self.load(Arc::new(*candidate)),
            Control::Landed(landing) => self.land(*landing),
            Control::Refused { file, hash, cause } => {
                let kept = self.kept();
                warn!(plugin = %self.id, file = %file.display(), %hash, %cause, "plugin file refused{kept}");
                self.note_fault(cause, &[]);
                if matches!(self.life, Life::Discovered | Life::Compiling) {
                    self.enter(Life::Rejected);
                }
            }
            Control::SetBack => self.set_back(),
            // The loop itself ends on this one.
            Control::Stop(_) => {}
        }
    }

    /// Calls the instance, if it still runs.
    fn deliver(&mut self, event: &PluginEvent) {
        let reading = self.reading();
        if let Life::Running(running) = &mut self.life {
            let result = running.instance.deliver(event, reading);
            self.finish(result);
        }
    }

    fn finish(&mut self, result: Result<Outcome, Fault>) {
        match result {
            Ok(outcome) => self.send(outcome),
            Err(fault) => self.fault(&fault),
        }
    }

    pub(crate) fn stop(mut self, reason: ShutdownReason) {
        if self.fence.is_closed() {
            return;
        }
        let life = std::mem::replace(&mut self.life, Life::Stopped);
        if let Life::Running(running) = life {
            self.unload(*running.instance, reason);
        }
        self.announce_down();
        self.enter(Life::Stopped);
    }

    /// Ends an instance in order. A fault in its last callbacks changes nothing any more.
    fn unload(&mut self, mut instance: Instance, reason: ShutdownReason) {
        let result = instance.demote(self.reading()).and_then(|outcome| {
            self.send(outcome);
            instance.shutdown(reason, self.reading())
        });
        match result {
            Ok(outcome) => self.send(outcome),
            Err(fault) => {
                warn!(
                    plugin = %self.id, file = %self.file(), cause = %fault,
                    backtrace = shown(&fault.backtrace).map(display),
                    "plugin faulted while it was unloaded"
                );
                self.say_core(fault.core.as_deref());
            }
        }
    }

    /// Tells the daemon, unless this thread was left behind.
    fn tell(&self, event: HostEvent) {
        self.fence.pass(|| (self.surroundings.out)(event));
    }

    fn announce_up(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let (quota, state) = (candidate.settings.limits.quota(), candidate.state_config());
        let spec = candidate.settings.spec.clone();
        let local = candidate.settings.capabilities.local;
        if self.local != local {
            self.local = local;
            let (id, held) = (self.id.clone(), local);
            self.tell(HostEvent::Local { id, held });
        }
        if self.quota != Some(quota) || self.announced == Announced::Down {
            self.quota = Some(quota);
            let id = self.id.clone();
            self.tell(HostEvent::Quota { id, quota });
        }
        if self.state_config != Some(state) || self.announced == Announced::Down {
            self.state_config = Some(state);
            let (id, config) = (self.id.clone(), state);
            self.tell(HostEvent::State { id, config });
        }
        if self.announced != Announced::Up(spec.clone()) {
            self.announced = Announced::Up(spec.clone());
            self.tell(HostEvent::Up(spec));
        }
    }

    fn announce_down(&mut self) {
        if self.announced != Announced::Down {
            self.announced = Announced::Down;
            self.local = false;
            self.tell(HostEvent::Down(self.id.clone()));
        }
    }

    /// Hands what a callback left behind to the daemon. Writes are what the plugin ought to know from
    /// here on.
    fn send(&mut self, outcome: Outcome) {
        if self.fence.is_closed() {
            return;
        }
        let Outcome {
            commands,
            published: messages,
            refusals,
        } = outcome;
        let reading = self.reading();
        lay_over(self.view.state_mut(), &commands, reading);
        if !commands.is_empty() {
            let id = self.id.clone();
            self.tell(HostEvent::Commands { id, commands });
        }
        if !messages.is_empty() {
            let id = self.id.clone();
            self.tell(HostEvent::Published { id, messages });
        }
        self.note_refusals(&refusals);
    }

    /// The one place where the life changes and says so.
    fn enter(&mut self, life: Life) {
        if self.fence.is_closed() {
            self.life = Life::Stopped;
            return;
        }
        self.board.lock().state = life.name();
        self.board
            .log()
            .push(Level::Info, true, &format!("plugin {}", life.name()));
        // Before the first content of the file was taken there is nothing to name.
        let content = self.candidate.as_ref();
        info!(
            plugin = %self.id,
            file = content.map(|content| display(content.file.display())),
            hash = content.map(|content| display(content.hash.short())),
            generation = content.map(|_| self.generation),
            "plugin {}",
            life.name()
        );
        self.life = life;
    }

    fn reading(&self) -> ClockReading {
        self.surroundings.clock.reading()
    }

    fn now(&self) -> Instant {
        self.surroundings.clock.instant()
    }

    fn file(&self) -> String {
        self.candidate
            .as_ref()
            .map(|c| c.file.display().to_string())
            .unwrap_or_default()
    }

    fn hash(&self) -> String {
        self.candidate
            .as_ref()
            .map(|c| c.hash.short())
            .unwrap_or_default()
    }

    /// What a refused file leaves in place, for the log.
    fn kept(&self) -> String {
        match self.candidate {
            Some(_) => format!(
                "; generation {} stays {}",
                self.generation,
                self.life.name()
            ),
            None => String::new(),
        }
    }
}

/// Lets reads of `state` see the writes among `commands`, which an instance's own view accepted.
fn lay_over(state: &mut StateView, commands: &[PluginCommand], reading: ClockReading) {
    for command in commands {
        if let PluginCommand::Write(write) = command {
            state.replay(write, reading.group_time_us);
        }
    }
}
