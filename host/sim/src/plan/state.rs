//! Replicated state in a plan: how it is kept, what is written, what a disk does to it.

use core::time::Duration;

use consort_proto::StateConfig;
use serde::{Deserialize, Serialize};

use super::{Who, span};
use crate::sim::{Kind, Workload};

/// How a plugin's state is kept. What is not given is as in the protocol's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatePlan {
    /// How often changes are sent and replicas compared: 50 ms to 1 h. Default: 1 s.
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Bytes of all keys and values. Default: 1 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Whether devices keep it over restarts. Default: no.
    pub persist: bool,
    /// For how long deletions and absent devices are remembered: 1 s to 30 d. Default: 24 h.
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub keep_absent: Option<Duration>,
}

impl StatePlan {
    pub(super) fn config(&self) -> StateConfig {
        let usual = StateConfig::default();
        StateConfig {
            interval: self.interval.unwrap_or(usual.interval),
            quota: self.quota.unwrap_or(usual.quota),
            persist: self.persist,
            keep_absent: self.keep_absent.unwrap_or(usual.keep_absent),
            writes: usual.writes,
        }
    }
}

/// Steady writes to replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritesPlan {
    /// Which plugin; the first of the plan unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The time from one callback that writes to the next, over all devices: at least 1 ms.
    #[serde(with = "span::text")]
    pub every: Duration,
    /// What is written. Default: all kinds.
    #[serde(default = "all_kinds")]
    pub kinds: Vec<Kind>,
    /// How many keys of each kind there are: 1 to 10,000. Default: 8.
    #[serde(default = "eight")]
    pub keys: u32,
    /// Bytes of a value, at most: 16 to 65,536. Default: 200.
    #[serde(default = "two_hundred")]
    pub len: usize,
    /// In how many of a thousand puts the first key gets up to 64 KiB. Default: 5.
    #[serde(default = "five")]
    pub large: u32,
    /// How many of a hundred puts expire, after 1 to 30 s. Default: 10.
    #[serde(default = "ten")]
    pub expiring: u32,
    /// How many of a hundred writes delete. Default: 15.
    #[serde(default = "fifteen")]
    pub deleting: u32,
    /// How many of a hundred callbacks take 1 to 3 s. Default: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow: u32,
}

impl WritesPlan {
    /// Writes of all kinds, one in every such time.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            plugin: None,
            every,
            kinds: all_kinds(),
            keys: eight(),
            len: two_hundred(),
            large: five(),
            expiring: ten(),
            deleting: fifteen(),
            slow: 0,
        }
    }

    pub(super) fn workload(&self) -> Workload {
        Workload {
            every: self.every,
            kinds: self.kinds.clone(),
            keys: self.keys,
            len: self.len,
            large: self.large,
            expiring: self.expiring,
            deleting: self.deleting,
            slow: self.slow,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn all_kinds() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

const fn eight() -> u32 {
    8
}

const fn two_hundred() -> usize {
    200
}

const fn five() -> u32 {
    5
}

const fn ten() -> u32 {
    10
}

const fn fifteen() -> u32 {
    15
}

/// See [`super::Action::LoseState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoseState {
    /// Which devices.
    pub node: Who,
    /// Whether records are damaged instead of gone. Default: no.
    #[serde(default)]
    pub damaged: bool,
    /// Whether the disks forget how often they were started, too. Default: no.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub boots: bool,
    /// How long the devices are down.
    #[serde(with = "span::text")]
    pub down: Duration,
}
