//! Takes messages and does nothing with them: exports `lifecycle` and `message-events` alone.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package consort:listener;
        world listener {
            include consort:plugin/minimal@0.1.0;
            export consort:plugin/message-events@0.1.0;
        }
    ",
    world: "consort:listener/listener",
    generate_all,
});

use consort::plugin::types::{Leadership, Peer};
use exports::consort::plugin::{lifecycle, message_events};

struct Listener;

impl lifecycle::Guest for Listener {
    fn setup() -> Result<(), String> {
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {}
}

impl message_events::Guest for Listener {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {}

    fn on_peer_message(payload: Vec<u8>, sender: Peer) {
        std::hint::black_box((payload, sender));
    }
}

export!(Listener);
