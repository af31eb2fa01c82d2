//! Programs on this same device: a player, a kiosk page, a sensor script.
//!
//! The plugin [`publish`]es what they are to know, by topic, and answers what they ask in
//! [`Plugin::local_request`](crate::Plugin::local_request). Nothing of it leaves the device. It needs
//! the capability: `local = true` under `[capabilities]` in `plugin.toml`, and the same under
//! `[plugins.<id>.capabilities]` in the device's settings. Without it, nothing is published and
//! nobody asks; the log says so once.
//!
//! A topic is 1 to 128 bytes without control characters, a payload at most 64 KiB. Payloads are
//! bytes; text, or JSON in it, is what shell scripts and pages read most easily. What is too large
//! or beyond the quota of messages is dropped, counted, and logged the first time: say what holds
//! rather than what changed.
//!
//! ```no_run
//! use consort_plugin::{BoxError, Leadership, Plugin, local};
//!
//! #[derive(Default)]
//! struct Volume {
//!     percent: u8,
//! }
//!
//! impl Plugin for Volume {
//!     fn local_request(&mut self, topic: &str, payload: Vec<u8>) -> Result<Vec<u8>, BoxError> {
//!         match topic {
//!             "volume" => {
//!                 self.percent = std::str::from_utf8(&payload)?.trim().parse()?;
//!                 local::publish_retained("volume", self.percent.to_string());
//!                 Ok(b"ok".to_vec())
//!             }
//!             other => Err(format!("there is no {other}").into()),
//!         }
//!     }
//!
//!     fn promote_leader(&mut self, _: Leadership) {
//!         local::publish("bell", "this device leads");
//!     }
//! }
//! ```

use crate::bindings::consort::plugin::local as host;

/// To every local program that has subscribed to `topic`.
pub fn publish(topic: &str, payload: impl AsRef<[u8]>) {
    host::publish(topic, payload.as_ref(), false);
}

/// To every local program that has subscribed to `topic`, and to those that subscribe later, until
/// something else is published under it.
pub fn publish_retained(topic: &str, payload: impl AsRef<[u8]>) {
    host::publish(topic, payload.as_ref(), true);
}
