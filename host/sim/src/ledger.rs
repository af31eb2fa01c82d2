//! Every write to replicated state, and what became of it: the reference for all replicas.
//!
//! Each write has a number, which its value carries, so that whoever reads a value knows which
//! write it is. The ledger looks at everything that plugins are told of their state and holds it
//! against these properties, in every run:
//! - a value is whole, was written by somebody, under this key, in this group, and not refused;
//! - device state shows its owner's writes only;
//! - of one writer's writes to one key of device or shared state, a replica never shows an earlier
//!   one after a later one, nor one again that had gone;
//! - each write is accounted for once, and a leader that its node refused one is told.
//!
//! A *session* is the time in which one instance's knowledge lasts: from a start with nothing known
//! to the next. [`judge`] says what replicas may hold once all is quiet.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use consort_proto::{
    DeviceId, GroupKey, Origin, PluginEvent, StateChange, StateConfig, StateOutcome, StateUpdate,
    Time,
};

use crate::app::App;
use crate::checker::{Checker, Observation, Place, ensure};
use crate::message;

mod judge;
#[cfg(test)]
mod tests;

pub(crate) use judge::{Member, differ};

/// How far a shared write may lie ahead of group time and count, in milliseconds, and some more for
/// what clocks differ by.
const AHEAD_MAX_MS: u64 = 6 * 60 * 1000;

/// A group under one secret.
pub(crate) type Group = (Option<[u8; 16]>, GroupKey);

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Puts a value of so many bytes.
    Put {
        /// Its length.
        len: usize,
        /// Group time from which it is gone, in microseconds.
        expires_at: Option<u64>,
    },
    /// Deletes.
    Delete,
    /// Adds to a counter.
    Add(i64),
}

/// What the writer heard of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing so far.
    Handed,
    /// Its node took it in.
    Taken,
    /// Its node refused it.
    Refused,
    /// A later one of the same writer to the same key was superseded: this one may be, too. Or it
    /// was itself told to be, in a part of a group that two led.
    Doubtful,
    /// The group did not adopt it, and the writer was told.
    Superseded,
}

/// A write, and what became of it.
#[derive(Clone, Debug)]
pub struct Written {
    /// Who wrote.
    pub node: usize,
    /// When.
    pub at: Time,
    /// Where.
    pub origin: Origin,
    /// Under which key.
    pub key: Arc<str>,
    /// What.
    pub act: Act,
    /// What its writer heard of it.
    pub fate: Fate,
    /// Where it was seen, and when first.
    pub seen: BTreeMap<usize, Time>,
    pub(crate) device: DeviceId,
    pub(crate) session: u64,
    pub(crate) group: Group,
    /// Group time at the writer, in milliseconds.
    pub(crate) physical: u64,
    /// The largest `physical` of all writes up to this one. No hybrid logical clock was beyond it.
    pub(crate) highest: u64,
    /// In which term, where the leader's state was written.
    pub(crate) term: Option<u64>,
    /// What the writer saw under the key.
    pub(crate) before: Option<u64>,
    /// Sessions of the members in reach, which are to have it soon.
    pub(crate) near: Vec<u64>,
    /// Sessions that have it, and since when.
    pub(crate) holders: BTreeMap<u64, Time>,
    /// Devices that have it on their disks.
    pub(crate) kept: BTreeSet<usize>,
    /// The session that was told that it is superseded.
    pub(crate) told_in: Option<u64>,
}

/// What there is to know of writes when they are handed over later than they were checked.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    pub(crate) physical: u64,
    pub(crate) near: Vec<u64>,
    /// The term that the writer leads in.
    pub(crate) term: Option<u64>,
}

/// Where a write goes.
type Spot = (Group, Origin, Arc<str>);

/// What one session shows of one writer's writes to a key.
#[derive(Clone, Copy, Debug)]
struct Shown {
    number: u64,
    gone: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// By number, from 1.
    writes: Vec<Written>,
    by_key: BTreeMap<Spot, Vec<u64>>,
    /// Writes that are not accounted for, by session.
    pending: BTreeMap<u64, VecDeque<u64>>,
    /// Writes that nobody else is known to have.
    unsecured: BTreeSet<u64>,
    shown: BTreeMap<(u64, Origin, Arc<str>), BTreeMap<DeviceId, Shown>>,
    highest: u64,
    /// Clocks were set: until here, what was written when is no matter of group time.
    settled: Option<Time>,
    /// For how long deletions are remembered, at least.
    horizon: Duration,
    doubted: BTreeSet<DeviceId>,
    /// Sessions that began with a clock by which what was kept was over.
    leapt: BTreeSet<u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            writes: Vec::new(),
            by_key: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsecured: BTreeSet::new(),
            shown: BTreeMap::new(),
            highest: 0,
            settled: None,
            horizon: StateConfig::default().keep_absent,
            doubted: BTreeSet::new(),
            leapt: BTreeSet::new(),
        }
    }
}

impl Ledger {
    /// The number of the next write.
    pub(crate) const fn next(&self) -> u64 {
        self.writes.len() as u64 + 1
    }

    /// A write was handed to its node; `highest` is filled in.
    pub(crate) fn record(&mut self, mut written: Written) {
        let number = self.next();
        if self
            .writes
            .last()
            .is_some_and(|last| !self.is_settled(last.at))
        {
            // What lies further ahead than this is in quarantine, and moves nobody's clock.
            let ahead = written.physical.saturating_add(AHEAD_MAX_MS);
            let clocks = self.writes.iter().map(|written| written.physical);
            self.highest = clocks
                .filter(|physical| *physical <= ahead)
                .max()
                .unwrap_or(0);
        }
        self.highest = self.highest.max(written.physical);
        written.highest = self.highest;
        let spot = (written.group, written.origin, Arc::clone(&written.key));
        self.by_key.entry(spot).or_default().push(number);
        let pending = self.pending.entry(written.session).or_default();
        pending.push_back(number);
        self.unsecured.insert(number);
        self.writes.push(written);
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Written> {
        self.writes
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Written> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.writes.get_mut(index)
    }

    /// How many writes there were, and how many of them nodes refused.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let refused = self.writes.iter().filter(|w| w.fate == Fate::Refused);
        (self.writes.len(), refused.count())
    }

    /// Somebody remembers deletions for no longer than this.
    pub(crate) fn remember_for(&mut self, keep_absent: Duration) {
        self.horizon = self.horizon.min(keep_absent);
    }

    /// A clock was set by more than a replica tolerates. Until all have heard of that and of each
    /// other's state, an older value may take the place of one that is in quarantine.
    pub(crate) fn loosen(&mut self, until: Time) {
        self.settled = self.settled.max(Some(until));
        self.shown.clear();
    }

    /// Whether group time is the same line from `at` on, as far as is known.
    fn is_settled(&self, at: Time) -> bool {
        self.settled.is_none_or(|settled| at > settled)
    }

    /// There are two devices with one key, or one whose disk is not its own.
    pub(crate) fn doubt(&mut self, device: DeviceId) {
        self.doubted.insert(device);
    }

    /// A session begins with what was kept, by a clock that has gone on by `by` more than it should.
    /// Where that is as long as absent devices are remembered, what they wrote goes at once, and comes
    /// back from whoever has met them since.
    pub(crate) fn leap(&mut self, session: u64, by: Duration) {
        if by >= self.horizon * 4 / 5 {
            self.leapt.insert(session);
        }
    }

    /// Writes that nobody but their writer is known to have.
    pub(crate) fn unsecured(&self) -> Vec<u64> {
        self.unsecured.iter().copied().collect()
    }

    /// These sessions have a write.
    pub(crate) fn secure(&mut self, number: u64, now: Time, holders: &[u64]) {
        self.unsecured.remove(&number);
        if let Some(written) = self.get_mut(number) {
            for session in holders {
                written.holders.entry(*session).or_insert(now);
            }
        }
    }

    /// A device that keeps its state stops: what its sessions have for `settled` long is on its
    /// disk.
    pub(crate) fn keep(&mut self, node: usize, sessions: &[u64], settled: Time) {
        for written in &mut self.writes {
            let own = sessions.contains(&written.session) && written.at <= settled;
            let mut holders = sessions.iter().filter_map(|s| written.holders.get(s));
            if own || holders.any(|since| *since <= settled) {
                written.kept.insert(node);
            }
        }
    }

    /// A device's disk has lost its state.
    pub(crate) fn lose(&mut self, node: usize) {
        for written in &mut self.writes {
            written.kept.remove(&node);
        }
    }

    /// A device has started: a session has what its disk kept of the group.
    pub(crate) fn resume(&mut self, node: usize, group: Group, session: u64, now: Time) {
        for written in &mut self.writes {
            if written.group == group && written.kept.contains(&node) {
                written.holders.insert(session, now);
            }
        }
    }

    /// The nodes' account of a plugin's writes.
    fn account(&mut self, app: &App, update: &StateUpdate) -> Result<(), String> {
        let mut handled = Vec::new();
        for _ in 0..update.handled {
            let pending = self.pending.get_mut(&app.session());
            let number = pending.and_then(VecDeque::pop_front);
            handled.push(number.ok_or("more writes are accounted for than were made")?);
        }
        let fates: Vec<Fate> = handled
            .iter()
            .map(|number| self.fate_of(*number, &handled, app, update))
            .collect();
        for (number, fate) in handled.iter().zip(fates) {
            if let Some(written) = self.get_mut(*number) {
                written.fate = fate;
            }
            if fate == Fate::Refused {
                self.unsecured.remove(number);
            }
        }
        Ok(())
    }

    /// What an update says of one of the writes that it accounts for.
    fn fate_of(&self, number: u64, all: &[u64], app: &App, update: &StateUpdate) -> Fate {
        let Some(written) = self.get(number) else {
            return Fate::Refused;
        };
        let same =
            |change: &&StateChange| change.origin == written.origin && change.key == written.key;
        let Some(change) = update.changes.iter().find(same) else {
            return Fate::Taken;
        };
        let siblings = all.iter().filter_map(|number| self.get(*number));
        let mut siblings = siblings.filter(|o| o.origin == written.origin && o.key == written.key);
        let taken = match &change.outcome {
            StateOutcome::Put { value, .. } => {
                message::number(value).is_some_and(|shown| shown >= number)
            }
            StateOutcome::Deleted | StateOutcome::Expired => {
                siblings.any(|other| other.act == Act::Delete)
            }
            StateOutcome::Counted(sum) => {
                let before = match app.told().get(&(written.origin, Arc::clone(&written.key))) {
                    Some(StateOutcome::Counted(before)) => *before,
                    _ => 0,
                };
                let added: i64 = siblings.map(|other| added(other.act)).sum();
                *sum != before || added == 0
            }
        };
        if taken { Fate::Taken } else { Fate::Refused }
    }

    fn told(&mut self, place: &Place<'_>, app: &App, update: &StateUpdate) -> Result<(), String> {
        self.account(app, update)?;
        let group = (place.group.copied(), app.spec.group());
        for change in &update.changes {
            match &change.outcome {
                StateOutcome::Put { value, expires_at } => {
                    let number = self.recognise(group, change, value, expires_at.is_some())?;
                    // What a plugin is told of at once, or in place of a refused write, is called
                    // its own.
                    let own = change.own && !update.whole && update.handled == 0;
                    ensure(!own || self.is_of(number, place.device), || {
                        format!("write {number} is told as its own")
                    })?;
                    self.shows(place, app.session(), change, number)?;
                }
                StateOutcome::Deleted | StateOutcome::Expired => {
                    let place = (app.session(), change.origin, Arc::clone(&change.key));
                    for shown in self.shown.get_mut(&place).into_iter().flatten() {
                        shown.1.gone = true;
                    }
                }
                StateOutcome::Counted(_) => {}
            }
        }
        Ok(())
    }

    /// Which write a value is of, if it is one that may be here.
    fn recognise(
        &self,
        group: Group,
        change: &StateChange,
        value: &[u8],
        expires: bool,
    ) -> Result<u64, String> {
        let place = format!("{:?} {:?}", change.origin, change.key);
        let number = message::number(value)
            .ok_or_else(|| format!("{place} has {} bytes that nobody wrote", value.len()))?;
        let written = self
            .get(number)
            .ok_or_else(|| format!("{place} has write {number}, which nobody made"))?;
        ensure(written.group == group, || {
            format!("{place} has write {number} of another group")
        })?;
        ensure(
            written.origin == change.origin && written.key == change.key,
            || {
                let (origin, key) = (written.origin, &written.key);
                format!("{place} has write {number}, which was made to {origin:?} {key:?}")
            },
        )?;
        let fits = matches!(written.act, Act::Put { len, expires_at }
            if len == value.len() && expires_at.is_some() == expires);
        ensure(fits, || {
            format!(
                "{place} has write {number}, but not as it was made: {:?}",
                written.act
            )
        })?;
        ensure(written.fate != Fate::Refused, || {
            format!("{place} has write {number}, which was refused")
        })?;
        Ok(number)
    }

    fn is_of(&self, number: u64, device: DeviceId) -> bool {
        self.get(number)
            .is_some_and(|written| written.device == device)
    }

    /// A session shows a write.
    fn shows(
        &mut self,
        place: &Place<'_>,
        session: u64,
        change: &StateChange,
        number: u64,
    ) -> Result<(), String> {
        let lasting = place.now.since(Time::ZERO) < self.horizon * 4 / 5;
        let settled = self.is_settled(place.now);
        let strict = lasting && settled && change.origin != Origin::Leader;
        let Some(written) = self.get_mut(number) else {
            return Ok(());
        };
        written.seen.entry(place.node).or_insert(place.now);
        written.holders.entry(session).or_insert(place.now);
        let device = written.device;
        let spot = (written.group, change.origin, Arc::clone(&change.key));
        let strict = strict && !self.doubted.contains(&device) && !self.leapt.contains(&session);
        let key = (session, change.origin, Arc::clone(&change.key));
        let fresh = Shown {
            number,
            gone: false,
        };
        if !settled {
            return Ok(());
        }
        let before = self.shown.entry(key).or_default().insert(device, fresh);
        match before.filter(|_| strict) {
            Some(before) if before.number > number => Err(format!(
                "{:?} {:?} goes back from write {} to write {number}",
                change.origin, change.key, before.number
            )),
            // Without a deletion it went because its replica started over, or because its time had
            // come by a clock that was set back.
            Some(before)
                if before.number == number && before.gone && self.deleted(&spot, number) =>
            {
                Err(format!(
                    "{:?} {:?} has write {number} again, which had gone",
                    change.origin, change.key
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether anybody deleted a key after this write.
    fn deleted(&self, spot: &Spot, number: u64) -> bool {
        let numbers = self.by_key.get(spot).into_iter().flatten();
        let mut later = numbers.filter(|later| **later > number);
        later.any(|later| {
            self.get(*later)
                .is_some_and(|later| later.act == Act::Delete)
        })
    }

    /// A session is told of these writes as far as its node refused them; whether it refused any.
    fn settle_refusals(&mut self, node: usize, session: u64, numbers: &[u64]) -> bool {
        let mut any = false;
        for number in numbers {
            let Some(written) = self.get_mut(*number) else {
                continue;
            };
            let here = (written.node, written.session) == (node, session);
            if here && written.fate == Fate::Refused && written.told_in.is_none() {
                written.told_in = Some(session);
                any = true;
            }
        }
        any
    }

    /// Writes were checked before and are handed to their node only at `now`: what else is known of
    /// them is so from here on. `near`, `term` and `physical` as in [`Written`]. The time that a
    /// value is given begins when its node takes it in.
    pub(crate) fn hand(&mut self, numbers: &[u64], now: Time, late: &Late) {
        self.highest = self.highest.max(late.physical);
        let highest = self.highest;
        for number in numbers {
            if let Some(written) = self.get_mut(*number) {
                if let Act::Put {
                    expires_at: Some(end),
                    ..
                } = &mut written.act
                {
                    let given = end.saturating_sub(written.physical.saturating_mul(1000));
                    *end = late.physical.saturating_mul(1000).saturating_add(given);
                }
                written.at = now;
                written.physical = late.physical;
                written.highest = highest;
                written.near.clone_from(&late.near);
                written.term = written.term.and(late.term).or(written.term);
            }
        }
    }

    /// A device is told that the group did not adopt what it wrote under a key.
    fn superseded(&mut self, place: &Place<'_>, app: &App, key: &Arc<str>) {
        let group = (place.group.copied(), app.spec.group());
        let spot = (group, Origin::Leader, Arc::clone(key));
        let numbers = self.by_key.get(&spot).cloned().unwrap_or_default();
        // Of one that the node refused nobody else heard: what was there before may hold.
        let refused = self.settle_refusals(place.node, app.session(), &numbers);
        let mut fate = if refused {
            Fate::Doubtful
        } else {
            Fate::Superseded
        };
        for number in numbers.into_iter().rev() {
            let Some(written) = self.get_mut(number) else {
                continue;
            };
            let open = matches!(written.fate, Fate::Handed | Fate::Taken | Fate::Doubtful);
            if written.node == place.node && open {
                written.fate = fate;
                written.told_in = Some(app.session());
                fate = Fate::Doubtful;
            }
        }
    }

    /// A session was told that these keys are superseded while another device than the one it goes
    /// by led as well. Which of the two the group goes on with is open, and so is what holds.
    pub(crate) fn contest(&mut self, group: Group, session: u64, keys: &[Arc<str>]) {
        for key in keys {
            let spot = (group, Origin::Leader, Arc::clone(key));
            for number in self.by_key.get(&spot).cloned().unwrap_or_default() {
                let written = self.get_mut(number);
                let told = written.filter(|written| written.told_in == Some(session));
                if let Some(told) = told.filter(|told| told.fate == Fate::Superseded) {
                    told.fate = Fate::Doubtful;
                }
            }
        }
    }
}

/// What a write adds to a counter.
const fn added(act: Act) -> i64 {
    match act {
        Act::Add(delta) => delta,
        Act::Put { .. } | Act::Delete => 0,
    }
}

impl Checker for Ledger {
    fn observe(&mut self, place: &Place<'_>, seen: &Observation<'_>) -> Result<(), String> {
        match seen {
            // The values of a plugin whose own code runs carry no numbers.
            Observation::Told { app, .. } if app.hosted => Ok(()),
            Observation::Told {
                app,
                event: PluginEvent::State(update),
            } => self.told(place, app, update),
            Observation::Told {
                app,
                event: PluginEvent::WritesSuperseded(keys),
            } => {
                for key in keys {
                    self.superseded(place, app, key);
                }
                Ok(())
            }
            Observation::Told { .. }
            | Observation::Sent { .. }
            | Observation::Started
            | Observation::PluginStarted { .. }
            | Observation::WritesLost
            | Observation::MemberAdded(_)
            | Observation::MemberRemoved(_) => Ok(()),
        }
    }
}
