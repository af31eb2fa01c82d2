//! Peers and roles come in brackets: a peer is added before it leads and removed after its
//! demotion, every promotion is ended by one demotion of its kind, and terms never go down.
//!
//! A device that led in a term leads in a higher one the next time, over restarts too: that is
//! what the persisted ceiling of epochs is for. The ceiling is written in the background, so a crash
//! that loses a write voids this promise for that device, and no other.

use std::collections::BTreeMap;

use consort_proto::{Leadership, Peer, PluginEvent, PluginId};

use super::{Checker, Observation, Place, ensure};
use crate::app::{App, AppRole, AppState};

#[derive(Debug, Default)]
pub(crate) struct Brackets {
    /// The largest term a plugin's present instance was told.
    told: BTreeMap<(usize, PluginId), u64>,
    /// The largest term in which a device led.
    led: BTreeMap<(usize, PluginId), u64>,
}

impl Checker for Brackets {
    fn observe(&mut self, place: &Place<'_>, seen: &Observation<'_>) -> Result<(), String> {
        match seen {
            Observation::Started => {
                self.told.retain(|(node, _), _| *node != place.node);
                Ok(())
            }
            Observation::WritesLost => {
                self.led.retain(|(node, _), _| *node != place.node);
                Ok(())
            }
            Observation::PluginStarted { plugin } => {
                self.told.remove(&(place.node, (*plugin).clone()));
                Ok(())
            }
            Observation::Told { app, event } => self.told(place, app, event),
            Observation::Sent { .. }
            | Observation::MemberAdded(_)
            | Observation::MemberRemoved(_) => Ok(()),
        }
    }
}

impl Brackets {
    fn told(&mut self, place: &Place<'_>, app: &App, event: &PluginEvent) -> Result<(), String> {
        match event {
            PluginEvent::PeerAdded(peer) => added(place, app, peer),
            PluginEvent::PeerUpdated(peer) => known(app, peer, "is updated"),
            PluginEvent::PeerRemoved(peer) => removed(place, app, peer),
            PluginEvent::PromoteLeader(tenure) => {
                let own = tenure.leader.device == place.device && tenure.leader.is_self;
                ensure(own, || {
                    format!("promoted to leader in the name of {tenure:?}")
                })?;
                self.promoted(place, app, tenure)?;
                self.leads(place, app, tenure.term)
            }
            PluginEvent::PromoteFollower(tenure) => {
                let other = tenure.leader.device != place.device && !tenure.leader.is_self;
                ensure(other, || format!("told to follow itself in {tenure:?}"))?;
                self.promoted(place, app, tenure)
            }
            PluginEvent::DemoteLeader => demoted(app, matches!(app.view.role, AppRole::Leader(_))),
            PluginEvent::DemoteFollower => {
                demoted(app, matches!(app.view.role, AppRole::Follower(_)))
            }
            PluginEvent::TermChanged { term } => self.term_changed(place, app, *term),
            PluginEvent::BroadcastsHeld(_) => {
                let leads = matches!(app.view.role, AppRole::Leader(_));
                ensure(leads, || {
                    "broadcasts are held or freed at one who does not lead".into()
                })
            }
            PluginEvent::LeaderMessage { .. }
            | PluginEvent::PeerMessage { .. }
            | PluginEvent::State(_)
            | PluginEvent::Joined(_)
            | PluginEvent::WritesSuperseded(_) => Ok(()),
        }
    }

    fn promoted(
        &mut self,
        place: &Place<'_>,
        app: &App,
        tenure: &Leadership,
    ) -> Result<(), String> {
        ensure(app.state != AppState::Down, || {
            "a plugin that is down is promoted".into()
        })?;
        ensure(app.view.role == AppRole::None, || {
            format!("promoted in {tenure:?} while still in {:?}", app.view.role)
        })?;
        known(app, &tenure.leader, "leads")?;
        self.raise(place, app, tenure.term)
    }

    fn term_changed(&mut self, place: &Place<'_>, app: &App, term: u64) -> Result<(), String> {
        let Some(tenure) = app.view.role.tenure() else {
            return Err(format!("the term changes to {term} in no tenure"));
        };
        ensure(term > tenure.term, || {
            format!("the term changes from {} to {term}", tenure.term)
        })?;
        self.raise(place, app, term)?;
        match app.view.role {
            AppRole::Leader(_) => self.leads(place, app, term),
            AppRole::None | AppRole::Follower(_) => Ok(()),
        }
    }

    /// Terms never go down at a plugin.
    fn raise(&mut self, place: &Place<'_>, app: &App, term: u64) -> Result<(), String> {
        let last = self
            .told
            .entry((place.node, app.spec.id.clone()))
            .or_insert(0);
        ensure(term >= *last, || {
            format!("told of term {term} after term {last}")
        })?;
        *last = term;
        Ok(())
    }

    /// No device leads twice in one term.
    fn leads(&mut self, place: &Place<'_>, app: &App, term: u64) -> Result<(), String> {
        let last = self
            .led
            .entry((place.node, app.spec.id.clone()))
            .or_insert(0);
        ensure(term > *last, || {
            format!("leads in term {term}, having led in term {last}")
        })?;
        *last = term;
        Ok(())
    }
}

fn added(place: &Place<'_>, app: &App, peer: &Peer) -> Result<(), String> {
    let known = app.view.peers.contains_key(&peer.device);
    ensure(!known, || format!("{peer:?} is added twice"))?;
    let own = peer.device == place.device;
    ensure(own == peer.is_self, || {
        format!("{peer:?} is taken for another")
    })?;
    ensure(own || app.view.peers.contains_key(&place.device), || {
        format!("{peer:?} is added before the device itself")
    })
}

fn removed(place: &Place<'_>, app: &App, peer: &Peer) -> Result<(), String> {
    known(app, peer, "is removed")?;
    let leads = app
        .view
        .leader()
        .is_some_and(|(leader, _)| leader == peer.device);
    ensure(!leads, || format!("{peer:?} is removed while it leads"))?;
    let ending = app.view.peers.len() == 1 && app.view.leader().is_none();
    ensure(ending || peer.device != place.device, || {
        "the device itself is removed before the others".into()
    })
}

fn known(app: &App, peer: &Peer, what: &str) -> Result<(), String> {
    ensure(app.view.peers.contains_key(&peer.device), || {
        format!("{peer:?} {what} but is no peer")
    })
}

fn demoted(app: &App, fits: bool) -> Result<(), String> {
    ensure(fits, || {
        format!("a demotion that does not fit {:?}", app.view.role)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{app, peer, place, tell, tenure};
    use super::*;
    use PluginEvent::{
        BroadcastsHeld, DemoteFollower, DemoteLeader, PeerAdded, PeerRemoved, PromoteFollower,
        PromoteLeader, TermChanged,
    };

    fn told(events: &[PluginEvent]) -> Result<(), String> {
        tell(&mut Brackets::default(), &mut app(), events)
    }

    #[test]
    fn a_proper_life_passes() {
        let life = [
            PeerAdded(peer(7)),
            PromoteLeader(tenure(7, 1)),
            PeerAdded(peer(8)),
            BroadcastsHeld(true),
            DemoteLeader,
            PromoteFollower(tenure(8, 1)),
            TermChanged { term: 3 },
            DemoteFollower,
            PeerRemoved(peer(8)),
            PromoteLeader(tenure(7, 4)),
        ];
        assert_eq!(told(&life), Ok(()));
    }

    #[test]
    fn broken_brackets_are_found() {
        let own = || PeerAdded(peer(7));
        let wrong: [(&[PluginEvent], &str); 13] = [
            (&[PeerAdded(peer(8))], "before the device itself"),
            (&[own(), own()], "added twice"),
            (&[own(), PeerRemoved(peer(8))], "no peer"),
            (
                &[own(), PeerAdded(peer(8)), PeerRemoved(peer(7))],
                "itself is removed",
            ),
            (&[own(), PromoteFollower(tenure(8, 1))], "no peer"),
            (&[own(), PromoteFollower(tenure(7, 1))], "follow itself"),
            (
                &[own(), PeerAdded(peer(8)), PromoteLeader(tenure(8, 1))],
                "in the name of",
            ),
            (
                &[
                    own(),
                    PromoteLeader(tenure(7, 1)),
                    PromoteLeader(tenure(7, 2)),
                ],
                "still in",
            ),
            (
                &[own(), PromoteLeader(tenure(7, 1)), DemoteFollower],
                "does not fit",
            ),
            (&[own(), DemoteLeader], "does not fit"),
            (
                &[own(), PromoteLeader(tenure(7, 5)), TermChanged { term: 5 }],
                "changes from 5",
            ),
            (&[own(), TermChanged { term: 5 }], "in no tenure"),
            (&[own(), BroadcastsHeld(true)], "does not lead"),
        ];
        for (events, expected) in wrong {
            let problem = told(events).expect_err(expected);
            assert!(problem.contains(expected), "{problem:?} lacks {expected:?}");
        }
    }

    #[test]
    fn terms_never_go_down_and_no_term_is_led_twice() {
        let (own, other) = (PeerAdded(peer(7)), PeerAdded(peer(8)));
        let follows = [
            own.clone(),
            other,
            PromoteFollower(tenure(8, 5)),
            DemoteFollower,
        ];
        let lower = [&follows[..], &[PromoteLeader(tenure(7, 4))]].concat();
        assert_eq!(told(&lower), Err("told of term 4 after term 5".into()));
        let mut checker = Brackets::default();
        let first = [own, PromoteLeader(tenure(7, 5))];
        assert_eq!(tell(&mut checker, &mut app(), &first), Ok(()));
        checker
            .observe(&place(7), &Observation::Started)
            .expect("starts are fine");
        let again = tell(&mut checker, &mut app(), &first);
        assert_eq!(again, Err("leads in term 5, having led in term 5".into()));
    }

    #[test]
    fn a_leader_is_removed_only_after_its_demotion() {
        let events = [
            PeerAdded(peer(7)),
            PeerAdded(peer(8)),
            PromoteFollower(tenure(8, 1)),
            PeerRemoved(peer(8)),
        ];
        assert!(told(&events).is_err_and(|problem| problem.contains("while it leads")));
    }
}
