//! Why a plugin's instance was lost, in words its author can act on.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use wasmtime::Trap;

use crate::plugin_log::printable;
use crate::timers::TimerError;

/// The most frames of a backtrace that are kept, and the most bytes of one: names are the plugin's.
const FRAMES_MAX: usize = 16;
const FRAME_BYTES_MAX: usize = 240;

/// The longest name of a compiler that is made readable; what comes of a hostile one is longer by far.
const MANGLED_BYTES_MAX: usize = 512;

/// What stands between the frames of a backtrace in the host's log, the caller to the right.
pub const BETWEEN_FRAMES: &str = " <- ";

/// The end of an instance: one of its callbacks trapped or overran a limit.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The callback, in the contract's words.
    pub callback: &'static str,
    /// What happened and, where there is something to do, what.
    pub cause: String,
    /// Where in the guest, as far as it is known: function by function, the innermost first, each
    /// of a line's length and without control characters.
    pub backtrace: Vec<String>,
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
        let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>();
        Self {
            callback,
            cause: explain(error, memory_refused),
            backtrace: backtrace
                .map(|all| frames(&all.to_string()))
                .unwrap_or_default(),
            core: None,
        }
    }

    /// The host ends an instance whose callback had returned.
    pub(crate) fn by_host(callback: &'static str, why: HostFault) -> Self {
        Self {
            callback,
            cause: why.to_string(),
            backtrace: Vec::new(),
            core: None,
        }
    }
}

/// The frames in wasmtime's text of a backtrace. Its first line is a heading; a frame begins with its
/// number, and goes on with the places in the source, where the file has them. A function that was
/// called again and again by itself is one frame with its count.
fn frames(text: &str) -> Vec<String> {
    let mut frames: Vec<(String, usize)> = Vec::new();
    for line in text.lines().skip(1).map(str::trim) {
        let begins = line.split_once(": ").filter(|(number, _)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        match (begins, frames.last_mut()) {
            (Some((_, frame)), Some((last, count))) if function(frame) == function(last) => {
                *count += 1;
            }
            (Some((_, frame)), _) => frames.push((frame.trim().to_owned(), 1)),
            // A place in the source, of the first of several frames of one function.
            (None, Some((last, 1))) if last.len() < FRAME_BYTES_MAX => {
                last.push(' ');
                last.push_str(line);
            }
            (None, _) => {}
        }
    }
    let shown = frames.into_iter().take(FRAMES_MAX).map(|(frame, count)| {
        let mut frame = printable(&readable(&frame));
        if frame.len() > FRAME_BYTES_MAX {
            frame.truncate(frame.floor_char_boundary(FRAME_BYTES_MAX));
            frame.push_str(" (cut)");
        }
        if count > 1 {
            frame.push_str(&format!(" (at least {count} times)"));
        }
        frame
    });
    shown.collect()
}

/// A frame with its function's name as the source has it, where a Rust compiler has written it.
fn readable(frame: &str) -> String {
    let Some((place, name)) = frame.split_once('!') else {
        return frame.to_owned();
    };
    // Names of compilers have no spaces; a place in the source may follow.
    let (name, source) = name.split_at(name.find(' ').unwrap_or(name.len()));
    if name.len() > MANGLED_BYTES_MAX {
        return frame.to_owned();
    }
    match rustc_demangle::try_demangle(name) {
        Ok(demangled) => format!("{place}!{demangled:#}{source}"),
        Err(_) => frame.to_owned(),
    }
}

/// A frame without the place in the code and in the source.
fn function(frame: &str) -> &str {
    let name = frame.split_once(" - ").map_or(frame, |(_, name)| name);
    name.split_once(" at ").map_or(name, |(name, _)| name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded_and_repetitions_counted() {
        let mut text = "error while executing at wasm backtrace:\n".to_owned();
        for number in 0..3 {
            text.push_str(&format!("    {number}: 0x{number}1 - app.wasm!recurse\n"));
        }
        text.push_str(
            "    3:   0x40 - app.wasm!on_message\n                    at src/lib.rs:7:3\n",
        );
        text.push_str(&format!(
            "    4:   0x50 - app.wasm!{}\n",
            "é\u{1b}".repeat(2_000)
        ));
        for number in 5..40 {
            text.push_str(&format!("   {number}:   0x60 - app.wasm!f{number}\n"));
        }
        let frames = frames(&text);
        assert_eq!(frames.len(), FRAMES_MAX);
        assert_eq!(frames[0], "0x01 - app.wasm!recurse (at least 3 times)");
        assert_eq!(frames[1], "0x40 - app.wasm!on_message at src/lib.rs:7:3");
        assert!(frames[2].ends_with(" (cut)") && frames[2].len() < FRAME_BYTES_MAX + 10);
        assert_eq!(frames[3], "0x60 - app.wasm!f5");
        assert!(frames.iter().all(|frame| !frame.contains(char::is_control)));
    }

    #[test]
    fn names_that_rust_mangled_are_readable() {
        let text = "heading\n    0:   0x1 - app.wasm!_RNvNtCs9pv848UzQwQ_4core9panicking9panic_fmt\n\
                    1:   0x2 - app.wasm!_ZN3app5Hello3day17h0123456789abcdefE at src/lib.rs:7:3\n\
                    2:   0x3 - app.wasm!_RNvNt\n    3:   0x4 - <unknown>\n";
        assert_eq!(
            frames(text),
            [
                "0x1 - app.wasm!core::panicking::panic_fmt",
                "0x2 - app.wasm!app::Hello::day at src/lib.rs:7:3",
                "0x3 - app.wasm!_RNvNt",
                "0x4 - <unknown>",
            ]
        );
    }
}
