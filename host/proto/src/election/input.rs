//! What an election is told.

use core::time::Duration;

use super::Candidate;
use crate::id::NodeId;
use crate::time::Time;

/// A claim as it was told: epoch, and followers including the claiming device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) epoch: u64,
    pub(crate) followers: u32,
}

/// Why this device leaves a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The device stops in order.
    Stop,
    /// The plugin is gone: quarantined, unloaded, its reload failed, or its fault lasts.
    Unfit,
    /// The plugin faulted twice in a short time: the device ranks last for this long.
    Unstable { rank_last_for: Duration },
}

/// Something that an election takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The plugin runs healthily: take part, after waiting for claims.
    Join { wait: Duration },
    /// The plugin runs here no longer: a leadership is handed to the best-ranked other member.
    Leave(Departure),
    /// Whether the instance here may take a leadership: not while it is being restarted.
    Fit(bool),
    /// T changed.
    Interval(Duration),
    /// This device's own rank. Whether it flaps is the election's own knowledge.
    Own(Candidate),
    /// A member that runs the plugin healthily, or does so no longer.
    Member {
        node: NodeId,
        candidate: Option<Candidate>,
    },
    /// What `from` itself claims, as its newest bulletin says.
    Claim {
        from: NodeId,
        claim: Option<Claimed>,
    },
    /// What a member says of another's claim, which it last heard at `heard`.
    Report {
        about: NodeId,
        claim: Claimed,
        heard: Time,
    },
    /// `from` follows this device's claim of `epoch`. `asked` is when this device sent what the
    /// word answers, where that is known.
    Follow {
        from: NodeId,
        epoch: u64,
        asked: Option<Time>,
    },
    /// A member was told of a tenure that this device's claim does not exceed, or one that keeps it
    /// from following another's claim.
    Seen { from: NodeId, epoch: u64 },
    /// `from` gave up its tenure in order.
    Release {
        from: NodeId,
        epoch: u64,
        successor: Option<NodeId>,
    },
    /// The probes' verdict: a device is gone, restarted, or it said goodbye.
    Lost { node: NodeId },
    /// A member saw this device suffer losses of leadership worth this penalty, in thousandths.
    Losses { penalty: u32 },
    /// This device's own loop was away for longer than a leader may be silent.
    Stall,
    /// Heartbeats are due; `steady` unless they are the repeats of an announcement.
    Beat { steady: bool },
    /// The time of [`super::Election::next_timeout`] has come.
    Timeout,
    /// A ceiling is on the disk, or could not be written.
    Stored { ceiling: u64, kept: bool },
}
