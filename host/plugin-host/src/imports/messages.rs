use std::fmt::Display;

use bytes::Bytes;
use consort_proto::{DeviceId, MAX_PAYLOAD, PluginCommand};

use crate::bindings::consort::plugin::messages::{self, SendError};
use crate::guest::Guest;
use crate::refusals::Asked;

impl messages::Host for Guest {
    fn broadcast(&mut self, payload: Vec<u8>) -> wasmtime::Result<Result<(), SendError>> {
        self.host_call()?;
        if !self.view.is_leader() {
            return Ok(Err(SendError::NotLeader));
        }
        if self.view.broadcasts_held() {
            return Ok(self.checked(&payload).and_then(|()| {
                Err(self.busy("the group takes no more broadcasts for the moment"))
            }));
        }
        Ok(self.send_checked(payload, PluginCommand::Broadcast))
    }

    fn send_to_leader(&mut self, payload: Vec<u8>) -> wasmtime::Result<Result<(), SendError>> {
        self.host_call()?;
        if self.view.leadership().is_none() {
            return Ok(Err(SendError::NoLeader));
        }
        Ok(self.send_checked(payload, PluginCommand::SendToLeader))
    }

    fn send(&mut self, to: String, payload: Vec<u8>) -> wasmtime::Result<Result<(), SendError>> {
        self.host_call()?;
        let Some(to) = to
            .parse::<DeviceId>()
            .ok()
            .filter(|to| self.view.has_peer(to))
        else {
            return Ok(Err(SendError::UnknownPeer));
        };
        Ok(self.send_checked(payload, |payload| PluginCommand::Send { to, payload }))
    }

    fn send_to_all(&mut self, payload: Vec<u8>) -> wasmtime::Result<Result<(), SendError>> {
        self.host_call()?;
        Ok(self.send_checked(payload, PluginCommand::SendToAll))
    }
}

impl Guest {
    fn send_checked(
        &mut self,
        payload: Vec<u8>,
        command: impl FnOnce(Bytes) -> PluginCommand,
    ) -> Result<(), SendError> {
        self.checked(&payload)?;
        let now = self.clock.group_time();
        let pushed = self.outbox.push(now, payload.into(), command);
        pushed.map_err(|full| self.busy(full))
    }

    fn checked(&mut self, payload: &[u8]) -> Result<(), SendError> {
        let bytes = payload.len();
        if bytes <= MAX_PAYLOAD {
            return Ok(());
        }
        let why = || format!("a message of {bytes} bytes; {MAX_PAYLOAD} are allowed");
        self.refusals.note(Asked::Messages, why);
        Err(SendError::TooLarge(MAX_PAYLOAD as u32))
    }

    fn busy(&mut self, why: impl Display) -> SendError {
        self.refusals.note(Asked::Messages, || why.to_string());
        SendError::Busy
    }
}
