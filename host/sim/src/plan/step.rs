//! What a plan does and when: one action each step.

use core::fmt;
use core::time::Duration;

use consort_proto::RotateStep;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{LoseState, span};

/// Something to do at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// When, from the start of the run.
    #[serde(with = "span::text")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// One of the devices, some, or those of a role. In a plan: `3`, `[1, 2]`, `"leader"`,
/// `"followers"`, `"all"`. Roles are those of the plan's first plugin when the step comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WhoText", into = "WhoText")]
pub enum Who {
    /// These devices.
    Nodes(Vec<usize>),
    /// Whoever leads; several while a group is divided.
    Leader,
    /// Whoever is up and does not lead.
    Followers,
    /// Every device.
    All,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a device's number, a list of them, \"leader\", \"followers\" or \"all\""
)]
enum WhoText {
    One(usize),
    Several(Vec<usize>),
    Role(String),
}

impl TryFrom<WhoText> for Who {
    type Error = String;

    fn try_from(text: WhoText) -> Result<Self, String> {
        match text {
            WhoText::One(node) => Ok(Self::Nodes(vec![node])),
            WhoText::Several(nodes) => Ok(Self::Nodes(nodes)),
            WhoText::Role(role) => match role.as_str() {
                "leader" => Ok(Self::Leader),
                "followers" => Ok(Self::Followers),
                "all" => Ok(Self::All),
                other => Err(format!(
                    "{other:?} names no device: give a number, a list of numbers, \"leader\", \
                     \"followers\" or \"all\""
                )),
            },
        }
    }
}

impl From<Who> for WhoText {
    fn from(who: Who) -> Self {
        match who {
            Who::Nodes(nodes) => match nodes[..] {
                [node] => Self::One(node),
                _ => Self::Several(nodes),
            },
            Who::Leader => Self::Role("leader".into()),
            Who::Followers => Self::Role("followers".into()),
            Who::All => Self::Role("all".into()),
        }
    }
}

/// What a step does. The key in a plan is the name in small letters, such as `crash_at_write`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Starts devices that are down.
    Start(Who),
    /// Kills devices: nothing is said, what was not on the disk is lost.
    Crash(Who),
    /// Kills devices and starts them again.
    Restart(Restart),
    /// Stops devices in order.
    Stop(Who),
    /// Stops processes as SIGSTOP does; sockets go on filling.
    Pause(Who),
    /// Suspends whole devices; what arrives meanwhile is lost.
    Suspend(Who),
    /// Ends pauses and suspensions.
    Resume(Who),
    /// Separates devices into sides. Those not named share one side.
    Partition(Vec<Vec<usize>>),
    /// Cuts links.
    Cut(Pair),
    /// Mends links that were cut.
    Mend(Pair),
    /// Ends the partition, all cuts and all flapping.
    Heal(True),
    /// Changes how links behave.
    Link(LinkChange),
    /// Lets links or whole devices come and go.
    Flap(Flap),
    /// Lets every write fail.
    DiskFull(Who),
    /// Lets writes succeed again.
    DiskFree(Who),
    /// Kills a device in the middle of a write.
    CrashAtWrite(CrashAtWrite),
    /// Kills devices, takes or damages what their disks kept of replicated state, and starts them
    /// again.
    LoseState(LoseState),
    /// Sets a wall clock.
    ClockJump(ClockJump),
    /// Changes the rate of a device's clock.
    ClockDrift(ClockDrift),
    /// Starts a second device with the key and the disk of another, as they are.
    Clone(CloneOf),
    /// Starts devices that hold another group's secret.
    Stranger(Stranger),
    /// Sends datagrams from addresses that belong to no device.
    Flood(Flood),
    /// Sends again what devices were sent before.
    Replay(Replay),
    /// A plugin's instance faults.
    PluginFault(PluginFault),
    /// A plugin is unloaded.
    PluginDown(PluginDown),
    /// A plugin comes up, again or with another version or priority.
    PluginUp(PluginUp),
    /// A plugin sends one message.
    Send(SendOne),
    /// A program on a device asks the plugin something.
    Local(LocalRequest),
    /// The network of devices changes: they come back under addresses of their own.
    Readdress(Who),
    /// An operator takes a step of a rotation of the group's secret.
    Rotate(Rotate),
}

/// The word `true`, for actions that need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value {
            Ok(Self)
        } else {
            Err("only true makes sense here")
        }
    }
}

impl From<True> for bool {
    fn from(_: True) -> Self {
        true
    }
}

/// See [`Action::Restart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Which devices.
    pub node: Who,
    /// How long they are down.
    #[serde(with = "span::text")]
    pub down: Duration,
}

/// Links from some devices to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Where they begin.
    pub from: Who,
    /// Where they end.
    pub to: Who,
    /// Whether the way back is meant too. Default: yes.
    #[serde(default = "yes")]
    pub both: bool,
}

const fn yes() -> bool {
    true
}

/// See [`Action::Link`]. What is not given stays as in the plan's `[link]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkChange {
    /// Where the links begin. With neither end given, all links change.
    pub from: Option<Who>,
    /// Where they end.
    pub to: Option<Who>,
    /// Whether only the given direction is meant. Default: both.
    #[serde(skip_serializing_if = "is_false")]
    pub one_way: bool,
    /// See [`crate::Link::delay`].
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// See [`crate::Link::jitter`].
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// See [`crate::Link::loss`].
    pub loss: Option<f64>,
    /// See [`crate::Link::duplicate`].
    pub duplicate: Option<f64>,
    /// See [`crate::Link::reorder`].
    pub reorder: Option<f64>,
    /// See [`crate::Link::corrupt`].
    pub corrupt: Option<f64>,
    /// See [`crate::Link::bandwidth`].
    pub bandwidth: Option<u64>,
    /// See [`crate::Link::burst`].
    pub burst: Option<crate::Burst>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// See [`Action::Flap`]. With `to` given, the links between `node` and `to` flap, else all links of
/// `node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// Whose links.
    pub node: Who,
    /// The other ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Who>,
    /// How long they are down each time.
    #[serde(with = "span::text")]
    pub down: Duration,
    /// How long they are up in between.
    #[serde(with = "span::text")]
    pub up: Duration,
    /// For how long this goes on.
    #[serde(rename = "for", with = "span::text")]
    pub lasting: Duration,
}

/// See [`Action::Rotate`]. A device that refuses the step leaves everything as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// On which devices; on each by itself.
    pub node: Who,
    /// Which step.
    pub step: RotateWord,
    /// Whether members that are not ready are passed over. Default: no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

/// The steps of an orderly rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotateWord {
    /// See [`RotateStep::Install`].
    Install,
    /// See [`RotateStep::Use`].
    Use,
    /// See [`RotateStep::Remove`].
    Remove,
}

impl From<RotateWord> for RotateStep {
    fn from(word: RotateWord) -> Self {
        match word {
            RotateWord::Install => Self::Install,
            RotateWord::Use => Self::Use,
            RotateWord::Remove => Self::Remove,
        }
    }
}

/// See [`Action::CrashAtWrite`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashAtWrite {
    /// Which devices.
    pub node: Who,
    /// The write that kills them, counted from the step, from 1. Default: 1.
    #[serde(default = "one")]
    pub write: u32,
    /// Whether writes on their way reach the disk out of order: each survives by chance.
    #[serde(default)]
    pub torn: bool,
    /// How long the devices stay down. Without this they do not come back.
    #[serde(default, with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub down: Option<Duration>,
}

const fn one() -> u32 {
    1
}

/// See [`Action::ClockJump`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockJump {
    /// Which devices.
    pub node: Who,
    /// By how much, in microseconds; as text with a sign, such as `-2h`.
    #[serde(with = "span::signed")]
    pub by: i64,
}

/// See [`Action::ClockDrift`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockDrift {
    /// Which devices.
    pub node: Who,
    /// How much faster than true time it goes, in parts per million; at most 50,000 either way.
    pub ppm: i32,
}

/// See [`Action::Clone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneOf {
    /// The device that is copied. The copy gets the next number after all devices so far.
    pub node: usize,
}

/// See [`Action::Stranger`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stranger {
    /// How many. They get the next numbers after all devices so far.
    #[serde(default = "one")]
    pub count: u32,
}

/// See [`Action::Flood`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// What is sent.
    pub kind: FloodKind,
    /// To whom.
    pub to: Who,
    /// How many datagrams a second each of them gets, at most 100,000.
    pub rate: u32,
    /// For how long.
    #[serde(rename = "for", with = "span::text")]
    pub lasting: Duration,
}

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FloodKind {
    /// Packets that look like the first of a handshake, by someone without the secret.
    Handshake,
    /// Random bytes, half of them behind the first byte of a real packet.
    Garbage,
    /// The first packets of handshakes that devices of the run began with the one that gets them
    /// again, up to the last 20,000 datagrams of the group.
    Copies,
    /// First packets of handshakes by someone who holds the group's secret, each a fresh one, all
    /// under one key, from eight addresses. The answers reach nobody.
    Insider,
}

/// See [`Action::Replay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Whose datagrams, and who gets them again.
    pub to: Who,
    /// Those of this long before the step; at most the last 20,000 of the group.
    #[serde(with = "span::text")]
    pub last: Duration,
    /// Whether they come from a stranger's address instead of the sender's.
    #[serde(default)]
    pub forged: bool,
}

/// See [`Action::PluginFault`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginFault {
    /// Which devices.
    pub node: Who,
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// After how long the instance is back. Without this it stays away.
    #[serde(default, with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub back: Option<Duration>,
}

/// See [`Action::PluginDown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginDown {
    /// Which devices.
    pub node: Who,
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// See [`Action::PluginUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginUp {
    /// Which devices.
    pub node: Who,
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Its version; as before unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its priority; as before unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
}

/// See [`Action::Send`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendOne {
    /// Who sends.
    pub from: Who,
    /// Who gets it: `"leader"` and `"all"` in the protocol's sense, or one device. Without this
    /// it is a broadcast, which only a leader may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Who>,
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// How many bytes. Default: 64.
    #[serde(default = "sixty_four")]
    pub len: usize,
}

/// See [`Action::Local`]. At most one of `text` and `hex` is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRequest {
    /// On which devices; on each by itself.
    pub node: Who,
    /// What it is about.
    pub topic: String,
    /// What it carries. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The same in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

pub(super) const fn sixty_four() -> usize {
    64
}

impl Action {
    /// Whom it names, but for the sides of a partition and the original of a copy.
    pub(crate) fn whos(&mut self) -> Vec<&mut Who> {
        match self {
            Self::Start(who)
            | Self::Crash(who)
            | Self::Stop(who)
            | Self::Pause(who)
            | Self::Suspend(who)
            | Self::Resume(who)
            | Self::DiskFull(who)
            | Self::DiskFree(who)
            | Self::Readdress(who) => vec![who],
            Self::Local(request) => vec![&mut request.node],
            Self::Restart(restart) => vec![&mut restart.node],
            Self::Cut(pair) | Self::Mend(pair) => vec![&mut pair.from, &mut pair.to],
            Self::Link(change) => [&mut change.from, &mut change.to]
                .into_iter()
                .flatten()
                .collect(),
            Self::Flap(flap) => core::iter::once(&mut flap.node)
                .chain(&mut flap.to)
                .collect(),
            Self::CrashAtWrite(crash) => vec![&mut crash.node],
            Self::LoseState(lose) => vec![&mut lose.node],
            Self::Rotate(rotate) => vec![&mut rotate.node],
            Self::ClockJump(jump) => vec![&mut jump.node],
            Self::ClockDrift(drift) => vec![&mut drift.node],
            Self::Flood(flood) => vec![&mut flood.to],
            Self::Replay(replay) => vec![&mut replay.to],
            Self::PluginFault(fault) => vec![&mut fault.node],
            Self::PluginDown(down) => vec![&mut down.node],
            Self::PluginUp(up) => vec![&mut up.node],
            Self::Send(send) => core::iter::once(&mut send.from)
                .chain(&mut send.to)
                .collect(),
            Self::Partition(_) | Self::Heal(_) | Self::Clone(_) | Self::Stranger(_) => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step: `at` and one action")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
        let (mut at, mut action) = (None, None);
        let mut name = String::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "at" {
                let text: String = map.next_value()?;
                at = Some(span::parse(&text).map_err(A::Error::custom)?);
            } else if action.is_some() {
                return Err(A::Error::custom(format!(
                    "a step has one action, this one has `{name}` and `{key}`"
                )));
            } else {
                name.clone_from(&key);
                let entry = Entry {
                    key: Some(key),
                    map: &mut map,
                };
                action = Some(Action::deserialize(MapAccessDeserializer::new(entry))?);
            }
        }
        Ok(Step {
            at: at.ok_or_else(|| A::Error::missing_field("at"))?,
            action: action.ok_or_else(|| A::Error::custom("a step without an action"))?,
        })
    }
}

/// One entry of a map whose key was read: the name of an action and what belongs to it.
struct Entry<'a, A> {
    key: Option<String>,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entry<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.key.take() else {
            return Ok(None);
        };
        seed.deserialize(serde::de::value::StringDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
