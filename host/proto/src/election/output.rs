//! What an election hands out and shows.

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
    /// This device ranks last from here on, or no longer: tell all.
    RankChanged,
    /// An epoch far above all seen was refused.
    EpochRefused { from: NodeId, epoch: u64 },
}

/// What this device is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It takes no part.
    Idle,
    /// It looks for a leader; the largest epoch seen so far.
    Waiting { epoch: u64 },
    /// Another device leads.
    Following { leader: NodeId, epoch: u64 },
    /// It leads.
    Leading {
        epoch: u64,
        /// As last told, this device included.
        followers: u32,
        /// Whether it lost touch with its followers.
        held: bool,
    },
}
