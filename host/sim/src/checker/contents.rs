//! Messages of real plugins, whose payloads carry no number of the simulator's.
//!
//! What can be told of them is how often: nobody gets a content more often than it was sent to him,
//! from whom it says, in his group. Two messages of one content are not told apart.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use consort_proto::{DeviceId, GroupKey, PluginCommand};

use super::{Place, ensure};
use crate::app::{App, payload};

/// A content of one sender in one group.
type Content = (Option<[u8; 16]>, GroupKey, DeviceId, u64);

/// How often a content was sent, by whom it is for.
#[derive(Debug, Default)]
struct Sent {
    broadcast: u64,
    to_all: u64,
    to_leader: u64,
    to: BTreeMap<DeviceId, u64>,
}

/// All contents of a run.
#[derive(Debug, Default)]
pub(super) struct Contents {
    sent: BTreeMap<Content, Sent>,
    delivered: BTreeMap<(Content, usize, bool), u64>,
    /// Deliveries due and made.
    pub(super) due: u64,
    pub(super) made: u64,
}

impl Contents {
    pub(super) fn sent(&mut self, place: &Place<'_>, app: &App, command: &PluginCommand) {
        let content = content(place, app, place.device, payload(command));
        let everyone = app.view.peers.len() as u64;
        let sent = self.sent.entry(content).or_default();
        self.due += match command {
            PluginCommand::Broadcast(_) => {
                sent.broadcast += 1;
                everyone
            }
            PluginCommand::SendToAll(_) => {
                sent.to_all += 1;
                everyone
            }
            PluginCommand::SendToLeader(_) => {
                sent.to_leader += 1;
                1
            }
            PluginCommand::Send { to, .. } => {
                *sent.to.entry(*to).or_default() += 1;
                1
            }
            PluginCommand::Write(_) => 0,
        };
    }

    /// A message that says it is of `from` arrives.
    pub(super) fn delivered(
        &mut self,
        place: &Place<'_>,
        app: &App,
        from: DeviceId,
        bytes: &[u8],
        broadcast: bool,
    ) -> Result<(), String> {
        let content = content(place, app, from, bytes);
        let what = || {
            let kind = if broadcast { "broadcast" } else { "message" };
            format!(
                "a {kind} of {} bytes that says it is of {from:?}",
                bytes.len()
            )
        };
        let sent = self.sent.get(&content);
        let sent = sent.ok_or_else(|| format!("{} was never sent", what()))?;
        let to_me = sent.to.get(&place.device).copied().unwrap_or(0);
        let times = if broadcast {
            sent.broadcast
        } else {
            sent.to_all + sent.to_leader + to_me
        };
        let delivered = self
            .delivered
            .entry((content, place.node, broadcast))
            .or_default();
        *delivered += 1;
        self.made += 1;
        ensure(*delivered <= times, || {
            format!("{} arrives {delivered} times, sent {times} times", what())
        })
    }
}

fn content(place: &Place<'_>, app: &App, from: DeviceId, bytes: &[u8]) -> Content {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let group = (place.group.copied(), app.spec.group());
    (group.0, group.1, from, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{app, device, place};
    use super::*;

    /// Device 8 broadcasts "b" once, sends "a" to all twice, and "o" to device 7 once.
    fn contents() -> Contents {
        let mut contents = Contents::default();
        let send = |payload: &'static [u8]| PluginCommand::SendToAll(payload.into());
        for command in [
            PluginCommand::Broadcast(b"b".as_slice().into()),
            send(b"a"),
            send(b"a"),
            PluginCommand::Send {
                to: device(7),
                payload: b"o".as_slice().into(),
            },
        ] {
            contents.sent(&place(8), &app(), &command);
        }
        contents
    }

    #[test]
    fn nobody_gets_a_content_more_often_than_it_was_sent_to_him() {
        let mut contents = contents();
        let mut get = |to: u8, bytes: &[u8], broadcast: bool| {
            contents.delivered(&place(to), &app(), device(8), bytes, broadcast)
        };
        assert_eq!(get(7, b"b", true), Ok(()));
        assert_eq!(get(9, b"b", true), Ok(()), "each once");
        assert!(get(7, b"b", true).is_err(), "a second time");
        assert!(get(7, b"b", false).is_err(), "it was a broadcast");
        assert_eq!(get(7, b"a", false), Ok(()));
        assert_eq!(get(7, b"a", false), Ok(()), "it was sent twice");
        assert!(get(7, b"a", false).is_err(), "a third time");
        assert_eq!(get(7, b"o", false), Ok(()));
        assert!(get(9, b"o", false).is_err(), "it was for another");
        assert!(get(7, b"x", false).is_err(), "never sent");
    }

    #[test]
    fn a_content_stays_in_its_group_and_has_its_sender() {
        let mut contents = contents();
        let stranger = Place {
            group: Some(&[2; 16]),
            ..place(7)
        };
        let heard = contents.delivered(&stranger, &app(), device(8), b"a", false);
        assert!(heard.is_err(), "another group");
        let heard = contents.delivered(&place(7), &app(), device(9), b"a", false);
        assert!(heard.is_err(), "another sender");
    }
}
