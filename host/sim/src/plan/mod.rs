//! A scenario as text: who is there, how the network behaves, what goes wrong when, what is
//! expected. The form is TOML; `docs/simulator.md` lists every key.
//!
//! [`Plan::from_toml`] reads and checks, [`run_plan`] runs. A plan and a [`Seed`] decide a run to
//! the byte. What a plan leaves open (loss, jitter, starts within the first half second) follows
//! from the seed.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::LogLevel;
use crate::network::Link;
use crate::seed::Seed;

mod check;
mod error;
mod hosted;
mod rate;
mod run;
pub(crate) mod span;
mod state;
mod step;

pub use error::PlanError;
pub use hosted::{LogExpect, StateExpect, StateKind};
pub use rate::RatePlan;
pub use run::{Outcome, RunOptions, Violation, run_hosted, run_plan};
pub use state::{LoseState, StatePlan, WritesPlan};
pub use step::{
    Action, ClockDrift, ClockJump, CloneOf, CrashAtWrite, Flap, Flood, FloodKind, LinkChange,
    LocalRequest, Pair, PluginDown, PluginFault, PluginUp, Replay, Restart, Rotate, RotateWord,
    SendOne, Step, Stranger, True, Who,
};

/// The version of the form.
pub const PLAN_VERSION: u32 = 1;
/// The plugin of a plan that names none.
pub const DEFAULT_PLUGIN: &str = "app";

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of the form: 1.
    pub v: u32,
    /// What it is about; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How many devices there are: 1 to 2000. Their numbers go from 0.
    pub nodes: usize,
    /// The seed to use where the caller gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// How long it runs, in virtual time: at most 30 days.
    #[serde(rename = "for", with = "span::text")]
    pub duration: Duration,
    /// What is checked, and whether faults end.
    #[serde(default)]
    pub mode: Mode,
    /// In the mode `liveness`: when all faults end. After the last step unless given.
    #[serde(default, with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub calm: Option<Duration>,
    /// The time over which the devices start that have no time of their own. Default: 500 ms.
    #[serde(default = "default_spread", with = "span::text")]
    pub spread: Duration,
    /// Which primitives are used. Default: the real ones for up to 25 devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crypto: Option<CryptoChoice>,
    /// How links behave unless a step says otherwise. Default: a quiet wired network.
    #[serde(default)]
    pub link: Link,
    /// What plugins' messages may take of each device's network. Default: that of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_rate: Option<RatePlan>,
    /// Devices that differ from the others.
    #[serde(default, rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DevicePlan>,
    /// The plugins that every device runs unless its entry says otherwise. Default: one, `app`.
    #[serde(default, rename = "plugin", skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginPlan>,
    /// Steady traffic.
    #[serde(default, rename = "beat", skip_serializing_if = "Vec::is_empty")]
    pub beats: Vec<BeatPlan>,
    /// Steady writes to replicated state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<WritesPlan>,
    /// What happens, in any order.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What is expected besides what always must hold.
    #[serde(default, rename = "expect", skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Expect>,
}

const fn default_spread() -> Duration {
    Duration::from_millis(500)
}

/// What a run has to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Anything may go wrong at any time; nothing forbidden may happen.
    #[default]
    Safety,
    /// Faults end, then what must happen does, in time: all see all, each plugin has one leader,
    /// messages reach everyone.
    Liveness,
}

/// The primitives of handshakes and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CryptoChoice {
    /// Those of the daemon.
    Real,
    /// Fast ones that protect nothing.
    Toy,
}

/// What one device has of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePlan {
    /// Which device.
    pub index: usize,
    /// Its name; `n` and its number unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its wall clock minus true time, in microseconds; as text with a sign, such as `-2h`. Up to
    /// two seconds either way unless given.
    #[serde(
        default,
        with = "maybe_signed",
        skip_serializing_if = "Option::is_none"
    )]
    pub wall_offset: Option<i64>,
    /// How much faster than true time its clocks go, in parts per million; at most 50,000 either
    /// way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drift_ppm: i32,
    /// Its priority in the elections of all its plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// The plugins it runs instead of the plan's.
    #[serde(default, rename = "plugin", skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Vec<PluginPlan>>,
    /// Its network segment: multicast stays within. Default: 0.
    #[serde(default, skip_serializing_if = "is_none_of")]
    pub segment: u32,
    /// Devices whose addresses it is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<usize>,
    /// Devices it is given by name: it finds them at new addresses too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<usize>,
    /// When it starts. Within `spread` unless given.
    #[serde(default, with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub starts: Option<Duration>,
    /// Whether it starts only by a step.
    #[serde(default, skip_serializing_if = "is_false")]
    pub off: bool,
    /// The protocol version in the first byte of its datagrams, 1 to 15. Another than 1 stands for
    /// a device that is not understood. Default: 1.
    #[serde(default = "protocol_one", skip_serializing_if = "is_one")]
    pub protocol: u8,
    /// Whether it speaks as a later minor version may: unknown messages, and unknown fields in
    /// those that are known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub later: bool,
}

impl DevicePlan {
    /// A device like all others.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self {
            index,
            name: None,
            wall_offset: None,
            drift_ppm: 0,
            priority: None,
            plugins: None,
            segment: 0,
            seeds: Vec::new(),
            names: Vec::new(),
            starts: None,
            off: false,
            protocol: 1,
            later: false,
        }
    }
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginPlan {
    /// Its id.
    pub id: String,
    /// Its version. Default: 0.1.0.
    #[serde(default = "default_version")]
    pub version: String,
    /// The priority of devices in its elections. Default: 0.
    #[serde(default)]
    pub priority: i16,
    /// Whether a device takes over from a leader of lower priority. Default: false.
    #[serde(default)]
    pub preempt: bool,
    /// How its state is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StatePlan>,
}

impl PluginPlan {
    /// A plugin of version 0.1.0 and ordinary priority.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            version: default_version(),
            priority: 0,
            preempt: false,
            state: None,
        }
    }
}

/// Steady traffic: whoever leads broadcasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeatPlan {
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The time from one broadcast to the next: at least 1 ms.
    #[serde(with = "span::text")]
    pub every: Duration,
    /// How many bytes. Default: 64.
    #[serde(default = "step::sixty_four")]
    pub len: usize,
}

/// Something that must hold; exactly one of the conditions is given. The last four are for a plugin
/// whose own code runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// From when on it is looked for; [`Expect::END`], as `end`, for the end of the run.
    #[serde(with = "span::text_or_end")]
    pub at: Duration,
    /// How long it may take. Without this it must hold at once.
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
    /// For how long nothing changes, with `no_change`; or nothing happens, with `no_log` and
    /// `no_faults`, for which it is until the end unless given.
    #[serde(
        rename = "for",
        with = "span::maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub lasting: Option<Duration>,
    /// Which plugin; the first of the plan unless given.
    pub plugin: Option<String>,
    /// These agree on one leader among them.
    pub one_leader: Option<Who>,
    /// These see one another and nobody else.
    pub see_all: Option<Who>,
    /// Each of these leads.
    pub leads: Option<Who>,
    /// None of these is promoted or demoted as leader.
    pub no_change: Option<Who>,
    /// A key of replicated state is the same everywhere.
    pub state: Option<StateExpect>,
    /// A line appears in the plugin's log.
    pub log: Option<LogExpect>,
    /// No line of this level or a graver one appears in the plugin's log.
    pub no_log: Option<LogLevel>,
    /// No instance of the plugin faults.
    pub no_faults: Option<True>,
}

impl Expect {
    /// The end of the run, as the time of an expectation.
    pub const END: Duration = Duration::MAX;

    /// When it is looked for first, in a run that lasts for `duration`.
    #[must_use]
    pub fn begins(&self, duration: Duration) -> Duration {
        if self.at == Self::END {
            duration
        } else {
            self.at
        }
    }
}

impl Plan {
    /// A plan for `nodes` devices that lasts for `duration`, with nothing going wrong.
    #[must_use]
    pub fn new(nodes: usize, duration: Duration) -> Self {
        Self {
            v: PLAN_VERSION,
            name: String::new(),
            nodes,
            seed: None,
            duration,
            mode: Mode::Safety,
            calm: None,
            spread: default_spread(),
            crypto: None,
            link: Link::lan(),
            send_rate: None,
            devices: Vec::new(),
            plugins: Vec::new(),
            beats: Vec::new(),
            writes: Vec::new(),
            steps: Vec::new(),
            expectations: Vec::new(),
        }
    }

    /// Reads and checks a plan.
    ///
    /// # Errors
    /// The text is no TOML, has unknown keys, or a value is out of its bounds; the error names the
    /// place, the value and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text).map_err(|error| PlanError::form(&error))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as text that [`Plan::from_toml`] reads back.
    ///
    /// # Panics
    /// Never: every plan has a form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan is made of tables, lists, texts and numbers")
    }

    /// Checks every value against its bounds, as [`Plan::from_toml`] does.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn check(&self) -> Result<(), PlanError> {
        check::plan(self)
    }

    /// The plugins of a device without an entry of its own.
    #[must_use]
    pub fn plugins_or_default(&self) -> Vec<PluginPlan> {
        if self.plugins.is_empty() {
            vec![PluginPlan::new(DEFAULT_PLUGIN)]
        } else {
            self.plugins.clone()
        }
    }

    /// When all faults end, in the mode `liveness`.
    #[must_use]
    pub fn calm_at(&self) -> Option<Duration> {
        match self.mode {
            Mode::Safety => None,
            Mode::Liveness => {
                let last = self.steps.iter().map(|step| step.at).max();
                Some(self.calm.unwrap_or_else(|| last.unwrap_or_default()))
            }
        }
    }
}

fn default_version() -> String {
    "0.1.0".to_owned()
}

const fn protocol_one() -> u8 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_one(value: &u8) -> bool {
    *value == 1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(value: &i32) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_none_of(value: &u32) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Microseconds with a sign that may be missing, for serde.
mod maybe_signed {
    use serde::{Deserializer, Serializer};

    use super::span::signed;

    pub(super) fn serialize<S: Serializer>(
        micros: &Option<i64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match micros {
            Some(micros) => signed::serialize(micros, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<i64>, D::Error> {
        signed::deserialize(deserializer).map(Some)
    }
}
