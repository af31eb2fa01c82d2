//! What a plugin may call: one file per interface of the contract.
//!
//! Nothing here does input or output or waits. Reads are answered from the guest's view, writes
//! are checked in place and appended to its outbox.

mod clock;
mod config;
mod counters;
mod device_state;
mod group;
mod leader_state;
mod local;
mod log;
mod messages;
mod shared_state;
mod state;

use crate::bindings::consort::plugin::types;
use crate::guest::Guest;

impl types::Host for Guest {}
