//! State that anyone writes. Of two writes under one key the later one by the group's clock wins, on
//! every device.
//!
//! The place for what may be set from anywhere and has one value: a volume, a chosen colour. What
//! devices add up belongs into [`counters`](crate::counters), what each says of itself into
//! [`device_state`](crate::device_state). See [`state`](crate::state) for what all kinds have in
//! common.
//!
//! ```no_run
//! use consort_plugin::{log, shared_state};
//!
//! fn louder() {
//!     let volume: u8 = shared_state::get_value("volume").ok().flatten().unwrap_or(50);
//!     if let Err(error) = shared_state::put_value("volume", &volume.saturating_add(5)) {
//!         log::warn!("the volume stays: {error}");
//!     }
//! }
//! ```

crate::state::keyed_state!(shared_state);
