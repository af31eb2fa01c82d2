//! WASI preview 2 with nothing behind it but the folders that the plugin was granted: no other files,
//! no network, no environment.
//!
//! Clocks, waiting and random numbers are the host's, so that a run can be repeated: clocks follow
//! group time, waiting moves them on and costs no real time, and each random stream is derived by
//! hashing from (seed, device, plugin, run, stream). What a guest prints goes to its log.

mod open;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use consort_proto::{DeviceId, PluginId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::{
    self, DynPollable, OutputStream, Pollable, StreamResult, bindings::io::poll as async_poll,
};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::capabilities::{Access, FolderGrant};
use crate::clock::WasiClock;
use crate::fault::HostFault;
use crate::guest::Guest;
use crate::plugin_log::{Level, SharedLog, Stream};

/// The most random bytes that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// What the random streams of one run are derived from.
#[derive(Clone, Debug)]
pub(crate) struct RandomSource<'a> {
    pub(crate) seed: &'a [u8; 32],
    pub(crate) device: DeviceId,
    pub(crate) plugin: &'a PluginId,
    pub(crate) run: u64,
}

impl RandomSource<'_> {
    fn derive(&self, stream: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"consort plugin random v1")
            .chain_update(self.seed)
            .chain_update(self.device.as_bytes())
            .chain_update(self.run.to_be_bytes())
            .chain_update([self.plugin.as_str().len() as u8])
            .chain_update(self.plugin.as_str())
            .chain_update(stream)
            .finalize()
            .into()
    }
}

/// A context that holds nothing but clocks, random streams, the log and the granted folders. A
/// folder that cannot be opened is missing, and the plugin's log says so.
pub(crate) fn context(
    clock: &WasiClock,
    random: &RandomSource<'_>,
    log: &SharedLog,
    files: &BTreeMap<String, FolderGrant>,
) -> WasiCtx {
    let mut hash_seed = [0; 16];
    hash_seed.copy_from_slice(&random.derive(b"insecure seed")[..16]);
    let mut context = WasiCtx::builder();
    context
        .wall_clock(clock.clone())
        .monotonic_clock(clock.clone())
        .secure_random(ChaCha12Rng::from_seed(random.derive(b"secure")))
        .insecure_random(ChaCha12Rng::from_seed(random.derive(b"insecure")))
        .insecure_random_seed(u128::from_be_bytes(hash_seed))
        .max_random_size(RANDOM_BYTES_MAX)
        // The thread is the plugin's own, and a poll of a file must be ready at once.
        .allow_blocking_current_thread(true)
        .stdout(Captured {
            log: log.clone(),
            stream: Stream::Stdout,
        })
        .stderr(Captured {
            log: log.clone(),
            stream: Stream::Stderr,
        });
    for (name, grant) in files {
        let permissions = match grant.access {
            Access::Read => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        if let Err(error) = context.preopened_dir(&grant.path, format!("/{name}"), permissions) {
            let path = grant.path.display();
            let text = format!("the granted folder /{name} ({path}) cannot be opened: {error}");
            log.lock().write(Level::Warn, &text);
        }
    }
    context.build()
}

/// Links all of preview 2, since a component that names an interface needs it even when it calls
/// nothing of it; waiting is replaced by the virtual kind, and what may be opened is bounded.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<Guest, Virtual>(linker, |guest| guest)?;
    poll::add_to_linker::<Guest, Virtual>(linker, |guest| guest)?;
    open::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Virtual;

impl HasData for Virtual {
    type Data<'a> = &'a mut Guest;
}

impl monotonic_clock::Host for &mut Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.wasi().read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.wait_until(when)?;
        let passed = self.table.push(Passed)?;
        p2::subscribe(&mut self.table, passed)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.wasi().read().saturating_add(duration);
        self.subscribe_instant(when)
    }
}

impl poll::Host for &mut Guest {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        at_once(async_poll::Host::poll(&mut self.table, pollables))
    }
}

impl poll::HostPollable for &mut Guest {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(async_poll::HostPollable::ready(&mut self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        at_once(async_poll::HostPollable::block(&mut self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(&mut self.table, pollable)
    }
}

/// Polls once: everything a guest can wait for is ready, or never will be.
fn at_once<T>(future: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(HostFault::WaitsForNothing.into()),
    }
}

/// A moment that has passed.
struct Passed;

#[wasmtime_wasi::async_trait]
impl Pollable for Passed {
    async fn ready(&mut self) {}
}

/// Stdout or stderr of a guest.
#[derive(Clone)]
struct Captured {
    log: SharedLog,
    stream: Stream,
}

impl IsTerminal for Captured {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Captured {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Preview 3 would ask for this one; it is not linked.
        Box::new(tokio::io::empty())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Captured {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Captured {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4096)
    }
}
