//! What every probe, heartbeat and answer says about leadership: made for one recipient, and read.

use super::Node;
use crate::election::{Claimed, Input, Role, Source};
use crate::id::{GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::{Time, micros};
use crate::wire::message::{Bulletin, Claim, Follow, LIST_MAX, Report, Seen};

impl Node {
    /// What this device tells `to`: all its claims; of the groups that `to` claims, whether it
    /// follows, whom it follows instead, and what epochs it saw beyond; of those it looks for a
    /// leader of, the epoch that is in its way. A leader that this device does not hear learns of
    /// that by those who hear both.
    pub(super) fn bulletin_for(&mut self, to: NodeId) -> Bulletin {
        self.serials.bulletin = self.serials.bulletin.wrapping_add(1);
        let mut bulletin = Bulletin {
            seq: self.serials.bulletin,
            record: self.serials.record,
            ..Bulletin::default()
        };
        let asked = self
            .roster
            .get(to)
            .map_or(&[][..], |entry| &entry.told.asks[..]);
        for (group, election) in &self.elections {
            match election.role() {
                Role::Leading {
                    epoch, followers, ..
                } => bulletin.claims.push(Claim {
                    group: *group,
                    epoch,
                    followers,
                }),
                Role::Following { leader, epoch } if leader == to => {
                    bulletin.follows.push(Follow {
                        group: *group,
                        epoch,
                    });
                }
                Role::Waiting { .. } => bulletin.asks.push(*group),
                Role::Following { .. } | Role::Idle => {}
            }
            let known = election.known_claims().get(&to);
            let claimed = known.filter(|known| known.source == Source::Own);
            let beyond = claimed.and_then(|known| election.seen_beyond(to, known.epoch));
            let in_the_way = || {
                election
                    .in_the_way()
                    .filter(|_| !mutant::is(Mutant::ObstacleUntold))
            };
            let seen = beyond.or_else(in_the_way);
            bulletin.seen.extend(seen.map(|epoch| Seen {
                group: *group,
                epoch,
            }));
            if claimed.is_some() || asked.contains(group) {
                self.report_rivals(*group, to, &mut bulletin.reports);
            }
        }
        bulletin.reports.truncate(LIST_MAX);
        bulletin
    }

    /// The claims of third devices that this one has heard of themselves lately. What others reported
    /// is not passed on: members that all look for a leader, and hear a device that has given up its
    /// claim, would tell each other of that claim for ever, and none would claim.
    fn report_rivals(&self, group: GroupKey, to: NodeId, reports: &mut Vec<Report>) {
        let Some(election) = self.elections.get(&group) else {
            return;
        };
        for (leader, known) in election.known_claims() {
            if reports.len() >= LIST_MAX {
                return;
            }
            if known.source != Source::Own {
                continue;
            }
            let Some(heard) = self.liveness.last_heard(*leader) else {
                continue;
            };
            let age = self.now.since(heard);
            if *leader == to || age >= silence(self.interval()) {
                continue;
            }
            reports.push(Report {
                group,
                epoch: known.epoch,
                leader: *leader,
                followers: known.followers,
                age_us: u32::try_from(micros(age)).unwrap_or(u32::MAX),
            });
        }
    }

    /// Takes what a device says of itself and of third ones. `asked` is when this device sent what
    /// the bulletin answers, where that is known. Returns whether it is the newest word: datagrams
    /// may overtake each other.
    pub(super) fn take_bulletin(
        &mut self,
        from: NodeId,
        bulletin: &Bulletin,
        asked: Option<Time>,
    ) -> bool {
        let now = self.now;
        let Some(entry) = self.roster.get_mut(from) else {
            return false;
        };
        let newer = entry.told.bulletin_seq.is_none_or(|last| {
            let ahead = bulletin.seq.wrapping_sub(last);
            ahead != 0 && ahead < u32::MAX / 2
        });
        if !newer && !mutant::is(Mutant::BulletinsOutOfOrder) {
            return false;
        }
        entry.told.bulletin_seq = Some(bulletin.seq);
        entry.told.claims.clone_from(&bulletin.claims);
        entry.told.asks.clone_from(&bulletin.asks);
        for (group, election) in &mut self.elections {
            let mut claims = bulletin.claims.iter();
            let claim = claims.find(|claim| claim.group == *group).map(claimed);
            election.handle(now, Input::Claim { from, claim });
        }
        for follow in &bulletin.follows {
            self.tell_election(
                follow.group,
                Input::Follow {
                    from,
                    epoch: follow.epoch,
                    asked,
                },
            );
        }
        for seen in &bulletin.seen {
            let epoch = seen.epoch;
            self.tell_election(seen.group, Input::Seen { from, epoch });
        }
        for report in &bulletin.reports {
            if !self.config.access.admits_node(report.leader) {
                continue;
            }
            let age = core::time::Duration::from_micros(u64::from(report.age_us));
            let input = Input::Report {
                about: report.leader,
                claim: Claimed {
                    epoch: report.epoch,
                    followers: report.followers,
                },
                heard: now - age,
            };
            self.tell_election(report.group, input);
        }
        self.want_record(from, bulletin.record);
        true
    }

    /// Hands something to the election of a group, if this device takes part in it.
    pub(super) fn tell_election(&mut self, group: GroupKey, input: Input) {
        if let Some(election) = self.elections.get_mut(&group) {
            election.handle(self.now, input);
        }
    }
}

/// What a claim on the wire says.
pub(super) fn claimed(claim: &Claim) -> Claimed {
    Claimed {
        epoch: claim.epoch,
        followers: claim.followers,
    }
}
