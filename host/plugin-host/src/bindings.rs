//! What `bindgen!` makes of the contract in `wit/`. Every import may fault the callback.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
});

use consort::plugin::types::{Leadership, Peer};
use exports::consort::plugin::state_events::{Change, Origin, Outcome};

impl From<&consort_proto::Peer> for Peer {
    fn from(peer: &consort_proto::Peer) -> Self {
        Self {
            device: peer.device.to_string(),
            name: peer.name.clone(),
            address: peer.address.clone(),
            is_self: peer.is_self,
            clock_delta: peer.clock_delta,
            round_trip: peer.round_trip,
        }
    }
}

impl From<&consort_proto::Leadership> for Leadership {
    fn from(leadership: &consort_proto::Leadership) -> Self {
        Self {
            leader: (&leadership.leader).into(),
            term: leadership.term,
        }
    }
}

impl From<&consort_proto::StateChange> for Change {
    fn from(change: &consort_proto::StateChange) -> Self {
        Self {
            origin: change.origin.into(),
            key: change.key.to_string(),
            outcome: (&change.outcome).into(),
        }
    }
}

impl From<consort_proto::Origin> for Origin {
    fn from(origin: consort_proto::Origin) -> Self {
        match origin {
            consort_proto::Origin::Leader => Self::Leader,
            consort_proto::Origin::Device(device) => Self::Device(device.to_string()),
            consort_proto::Origin::Shared => Self::Shared,
            consort_proto::Origin::Counter => Self::Counter,
        }
    }
}

impl From<&consort_proto::StateOutcome> for Outcome {
    fn from(outcome: &consort_proto::StateOutcome) -> Self {
        match outcome {
            consort_proto::StateOutcome::Put { value, .. } => Self::Put(value.to_vec()),
            consort_proto::StateOutcome::Counted(sum) => Self::Counted(*sum),
            consort_proto::StateOutcome::Deleted => Self::Deleted,
            consort_proto::StateOutcome::Expired => Self::Expired,
        }
    }
}
