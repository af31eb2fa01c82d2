//! A compiled plugin, ready to be instantiated any number of times.
//!
//! Every interface but `lifecycle` is optional: it is absent as a whole or complete. The presence
//! is asked of the component itself, since loading alone would take a broken interface for an
//! absent one.

use std::sync::atomic::AtomicBool;

use thiserror::Error;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};
use wasmtime::error::Context as _;

use crate::bindings::exports::consort::plugin::{
    handover, lifecycle, local_events, message_events, peer_events, role, state_events, timers,
};
use crate::compile::{CompileError, innermost};
use crate::cores::Cores;
use crate::engine::Runtime;
use crate::guest::Guest;
use crate::metering::{Metering, Work};

const LIFECYCLE: &str = "consort:plugin/lifecycle@0.1.0";

/// A compiled plugin.
#[derive(Clone)]
pub struct Code {
    pre: InstancePre<Guest>,
    lifecycle: lifecycle::GuestIndices,
    role: Option<role::GuestIndices>,
    peer_events: Option<peer_events::GuestIndices>,
    message_events: Option<message_events::GuestIndices>,
    state_events: Option<state_events::GuestIndices>,
    timers: Option<timers::GuestIndices>,
    local_events: Option<local_events::GuestIndices>,
    handover: Option<handover::GuestIndices>,
    metering: Metering,
    cores: Option<Cores>,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(..)")
    }
}

/// Why a file gives no plugin.
#[derive(Debug, Error)]
pub enum CodeError {
    /// It gives no component.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The component is for something else.
    #[error(
        "the component is for another world: it does not export {LIFECYCLE}; it exports {exports}"
    )]
    OtherWorld {
        /// What it exports, to recognise it.
        exports: String,
    },
    /// It needs something that this host does not offer.
    #[error("the component asks for what this host does not offer: {0}")]
    Imports(String),
    /// One of its interfaces is incomplete.
    #[error(
        "an exported interface is incomplete: {0}; export the whole of it as consort:plugin@0.1.0 \
         has it, or leave it out"
    )]
    Exports(String),
}

impl Code {
    /// Compiles a plugin's file.
    ///
    /// # Errors
    /// The file is no plugin; the text says what it is instead.
    pub fn new(runtime: &Runtime, bytes: &[u8]) -> Result<Self, CodeError> {
        Self::unless(&AtomicBool::new(false), runtime, bytes)
    }

    /// Compiles a plugin's file, unless `cancelled` becomes true meanwhile.
    ///
    /// # Errors
    /// The file is no plugin; the text says what it is instead.
    pub(crate) fn unless(
        cancelled: &AtomicBool,
        runtime: &Runtime,
        bytes: &[u8],
    ) -> Result<Self, CodeError> {
        let component = runtime.component(bytes, cancelled)?;
        if component.get_export_index(None, LIFECYCLE).is_none() {
            return Err(CodeError::OtherWorld {
                exports: names_of_exports(runtime, &component),
            });
        }
        let pre = runtime
            .linker
            .instantiate_pre(&component)
            .map_err(|error| CodeError::Imports(innermost(&error)))?;
        Self::find_exports(&component, pre, runtime)
            .map_err(|error| CodeError::Exports(innermost(&error)))
    }

    fn find_exports(
        component: &Component,
        pre: InstancePre<Guest>,
        runtime: &Runtime,
    ) -> wasmtime::Result<Self> {
        let has = |interface: &str| {
            component
                .get_export_index(None, format!("consort:plugin/{interface}@0.1.0"))
                .is_some()
        };
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(&pre)?,
            role: has("role")
                .then(|| role::GuestIndices::new(&pre))
                .transpose()?,
            peer_events: has("peer-events")
                .then(|| peer_events::GuestIndices::new(&pre))
                .transpose()?,
            message_events: has("message-events")
                .then(|| message_events::GuestIndices::new(&pre))
                .transpose()?,
            state_events: has("state-events")
                .then(|| state_events::GuestIndices::new(&pre))
                .transpose()?,
            timers: has("timers")
                .then(|| timers::GuestIndices::new(&pre))
                .transpose()?,
            local_events: has("local-events")
                .then(|| local_events::GuestIndices::new(&pre))
                .transpose()?,
            handover: has("handover")
                .then(|| handover::GuestIndices::new(&pre))
                .transpose()?,
            pre,
            metering: runtime.metering.clone(),
            cores: runtime.cores.clone(),
        })
    }

    /// Makes an instance in `store` and checks the types of all it exports.
    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Exports> {
        let instance = self.pre.instantiate(&mut *store)?;
        let lifecycle = self.lifecycle.load(&mut *store, &instance);
        macro_rules! load {
            ($field:ident, $interface:literal) => {
                match &self.$field {
                    Some(indices) => {
                        let loaded = indices.load(&mut *store, &instance);
                        Some(loaded.with_context(|| of_other_type($interface))?)
                    }
                    None => None,
                }
            };
        }
        Ok(Exports {
            lifecycle: lifecycle.with_context(|| of_other_type("lifecycle"))?,
            role: load!(role, "role"),
            peer_events: load!(peer_events, "peer-events"),
            message_events: load!(message_events, "message-events"),
            state_events: load!(state_events, "state-events"),
            timers: load!(timers, "timers"),
            local_events: load!(local_events, "local-events"),
            handover: load!(handover, "handover"),
        })
    }

    /// The names of all it exports.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        let component = self.pre.component().component_type();
        let names = component.exports(self.engine());
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// The names of all it imports.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        let component = self.pre.component().component_type();
        let names = component.imports(self.engine());
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// The same code with a count of its own, if its runtime counts fuel.
    pub(crate) fn counted(&self) -> Option<(Self, Work)> {
        match self.metering {
            Metering::CpuClock => None,
            Metering::Fuel(_) => {
                let work = Work::default();
                let metering = Metering::Fuel(work.clone());
                let code = Self {
                    metering,
                    ..self.clone()
                };
                Some((code, work))
            }
        }
    }

    /// Whether a run is the same each time, wherever it happens.
    pub(crate) const fn is_deterministic(&self) -> bool {
        matches!(self.metering, Metering::Fuel(_))
    }

    pub(crate) fn metering(&self) -> &Metering {
        &self.metering
    }

    /// Where the cores of its instances are kept, if anywhere.
    pub(crate) fn cores(&self) -> Option<&Cores> {
        self.cores.as_ref()
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }
}

/// What an instance exports.
pub(crate) struct Exports {
    pub(crate) lifecycle: lifecycle::Guest,
    pub(crate) role: Option<role::Guest>,
    pub(crate) peer_events: Option<peer_events::Guest>,
    pub(crate) message_events: Option<message_events::Guest>,
    pub(crate) state_events: Option<state_events::Guest>,
    pub(crate) timers: Option<timers::Guest>,
    pub(crate) local_events: Option<local_events::Guest>,
    pub(crate) handover: Option<handover::Guest>,
}

/// What is said of an interface that has all its functions, but not with the contract's types.
fn of_other_type(interface: &str) -> String {
    format!(
        "a function of the exported interface consort:plugin/{interface}@0.1.0 has another type than \
         in the contract; build the plugin against the wit/ of api 0.1"
    )
}

fn names_of_exports(runtime: &Runtime, component: &Component) -> String {
    const SHOWN: usize = 5;
    let component_type = component.component_type();
    let names: Vec<String> = component_type
        .exports(&runtime.engine)
        .map(|(name, item)| match item.ty {
            ComponentItem::ComponentFunc(_) => format!("the function {name}"),
            _ => name.to_owned(),
        })
        .take(SHOWN)
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
