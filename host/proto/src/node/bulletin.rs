//! What every probe, heartbeat and answer says about leadership: made for one recipient, and read.

use std::collections::BTreeMap;

use super::Node;
use crate::election::Source;
use crate::id::{GroupKey, NodeId};
use crate::pace::silence;
use crate::time::micros;
use crate::wire::message::{Bulletin, Claim, Follow, LIST_MAX, Report, Seen};

impl Node {
    /// What this device tells `to`: all its claims; and of the groups that `to` claims, whether it
    /// follows, whom it follows instead, and what epochs it saw beyond.
    pub(super) fn bulletin_for(&mut self, to: NodeId) -> Bulletin {
        self.serials.bulletin = self.serials.bulletin.wrapping_add(1);
        let mut bulletin = Bulletin {
            seq: self.serials.bulletin,
            record: self.serials.record,
            ..Bulletin::default()
        };
        let asked = self.roster.get(to).map_or(&[][..], |entry| &entry.asks[..]);
        for (group, election) in &self.elections {
            if let Some((epoch, followers)) = election.claim() {
                bulletin.claims.push(Claim {
                    group: *group,
                    epoch,
                    followers,
                });
            }
            if election.is_waiting() {
                bulletin.asks.push(*group);
            }
            let followed = election.followed();
            if let Some((_, epoch)) = followed.filter(|(leader, _)| *leader == to) {
                bulletin.follows.push(Follow {
                    group: *group,
                    epoch,
                });
            }
            let claimed = election
                .known_claims()
                .find(|(node, known)| *node == to && known.source == Source::Own);
            if let Some((_, known)) = claimed {
                let seen = election.seen_beyond(to, known.epoch);
                bulletin.seen.extend(seen.map(|epoch| Seen {
                    group: *group,
                    epoch,
                }));
            }
            if claimed.is_some() || asked.contains(group) {
                self.report_rivals(*group, to, &mut bulletin.reports);
            }
        }
        bulletin.reports.truncate(LIST_MAX);
        bulletin
    }

    /// The claims of third devices that this one has heard lately.
    fn report_rivals(&self, group: GroupKey, to: NodeId, reports: &mut Vec<Report>) {
        let Some(election) = self.elections.get(&group) else {
            return;
        };
        for (leader, known) in election.known_claims() {
            let Some(heard) = self.liveness.last_heard(leader) else {
                continue;
            };
            let age = self.now.since(heard);
            if leader == to || age >= silence(self.interval()) {
                continue;
            }
            reports.push(Report {
                group,
                epoch: known.epoch,
                leader,
                followers: known.followers,
                age_us: u32::try_from(micros(age)).unwrap_or(u32::MAX),
            });
        }
    }

    /// Takes what a device says of itself and of third ones. Returns whether it is the newest
    /// word: datagrams may overtake each other.
    pub(super) fn take_bulletin(&mut self, from: NodeId, bulletin: &Bulletin) -> bool {
        let now = self.now;
        let Some(entry) = self.roster.get_mut(from) else {
            return false;
        };
        let newer = entry.bulletin_seq.is_none_or(|last| {
            let ahead = bulletin.seq.wrapping_sub(last);
            ahead != 0 && ahead < u32::MAX / 2
        });
        if !newer {
            return false;
        }
        entry.bulletin_seq = Some(bulletin.seq);
        entry.claims.clone_from(&bulletin.claims);
        entry.asks.clone_from(&bulletin.asks);
        let claims: BTreeMap<GroupKey, &Claim> = bulletin
            .claims
            .iter()
            .map(|claim| (claim.group, claim))
            .collect();
        for (group, election) in &mut self.elections {
            let claim = claims
                .get(group)
                .map(|claim| (claim.epoch, claim.followers));
            election.handle_claim(now, from, claim);
        }
        for follow in &bulletin.follows {
            if let Some(election) = self.elections.get_mut(&follow.group) {
                election.handle_follow(now, from, follow.epoch);
            }
        }
        for seen in &bulletin.seen {
            if let Some(election) = self.elections.get_mut(&seen.group) {
                election.handle_seen(now, from, seen.epoch);
            }
        }
        let access = &self.config.access;
        let reports = bulletin.reports.iter();
        for report in reports.filter(|report| access.admits_node(report.leader)) {
            if let Some(election) = self.elections.get_mut(&report.group) {
                let heard = now - core::time::Duration::from_micros(u64::from(report.age_us));
                let told = (report.epoch, report.followers);
                election.handle_report(now, report.leader, told, heard);
            }
        }
        self.want_record(from, bulletin.record);
        true
    }
}
