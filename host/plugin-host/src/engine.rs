//! The engine that all plugins of a host share, its epoch ticker, and the linker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine};

use crate::bindings::Plugin;
use crate::code_cache::CodeCache;
use crate::compile::{CompileError, innermost, look_at};
use crate::compiler::{Compiler, Slots};
use crate::cores::Cores;
use crate::guest::Guest;
use crate::metering::{Metering, Work};
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
    cache: Arc<CodeCache>,
    compiler: Compiler,
    slots: Arc<Slots>,
    pub(crate) metering: Metering,
    pub(crate) cores: Option<Cores>,
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
    #[error(
        "the folder for compiled code {} cannot be made private: {source}; \
         make it this user's own, or remove it",
        .path.display()
    )]
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
    /// Makes a runtime that compiles in this process and keeps compiled code in `cache_dir`.
    ///
    /// # Errors
    /// The folder cannot be made private, or the machine lacks what the engine needs.
    pub fn new(cache_dir: &Path) -> Result<Self, RuntimeError> {
        Self::with_compiler(cache_dir, Compiler::InProcess, None)
    }

    /// Makes a runtime that compiles with `compiler` and keeps compiled code in `cache_dir`, and in
    /// `cores`, if given, the cores of plugins that trap.
    ///
    /// # Errors
    /// The folder cannot be made private, or the machine lacks what the engine needs.
    pub fn with_compiler(
        cache_dir: &Path,
        compiler: Compiler,
        cores: Option<Cores>,
    ) -> Result<Self, RuntimeError> {
        let runtime = Self::metered(cache_dir, compiler, Metering::CpuClock, cores)?;
        start_ticker(&runtime.engine).map_err(RuntimeError::Thread)?;
        Ok(runtime)
    }

    /// Makes a runtime whose instances behave the same in every run, for [`crate::VirtualPlugin`]:
    /// CPU budgets are counted in executed instructions. It compiles in this process, and keeps the
    /// cores of plugins that trap in `cores`, if given.
    ///
    /// # Errors
    /// The folder cannot be made private, or the machine lacks what the engine needs.
    pub fn deterministic(cache_dir: &Path, cores: Option<Cores>) -> Result<Self, RuntimeError> {
        let metering = Metering::Fuel(Work::default());
        Self::metered(cache_dir, Compiler::InProcess, metering, cores)
    }

    fn metered(
        cache_dir: &Path,
        compiler: Compiler,
        metering: Metering,
        cores: Option<Cores>,
    ) -> Result<Self, RuntimeError> {
        let unusable = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let mut config = config(&metering);
        // It changes what a trap carries, not the code.
        config.coredump_on_trap(cores.is_some());
        let engine = Engine::new(&config).map_err(unusable)?;
        let cache =
            CodeCache::open(cache_dir, &engine).map_err(|source| RuntimeError::CacheFolder {
                path: cache_dir.to_owned(),
                source,
            })?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).map_err(unusable)?;
        Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(unusable)?;
        Ok(Self {
            engine,
            linker,
            cache: Arc::new(cache),
            compiler,
            slots: Arc::new(Slots::new()),
            metering,
            cores,
        })
    }

    /// The component of a plugin's file, from the folder of compiled code or compiled.
    pub(crate) fn component(
        &self,
        bytes: &[u8],
        cancelled: &AtomicBool,
    ) -> Result<Component, CompileError> {
        look_at(bytes)?;
        if let Some(component) = self.kept(bytes) {
            return Ok(component);
        }
        // It lasts until the code is kept, or the attempt failed.
        let claim = self.cache.claim(bytes, cancelled);
        if claim.is_none()
            && let Some(component) = self.kept(bytes)
        {
            return Ok(component);
        }
        let slot = self.slots.take(cancelled).ok_or(CompileError::Cancelled)?;
        let code = self.compiler.compile(&self.engine, bytes, cancelled)?;
        drop(slot);
        let component = self
            .load(&code)
            .map_err(|error| CompileError::Refused(innermost(&error)))?;
        self.cache.put(bytes, &code);
        Ok(component)
    }

    /// The component of a plugin's file whose compiled code is in the folder.
    fn kept(&self, bytes: &[u8]) -> Option<Component> {
        let code = self.cache.get(bytes)?;
        let loaded = self.load(&code);
        loaded
            .inspect_err(|error| self.cache.reject(bytes, &innermost(error)))
            .ok()
    }

    /// Loads compiled code, which runs outside the sandbox: it must come from the compiler or from
    /// the cache.
    #[allow(
        unsafe_code,
        reason = "wasmtime cannot tell code of its own compiler from other code; the cache can"
    )]
    fn load(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `code` was either written by wasmtime's compiler a moment ago, in this process or
        // in a child that runs the same program, or it was read from the cache, whose keyed hash
        // over these very bytes shows that this user's host wrote it after the same.
        unsafe { Component::deserialize(&self.engine, code) }
    }
}

/// The settings that compiled code depends on. Those of another metering give another
/// compatibility hash, so the cache keeps their code apart.
pub(crate) fn config(metering: &Metering) -> Config {
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
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(GUEST_STACK_BYTES);
    metering.configure(&mut config);
    config
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
