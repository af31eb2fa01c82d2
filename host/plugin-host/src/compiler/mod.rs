//! Where plugins are compiled: in a child process that lives for one file, or, for users of this
//! library that trust their files, in this one.
//!
//! A compiler that works on a stranger's file may run forever, take all memory or crash. In a child
//! process each of these costs that file alone: the child bounds its own address space and CPU time
//! before it reads a byte of the file, and the host bounds its wall time and what it answers. The
//! child gets no environment, no open files and no secrets.
//!
//! What goes through the pipes: to the child [`MAGIC`], the two limits and the file until the end;
//! back one byte that says what follows, and the compiled code or a text.

mod child;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

pub use self::child::serve;
use crate::compile::{CompileError, precompile};

/// Begins what the child reads, so that a program started by mistake says so.
const MAGIC: &[u8; 16] = b"consort compile1";

/// The longest compiled code that is taken. Python's interpreter gives about 60 MiB.
const CODE_BYTES_MAX: usize = 256 << 20;

/// How often a waiting host looks whether it is to give up.
const LOOK: Duration = Duration::from_millis(50);

/// What compiles plugins.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process, without a bound on time or memory: for files that are trusted.
    InProcess,
    /// A child process for each file.
    Child(ChildCompiler),
}

/// A program that compiles one file: it calls [`serve`] and ends.
#[derive(Clone, Debug)]
pub struct ChildCompiler {
    /// The program. `/proc/self/exe` is this one, also after its file was replaced.
    pub program: PathBuf,
    /// What makes the program call [`serve`].
    pub arguments: Vec<OsString>,
    /// What it may use.
    pub limits: CompileLimits,
}

/// What compiling one file may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child. 512 MiB, of which Python's interpreter needs most.
    pub memory_bytes: u64,
    /// CPU time, in whole seconds. 300 s.
    pub cpu_seconds: u64,
    /// Wall time. 15 min, for a machine that is busy with other things.
    pub wall: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            cpu_seconds: 300,
            wall: Duration::from_secs(900),
        }
    }
}

impl Compiler {
    /// Compiled code of a plugin's file, as the engine that `engine` is like can load it.
    ///
    /// # Errors
    /// The file is no plugin, exceeds a limit, or `cancelled` became true meanwhile.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        cancelled: &AtomicBool,
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => precompile(engine, bytes),
            Self::Child(child) => run::compile(child, bytes, cancelled),
        }
    }
}

/// How many files are compiled at once: each takes a core and up to the limit of memory.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Slots {
    /// At least two, so that one endless file does not keep the others from being compiled.
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            free: Mutex::new(cores.clamp(2, 4)),
            returned: Condvar::new(),
        }
    }

    /// Waits for a slot; none once `cancelled` is true.
    pub(crate) fn take(&self, cancelled: &AtomicBool) -> Option<Slot<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if cancelled.load(Ordering::Acquire) {
                return None;
            }
            let waited = self.returned.wait_timeout(free, LOOK);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Slot(self))
    }
}

/// The right to compile one file; returned when dropped.
pub(crate) struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}
