//! Replicated state: what plugins write, and what they are told of it.

use super::Node;
use crate::event::PluginEvent;
use crate::id::{GroupKey, NodeId, PluginId};
use crate::state::{StateConfig, StateUpdate, StateWrite};
use crate::wire::message::Message;

impl Node {
    pub(super) fn take_state(&mut self, _from: NodeId, _message: Message) {}

    pub(super) fn set_state_config(&mut self, _id: PluginId, _config: StateConfig) {}

    pub(super) fn plugin_writes(&mut self, id: &PluginId, _group: GroupKey, _write: StateWrite) {
        let update = StateUpdate {
            changes: Vec::new(),
            handled: 1,
            whole: false,
        };
        self.tell(id, PluginEvent::State(update));
    }
}
