//! Why a plugin's instance was lost, in words its author can act on.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use wasmtime::Trap;

use crate::timers::TimerError;

/// The end of an instance: one of its callbacks trapped or overran a limit.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The callback, in the contract's words.
    pub callback: &'static str,
    /// What happened and, where there is something to do, what.
    pub cause: String,
    /// Where in the guest, if known.
    pub backtrace: Option<String>,
    /// Where its core is, or why it was not kept; none if nobody asked for cores.
    pub core: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.callback, self.cause)
    }
}

/// Why the host ends a callback.
#[derive(Clone, Copy, Debug, Error)]
pub(crate) enum HostFault {
    #[error("it used more than {} ms of CPU in one callback", .budget.as_millis())]
    OverCpu { budget: Duration },
    #[error(
        "it waited for more than {} s in one callback; use clock.wake-at instead",
        .limit.as_secs()
    )]
    OverWait { limit: Duration },
    #[error("it waited for something that never comes; a callback must not wait")]
    WaitsForNothing,
    #[error(transparent)]
    Timer(#[from] TimerError),
}

impl Fault {
    /// Explains an error of a call. `memory_refused` is the memory limit if the call ran into it.
    pub(crate) fn new(
        callback: &'static str,
        error: &wasmtime::Error,
        memory_refused: Option<usize>,
    ) -> Self {
        let backtrace = error
            .downcast_ref::<wasmtime::WasmBacktrace>()
            .map(ToString::to_string);
        Self {
            callback,
            cause: explain(error, memory_refused),
            backtrace,
            core: None,
        }
    }

    /// The host ends an instance whose callback had returned.
    pub(crate) fn by_host(callback: &'static str, why: HostFault) -> Self {
        Self {
            callback,
            cause: why.to_string(),
            backtrace: None,
            core: None,
        }
    }
}

fn explain(error: &wasmtime::Error, memory_refused: Option<usize>) -> String {
    if let Some(fault) = error.downcast_ref::<HostFault>() {
        return fault.to_string();
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return format!(
            "it called exit({}); a plugin returns from its callbacks instead",
            exit.0
        );
    }
    if let Some(limit) = memory_refused {
        return format!(
            "it ran out of memory: its limit is {} MiB (memory_mib under [limits] in plugin.toml)",
            limit >> 20
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => explain_trap(*trap),
        // The outermost lines are the backtrace; the cause is the innermost.
        None => error.root_cause().to_string(),
    }
}

fn explain_trap(trap: Trap) -> String {
    let hint = match trap {
        Trap::UnreachableCodeReached => " (a panic or an abort; its text is in the plugin's log)",
        Trap::MemoryOutOfBounds | Trap::StackOverflow => " (probably a stack overflow)",
        Trap::CannotEnterComponent => " (an earlier call had failed)",
        _ => "",
    };
    format!("it trapped: {trap}{hint}")
}
