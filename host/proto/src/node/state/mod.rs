//! Replicated state: one replica for each group of a plugin, and what its plugin is told of it.
//!
//! A replica decides what holds; this module carries a plugin's writes to it and its changes to
//! the plugin, in [`Node::settle_state`]. How replicas come to be equal is in `push` (news, at
//! once) and `exchange` (whatever was missed), what a new leader finds out before its plugin
//! learns that it leads in `tenure`; how they outlast a restart in `keep`. A replica stays while its plugin is away, and takes no part
//! then; what happens when there are too many of them is in `away`.

mod away;
mod exchange;
mod held;
mod keep;
mod push;
mod refused;
mod system;
mod tenure;

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Identity, Node};
use crate::config::StoredState;
use crate::event::PluginEvent;
use crate::id::{DeviceId, GroupKey, NodeId, PluginId};
use crate::mutant::{self, Mutant};
use crate::quota::Bucket;
use crate::replication::Replica;
use crate::state::{StateConfig, StateUpdate, StateWrite};
use crate::status::StateStatus;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::state::{Stamp, StreamId};

use exchange::Asks;
use keep::{Changes, FLUSH_AFTER, Keeping};
use push::Push;
use refused::Refusals;
use tenure::Gathering;

/// Replicas kept, of plugins that are away too.
const REPLICAS_MAX: usize = 64;
/// How long a device runs before it folds what its earlier runs left.
const FOLD_AFTER: Duration = Duration::from_secs(60);
/// Bytes a second, and at once, that answers to others' vectors take.
const CATCH_UP_RATE: u64 = 1 << 20;
const CATCH_UP_BURST: u64 = 64 << 10;
/// The same for news of this device's own.
const PUSH_RATE: u64 = 4 << 20;
const PUSH_BURST: u64 = 2 << 20;
/// A plugin's host is told of its room by itself once less than this is left, or that much has come
/// or gone; otherwise with other news.
const ROOM_SCARCE: u64 = 64 << 10;
const ROOM_STEP: u64 = 16 << 10;

/// All replicas of this device.
#[derive(Debug)]
pub(super) struct States {
    kept: BTreeMap<GroupKey, Kept>,
    configs: BTreeMap<PluginId, StateConfig>,
    /// Read from the disk and not taken up by a plugin.
    stored: BTreeMap<GroupKey, Vec<(Bytes, Bytes)>>,
    /// How many writes were lost of plugins of whose state nothing is held.
    unkept: BTreeMap<GroupKey, u64>,
    /// Laid aside to make room, as on the disk.
    aside: BTreeMap<GroupKey, Vec<(Bytes, Bytes)>>,
    me: DeviceId,
    /// What replicas that are opened from here on write under.
    stamp: Stamp,
    /// The replicas with something to tell.
    touched: Vec<GroupKey>,
    summary_at: Time,
    summaries: u32,
    /// Whether the next summary goes to several members, for there is news.
    spreading: bool,
    catch_up: Bucket,
    push_room: Bucket,
    flush_at: Time,
    /// Writes to the disk under way.
    flushing: BTreeMap<u64, (GroupKey, Changes)>,
}

/// One replica.
#[derive(Debug)]
struct Kept {
    replica: Replica,
    config: StateConfig,
    /// Whether its plugin runs.
    active: bool,
    /// If it does not: since when.
    away_since: Time,
    /// Writes of the plugin that it has not been told of.
    handled: u32,
    /// The room that it was last told.
    room: u64,
    refusals: Refusals,
    push: Push,
    asks: Asks,
    gathering: Option<Gathering>,
    keeping: Keeping,
    catching_up: bool,
    refused: u64,
    /// When other members were last found to hold all that this device holds.
    equal_at: BTreeMap<NodeId, Time>,
    finished: Vec<StreamId>,
    finished_since: Time,
}

impl States {
    pub(super) fn new(identity: &Identity, boot_counter: u64, kept: Vec<StoredState>) -> Self {
        let kept = kept.into_iter();
        Self {
            kept: BTreeMap::new(),
            configs: BTreeMap::new(),
            stored: kept.map(|kept| (kept.group, kept.records)).collect(),
            unkept: BTreeMap::new(),
            aside: BTreeMap::new(),
            me: identity.device,
            stamp: Stamp(boot_counter << 32 | identity.boot.0 & u64::from(u32::MAX)),
            touched: Vec::new(),
            summary_at: Time::MAX,
            summaries: 0,
            spreading: false,
            catch_up: Bucket::new(CATCH_UP_RATE, CATCH_UP_BURST),
            push_room: Bucket::new(PUSH_RATE, PUSH_BURST),
            flush_at: Time::MAX,
            flushing: BTreeMap::new(),
        }
    }

    fn touch(&mut self, group: GroupKey) {
        if self.touched.last() != Some(&group) {
            self.touched.push(group);
        }
    }

    /// A replica that takes part.
    fn active(&mut self, group: GroupKey) -> Option<&mut Kept> {
        self.kept.get_mut(&group).filter(|kept| kept.active)
    }
}

impl Kept {
    fn new(replica: Replica, config: StateConfig) -> Self {
        Self {
            replica,
            config,
            active: false,
            away_since: Time::ZERO,
            handled: 0,
            room: u64::MAX,
            refusals: Refusals::default(),
            push: Push::default(),
            asks: Asks::default(),
            gathering: None,
            keeping: Keeping::default(),
            catching_up: false,
            refused: 0,
            equal_at: BTreeMap::new(),
            finished: Vec::new(),
            finished_since: Time::ZERO,
        }
    }

    /// Whether the plugin's host is to be told of its room if there is nothing else to tell.
    fn is_news(&self, room: u64) -> bool {
        let scarce = self.room.min(room) < ROOM_SCARCE && self.room != room;
        self.active && (scarce || self.room.abs_diff(room) >= ROOM_STEP)
    }

    fn next_timeout(&self, now: Time, group_now: u64) -> Option<Time> {
        let due = self.replica.next_timeout();
        let due = due.map(|at| now + Duration::from_micros(at.saturating_sub(group_now)));
        let gathering = self.gathering.as_ref().map(Gathering::next_timeout);
        let refused = self.refusals.is_waiting().then_some(now);
        [
            due,
            refused,
            gathering,
            self.push.next_timeout(),
            self.asks.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Node {
    /// Group time, in microseconds.
    fn group_now(&self) -> u64 {
        self.clock.reading(self.now).1
    }

    pub(super) fn set_state_config(&mut self, id: PluginId, mut config: StateConfig) {
        let bounds = (Duration::from_millis(50), Duration::from_secs(3600));
        config.interval = config.interval.clamp(bounds.0, bounds.1);
        if let Some(group) = self.plugins.get(&id).map(|plugin| plugin.group)
            && let Some(kept) = self.states.kept.get_mut(&group)
        {
            kept.config = config;
            kept.replica.set_config(config);
            self.states.touch(group);
        }
        self.states.configs.insert(id.clone(), config);
        if self.states.configs.len() > REPLICAS_MAX {
            let known = self.states.configs.keys();
            let mut away = known.filter(|known| **known != id && !self.plugins.contains_key(known));
            if let Some(away) = away.next().cloned() {
                self.states.configs.remove(&away);
            }
        }
    }

    /// A plugin opens its group: it is told the whole state that is known here.
    pub(super) fn state_up(&mut self, id: &PluginId, group: GroupKey) {
        let now = self.group_now();
        let config = self.states.configs.get(id).copied().unwrap_or_default();
        let Some(kept) = self.states.open(group, config, now) else {
            return;
        };
        kept.active = true;
        kept.config = config;
        kept.replica.set_config(config);
        kept.replica.take_changes();
        kept.room = kept.replica.room();
        let update = StateUpdate {
            changes: kept.replica.whole(now),
            handled: core::mem::take(&mut kept.handled),
            room: kept.room,
            whole: true,
        };
        self.tell(id, PluginEvent::State(update));
        self.schedule_summary();
    }

    /// A plugin left its group.
    pub(super) fn state_down(&mut self, group: GroupKey) {
        self.flush_state();
        let now = self.now;
        if let Some(kept) = self.states.kept.get_mut(&group) {
            kept.active = false;
            kept.away_since = now;
            kept.gathering = None;
            kept.push = Push::default();
            kept.asks = Asks::default();
            kept.equal_at.clear();
            kept.replica.resign();
        }
    }

    /// A plugin writes. Its host has checked it by what it was told, which may have changed since.
    pub(super) fn plugin_writes(&mut self, id: &PluginId, write: &StateWrite) {
        let now = self.group_now();
        let group = self.plugins.get(id).map(|plugin| plugin.group);
        let Some((group, kept)) = group.and_then(|group| Some((group, self.states.active(group)?)))
        else {
            return self.refuse_all(id, write);
        };
        kept.handled += 1;
        if let Err(why) = kept.replica.write(now, write) {
            kept.refuse(id, now, write, why);
        }
        self.states.touch(group);
    }

    /// A device runs a plugin too, or does so no longer.
    pub(super) fn state_present(&mut self, group: GroupKey, node: NodeId, present: bool) {
        let now = self.group_now();
        if let Some(kept) = self.states.kept.get_mut(&group) {
            kept.replica.set_present(now, node, present);
            if !present {
                kept.equal_at.remove(&node);
                kept.push.forget(node);
                kept.asks.forget(node);
            }
            self.states.touch(group);
        }
        self.schedule_summary();
    }

    /// Tells plugins what changed, and has news pushed and kept.
    pub(super) fn settle_state(&mut self) -> bool {
        let mut moved = false;
        while let Some(group) = self.states.touched.pop() {
            if group == GroupKey::SYSTEM {
                continue;
            }
            let now = self.now;
            let id = self.plugin_of(group).map(|plugin| plugin.spec.id.clone());
            let Some(kept) = self.states.kept.get_mut(&group) else {
                continue;
            };
            let changes = kept.refusals.join(kept.replica.take_changes());
            let mut superseded = kept.refusals.take_superseded();
            superseded.extend(kept.replica.take_superseded());
            let handled = core::mem::take(&mut kept.handled);
            if kept.replica.has_unpushed() {
                kept.push.schedule(now, kept.config.interval);
            }
            if kept.replica.is_dirty() {
                self.states.flush_at = self.states.flush_at.min(now + FLUSH_AFTER);
            }
            let Some(id) = id else { continue };
            let room = kept.replica.room();
            if handled > 0 || !changes.is_empty() || kept.is_news(room) {
                moved = true;
                kept.room = room;
                let update = StateUpdate {
                    changes,
                    handled,
                    room,
                    whole: false,
                };
                self.tell(&id, PluginEvent::State(update));
            }
            if !superseded.is_empty() {
                moved = true;
                let keys = superseded.into_iter().collect();
                self.tell(&id, PluginEvent::WritesSuperseded(keys));
            }
        }
        moved
    }

    pub(super) fn next_state_timeout(&self) -> Option<Time> {
        let group_now = self.group_now();
        let active = self.states.kept.values().filter(|kept| kept.active);
        let kept = active.filter_map(|kept| kept.next_timeout(self.now, group_now));
        let own = [self.states.summary_at, self.states.flush_at];
        kept.chain(own).min().filter(|at| *at < Time::MAX)
    }

    pub(super) fn time_state(&mut self) {
        let (now, group_now) = (self.now, self.group_now());
        let active = self.states.kept.iter_mut().filter(|(_, kept)| kept.active);
        let due = active.filter(|(_, kept)| {
            kept.next_timeout(now, group_now)
                .is_some_and(|at| at <= now)
        });
        let due: Vec<GroupKey> = due
            .map(|(group, kept)| {
                kept.replica.handle_timeout(group_now);
                kept.refusals.come_due();
                *group
            })
            .collect();
        for group in due {
            if group == GroupKey::SYSTEM {
                self.time_records();
                continue;
            }
            self.states.touch(group);
            self.time_gathering(group);
            self.time_push(group);
            self.time_asks(group);
        }
        if now >= self.states.summary_at {
            self.send_summary();
        }
        if now >= self.states.flush_at {
            self.flush_state();
        }
    }

    /// Once a second: the lineage, and what earlier runs of this device left.
    pub(super) fn state_chores(&mut self) {
        let (now, group_now) = (self.now, self.group_now());
        let groups: Vec<GroupKey> = self.states.kept.keys().copied().collect();
        for group in groups {
            let lineage = rand::Rng::next_u32(&mut self.rng);
            let Some(kept) = self.states.active(group) else {
                continue;
            };
            kept.replica.renew_lineage(group_now, lineage);
            let finished = kept.replica.finished();
            if finished != kept.finished {
                kept.finished = finished;
                kept.finished_since = now;
            }
            let folds = !kept.finished.is_empty();
            if folds
                && (self.all_hold_finished(group) || mutant::is(Mutant::FoldEarly))
                && let Some(kept) = self.states.active(group)
            {
                kept.replica.fold(group_now);
            }
            self.states.touch(group);
        }
    }

    /// Whether every device that runs a group's plugin holds what earlier runs of this one left.
    fn all_hold_finished(&self, group: GroupKey) -> bool {
        let settled = self.now.since(self.started) >= FOLD_AFTER && !self.roster.misses_members();
        let plugin = self.plugin_of(group);
        let mut peers = plugin.into_iter().flat_map(|plugin| plugin.peers.keys());
        let kept = self.states.kept.get(&group);
        settled
            && kept.is_some_and(|kept| {
                let holds = |at: &Time| *at > kept.finished_since;
                peers.all(|node| kept.equal_at.get(node).is_some_and(holds))
            })
    }

    /// Group time was set: each replica is told what it is.
    pub(super) fn each_replica(&mut self, tell: impl Fn(&mut Replica, u64)) {
        let now = self.group_now();
        for (group, kept) in &mut self.states.kept {
            tell(&mut kept.replica, now);
            self.states.touched.push(*group);
        }
    }

    pub(super) fn take_state(&mut self, from: NodeId, message: Message) {
        if system::is_of_system(&message) {
            return self.take_system(from, message);
        }
        match message {
            Message::StateSummary(summary) => self.take_summary(from, &summary),
            Message::StateVector(vector) => self.take_vector(from, &vector),
            Message::StateDelta(delta) => self.take_delta(from, &delta),
            Message::StateChunk(chunk) => self.take_chunk(from, chunk),
            Message::StateAck(ack) => self.take_state_ack(from, ack),
            Message::TableRequest(request) => self.take_table_request(from, request),
            _ => {}
        }
    }

    /// The newest stream that is held and wanted, and how far it goes: in the system group's
    /// namespace, or in any plugin's.
    pub(super) fn known_stream(
        &self,
        group: GroupKey,
        wanted: impl Fn(&StreamId) -> bool,
    ) -> Option<(StreamId, u64)> {
        let system = group == GroupKey::SYSTEM;
        let kept = self.states.kept.iter();
        let kept = kept.filter(|(kept, _)| (**kept == GroupKey::SYSTEM) == system);
        let vectors = kept.flat_map(|(_, kept)| kept.replica.vectors());
        let held = vectors.flat_map(|vector| vector.held);
        let held = held.filter(|held| wanted(&held.stream));
        held.map(|held| (held.stream, held.mark)).max()
    }

    /// Whether other members are known to hold much that this device lacks.
    pub(super) fn is_catching_up(&self, group: GroupKey) -> bool {
        let kept = self.states.kept.get(&group);
        kept.is_some_and(|kept| kept.catching_up)
    }

    /// A device that lacks much of the state ranks behind others of its priority.
    fn set_catching_up(&mut self, group: GroupKey, catching_up: bool) {
        let Some(kept) = self.states.active(group) else {
            return;
        };
        if core::mem::replace(&mut kept.catching_up, catching_up) != catching_up {
            self.rank_changed(group);
        }
    }

    pub(super) fn state_status(&self, group: GroupKey) -> StateStatus {
        let lost = self.states.unkept.get(&group).copied().unwrap_or(0);
        let Some(kept) = self.states.kept.get(&group) else {
            return StateStatus {
                lost,
                ..StateStatus::default()
            };
        };
        let (keys, bytes) = kept.replica.size();
        StateStatus {
            keys: keys as u64,
            bytes,
            catching_up: kept.catching_up,
            refused: kept.refused,
            lost: lost + kept.refusals.lost,
            not_kept: kept.keeping.problem(),
        }
    }
}
