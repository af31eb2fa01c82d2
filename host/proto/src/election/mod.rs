//! Who leads one plugin's group, in the mode `available`: every component of a partitioned network
//! has a leader.
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
//!   priorities change nothing. Whether it lives is decided outside, by probes.
//! - Where two claims meet, more followers win, then the higher priority, then the lower id; if
//!   both still claim after 4 T with as many followers, the larger (epoch, id) wins. The loser
//!   demotes first and follows then.
//! - No device follows a tenure older than one it was told of. A winner whose epoch others have
//!   exceeded *re-affirms*: it goes on in a higher epoch, without a demotion.
//! - Promotions and demotions alternate.

mod claims;
mod output;
mod rank;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use claims::Claims;
pub(crate) use claims::{Known, Source};
pub(crate) use output::{Epochs, Output};
pub(crate) use rank::Candidate;
use rank::Strength;

use crate::id::{GroupKey, NodeId};
use crate::pace::{heartbeat_interval, silence};
use crate::time::Time;

/// Distance of two ranks in claiming a vacant leadership.
const RANK_GAP: Duration = Duration::from_millis(50);
/// Beyond this rank all wait alike.
const RANK_MAX: u32 = 10;
/// How long others leave a named successor the first word.
const SUCCESSOR_HEAD_START: Duration = Duration::from_millis(150);
/// An epoch this far above the largest seen is refused.
const EPOCH_JUMP_MAX: u64 = 1 << 32;
/// How far the persisted ceiling lies above the largest epoch seen.
const CEILING_AHEAD: u64 = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Joining { until: Time },
    Vacant { claim_at: Time },
    Following { leader: NodeId, epoch: u64 },
    Leading(Tenure),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tenure {
    epoch: u64,
    /// Members that acknowledged this tenure, and when last.
    followers: BTreeMap<NodeId, Time>,
    /// The number of followers told with the last heartbeat, this device included.
    announced: u32,
    held_until: Option<Time>,
    /// Since when another claim has stood beside this one.
    contested_since: Option<Time>,
}

/// The election of one group. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Election {
    group: GroupKey,
    me: NodeId,
    own: Candidate,
    interval: Duration,
    state: State,
    epochs: Epochs,
    /// The tenure last told to the plugin: nothing older may follow it.
    told: Option<(u64, NodeId)>,
    claims: Claims,
    others: BTreeMap<NodeId, Candidate>,
    outputs: VecDeque<Output>,
}

impl Election {
    pub(crate) fn new(group: GroupKey, me: NodeId, own: Candidate, epochs: Epochs) -> Self {
        Self {
            group,
            me,
            own,
            interval: heartbeat_interval(1),
            state: State::Idle,
            epochs,
            told: None,
            claims: Claims::default(),
            others: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The plugin runs healthily: take part, after waiting `wait` for claims.
    pub(crate) fn join(&mut self, now: Time, wait: Duration) {
        if self.state == State::Idle {
            self.enter(State::Joining { until: now + wait });
            self.evaluate(now);
        }
    }

    /// The plugin runs here no longer: a leadership is handed to the best-ranked other member.
    pub(crate) fn leave(&mut self) {
        match &self.state {
            State::Leading(tenure) => {
                let epoch = tenure.epoch;
                let successor = rank::best(self.others.iter());
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

    /// Sets T.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Sets this device's own rank.
    pub(crate) fn set_own(&mut self, own: Candidate) {
        self.own = own;
    }

    /// Sets the other members that run the plugin healthily. A leader that is none of them leads
    /// no longer.
    pub(crate) fn set_others(&mut self, now: Time, others: BTreeMap<NodeId, Candidate>) {
        self.others = others;
        if let State::Following { leader, .. } = self.state
            && !self.others.contains_key(&leader)
        {
            self.claims.remove(leader);
            self.vacate(now, self.rank_delay(None));
        }
        self.evaluate(now);
    }

    /// Sets whether one other member runs the plugin healthily, and its rank there.
    pub(crate) fn set_other(&mut self, now: Time, node: NodeId, candidate: Option<Candidate>) {
        let before = match candidate {
            Some(candidate) => self.others.insert(node, candidate),
            None => self.others.remove(&node),
        };
        if before == candidate {
            return;
        }
        if candidate.is_none() && self.followed().is_some_and(|(leader, _)| leader == node) {
            self.claims.remove(node);
            self.vacate(now, self.rank_delay(None));
        }
        self.evaluate(now);
    }

    /// What `from` claims of this group, as its newest bulletin says.
    pub(crate) fn handle_claim(&mut self, now: Time, from: NodeId, claim: Option<(u64, u32)>) {
        match claim {
            Some((epoch, followers)) => {
                if self.refuses(epoch, from) {
                    return;
                }
                self.claims.heard(now, from, epoch, followers);
                self.follow_up(from, epoch);
            }
            None => self.claim_ended(now, from, self.rank_delay(None)),
        }
        self.evaluate(now);
    }

    /// What a member says about another's claim, last heard at `heard`.
    pub(crate) fn handle_report(
        &mut self,
        now: Time,
        about: NodeId,
        claim: (u64, u32),
        heard: Time,
    ) {
        let (epoch, followers) = claim;
        let stale = now.since(heard) >= silence(self.interval);
        if about == self.me || stale || self.refuses(epoch, about) {
            return;
        }
        if self
            .claims
            .reported(now, about, epoch, followers, heard, silence(self.interval))
        {
            self.follow_up(about, epoch);
            self.evaluate(now);
        }
    }

    /// `from` follows this device's claim of `epoch`.
    pub(crate) fn handle_follow(&mut self, now: Time, from: NodeId, epoch: u64) {
        if let State::Leading(tenure) = &mut self.state
            && tenure.epoch == epoch
        {
            tenure.followers.insert(from, now);
        }
    }

    /// A member was told of a tenure that this device's claim does not exceed.
    pub(crate) fn handle_seen(&mut self, now: Time, from: NodeId, epoch: u64) {
        if !self.refuses(epoch, from) {
            self.claims.exceeded(epoch);
            self.evaluate(now);
        }
    }

    /// `from` gave up its tenure in order.
    pub(crate) fn handle_release(
        &mut self,
        now: Time,
        from: NodeId,
        epoch: u64,
        successor: Option<NodeId>,
    ) {
        if self.refuses(epoch, from) {
            return;
        }
        let delay = match successor {
            Some(successor) if successor == self.me => Duration::ZERO,
            Some(_) => SUCCESSOR_HEAD_START + self.rank_delay(Some(from)),
            None => self.rank_delay(Some(from)),
        };
        self.claim_ended(now, from, delay);
        self.evaluate(now);
    }

    /// A device is gone: unreachable, restarted, or it said goodbye.
    pub(crate) fn handle_lost(&mut self, now: Time, node: NodeId) {
        self.claims.lost(now, node);
        if let State::Leading(tenure) = &mut self.state {
            tenure.followers.remove(&node);
        }
        self.claim_ended(now, node, self.rank_delay(Some(node)));
        self.evaluate(now);
    }

    /// This device's loop was away for longer than a leader may be silent.
    pub(crate) fn handle_stall(&mut self, now: Time) {
        self.hold(now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let state = match &self.state {
            State::Idle | State::Following { .. } => None,
            State::Joining { until } => Some(*until),
            State::Vacant { claim_at } => Some(*claim_at),
            State::Leading(tenure) => {
                let contest = tenure.contested_since.map(|since| since + self.patience());
                tenure.held_until.into_iter().chain(contest).min()
            }
        };
        // A claim that keeps this device from claiming is waited for until it expires.
        let blocked = state.filter(|_| self.is_waiting()).and_then(|at| {
            let expiry = self.claims.expiry(self.patience())?;
            Some(at.max(expiry))
        });
        blocked.or(state)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.evaluate(now);
    }

    /// A heartbeat is due: counts the followers it will tell, and notices their silence.
    pub(crate) fn tick(&mut self, now: Time) {
        let (silence, patience) = (silence(self.interval), self.patience());
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        let all_silent = !tenure.followers.is_empty()
            && tenure
                .followers
                .values()
                .all(|at| now.since(*at) >= silence);
        tenure.followers.retain(|_, at| now.since(*at) < patience);
        tenure.announced = 1 + tenure.followers.len() as u32;
        if all_silent {
            self.hold(now);
        }
        self.evaluate(now);
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// This device's claim: epoch and number of followers.
    pub(crate) fn claim(&self) -> Option<(u64, u32)> {
        match &self.state {
            State::Leading(tenure) => Some((tenure.epoch, tenure.announced)),
            State::Idle
            | State::Joining { .. }
            | State::Vacant { .. }
            | State::Following { .. } => None,
        }
    }

    /// The tenure this device follows.
    pub(crate) fn followed(&self) -> Option<(NodeId, u64)> {
        match self.state {
            State::Following { leader, epoch } => Some((leader, epoch)),
            State::Idle | State::Joining { .. } | State::Vacant { .. } | State::Leading(_) => None,
        }
    }

    /// Whether this device leads but lost touch with its followers.
    pub(crate) fn is_held(&self) -> bool {
        matches!(&self.state, State::Leading(tenure) if tenure.held_until.is_some())
    }

    /// Whether this device takes part and looks for a leader.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Joining { .. } | State::Vacant { .. })
    }

    /// Others' claims, as far as they are known.
    pub(crate) fn known_claims(&self) -> impl Iterator<Item = (NodeId, &Known)> {
        self.claims.iter()
    }

    /// The epoch that a device which claims `epoch` ought to exceed, if it does not.
    pub(crate) fn seen_beyond(&self, claimant: NodeId, epoch: u64) -> Option<u64> {
        let beyond = (self.epochs.max > epoch).then_some(self.epochs.max);
        beyond.or_else(|| self.obstacle(claimant, epoch))
    }

    /// What a device that claims `epoch` must exceed before this device can follow it.
    fn obstacle(&self, claimant: NodeId, epoch: u64) -> Option<u64> {
        let (told_epoch, told_leader) = self.told?;
        let blocked = told_epoch > epoch || (told_epoch == epoch && told_leader != claimant);
        blocked.then_some(told_epoch)
    }

    pub(crate) fn epoch_max(&self) -> u64 {
        self.epochs.max
    }

    /// What a later election of this group on this device continues from.
    pub(crate) fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// How long an unconfirmed claim is believed, and how long two claims stand side by side.
    fn patience(&self) -> Duration {
        self.interval * 4
    }

    fn refuses(&mut self, epoch: u64, from: NodeId) -> bool {
        if epoch > self.epochs.max.saturating_add(EPOCH_JUMP_MAX) {
            tracing::warn!(group = ?self.group, ?from, epoch, "refused an epoch far above all seen");
            return true;
        }
        if epoch > self.epochs.max {
            self.epochs.max = epoch;
            self.raise_ceiling();
        }
        false
    }

    /// Keeps the persisted ceiling well ahead, so that claiming never waits for a disk.
    fn raise_ceiling(&mut self) {
        if self.epochs.max + CEILING_AHEAD / 2 > self.epochs.ceiling {
            self.epochs.ceiling = self.epochs.max + CEILING_AHEAD;
            self.outputs.push_back(Output::Ceiling(self.epochs.ceiling));
        }
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

    fn claim_ended(&mut self, now: Time, from: NodeId, delay: Duration) {
        let claimed = self.claims.remove(from);
        if self.followed().is_some_and(|(leader, _)| leader == from) {
            self.vacate(now, delay);
        } else if let State::Vacant { claim_at } = &mut self.state
            && claimed
        {
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
        let ahead = rank::ahead_of((self.me, self.own), self.others.iter(), suspect);
        RANK_GAP * ahead.min(RANK_MAX)
    }

    fn hold(&mut self, now: Time) {
        let round = self.interval;
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        tenure.followers.clear();
        tenure.announced = 1;
        if tenure.held_until.replace(now + round).is_none() {
            self.outputs.push_back(Output::Held(true));
        }
        self.outputs.push_back(Output::ProbeAll);
    }

    /// Takes the step that the known claims and the time call for.
    fn evaluate(&mut self, now: Time) {
        let followed = self.followed().map(|(leader, _)| leader);
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
        let candidates = self
            .claims
            .iter()
            .filter_map(|(node, known)| followable(node, known));
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
        let candidate = self.others.get(&node)?;
        Some(Strength::new(known.followers, *candidate, node))
    }

    fn claim_if_due(&mut self, now: Time) {
        let State::Vacant { claim_at } = self.state else {
            return;
        };
        if now < claim_at || !self.claims.is_empty() {
            return;
        }
        let epoch = self.epochs.max + 1;
        self.epochs.max = epoch;
        self.raise_ceiling();
        self.told = Some((epoch, self.me));
        self.enter(State::Leading(Tenure {
            epoch,
            followers: BTreeMap::new(),
            announced: 1,
            held_until: None,
            contested_since: None,
        }));
        self.outputs.push_back(Output::Promoted { epoch });
        self.outputs.push_back(Output::Announce);
    }

    fn evaluate_tenure(&mut self, now: Time) {
        let patience = self.patience();
        let rival = self
            .claims
            .iter()
            .filter_map(|(node, known)| Some((self.strength(node, known)?, node, *known)))
            .max_by_key(|(strength, ..)| *strength);
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        if tenure.held_until.is_some_and(|until| now >= until) {
            tenure.held_until = None;
            self.outputs.push_back(Output::Held(false));
            self.outputs.push_back(Output::Announce);
        }
        let Some((strength, rival, claim)) = rival else {
            tenure.contested_since = None;
            self.reaffirm_if_exceeded();
            return;
        };
        let since = *tenure.contested_since.get_or_insert(now);
        let own = Strength::new(tenure.announced, self.own, self.me);
        let weaker = strength > own;
        let outlasted = now.since(since) >= patience;
        if outlasted {
            tenure.contested_since = Some(now);
        }
        // A rival with fewer followers that goes on claiming does not hear this device: yielding
        // to it would let one deaf device take the group from everyone.
        let yields = outlasted
            && claim.followers >= tenure.announced
            && (claim.epoch, rival) > (tenure.epoch, self.me);
        if weaker || yields {
            self.outputs.push_back(Output::Demoted);
            self.outputs.push_back(Output::Announce);
            self.enter(State::Vacant {
                claim_at: now + self.rank_delay(None) + patience,
            });
            self.follow_best();
        }
    }

    /// Goes on in an epoch above all that others were told of. Its followers count on until they
    /// have had time to acknowledge it: without them a stale claim would beat it.
    fn reaffirm_if_exceeded(&mut self) {
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        if !self.claims.is_empty() || !self.claims.take_exceeded(tenure.epoch) {
            return;
        }
        self.epochs.max += 1;
        tenure.epoch = self.epochs.max;
        self.told = Some((tenure.epoch, self.me));
        let epoch = tenure.epoch;
        self.raise_ceiling();
        self.outputs.push_back(Output::TermChanged { epoch });
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
