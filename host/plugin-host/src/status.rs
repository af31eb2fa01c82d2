//! What the host shows of a plugin, and what it tells the daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use consort_proto::{PluginCommand, PluginId, PluginSpec, SendQuota, StateConfig, Version};

use crate::allowance::Limits;
use crate::capabilities::Capabilities;
use crate::local::LocalMessage;
use crate::log_ring::LogRing;
use crate::manifest::Capped;
use crate::{ClockReading, Level};

/// Time, asked by plugin threads.
pub trait GroupClock: Send + Sync {
    /// Group time at this instant.
    fn reading(&self) -> ClockReading;

    /// This instant, by which back-off and sleeps are reckoned. Real unless a simulator says
    /// otherwise.
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// What the host tells the daemon. Events of one plugin come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// An instance passed `setup`: the first one, one after a fault, or one of another version or
    /// priority after a reload.
    Up(PluginSpec),
    /// What the plugin may send; before the first [`HostEvent::Up`] and when it changes.
    Quota {
        /// Which plugin.
        id: PluginId,
        /// Its quota, which its host enforces at the call.
        quota: SendQuota,
    },
    /// How the plugin's state is kept; before the first [`HostEvent::Up`] and when it changes.
    State {
        /// Which plugin.
        id: PluginId,
        /// What its manifest asks for. The host checks writes against it at the call.
        config: StateConfig,
    },
    /// Whether the plugin talks with programs on this device; before the first [`HostEvent::Up`]
    /// where it does, and when it changes.
    Local {
        /// Which plugin.
        id: PluginId,
        /// Whether it has the capability.
        held: bool,
    },
    /// What a callback tells the programs on this device.
    Published {
        /// Whose.
        id: PluginId,
        /// In the order they were published.
        messages: Vec<LocalMessage>,
    },
    /// The instance was lost; the next one is on its way.
    Faulted(PluginId),
    /// There is no instance and none on its way.
    Down(PluginId),
    /// A callback's commands.
    Commands {
        /// Whose.
        id: PluginId,
        /// In the order they were issued.
        commands: Vec<PluginCommand>,
    },
}

impl HostEvent {
    /// Which plugin it is about.
    #[must_use]
    pub const fn plugin(&self) -> &PluginId {
        match self {
            Self::Up(spec) => &spec.id,
            Self::Quota { id, .. }
            | Self::State { id, .. }
            | Self::Local { id, .. }
            | Self::Published { id, .. }
            | Self::Faulted(id)
            | Self::Down(id)
            | Self::Commands { id, .. } => id,
        }
    }
}

/// One plugin as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginHostStatus {
    /// Which plugin.
    pub id: PluginId,
    /// `disabled`, `discovered`, `compiling`, `setup`, `running`, `reloading`, `back-off`,
    /// `quarantined`, `rejected` or `stopped`.
    pub state: &'static str,
    /// The version of the generation that counts, once there is one.
    pub version: Option<Version>,
    /// How many contents of its file were taken so far.
    pub generation: u64,
    /// The beginning of the SHA-256 of that content.
    pub hash: Option<String>,
    /// Why it last faulted, or why its file was last refused.
    pub last_fault: Option<String>,
    /// Where in the plugin that fault was, the innermost function first; empty where that is not known.
    pub last_backtrace: Vec<String>,
    /// Messages that were dropped because the plugin was too slow or not running.
    pub dropped_messages: u64,
    /// Messages to the group that were refused at the call: too large, or beyond the quota.
    pub refused_messages: u64,
    /// Writes of replicated state that were refused at the call: too large, or beyond a quota.
    pub refused_writes: u64,
    /// Messages for local programs that were refused: without the capability, beyond the quota, or
    /// too large.
    pub refused_publishes: u64,
    /// What it asks to reach outside its sandbox and does not get, each with the reason.
    pub refused_capabilities: Vec<String>,
}

/// What holds for a plugin's generation that counts.
#[derive(Clone, Debug)]
pub struct PluginDetails {
    /// Its file.
    pub file: PathBuf,
    /// Its version and rank in elections.
    pub spec: PluginSpec,
    /// Values for `config`.
    pub config: Arc<BTreeMap<String, String>>,
    /// What it may use.
    pub limits: Limits,
    /// The limits that the operator's cap made smaller.
    pub capped: Vec<Capped>,
    /// What it may reach outside its sandbox.
    pub capabilities: Capabilities,
    /// What its replicated state may take.
    pub state: StateConfig,
    /// The interfaces of the contract that it offers.
    pub exports: Vec<String>,
    /// The interfaces that it names, WASI's too.
    pub imports: Vec<String>,
}

/// A plugin's status, written by its thread and read by anyone.
#[derive(Clone)]
pub(crate) struct Board(Arc<Shared>);

struct Shared {
    status: Mutex<PluginHostStatus>,
    details: Mutex<Option<Arc<PluginDetails>>>,
    log: LogRing,
}

impl Board {
    /// A plugin's board; its log's numbers go on after `lines_written`.
    pub(crate) fn new(id: PluginId, state: &'static str, lines_written: u64) -> Self {
        let status = PluginHostStatus {
            id,
            state,
            version: None,
            generation: 0,
            hash: None,
            last_fault: None,
            last_backtrace: Vec::new(),
            dropped_messages: 0,
            refused_messages: 0,
            refused_writes: 0,
            refused_publishes: 0,
            refused_capabilities: Vec::new(),
        };
        Self(Arc::new(Shared {
            status: Mutex::new(status),
            details: Mutex::new(None),
            log: LogRing::after_others(lines_written),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PluginHostStatus> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn details(&self) -> MutexGuard<'_, Option<Arc<PluginDetails>>> {
        self.0
            .details
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> &LogRing {
        &self.0.log
    }

    /// Says something of the plugin where its own lines are.
    pub(crate) fn say(&self, text: &str) {
        self.0.log.push(Level::Warn, true, text);
    }
}
