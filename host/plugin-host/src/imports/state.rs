//! What the four kinds of state share: reads of the guest's view, and writes that it has checked.

use bytes::Bytes;
use consort_proto::{Origin, Scope, StateWrite, WriteError};

use crate::bindings::consort::plugin::state_types;
use crate::guest::Guest;
use crate::refusals::Asked;

impl state_types::Host for Guest {}

impl From<WriteError> for state_types::WriteError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotLeader => Self::NotLeader,
            WriteError::InvalidKey => Self::InvalidKey,
            WriteError::TooLarge(bytes) => Self::TooLarge(bytes),
            WriteError::Busy => Self::Busy,
        }
    }
}

/// The result of a write, as the contract has it.
pub(super) type Written = Result<(), state_types::WriteError>;

impl Guest {
    pub(super) fn state_value(&self, origin: Origin, key: &str) -> Option<Vec<u8>> {
        let value = self.view.state().get(origin, key, self.clock.group_time());
        value.map(|value| value.to_vec())
    }

    pub(super) fn state_keys(&self, origin: Origin, prefix: &str) -> Vec<String> {
        let now = self.clock.group_time();
        let entries = self.view.state().entries(origin, prefix, now).into_iter();
        entries.map(|(key, _)| key.to_string()).collect()
    }

    pub(super) fn state_entries(&self, origin: Origin, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let now = self.clock.group_time();
        let entries = self.view.state().entries(origin, prefix, now).into_iter();
        entries
            .map(|(key, value)| (key.to_string(), value.to_vec()))
            .collect()
    }

    pub(super) fn state_put(
        &mut self,
        scope: Scope,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Written {
        self.state_write(StateWrite::Put {
            scope,
            key: key.into(),
            value: Bytes::from(value),
            ttl_ms,
        })
    }

    pub(super) fn state_delete(&mut self, scope: Scope, key: String) -> Written {
        let key = key.into();
        self.state_write(StateWrite::Delete { scope, key })
    }

    /// Lets the guest's reads see the write at once, and hands it to the node after the callback.
    pub(super) fn state_write(&mut self, write: StateWrite) -> Written {
        let (leads, now) = (self.view.is_leader(), self.clock.group_time());
        let written = if self.outbox.is_full() {
            Err(WriteError::Busy)
        } else {
            self.view.state_mut().write(&write, leads, now)
        };
        match written {
            Ok(()) => self.outbox.push_write(write),
            // Not to lead is no excess.
            Err(WriteError::NotLeader) => {}
            Err(excess) => self.refusals.note(Asked::Writes, || excess.to_string()),
        }
        Ok(written?)
    }
}
