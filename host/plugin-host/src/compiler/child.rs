//! The child's side: it bounds itself, reads a file, compiles it and answers.

use std::io::{self, Read, Write};

use nix::sys::resource::{Resource, setrlimit};
use wasmtime::Engine;

use super::MAGIC;
use crate::compile::{CompileError, FILE_BYTES_MAX, precompile};
use crate::engine::config;
use crate::metering::Metering;
use crate::priority;

/// How far behind the daemon the child's priority is.
const NICENESS: i32 = 10;

/// What an answer of the child begins with.
pub(super) const COMPILED: u8 = 0;
pub(super) const DAMAGED: u8 = 1;
pub(super) const MODULE_MISMATCH: u8 = 2;
pub(super) const REFUSED: u8 = 3;

/// Compiles the one file that comes on standard input, within the limits that come before it, and
/// answers on standard output. The whole work of a child process; see [`super::ChildCompiler`].
///
/// # Errors
/// It was not started by a plugin host, or cannot be bounded; the text is for standard error.
pub fn serve() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut header = [0; MAGIC.len() + 16];
    input.read_exact(&mut header).map_err(|_| stranger())?;
    let (magic, limits) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(stranger());
    }
    let (memory_bytes, cpu_seconds) = limits.split_at(8);
    bound_self(number(memory_bytes), number(cpu_seconds))?;
    let mut file = Vec::new();
    input
        .take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut file)?;
    let (kind, answer) = match compile(&file) {
        Ok(code) => (COMPILED, code),
        Err(CompileError::Damaged(text)) => (DAMAGED, text.into_bytes()),
        Err(CompileError::ModuleMismatch(text)) => (MODULE_MISMATCH, text.into_bytes()),
        Err(CompileError::Refused(text)) => (REFUSED, text.into_bytes()),
        Err(other) => (REFUSED, other.to_string().into_bytes()),
    };
    let mut output = io::stdout().lock();
    output.write_all(&[kind])?;
    output.write_all(&answer)?;
    output.flush()
}

fn stranger() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this command is for the plugin host, which compiles plugins with it",
    )
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// From here on this process cannot harm the machine, whatever file it reads.
fn bound_self(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // A host that was killed leaves no compiler behind.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        nix::sys::prctl::set_no_new_privs()?;
    }
    // The daemon's heartbeats and the plugins that run come before a compilation.
    priority::yield_to_others(NICENESS);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_AS, memory_bytes, memory_bytes)?;
    // The soft limit tells by its signal that time is up; the hard one cannot be ignored.
    setrlimit(Resource::RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)?;
    Ok(())
}

/// One thread is enough, and takes half the memory of several.
fn compile(file: &[u8]) -> Result<Vec<u8>, CompileError> {
    let engine = Engine::new(config(&Metering::CpuClock).parallel_compilation(false))
        .map_err(|error| CompileError::Refused(format!("{error:#}")))?;
    precompile(&engine, file)
}
