//! One running plugin: a pure, synchronous actor.
//!
//! An instance is made from compiled code, settings and a seed. It is given events together with
//! readings of group time, and gives back commands. It has no thread, reads no clock and does no
//! input or output, so its run is a function of (code, settings, events with their times): what
//! drives it may be a thread in real time or a simulator in virtual time. The one thing that
//! depends on the machine is when a callback that overruns its CPU budget is stopped, unless its
//! runtime counts instructions instead.
//!
//! After a fault the instance is dead and must be dropped.

mod deliver;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consort_proto::{Peer, PluginCommand, PluginId, StateView, Version};
use thiserror::Error;
use wasmtime::{Store, Trap};

use crate::ClockReading;
use crate::allowance::Limits;
use crate::bindings::exports::consort::plugin::{lifecycle, local_events};
use crate::capabilities::FolderGrant;
use crate::clock::GuestClock;
use crate::code::{Code, Exports};
use crate::compile::innermost;
use crate::cores::Cores;
use crate::fault::{Fault, HostFault};
use crate::guest::Guest;
use crate::limits;
use crate::local::{self, LOCAL_PAYLOAD_MAX, LocalAnswer, LocalMessage, LocalRequestError};
use crate::metering::Metering;
use crate::plugin_log::{LogSink, SharedLog, printable};
use crate::priority::Callback;
use crate::refusals::Refusals;
use crate::view::View;
use crate::wasi::{self, RandomSource};

/// The most timers that one [`Instance::fire_timers`] fires.
const TIMERS_PER_BATCH: usize = 32;

/// What an instance is made with.
pub struct InstanceSettings {
    /// Which plugin.
    pub plugin: PluginId,
    /// This device.
    pub this_device: Peer,
    /// What `config` answers.
    pub config: Arc<BTreeMap<String, String>>,
    /// What it may use.
    pub limits: Limits,
    /// The folders it has, as `/<name>`. With any, a run also depends on what is in them.
    pub files: BTreeMap<String, FolderGrant>,
    /// Whether it may talk with the programs on this device.
    pub local: bool,
    /// With the device, the plugin and `run` it decides all that is random.
    pub seed: [u8; 32],
    /// Counts the instances of this plugin since the seed was made.
    pub run: u64,
    /// Where its log goes.
    pub log: Box<dyn LogSink>,
}

impl std::fmt::Debug for InstanceSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceSettings")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

/// What a callback left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the plugin asks of its group, in order.
    pub commands: Vec<PluginCommand>,
    /// What it tells the programs on this device, in order.
    pub published: Vec<LocalMessage>,
    /// What it was refused because its limits are reached.
    pub refusals: Refusals,
}

impl Outcome {
    /// Adds what a later callback left behind.
    pub fn extend(&mut self, later: Self) {
        self.commands.extend(later.commands);
        self.published.extend(later.published);
        self.refusals.extend(later.refusals);
    }
}

/// Why an instance does not start or take over.
#[derive(Clone, Debug, Error)]
pub enum StartError {
    /// The plugin's types do not fit the contract, or it is larger than its limits allow.
    #[error("it does not fit: {0}")]
    Contract(String),
    /// `setup` or `restore` returned an error.
    #[error("{callback} failed: {text}")]
    Refused {
        /// Which of them.
        callback: &'static str,
        /// The plugin's own words, without control characters and of a line's length.
        text: String,
    },
    /// It trapped or overran a limit.
    #[error("{0}")]
    Fault(Fault),
}

impl StartError {
    /// Where in the plugin it was.
    pub(crate) fn backtrace(&self) -> &[String] {
        match self {
            Self::Fault(fault) => &fault.backtrace,
            Self::Contract(_) | Self::Refused { .. } => &[],
        }
    }

    /// Where the core of a trap is, or why it was not kept.
    pub(crate) fn core(&self) -> Option<&str> {
        match self {
            Self::Fault(fault) => fault.core.as_deref(),
            Self::Contract(_) | Self::Refused { .. } => None,
        }
    }
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Why an instance is told to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The host stops.
    Stop,
    /// Another generation took over.
    Reload,
    /// Its file was removed.
    Remove,
}

/// One running plugin.
pub struct Instance {
    store: Store<Guest>,
    exports: Exports,
    limits: Limits,
    watched: Watched,
}

/// What decides and explains the end of a callback.
struct Watched {
    plugin: PluginId,
    metering: Metering,
    cores: Option<Cores>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("view", &self.store.data().view)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Instantiates a plugin. [`Instance::setup`] must follow.
    ///
    /// # Errors
    /// The plugin does not fit the contract, or its start function faults.
    pub fn new(
        code: &Code,
        settings: InstanceSettings,
        reading: ClockReading,
    ) -> Result<Self, StartError> {
        let limits = settings.limits.clone();
        let watched = Watched {
            plugin: settings.plugin.clone(),
            metering: code.metering().clone(),
            cores: code.cores().cloned(),
        };
        let mut store = Store::new(code.engine(), guest(settings));
        limits::install(&mut store);
        let budget = limits.setup_cpu;
        store.data_mut().start_call(reading);
        watched.metering.arm(&mut store, budget, Callback::Lengthy);
        let instantiated = code.instantiate(&mut store);
        let over = watched.metering.settle(&store, budget);
        let exports = match (instantiated, over) {
            (Ok(exports), None) => exports,
            (Ok(_), Some(over)) => return Err(Fault::by_host("start", over).into()),
            (Err(error), _) => {
                store.data_mut().end_call();
                return Err(watched.instantiation_error(&error, &mut store, budget));
            }
        };
        Ok(Self {
            store,
            exports,
            limits,
            watched,
        })
    }

    /// Tells what the plugin knows of its group's state: what the node told, with the plugin's own
    /// writes over it. Before [`Instance::setup`], so that it can read there. Causes no callback.
    pub fn set_state(&mut self, state: StateView) {
        *self.store.data_mut().view.state_mut() = state;
    }

    /// The first callback.
    ///
    /// # Errors
    /// The plugin refuses to run here, or faults.
    pub fn setup(&mut self, reading: ClockReading) -> Result<Outcome, StartError> {
        let lengthy = Callback::Lengthy;
        let (result, outcome) = self.call("setup", lengthy, reading, |exports, store| {
            exports.lifecycle.call_setup(store)
        })?;
        result.map_err(|text| StartError::Refused {
            callback: "setup",
            text: printable(&text),
        })?;
        Ok(outcome)
    }

    /// When the next timer is due, in group time.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        self.store.data().timers.next_due()
    }

    /// Fires the timers that are due, earliest first, up to a batch; [`Instance::next_timer`]
    /// says whether there are more. What the callbacks left behind counts also if a later one
    /// faulted and the instance is dead.
    pub fn fire_timers(&mut self, reading: ClockReading) -> (Outcome, Result<(), Fault>) {
        let now = reading.group_time_us;
        let mut all = Outcome::default();
        for token in self.store.data().timers.due(now, TIMERS_PER_BATCH) {
            // An earlier callback of the batch may have cancelled it or set it anew.
            let Some(due) = self.store.data_mut().timers.take(token, now) else {
                continue;
            };
            let result = self.callback("on-timer", reading, |exports, store| {
                match &exports.timers {
                    Some(timers) => timers.call_on_timer(store, token, due),
                    None => Ok(()),
                }
            });
            match result {
                Ok(outcome) => all.extend(outcome),
                Err(fault) => return (all, Err(fault)),
            }
        }
        (all, Ok(()))
    }

    /// Asks the plugin in the name of a program on this device. Without the capability, or the
    /// export `local-events`, the plugin is not called.
    ///
    /// # Errors
    /// The callback faulted; the instance is dead.
    pub fn local_request(
        &mut self,
        topic: &str,
        payload: &[u8],
        reading: ClockReading,
    ) -> Result<(LocalAnswer, Outcome), Fault> {
        if !self.store.data().local.held {
            return Ok((Err(LocalRequestError::NotGranted), Outcome::default()));
        }
        if let Err(wrong) = local::check(topic, payload) {
            return Ok((Err(wrong), Outcome::default()));
        }
        let ordinary = Callback::Ordinary;
        let (answer, outcome) =
            self.call("on-local-request", ordinary, reading, |exports, store| {
                let export = exports.local_events.as_ref();
                let call = |export: &local_events::Guest| {
                    export.call_on_local_request(store, topic, payload)
                };
                export.map(call).transpose()
            })?;
        let answer = match answer {
            None => Err(LocalRequestError::NotOffered),
            Some(Err(text)) => Err(LocalRequestError::Failed(printable(&text))),
            Some(Ok(answer)) if answer.len() > LOCAL_PAYLOAD_MAX => {
                let bytes = answer.len();
                Err(LocalRequestError::AnswerTooLarge { bytes })
            }
            Some(Ok(answer)) => Ok(answer.into()),
        };
        Ok((answer, outcome))
    }

    /// Whether the plugin hands anything to its successor.
    #[must_use]
    pub fn has_handover(&self) -> bool {
        self.exports.handover.is_some()
    }

    /// What the plugin hands to its successor; none if it exports no `handover`.
    ///
    /// # Errors
    /// The callback faulted; the instance is dead.
    pub fn save(&mut self, reading: ClockReading) -> Result<Option<(Bytes, Outcome)>, Fault> {
        if self.exports.handover.is_none() {
            return Ok(None);
        }
        let ordinary = Callback::Ordinary;
        let (saved, outcome) = self.call("save", ordinary, reading, |exports, store| {
            exports
                .handover
                .as_ref()
                .map(|handover| handover.call_save(store))
                .transpose()
        })?;
        Ok(saved.map(|saved| (saved.into(), outcome)))
    }

    /// Takes over what a predecessor saved. Without a `handover` export nothing happens.
    ///
    /// # Errors
    /// The plugin cannot use it, or faults.
    pub fn restore(
        &mut self,
        saved: &[u8],
        from: Version,
        reading: ClockReading,
    ) -> Result<Outcome, StartError> {
        let (result, outcome) = self.call(
            "restore",
            Callback::Lengthy,
            reading,
            |exports, store| match &exports.handover {
                Some(handover) => handover.call_restore(store, saved, &from.to_string()),
                None => Ok(Ok(())),
            },
        )?;
        result.map_err(|text| StartError::Refused {
            callback: "restore",
            text: printable(&text),
        })?;
        Ok(outcome)
    }

    /// Ends the tenure under way, if there is one, as before an unload.
    ///
    /// # Errors
    /// The callback faulted; the instance is dead.
    pub fn demote(&mut self, reading: ClockReading) -> Result<Outcome, Fault> {
        match self.view().demotion() {
            Some(demotion) => self.deliver(&demotion, reading),
            None => Ok(Outcome::default()),
        }
    }

    /// The last callback.
    ///
    /// # Errors
    /// The callback faulted.
    pub fn shutdown(
        mut self,
        reason: ShutdownReason,
        reading: ClockReading,
    ) -> Result<Outcome, Fault> {
        let reason = match reason {
            ShutdownReason::Stop => lifecycle::Reason::Stop,
            ShutdownReason::Reload => lifecycle::Reason::Reload,
            ShutdownReason::Remove => lifecycle::Reason::Remove,
        };
        self.callback("shutdown", reading, |exports, store| {
            exports.lifecycle.call_shutdown(store, reason)
        })
    }

    /// Bytes in all its memories and tables.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.used()
    }

    /// What the plugin knows of its group.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.store.data().view
    }

    /// A callback with the ordinary budget and no result.
    fn callback(
        &mut self,
        name: &'static str,
        reading: ClockReading,
        run: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<()>,
    ) -> Result<Outcome, Fault> {
        self.call(name, Callback::Ordinary, reading, run)
            .map(|((), outcome)| outcome)
    }

    /// Arms the limits, calls, and takes what the call left behind.
    fn call<R>(
        &mut self,
        name: &'static str,
        callback: Callback,
        reading: ClockReading,
        run: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<(R, Outcome), Fault> {
        let budget = match callback {
            Callback::Ordinary => self.limits.cpu,
            Callback::Lengthy => self.limits.setup_cpu,
        };
        let Self {
            store,
            exports,
            watched,
            ..
        } = self;
        store.data_mut().start_call(reading);
        watched.metering.arm(store, budget, callback);
        let result = run(exports, store);
        let over = watched.metering.settle(store, budget);
        let outcome = store.data_mut().end_call();
        match (result, over) {
            (Ok(value), None) => Ok((value, outcome)),
            (Ok(_), Some(over)) => Err(Fault::by_host(name, over)),
            (Err(error), _) => Err(watched.fault(name, &error, store, budget)),
        }
    }
}

fn guest(settings: InstanceSettings) -> Guest {
    let InstanceSettings {
        plugin,
        this_device,
        config,
        limits,
        files,
        local,
        seed,
        run,
        log,
    } = settings;
    let clock = GuestClock::new(limits.waiting);
    let log = SharedLog::new(log, limits.log_bytes_per_second);
    let random = RandomSource {
        seed: &seed,
        device: this_device.device,
        plugin: &plugin,
        run,
    };
    let wasi = wasi::context(&clock.wasi(), &random, &log, &files);
    let view = View::new(this_device);
    Guest::new(config, view, clock, &limits, local, log, wasi)
}

impl Watched {
    /// A trap in the start function is a fault like any other; everything else is the file's.
    fn instantiation_error(
        &self,
        error: &wasmtime::Error,
        store: &mut Store<Guest>,
        budget: Duration,
    ) -> StartError {
        let ran = error.downcast_ref::<Trap>().is_some()
            || error.downcast_ref::<HostFault>().is_some()
            || error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some();
        if ran {
            return self.fault("start", error, store, budget).into();
        }
        StartError::Contract(limits::explained(innermost(error)))
    }

    /// Why a call that had `budget` ended.
    fn fault(
        &self,
        callback: &'static str,
        error: &wasmtime::Error,
        store: &mut Store<Guest>,
        budget: Duration,
    ) -> Fault {
        let cores = self.cores.as_ref();
        let core = cores.and_then(|cores| cores.keep(error, &self.plugin, store));
        let fault = Fault {
            core,
            ..Fault::new(callback, error, store.data().memory.refused_beyond())
        };
        match self.metering.over_budget(error, budget) {
            Some(over) => Fault {
                cause: over.to_string(),
                ..fault
            },
            None => fault,
        }
    }
}
