//! This device's own knowledge of who is alive: when each peer was last heard, and probes.
//!
//! A watched peer (a leader that is followed) that has been silent for 2.4 T is probed every T/10,
//! ten times; with the first, fourth and seventh probe three other members are asked when they last
//! heard it. Any packet of the peer ends the suspicion, and so does a member that heard it less
//! than 2.4 T ago: the peer then counts as heard at that time. Only when all ten probes stay
//! unanswered is the peer lost. The same ten probes are sent to verify the group's word that a
//! member is down.
//!
//! A peer that has answered this device's heartbeats and has been silent for 4.8 T is probed in the
//! same way, so that the leader finds a dead follower without waiting for its turn.
//!
//! A time of hearing always goes back to a packet that somebody really got, so members cannot keep
//! a dead peer alive by vouching for each other.
//!
//! A device whose own loop lags is more patient with others, see [`Health`].
//!
//! Besides, one peer a second is probed in turn, which keeps round trips and clock differences
//! fresh; a new session is probed three times at once, and then until it answers. In a large group
//! the first answer is enough.
//!
//! `timers` holds at most one entry per peer, never later than what is due for it: a peer that is
//! heard puts its suspicion off without touching it, and an early timer finds nothing to do. So a
//! packet costs the same in a group of three and of a thousand.

mod health;
#[cfg(test)]
mod tests;
mod timing;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use health::{Health, LAG};
pub(crate) use timing::{Echo, Timing, stamp};

use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::Time;

/// How many probes stay unanswered before a peer is lost.
const PROBES: u8 = 10;
/// How often some peer is probed in turn.
const ROUND: Duration = Duration::from_secs(1);
/// Probes of a new session, and their distance.
const GREETINGS: u8 = 3;
const GREETING_GAP: Duration = Duration::from_millis(100);
/// Distance of further probes of a peer that has answered none yet.
const COURTSHIP_GAP: Duration = Duration::from_millis(500);

/// What liveness wants done or found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this peer a probe.
    Probe(NodeId),
    /// Ask three other members when they last heard this peer.
    Ask { about: NodeId },
    /// All probes stayed unanswered.
    Lost(NodeId),
    /// A suspicion ended with a sign of life.
    Cleared(NodeId),
}

#[derive(Debug, Default)]
struct Track {
    heard: Option<Time>,
    connected: bool,
    watched_since: Option<Time>,
    /// It answers this device's heartbeats.
    attends: bool,
    suspicion: Option<Suspicion>,
    greetings: u8,
    greet_at: Time,
    /// The greetings are for the round trip alone.
    measuring: bool,
    /// The peer's entry in `timers`.
    timer: Option<Time>,
    timing: Timing,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    probes: u8,
    next: Time,
}

/// How long this device waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// T.
    interval: Duration,
    /// By how much this device is more patient than T says, while its own loop lags.
    patience: u32,
}

impl Pace {
    /// After how much silence a watched peer is suspected.
    fn silence(self) -> Duration {
        silence(self.interval) * self.patience
    }

    /// After how much silence a follower is: a leader has many, and loss silences some of them at
    /// any time.
    fn follower_silence(self) -> Duration {
        self.silence() * 2
    }

    /// The time between the probes of a suspected peer.
    fn probe_gap(self) -> Duration {
        self.interval / 10 * self.patience
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Liveness {
    tracks: BTreeMap<NodeId, Track>,
    timers: BTreeSet<(Time, NodeId)>,
    watched: BTreeSet<NodeId>,
    outputs: VecDeque<Output>,
    pace: Pace,
    round_at: Time,
    round_after: NodeId,
    /// New sessions are probed no longer than until they answer.
    thrifty: bool,
}

impl Liveness {
    pub(crate) fn new(now: Time, interval: Duration) -> Self {
        Self {
            tracks: BTreeMap::new(),
            timers: BTreeSet::new(),
            watched: BTreeSet::new(),
            outputs: VecDeque::new(),
            pace: Pace {
                interval,
                patience: 1,
            },
            round_at: now + ROUND,
            round_after: NodeId(0),
            thrifty: false,
        }
    }

    /// In a large group a new session's first answer ends its probes.
    pub(crate) const fn set_thrifty(&mut self, thrifty: bool) {
        self.thrifty = thrifty;
    }

    /// Sets T.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        let patience = self.pace.patience;
        self.set_pace(Pace { interval, patience });
    }

    /// Sets by how much this device is to be more patient with others than T says.
    pub(crate) fn set_patience(&mut self, patience: u32) {
        let interval = self.pace.interval;
        self.set_pace(Pace { interval, patience });
    }

    fn set_pace(&mut self, pace: Pace) {
        let before = core::mem::replace(&mut self.pace, pace);
        // Timers may be early, so a slower pace leaves them where they are.
        if pace.silence() >= before.silence() {
            return;
        }
        let timed = |(peer, track): (&NodeId, &Track)| {
            (track.attends || track.watched_since.is_some()).then_some(*peer)
        };
        let timed: Vec<NodeId> = self.tracks.iter().filter_map(timed).collect();
        for peer in timed {
            self.set_timer(peer);
        }
    }

    /// A session to the peer opened, or was replaced after the peer restarted.
    pub(crate) fn connected(&mut self, now: Time, peer: NodeId) {
        let track = self.tracks.entry(peer).or_default();
        track.connected = true;
        track.timing = Timing::default();
        self.greet(now, peer);
        if let Some(track) = self.tracks.get_mut(&peer) {
            track.measuring = true;
        }
    }

    /// Probes the peer three times, now and shortly after.
    pub(crate) fn greet(&mut self, now: Time, peer: NodeId) {
        let track = self.tracks.entry(peer).or_default();
        // The first goes out with whatever else the peer is sent now.
        track.greetings = GREETINGS - 1;
        track.greet_at = now + GREETING_GAP;
        track.measuring = false;
        self.outputs.push_back(Output::Probe(peer));
        self.set_timer(peer);
    }

    /// Probes every peer once.
    pub(crate) fn probe_connected(&mut self) {
        let connected = self.tracks.iter().filter(|(_, track)| track.connected);
        self.outputs
            .extend(connected.map(|(peer, _)| Output::Probe(*peer)));
    }

    /// Everything about the peer is forgotten.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.watched.remove(&peer);
        if let Some(at) = self.tracks.remove(&peer).and_then(|track| track.timer) {
            self.timers.remove(&(at, peer));
        }
    }

    /// A packet of the peer arrived.
    pub(crate) fn heard(&mut self, now: Time, peer: NodeId) {
        let track = self.tracks.entry(peer).or_default();
        track.heard = Some(now);
        if track.suspicion.take().is_some() {
            self.outputs.push_back(Output::Cleared(peer));
        }
    }

    /// The peer answered a heartbeat: if it stops, that is soon noticed.
    pub(crate) fn attended(&mut self, peer: NodeId) {
        let track = self.tracks.entry(peer).or_default();
        if !core::mem::replace(&mut track.attends, true) {
            self.set_timer(peer);
        }
    }

    /// Another member heard the peer at `at`.
    pub(crate) fn vouched(&mut self, now: Time, peer: NodeId, at: Time) {
        let recent = now.since(at) < silence(self.pace.interval);
        let track = self.tracks.entry(peer).or_default();
        track.heard = track.heard.max(Some(at));
        if recent && track.suspicion.take().is_some() {
            self.outputs.push_back(Output::Cleared(peer));
        }
    }

    /// Which peers are suspected after silence; the others are only probed in turn.
    pub(crate) fn watch(&mut self, now: Time, leaders: &BTreeSet<NodeId>) {
        for ended in self.watched.difference(leaders) {
            if let Some(track) = self.tracks.get_mut(ended) {
                track.watched_since = None;
            }
        }
        self.watched.clone_from(leaders);
        for leader in leaders {
            let track = self.tracks.entry(*leader).or_default();
            track.watched_since.get_or_insert(now);
            self.set_timer(*leader);
        }
    }

    /// The group holds the peer for down: find out.
    pub(crate) fn verify(&mut self, now: Time, peer: NodeId) {
        let track = self.tracks.entry(peer).or_default();
        track.suspicion.get_or_insert(Suspicion {
            probes: 0,
            next: now,
        });
        self.set_timer(peer);
    }

    /// This device's own loop was away: nobody's silence counts that fell into that time.
    pub(crate) fn forgive(&mut self, now: Time) {
        for track in self.tracks.values_mut() {
            track.heard = track.heard.map(|_| now);
            track.watched_since = track.watched_since.map(|_| now);
            track.suspicion = None;
        }
    }

    pub(crate) fn is_suspect(&self, peer: NodeId) -> bool {
        self.tracks
            .get(&peer)
            .is_some_and(|track| track.suspicion.is_some())
    }

    /// When the peer was last heard, by this device or by one that vouched for it.
    pub(crate) fn last_heard(&self, peer: NodeId) -> Option<Time> {
        self.tracks.get(&peer)?.heard
    }

    pub(crate) fn timing(&self, peer: NodeId) -> Option<&Timing> {
        self.tracks.get(&peer).map(|track| &track.timing)
    }

    pub(crate) fn timing_mut(&mut self, peer: NodeId) -> &mut Timing {
        &mut self.tracks.entry(peer).or_default().timing
    }

    /// The peer's round trip is known.
    pub(crate) fn measured(&mut self, peer: NodeId) {
        if let Some(track) = self.tracks.get_mut(&peer)
            && self.thrifty
            && track.measuring
        {
            track.greetings = 0;
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Liveness::handle_timeout`] next; may be early.
    pub(crate) fn next_timeout(&self) -> Time {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.map_or(self.round_at, |at| at.min(self.round_at))
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        let mut due = Vec::new();
        while let Some((at, peer)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, peer));
                break;
            }
            due.push(peer);
        }
        for peer in due {
            if let Some(track) = self.tracks.get_mut(&peer) {
                track.timer = None;
                track.handle_timeout(now, peer, self.pace, &mut self.outputs);
            }
            self.set_timer(peer);
        }
        if now >= self.round_at {
            self.round_at = now + ROUND;
            self.probe_next_in_turn();
        }
    }

    /// Moves the peer's timer forward to what is due next for it.
    fn set_timer(&mut self, peer: NodeId) {
        let Some(track) = self.tracks.get_mut(&peer) else {
            return;
        };
        let Some(due) = track.next_timeout(self.pace) else {
            return;
        };
        if track.timer.is_some_and(|at| at <= due) {
            return;
        }
        if let Some(later) = track.timer.replace(due) {
            self.timers.remove(&(later, peer));
        }
        self.timers.insert((due, peer));
    }

    fn probe_next_in_turn(&mut self) {
        let connected = |(peer, track): (&NodeId, &Track)| track.connected.then_some(*peer);
        let after = self
            .tracks
            .range(NodeId(self.round_after.0.saturating_add(1))..);
        let next = after.filter_map(connected).next();
        if let Some(peer) = next.or_else(|| self.tracks.iter().find_map(connected)) {
            self.round_after = peer;
            self.outputs.push_back(Output::Probe(peer));
        }
    }
}

impl Track {
    /// When silence of a watched peer, or of one that used to answer heartbeats, becomes a
    /// suspicion.
    fn suspect_at(&self, pace: Pace) -> Option<Time> {
        let watched = self.watched_since.map(|since| {
            let heard = self.heard.map_or(since, |heard| heard.max(since));
            heard + pace.silence()
        });
        let heard = self.heard.filter(|_| self.attends);
        let attended = heard.map(|heard| heard + pace.follower_silence());
        watched.into_iter().chain(attended).min()
    }

    /// A peer is part of the view only once its round trip is known.
    fn wants_greeting(&self) -> bool {
        self.greetings > 0 || (self.connected && self.timing.round_trip().is_none())
    }

    fn next_timeout(&self, pace: Pace) -> Option<Time> {
        let suspicion = match self.suspicion {
            Some(suspicion) => Some(suspicion.next),
            None => self.suspect_at(pace),
        };
        let greeting = self.wants_greeting().then_some(self.greet_at);
        [suspicion, greeting].into_iter().flatten().min()
    }

    fn handle_timeout(
        &mut self,
        now: Time,
        peer: NodeId,
        pace: Pace,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.wants_greeting() && now >= self.greet_at {
            self.greetings = self.greetings.saturating_sub(1);
            let gap = if self.greetings > 0 {
                GREETING_GAP
            } else {
                COURTSHIP_GAP
            };
            self.greet_at = now + gap;
            outputs.push_back(Output::Probe(peer));
        }
        if self.suspicion.is_none() && self.suspect_at(pace).is_some_and(|at| now >= at) {
            self.attends = false;
            self.suspicion = Some(Suspicion {
                probes: 0,
                next: now,
            });
        }
        let Some(suspicion) = &mut self.suspicion else {
            return;
        };
        if now < suspicion.next {
            return;
        }
        if suspicion.probes == PROBES || mutant::is(Mutant::ProbesSkipped) {
            self.suspicion = None;
            self.watched_since = None;
            outputs.push_back(Output::Lost(peer));
            return;
        }
        outputs.push_back(Output::Probe(peer));
        if matches!(suspicion.probes, 0 | 3 | 6) {
            outputs.push_back(Output::Ask { about: peer });
        }
        suspicion.probes += 1;
        suspicion.next = now + pace.probe_gap();
    }
}
