//! Runs Consort plugins on wasmtime.
//!
//! An [`Instance`] is one plugin as a pure actor: events and readings of group time go in,
//! commands come out. A [`PluginHost`] keeps one instance per plugin of a folder on a thread of
//! its own, restarts those that fault, and reloads those whose file changes.
//!
//! Invariants: a fault costs one instance and nothing else; a store that trapped is never called
//! again; nothing a plugin does reaches this machine other than by the imports of the contract;
//! a reload either completes or leaves the old generation as it was.

mod allowance;
mod backoff;
mod bindings;
mod bucket;
mod capabilities;
mod clock;
mod code;
mod code_cache;
mod compile;
mod compiler;
mod cores;
mod departures;
mod engine;
mod fault;
mod fence;
mod folder;
mod guest;
mod host;
mod imports;
mod instance;
mod jobs;
mod keeper;
mod limit_table;
mod limits;
mod local;
mod log_ring;
mod mailbox;
mod manifest;
mod metering;
mod orders;
mod plugin_log;
mod priority;
mod process_memory;
mod refusals;
mod repeats;
mod state_table;
mod status;
mod supervisor;
mod timers;
mod view;
mod virtual_plugin;
mod wasi;
mod watch;

pub use allowance::Limits;
pub use capabilities::{
    Access, Capabilities, FOLDERS_MAX, FolderGrant, Granted, Refusal, is_folder_name,
};
pub use clock::ClockReading;
pub use code::{Code, CodeError};
pub use compile::{CompileError, FILE_BYTES_MAX, component_of};
pub use compiler::{ChildCompiler, CompileLimits, Compiler, serve as serve_compiler};
pub use cores::Cores;
pub use engine::{Runtime, RuntimeError};
pub use fault::{BETWEEN_FRAMES, Fault};
pub use folder::ReadError;
pub use host::{HostConfig, PluginHost, StartHostError};
pub use instance::{Instance, InstanceSettings, Outcome, ShutdownReason, StartError};
pub use limit_table::LimitTable;
pub use local::{
    LOCAL_PAYLOAD_MAX, LOCAL_REQUESTS_MAX, LOCAL_TOPIC_MAX, LocalAnswer, LocalMessage,
    LocalRequest, LocalRequestError, is_local_topic,
};
pub use log_ring::LogLine;
pub use manifest::{Capped, ManifestError, Overlay, Settings};
pub use orders::{Order, OrderError};
pub use plugin_log::{Level, LogSink};
pub use priority::come_first;
pub use process_memory::give_memory_back;
pub use refusals::{Refusals, Refused};
pub use state_table::StateTable;
pub use status::{GroupClock, HostEvent, PluginDetails, PluginHostStatus};
pub use timers::TimerError;
pub use view::View;
pub use virtual_plugin::{Said, Turn, VirtualPlugin, VirtualSettings};
