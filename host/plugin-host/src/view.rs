//! A plugin's view of its group: a fold over its events.
//!
//! Invariant: a view depends on the events applied to it and on nothing else, so every read that a
//! plugin makes is answered without asking anyone, and the same events give the same answers. What
//! contradicts the view (a peer added twice, a demotion without a promotion) changes nothing that
//! a plugin sees and causes no callback, so that the order of callbacks holds whatever comes in.

use std::collections::BTreeMap;

use consort_proto::{DeviceId, Leadership, Peer, PluginEvent, StateConfig, StateView};

/// What a plugin knows of its group.
#[derive(Clone, Debug)]
pub struct View {
    this_device: Peer,
    peers: BTreeMap<DeviceId, Peer>,
    tenure: Option<Tenure>,
    broadcasts_held: bool,
    state: StateView,
}

/// This device's part in the tenure under way.
#[derive(Clone, Debug)]
enum Tenure {
    Leading(Leadership),
    Following(Leadership),
}

/// What applying an event asks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The plugin is to be called.
    Callback,
    /// The view changed, or there was nothing to change.
    Silent,
    /// The event contradicts the view and was ignored.
    Contradiction,
}

impl View {
    /// The view before any event: nobody is in the group, nobody leads.
    #[must_use]
    pub fn new(this_device: Peer) -> Self {
        Self {
            state: StateView::new(this_device.device, StateConfig::default()),
            this_device,
            peers: BTreeMap::new(),
            tenure: None,
            broadcasts_held: false,
        }
    }

    /// This device.
    #[must_use]
    pub fn this_device(&self) -> &Peer {
        &self.this_device
    }

    /// Every member, ordered by device id.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether `device` is a member.
    #[must_use]
    pub fn has_peer(&self, device: &DeviceId) -> bool {
        self.peers.contains_key(device)
    }

    /// The tenure under way.
    #[must_use]
    pub fn leadership(&self) -> Option<&Leadership> {
        match self.tenure.as_ref()? {
            Tenure::Leading(leadership) | Tenure::Following(leadership) => Some(leadership),
        }
    }

    /// Whether this device leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.tenure, Some(Tenure::Leading(_)))
    }

    /// Whether broadcasts are refused for now.
    #[must_use]
    pub fn broadcasts_held(&self) -> bool {
        self.broadcasts_held
    }

    /// The group's state, with this plugin's own writes laid over it.
    #[must_use]
    pub fn state(&self) -> &StateView {
        &self.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut StateView {
        &mut self.state
    }

    /// The demotion that ends the tenure under way, if there is one.
    #[must_use]
    pub fn demotion(&self) -> Option<PluginEvent> {
        Some(match self.tenure.as_ref()? {
            Tenure::Leading(_) => PluginEvent::DemoteLeader,
            Tenure::Following(_) => PluginEvent::DemoteFollower,
        })
    }

    /// The events that bring a new instance from the empty view to this one: peers, then the role.
    /// The group's state is no part of them: an instance has it from the start.
    #[must_use]
    pub fn replay(&self) -> Vec<PluginEvent> {
        let mut events: Vec<_> = self
            .peers
            .values()
            .cloned()
            .map(PluginEvent::PeerAdded)
            .collect();
        match &self.tenure {
            Some(Tenure::Leading(leadership)) => {
                events.push(PluginEvent::PromoteLeader(leadership.clone()));
            }
            Some(Tenure::Following(leadership)) => {
                events.push(PluginEvent::PromoteFollower(leadership.clone()));
            }
            None => {}
        }
        if self.broadcasts_held {
            events.push(PluginEvent::BroadcastsHeld(true));
        }
        events
    }

    /// Folds one event in.
    pub(crate) fn apply(&mut self, event: &PluginEvent) -> Effect {
        match event {
            PluginEvent::PeerAdded(peer) => self.add(peer),
            PluginEvent::PeerUpdated(peer) => self.update(peer),
            PluginEvent::PeerRemoved(peer) => match self.peers.remove(&peer.device) {
                Some(_) => Effect::Callback,
                None => Effect::Contradiction,
            },
            PluginEvent::PromoteLeader(leadership) => {
                self.promote(Tenure::Leading(leadership.clone()))
            }
            PluginEvent::PromoteFollower(leadership) => {
                self.promote(Tenure::Following(leadership.clone()))
            }
            PluginEvent::DemoteLeader => self.demote(self.is_leader()),
            PluginEvent::DemoteFollower => {
                self.demote(matches!(self.tenure, Some(Tenure::Following(_))))
            }
            PluginEvent::TermChanged { term } => self.change_term(*term),
            PluginEvent::BroadcastsHeld(held) => {
                self.broadcasts_held = *held;
                Effect::Silent
            }
            PluginEvent::Joined(_) => Effect::Silent,
            PluginEvent::LeaderMessage { .. } | PluginEvent::PeerMessage { .. } => Effect::Callback,
            PluginEvent::State(update) => {
                self.state.apply(update);
                let news = !update.whole && update.changes.iter().any(|change| !change.own);
                if news {
                    Effect::Callback
                } else {
                    Effect::Silent
                }
            }
            PluginEvent::WritesSuperseded(keys) if keys.is_empty() => Effect::Silent,
            PluginEvent::WritesSuperseded(_) => Effect::Callback,
        }
    }

    fn add(&mut self, peer: &Peer) -> Effect {
        if self.peers.contains_key(&peer.device) {
            return self.update(peer);
        }
        if peer.is_self {
            self.this_device = peer.clone();
        }
        self.peers.insert(peer.device, peer.clone());
        Effect::Callback
    }

    fn update(&mut self, peer: &Peer) -> Effect {
        let Some(known) = self.peers.get_mut(&peer.device) else {
            return Effect::Contradiction;
        };
        known.clone_from(peer);
        if peer.is_self {
            self.this_device = peer.clone();
        }
        match &mut self.tenure {
            Some(Tenure::Leading(leadership) | Tenure::Following(leadership))
                if leadership.leader.device == peer.device =>
            {
                leadership.leader = peer.clone();
            }
            Some(_) | None => {}
        }
        Effect::Silent
    }

    fn promote(&mut self, tenure: Tenure) -> Effect {
        if self.tenure.is_some() {
            return Effect::Contradiction;
        }
        self.tenure = Some(tenure);
        Effect::Callback
    }

    fn demote(&mut self, fits: bool) -> Effect {
        if !fits {
            return Effect::Contradiction;
        }
        self.tenure = None;
        self.broadcasts_held = false;
        Effect::Callback
    }

    fn change_term(&mut self, new_term: u64) -> Effect {
        match &mut self.tenure {
            Some(Tenure::Leading(leadership) | Tenure::Following(leadership)) => {
                leadership.term = new_term;
                Effect::Silent
            }
            None => Effect::Contradiction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8, is_self: bool) -> Peer {
        let key = consort_proto::PublicKey::new([byte; 32]).expect("no point of low order");
        Peer {
            device: key.device_id(),
            name: format!("device-{byte}"),
            address: "127.0.0.1".into(),
            is_self,
            clock_delta: 0,
            round_trip: 0,
        }
    }

    #[test]
    fn a_replay_gives_the_same_view() {
        let leadership = Leadership {
            leader: peer(2, false),
            term: 4,
        };
        let mut view = View::new(peer(1, true));
        for event in [
            PluginEvent::PeerAdded(peer(1, true)),
            PluginEvent::PeerAdded(peer(2, false)),
            PluginEvent::PromoteFollower(leadership),
            PluginEvent::TermChanged { term: 6 },
        ] {
            assert_ne!(view.apply(&event), Effect::Contradiction, "{event:?}");
        }
        let mut second = View::new(peer(1, true));
        for event in view.replay() {
            assert_eq!(second.apply(&event), Effect::Callback, "{event:?}");
        }
        assert_eq!(second.replay(), view.replay());
        assert_eq!(second.leadership().map(|l| l.term), Some(6));
    }

    #[test]
    fn contradictions_cause_no_callback() {
        let mut view = View::new(peer(1, true));
        assert_eq!(
            view.apply(&PluginEvent::DemoteLeader),
            Effect::Contradiction
        );
        assert_eq!(
            view.apply(&PluginEvent::PeerRemoved(peer(2, false))),
            Effect::Contradiction
        );
        assert_eq!(
            view.apply(&PluginEvent::PeerAdded(peer(1, true))),
            Effect::Callback
        );
        assert_eq!(
            view.apply(&PluginEvent::PeerAdded(peer(1, true))),
            Effect::Silent
        );
        let leadership = Leadership {
            leader: peer(1, true),
            term: 1,
        };
        let promotion = PluginEvent::PromoteLeader(leadership);
        assert_eq!(view.apply(&promotion), Effect::Callback);
        assert_eq!(view.apply(&promotion), Effect::Contradiction);
        assert_eq!(
            view.apply(&PluginEvent::DemoteFollower),
            Effect::Contradiction
        );
        assert!(view.is_leader());
    }

    #[test]
    fn an_updated_leader_is_seen_in_the_leadership() {
        let mut view = View::new(peer(1, true));
        view.apply(&PluginEvent::PeerAdded(peer(2, false)));
        view.apply(&PluginEvent::PromoteFollower(Leadership {
            leader: peer(2, false),
            term: 1,
        }));
        let moved = Peer {
            address: "10.0.0.2".into(),
            ..peer(2, false)
        };
        assert_eq!(view.apply(&PluginEvent::PeerUpdated(moved)), Effect::Silent);
        assert_eq!(
            view.leadership().map(|l| l.leader.address.as_str()),
            Some("10.0.0.2")
        );
    }
}
