//! State that the leader writes and everyone reads. It outlives its leader.
//!
//! The place for what the leader decides: the next leader finds it and goes on. When two sides of a
//! group that was cut apart meet again, one of the leaders stays, and its state with it;
//! [`Plugin::writes_superseded`](crate::Plugin::writes_superseded) tells the other one which of its
//! writes do not hold any more. See [`state`](crate::state) for what all kinds have in common.
//!
//! ```no_run
//! use consort_plugin::{Leadership, Plugin, leader_state, log, state};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Round {
//!     number: u32,
//! }
//!
//! #[derive(Default)]
//! struct Game;
//!
//! impl Plugin for Game {
//!     fn promote_leader(&mut self, _leadership: Leadership) {
//!         // What an earlier leader left behind, or nothing.
//!         let last = leader_state::get_value::<Round>("round").ok().flatten();
//!         let next = Round { number: last.map_or(1, |round| round.number + 1) };
//!         if let Err(error) = leader_state::put_value("round", &next) {
//!             log::warn!("no new round: {error}");
//!         }
//!     }
//!
//!     fn state_changed(&mut self, _changes: Vec<state::Change>) {
//!         if let Ok(Some(round)) = leader_state::get_value::<Round>("round") {
//!             log::info!("round {}", round.number);
//!         }
//!     }
//! }
//! ```

crate::state::keyed_state!(leader_state);
