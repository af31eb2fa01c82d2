//! The engine that all plugins of a host share, its epoch ticker, and the linker.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine};

use crate::bindings::Plugin;
use crate::guest::Guest;
use crate::wasi;

/// How often a running guest is looked at.
const TICK: Duration = Duration::from_millis(10);

/// The stack of a guest's native code.
const GUEST_STACK_BYTES: usize = 512 << 10;

/// What compiles and links plugins.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Guest>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime(..)")
    }
}

/// Why no runtime was made.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The folder for compiled code is unusable.
    #[error("the folder for compiled code {} cannot be made private: {source}", .path.display())]
    CacheFolder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine does not work on this machine.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The operating system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
}

impl Runtime {
    /// Makes a runtime that keeps compiled code in `cache_dir`.
    ///
    /// # Errors
    /// The folder cannot be made private, or the machine lacks what the engine needs.
    pub fn new(cache_dir: &Path) -> Result<Self, RuntimeError> {
        let cache = open_cache(cache_dir)?;
        let unusable = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let engine = Engine::new(config().cache(Some(cache))).map_err(unusable)?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).map_err(unusable)?;
        Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(unusable)?;
        start_ticker(&engine).map_err(RuntimeError::Thread)?;
        Ok(Self { engine, linker })
    }
}

/// The settings that compiled code depends on.
fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .shared_memory(false)
        .wasm_gc(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_stack_switching(false)
        .wasm_shared_everything_threads(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(GUEST_STACK_BYTES);
    config
}

/// Whoever can write to the cache can run code as this user, so the folder is the owner's alone.
fn open_cache(folder: &Path) -> Result<Cache, RuntimeError> {
    let unusable = |source| RuntimeError::CacheFolder {
        path: folder.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(unusable)?;
    let folder = folder.canonicalize().map_err(unusable)?;
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config).map_err(|error| RuntimeError::Engine(format!("{error:#}")))
}

/// Counts epochs up until the engine is gone.
fn start_ticker(engine: &Engine) -> io::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new()
        .name("plugin-epochs".into())
        .spawn(tick)
        .map(drop)
}
