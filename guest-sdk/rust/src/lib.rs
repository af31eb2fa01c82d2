//! Write Consort plugins in Rust.
//!
//! A plugin runs on every device of a group. The host tells it who is here, who leads and what
//! the others say; the plugin answers with messages and wake-ups. It is a WASM component without
//! files, network or environment: all it knows comes in through [`Plugin`]'s callbacks, all it does
//! goes out through the modules here. Host calls never wait; what a callback sends leaves the
//! device when the callback has returned.
//!
//! # The smallest plugin
//! ```no_run
//! use consort_plugin::{Leadership, Plugin, log};
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! impl Plugin for Hello {
//!     fn promote_leader(&mut self, leadership: Leadership) {
//!         log::info!("leader in term {}", leadership.term);
//!     }
//! }
//!
//! consort_plugin::plugin!(Hello);
//! # fn main() {}
//! ```
//! In a crate with `crate-type = ["cdylib"]`, built by
//! `cargo build --release --target wasm32-wasip2`, the result goes into a device's plugins folder.
//!
//! # What the host offers
//! - [`group`]: this device, its peers, the leader.
//! - [`messages`]: from the leader to all, to the leader, to one, to all. At most once, no order.
//! - [`leader_state`], [`device_state`], [`shared_state`], [`counters`]: small keyed state that every
//!   device has, kept alike everywhere; [`state`] says what they have in common.
//! - [`local`]: messages to the programs on this device, with the capability of that name.
//! - [`clock`]: the group's shared time and wake-ups on it.
//! - [`config`]: the settings that the operator gave this plugin.
//! - [`log`]: the `log` crate; [`plugin!`] routes it, and every panic, to the host's log.
//! - [`payload`]: MessagePack from and to any serde type.
//!
//! # Testing
//! What calls no host function is ordinary Rust and is tested natively by `cargo test`. A host
//! function called outside a host panics. So keep decisions in a module that takes time and events
//! as arguments, and let the [`Plugin`] implementation only carry them to and fro.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod bindings;
pub mod clock;
pub mod config;
pub mod counters;
pub mod device_state;
mod export;
pub mod group;
pub mod leader_state;
pub mod local;
mod logger;
pub mod messages;
pub mod payload;
mod peer;
mod plugin;
pub mod shared_state;
pub mod state;

/// The `log` crate, so that a plugin needs no dependency of its own for it.
pub use log;

pub use clock::GroupTime;
pub use peer::{DeviceId, Leadership, Peer};
pub use plugin::{Plugin, Reason};

/// Any error, as [`Plugin::setup`] and [`Plugin::restore`] return it: `?` turns every error type
/// into it, and so does `.into()` a text.
pub type BoxError = Box<dyn std::error::Error>;

/// What the expansion of [`plugin!`] names. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Exports, Slot};
}

/// The examples of the page on state and time, to be compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/state.md")]
struct StateExamples;
