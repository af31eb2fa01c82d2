//! This device's plugins: their health, their roles, and the record that tells others of them.

use core::time::Duration;
use std::collections::BTreeMap;

use super::Node;
use crate::election::{self, Candidate, Departure, Input};
use crate::event::{Event, Leadership, Peer, PluginEvent, PluginSpec};
use crate::id::{GroupKey, NodeId, PluginId};
use crate::pace::silence;
use crate::time::Time;
use crate::wire::message::{Loss, Losses, Message};
use crate::wire::part::SLOT_NONE;
use crate::wire::record::{NAME_MAX, PLUGINS_MAX, RECORD_MAX, Record, RecordPlugin};

/// How long a faulted instance may be away before its leadership goes to another.
const FAULT_GRACE: Duration = Duration::from_millis(250);
/// A second fault within this time hands over at once, and ranks the device last for as long.
const FAULT_MEMORY: Duration = Duration::from_secs(60);

/// Elections remembered that did not begin, because others told of their past first.
const PASTS_MAX: usize = 64;
/// How often a refused epoch is mentioned in the log.
const EPOCHS_PERIOD: Duration = Duration::from_secs(60);

/// One plugin here.
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) spec: PluginSpec,
    /// The group of `spec`.
    pub(super) group: GroupKey,
    pub(super) health: Health,
    faulted_at: Option<Time>,
    /// The other members of its group, as the plugin was told.
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) leadership: Option<Leadership>,
    /// The leader that was followed last, if it is lost.
    lost_leader: Option<NodeId>,
}

impl Plugin {
    /// How many other devices run it.
    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }
}

/// The numbers that stand for groups in this device's messages. None changes its meaning within a
/// boot, so a record that is behind never leads a message astray.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

/// A group's number, and since when others may know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) number: u8,
    pub(super) since: Time,
    group: GroupKey,
}

impl Slots {
    /// Gives a group a number, if it has none and one is left.
    fn assign(&mut self, now: Time, group: GroupKey) {
        let next = u8::try_from(self.0.len()).unwrap_or(SLOT_NONE);
        if self.of(group).is_none() && next < SLOT_NONE {
            self.0.push(Slot {
                number: next,
                since: now,
                group,
            });
        }
    }

    pub(super) fn of(&self, group: GroupKey) -> Option<Slot> {
        self.0.iter().find(|slot| slot.group == group).copied()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Takes part in its group.
    Up,
    /// Its instance is being restarted; it still takes part, but claims no leadership.
    Faulted { until: Time },
    /// Takes no part.
    Down,
}

/// Cuts a device's name to what records hold, at a character.
pub(super) fn cut_name(name: &str) -> String {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

impl Node {
    pub(super) fn plugin_up(&mut self, spec: PluginSpec) {
        let group = spec.group();
        if let Some(plugin) = self.plugins.get_mut(&spec.id) {
            if plugin.health != Health::Down && plugin.group == group {
                plugin.health = Health::Up;
                let changed = plugin.spec != spec;
                plugin.spec = spec;
                let own = candidate(&plugin.spec);
                let incomplete = self.is_catching_up(group);
                self.tell_election(group, Input::Own(Candidate { incomplete, ..own }));
                self.tell_election(group, Input::Fit(true));
                if changed {
                    self.record_changed();
                }
                return;
            }
            let id = spec.id.clone();
            self.plugin_leaves(&id, Departure::Unfit);
        } else if self.plugins.len() >= PLUGINS_MAX {
            tracing::warn!(plugin = %spec.id, max = PLUGINS_MAX, "too many plugins on this device: this one takes no part in its group");
            return;
        }
        let (id, own) = (spec.id.clone(), candidate(&spec));
        let before = self.plugins.remove(&id);
        self.slots.assign(self.now, group);
        let plugin = Plugin {
            spec,
            group,
            health: Health::Up,
            faulted_at: before.and_then(|plugin| plugin.faulted_at),
            peers: BTreeMap::new(),
            leadership: None,
            lost_leader: None,
        };
        self.plugins.insert(id.clone(), plugin);
        if self.own_record_size() > RECORD_MAX {
            self.plugins.remove(&id);
            tracing::warn!(plugin = %id, "this device's plugins do not fit its record: this one takes no part in its group");
            return;
        }
        self.tell(&id, PluginEvent::Joined(group));
        self.state_up(&id, group);
        let this = self.this_peer();
        self.tell(&id, PluginEvent::PeerAdded(this));
        self.open_election(group, own);
        self.record_changed();
        self.refresh_views();
    }

    /// The instance faulted: it has a moment to come back, but not twice a minute.
    pub(super) fn plugin_faulted(&mut self, id: &PluginId) {
        let now = self.now;
        let Some(plugin) = self.plugins.get_mut(id) else {
            return;
        };
        if plugin.health == Health::Down {
            return;
        }
        let again = plugin
            .faulted_at
            .is_some_and(|at| now.since(at) < FAULT_MEMORY);
        plugin.faulted_at = Some(now);
        if again {
            let departure = Departure::Unstable {
                rank_last_for: FAULT_MEMORY,
            };
            self.plugin_leaves(id, departure);
        } else {
            plugin.health = Health::Faulted {
                until: now + FAULT_GRACE,
            };
            let group = plugin.group;
            self.tell_election(group, Input::Fit(false));
        }
    }

    pub(super) fn plugin_down(&mut self, id: &PluginId) {
        self.plugin_leaves(id, Departure::Unfit);
        self.plugins.remove(id);
        self.quotas.remove(id);
    }

    /// The plugin leaves its group: a leadership is handed over, and it is told of everyone's
    /// removal.
    fn plugin_leaves(&mut self, id: &PluginId, departure: Departure) {
        let Some(plugin) = self.plugins.get(id) else {
            return;
        };
        if plugin.health == Health::Down {
            return;
        }
        let group = plugin.group;
        self.push_all(group);
        self.tell_election(group, Input::Leave(departure));
        self.settle_elections();
        if let Some(election) = self.elections.remove(&group) {
            self.pasts.insert(group, election.past());
        }
        let Some(plugin) = self.plugins.get_mut(id) else {
            return;
        };
        plugin.health = Health::Down;
        plugin.lost_leader = None;
        self.state_down(group);
        let Some(plugin) = self.plugins.get_mut(id) else {
            return;
        };
        for peer in core::mem::take(&mut plugin.peers).into_values() {
            self.tell(id, PluginEvent::PeerRemoved(peer));
        }
        let this = self.this_peer();
        self.tell(id, PluginEvent::PeerRemoved(this));
        self.record_changed();
    }

    pub(super) fn next_plugin_timeout(&self) -> Option<Time> {
        let due = |plugin: &Plugin| match plugin.health {
            Health::Faulted { until } => Some(until),
            Health::Up | Health::Down => None,
        };
        self.plugins.values().filter_map(due).min()
    }

    /// A fault that lasts ends the part that the plugin takes in its group.
    pub(super) fn time_plugins(&mut self) {
        let now = self.now;
        let overdue =
            |plugin: &Plugin| matches!(plugin.health, Health::Faulted { until } if now >= until);
        let gone: Vec<PluginId> = self
            .plugins
            .values()
            .filter(|plugin| overdue(plugin))
            .map(|plugin| plugin.spec.id.clone())
            .collect();
        for id in gone {
            self.plugin_leaves(&id, Departure::Unfit);
        }
    }

    /// What this device tells of itself.
    pub(super) fn own_record(&self) -> Record {
        let healthy = self
            .plugins
            .values()
            .filter(|plugin| plugin.health != Health::Down);
        let plugins = healthy.map(|plugin| RecordPlugin {
            id: plugin.spec.id.clone(),
            version: plugin.spec.version,
            priority: plugin.spec.priority,
            preempts: plugin.spec.preempt,
            flapping: self.is_flapping(plugin.group),
            incomplete: self.is_catching_up(plugin.group),
            slot: self
                .slots
                .of(plugin.group)
                .map_or(SLOT_NONE, |slot| slot.number),
        });
        Record {
            key: self.identity.key,
            boot: self.identity.boot,
            version: self.serials.record,
            flags: self.identity.flags,
            name: self.identity.name.clone(),
            program: self.config.version,
            flapping: self.is_flapping(GroupKey::SYSTEM),
            plugins: plugins.collect(),
        }
    }

    fn own_record_size(&self) -> usize {
        self.own_record().encode().len()
    }

    fn is_flapping(&self, group: GroupKey) -> bool {
        let election = self.elections.get(&group);
        election.is_some_and(|election| election.is_flapping())
    }

    /// Tells a device of the losses of leadership that this one saw it suffer: it may have been
    /// restarted since, and would rank itself as if nothing had happened.
    pub(super) fn tell_losses(&mut self, node: NodeId) {
        let seen = self.elections.iter().filter_map(|(group, election)| {
            let penalty = election.penalty_seen(self.now, node)?;
            Some(Loss {
                group: *group,
                penalty,
            })
        });
        let losses: Vec<Loss> = seen.collect();
        if !losses.is_empty() {
            self.send(node, &Message::Losses(Losses { losses }));
        }
    }

    /// Takes what another saw this device lose; its plugins may not be up yet.
    pub(super) fn take_losses(&mut self, told: &Losses) {
        for Loss { group, penalty } in &told.losses {
            if self.elections.contains_key(group) {
                self.tell_election(*group, Input::Losses { penalty: *penalty });
            } else if self.pasts.contains_key(group) || self.pasts.len() < PASTS_MAX {
                let past = self.pasts.entry(*group).or_default();
                past.damping.told(self.now, *penalty);
            }
        }
    }

    pub(super) fn report_epoch(&mut self, from: NodeId, epoch: u64) {
        self.counters.epochs_refused += 1;
        let last = self.epochs_told_at;
        if last.is_none_or(|last| self.now.since(last) >= EPOCHS_PERIOD) {
            self.epochs_told_at = Some(self.now);
            let device = self.roster.get(from).map(|entry| entry.device);
            tracing::warn!(
                ?device,
                epoch,
                "refused an epoch far above all seen; that device is faulty, or it belongs to another group"
            );
        }
    }

    /// This device ranks otherwise in a group from here on.
    pub(super) fn rank_changed(&mut self, group: GroupKey) {
        if let Some(plugin) = self.plugin_of(group) {
            let own = Candidate {
                incomplete: self.is_catching_up(group),
                ..candidate(&plugin.spec)
            };
            self.tell_election(group, Input::Own(own));
            self.record_changed();
        }
    }

    /// The leader that was followed last, if it has been silent since it was lost.
    pub(super) fn lost_leader(&self, group: GroupKey) -> Option<NodeId> {
        let lost = self.plugin_of(group)?.lost_leader?;
        let key = self.roster.get(lost)?.key;
        let heard = self.sessions.as_ref()?.last_heard(&key);
        let silent = heard.is_none_or(|at| self.now.since(at) > silence(self.interval()));
        silent.then_some(lost)
    }

    pub(super) fn plugin_of(&self, group: GroupKey) -> Option<&Plugin> {
        let takes_part = |plugin: &&Plugin| plugin.health != Health::Down && plugin.group == group;
        self.plugins.values().find(takes_part)
    }

    pub(super) fn tell_role(&mut self, group: GroupKey, output: election::Output) {
        let Some(output) = self.state_role(group, output) else {
            return;
        };
        let Some(plugin) = self.plugin_of(group) else {
            return;
        };
        let id = plugin.spec.id.clone();
        let leadership = |leader: Peer, term: u64| Leadership { leader, term };
        let (event, now_leads) = match output {
            election::Output::Promoted { epoch } => {
                let leadership = leadership(self.this_peer(), epoch);
                (
                    PluginEvent::PromoteLeader(leadership.clone()),
                    Some(leadership),
                )
            }
            election::Output::Followed { leader, epoch } => {
                let Some(peer) = plugin.peers.get(&leader) else {
                    return;
                };
                let leadership = leadership(peer.clone(), epoch);
                (
                    PluginEvent::PromoteFollower(leadership.clone()),
                    Some(leadership),
                )
            }
            election::Output::Demoted => (PluginEvent::DemoteLeader, None),
            election::Output::LostLeader => (PluginEvent::DemoteFollower, None),
            election::Output::TermChanged { epoch } => {
                let told = plugin.leadership.clone();
                let told = told.map(|told| leadership(told.leader, epoch));
                (PluginEvent::TermChanged { term: epoch }, told)
            }
            election::Output::Held(held) => {
                (PluginEvent::BroadcastsHeld(held), plugin.leadership.clone())
            }
            election::Output::Announce
            | election::Output::ProbeAll
            | election::Output::Released { .. }
            | election::Output::RankChanged
            | election::Output::EpochRefused { .. }
            | election::Output::Ceiling(_) => return,
        };
        tracing::debug!(plugin = %id, ?event, "role");
        if let Some(plugin) = self.plugins.get_mut(&id) {
            let before = core::mem::replace(&mut plugin.leadership, now_leads);
            plugin.lost_leader = match event {
                PluginEvent::DemoteFollower => before.map(|told| told.leader.device.node()),
                _ => None,
            };
        }
        self.tell(&id, event);
    }

    pub(super) fn tell(&mut self, id: &PluginId, event: PluginEvent) {
        self.events.push_back(Event::Plugin {
            id: id.clone(),
            event,
        });
    }
}

/// How this device ranks, but for its losses.
fn candidate(spec: &PluginSpec) -> Candidate {
    Candidate {
        priority: spec.priority,
        preempts: spec.preempt,
        flapping: false,
        incomplete: false,
    }
}
