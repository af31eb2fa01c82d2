//! Many Consort nodes in virtual time.
//!
//! A [`Sim`] runs real [`consort_proto::Node`]s over a simulated network and simulated disks. Time
//! is a number that jumps from one event to the next, so an hour takes seconds. One [`Seed`] decides
//! everything; two runs of one seed are equal to the byte, which [`Sim::trace_hash`] shows.
//!
//! # How a run goes
//! Make a group with [`Sim::builder`], start its devices, let time pass with [`Sim::run_for`] or
//! wait for something with [`Sim::expect_within`], and break things in between: links, partitions,
//! crashes, pauses, faults of plugins. Checkers watch every run, whatever the scenario; the first
//! broken property, any ERROR in a node's log and any failed expectation end it with a panic that
//! names the seed and the command to replay it.
//!
//! # Invariants
//! - Every input to a node is followed by a full drain of what it gives, then its next wake-up is
//!   planned; a node is never called in between.
//! - Collections are ordered, events are ordered by (time, sequence), and every user of randomness
//!   has a stream of its own.

#![forbid(unsafe_code)]

mod actor;
mod app;
mod checker;
mod device;
mod disk;
mod ledger;
mod log;
mod message;
mod network;
mod oracle;
pub mod plan;
mod queue;
mod seed;
mod sim;
mod summary;
pub mod swarm;
mod timeline;
mod toy;
mod trace;

pub use actor::{Actor, Entrance, Heard, LogLevel, Moment, PluginFigures, Said, Stage, Turn};
pub use app::{App, AppRole, AppState, Refused, View};
pub use checker::MessageReport;
pub use device::DeviceConfig;
pub use ledger::{Act, Fate, Written};
pub use message::PAYLOAD_MIN;
pub use network::{Burst, Link};
pub use plan::{
    BeatPlan, Expect, Outcome, Plan, PlanError, RunOptions, Violation, run_hosted, run_plan,
};
pub use seed::{InvalidSeed, Seed, scenario};
pub use sim::{Edit, Kind, Recorded, Sim, SimBuilder, Stats, Workload, spec};
pub use summary::Summary;
pub use timeline::{Fault, FaultKind, Heal, Lane, LaneRole, LaneState, Stretch, Timeline};
pub use toy::Toy;
