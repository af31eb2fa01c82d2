//! What replicas may hold once all is quiet: the reference model of each kind of state.
//!
//! A write is *definite* if a session that is here has it: its writer's own, or one that was in
//! reach of the writer for long enough, or one that was seen to show it. Any other write may have
//! been lost with the devices that had it. A value may be shown if no definite write is known to
//! supersede it; a key may be absent if a deletion or an expired value may be what is there, or if
//! no write to it is definite. What supersedes what:
//! - device state: the owner's later write;
//! - leader state: a write in a higher term, and the same leader's later write in the same term. It
//!   is definite only while the session that made it goes on and was not told otherwise: what a
//!   leader that is gone wrote may be cut off without a word;
//! - shared state: the later write by group time, which is certain if its physical time is beyond
//!   any that was in use when the other was made; and the same writer's later one; and one whose
//!   writer saw the other.
//!
//! A counter is the sum of its definite additions, and of those that may have been lost any first
//! ones of each session.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consort_proto::{DeviceId, Origin, StateOutcome, Time, micros};

use super::{Act, Fate, Group, Ledger, Written, added};
use crate::app::Told;
use crate::message;

/// What expires this soon may be told as expired by some and not by others, in microseconds.
const EXPIRY_SLACK: u64 = 1_000_000;
/// How far a shared write may lie ahead of group time and count.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// More outcomes of one counter than this are not told apart.
const OUTCOMES_MAX: usize = 20_000;

/// A replica, as its plugin was told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) node: usize,
    pub(crate) device: DeviceId,
    pub(crate) session: u64,
    pub(crate) told: &'a Told,
}

/// The first difference between two of the replicas at group time `now`, in words.
pub(crate) fn differ(members: &[Member<'_>], now: u64) -> Option<String> {
    let first = members.first()?;
    let lives = |outcome: &StateOutcome| match outcome {
        StateOutcome::Put { expires_at, .. } => {
            expires_at.is_none_or(|at| at > now.saturating_add(EXPIRY_SLACK))
        }
        StateOutcome::Counted(_) => true,
        StateOutcome::Deleted | StateOutcome::Expired => false,
    };
    for member in &members[1..] {
        let mut left = first.told.iter().filter(|(_, outcome)| lives(outcome));
        let mut right = member.told.iter().filter(|(_, outcome)| lives(outcome));
        loop {
            match (left.next(), right.next()) {
                (None, None) => break,
                (one, other) if one == other => {}
                (one, other) => {
                    return Some(format!(
                        "n{} has {}, n{} has {}",
                        first.node,
                        words(one),
                        member.node,
                        words(other)
                    ));
                }
            }
        }
    }
    None
}

type Held<'a> = Option<(&'a (Origin, Arc<str>), &'a StateOutcome)>;

fn words(held: Held<'_>) -> String {
    match held {
        None => "nothing more".to_owned(),
        Some(((origin, key), outcome)) => {
            let what = match outcome {
                StateOutcome::Put { value, expires_at } => {
                    let number = message::number(value).unwrap_or_default();
                    format!("write {number} (until {expires_at:?})")
                }
                other => format!("{other:?}"),
            };
            format!("{origin:?} {key:?}: {what}")
        }
    }
}

/// Whether a key shows a value: which write, if so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Write(u64),
    Nothing,
    /// A value that expires about now.
    Either,
}

impl Ledger {
    /// Checks the replicas of one group, which have had time to become equal, at `at`, or group
    /// time `now`.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub(crate) fn judge(
        &self,
        group: Group,
        members: &[Member<'_>],
        at: Time,
        now: u64,
    ) -> Result<(), String> {
        if let Some(difference) = differ(members, now) {
            return Err(format!("replicas differ: {difference}"));
        }
        let Some(first) = members.first() else {
            return Ok(());
        };
        let case = Case {
            ledger: self,
            here: members.iter().map(|member| member.session).collect(),
            devices: members.iter().map(|member| member.device).collect(),
            told: first.told,
            at,
            aged: at.since(Time::ZERO) >= self.horizon * 4 / 5,
            now,
        };
        let spots = self.by_key.iter().filter(|((of, _, _), _)| *of == group);
        for ((_, origin, key), numbers) in spots {
            case.refused(*origin, key, numbers)?;
            let verdict = match origin {
                Origin::Counter => case.counter(key, numbers),
                Origin::Leader | Origin::Device(_) | Origin::Shared => {
                    case.value(*origin, key, numbers)
                }
            };
            verdict.map_err(|problem| format!("{origin:?} {key:?}: {problem}"))?;
        }
        Ok(())
    }
}

struct Case<'a> {
    ledger: &'a Ledger,
    /// Sessions of the members.
    here: BTreeSet<u64>,
    devices: BTreeSet<DeviceId>,
    told: &'a Told,
    /// Whether the run lasted longer than deletions are remembered.
    aged: bool,
    /// Virtual time, and group time.
    at: Time,
    now: u64,
}

impl Case<'_> {
    fn writes(&self, numbers: &[u64]) -> Vec<(u64, &Written)> {
        let writes = numbers.iter();
        let writes = writes.filter_map(|number| Some((*number, self.ledger.get(*number)?)));
        writes.filter(|(_, w)| w.fate != Fate::Refused).collect()
    }

    /// What its node refused a leader, it is told.
    fn refused(&self, origin: Origin, key: &Arc<str>, numbers: &[u64]) -> Result<(), String> {
        if origin != Origin::Leader {
            return Ok(());
        }
        let writes = numbers.iter().filter_map(|number| self.ledger.get(*number));
        let mut untold = writes.filter(|written| {
            written.fate == Fate::Refused
                && written.told_in.is_none()
                && self.here.contains(&written.session)
        });
        match untold.next() {
            None => Ok(()),
            Some(written) => Err(format!(
                "{origin:?} {key:?}: a write of n{} at {} was refused, and it was not told",
                written.node, written.at
            )),
        }
    }

    /// Whether the writer was told so, and the session that was is here. One that is gone may have
    /// been on a side that left no trace.
    fn is_superseded(&self, written: &Written) -> bool {
        let told = written
            .told_in
            .is_some_and(|told| self.here.contains(&told));
        written.fate == Fate::Superseded && told
    }

    /// Whether it lies so far ahead of group time, which was set back since, that it neither shows
    /// nor counts. A writer that is here has written it again.
    fn is_quarantined(&self, written: &Written) -> bool {
        let ahead = micros(AHEAD_MAX).saturating_add(self.now);
        written.origin == Origin::Shared
            && !self.here.contains(&written.session)
            && written.physical.saturating_mul(1000) > ahead
    }

    fn is_definite(&self, written: &Written) -> bool {
        let own = self.here.contains(&written.session);
        if written.fate != Fate::Taken || self.is_quarantined(written) {
            return false;
        }
        match written.origin {
            Origin::Leader => own,
            Origin::Device(_) | Origin::Shared | Origin::Counter => {
                own || written.holders.keys().any(|s| self.here.contains(s))
            }
        }
    }

    /// Whether `new` counts more than `old`, for certain.
    fn supersedes(&self, (number, new): (u64, &Written), (older, old): (u64, &Written)) -> bool {
        if number == older {
            return false;
        }
        match new.origin {
            Origin::Device(device) => number > older && !self.ledger.doubted.contains(&device),
            Origin::Leader => {
                let same = new.device == old.device && new.term == old.term;
                new.term > old.term || (same && number > older)
            }
            Origin::Shared => {
                // A device whose disk kept the older one alone, and that comes back with an earlier
                // group time, writes it again: over what others have in quarantine.
                let again = !self.ledger.is_settled(new.at) && !self.here.contains(&new.session);
                let same = new.session == old.session && number > older && !again;
                let by_time = new.physical > old.highest || new.before == Some(older);
                let settled = self.ledger.is_settled(old.at.min(new.at));
                same || (by_time && settled && !self.aged)
            }
            Origin::Counter => false,
        }
    }

    fn shows(&self, origin: Origin, key: &Arc<str>) -> Shows {
        let Some(StateOutcome::Put { value, expires_at }) =
            self.told.get(&(origin, Arc::clone(key)))
        else {
            return Shows::Nothing;
        };
        match expires_at {
            Some(at) if at.abs_diff(self.now) <= EXPIRY_SLACK => Shows::Either,
            Some(at) if *at < self.now => Shows::Nothing,
            Some(_) | None => Shows::Write(message::number(value).unwrap_or(0)),
        }
    }

    /// Whether it deletes, or puts what has expired: by its end, or by how long it was to live, which
    /// begins anew where the writer's group time is set back.
    fn is_nothing(&self, written: &Written) -> bool {
        match written.act {
            Act::Put { expires_at, .. } => expires_at.is_some_and(|end| {
                let given = end.saturating_sub(written.physical * 1000);
                let lived = micros(self.at.since(written.at)).saturating_add(EXPIRY_SLACK);
                end <= self.now.saturating_add(EXPIRY_SLACK) || given <= lived
            }),
            Act::Delete => true,
            Act::Add(_) => false,
        }
    }

    fn value(&self, origin: Origin, key: &Arc<str>, numbers: &[u64]) -> Result<(), String> {
        let writes = self.writes(numbers);
        let definite: Vec<(u64, &Written)> = writes
            .iter()
            .copied()
            .filter(|(_, written)| self.is_definite(written))
            .collect();
        let beaten = |one: (u64, &Written)| {
            definite
                .iter()
                .find(|other| self.supersedes(**other, one))
                .map(|other| other.0)
        };
        match self.shows(origin, key) {
            Shows::Either => Ok(()),
            Shows::Write(shown) => {
                let Some(written) = self.ledger.get(shown) else {
                    return Err(format!("write {shown}, which nobody made"));
                };
                if self.is_superseded(written) {
                    return Err(format!(
                        "write {shown} is there, which n{} was told is superseded",
                        written.node
                    ));
                }
                match beaten((shown, written)) {
                    Some(by) => Err(format!(
                        "write {shown} ({:?} at {}) is there, where write {by} ({:?} at {}) \
                         supersedes it",
                        written.act,
                        written.at,
                        self.ledger.get(by).map(|by| by.act),
                        self.ledger.get(by).map_or(Time::ZERO, |by| by.at),
                    )),
                    None => Ok(()),
                }
            }
            Shows::Nothing => {
                // An owner that was away for long has nothing of what it wrote before, nor have others.
                let back = |written: &Written| !self.here.contains(&written.session);
                let away = |device| {
                    !self.devices.contains(&device) || definite.iter().all(|(_, w)| back(w))
                };
                let gone = matches!(origin, Origin::Device(device) if self.aged && away(device));
                let mut empty = writes
                    .iter()
                    .filter(|(_, w)| !self.is_superseded(w) && self.is_nothing(w));
                if gone || definite.is_empty() || empty.any(|one| beaten(*one).is_none()) {
                    return Ok(());
                }
                let last: Vec<u64> = definite.iter().map(|(number, _)| *number).collect();
                Err(format!(
                    "nothing is there, where writes {last:?} were taken in"
                ))
            }
        }
    }

    fn counter(&self, name: &Arc<str>, numbers: &[u64]) -> Result<(), String> {
        let shown = match self.told.get(&(Origin::Counter, Arc::clone(name))) {
            Some(StateOutcome::Counted(sum)) => *sum,
            _ => 0,
        };
        let mut sessions: BTreeMap<u64, Vec<&Written>> = BTreeMap::new();
        for (_, written) in self.writes(numbers) {
            sessions.entry(written.session).or_default().push(written);
        }
        let mut sums = BTreeSet::from([0]);
        let mut lost = 0;
        for additions in sessions.into_values() {
            let last = additions.iter().rposition(|one| self.is_definite(one));
            let certain = last.map_or(0, |last| last + 1);
            lost += additions.len() - certain;
            let mut sum: i64 = additions[..certain].iter().map(|one| added(one.act)).sum();
            let mut ends = BTreeSet::from([sum]);
            for one in &additions[certain..] {
                sum += added(one.act);
                ends.insert(sum);
            }
            sums = sums
                .iter()
                .flat_map(|sum| ends.iter().map(move |end| sum + end))
                .collect();
            if sums.len() > OUTCOMES_MAX {
                return Ok(());
            }
        }
        if sums.contains(&shown) {
            return Ok(());
        }
        let legal: Vec<&i64> = sums.iter().take(8).collect();
        Err(format!(
            "{shown}, where {legal:?} would be right; {lost} additions may have been lost"
        ))
    }
}
