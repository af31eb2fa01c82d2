//! Leader state: which tenures' entries hold, and up to where.
//!
//! The table of the largest tenure says so for all earlier ones, as a whole. A replica takes in
//! entries only under a table: of its tenure all, of earlier ones up to their cut, of later ones
//! none until their table is there. What lies beyond a cut is dropped. Since it may have been held
//! for superseding older entries, here or at the replica that this one learnt from, the marks of
//! leader state are forgotten then, and the older entries come back by comparison.
//!
//! The table's lineage are random stamps of the last day. A replica that shares none with the table
//! it meets, though that one's lineage reaches back a whole day, has been away for longer than
//! deletions are remembered, and starts over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entries::{Entry, Slot};
use super::persist::Record;
use super::{LeaderState, Replica};
use crate::mutant::{self, Mutant};
use crate::time::micros;
use crate::wire::state::{CUTS_MAX, LINEAGE_MAX, StreamId, Table, Tenure};

/// Stamps that are kept; one is added per 24th of `keep_absent`.
const LINEAGE_KEPT: usize = 22;
const LINEAGE_PARTS: u64 = 24;
/// How often it is asked whether a stamp is due, in microseconds: one comes early rather than late,
/// for 22 of them to cover less than deletions are remembered.
const ASKED_EVERY: u64 = 1_000_000;
/// Own deletions that are over and of which it is known where they stood.
const ENDED_MAX: usize = 1024;
/// How far a tenure may be ahead of the largest known one.
const LEAP_MAX: u64 = 1 << 32;

pub(super) fn cut(table: &Table, tenure: Tenure) -> u64 {
    let found = table
        .cuts
        .binary_search_by_key(&tenure, |(listed, _)| *listed);
    found.map_or(0, |at| table.cuts[at].1)
}

fn place(table: &Table) -> (Tenure, u64) {
    (table.tenure, table.n)
}

/// Whether a replica under `held` may have missed deletions that are remembered no longer under
/// `table`: they share nothing, and `table`'s lineage is old enough to have lost its beginning. A
/// lineage that still has its first stamp was founded less than a day ago, by a device that had
/// lost everything: it has forgotten no deletion, and what it lacks must not be lost for it.
fn misses_deletions(held: &Table, table: &Table) -> bool {
    table.lineage.len() >= LINEAGE_KEPT && !share_lineage(held, table)
}

/// Whether two tables have been within a day of each other.
fn share_lineage(one: &Table, other: &Table) -> bool {
    let empty = one.lineage.is_empty() || other.lineage.is_empty();
    empty
        || one
            .lineage
            .iter()
            .any(|stamp| other.lineage.contains(stamp))
}

impl Replica {
    /// The tenure that this device follows (or leads in), as far as the election knows.
    /// Without one, the last one stands.
    pub(crate) fn follow(&mut self, tenure: Option<Tenure>) {
        self.followed = tenure.or(self.followed);
    }

    /// The tenure that was last named by [`Replica::follow`].
    pub(crate) fn followed(&self) -> Option<Tenure> {
        self.followed
    }

    /// This device leads no longer.
    pub(crate) fn resign(&mut self) {
        self.leading = None;
    }

    /// Whether this device leads, and no larger table is known.
    pub(crate) fn leads(&self) -> bool {
        self.leading.is_some() && self.leading == self.table_tenure()
    }

    /// Of the table that is held.
    pub(crate) fn table_tenure(&self) -> Option<Tenure> {
        self.table.as_ref().map(|table| table.tenure)
    }

    /// What this replica knows of leader state, for a device that begins to lead.
    pub(crate) fn leader_state(&self) -> LeaderState {
        let tenures = self.streams.leaders().into_iter();
        let top = |tenure| {
            self.streams
                .get(StreamId::Leader(tenure))
                .map(|held| held.top)
        };
        LeaderState {
            table: self.table.clone(),
            tops: tenures.filter_map(|t| Some((t, top(t)?))).collect(),
        }
    }

    /// Own leader-state keys that the group did not adopt, since the last time this was asked.
    pub(crate) fn take_superseded(&mut self) -> Vec<Arc<str>> {
        core::mem::take(&mut self.superseded).into_iter().collect()
    }

    /// Up to which number the entries of a tenure are taken in.
    pub(super) fn limit(&self, tenure: Tenure) -> u64 {
        let Some(table) = &self.table else { return 0 };
        if self.followed > Some(table.tenure) || tenure > table.tenure {
            return 0;
        }
        if tenure == table.tenure {
            u64::MAX
        } else {
            cut(table, tenure)
        }
    }

    /// Whether a tenure's entries hold up to their cut only.
    pub(super) fn is_replaced(&self, tenure: Tenure) -> bool {
        let table = self.table_tenure();
        Some(tenure) < table && self.followed <= table
    }

    /// The largest tenure that this replica knows of.
    pub(super) fn newest(&self) -> Option<Tenure> {
        self.table_tenure().max(self.followed)
    }

    pub(super) fn leaps(&self, tenure: Tenure) -> bool {
        let known = self.newest().map_or(0, |newest| newest.epoch);
        tenure.epoch > known.saturating_add(LEAP_MAX)
    }

    /// Whether a table from elsewhere is sound.
    pub(super) fn is_sound(&self, table: &Table) -> bool {
        let ascending = table.cuts.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let earlier = table
            .cuts
            .last()
            .is_none_or(|(last, _)| *last < table.tenure);
        let bounded = table.cuts.len() <= CUTS_MAX && table.lineage.len() <= LINEAGE_MAX;
        let own = self.is_own(StreamId::Leader(table.tenure));
        let place = table.n > 0 && table.n < u64::MAX;
        ascending && earlier && bounded && place && !own && !self.leaps(table.tenure)
    }

    /// Takes over a table that counts more than the one held, if it is of the tenure that this device
    /// follows, or the first of all: one of another tenure may be that of a device that led by itself,
    /// and cut off what the followed one keeps. Whether it does.
    pub(super) fn adopt(&mut self, now: u64, table: &Table) -> bool {
        let held = self.table.as_ref();
        let followed = Some(table.tenure) == self.followed || held.is_none();
        let followed = followed || mutant::is(Mutant::TableOfAnyone);
        if !followed || held.is_some_and(|held| place(held) >= place(table)) {
            return false;
        }
        self.take_over(now, table);
        true
    }

    fn take_over(&mut self, now: u64, table: &Table) {
        let held = self.table.as_ref();
        let apart = held.is_some_and(|held| misses_deletions(held, table));
        self.place(table.clone());
        if apart && !mutant::is(Mutant::ResetSkipped) {
            self.reset(now, table.tenure.leader);
        }
        self.apply_cuts();
        self.report_ended(table);
    }

    /// A deletion, or the end of a value, that this device wrote as a leader is over, and nothing is
    /// held of it any longer.
    pub(super) fn note_ended(&mut self, slot: &Slot, stream: StreamId, n: u64) {
        let (Slot::Leader(key), StreamId::Leader(tenure)) = (slot, stream) else {
            return;
        };
        if tenure.leader != self.node || mutant::is(Mutant::EndedUnreported) {
            return;
        }
        self.ended.insert(Arc::clone(key), (tenure, n));
        if self.ended.len() > ENDED_MAX {
            let oldest = self.ended.iter().min_by_key(|(_, place)| **place);
            if let Some(oldest) = oldest.map(|(key, _)| Arc::clone(key)) {
                self.ended.remove(&oldest);
            }
        }
    }

    /// Another leader's table says whether deletions of this device's own were adopted, also those
    /// that are over by then. If not, an older value may hold again.
    fn report_ended(&mut self, table: &Table) {
        for (key, (tenure, n)) in core::mem::take(&mut self.ended) {
            if tenure == table.tenure {
                self.ended.insert(key, (tenure, n));
            } else if n > cut(table, tenure) {
                self.superseded.insert(key);
            }
        }
    }

    /// Puts a table in place of the one that is held.
    fn place(&mut self, table: Table) {
        if let Some(old) = self.table.take() {
            let stream = StreamId::Leader(old.tenure);
            self.streams.change(stream).remove(old.n);
            self.soil(Record::Entry(stream, old.n));
            self.soil(Record::Stream(stream));
        }
        let stream = StreamId::Leader(table.tenure);
        self.streams.change(stream).insert(table.n, Slot::Table);
        self.soil(Record::Entry(stream, table.n));
        self.soil(Record::Stream(stream));
        self.edits += 1;
        self.table = Some(table);
    }

    /// Drops what lies beyond the table's cuts.
    fn apply_cuts(&mut self) {
        let Some(table) = self.table.clone() else {
            return;
        };
        let mut forget = false;
        let tenures = self.streams.leaders().into_iter();
        let others: Vec<_> = tenures.filter(|tenure| *tenure != table.tenure).collect();
        for tenure in &others {
            let stream = StreamId::Leader(*tenure);
            let cut = cut(&table, *tenure);
            let Some(held) = self
                .streams
                .get(stream)
                .filter(|held| held.top > cut && !mutant::is(Mutant::CutsIgnored))
            else {
                continue;
            };
            forget = true;
            let beyond = held.index().range(cut.saturating_add(1)..);
            let beyond: Vec<Slot> = beyond.map(|(_, slot)| slot.clone()).collect();
            for slot in beyond {
                self.drop_single(&slot);
                if let (true, Some(key)) = (tenure.leader == self.node, slot.key()) {
                    self.superseded.insert(Arc::clone(key));
                }
            }
            self.streams.change(stream).top = cut;
        }
        for tenure in others {
            let stream = StreamId::Leader(tenure);
            self.soil(Record::Stream(stream));
            if cut(&table, tenure) == 0 {
                self.streams.remove(stream);
            } else if forget {
                self.streams.change(stream).forget();
            }
        }
    }

    /// This device leads from here on, with what other members answered. `lineage` is random.
    pub(crate) fn lead(&mut self, now: u64, tenure: Tenure, answers: &[LeaderState], lineage: u32) {
        if self.leading == Some(tenure) {
            return;
        }
        self.leading = None;
        if let Some(basis) = self.basis(tenure, answers) {
            self.take_over(now, &basis);
        }
        self.leading = Some(tenure);
        if self.table_tenure() >= Some(tenure) {
            return;
        }
        let (cuts, rewritten) = self.cuts_of(tenure, answers);
        // What has no cut any longer has been adopted and counts no more.
        let is_listed = |earlier: &Tenure| cuts.iter().any(|(listed, _)| listed == earlier);
        self.ended.retain(|_, (earlier, _)| is_listed(earlier));
        let before = self.table.as_ref();
        let mut table = Table {
            tenure,
            n: 1,
            cuts,
            lineage: before
                .map(|table| table.lineage.clone())
                .unwrap_or_default(),
            stamped: before.map_or(0, |table| table.stamped),
        };
        self.stamp(now, &mut table, lineage);
        self.place(table);
        let stream = StreamId::Leader(tenure);
        self.streams.change(stream).complete(0, 1);
        for entry in rewritten {
            self.author(
                now,
                entry.slot,
                entry.content,
                entry.at,
                entry.expires_at,
                false,
            );
        }
        self.apply_cuts();
    }

    /// The table to go on from, if it is not the one held: of the history that most of the answers
    /// belong to, the largest. Larger ones of other histories are those of devices that led by
    /// themselves; what they wrote is adopted like that of any tenure above.
    fn basis(&self, tenure: Tenure, answers: &[LeaderState]) -> Option<Table> {
        let tables = answers.iter().filter_map(|answer| answer.table.as_ref());
        let sound = tables.filter(|table| self.is_sound(table));
        let all: Vec<&Table> = sound.chain(&self.table).collect();
        let shared = |table: &Table| all.iter().filter(|one| share_lineage(one, table)).count();
        let earlier = all.iter().filter(|table| table.tenure < tenure);
        let best = earlier.max_by_key(|table| (shared(table), place(table)))?;
        (self.table.as_ref() != Some(*best)).then(|| Table::clone(best))
    }

    /// The cuts for a new tenure, and the entries that are to be written again in it because their
    /// own tenures have no room.
    fn cuts_of(&self, tenure: Tenure, answers: &[LeaderState]) -> (Vec<(Tenure, u64)>, Vec<Entry>) {
        let mut cuts: BTreeMap<Tenure, u64> = BTreeMap::new();
        let before = self.table_tenure();
        let own = self.leader_state();
        let all = answers.iter().chain([&own]).flat_map(|answer| &answer.tops);
        for (earlier, top) in all.filter(|(earlier, _)| *earlier < tenure) {
            if Some(*earlier) >= before {
                let cut = cuts.entry(*earlier).or_default();
                *cut = (*cut).max(*top);
            }
        }
        let kept = self.table.iter().flat_map(|table| &table.cuts);
        cuts.extend(kept.copied());
        cuts.retain(|_, cut| *cut > 0);
        let mut rewritten = Vec::new();
        let mut dispensable = cuts.clone();
        dispensable.retain(|tenure, cut| self.is_spent(*tenure, *cut));
        while cuts.len() > CUTS_MAX {
            let spent = dispensable.pop_first().map(|(tenure, _)| tenure);
            let Some(out) = spent.or_else(|| cuts.keys().next().copied()) else {
                break;
            };
            let cut = cuts.remove(&out).unwrap_or_default();
            let held = self.streams.get(StreamId::Leader(out));
            let index = held.into_iter().flat_map(|held| held.index().range(..=cut));
            rewritten.extend(index.filter_map(|(_, slot)| self.store.single.get(slot).cloned()));
        }
        (cuts.into_iter().collect(), rewritten)
    }

    /// Whether no entry of a tenure counts any longer, as far as its cut goes.
    fn is_spent(&self, tenure: Tenure, cut: u64) -> bool {
        let held = self.streams.get(StreamId::Leader(tenure));
        held.is_some_and(|held| held.mark >= cut && held.index().is_empty())
    }

    /// Adds to a lineage if that is due. Whether it is.
    fn stamp(&self, now: u64, table: &mut Table, lineage: u32) -> bool {
        let period = micros(self.setup.config.keep_absent) / LINEAGE_PARTS;
        // Stamps from the future, of a clock that was set back since, do not keep it waiting.
        let recent = table.stamped <= now && now - table.stamped + ASKED_EVERY < period;
        if !table.lineage.is_empty() && recent {
            return false;
        }
        table.lineage.push(lineage);
        let spare = table.lineage.len().saturating_sub(LINEAGE_KEPT);
        table.lineage.drain(..spare);
        table.stamped = now;
        true
    }

    /// Adds to the lineage where it is due. `lineage` is random.
    pub(crate) fn renew_lineage(&mut self, now: u64, lineage: u32) {
        let Some(mut table) = self.table.clone().filter(|_| self.leads()) else {
            return;
        };
        if !self.stamp(now, &mut table, lineage) {
            return;
        }
        let stream = StreamId::Leader(table.tenure);
        table.n = self.mark(stream) + 1;
        let n = table.n;
        self.place(table);
        self.streams.change(stream).complete(n - 1, n);
    }
}
