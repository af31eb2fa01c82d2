//! Elections and heartbeats: what elections decide is carried to the plugins, the clock and the
//! other devices, and who leads is told at every beat.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{BURST, BURST_GAP, Elections, Node};
use crate::election::{self, Candidate, Election, Input, Role};
use crate::event::StoreRecord;
use crate::id::{GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::wire::message::{Message, Release};

impl Node {
    pub(super) fn settle_elections(&mut self) -> bool {
        if !self
            .elections
            .values()
            .any(|election| election.has_output())
        {
            return false;
        }
        let mut moved = false;
        let groups: Vec<GroupKey> = self.elections.keys().copied().collect();
        for group in groups {
            let mut told = false;
            let poll = |elections: &mut Elections| elections.get_mut(&group)?.poll();
            while let Some(output) = poll(&mut self.elections) {
                told = true;
                self.carry_election(group, output);
            }
            if told {
                self.deliver_held(group);
            }
            moved |= told;
        }
        if moved {
            let leaders = self.leaders();
            self.liveness.watch(self.now, &leaders);
        }
        moved
    }

    fn carry_election(&mut self, group: GroupKey, output: election::Output) {
        match output {
            election::Output::Announce => {
                self.beats.burst_left = BURST;
                self.beats.burst_at = self.now;
                self.beats.next = self.now;
            }
            election::Output::ProbeAll => {
                let connected: Vec<NodeId> = self.roster.connected().collect();
                for node in connected {
                    self.liveness.greet(self.now, node);
                }
            }
            election::Output::Released { epoch, successor } => {
                self.repeat(Message::Release(Release {
                    group,
                    epoch,
                    successor,
                }));
            }
            election::Output::Ceiling(_) if mutant::is(Mutant::CeilingNotStored) => {}
            election::Output::Ceiling(ceiling) => {
                self.store(StoreRecord::EpochCeiling { group, ceiling }, true);
            }
            election::Output::RankChanged => self.record_changed(),
            election::Output::EpochRefused { from, epoch } => self.report_epoch(from, epoch),
            election::Output::Promoted { .. }
            | election::Output::Demoted
            | election::Output::Followed { .. }
            | election::Output::LostLeader
            | election::Output::TermChanged { .. }
            | election::Output::Held(_) => self.role_changed(group, output),
        }
    }

    fn role_changed(&mut self, group: GroupKey, output: election::Output) {
        if group != GroupKey::SYSTEM {
            self.tell_role(group, output);
            return;
        }
        match output {
            election::Output::Promoted { .. } => self.clock.lead(self.now),
            election::Output::Demoted => self.clock.stand_down(self.now),
            election::Output::Followed { leader, .. } => self.clock.follow(self.now, leader),
            // Group time runs on at the rate it has.
            _ => {}
        }
    }

    /// The leaders that this device follows.
    pub(super) fn leaders(&self) -> BTreeSet<NodeId> {
        let followed = self
            .elections
            .values()
            .filter_map(|election| election.followed());
        followed.map(|(leader, _)| leader).collect()
    }

    pub(super) fn followed(&self, group: GroupKey) -> Option<(NodeId, u64)> {
        self.elections.get(&group)?.followed()
    }

    pub(super) fn open_election(&mut self, group: GroupKey, own: Candidate) {
        let past = self.pasts.get(&group).copied().unwrap_or_default();
        let mut election = election::open(election::Setup {
            group,
            me: self.identity.node,
            own,
            past,
            interval: self.interval(),
        });
        let wait = self.join_wait();
        election.handle(self.now, Input::Join { wait });
        self.elections.insert(group, election);
    }

    /// How long a plugin that becomes healthy waits for claims.
    fn join_wait(&self) -> Duration {
        if self.rotation.is_none() || mutant::is(Mutant::StartUnheard) {
            return Duration::ZERO;
        }
        let round_left = (self.started + super::DISCOVERY_ROUND).since(self.now);
        round_left.max(self.interval() * 2)
    }

    pub(super) fn next_beat(&self) -> Option<Time> {
        let burst = (self.beats.burst_left > 0).then_some(self.beats.burst_at);
        let steady = self
            .elections
            .values()
            .any(|election| election.claim().is_some());
        burst
            .into_iter()
            .chain(steady.then_some(self.beats.next))
            .min()
    }

    /// Sends the heartbeats that are due: one to each device that runs a group this one leads.
    pub(super) fn time_beats(&mut self) {
        let now = self.now;
        let in_burst = self.beats.burst_left > 0 && now >= self.beats.burst_at;
        if in_burst {
            self.beats.burst_left -= 1;
            self.beats.burst_at = now + BURST_GAP;
        } else if now < self.beats.next {
            return;
        }
        let steady = now >= self.beats.next;
        if steady {
            self.beats.next = now + self.interval();
        }
        for election in self.elections.values_mut() {
            election.handle(now, Input::Beat { steady });
        }
        self.settle_elections();
        self.send_heartbeats(in_burst);
    }

    /// In a burst everyone connected is told, also of what is claimed no longer.
    fn send_heartbeats(&mut self, in_burst: bool) {
        let led = |election: &dyn Election| match election.role() {
            Role::Leading { held, .. } => !held || mutant::is(Mutant::HeldBeats),
            _ => false,
        };
        let groups = self.elections.iter();
        let groups: Vec<GroupKey> = groups
            .filter(|(_, election)| led(election.as_ref()))
            .map(|(group, _)| *group)
            .collect();
        let audience: Vec<NodeId> = if in_burst {
            self.roster.connected().collect()
        } else {
            self.audience(&groups)
        };
        let is_reference = groups.contains(&GroupKey::SYSTEM);
        let clock = is_reference.then(|| self.clock.reading(self.now));
        for node in audience {
            let heartbeat = self.heartbeat_for(node, clock);
            self.send(node, &Message::Heartbeat(heartbeat));
        }
    }
}
