//! A plugin's own log: what it writes through `log`, and what it prints on stdout and stderr.
//!
//! Each line is bounded, freed from control bytes and counted against a budget on group time. What
//! is written and what is printed have one each, so that neither silences the other: a library that
//! prints does not cost the plugin its own words, nor do these cost it the text of its panic.
//! What exceeds a budget is dropped and counted; the log says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bucket::Bucket;

/// The longest line in bytes; the rest is cut.
const LINE_BYTES_MAX: usize = 8 << 10;

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The finest.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Where a plugin's lines go.
pub trait LogSink: Send {
    /// Takes one line without control bytes.
    fn line(&mut self, level: Level, text: &str);
}

/// Shared between a store's data and the streams that capture stdout and stderr.
#[derive(Clone)]
pub(crate) struct SharedLog(Arc<Mutex<PluginLog>>);

impl SharedLog {
    pub(crate) fn new(sink: Box<dyn LogSink>, bytes_per_second: u32) -> Self {
        Self(Arc::new(Mutex::new(PluginLog {
            sink,
            shares: [Share::new(bytes_per_second), Share::new(bytes_per_second)],
            now_us: 0,
            partial: [const { Vec::new() }; 2],
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PluginLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a guest prints on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn level(self) -> Level {
        match self {
            Self::Stdout => Level::Info,
            Self::Stderr => Level::Warn,
        }
    }
}

/// By which way a line comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By the contract's `log`.
    Written,
    /// On stdout or stderr.
    Printed,
}

impl Way {
    /// What the log calls such lines.
    const fn name(self) -> &'static str {
        match self {
            Self::Written => "log",
            Self::Printed => "printed",
        }
    }
}

/// What lines of one way may take.
struct Share {
    budget: Bucket,
    /// Lines dropped since the budget was exceeded.
    suppressed: u64,
}

impl Share {
    fn new(bytes_per_second: u32) -> Self {
        Self {
            budget: Bucket::new(bytes_per_second, bytes_per_second),
            suppressed: 0,
        }
    }
}

/// One instance's log.
pub(crate) struct PluginLog {
    sink: Box<dyn LogSink>,
    /// By [`Way`].
    shares: [Share; 2],
    now_us: u64,
    /// What came on stdout and stderr after the last line end.
    partial: [Vec<u8>; 2],
}

impl PluginLog {
    pub(crate) fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        self.line(Way::Written, level, text);
    }

    fn line(&mut self, way: Way, level: Level, text: &str) {
        let line = printable(text);
        let share = &mut self.shares[way as usize];
        let name = way.name();
        if !share.budget.take(self.now_us, line.len() as u64 + 1) {
            if share.suppressed == 0 {
                let note = format!("log budget exceeded: {name} lines are suppressed");
                self.sink.line(Level::Warn, &note);
            }
            share.suppressed += 1;
            return;
        }
        if share.suppressed > 0 {
            let note = format!("{} {name} lines were suppressed", share.suppressed);
            share.suppressed = 0;
            self.sink.line(Level::Warn, &note);
        }
        self.sink.line(level, &line);
    }

    /// Takes bytes of a stream; each line end gives a line.
    pub(crate) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut self.partial[stream as usize];
            partial.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            if piece.ends_with(b"\n") || partial.len() >= LINE_BYTES_MAX {
                self.end_line(stream);
            }
        }
    }

    /// Writes what was printed without a line end.
    pub(crate) fn flush(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial[stream as usize].is_empty() {
                self.end_line(stream);
            }
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.partial[stream as usize]);
        let text = String::from_utf8_lossy(&line);
        self.line(Way::Printed, stream.level(), &text);
    }
}

/// Escapes control characters and cuts what is too long.
pub(crate) fn printable(text: &str) -> String {
    let text = text.trim_end_matches(['\n', '\r']);
    let mut line = String::with_capacity(text.len().min(LINE_BYTES_MAX));
    for c in text.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push_str(" (cut)");
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

    impl LogSink for Lines {
        fn line(&mut self, level: Level, text: &str) {
            self.0
                .lock()
                .expect("no panic")
                .push((level, text.to_owned()));
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            self.0
                .lock()
                .expect("no panic")
                .drain(..)
                .map(|(_, text)| text)
                .collect()
        }
    }

    #[test]
    fn streams_become_lines() {
        let lines = Lines::default();
        let log = SharedLog::new(Box::new(lines.clone()), 65_536);
        log.lock().print(Stream::Stdout, b"one\ntw");
        log.lock().print(Stream::Stderr, b"other\n");
        log.lock().print(Stream::Stdout, b"o\nthree");
        assert_eq!(lines.take(), ["one", "other", "two"]);
        log.lock().flush();
        assert_eq!(lines.take(), ["three"]);
    }

    #[test]
    fn control_bytes_are_escaped_and_lines_cut() {
        assert_eq!(printable("a\u{1b}[31mb\nc\n"), "a\\u{1b}[31mb\\nc");
        let long = printable(&"x".repeat(20_000));
        assert_eq!(long.len(), LINE_BYTES_MAX + " (cut)".len());
    }

    #[test]
    fn a_flood_is_suppressed_and_counted() {
        let lines = Lines::default();
        let log = SharedLog::new(Box::new(lines.clone()), 100);
        let mut log = log.lock();
        for _ in 0..20 {
            log.write(Level::Info, "123456789");
        }
        let seen = lines.take();
        assert_eq!(seen.len(), 11, "ten lines and the note: {seen:?}");
        assert!(seen[10].contains("suppressed"), "{seen:?}");
        log.set_now(1_000_000);
        log.write(Level::Info, "again");
        assert_eq!(lines.take(), ["10 log lines were suppressed", "again"]);
    }

    #[test]
    fn what_is_printed_and_what_is_written_do_not_silence_each_other() {
        let lines = Lines::default();
        let log = SharedLog::new(Box::new(lines.clone()), 100);
        let mut log = log.lock();
        log.print(Stream::Stdout, &b"123456789\n".repeat(20));
        let note = "log budget exceeded: printed lines are suppressed";
        assert_eq!(lines.take()[10..], [note]);
        log.print(Stream::Stderr, b"of the same budget\n");
        assert_eq!(lines.take(), [""; 0]);
        for _ in 0..20 {
            log.write(Level::Info, "123456789");
        }
        assert_eq!(lines.take().len(), 11, "ten lines and the note");
        log.set_now(1_000_000);
        log.print(Stream::Stderr, b"a panic\n");
        let counted = "11 printed lines were suppressed";
        assert_eq!(lines.take(), [counted, "a panic"], "each has its own count");
    }
}
