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
