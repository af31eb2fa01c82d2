//! Real plugins in a simulated group, seen from the simulator.
//!
//! [`crate::App`] is what the simulator itself knows of a plugin on a device: the fold over what its
//! node told it, which the checkers hold against their rules. Where the plugin's own code runs, an
//! [`Actor`] stands behind it: it is given the same events, at the same virtual times, and what it
//! asks for goes to the node as its own host would pass it on. What an actor does is a function of
//! what it is given, so a run stays a function of its plan and its seed.

use core::fmt;
use core::time::Duration;

use consort_proto::{Peer, PluginCommand, PluginEvent, PluginSpec, SendQuota, StateConfig, Time};
use serde::{Deserialize, Serialize};

/// One instant as a device sees it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The device's monotonic clock.
    pub local: Time,
    /// Group time, in microseconds since the Unix epoch; the device's wall clock until its node has
    /// said what group time is.
    pub group_time: u64,
    /// Whether the device follows the group's reference, or is it.
    pub synchronised: bool,
    /// Bound on the error against the reference, in microseconds.
    pub error_bound: u64,
}

/// How serious a line of a plugin's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The finest.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// As it is written in plans and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What comes out of a plugin's host.
#[derive(Clone, Debug)]
pub enum Said {
    /// An instance passed its setup.
    Up(PluginSpec),
    /// What the plugin may send; before the first [`Said::Up`].
    Quota(SendQuota),
    /// How the plugin's state is kept; before the first [`Said::Up`].
    State(StateConfig),
    /// The instance that was up is lost; another one may follow.
    Faulted,
    /// There is no instance and none on its way.
    Down,
    /// What one callback asks for, in order.
    Commands(Vec<PluginCommand>),
    /// A line of the log.
    Line {
        /// Group time when it was written.
        group_time: u64,
        /// How serious.
        level: LogLevel,
        /// Whether the host says it, not the plugin.
        by_host: bool,
        /// Without control characters.
        text: String,
    },
    /// An instance was lost, or none starts, for this reason. Lines say so too.
    Fault(String),
}

/// What an actor did in one go.
#[derive(Debug, Default)]
pub struct Turn {
    /// In order. The others learn of it when the actor is done.
    pub said: Vec<Said>,
    /// How long it took, in virtual time; nothing if there was nothing to do.
    pub took: Duration,
}

/// A plugin's host on one device, from a start of the device to its end.
pub trait Actor: fmt::Debug {
    /// Puts an event into the plugin's mailbox.
    fn deliver(&mut self, event: PluginEvent);
    /// Group time was set back.
    fn clock_set_back(&mut self);
    /// A program on the device asks the plugin something. What comes of it is a line of a later
    /// [`Actor::turn`].
    fn request(&mut self, now: &Moment, topic: &str, payload: &[u8]);
    /// Whether something waits.
    fn has_mail(&self) -> bool;
    /// When it wants a turn without anything waiting, by the device's clock.
    fn wake_at(&self, now: &Moment) -> Option<Time>;
    /// Handles one thing that waits or is due.
    fn turn(&mut self, now: &Moment) -> Turn;
    /// The scenario lets the instance fault.
    fn fault(&mut self, now: &Moment) -> Vec<Said>;
    /// Ends in order; `removed` if the plugin is taken away while the device goes on.
    fn stop(self: Box<Self>, now: &Moment, removed: bool) -> Vec<Said>;
    /// Messages that were dropped because the plugin was too slow or not running.
    fn dropped(&self) -> u64;
    /// Where the plugin is in its life, in its host's word.
    fn state(&self) -> &'static str;
}

/// What an actor begins with.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// The device's number.
    pub node: usize,
    /// The device as its plugins see it.
    pub device: Peer,
    /// The plugin and the device's rank in its elections.
    pub spec: PluginSpec,
    /// Decides all that is random in this life of the device.
    pub seed: [u8; 32],
}

/// Where actors come from.
pub trait Stage: fmt::Debug {
    /// The plugin that is played.
    fn spec(&self) -> PluginSpec;
    /// An actor for a device that has just started.
    fn begin(&self, entrance: Entrance) -> Box<dyn Actor>;
}

/// A line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, in virtual time.
    pub at: Time,
    /// Group time at the device; for what the scenario does that of a device that knows it, else
    /// true time.
    pub group_time: u64,
    /// Which device; none for what the scenario does.
    pub node: Option<usize>,
    /// The device's name.
    pub name: String,
    /// How serious.
    pub level: LogLevel,
    /// Whether the plugin's host says it, not the plugin.
    pub by_host: bool,
    /// Without control characters.
    pub text: String,
}

/// What one plugin did over a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginFigures {
    /// Faults of its instances, and refusals to start, over all devices.
    pub faults: u64,
    /// Devices that had given it up at the end.
    pub quarantined: usize,
    /// Devices on which it ran at the end.
    pub running: usize,
    /// Messages it sent.
    pub messages_sent: u64,
    /// Messages it was told.
    pub messages_received: u64,
    /// Messages that were dropped because it was too slow or not running.
    pub messages_dropped: u64,
    /// Its writes to replicated state.
    pub writes: u64,
    /// Lines of its log, from trace to error.
    pub lines: [u64; 5],
    /// CPU time of its callbacks, as fuel counts it, over all devices.
    pub busy: Duration,
}
