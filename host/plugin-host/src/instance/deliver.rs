//! Which event calls which callback.

use consort_proto::PluginEvent;
use wasmtime::Store;

use super::{Instance, Outcome};
use crate::bindings::exports::consort::plugin::state_events::Change;
use crate::code::Exports;
use crate::guest::Guest;
use crate::view::Effect;
use crate::{ClockReading, Fault};

impl Instance {
    /// Tells the plugin what happened.
    ///
    /// # Errors
    /// The callback faulted; the instance is dead.
    pub fn deliver(
        &mut self,
        event: &PluginEvent,
        reading: ClockReading,
    ) -> Result<Outcome, Fault> {
        match self.store.data_mut().view.apply(event) {
            Effect::Callback => {}
            Effect::Silent | Effect::Contradiction => return Ok(Outcome::default()),
        }
        match callback_of(event) {
            Some(callback) => self.callback(callback, reading, |exports, store| {
                call(exports, store, event)
            }),
            None => Ok(Outcome::default()),
        }
    }
}

/// The callback's name in the contract.
fn callback_of(event: &PluginEvent) -> Option<&'static str> {
    match event {
        PluginEvent::PeerAdded(_) => Some("on-peer-added"),
        PluginEvent::PeerRemoved(_) => Some("on-peer-removed"),
        PluginEvent::PromoteLeader(_) => Some("promote-leader"),
        PluginEvent::DemoteLeader => Some("demote-leader"),
        PluginEvent::PromoteFollower(_) => Some("promote-follower"),
        PluginEvent::DemoteFollower => Some("demote-follower"),
        PluginEvent::LeaderMessage { .. } => Some("on-leader-message"),
        PluginEvent::PeerMessage { .. } => Some("on-peer-message"),
        PluginEvent::State(_) => Some("on-state-changed"),
        PluginEvent::WritesSuperseded(_) => Some("on-writes-superseded"),
        PluginEvent::PeerUpdated(_)
        | PluginEvent::Joined(_)
        | PluginEvent::TermChanged { .. }
        | PluginEvent::BroadcastsHeld(_) => None,
    }
}

/// Calls the export, if the plugin has it.
fn call(exports: &Exports, store: &mut Store<Guest>, event: &PluginEvent) -> wasmtime::Result<()> {
    let Exports {
        role,
        peer_events,
        message_events,
        ..
    } = exports;
    match (event, role, peer_events, message_events) {
        (PluginEvent::PeerAdded(peer), _, Some(export), _) => {
            export.call_on_peer_added(store, &peer.into())
        }
        (PluginEvent::PeerRemoved(peer), _, Some(export), _) => {
            export.call_on_peer_removed(store, &peer.into())
        }
        (PluginEvent::PromoteLeader(leadership), Some(export), _, _) => {
            export.call_promote_leader(store, &leadership.into())
        }
        (PluginEvent::PromoteFollower(leadership), Some(export), _, _) => {
            export.call_promote_follower(store, &leadership.into())
        }
        (PluginEvent::DemoteLeader, Some(export), _, _) => export.call_demote_leader(store),
        (PluginEvent::DemoteFollower, Some(export), _, _) => export.call_demote_follower(store),
        (PluginEvent::LeaderMessage { sender, payload }, _, _, Some(export)) => {
            export.call_on_leader_message(store, payload, &sender.into())
        }
        (PluginEvent::PeerMessage { sender, payload }, _, _, Some(export)) => {
            export.call_on_peer_message(store, payload, &sender.into())
        }
        (PluginEvent::State(_) | PluginEvent::WritesSuperseded(_), _, _, _) => {
            call_of_state(exports, store, event)
        }
        // The plugin left this callback's interface out, or the event has none.
        (_, _, _, _) => Ok(()),
    }
}

fn call_of_state(
    exports: &Exports,
    store: &mut Store<Guest>,
    event: &PluginEvent,
) -> wasmtime::Result<()> {
    match (event, &exports.state_events) {
        (PluginEvent::State(update), Some(export)) => {
            let news = update.changes.iter().filter(|change| !change.own);
            let news: Vec<Change> = news.map(Change::from).collect();
            export.call_on_state_changed(store, &news)
        }
        (PluginEvent::WritesSuperseded(keys), Some(export)) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            export.call_on_writes_superseded(store, &keys)
        }
        (_, _) => Ok(()),
    }
}
