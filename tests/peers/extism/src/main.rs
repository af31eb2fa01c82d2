//! What one call of 1 KB into a plugin costs under Extism, on the calling thread.
//!
//! `peer-extism PLUGIN.wasm` prints one line in the form of `consort-plugin-host`'s benchmark
//! `call`; `cargo xtask figures call` builds both and runs them in turn.

use std::error::Error;
use std::time::Instant;

use extism::{Manifest, Plugin, Wasm};

const CALLS: u128 = 100_000;
const PAYLOAD_BYTES: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which plugin?")?;
    let manifest = Manifest::new([Wasm::data(std::fs::read(path)?)]);
    let mut plugin = Plugin::new(manifest, [], false)?;
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for _ in 0..CALLS / 10 {
        plugin.call::<&[u8], ()>("hear", &payload)?;
    }
    let start = Instant::now();
    for _ in 0..CALLS {
        plugin.call::<&[u8], ()>("hear", &payload)?;
    }
    let nanos = start.elapsed().as_nanos() / CALLS;
    println!("extism: {nanos} ns per call of {PAYLOAD_BYTES} bytes");
    Ok(())
}
