//! The last lines of one plugin, for whoever asks: its own log, and what the host says of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::plugin_log::{Level, printable};

/// The most lines that are kept.
const LINES_MAX: usize = 1000;

/// The most bytes that are kept.
const BYTES_MAX: usize = 256 << 10;

/// A line of a plugin's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Grows by one from line to line, and by more where the plugin was unloaded in between.
    pub number: u64,
    /// When, by this device's wall clock.
    pub at: SystemTime,
    /// How serious.
    pub level: Level,
    /// Whether the host says it, not the plugin.
    pub by_host: bool,
    /// Without control characters.
    pub text: String,
}

/// What hears each line as it is written: how serious, whether the host says it, and the text.
pub(crate) type Listener = Box<dyn FnMut(Level, bool, &str) + Send>;

/// The last lines of one plugin, over all its instances.
#[derive(Clone, Default)]
pub(crate) struct LogRing(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    lines: VecDeque<LogLine>,
    bytes: usize,
    written: u64,
    listener: Option<Listener>,
}

impl LogRing {
    /// Without a line. The first one gets the number after `written`.
    pub(crate) fn after_others(written: u64) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            written,
            ..Lines::default()
        })))
    }

    /// The last line's number.
    pub(crate) fn written(&self) -> u64 {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.written
    }

    /// Adds a line; the oldest ones make room.
    pub(crate) fn push(&self, level: Level, by_host: bool, text: &str) {
        let text = printable(text);
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &mut ring.listener {
            listener(level, by_host, &text);
        }
        ring.written += 1;
        ring.bytes += text.len();
        let line = LogLine {
            number: ring.written,
            at: SystemTime::now(),
            level,
            by_host,
            text,
        };
        ring.lines.push_back(line);
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let oldest = ring.lines.pop_front();
            ring.bytes -= oldest.map_or(0, |line| line.text.len());
        }
    }

    /// Lets somebody hear each line from here on.
    pub(crate) fn listen(&self, listener: Listener) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.listener = Some(listener);
    }

    /// The lines with a number above `after`, oldest first.
    pub(crate) fn after(&self, after: u64) -> Vec<LogLine> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = ring.lines.iter().filter(|line| line.number > after);
        newer.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_goes_on_where_another_one_ended() {
        let first = LogRing::default();
        first.push(Level::Info, false, "one");
        let second = LogRing::after_others(first.written());
        second.push(Level::Info, false, "two");
        assert_eq!(second.after(1).len(), 1, "who heard the first hears it");
        assert_eq!(second.after(0)[0].number, 2);
    }

    #[test]
    fn the_oldest_lines_make_room() {
        let ring = LogRing::default();
        for number in 0..2_500 {
            ring.push(Level::Info, false, &format!("line {number}"));
        }
        let kept = ring.after(0);
        assert_eq!((kept.len(), kept[0].text.as_str()), (1000, "line 1500"));
        assert_eq!(ring.after(2_499).len(), 1);
        assert!(ring.after(2_500).is_empty());
        for _ in 0..100 {
            ring.push(Level::Warn, true, &"x".repeat(8_000));
        }
        let bytes: usize = ring.after(0).iter().map(|line| line.text.len()).sum();
        assert!((BYTES_MAX - 8_000..=BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
