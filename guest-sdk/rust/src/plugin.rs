//! The callbacks of a plugin.

use crate::bindings::exports::consort::plugin::lifecycle;
use crate::{BoxError, GroupTime, Leadership, Peer, state};

/// A plugin: one method per callback, each of which does nothing unless it is overridden.
///
/// The host makes one value of the type by [`Default`] and calls it from one thread, one callback
/// at a time. The order is guaranteed:
/// - [`setup`](Self::setup) comes first, then [`restore`](Self::restore) if this instance replaces
///   another one;
/// - this device is among the peers that are added, and a peer is added before it leads and removed
///   after it was demoted;
/// - every promotion is ended by exactly one demotion of the same kind before anything else is
///   promoted;
/// - a group of one gets the same calls in the same order.
///
/// A callback that panics, uses more than its share of CPU time or waits too long ends this
/// instance; what it had sent and written in that callback never happened. The host starts another
/// and tells it the peers and the role again.
///
/// Timers belong to the instance. Those of one that was stopped, replaced by a reload or restarted
/// after a fault are gone: [`setup`](Self::setup) or [`restore`](Self::restore) sets again what is
/// still wanted. The group's [`state`](crate::state) stays.
#[allow(
    unused_variables,
    reason = "the names are the documentation of empty defaults"
)]
pub trait Plugin: Default + 'static {
    /// Once, before any other callback.
    ///
    /// # Errors
    /// An error rejects the plugin; during a reload the old one keeps running. Its text and those
    /// of its sources go to the host's log.
    fn setup(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Before an orderly unload. A fault or a power cut skips it.
    fn shutdown(&mut self, reason: Reason) {}

    /// This device leads from here on.
    fn promote_leader(&mut self, leadership: Leadership) {}

    /// This device leads no longer. Timers stay set: cancel those that only a leader needs.
    fn demote_leader(&mut self) {}

    /// Another device leads from here on.
    fn promote_follower(&mut self, leadership: Leadership) {}

    /// The device that led is lost or was replaced; there is no leader until the next promotion.
    fn demote_follower(&mut self) {}

    /// A device joined the group.
    fn peer_added(&mut self, peer: Peer) {}

    /// A device left the group.
    fn peer_removed(&mut self, peer: Peer) {}

    /// From the leader's [`broadcast`](crate::messages::broadcast), on every member including the
    /// leader.
    fn leader_message(&mut self, payload: Vec<u8>, sender: Leadership) {}

    /// From any member, by [`send_to_leader`](crate::messages::send_to_leader),
    /// [`send`](crate::messages::send) or [`send_to_all`](crate::messages::send_to_all).
    fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {}

    /// Other devices changed the group's [`state`](crate::state): all that changed since the last
    /// call, each key once with what holds at last. This device's own writes are left out, and so
    /// is what held when this instance started.
    fn state_changed(&mut self, changes: Vec<state::Change>) {}

    /// This device had put something under these keys of [`leader_state`](crate::leader_state), as
    /// leader, and the group did not adopt it: it was cut off, or another leader had taken over.
    /// What holds instead is there to be read.
    fn writes_superseded(&mut self, keys: Vec<String>) {}

    /// A timer set by [`clock::at`](crate::clock::at) or [`clock::every`](crate::clock::every) is
    /// due. `due` is when it was to fire, which lies a little before the present.
    fn timer(&mut self, token: u64, due: GroupTime) {}

    /// A program on this device asks; the result is its answer. Needs the capability
    /// [`local`](crate::local).
    ///
    /// # Errors
    /// The program gets the text of the error and of its sources.
    fn local_request(&mut self, topic: &str, payload: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        Err("this plugin answers no requests".into())
    }

    /// What the next version of this plugin is to know, when it is about to replace this one.
    fn save(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// What the version `from_version` of this plugin saved. Peers and role follow afterwards.
    /// Timers are not handed over: set again those that are still wanted.
    ///
    /// # Errors
    /// An error ends the reload; the old version keeps running.
    fn restore(&mut self, saved: Vec<u8>, from_version: &str) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Why a plugin is unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The host stops.
    Stop,
    /// A new version takes over.
    Reload,
    /// The plugin's file is gone or the operator switched it off.
    Remove,
}

impl From<lifecycle::Reason> for Reason {
    fn from(reason: lifecycle::Reason) -> Self {
        match reason {
            lifecycle::Reason::Stop => Self::Stop,
            lifecycle::Reason::Reload => Self::Reload,
            lifecycle::Reason::Remove => Self::Remove,
        }
    }
}
