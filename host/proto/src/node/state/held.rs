//! What the simulator's checkers see of the replicas; no part of the interface.

use crate::id::GroupKey;
use crate::node::Node;
use crate::replication::Versions;

#[doc(hidden)]
impl Node {
    /// The groups of whose state this device holds a replica, and a number for each that changes with
    /// what it holds.
    pub fn state_revisions(&self) -> impl Iterator<Item = (GroupKey, u64)> {
        let kept = self.states.kept.iter();
        kept.map(|(group, kept)| (*group, kept.replica.revision()))
    }

    /// What the replica of a group holds.
    #[must_use]
    pub fn state_versions(&self, group: GroupKey) -> Option<Versions> {
        let kept = self.states.kept.get(&group);
        kept.map(|kept| kept.replica.versions())
    }

    /// Group time by this device's clock at its last input, in microseconds.
    #[must_use]
    pub fn state_time(&self) -> u64 {
        self.group_now()
    }
}
