//! Tests of whole daemons: the real program, real sockets, real plugins.
//!
//! This library is the harness. A [`Group`] is a temporary folder with devices in it; a [`Device`]
//! is one device's folder (settings, data, plugins), whose daemon can be started, killed, stopped
//! and started anew. The daemon's log is read line by line while it runs ([`log`]), and everything
//! the tests know of the inside, they know from it and from `consort status`. A [`Switch`] is a
//! network of namespaces in which devices reach each other through a bridge and can be cut off.
//!
//! Invariants: no process, namespace or file outlives its value, whether the test passes or not;
//! an ERROR line of a daemon fails its test; tests assert order and outcome, and wait for both with
//! [`wait::PATIENCE`].

#![forbid(unsafe_code)]

pub mod device;
pub mod firewall;
pub mod group;
pub mod hostile;
pub mod leadership;
pub mod log;
pub mod network;
pub mod programs;
pub mod relay;
pub mod stranger;
pub mod wait;

pub use crate::device::Device;
pub use crate::group::Group;
pub use crate::leadership::{Role, agreed_leader, roles};
pub use crate::network::Switch;
