//! What one call into a plugin costs: `on-peer-message` with 1 KB, on the calling thread. Beside
//! it, in turn with it: the same call of the same component by wasmtime alone, without limits,
//! clocks and supervision.
//!
//! Run it with `cargo bench --profile dev --workspace --bench call`; `cargo xtask figures call` runs
//! it in turn with the same call under Extism.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use consort_plugin_host::{
    ClockReading, Code, Instance, InstanceSettings, Level, Limits, LogSink, Runtime,
};
use consort_proto::{Peer, PluginEvent, PluginId, PublicKey};
use wasmtime::component::{Component, ComponentType, Linker, Lower, TypedFunc};
use wasmtime::{Engine, Store};

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
        measure(fixture, &code, &wasm)?;
        println!("{fixture}: {} bytes loaded in {loaded:?}", wasm.len());
    }
    Ok(())
}

/// `minimal` exports no `message-events`, so its figure is the host's own part.
fn measure(fixture: &str, code: &Code, wasm: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut ours = Ours::new(code)?;
    let mut bare = Bare::new(wasm)?;
    let rounds = (0..ROUNDS).map(|_| {
        let ours = time(|| ours.call())?;
        let bare = bare.as_mut().map(|bare| time(|| bare.call())).transpose()?;
        Ok((ours, bare))
    });
    let rounds: Vec<_> = rounds.collect::<Result<_, Box<dyn Error>>>()?;
    for (ours, bare) in &rounds {
        println!("{fixture}: {ours} ns per call of {PAYLOAD_BYTES} bytes");
        if let Some(bare) = bare {
            println!("{fixture}, wasmtime alone: {bare} ns per call of {PAYLOAD_BYTES} bytes");
        }
    }
    Ok(())
}

/// Nanoseconds per call.
fn time(mut call: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<u64, Box<dyn Error>> {
    let start = Instant::now();
    for _ in 0..CALLS {
        call()?;
    }
    Ok(u64::try_from(start.elapsed().as_nanos())? / CALLS)
}

/// A plugin as the daemon runs it.
struct Ours {
    instance: Instance,
    event: PluginEvent,
    reading: ClockReading,
}

impl Ours {
    fn new(code: &Code) -> Result<Self, Box<dyn Error>> {
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
        let reading = ClockReading::default();
        let mut instance = Instance::new(code, settings, reading)?;
        instance.setup(reading)?;
        let event = PluginEvent::PeerMessage {
            sender: this_device,
            payload: vec![b'x'; PAYLOAD_BYTES].into(),
        };
        Ok(Self {
            instance,
            event,
            reading,
        })
    }

    fn call(&mut self) -> Result<(), Box<dyn Error>> {
        self.reading.group_time_us += 1;
        let called = self.instance.deliver(&self.event, self.reading);
        called.map_err(|fault| fault.to_string())?;
        Ok(())
    }
}

/// The contract's `peer`.
#[derive(Clone, ComponentType, Lower)]
#[component(record)]
struct Sender {
    device: String,
    name: String,
    address: String,
    #[component(name = "is-self")]
    is_self: bool,
    #[component(name = "clock-delta")]
    clock_delta: i64,
    #[component(name = "round-trip")]
    round_trip: u32,
}

/// The same component, called by wasmtime alone.
struct Bare {
    store: Store<()>,
    hear: TypedFunc<(Vec<u8>, Sender), ()>,
    payload: Vec<u8>,
    sender: Sender,
}

impl Bare {
    /// None if the component takes no messages.
    fn new(wasm: &[u8]) -> wasmtime::Result<Option<Self>> {
        let engine = Engine::default();
        let component = Component::from_binary(&engine, wasm)?;
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component)?;
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &component)?;
        let events =
            instance.get_export_index(&mut store, None, "consort:plugin/message-events@0.1.0");
        let Some(events) = events else {
            return Ok(None);
        };
        let hear = instance.get_export_index(&mut store, Some(&events), "on-peer-message");
        let hear = hear.ok_or_else(|| wasmtime::Error::msg("it has no on-peer-message"))?;
        let hear = instance.get_typed_func(&mut store, hear)?;
        let sender = Sender {
            device: "a".repeat(34),
            name: "bench".into(),
            address: "127.0.0.1".into(),
            is_self: true,
            clock_delta: 0,
            round_trip: 0,
        };
        Ok(Some(Self {
            store,
            hear,
            payload: vec![b'x'; PAYLOAD_BYTES],
            sender,
        }))
    }

    fn call(&mut self) -> Result<(), Box<dyn Error>> {
        let arguments = (self.payload.clone(), self.sender.clone());
        self.hear.call(&mut self.store, arguments)?;
        Ok(())
    }
}
