//! Orders among members: who claims first, and which of two claims is stronger.

use core::cmp::Reverse;

use crate::id::NodeId;

/// What an election knows of a member that runs the plugin healthily.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// From its configuration; higher leads rather.
    pub(crate) priority: i16,
    /// Ranks last for now.
    pub(crate) penalised: bool,
}

/// Greater is stronger: more followers, then priority, then the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strength {
    followers: u32,
    priority: i16,
    id: Reverse<NodeId>,
}

impl Strength {
    pub(super) fn new(followers: u32, candidate: Candidate, id: NodeId) -> Self {
        Self {
            followers,
            priority: candidate.priority,
            id: Reverse(id),
        }
    }
}

/// Smaller claims earlier.
fn order(node: NodeId, candidate: Candidate) -> (bool, Reverse<i16>, NodeId) {
    (candidate.penalised, Reverse(candidate.priority), node)
}

/// How many of `others`, the suspect left out, claim before `me`.
pub(super) fn ahead_of<'a>(
    me: (NodeId, Candidate),
    others: impl Iterator<Item = (&'a NodeId, &'a Candidate)>,
    suspect: Option<NodeId>,
) -> u32 {
    let own = order(me.0, me.1);
    let ahead = others
        .filter(|(node, candidate)| Some(**node) != suspect && order(**node, **candidate) < own);
    u32::try_from(ahead.count()).unwrap_or(u32::MAX)
}

/// The member that claims first.
pub(super) fn best<'a>(
    others: impl Iterator<Item = (&'a NodeId, &'a Candidate)>,
) -> Option<NodeId> {
    others
        .min_by_key(|(node, candidate)| order(**node, **candidate))
        .map(|(node, _)| *node)
}
