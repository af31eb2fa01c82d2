//! The mode `available`: every component of a partitioned network has a leader.
//!
//! A claim is an epoch and the claiming device, together a *tenure*. The machine of one group on
//! one device walks through [`State`] in this order:
//! 1. `Idle`: the plugin does not run healthily here.
//! 2. `Joining`: it waits for claims before it takes part, one discovery round after the start of
//!    the device, two heartbeats later on.
//! 3. `Vacant`: nobody leads. After its rank times 50 ms it claims, unless another claim is known.
//! 4. `Following`: another device leads.
//! 5. `Leading`: this device does.
//!
//! Invariants:
//! - A leader that lives and is healthy stays (*sticky*): other members' joins, deaths and
//!   priorities change nothing, unless one has opted to take over. Whether it lives is decided
//!   outside, by probes.
//! - Where two claims meet, more followers win, then the higher priority, then the lower id; if
//!   both still claim after 4 T with as many followers, the larger (epoch, id) wins. The loser
//!   demotes first and follows then.
//! - No device follows a tenure older than one it was told of. A winner whose epoch others have
//!   exceeded *re-affirms*: it goes on in a higher epoch, without a demotion.
//! - Promotions and demotions alternate.

mod candidates;
mod claims;
mod leading;
mod tenure;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use candidates::{Candidates, Strength};
use claims::Claims;
use tenure::Tenure;

use super::damping::Penalty;
use super::{
    Candidate, Claimed, Damping, Departure, Election, Epochs, Input, Known, Output, Past, Role,
    Setup,
};
use crate::id::{GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::Time;

/// Distance of two ranks in claiming a vacant leadership.
const RANK_GAP: Duration = Duration::from_millis(50);
/// Beyond this rank all wait alike.
const RANK_MAX: u32 = 10;
/// How long others leave a named successor the first word.
const SUCCESSOR_HEAD_START: Duration = Duration::from_millis(150);
/// Devices whose losses of leadership are remembered, the latest.
const WITNESSED_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Joining { until: Time },
    Vacant { claim_at: Time },
    Following { leader: NodeId, epoch: u64 },
    Leading(Tenure),
}

/// When this device claims a leadership that has become vacant.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// At once: the last leader named it.
    First,
    /// After its rank, and after those who come first of all.
    Ranked {
        head_start: Duration,
        /// Left out of the ranking: gone, or suspected to be.
        without: Option<NodeId>,
    },
}

impl Turn {
    /// The last leader may have named another, or given way to another.
    const AFTER_SUCCESSOR: Self = Self::Ranked {
        head_start: SUCCESSOR_HEAD_START,
        without: None,
    };

    const fn without(node: NodeId) -> Self {
        Self::Ranked {
            head_start: Duration::ZERO,
            without: Some(node),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Available {
    group: GroupKey,
    me: NodeId,
    candidates: Candidates,
    interval: Duration,
    state: State,
    /// Whether the instance here may take a leadership.
    fit: bool,
    epochs: Epochs,
    damping: Damping,
    /// Losses of leadership that others suffered, as this device saw them.
    witnessed: BTreeMap<NodeId, Penalty>,
    /// The tenure last told to the plugin: nothing older may follow it.
    told: Option<(u64, NodeId)>,
    claims: Claims,
    outputs: VecDeque<Output>,
}

impl Election for Available {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Join { wait } => self.join(now, wait),
            Input::Leave(departure) => self.leave(now, departure),
            Input::Fit(fit) => self.fit = fit,
            Input::Interval(interval) => self.interval = interval,
            Input::Own(own) => self.set_own(now, own),
            Input::Member { node, candidate } => self.set_member(now, node, candidate),
            Input::Claim { from, claim } => self.take_claim(now, from, claim),
            Input::Report {
                about,
                claim,
                heard,
            } => self.take_report(now, about, claim, heard),
            Input::Follow { from, epoch, asked } => self.take_follow(now, from, epoch, asked),
            Input::Seen { from, epoch } => {
                if self.admit(from, epoch) {
                    self.claims.in_the_way(epoch);
                }
            }
            Input::Release {
                from,
                epoch,
                successor,
            } => self.take_release(now, from, epoch, successor),
            Input::Lost { node } => self.take_loss(now, node),
            Input::Losses { penalty } => {
                self.damping.told(now, penalty);
                self.rank_anew(now);
            }
            Input::Stall => self.stall(now),
            Input::Beat { steady } => self.beat(now, steady),
            Input::Timeout => {}
            Input::Stored { ceiling, kept } => self.epochs.stored(ceiling, kept),
        }
        self.evaluate(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    fn next_timeout(&self) -> Option<Time> {
        if self.state == State::Idle {
            return None;
        }
        let state = match &self.state {
            State::Idle | State::Following { .. } => None,
            State::Joining { until } => Some(self.unblocked(*until)),
            State::Vacant { .. } if !self.fit && !mutant::is(Mutant::UnfitClaims) => None,
            State::Vacant { claim_at } => Some(self.unblocked(*claim_at)),
            State::Leading(tenure) => {
                let contest = tenure.contested_since.map(|since| since + self.patience());
                tenure.next_timeout().into_iter().chain(contest).min()
            }
        };
        let calm = self
            .damping
            .until()
            .filter(|_| self.candidates.own().flapping);
        state.into_iter().chain(calm).min()
    }

    fn role(&self) -> Role {
        match &self.state {
            State::Idle => Role::Idle,
            State::Joining { .. } | State::Vacant { .. } => Role::Waiting {
                epoch: self.epochs.max(),
            },
            State::Following { leader, epoch } => Role::Following {
                leader: *leader,
                epoch: *epoch,
            },
            State::Leading(tenure) => Role::Leading {
                epoch: tenure.epoch,
                followers: tenure.announced,
                held: tenure.is_held(),
            },
        }
    }

    fn known_claims(&self) -> &BTreeMap<NodeId, Known> {
        self.claims.known()
    }

    fn seen_beyond(&self, claimant: NodeId, epoch: u64) -> Option<u64> {
        let beyond = (self.epochs.max() > epoch).then_some(self.epochs.max());
        beyond
            .or_else(|| self.obstacle(claimant, epoch))
            .or_else(|| self.claims.blocks(epoch))
    }

    fn in_the_way(&self) -> Option<u64> {
        let known = self.claims.known().iter();
        let obstacles = known.filter_map(|(node, known)| self.obstacle(*node, known.epoch));
        match self.state {
            State::Joining { .. } | State::Vacant { .. } => obstacles.max(),
            State::Idle | State::Following { .. } | State::Leading(_) => None,
        }
    }

    fn is_flapping(&self) -> bool {
        self.candidates.own().flapping
    }

    fn penalty_seen(&self, now: Time, node: NodeId) -> Option<u32> {
        let penalty = self.witnessed.get(&node)?.at(now);
        (penalty > 0).then_some(penalty)
    }

    fn past(&self) -> Past {
        Past {
            epochs: self.epochs,
            damping: self.damping,
        }
    }
}

impl Available {
    pub(super) fn new(setup: Setup) -> Self {
        let Setup {
            group,
            me,
            own,
            past,
            interval,
        } = setup;
        Self {
            group,
            me,
            candidates: Candidates::new(me, own),
            interval,
            state: State::Idle,
            fit: true,
            epochs: past.epochs,
            damping: past.damping,
            witnessed: BTreeMap::new(),
            told: None,
            claims: Claims::default(),
            outputs: VecDeque::new(),
        }
    }

    fn join(&mut self, now: Time, wait: Duration) {
        if self.state == State::Idle {
            self.rank_anew(now);
            self.enter(State::Joining { until: now + wait });
        }
    }

    fn leave(&mut self, now: Time, departure: Departure) {
        if let Departure::Unstable { rank_last_for } = departure {
            self.damping.rank_last(now, rank_last_for);
        }
        match &self.state {
            State::Leading(tenure) => {
                let epoch = tenure.epoch;
                if departure != Departure::Stop {
                    self.damping.lost(now);
                }
                let successor = self.candidates.best_other();
                self.outputs.push_back(Output::Demoted);
                self.outputs
                    .push_back(Output::Released { epoch, successor });
            }
            State::Following { .. } => self.outputs.push_back(Output::LostLeader),
            State::Idle | State::Joining { .. } | State::Vacant { .. } => {}
        }
        self.enter(State::Idle);
        self.told = None;
    }

    fn set_own(&mut self, now: Time, own: Candidate) {
        let flapping = self.damping.is_flapping(now);
        self.candidates.set_own(Candidate { flapping, ..own });
    }

    /// Whether this device ranks last follows from its losses and the time.
    fn rank_anew(&mut self, now: Time) {
        self.damping.settle(now);
        let flapping = self.damping.is_flapping(now);
        if flapping != self.candidates.own().flapping {
            self.candidates.set_flapping(flapping);
            self.outputs.push_back(Output::RankChanged);
        }
    }

    /// A leader that does not run the plugin any more leads no longer.
    fn set_member(&mut self, now: Time, node: NodeId, candidate: Option<Candidate>) {
        self.candidates.set(now, node, candidate);
        if candidate.is_none() && self.follows(node) {
            self.claim_ended(now, node, Turn::AFTER_SUCCESSOR);
        }
    }

    fn take_claim(&mut self, now: Time, from: NodeId, claim: Option<Claimed>) {
        match claim {
            Some(claim) if self.admit(from, claim.epoch) => {
                self.claims.heard(now, from, claim);
                self.follow_up(from, claim.epoch);
            }
            Some(_) => {}
            None => self.claim_ended(now, from, Turn::AFTER_SUCCESSOR),
        }
    }

    fn take_report(&mut self, now: Time, about: NodeId, claim: Claimed, heard: Time) {
        let hearing = silence(self.interval);
        let stale = now.since(heard) >= hearing;
        if about == self.me || stale || !self.admit(about, claim.epoch) {
            return;
        }
        if self.claims.reported(now, about, claim, heard, hearing) {
            self.follow_up(about, claim.epoch);
        }
    }

    fn take_follow(&mut self, now: Time, from: NodeId, epoch: u64, asked: Option<Time>) {
        if let State::Leading(tenure) = &mut self.state
            && tenure.epoch == epoch
        {
            tenure.followed_by(now, from, asked);
        }
    }

    fn take_release(&mut self, now: Time, from: NodeId, epoch: u64, successor: Option<NodeId>) {
        if !self.admit(from, epoch) {
            return;
        }
        let turn = match successor {
            Some(successor) if successor == self.me => Turn::First,
            Some(_) => Turn::AFTER_SUCCESSOR,
            None => Turn::without(from),
        };
        self.claim_ended(now, from, turn);
        // The word that it leads no longer may have come first.
        if let State::Vacant { claim_at } = &mut self.state
            && self.told == Some((epoch, from))
            && successor == Some(self.me)
        {
            *claim_at = now;
        }
    }

    fn take_loss(&mut self, now: Time, node: NodeId) {
        if self.follows(node) {
            self.witness(now, node);
        }
        self.claims.lost(now, node, silence(self.interval));
        if let State::Leading(tenure) = &mut self.state {
            tenure.left_by(node);
        }
        self.claim_ended(now, node, Turn::without(node));
    }

    /// Remembers that a leader was lost; it may not remember it itself.
    fn witness(&mut self, now: Time, node: NodeId) {
        if self.witnessed.len() >= WITNESSED_MAX && !self.witnessed.contains_key(&node) {
            let least = self
                .witnessed
                .iter()
                .min_by_key(|(_, penalty)| penalty.at(now));
            if let Some(least) = least.map(|(node, _)| *node) {
                self.witnessed.remove(&least);
            }
        }
        self.witnessed.entry(node).or_default().add(now);
    }

    /// What this device knew of the others is as old as it was away.
    fn stall(&mut self, now: Time) {
        let round_over = now + tenure::DRAIN + self.interval;
        match &mut self.state {
            State::Joining { until: at } | State::Vacant { claim_at: at } => {
                *at = (*at).max(round_over);
            }
            State::Leading(_) => self.hold(now, tenure::DRAIN),
            State::Idle | State::Following { .. } => {}
        }
    }

    /// How long an unconfirmed claim is believed, and how long two claims stand side by side.
    fn patience(&self) -> Duration {
        self.interval * 4
    }

    /// A claim that keeps this device from claiming is waited for until it expires.
    fn unblocked(&self, at: Time) -> Time {
        let expiry = self.claims.expiry(self.patience());
        expiry.map_or(at, |expiry| at.max(expiry))
    }

    fn follows(&self, node: NodeId) -> bool {
        matches!(self.state, State::Following { leader, .. } if leader == node)
    }

    /// What a device that claims `epoch` must exceed before this device can follow it.
    fn obstacle(&self, claimant: NodeId, epoch: u64) -> Option<u64> {
        let (told_epoch, told_leader) = self.told?;
        let blocked = told_epoch > epoch || (told_epoch == epoch && told_leader != claimant);
        (blocked && !mutant::is(Mutant::OlderTenureFollowed)).then_some(told_epoch)
    }

    /// Takes in an epoch that another names, unless it is out of all reason.
    fn admit(&mut self, from: NodeId, epoch: u64) -> bool {
        if self.epochs.refuses(epoch) {
            self.outputs.push_back(Output::EpochRefused { from, epoch });
            return false;
        }
        self.see(epoch);
        true
    }

    fn see(&mut self, epoch: u64) {
        let ceiling = self.epochs.see(epoch);
        self.outputs.extend(ceiling.map(Output::Ceiling));
    }

    /// The followed leader goes on in a higher epoch.
    fn follow_up(&mut self, from: NodeId, new: u64) {
        if let State::Following { leader, epoch } = &mut self.state
            && *leader == from
            && new > *epoch
        {
            *epoch = new;
            self.told = Some((new, from));
            self.outputs.push_back(Output::TermChanged { epoch: new });
        }
    }

    /// `from` claims no longer. Where it led, this device claims when it is its turn.
    fn claim_ended(&mut self, now: Time, from: NodeId, turn: Turn) {
        let claimed = self.claims.remove(from);
        let vacant = matches!(self.state, State::Vacant { .. });
        let led = self.follows(from);
        if !(led || vacant && claimed) {
            return;
        }
        let delay = match turn {
            Turn::First => Duration::ZERO,
            Turn::Ranked {
                head_start,
                without,
            } => {
                let unprotected = mutant::is(Mutant::SuccessorUnprotected);
                let head_start = if unprotected {
                    Duration::ZERO
                } else {
                    head_start
                };
                head_start + self.rank_delay(without)
            }
        };
        if led {
            self.vacate(now, delay);
        } else if let State::Vacant { claim_at } = &mut self.state {
            *claim_at = (*claim_at).min(now + delay);
        }
    }

    fn vacate(&mut self, now: Time, delay: Duration) {
        self.outputs.push_back(Output::LostLeader);
        self.enter(State::Vacant {
            claim_at: now + delay,
        });
    }

    fn rank_delay(&self, suspect: Option<NodeId>) -> Duration {
        RANK_GAP * self.candidates.rank(suspect).min(RANK_MAX)
    }

    /// Takes the step that the known claims and the time call for.
    fn evaluate(&mut self, now: Time) {
        if self.candidates.own().flapping && self.state != State::Idle {
            self.rank_anew(now);
        }
        let followed = match self.state {
            State::Following { leader, .. } => Some(leader),
            _ => None,
        };
        self.claims.expire(now, self.patience(), followed);
        match &self.state {
            State::Idle | State::Following { .. } => {}
            State::Joining { until } => {
                let over = now >= *until;
                if !self.follow_best() && over && self.claims.is_empty() {
                    let claim_at = now + self.rank_delay(None);
                    self.enter(State::Vacant { claim_at });
                    self.claim_if_due(now);
                }
            }
            State::Vacant { .. } => {
                if !self.follow_best() {
                    self.claim_if_due(now);
                }
            }
            State::Leading(_) => self.evaluate_tenure(now),
        }
    }

    /// Follows the strongest claim that may be followed.
    fn follow_best(&mut self) -> bool {
        let followable = |node: NodeId, known: &Known| {
            let strength = self.strength(node, known)?;
            self.obstacle(node, known.epoch)
                .is_none()
                .then_some((strength, node, known.epoch))
        };
        let known = self.claims.known().iter();
        let candidates = known.filter_map(|(node, known)| followable(*node, known));
        let Some((_, leader, epoch)) = candidates.max_by_key(|(strength, ..)| *strength) else {
            return false;
        };
        self.told = Some((epoch, leader));
        self.enter(State::Following { leader, epoch });
        self.outputs.push_back(Output::Followed { leader, epoch });
        true
    }

    /// How strong another's claim is; none while its device is no candidate here.
    fn strength(&self, node: NodeId, known: &Known) -> Option<Strength> {
        let candidate = self.candidates.get(node)?;
        Some(Strength::new(known.followers, candidate, node))
    }

    fn claim_if_due(&mut self, now: Time) {
        let State::Vacant { claim_at } = self.state else {
            return;
        };
        let fit = self.fit || mutant::is(Mutant::UnfitClaims);
        if now < claim_at || !fit || !self.claims.is_empty() {
            return;
        }
        let epoch = self.epochs.next();
        self.see(epoch);
        self.told = Some((epoch, self.me));
        self.enter(State::Leading(Tenure::new(epoch)));
        self.outputs.push_back(Output::Promoted { epoch });
        self.outputs.push_back(Output::Announce);
    }

    /// The one place where the state changes.
    fn enter(&mut self, next: State) {
        if self.state != next {
            tracing::debug!(group = ?self.group, from = ?self.state, to = ?next, "election");
            self.state = next;
        }
    }
}
