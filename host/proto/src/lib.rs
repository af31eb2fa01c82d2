//! The Consort protocol as a state machine without input or output of its own.
//!
//! # Driving contract
//! Make a [`Node`], then feed it: [`Node::handle_datagram`], [`Node::handle_timeout`],
//! [`Node::handle_command`], [`Node::handle_stored`]. After each, or after a few that came at once,
//! drain [`Node::poll_transmit`], [`Node::poll_event`] and [`Node::poll_store`] until they are
//! empty, then sleep until [`Node::poll_timeout`]. Time is an argument, randomness is one seeded
//! generator: the same inputs give the same outputs, under the daemon and under the simulator.
//!
//! Time never runs back from one input to the next. A driver that knows when a datagram arrived,
//! which is before it got round to reading it, says so with [`Node::handle_datagram_received`]:
//! round trips and clocks are reckoned from that time, and nothing else is.

#![forbid(unsafe_code)]

mod access;
#[doc(hidden)]
pub mod bench;
mod caller;
mod clock;
mod config;
pub mod cost;
pub mod crypto;
mod ctx;
mod discovery;
mod election;
mod event;
#[doc(hidden)]
pub mod fuzz;
mod id;
mod keyring;
mod keys;
mod liveness;
mod membership;
mod messaging;
#[doc(hidden)]
pub mod mutant;
mod node;
mod pace;
mod pool;
mod quota;
mod replication;
mod rotation;
mod session;
mod state;
mod status;
mod time;
mod window;
mod wire;

pub use access::{ACCESS_MAX, Access, TooManyDevices};
#[doc(hidden)]
pub use caller::Caller;
pub use config::{NodeConfig, SendRate, Stored, StoredState};
pub use event::{
    Address, ClockView, Command, Destination, Event, Leadership, Peer, PluginCommand, PluginEvent,
    PluginSpec, RemovalReason, RotateError, RotateStep, StoreRecord, StoreRequest, Transmit,
};
pub use id::{
    BootId, DeviceId, GroupKey, InvalidPluginId, InvalidVersion, LowOrderKey, ParseDeviceIdError,
    PluginId, PublicKey, Version, check_chars,
};
pub use keyring::{KEYS_MAX, KeyEntry, KeyState, Keyring, ParseKeyringError};
pub use keys::{GroupKeys, GroupSecret, ParseGroupSecretError, StaticSecret};
#[doc(hidden)]
pub use node::{FalseEntry, FalseKind, InTree, Lie};
pub use node::{NewNodeError, Node};
pub use quota::{QuotaMeter, SendQuota};
#[doc(hidden)]
pub use replication::{HeldKey, Version as HeldVersion, Versions};
pub use state::{
    Origin, STATE_KEY_MAX, STATE_VALUE_MAX, Scope, StateChange, StateConfig, StateOutcome,
    StateUpdate, StateView, StateWrite, WriteError,
};
pub use status::{
    CloneStatus, Counters, KeyringStatus, MessageCounts, NodeStatus, PeerKeyring, PeerState,
    PeerStatus, PluginStatus, Role, StateStatus,
};
pub use time::{Time, micros};

/// The largest datagram sent, in bytes of UDP payload: IPv6's minimum MTU less its headers, rounded
/// down.
pub const MAX_DATAGRAM: usize = 1200;

/// The largest payload of a plugin's message, in bytes. Beyond 1100 it travels in parts.
pub const MAX_PAYLOAD: usize = 64 << 10;
