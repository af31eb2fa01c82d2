//! A plugin as the simulator plays it: it records what it is told and does what the scenario says.
//!
//! Its [`View`] is the fold over its events, which is all that a real plugin knows of its group.

use std::collections::{BTreeMap, VecDeque};

use consort_proto::{
    DeviceId, Leadership, Peer, PluginCommand, PluginEvent, PluginSpec, QuotaMeter, SendQuota, Time,
};

/// What a plugin knows of its group.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The members it was told of, itself included.
    pub peers: BTreeMap<DeviceId, Peer>,
    /// Its role.
    pub role: AppRole,
    /// Whether its broadcasts are refused for the time being.
    pub held: bool,
}

/// The role a plugin was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AppRole {
    /// Between two tenures, or before the first.
    #[default]
    None,
    /// It leads.
    Leader(Leadership),
    /// Another device leads.
    Follower(Leadership),
}

impl AppRole {
    /// The tenure in force, if any.
    #[must_use]
    pub const fn tenure(&self) -> Option<&Leadership> {
        match self {
            Self::None => None,
            Self::Leader(tenure) | Self::Follower(tenure) => Some(tenure),
        }
    }
}

impl View {
    /// Who leads and in which term.
    #[must_use]
    pub fn leader(&self) -> Option<(DeviceId, u64)> {
        self.role
            .tenure()
            .map(|tenure| (tenure.leader.device, tenure.term))
    }

    /// Takes in one event.
    pub(crate) fn apply(&mut self, event: &PluginEvent) {
        match event {
            PluginEvent::PeerAdded(peer) | PluginEvent::PeerUpdated(peer) => {
                self.peers.insert(peer.device, peer.clone());
            }
            PluginEvent::PeerRemoved(peer) => {
                self.peers.remove(&peer.device);
            }
            PluginEvent::PromoteLeader(tenure) => self.role = AppRole::Leader(tenure.clone()),
            PluginEvent::PromoteFollower(tenure) => self.role = AppRole::Follower(tenure.clone()),
            PluginEvent::DemoteLeader | PluginEvent::DemoteFollower => {
                self.role = AppRole::None;
                self.held = false;
            }
            PluginEvent::TermChanged { term } => {
                if let AppRole::Leader(tenure) | AppRole::Follower(tenure) = &mut self.role {
                    tenure.term = *term;
                }
            }
            PluginEvent::BroadcastsHeld(held) => self.held = *held,
            PluginEvent::LeaderMessage { .. }
            | PluginEvent::PeerMessage { .. }
            | PluginEvent::State(_)
            | PluginEvent::WritesSuperseded(_) => {}
        }
    }
}

/// Why the host of a plugin refuses a command before the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The device is down or paused, or the plugin is not up on it.
    NotRunning,
    /// Only the leader may broadcast.
    NotLeader,
    /// Nobody leads.
    NoLeader,
    /// The leader lost touch with its followers, or the plugin's quota is used up.
    Busy,
    /// No member of that name.
    UnknownPeer,
    /// More than a message holds.
    TooLarge,
}

/// Whether a plugin's instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppState {
    /// It runs.
    Up,
    /// It faulted and is being restarted.
    Faulted,
    /// It is not there.
    Down,
}

/// One plugin on one device.
#[derive(Clone, Debug)]
pub struct App {
    /// What runs.
    pub spec: PluginSpec,
    /// Whether it runs.
    pub state: AppState,
    /// What it knows.
    pub view: View,
    /// How often it was told to lead, over all runs of the device; see [`crate::Sim::reset_counts`].
    pub promotions: u64,
    /// How often it was told to lead no longer.
    pub demotions: u64,
    /// How often it was told whom to follow.
    pub followings: u64,
    /// Messages it got.
    pub messages: u64,
    quota: SendQuota,
    meter: QuotaMeter,
    events: VecDeque<(Time, PluginEvent)>,
}

/// Events kept per plugin; the oldest go first.
const EVENTS_MAX: usize = 50_000;

impl App {
    pub(crate) fn new(spec: PluginSpec) -> Self {
        Self {
            spec,
            state: AppState::Down,
            view: View::default(),
            promotions: 0,
            demotions: 0,
            followings: 0,
            messages: 0,
            quota: SendQuota::default(),
            meter: QuotaMeter::new(&SendQuota::default()),
            events: VecDeque::new(),
        }
    }

    /// The events it got and when, but for updates of peers; at most the last 50,000.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &(Time, PluginEvent)> {
        self.events.iter()
    }

    /// Takes in one event.
    pub(crate) fn record(&mut self, now: Time, event: PluginEvent) {
        self.view.apply(&event);
        match &event {
            PluginEvent::PromoteLeader(_) => self.promotions += 1,
            PluginEvent::DemoteLeader => self.demotions += 1,
            PluginEvent::PromoteFollower(_) => self.followings += 1,
            PluginEvent::LeaderMessage { .. } | PluginEvent::PeerMessage { .. } => {
                self.messages += 1;
            }
            PluginEvent::PeerUpdated(_) => return,
            PluginEvent::PeerAdded(_)
            | PluginEvent::PeerRemoved(_)
            | PluginEvent::DemoteFollower
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::State(_)
            | PluginEvent::WritesSuperseded(_) => {}
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((now, event));
    }

    /// What it may send.
    #[must_use]
    pub const fn quota(&self) -> SendQuota {
        self.quota
    }

    /// Changes what it may send.
    pub(crate) fn set_quota(&mut self, quota: SendQuota) {
        self.quota = quota;
        self.meter = QuotaMeter::new(&quota);
    }

    /// Checks a command as a plugin's host does, against the plugin's view and its quota.
    pub(crate) fn check(&mut self, now: Time, command: &PluginCommand) -> Result<(), Refused> {
        self.check_view(command)?;
        let len = payload(command).len();
        if self.meter.take(now.as_micros(), len) {
            Ok(())
        } else {
            Err(Refused::Busy)
        }
    }

    fn check_view(&self, command: &PluginCommand) -> Result<(), Refused> {
        if self.state != AppState::Up {
            return Err(Refused::NotRunning);
        }
        if payload(command).len() > consort_proto::MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        match (command, &self.view.role) {
            (PluginCommand::Broadcast(_), AppRole::Leader(_)) if self.view.held => {
                Err(Refused::Busy)
            }
            (PluginCommand::Broadcast(_), AppRole::None | AppRole::Follower(_)) => {
                Err(Refused::NotLeader)
            }
            (PluginCommand::SendToLeader(_), AppRole::None) => Err(Refused::NoLeader),
            (PluginCommand::Send { to, .. }, _) if !self.view.peers.contains_key(to) => {
                Err(Refused::UnknownPeer)
            }
            (
                PluginCommand::Broadcast(_)
                | PluginCommand::SendToLeader(_)
                | PluginCommand::Send { .. }
                | PluginCommand::SendToAll(_)
                | PluginCommand::Write(_),
                AppRole::None | AppRole::Leader(_) | AppRole::Follower(_),
            ) => Ok(()),
        }
    }
}

/// What a command carries.
pub(crate) fn payload(command: &PluginCommand) -> &bytes::Bytes {
    static NOTHING: bytes::Bytes = bytes::Bytes::new();
    match command {
        PluginCommand::Write(_) => &NOTHING,
        PluginCommand::Broadcast(payload)
        | PluginCommand::SendToLeader(payload)
        | PluginCommand::Send { payload, .. }
        | PluginCommand::SendToAll(payload) => payload,
    }
}
