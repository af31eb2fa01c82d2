//! What an election hands out: decisions, and how far its epochs have come.

use crate::id::NodeId;

/// What an election wants done or decided. In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// This device leads from here on.
    Promoted { epoch: u64 },
    /// This device leads no longer.
    Demoted,
    /// This device follows `leader` from here on.
    Followed { leader: NodeId, epoch: u64 },
    /// The leader that was followed leads no longer, or is lost.
    LostLeader,
    /// The same leader goes on in a higher epoch.
    TermChanged { epoch: u64 },
    /// The leader lost touch with its followers, or has it again.
    Held(bool),
    /// Tell all at once, and again shortly, what this device claims and no longer claims.
    Announce,
    /// Probe all members of the group.
    ProbeAll,
    /// This device gave up its leadership in order.
    Released {
        epoch: u64,
        successor: Option<NodeId>,
    },
    /// Persist this ceiling.
    Ceiling(u64),
}

/// How far a group's epochs have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// The largest seen or claimed.
    pub(super) max: u64,
    /// What is persisted: counting starts there after a restart.
    pub(super) ceiling: u64,
}

impl Epochs {
    /// After a restart any epoch below the persisted ceiling may have been used.
    pub(crate) fn at_start(ceiling: u64) -> Self {
        Self {
            max: ceiling,
            ceiling,
        }
    }
}
