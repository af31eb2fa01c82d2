//! What a leader does: beat, hold, stand beside a rival or yield to it, re-affirm, hand over.

use core::time::Duration;

use super::candidates::Strength;
use super::{Available, SUCCESSOR_HEAD_START, State};
use crate::election::Output;
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::Time;

impl Available {
    /// Heartbeats go out. The number of followers is counted with each, so that two leaders that
    /// meet compare numbers no older than their last heartbeats.
    pub(super) fn beat(&mut self, now: Time, steady: bool) {
        let (silence, patience) = (silence(self.interval), self.patience());
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        let lost_touch = tenure.count(now, silence, patience);
        if steady && lost_touch && !mutant::is(Mutant::IsolationIgnored) {
            self.hold(now, Duration::ZERO);
        }
        if steady {
            self.make_way(now);
        }
    }

    pub(super) fn hold(&mut self, now: Time, drain: Duration) {
        let round = self.interval;
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        if tenure.hold(now, drain, round) {
            self.outputs.push_back(Output::Held(true));
        }
    }

    /// Hands over to a better device that has opted for it and has been stable for long enough.
    fn make_way(&mut self, now: Time) {
        let State::Leading(tenure) = &self.state else {
            return;
        };
        if tenure.is_held() || tenure.contested_since.is_some() {
            return;
        }
        let lately = now - silence(self.interval);
        let follows = |node| tenure.is_followed_by(node, lately);
        let Some(successor) = self.candidates.preempting(now, follows) else {
            return;
        };
        let epoch = tenure.epoch;
        tracing::debug!(group = ?self.group, ?successor, "hands over to a better device");
        self.outputs.push_back(Output::Demoted);
        self.outputs.push_back(Output::Released {
            epoch,
            successor: Some(successor),
        });
        let delay = SUCCESSOR_HEAD_START + self.rank_delay(None);
        self.enter(State::Vacant {
            claim_at: now + delay,
        });
    }

    pub(super) fn evaluate_tenure(&mut self, now: Time) {
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        if tenure.take_probes(now) {
            self.outputs.push_back(Output::ProbeAll);
        }
        if tenure.take_release(now) {
            self.outputs.push_back(Output::Held(false));
            self.outputs.push_back(Output::Announce);
        }
        if !self.yields(now) {
            return;
        }
        self.damping.lost(now);
        self.outputs.push_back(Output::Demoted);
        self.outputs.push_back(Output::Announce);
        let claim_at = now + self.rank_delay(None) + self.patience();
        self.enter(State::Vacant { claim_at });
        self.rank_anew(now);
        self.follow_best();
    }

    /// Whether a rival's claim ends this one; re-affirms where there is no rival.
    fn yields(&mut self, now: Time) -> bool {
        let patience = self.patience();
        let known = self.claims.known().iter();
        let rival = known
            .filter_map(|(node, known)| Some((self.strength(*node, known)?, *node, *known)))
            .max_by_key(|(strength, ..)| *strength);
        let (me, own) = (self.me, self.candidates.own());
        let State::Leading(tenure) = &mut self.state else {
            return false;
        };
        let Some((strength, rival, claim)) = rival else {
            tenure.contested_since = None;
            self.reaffirm_if_exceeded();
            return false;
        };
        let since = *tenure.contested_since.get_or_insert(now);
        let outlasted = now.since(since) >= patience;
        if outlasted {
            tenure.contested_since = Some(now);
        }
        // A rival with fewer followers that goes on claiming does not hear this device: yielding
        // to it would let one deaf device take the group from everyone.
        let outlasts = outlasted
            && (claim.followers >= tenure.announced || mutant::is(Mutant::TieByEpochAlone))
            && (claim.epoch, rival) > (tenure.epoch, me);
        outlasts || strength > Strength::new(tenure.announced, own, me)
    }

    /// Goes on in an epoch above all that others were told of. Its followers count on until they
    /// have had time to acknowledge it: without them a stale claim would beat it.
    fn reaffirm_if_exceeded(&mut self) {
        let epoch = self.epochs.next();
        let State::Leading(tenure) = &mut self.state else {
            return;
        };
        if !self.claims.is_empty()
            || !self.claims.take_exceeded(tenure.epoch)
            || mutant::is(Mutant::ReaffirmationSkipped)
        {
            return;
        }
        tenure.epoch = epoch;
        self.told = Some((epoch, self.me));
        self.see(epoch);
        self.outputs.push_back(Output::TermChanged { epoch });
        self.outputs.push_back(Output::Announce);
    }
}
