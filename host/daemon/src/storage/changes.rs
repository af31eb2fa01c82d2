//! Changes to kept state on their way to the disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use consort_proto::GroupKey;

/// What is added to the bytes of each key and value, for the memory around them.
const OVERHEAD: usize = 64;

/// For each group the keys that differ from what is on the disk. A later change of a key replaces
/// the earlier one, so that what waits never takes more than the groups' whole state.
#[derive(Debug, Default)]
pub(super) struct Changes {
    groups: BTreeMap<u64, Group>,
}

#[derive(Debug, Default)]
struct Group {
    keys: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Bytes of all that is held.
    pub(super) fn bytes(&self) -> usize {
        self.groups.values().map(|group| group.bytes).sum()
    }

    /// Adds one request's changes. A request without any is something to write too.
    pub(super) fn add(
        &mut self,
        group: GroupKey,
        changes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) {
        let group = self.groups.entry(group.0).or_default();
        for (key, value) in changes {
            group.bytes += size(&key, value.as_ref());
            if let Some(before) = group.keys.insert(key.clone(), value) {
                group.bytes -= size(&key, before.as_ref());
            }
        }
    }

    /// Adds what came after this.
    pub(super) fn absorb(&mut self, later: Self) {
        for (group, changes) in later.groups {
            self.add(GroupKey(group), changes.keys);
        }
    }

    pub(super) fn remove(&mut self, group: GroupKey) {
        self.groups.remove(&group.0);
    }

    /// The group with the most bytes.
    pub(super) fn largest(&self) -> Option<GroupKey> {
        let groups = self.groups.iter();
        let largest = groups.max_by_key(|(_, group)| group.bytes);
        largest.map(|(group, _)| GroupKey(*group))
    }

    /// Each group with its changes, in the order of the keys.
    pub(super) fn iter(
        &self,
    ) -> impl Iterator<Item = (GroupKey, impl Iterator<Item = (&Bytes, Option<&Bytes>)>)> {
        self.groups.iter().map(|(group, changes)| {
            let keys = changes.keys.iter();
            (
                GroupKey(*group),
                keys.map(|(key, value)| (key, value.as_ref())),
            )
        })
    }
}

/// What a change takes in memory.
pub(super) fn size(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + OVERHEAD
}
