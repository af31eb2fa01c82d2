//! Fuzz targets: plain functions of bytes, which panic where something is wrong.
//!
//! `cargo xtask fuzz NAME` drives one with libFuzzer; the test `replay` runs each over the inputs in
//! `corpus/NAME`. A target must be a function of its bytes alone, and end soon whatever they are.

#![forbid(unsafe_code)]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the plugin host uses the rest, and hands it on"
)]
#[path = "../../../host/plugin-host/src/allowance.rs"]
mod allowance;
mod bytes_of;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the plugin host uses the rest, and hands it on"
)]
#[path = "../../../host/plugin-host/src/capabilities.rs"]
mod capabilities;
mod config;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the plugin host uses the rest, and hands it on"
)]
#[path = "../../../host/plugin-host/src/limit_table.rs"]
mod limit_table;
mod manifest;
mod node;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the plugin host uses the rest, and hands it on"
)]
#[path = "../../../host/plugin-host/src/state_table.rs"]
mod state_table;

use consort_proto::fuzz;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("beacon", beacon),
    ("handshake", handshake),
    ("data", data),
    ("messages", messages),
    ("state", state),
    ("config", config),
    ("manifest", manifest),
    ("node", node),
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|(known, _)| *known == name)
}

/// A datagram that may be a beacon, and a beacon made of the bytes, whole and spoilt.
pub fn beacon(bytes: &[u8]) {
    fuzz::beacon(bytes);
}

/// Handshakes between two devices over a network that loses, doubles, reorders and spoils packets,
/// with packets of a member's making in between.
pub fn handshake(bytes: &[u8]) {
    fuzz::handshake(bytes);
}

/// Packets of an open session, spoilt and repeated: each that was sealed is opened once at most, and
/// nothing else is.
pub fn data(bytes: &[u8]) {
    fuzz::data(bytes);
}

/// Bodies of messages: what is taken is the same after it was written and read again.
pub fn messages(bytes: &[u8]) {
    fuzz::messages(bytes);
}

/// What members tell each other of replicated state, whatever it is: a replica keeps to its bounds.
pub fn state(bytes: &[u8]) {
    fuzz::state(bytes);
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let _ = takes_config(bytes);
}

/// Whether this is a configuration file without mistakes.
#[must_use]
pub fn takes_config(bytes: &[u8]) -> bool {
    config::run(bytes)
}

/// A plugin's manifest.
pub fn manifest(bytes: &[u8]) {
    let _ = takes_manifest(bytes);
}

/// Whether this is a manifest without mistakes.
#[must_use]
pub fn takes_manifest(bytes: &[u8]) -> bool {
    manifest::run(bytes)
}

/// Everything that can be done to a node, one thing after another.
pub fn node(bytes: &[u8]) {
    node::run(bytes);
}
