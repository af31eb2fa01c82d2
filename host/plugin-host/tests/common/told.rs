//! What a node tells of a group's state.

use consort_proto::{Origin, PluginEvent, StateChange, StateOutcome, StateUpdate};

pub(crate) fn put(origin: Origin, key: &str, value: &str) -> StateChange {
    let value = value.as_bytes().to_vec().into();
    change(
        origin,
        key,
        StateOutcome::Put {
            value,
            expires_at: None,
        },
    )
}

pub(crate) fn counted(name: &str, sum: i64) -> StateChange {
    change(Origin::Counter, name, StateOutcome::Counted(sum))
}

pub(crate) fn change(origin: Origin, key: &str, outcome: StateOutcome) -> StateChange {
    StateChange {
        origin,
        key: key.into(),
        outcome,
        own: false,
    }
}

pub(crate) fn own(change: StateChange) -> StateChange {
    StateChange {
        own: true,
        ..change
    }
}

pub(crate) fn update(changes: impl Into<Vec<StateChange>>, handled: u32) -> PluginEvent {
    PluginEvent::State(StateUpdate {
        changes: changes.into(),
        handled,
        room: u64::MAX,
        whole: false,
    })
}

pub(crate) fn whole(changes: impl Into<Vec<StateChange>>) -> PluginEvent {
    PluginEvent::State(StateUpdate {
        changes: changes.into(),
        handled: 0,
        room: u64::MAX,
        whole: true,
    })
}
