//! What a plugin reads of its group's state.
//!
//! The view is a fold over [`StateUpdate`]s, with the plugin's own writes laid over it that the
//! node has not accounted for yet. Reads never wait, and depend on these inputs only. Invariant:
//! once every write is accounted for, nothing is laid over, and the view is what the node said.
//!
//! A write is accepted only if the node has room for it: in the quota, of which the view knows all,
//! and in the replica, where deletions count too, by the room that the node told less what the
//! writes since then take at most.

use core::ops::{AddAssign, Bound, SubAssign};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{
    ENTRY_BYTES, Origin, STATE_KEY_MAX, STATE_VALUE_MAX, StateChange, StateConfig, StateOutcome,
    StateUpdate, StateWrite, WriteError,
};
use crate::id::DeviceId;
use crate::quota::QuotaMeter;

/// What a counter's entry counts against the quota besides its name.
const COUNTER_BYTES: u64 = 16;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct StateView {
    me: DeviceId,
    config: StateConfig,
    meter: QuotaMeter,
    told: Entries,
    over: BTreeMap<Origin, BTreeMap<Arc<str>, Over>>,
    pending: VecDeque<Pending>,
    told_bytes: u64,
    /// What the plugin's own writes add to `told_bytes` and take of `room`.
    taken: Extra,
    /// By how much the replica may grow, as the node told.
    room: u64,
}

/// What writes add in bytes; less than 0 if they make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extra {
    /// To what counts against the quota.
    quota: i64,
    /// To what the replica holds, at most.
    replica: i64,
}

impl AddAssign for Extra {
    fn add_assign(&mut self, other: Self) {
        self.quota += other.quota;
        self.replica += other.replica;
    }
}

impl SubAssign for Extra {
    fn sub_assign(&mut self, other: Self) {
        self.quota -= other.quota;
        self.replica -= other.replica;
    }
}

type Entries = BTreeMap<Origin, BTreeMap<Arc<str>, Entry>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Value {
        value: Bytes,
        expires_at: Option<u64>,
    },
    Sum(i64),
}

/// A write that is not accounted for.
#[derive(Clone, Debug)]
struct Pending {
    origin: Origin,
    key: Arc<str>,
    effect: Effect,
}

/// What the pending writes make of one key.
#[derive(Clone, Debug)]
struct Over {
    writes: u32,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    /// The last put or deletion.
    Set(Option<Entry>),
    /// The sum of what is added.
    Add(i64),
}

impl Entry {
    fn size(&self, key: &str) -> u64 {
        let value = match self {
            Self::Value { value, .. } => value.len() as u64,
            Self::Sum(_) => COUNTER_BYTES,
        };
        key.len() as u64 + value
    }

    fn live(&self, now: u64) -> Option<&Bytes> {
        match self {
            Self::Value { value, expires_at } => {
                (!expires_at.is_some_and(|at| at <= now)).then_some(value)
            }
            Self::Sum(_) => None,
        }
    }
}

impl StateView {
    /// Nothing is known.
    #[must_use]
    pub fn new(me: DeviceId, config: StateConfig) -> Self {
        Self {
            me,
            config,
            meter: QuotaMeter::new(&config.writes),
            told: Entries::new(),
            over: BTreeMap::new(),
            pending: VecDeque::new(),
            told_bytes: 0,
            taken: Extra::default(),
            room: u64::MAX,
        }
    }

    /// Changes what the plugin may write.
    pub fn set_config(&mut self, config: StateConfig) {
        if config.writes != self.config.writes {
            self.meter = QuotaMeter::new(&config.writes);
        }
        self.config = config;
    }

    /// The value under a key at group time `now`, in microseconds.
    #[must_use]
    pub fn get(&self, origin: Origin, key: &str, now: u64) -> Option<Bytes> {
        let entry = match self.over_of(origin, key).map(|over| &over.effect) {
            Some(Effect::Set(entry)) => entry.as_ref()?,
            Some(Effect::Add(_)) | None => self.told_of(origin, key)?,
        };
        entry.live(now).cloned()
    }

    /// A counter's sum; 0 where nobody has added to it.
    #[must_use]
    pub fn counter(&self, name: &str) -> i64 {
        let told = match self.told_of(Origin::Counter, name) {
            Some(Entry::Sum(sum)) => *sum,
            Some(Entry::Value { .. }) | None => 0,
        };
        match self.over_of(Origin::Counter, name).map(|over| &over.effect) {
            Some(Effect::Add(delta)) => told.saturating_add(*delta),
            Some(Effect::Set(_)) | None => told,
        }
    }

    /// The keys that begin with `prefix` and their values at group time `now`, in the order of the
    /// keys.
    #[must_use]
    pub fn entries(&self, origin: Origin, prefix: &str, now: u64) -> Vec<(Arc<str>, Bytes)> {
        let mut keys: Vec<&Arc<str>> = Vec::new();
        let told = self.told.get(&origin).into_iter();
        keys.extend(told.flat_map(|entries| beginning(entries, prefix)));
        let over = self.over.get(&origin).into_iter();
        keys.extend(over.flat_map(|entries| beginning(entries, prefix)));
        keys.sort();
        keys.dedup();
        let found = keys.into_iter();
        found
            .filter_map(|key| Some((Arc::clone(key), self.get(origin, key, now)?)))
            .collect()
    }

    /// The value under a key of every device that has one, ordered by device.
    #[must_use]
    pub fn collect(&self, key: &str, now: u64) -> Vec<(DeviceId, Bytes)> {
        let mut devices: Vec<DeviceId> = self.told.keys().filter_map(device_of).collect();
        devices.extend(self.over.keys().filter_map(device_of));
        devices.sort();
        devices.dedup();
        let devices = devices.into_iter();
        devices
            .filter_map(|device| Some((device, self.get(Origin::Device(device), key, now)?)))
            .collect()
    }

    /// Bytes of all keys and values, as they count against the quota.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.told_bytes.saturating_add_signed(self.taken.quota)
    }

    /// Checks a write of the plugin, which leads or not, at group time `now`, and lets its reads
    /// see it. An accepted write is to be handed to the node, in this order.
    ///
    /// # Errors
    /// Says why the write is refused; nothing has changed then.
    pub fn write(&mut self, write: &StateWrite, leads: bool, now: u64) -> Result<(), WriteError> {
        let (origin, key) = write.place(self.me);
        if origin == Origin::Leader && !leads {
            return Err(WriteError::NotLeader);
        }
        if key.is_empty() || key.len() > STATE_KEY_MAX {
            return Err(WriteError::InvalidKey);
        }
        let len = match write {
            StateWrite::Put { value, .. } => value.len(),
            StateWrite::Delete { .. } | StateWrite::Add { .. } => 0,
        };
        if len > STATE_VALUE_MAX {
            return Err(WriteError::TooLarge(STATE_VALUE_MAX as u64));
        }
        let effect = effect(write, now);
        let mut growth = extra(&key, &effect, self.told_of(origin, &key));
        growth -= self.extra(origin, &key);
        let (quota, taken) = (self.config.quota, self.taken.replica);
        let bytes = self.bytes().saturating_add_signed(growth.quota);
        let exceeds_quota = growth.quota > 0 && bytes > quota;
        let exceeds_room = growth.replica > 0 && taken + growth.replica > signed(self.room);
        if exceeds_quota || exceeds_room {
            return Err(WriteError::TooLarge(quota));
        }
        if !self.meter.take(now, key.len() + len) {
            return Err(WriteError::Busy);
        }
        self.take_in(origin, key, effect);
        Ok(())
    }

    /// Lets reads see a write that another copy of this view accepted, at group time `now`.
    pub fn replay(&mut self, write: &StateWrite, now: u64) {
        let (origin, key) = write.place(self.me);
        let len = match write {
            StateWrite::Put { value, .. } => value.len(),
            StateWrite::Delete { .. } | StateWrite::Add { .. } => 0,
        };
        self.meter.take(now, key.len() + len);
        self.take_in(origin, key, effect(write, now));
    }

    fn take_in(&mut self, origin: Origin, key: Arc<str>, effect: Effect) {
        self.lay_over(origin, &key, effect.clone());
        self.pending.push_back(Pending {
            origin,
            key,
            effect,
        });
    }

    /// Folds in what the node says.
    pub fn apply(&mut self, update: &StateUpdate) {
        if update.whole {
            self.told.clear();
            self.told_bytes = 0;
            self.taken = Extra::default();
            for over in self.over.values() {
                for (key, over) in over {
                    self.taken += extra(key, &over.effect, None);
                }
            }
        }
        self.room = update.room;
        for change in &update.changes {
            self.tell(change);
        }
        for _ in 0..update.handled {
            let Some(done) = self.pending.pop_front() else {
                break;
            };
            self.account_for(&done);
        }
    }

    fn tell(&mut self, change: &StateChange) {
        let over_before = self.extra(change.origin, &change.key);
        let told_before = self.told_size(change.origin, &change.key);
        let entries = self.told.entry(change.origin).or_default();
        match entry_of(&change.outcome) {
            Some(entry) => {
                entries.insert(Arc::clone(&change.key), entry);
            }
            None => {
                entries.remove(&*change.key);
            }
        }
        if entries.is_empty() {
            self.told.remove(&change.origin);
        }
        let told_after = self.told_size(change.origin, &change.key);
        self.told_bytes = (self.told_bytes + told_after).saturating_sub(told_before);
        self.taken -= over_before;
        self.taken += self.extra(change.origin, &change.key);
    }

    /// Lays one more write over a key.
    fn lay_over(&mut self, origin: Origin, key: &Arc<str>, effect: Effect) {
        let before = self.extra(origin, key);
        let over = self.over.entry(origin).or_default();
        match over.get_mut(&**key) {
            Some(over) => {
                over.writes += 1;
                over.effect = match (&over.effect, effect) {
                    (Effect::Add(sum), Effect::Add(delta)) => {
                        Effect::Add(sum.saturating_add(delta))
                    }
                    (_, effect) => effect,
                };
            }
            None => {
                over.insert(Arc::clone(key), Over { writes: 1, effect });
            }
        }
        self.taken -= before;
        self.taken += self.extra(origin, key);
    }

    /// The oldest write of a key is part of what the node said.
    fn account_for(&mut self, done: &Pending) {
        let before = self.extra(done.origin, &done.key);
        let over = self.over.get_mut(&done.origin);
        let Some(over) = over.and_then(|over| over.get_mut(&*done.key)) else {
            return;
        };
        over.writes -= 1;
        if let (Effect::Add(sum), Effect::Add(delta)) = (&mut over.effect, &done.effect) {
            *sum = sum.saturating_sub(*delta);
        }
        if over.writes == 0 {
            self.lift(done.origin, &done.key);
            return;
        }
        self.taken -= before;
        self.taken += self.extra(done.origin, &done.key);
    }

    /// Takes away what is laid over a key.
    fn lift(&mut self, origin: Origin, key: &str) {
        self.taken -= self.extra(origin, key);
        if let Some(over) = self.over.get_mut(&origin) {
            over.remove(key);
            if over.is_empty() {
                self.over.remove(&origin);
            }
        }
    }

    fn told_of(&self, origin: Origin, key: &str) -> Option<&Entry> {
        self.told.get(&origin)?.get(key)
    }

    fn over_of(&self, origin: Origin, key: &str) -> Option<&Over> {
        self.over.get(&origin)?.get(key)
    }

    fn told_size(&self, origin: Origin, key: &str) -> u64 {
        self.told_of(origin, key).map_or(0, |entry| entry.size(key))
    }

    /// What is laid over a key adds to what the node told.
    fn extra(&self, origin: Origin, key: &str) -> Extra {
        let over = self.over_of(origin, key);
        over.map_or_else(Extra::default, |over| {
            extra(key, &over.effect, self.told_of(origin, key))
        })
    }
}

/// What a key that is written so adds to what the node told of it. The node does not tell of
/// deletions that it remembers, nor who added to a counter: they are reckoned as if there were none.
fn extra(key: &str, effect: &Effect, told: Option<&Entry>) -> Extra {
    let size = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.size(key));
    let held = match told {
        Some(Entry::Value { .. }) => ENTRY_BYTES + size(told),
        Some(Entry::Sum(_)) | None => 0,
    };
    let value = match effect {
        Effect::Set(Some(Entry::Value { value, .. })) => value.len() as u64,
        Effect::Set(_) | Effect::Add(_) => 0,
    };
    Extra {
        quota: signed(size_after(key, effect)) - signed(size(told)),
        replica: signed(ENTRY_BYTES + key.len() as u64 + value) - signed(held),
    }
}

/// What a key counts once it is written so.
fn size_after(key: &str, effect: &Effect) -> u64 {
    match effect {
        Effect::Set(entry) => entry.as_ref().map_or(0, |entry| entry.size(key)),
        Effect::Add(_) => Entry::Sum(0).size(key),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn device_of(origin: &Origin) -> Option<DeviceId> {
    match origin {
        Origin::Device(device) => Some(*device),
        Origin::Leader | Origin::Shared | Origin::Counter => None,
    }
}

/// The keys that begin with `prefix`.
fn beginning<'a, T>(
    entries: &'a BTreeMap<Arc<str>, T>,
    prefix: &'a str,
) -> impl Iterator<Item = &'a Arc<str>> {
    let range = entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    range
        .map(|(key, _)| key)
        .take_while(move |key| key.starts_with(prefix))
}

fn entry_of(outcome: &StateOutcome) -> Option<Entry> {
    match outcome {
        StateOutcome::Put { value, expires_at } => Some(Entry::Value {
            value: value.clone(),
            expires_at: *expires_at,
        }),
        StateOutcome::Counted(sum) => Some(Entry::Sum(*sum)),
        StateOutcome::Deleted | StateOutcome::Expired => None,
    }
}

fn effect(write: &StateWrite, now: u64) -> Effect {
    match write {
        StateWrite::Put { value, ttl_ms, .. } => Effect::Set(Some(Entry::Value {
            value: value.clone(),
            expires_at: ttl_ms.map(|ttl| now.saturating_add(ttl.saturating_mul(1000))),
        })),
        StateWrite::Delete { .. } => Effect::Set(None),
        StateWrite::Add { delta, .. } => Effect::Add(*delta),
    }
}

#[cfg(test)]
mod tests;
