//! Exports `lifecycle` and nothing else.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({ path: "../../wit", world: "minimal" });

use consort::plugin::log;
use exports::consort::plugin::lifecycle;

struct Minimal;

impl lifecycle::Guest for Minimal {
    fn setup() -> Result<(), String> {
        log::write(log::Level::Info, "minimal is set up");
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {}
}

export!(Minimal);
