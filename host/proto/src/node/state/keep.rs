//! What of the replicas is kept over a restart reaches the disk.
//!
//! What changed is handed over as one request per group, and the next one when that is done: a
//! request that failed is made again together with what came since, and must not undo what a later
//! one brought to the disk. So the disk holds a group's state as of one of its requests, whole, and
//! a full or broken disk leaves it as it was before: an older state, which the other members bring
//! up to date after a restart. A group for which too much waits is not written again in this run.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Kept;
use crate::event::StoreRecord;
use crate::id::GroupKey;
use crate::node::Node;
use crate::time::Time;

/// How long changes wait to be kept on the disk together. What was written a second ago must be
/// there: a change may wait this long, then for the transaction under way, and takes one itself. So
/// a disk has 375 ms for each.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(250);
/// How long after a write that failed everything is written again.
const FLUSH_RETRY: Duration = Duration::from_secs(10);
/// What may wait for a disk that takes nothing, in bytes of keys and values: what a replica holds at
/// most, several times over, and this.
const WAITING_MIN: u64 = 8 << 20;

/// What is to be written, or deleted, under which key.
pub(super) type Changes = Vec<(Bytes, Option<Bytes>)>;

/// How the disk takes one replica.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// What the disk refused.
    waiting: BTreeMap<Bytes, Option<Bytes>>,
    /// Whether there is more to write as soon as the disk has taken what it was given.
    deferred: bool,
    /// Why the last request failed.
    problem: Option<String>,
    /// After a failure: when to try again.
    retry_at: Option<Time>,
    /// Whether nothing is written until the next start.
    given_up: bool,
}

impl Keeping {
    /// Why what changed is not on the disk, if it is not.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    /// Whether the disk lacks what it was to take.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn refused(&mut self, group: GroupKey, changes: Changes, reason: &str, quota: u64) {
        self.problem = Some(reason.to_owned());
        if self.given_up {
            return;
        }
        self.waiting.extend(changes);
        let most = quota.saturating_mul(4).saturating_add(WAITING_MIN);
        let size = |(key, value): (&Bytes, &Option<Bytes>)| {
            (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64
        };
        if self.waiting.iter().map(size).sum::<u64>() > most {
            self.given_up = true;
            self.waiting.clear();
            tracing::warn!(
                ?group,
                reason,
                "the disk took nothing for so long that this state is not kept any further until \
                 the device starts anew"
            );
        }
    }
}

impl Kept {
    /// What the disk is to take next.
    fn take_changes_to_keep(&mut self) -> Changes {
        let dirty = if self.replica.is_dirty() {
            self.replica.take_dirty()
        } else {
            Vec::new()
        };
        if self.keeping.given_up {
            return Vec::new();
        }
        let mut changes = core::mem::take(&mut self.keeping.waiting);
        if changes.is_empty() {
            return dirty;
        }
        changes.extend(dirty);
        changes.into_iter().collect()
    }
}

impl Node {
    /// Hands what is to be kept to the disk, one request per group at a time.
    pub(super) fn flush_state(&mut self) {
        self.keep_what_changed(false);
    }

    /// The same for a device that leaves and makes no request again.
    pub(in crate::node) fn flush_last_state(&mut self) {
        self.keep_what_changed(true);
    }

    fn keep_what_changed(&mut self, last: bool) {
        let under_way = self.states.flushing.values();
        let under_way: BTreeSet<GroupKey> = under_way.map(|(group, _)| *group).collect();
        self.states.flush_at = Time::MAX;
        let mut requests = Vec::new();
        for (group, kept) in &mut self.states.kept {
            let retry_at = kept.keeping.retry_at.filter(|at| *at > self.now);
            kept.keeping.deferred = under_way.contains(group);
            if last || (!kept.keeping.deferred && retry_at.is_none()) {
                requests.push((*group, kept.take_changes_to_keep()));
            } else if let Some(retry_at) = retry_at {
                self.states.flush_at = self.states.flush_at.min(retry_at);
            }
        }
        for (group, changes) in requests {
            if !changes.is_empty() {
                let record = StoreRecord::State {
                    group,
                    changes: changes.clone(),
                };
                let token = self.store(record, true);
                self.states.flushing.insert(token, (group, changes));
            }
        }
    }

    /// State reached the disk or did not. True if the token was of state.
    pub(in crate::node) fn state_stored(
        &mut self,
        token: u64,
        result: &Result<(), String>,
    ) -> bool {
        let Some((group, changes)) = self.states.flushing.remove(&token) else {
            return false;
        };
        let Some(kept) = self.states.kept.get_mut(&group) else {
            return true;
        };
        match result {
            Err(reason) => {
                let quota = kept.config.quota;
                kept.keeping.refused(group, changes, reason, quota);
                let retry_at = self.now + FLUSH_RETRY;
                kept.keeping.retry_at = Some(retry_at);
                self.states.flush_at = self.states.flush_at.min(retry_at);
            }
            Ok(()) => {
                kept.keeping.problem = None;
                kept.keeping.retry_at = None;
                if kept.keeping.deferred {
                    self.states.flush_at = self.states.flush_at.min(self.now);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: u32, value: Option<&'static [u8]>) -> (Bytes, Option<Bytes>) {
        let key = Bytes::copy_from_slice(&key.to_be_bytes());
        (key, value.map(Bytes::from_static))
    }

    #[test]
    fn what_waits_for_a_full_disk_is_bounded() {
        static VALUE: [u8; 1 << 16] = [7; 1 << 16];
        let mut keeping = Keeping::default();
        let group = GroupKey(7);
        // The same key over and over takes no more room.
        for _ in 0..1000 {
            keeping.refused(group, vec![change(1, Some(&VALUE))], "full", 0);
        }
        assert!(keeping.is_behind() && !keeping.given_up);
        let most = u32::try_from(WAITING_MIN >> 16).unwrap();
        for key in 0..most - 1 {
            keeping.refused(group, vec![change(key, Some(&VALUE))], "full", 0);
        }
        assert!(!keeping.given_up);
        keeping.refused(group, vec![change(most, Some(&VALUE))], "still full", 0);
        assert!(keeping.given_up && !keeping.is_behind());
        keeping.refused(group, vec![change(1, None)], "full", 0);
        assert!(!keeping.is_behind(), "nothing gathers after that");
        assert_eq!(keeping.problem().as_deref(), Some("full"));
    }
}
