//! A new leader finds out what the group holds before its plugin learns that it leads.
//!
//! One round: every member in reach is asked what it holds of earlier tenures, and the answers fix
//! the cuts of the new one. The plugin is promoted when all have answered or the round's time is
//! up. Until then the election's outputs about this tenure are kept from the plugin.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::super::Node;
use crate::election;
use crate::event::{Leadership, PluginEvent};
use crate::id::{GroupKey, NodeId, PluginId};
use crate::replication::{LAST_LEADER, LeaderState};
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::state::{Purpose, StateVector, StreamId, TableRequest, Tenure};

/// How long a round takes at most, and when it is begun again with those that are silent.
const ROUND: Duration = Duration::from_millis(150);
const ROUND_AGAIN: Duration = Duration::from_millis(45);

/// A round under way.
#[derive(Debug)]
pub(super) struct Gathering {
    epoch: u64,
    /// The epoch under which the members were asked.
    asked: u64,
    until: Time,
    again_at: Time,
    awaited: BTreeSet<NodeId>,
    /// By who told it, and which part of its vector it is: requests are repeated.
    answers: BTreeMap<(NodeId, Option<StreamId>), LeaderState>,
    /// Whether broadcasts are held back.
    held: bool,
}

impl Gathering {
    pub(super) fn next_timeout(&self) -> Time {
        self.until.min(self.again_at)
    }
}

impl Node {
    /// Carries an election's decision to the replica. None if the plugin is not to be told, or not
    /// yet.
    pub(in super::super) fn state_role(
        &mut self,
        group: GroupKey,
        output: election::Output,
    ) -> Option<election::Output> {
        use election::Output;
        let me = self.identity.node;
        let lineage = rand::Rng::next_u32(&mut self.rng);
        let now = self.group_now();
        if let Output::Promoted { epoch } = output {
            return self.begin_tenure(group, epoch);
        }
        let Some(kept) = self.states.active(group) else {
            return Some(output);
        };
        let mut told = Some(output);
        match output {
            Output::Demoted => {
                kept.replica.resign();
                told = told.filter(|_| kept.gathering.take().is_none());
            }
            Output::Followed { leader, epoch } => {
                kept.replica.follow(Some(Tenure { epoch, leader }));
            }
            Output::TermChanged { epoch } => {
                match (&mut kept.gathering, kept.replica.table_tenure()) {
                    (Some(gathering), _) => {
                        gathering.epoch = epoch;
                        told = None;
                    }
                    (None, Some(table)) if table.leader == me && kept.replica.leads() => {
                        let tenure = Tenure { epoch, leader: me };
                        kept.replica.lead(now, tenure, &[], lineage);
                    }
                    (None, _) => {
                        if let Some(followed) = kept.replica.followed() {
                            let leader = followed.leader;
                            kept.replica.follow(Some(Tenure { epoch, leader }));
                        }
                    }
                }
            }
            Output::Held(held) => {
                if let Some(gathering) = &mut kept.gathering {
                    gathering.held = held;
                    told = None;
                }
            }
            _ => {}
        }
        self.states.touch(group);
        told
    }

    /// This device leads: at once where there is nobody to ask.
    fn begin_tenure(&mut self, group: GroupKey, epoch: u64) -> Option<election::Output> {
        let now = self.now;
        let lost = self.lost_leader(group);
        let peers = self.plugin_of(group).map(|plugin| &plugin.peers);
        let peers = peers.into_iter().flat_map(|peers| peers.keys().copied());
        let connected = |node: &NodeId| {
            let entry = self.roster.get(*node);
            entry.is_some_and(|entry| entry.connected_at.is_some()) && Some(*node) != lost
        };
        let awaited: BTreeSet<NodeId> = peers.filter(connected).collect();
        if let Some(kept) = self.states.active(group) {
            kept.gathering = Some(Gathering {
                epoch,
                asked: epoch,
                until: now + ROUND,
                again_at: now + ROUND_AGAIN,
                awaited: awaited.clone(),
                answers: BTreeMap::new(),
                held: false,
            });
        } else {
            return Some(election::Output::Promoted { epoch });
        }
        self.ask_for_tables(group, epoch, &awaited);
        if awaited.is_empty() {
            self.end_gathering(group);
        }
        None
    }

    fn ask_for_tables(&mut self, group: GroupKey, epoch: u64, of: &BTreeSet<NodeId>) {
        let request = Message::TableRequest(TableRequest { group, epoch });
        for node in of {
            self.send(*node, &request);
        }
    }

    pub(super) fn time_gathering(&mut self, group: GroupKey) {
        let now = self.now;
        let kept = self.states.active(group);
        let Some(gathering) = kept.and_then(|kept| kept.gathering.as_mut()) else {
            return;
        };
        if now >= gathering.until {
            self.end_gathering(group);
        } else if now >= gathering.again_at {
            gathering.again_at = now + ROUND_AGAIN;
            let (epoch, awaited) = (gathering.asked, gathering.awaited.clone());
            self.ask_for_tables(group, epoch, &awaited);
        }
    }

    /// A device whose plugin has just left answers too: it may hold the newest there is, and the
    /// other does not wait for it.
    pub(super) fn take_table_request(&mut self, from: NodeId, request: TableRequest) {
        let group = request.group;
        let kept = self.states.kept.get(&group);
        let nothing = || StateVector {
            group,
            purpose: Purpose::Answer(request.epoch),
            table: None,
            after: None,
            upto: None,
            held: Vec::new(),
        };
        let vectors = kept.map_or_else(|| vec![nothing()], |kept| kept.replica.leader_vectors());
        for mut vector in vectors {
            vector.purpose = Purpose::Answer(request.epoch);
            self.send(from, &Message::StateVector(vector));
        }
    }

    pub(super) fn take_answer(&mut self, from: NodeId, vector: &StateVector, epoch: u64) {
        let group = vector.group;
        let kept = self.states.active(group);
        let Some(gathering) = kept.and_then(|kept| kept.gathering.as_mut()) else {
            return;
        };
        if gathering.asked != epoch || !gathering.awaited.contains(&from) {
            return;
        }
        let top = |stream: &crate::wire::state::Held| match stream.stream {
            StreamId::Leader(tenure) => Some((tenure, stream.top)),
            StreamId::Device { .. } | StreamId::Shared { .. } => None,
        };
        let answer = LeaderState {
            table: vector.table.clone(),
            tops: vector.held.iter().filter_map(top).collect(),
        };
        gathering.answers.insert((from, vector.after), answer);
        if vector.upto.is_none_or(|upto| upto == LAST_LEADER) {
            gathering.awaited.remove(&from);
        }
        if gathering.awaited.is_empty() {
            self.end_gathering(group);
        }
    }

    /// A device that said goodbye, or whose session is over, answers no more: no round waits for it.
    pub(in super::super) fn state_unreachable(&mut self, node: NodeId) {
        let now = self.now;
        let gatherings = self.states.kept.values_mut();
        for gathering in gatherings.filter_map(|kept| kept.gathering.as_mut()) {
            if gathering.awaited.remove(&node) && gathering.awaited.is_empty() {
                gathering.until = now;
            }
        }
    }

    /// The cuts are fixed, and the plugin learns that it leads.
    fn end_gathering(&mut self, group: GroupKey) {
        let (now, leader) = (self.group_now(), self.identity.node);
        let lineage = rand::Rng::next_u32(&mut self.rng);
        let id = self.plugin_of(group).map(|plugin| plugin.spec.id.clone());
        let kept = self.states.active(group);
        let Some((kept, id)) = kept.zip(id) else {
            return;
        };
        let Some(gathering) = kept.gathering.take() else {
            return;
        };
        let epoch = gathering.epoch;
        let tenure = Tenure { epoch, leader };
        let answers: Vec<LeaderState> = gathering.answers.into_values().collect();
        kept.replica.lead(now, tenure, &answers, lineage);
        self.states.touch(group);
        self.settle_state();
        self.tell_promotion(&id, epoch);
        if gathering.held {
            self.tell(&id, PluginEvent::BroadcastsHeld(true));
        }
    }

    fn tell_promotion(&mut self, id: &PluginId, epoch: u64) {
        let leadership = Leadership {
            leader: self.this_peer(),
            term: epoch,
        };
        tracing::debug!(plugin = %id, epoch, "role: this device leads");
        if let Some(plugin) = self.plugins.get_mut(id) {
            plugin.leadership = Some(leadership.clone());
        }
        self.tell(id, PluginEvent::PromoteLeader(leadership));
    }
}
