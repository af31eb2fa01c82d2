//! What one call into a plugin costs: `on-peer-message` with 1 KB, on the calling thread.
//!
//! Run it with `cargo bench --package consort-plugin-host --bench call`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use consort_plugin_host::{
    ClockReading, Code, Instance, InstanceSettings, Level, Limits, LogSink, Runtime,
};
use consort_proto::{Peer, PluginEvent, PluginId, PublicKey};

const CALLS: u64 = 100_000;
const ROUNDS: u64 = 5;
const PAYLOAD_BYTES: usize = 1024;

/// Takes the fixture's lines and forgets them.
struct Silence;

impl LogSink for Silence {
    fn line(&mut self, _: Level, _: &str) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test --all-targets` starts benchmarks too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let compiled = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    let runtime = Runtime::new(&compiled)?;
    for fixture in ["minimal", "listener"] {
        let wasm = std::fs::read(consort_test_guests::fixture(fixture))?;
        let loading = Instant::now();
        let code = Code::new(&runtime, &wasm)?;
        let loaded = loading.elapsed();
        measure(fixture, &code)?;
        println!("{fixture}: {} bytes loaded in {loaded:?}", wasm.len());
    }
    Ok(())
}

/// `minimal` exports no `message-events`, so its figure is the host's own part.
fn measure(fixture: &str, code: &Code) -> Result<(), Box<dyn Error>> {
    let this_device = Peer {
        device: PublicKey::new([1; 32])?.device_id(),
        name: "bench".into(),
        address: "127.0.0.1".into(),
        is_self: true,
        clock_delta: 0,
        round_trip: 0,
    };
    let settings = InstanceSettings {
        plugin: PluginId::new("bench")?,
        this_device: this_device.clone(),
        config: Arc::new(BTreeMap::new()),
        limits: Limits::default(),
        files: BTreeMap::new(),
        local: true,
        seed: [0; 32],
        run: 0,
        log: Box::new(Silence),
    };
    let mut reading = ClockReading::default();
    let mut instance = Instance::new(code, settings, reading)?;
    instance.setup(reading)?;
    let payload = vec![b'x'; PAYLOAD_BYTES].into();
    let event = PluginEvent::PeerMessage {
        sender: this_device,
        payload,
    };
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            reading.group_time_us += 1;
            instance
                .deliver(&event, reading)
                .map_err(|fault| fault.to_string())?;
        }
        let nanos = start.elapsed().as_nanos() / u128::from(CALLS);
        println!("{fixture}: {nanos} ns per call of {PAYLOAD_BYTES} bytes");
    }
    Ok(())
}
