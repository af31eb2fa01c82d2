use crate::bindings::consort::plugin::local;
use crate::guest::Guest;
use crate::local::{self as bounds, LocalMessage};
use crate::refusals::Asked;

impl local::Host for Guest {
    /// The contract's function has no result: what is not published is counted, and the host's log
    /// says why.
    fn publish(&mut self, topic: String, payload: Vec<u8>, retain: bool) -> wasmtime::Result<()> {
        self.host_call()?;
        let now = self.clock.group_time();
        let refused = match bounds::check(&topic, &payload) {
            _ if !self.local.held => Some(
                "nothing is published: the plugin does not have the capability `local`".to_owned(),
            ),
            Err(wrong) => Some(format!("a message for local programs is dropped: {wrong}")),
            Ok(()) if !self.local.take(now, payload.len()) => Some(
                "a message for local programs is dropped: the quota of messages is used up"
                    .to_owned(),
            ),
            Ok(()) => None,
        };
        match refused {
            Some(why) => self.refusals.note(Asked::Publishes, || why),
            None => self.local.push(LocalMessage {
                topic,
                payload: payload.into(),
                retain,
            }),
        }
        Ok(())
    }
}
