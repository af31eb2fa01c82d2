//! Messages arrive at most once, whole, at whom they are for, from whom they say, and a broadcast
//! only in the tenure that the receiver was told of.

use std::collections::BTreeMap;

use consort_proto::{DeviceId, GroupKey, Leadership, Peer, PluginCommand, PluginEvent, Time};

use super::contents::Contents;
use super::{Checker, Observation, Place, ensure};
use crate::app::{App, AppState, payload};
use crate::message;
use crate::summary::Deliveries;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Broadcast { term: u64 },
    One(DeviceId),
    All,
}

/// What became of one message.
#[derive(Clone, Debug)]
pub struct MessageReport {
    /// When it was sent.
    pub sent: Time,
    /// Who got it, and when.
    pub delivered: BTreeMap<usize, Time>,
    /// The receivers that its sender knew.
    due: u64,
    from: DeviceId,
    group: (Option<[u8; 16]>, GroupKey),
    way: Way,
}

#[derive(Debug, Default)]
pub(crate) struct Delivery {
    messages: BTreeMap<u64, MessageReport>,
    repeated: u64,
    /// Those of plugins whose own code runs.
    contents: Contents,
}

impl Delivery {
    pub(crate) fn report(&self, number: u64) -> Option<&MessageReport> {
        self.messages.get(&number)
    }

    /// What became of all messages.
    pub(crate) fn totals(&self) -> Deliveries {
        let mut totals = Deliveries {
            repeated: self.repeated,
            ..Deliveries::default()
        };
        for report in self.messages.values() {
            let made = report.delivered.len() as u64;
            totals.due += report.due;
            totals.made += made;
            totals.lost += report.due.saturating_sub(made);
        }
        totals.due += self.contents.due;
        totals.made += self.contents.made;
        totals.lost += self.contents.due.saturating_sub(self.contents.made);
        totals
    }

    fn sent(
        &mut self,
        place: &Place<'_>,
        app: &App,
        command: &PluginCommand,
    ) -> Result<(), String> {
        if matches!(command, PluginCommand::Write(_)) {
            return Ok(());
        }
        if app.hosted {
            self.contents.sent(place, app, command);
            return Ok(());
        }
        let number = message::number(payload(command))
            .ok_or("the scenario sends a payload that carries no number: use Sim::payload")?;
        let leader = app.view.leader();
        let way = match command {
            PluginCommand::Broadcast(_) => Way::Broadcast {
                term: leader.ok_or("a broadcast in no tenure")?.1,
            },
            PluginCommand::SendToLeader(_) => Way::One(leader.ok_or("nobody leads")?.0),
            PluginCommand::Send { to, .. } => Way::One(*to),
            PluginCommand::SendToAll(_) => Way::All,
            PluginCommand::Write(_) => return Ok(()),
        };
        let report = MessageReport {
            sent: place.now,
            delivered: BTreeMap::new(),
            due: match command {
                PluginCommand::Broadcast(_) | PluginCommand::SendToAll(_) => {
                    app.view.peers.len() as u64
                }
                PluginCommand::SendToLeader(_) | PluginCommand::Send { .. } => 1,
                PluginCommand::Write(_) => 0,
            },
            from: place.device,
            group: (place.group.copied(), app.spec.group()),
            way,
        };
        let fresh = self.messages.insert(number, report).is_none();
        ensure(fresh, || {
            format!("the scenario sends message {number} twice")
        })
    }

    fn delivered(
        &mut self,
        place: &Place<'_>,
        app: &App,
        bytes: &[u8],
    ) -> Result<(u64, &MessageReport), String> {
        ensure(app.state != AppState::Down, || {
            "a plugin that is down gets a message".into()
        })?;
        let number = message::number(bytes)
            .ok_or_else(|| format!("a payload of {} bytes that nobody sent", bytes.len()))?;
        let report = self
            .messages
            .get_mut(&number)
            .ok_or_else(|| format!("message {number} arrives but was never sent"))?;
        if let Some(before) = report.delivered.insert(place.node, place.now) {
            self.repeated += 1;
            return Err(format!("message {number} arrives again, after {before}"));
        }
        ensure(
            report.group == (place.group.copied(), app.spec.group()),
            || format!("message {number} arrives outside its group"),
        )?;
        ensure(place.group.is_some() || report.from == place.device, || {
            format!("message {number} leaves a group of one")
        })?;
        Ok((number, report))
    }

    fn broadcast(
        &mut self,
        place: &Place<'_>,
        app: &App,
        tenure: &Leadership,
        bytes: &[u8],
    ) -> Result<(), String> {
        let said = (tenure.leader.device, tenure.term);
        let told = app.view.leader();
        if app.hosted {
            let from = tenure.leader.device;
            let heard = self.contents.delivered(place, app, from, bytes, true);
            heard?;
            return ensure(told == Some(said), || {
                format!("a broadcast of {said:?} arrives where {told:?} was told")
            });
        }
        let (number, report) = self.delivered(place, app, bytes)?;
        let Way::Broadcast { term } = report.way else {
            return Err(format!(
                "message {number} was no broadcast but arrives as one"
            ));
        };
        ensure(said == (report.from, term), || {
            format!(
                "broadcast {number} of {:?} in term {term} says it is of {said:?}",
                report.from
            )
        })?;
        ensure(told == Some(said), || {
            format!("broadcast {number} of {said:?} arrives where {told:?} was told")
        })
    }

    fn single(
        &mut self,
        place: &Place<'_>,
        app: &App,
        sender: &Peer,
        bytes: &[u8],
    ) -> Result<(), String> {
        if app.hosted {
            let from = sender.device;
            let heard = self.contents.delivered(place, app, from, bytes, false);
            heard?;
            return ensure(app.view.peers.contains_key(&from), || {
                format!("a message comes from {sender:?}, who is no peer")
            });
        }
        let (number, report) = self.delivered(place, app, bytes)?;
        let fits = match report.way {
            Way::Broadcast { .. } => false,
            Way::One(to) => to == place.device,
            Way::All => true,
        };
        ensure(fits, || {
            format!("message {number} ({:?}) arrives at another", report.way)
        })?;
        ensure(sender.device == report.from, || {
            format!(
                "message {number} of {:?} says it is of {sender:?}",
                report.from
            )
        })?;
        ensure(app.view.peers.contains_key(&sender.device), || {
            format!("message {number} comes from {sender:?}, who is no peer")
        })
    }
}

impl Checker for Delivery {
    fn observe(&mut self, place: &Place<'_>, seen: &Observation<'_>) -> Result<(), String> {
        match seen {
            Observation::Sent { app, command } => self.sent(place, app, command),
            Observation::Told {
                app,
                event: PluginEvent::LeaderMessage { sender, payload },
            } => self.broadcast(place, app, sender, payload),
            Observation::Told {
                app,
                event: PluginEvent::PeerMessage { sender, payload },
            } => self.single(place, app, sender, payload),
            Observation::Told { .. }
            | Observation::Started
            | Observation::PluginStarted { .. }
            | Observation::WritesLost
            | Observation::MemberAdded(_)
            | Observation::MemberRemoved(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{app, device, message, peer, place, tell, tenure};
    use super::*;
    use PluginEvent::{
        LeaderMessage, PeerAdded, PeerMessage, PromoteFollower, PromoteLeader, TermChanged,
    };

    /// Device 8 leads in term 3 and broadcasts 1, sends 2 to device 7, 3 to device 9, 4 to all.
    fn checker() -> Delivery {
        let mut checker = Delivery::default();
        let mut leader = app();
        leader.record(Time::ZERO, PromoteLeader(tenure(8, 3)));
        let commands = [
            PluginCommand::Broadcast(message(1)),
            PluginCommand::Send {
                to: device(7),
                payload: message(2),
            },
            PluginCommand::Send {
                to: device(9),
                payload: message(3),
            },
            PluginCommand::SendToAll(message(4)),
        ];
        for command in &commands {
            let seen = Observation::Sent {
                app: &leader,
                command,
            };
            checker.observe(&place(8), &seen).expect("all are in order");
        }
        checker
    }

    fn follower(term: u64) -> Vec<PluginEvent> {
        vec![
            PeerAdded(peer(7)),
            PeerAdded(peer(8)),
            PromoteFollower(tenure(8, term)),
        ]
    }

    fn heard(term: u64, events: &[PluginEvent]) -> Result<(), String> {
        tell(
            &mut checker(),
            &mut app(),
            &[follower(term), events.to_vec()].concat(),
        )
    }

    fn broadcast(byte: u8, term: u64, number: u64) -> PluginEvent {
        LeaderMessage {
            sender: tenure(byte, term),
            payload: message(number),
        }
    }

    fn from_peer(byte: u8, number: u64) -> PluginEvent {
        PeerMessage {
            sender: peer(byte),
            payload: message(number),
        }
    }

    #[test]
    fn proper_messages_pass() {
        assert_eq!(
            heard(3, &[broadcast(8, 3, 1), from_peer(8, 2), from_peer(8, 4)]),
            Ok(())
        );
    }

    #[test]
    fn wrong_deliveries_are_found() {
        let garbled = PeerMessage {
            sender: peer(8),
            payload: b"garbled".as_slice().into(),
        };
        let wrong: [(u64, &[PluginEvent], &str); 10] = [
            (3, &[broadcast(8, 3, 1), broadcast(8, 3, 1)], "again"),
            (3, &[from_peer(8, 2), from_peer(8, 2)], "again"),
            (3, &[broadcast(8, 4, 1)], "says it is of"),
            (3, &[broadcast(8, 3, 2)], "was no broadcast"),
            (
                3,
                &[TermChanged { term: 4 }, broadcast(8, 3, 1)],
                "was told",
            ),
            (2, &[broadcast(8, 3, 1)], "was told"),
            (3, &[from_peer(8, 1)], "at another"),
            (3, &[from_peer(8, 3)], "at another"),
            (3, &[from_peer(7, 2)], "says it is of"),
            (3, &[garbled], "nobody sent"),
        ];
        for (term, events, expected) in wrong {
            let problem = heard(term, events).expect_err(expected);
            assert!(problem.contains(expected), "{problem:?} lacks {expected:?}");
        }
        let problem = heard(3, &[from_peer(8, 99)]).expect_err("never sent");
        assert!(problem.contains("never sent"), "{problem}");
    }

    #[test]
    fn messages_stay_in_their_group() {
        let stranger = Place {
            group: Some(&[2; 16]),
            ..place(7)
        };
        let event = from_peer(8, 4);
        let seen = Observation::Told {
            app: &app(),
            event: &event,
        };
        let problem = checker()
            .observe(&stranger, &seen)
            .expect_err("another group");
        assert!(problem.contains("outside its group"), "{problem}");
    }
}
