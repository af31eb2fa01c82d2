//! What plugins' messages may take of a device's network.

use consort_proto::SendRate;
use serde::{Deserialize, Serialize};

/// The least values: those below would count for as much.
pub(super) const RATE_MIN: u32 = 4_000;
pub(super) const BURST_MIN: u32 = 4_096;

/// In bytes of UDP payload; what is not given is as in the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatePlan {
    /// A second, to all peers together.
    pub bytes_per_second: u32,
    /// A second, to one peer.
    pub peer_bytes_per_second: u32,
    /// At once after a pause, to one peer and to all together.
    pub burst: u32,
}

impl Default for RatePlan {
    fn default() -> Self {
        let rate = SendRate::default();
        Self {
            bytes_per_second: rate.bytes_per_second,
            peer_bytes_per_second: rate.peer_bytes_per_second,
            burst: rate.burst,
        }
    }
}

impl From<RatePlan> for SendRate {
    fn from(plan: RatePlan) -> Self {
        Self {
            bytes_per_second: plan.bytes_per_second,
            peer_bytes_per_second: plan.peer_bytes_per_second,
            burst: plan.burst,
        }
    }
}
