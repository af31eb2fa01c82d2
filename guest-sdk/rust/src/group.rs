//! Who is in the group, as this device sees it.
//!
//! The answers are from the moment the current callback began and agree with the callbacks so far.

use crate::bindings::consort::plugin::group as host;
use crate::{Leadership, Peer};

/// This device.
#[must_use]
pub fn this_device() -> Peer {
    host::this_device().into()
}

/// Every member that runs this plugin, this device included, ordered by device id.
///
/// ```no_run
/// let others = consort_plugin::group::peers().into_iter().filter(|peer| !peer.is_self);
/// let slowest = others.max_by_key(|peer| peer.round_trip);
/// ```
#[must_use]
pub fn peers() -> Vec<Peer> {
    host::peers().into_iter().map(Peer::from).collect()
}

/// The leader as this device knows it; `None` while an election is under way.
#[must_use]
pub fn leader() -> Option<Leadership> {
    host::leader().map(Leadership::from)
}

/// Whether this device leads.
#[must_use]
pub fn is_leader() -> bool {
    host::is_leader()
}
