//! Takes a message and does nothing with it, as `tests/guests/examples/listener.rs` does.

use extism_pdk::{FnResult, plugin_fn};

#[plugin_fn]
pub fn hear(payload: Vec<u8>) -> FnResult<()> {
    std::hint::black_box(payload);
    Ok(())
}
