//! Writes that a plugin's host had accepted and that cannot be taken in here.
//!
//! The host judges by what it was told. Meanwhile this device may have come to lead no longer, or
//! others' entries may have taken the room. No such write goes by unheard: the plugin is told what
//! holds in its place, as news, and of leader state that the key was superseded. What is lost for
//! want of room is counted, and the log has a line of the first such write. Superseded keys are told
//! when all inputs of the moment are in: a callback's writes come one by one, and may all be too late.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Kept, Node};
use crate::event::PluginEvent;
use crate::id::{GroupKey, PluginId};
use crate::state::{Origin, StateChange, StateOutcome, StateUpdate, StateWrite, WriteError};

/// What a plugin is to be told of its refused writes.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// What holds in their place.
    restored: Vec<StateChange>,
    /// Keys of leader state among them, until they are told.
    superseded: BTreeSet<Arc<str>>,
    /// Whether it is time to tell them.
    due: bool,
    /// How many were lost though this device might have made them.
    pub(super) lost: u64,
}

impl Refusals {
    /// What is to be told, besides what changed: each key once.
    pub(super) fn join(&mut self, mut changes: Vec<StateChange>) -> Vec<StateChange> {
        for restored in core::mem::take(&mut self.restored) {
            let place = (restored.origin, &restored.key);
            let mut same = changes.iter_mut();
            match same.find(|change| (change.origin, &change.key) == place) {
                Some(change) => change.own &= restored.own,
                None => changes.push(restored),
            }
        }
        changes
    }

    /// Whether keys wait for [`Refusals::come_due`].
    pub(super) fn is_waiting(&self) -> bool {
        !self.superseded.is_empty()
    }

    /// The moment's inputs are in.
    pub(super) fn come_due(&mut self) {
        self.due = self.is_waiting();
    }

    /// Superseded keys, once they are due.
    pub(super) fn take_superseded(&mut self) -> BTreeSet<Arc<str>> {
        if core::mem::take(&mut self.due) {
            core::mem::take(&mut self.superseded)
        } else {
            BTreeSet::new()
        }
    }
}

impl Kept {
    /// Notes a write that is not taken in.
    pub(super) fn refuse(&mut self, id: &PluginId, now: u64, write: &StateWrite, why: WriteError) {
        let refusals = &mut self.refusals;
        let mut present = self.replica.present(now, write);
        if present.origin == Origin::Leader {
            refusals.superseded.insert(Arc::clone(&present.key));
        } else {
            present.own = false;
        }
        refusals.restored.push(present);
        if why == WriteError::NotLeader {
            tracing::debug!(plugin = %id, "a write came after this device had ceased to lead");
            return;
        }
        if refusals.lost == 0 {
            tracing::warn!(
                plugin = %id, %why,
                "a write is lost: what other devices wrote has taken its room; further ones are counted"
            );
        }
        refusals.lost += 1;
    }
}

impl Node {
    /// A plugin writes whose state this device does not hold at present, for it holds too many others'.
    pub(super) fn refuse_all(&mut self, id: &PluginId, write: &StateWrite) {
        let (origin, key) = write.place(self.states.me);
        if let Some(group) = self.plugins.get(id).map(|plugin| plugin.group) {
            self.count_unkept(id, group);
        }
        let outcome = match origin {
            Origin::Counter => StateOutcome::Counted(0),
            Origin::Leader | Origin::Device(_) | Origin::Shared => StateOutcome::Deleted,
        };
        let superseded = (origin == Origin::Leader).then(|| Arc::clone(&key));
        let change = StateChange {
            origin,
            key,
            outcome,
            own: superseded.is_some(),
        };
        let update = StateUpdate {
            changes: vec![change],
            handled: 1,
            room: u64::MAX,
            whole: false,
        };
        self.tell(id, PluginEvent::State(update));
        if let Some(key) = superseded {
            self.tell(id, PluginEvent::WritesSuperseded(vec![key]));
        }
    }

    fn count_unkept(&mut self, id: &PluginId, group: GroupKey) {
        let is_up = |group| self.plugins.values().any(|plugin| plugin.group == group);
        self.states.unkept.retain(|group, _| is_up(*group));
        let lost = self.states.unkept.entry(group).or_default();
        if *lost == 0 {
            tracing::warn!(
                plugin = %id,
                "a write is lost: this device holds no state for the plugin at present; further ones are counted"
            );
        }
        *lost += 1;
    }
}
