//! A leader that reaches most of its followers stays, whatever happens to the rest.
//!
//! Once a fair part has agreed, its leader is under guard together with the followers it reaches
//! without a break over fair links in both directions. A follower whose link worsens, who stops or
//! restarts is guarded no longer; while more than half of those who followed at first are, the
//! leader is not demoted and none of them ceases to follow. A device from outside that anything
//! connects to the group ends the guard: it may bring a claim with more followers. A leader that
//! another member has opted to take over from is not guarded.

use std::collections::{BTreeMap, BTreeSet};

use consort_proto::{GroupKey, PluginEvent};

use super::Sim;
use crate::oracle::is_fair;

/// Beyond this many devices nobody is guarded.
const DEVICES_MAX: usize = 64;

#[derive(Debug)]
struct Ward {
    leader: usize,
    /// Who followed when all agreed.
    followers: BTreeSet<usize>,
    /// Those of them that were in reach ever since.
    reached: BTreeSet<usize>,
}

impl Ward {
    fn holds(&self) -> bool {
        self.reached.len() * 2 > self.followers.len()
    }
}

/// The leaders under guard: at most one per group and leader.
#[derive(Debug, Default)]
pub(super) struct Wards {
    wards: BTreeMap<(GroupKey, usize), Ward>,
}

impl Sim {
    /// All of `members` agree on `leader`.
    pub(super) fn guard(&mut self, key: GroupKey, leader: usize, members: &[usize]) {
        let better = |node: &usize| self.may_take_over(key, *node, leader);
        if self.devices.len() > DEVICES_MAX || members.iter().any(better) {
            return;
        }
        let followers: BTreeSet<usize> = members
            .iter()
            .copied()
            .filter(|node| *node != leader)
            .collect();
        let ward = Ward {
            leader,
            reached: followers.clone(),
            followers,
        };
        self.wards.wards.insert((key, leader), ward);
    }

    /// Something changed: who is still guarded. `touched` are devices whose own state changed.
    pub(super) fn tend_wards(&mut self, touched: &BTreeSet<usize>) {
        let mut wards = core::mem::take(&mut self.wards.wards);
        wards.retain(|(key, leader), ward| {
            let sound = |node: usize| {
                !touched.contains(&node)
                    && self.takes_part(node)
                    && !self.oracle.is_doubted(node)
                    && self.app_of(node, *key).is_some()
            };
            ward.reached.retain(|node| {
                sound(*node)
                    && self.is_near(*leader, *node)
                    && self.is_near(*node, *leader)
                    && self.share_secret(*leader, *node)
            });
            sound(*leader) && ward.holds() && !self.has_company(ward)
        });
        self.wards.wards = wards;
    }

    fn is_near(&self, from: usize, to: usize) -> bool {
        self.network.connects(from, to) && is_fair(self.network.link(from, to))
    }

    /// Whether anything passes between the group under guard and a device that was not in it.
    fn has_company(&self, ward: &Ward) -> bool {
        let inside = |node: usize| node == ward.leader || ward.followers.contains(&node);
        (0..self.devices.len())
            .filter(|other| !inside(*other) && self.takes_part(*other))
            .any(|other| {
                self.touches(ward.leader, other)
                    || ward.followers.iter().any(|node| self.touches(*node, other))
            })
    }

    /// A plugin is about to be told something.
    pub(super) fn check_wards(
        &self,
        node: usize,
        key: GroupKey,
        event: &PluginEvent,
    ) -> Result<(), String> {
        if self.oracle.is_touched(node) {
            return Ok(());
        }
        match event {
            PluginEvent::DemoteLeader => match self.wards.wards.get(&(key, node)) {
                Some(ward) if !self.oracle.is_unseen() => Err(format!(
                    "n{node} is demoted while it reaches {:?} of {:?}",
                    ward.reached, ward.followers
                )),
                Some(_) | None => Ok(()),
            },
            PluginEvent::DemoteFollower => {
                let told = self
                    .told_by(node, key)
                    .and_then(|told| self.node_of(told.0));
                let ward = told.and_then(|leader| self.wards.wards.get(&(key, leader)));
                match ward.filter(|ward| ward.reached.contains(&node)) {
                    Some(ward) if !self.oracle.is_unseen() => Err(format!(
                        "n{node} follows n{} no longer, which reached it all the while, and {:?} \
                         of {:?}",
                        ward.leader, ward.reached, ward.followers
                    )),
                    Some(_) | None => Ok(()),
                }
            }
            PluginEvent::PeerAdded(_)
            | PluginEvent::PeerUpdated(_)
            | PluginEvent::PeerRemoved(_)
            | PluginEvent::PromoteLeader(_)
            | PluginEvent::PromoteFollower(_)
            | PluginEvent::TermChanged { .. }
            | PluginEvent::BroadcastsHeld(_)
            | PluginEvent::LeaderMessage { .. }
            | PluginEvent::PeerMessage { .. }
            | PluginEvent::State(_)
            | PluginEvent::Joined(_)
            | PluginEvent::WritesSuperseded(_) => Ok(()),
        }
    }
}
