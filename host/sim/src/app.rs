//! A plugin as the simulator plays it: it records what it is told and does what the scenario says.
//!
//! Its [`View`] is the fold over its events, which is all that a real plugin knows of its group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use consort_proto::{
    DeviceId, Leadership, Origin, Peer, PluginCommand, PluginEvent, PluginSpec, QuotaMeter,
    SendQuota, StateConfig, StateOutcome, StateUpdate, StateView, Time, WriteError,
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
            | PluginEvent::Joined(_)
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
    /// A write to the group's state, and why.
    Write(WriteError),
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
    /// What it reads of its group's state.
    pub data: StateView,
    /// How often it was told to lead, over all runs of the device; see [`crate::Sim::reset_counts`].
    pub promotions: u64,
    /// How often it was told to lead no longer.
    pub demotions: u64,
    /// How often it was told whom to follow.
    pub followings: u64,
    /// Messages it got.
    pub messages: u64,
    /// Whether its own code runs; see [`crate::Actor`].
    pub hosted: bool,
    quota: SendQuota,
    meter: QuotaMeter,
    me: DeviceId,
    config: StateConfig,
    /// What it was told of its group's state: a fold of its own, for the checkers.
    told: Told,
    /// Names the stretch from one time that it knew nothing to the next.
    session: u64,
    /// Until when its callback takes.
    pub(crate) busy: Option<Time>,
    events: VecDeque<(Time, PluginEvent)>,
}

/// What a plugin was told of its group's state.
pub(crate) type Told = BTreeMap<(Origin, Arc<str>), StateOutcome>;

/// Events kept per plugin; the oldest go first.
const EVENTS_MAX: usize = 50_000;

impl App {
    pub(crate) fn new(spec: PluginSpec, me: DeviceId) -> Self {
        let config = StateConfig::default();
        Self {
            spec,
            state: AppState::Down,
            view: View::default(),
            data: StateView::new(me, config),
            promotions: 0,
            demotions: 0,
            followings: 0,
            messages: 0,
            hosted: false,
            quota: SendQuota::default(),
            meter: QuotaMeter::new(&SendQuota::default()),
            me,
            config,
            told: Told::new(),
            session: 0,
            busy: None,
            events: VecDeque::new(),
        }
    }

    /// It knows nothing from here on, in a session of that number.
    pub(crate) fn forget(&mut self, session: u64) {
        self.view = View::default();
        self.forget_state(session);
    }

    /// It knows nothing of its group's state from here on.
    pub(crate) fn forget_state(&mut self, session: u64) {
        self.data = StateView::new(self.me, self.config);
        self.told.clear();
        self.busy = None;
        self.session = session;
    }

    pub(crate) const fn session(&self) -> u64 {
        self.session
    }

    /// What it was told of its group's state, own writes that the node has not taken in left out.
    pub(crate) const fn told(&self) -> &Told {
        &self.told
    }

    /// How its state is kept.
    #[must_use]
    pub const fn state_config(&self) -> StateConfig {
        self.config
    }

    /// Changes how its state is kept.
    pub(crate) fn set_state_config(&mut self, config: StateConfig) {
        self.config = config;
        self.data.set_config(config);
    }

    /// The events it got and when, but for updates of peers and state; at most the last 50,000.
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
            PluginEvent::PeerUpdated(_) | PluginEvent::Joined(_) => return,
            PluginEvent::State(update) => return self.take(update),
            PluginEvent::PeerAdded(_)
            | PluginEvent::PeerRemoved(_)
            | PluginEvent::DemoteFollower
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::WritesSuperseded(_) => {}
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((now, event));
    }

    fn take(&mut self, update: &StateUpdate) {
        self.data.apply(update);
        if update.whole {
            self.told.clear();
        }
        for change in &update.changes {
            let place = (change.origin, Arc::clone(&change.key));
            match &change.outcome {
                StateOutcome::Put { .. } | StateOutcome::Counted(_) => {
                    self.told.insert(place, change.outcome.clone());
                }
                StateOutcome::Deleted | StateOutcome::Expired => {
                    self.told.remove(&place);
                }
            }
        }
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

    /// Checks a command as a plugin's host does, against the plugin's view and its quota, at group
    /// time `group_now`.
    pub(crate) fn check(
        &mut self,
        now: Time,
        group_now: u64,
        command: &PluginCommand,
    ) -> Result<(), Refused> {
        self.check_view(command)?;
        if let PluginCommand::Write(write) = command {
            let leads = matches!(self.view.role, AppRole::Leader(_));
            let written = self.data.write(write, leads, group_now);
            return written.map_err(Refused::Write);
        }
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
