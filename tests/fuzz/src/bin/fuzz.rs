//! What libFuzzer drives. `CONSORT_FUZZ_TARGET` names the target.

#![no_main]

use std::sync::OnceLock;

use consort_fuzz::{Target, target};

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name =
        std::env::var("CONSORT_FUZZ_TARGET").expect("`cargo xtask fuzz NAME` names a target");
    target(&name).unwrap_or_else(|| panic!("no target is called {name}"))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_, run) = TARGET.get_or_init(chosen);
    run(bytes);
});
