//! A plugin that asks for an interface which no host offers.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    inline: "
        package consort:plugin@0.1.0;
        interface teleport { go: func(to: string); }
        interface lifecycle {
            setup: func() -> result<_, string>;
            enum reason { stop, reload, remove }
            shutdown: func(reason: reason);
        }
        world plugin { import teleport; export lifecycle; }
    ",
    world: "plugin",
});

use consort::plugin::teleport;
use exports::consort::plugin::lifecycle;

struct Traveller;

impl lifecycle::Guest for Traveller {
    fn setup() -> Result<(), String> {
        teleport::go("home");
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {}
}

export!(Traveller);
