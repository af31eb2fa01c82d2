//! A daemon's log, read on a thread while the daemon runs.
//!
//! Every line is kept with the moment it was read, up to a bound that no test comes near. A line
//! that is no JSON object, such as an error before the log has started, is a message without
//! fields.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::wait;

const LINES_MAX: usize = 50_000;
const TAIL: usize = 60;

/// What one run of a daemon has said so far.
#[derive(Debug)]
pub struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    reader: Option<JoinHandle<()>>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// `INFO`, `WARN`, …; empty for a line that is no JSON.
    pub level: String,
    /// What it says.
    pub message: String,
    /// Everything in it.
    pub fields: Map<String, Value>,
}

impl Line {
    fn parse(text: &str) -> Self {
        let at = Instant::now();
        let fields = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => {
                return Self {
                    at,
                    level: String::new(),
                    message: text.trim_end().to_owned(),
                    fields: Map::new(),
                };
            }
        };
        let text = |key: &str| {
            fields
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        Self {
            at,
            level: text("level"),
            message: text("message"),
            fields,
        }
    }

    /// When the daemon wrote it, by the machine's wall clock, in microseconds since midnight (UTC).
    /// None for a line that is no JSON.
    #[must_use]
    pub fn written_us(&self) -> Option<i64> {
        let stamp = self.field("timestamp");
        let (_, time) = stamp.trim_end_matches('Z').split_once('T')?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut us = 0;
        for part in time.split(':') {
            us = us * 60 + part.parse::<i64>().ok()?;
        }
        let digits = format!("{fraction:0<6}");
        Some(us * 1_000_000 + digits.get(..6)?.parse::<i64>().ok()?)
    }

    /// A field as text; empty if it is not there.
    #[must_use]
    pub fn field(&self, key: &str) -> String {
        match self.fields.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Whether the plugin `id` itself wrote it.
    #[must_use]
    pub fn is_by_plugin(&self, id: &str) -> bool {
        self.field("target") == "plugin" && self.field("plugin") == id
    }

    /// Whether it is a warning of the host that holds all of `words`, in the message or a field.
    #[must_use]
    pub fn warns_of(&self, words: &[&str]) -> bool {
        let all = self.text();
        self.level == "WARN" && words.iter().all(|word| all.contains(word))
    }

    /// Message and fields as one text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} {}", self.level, self.message);
        for (key, value) in &self.fields {
            if !["level", "message", "timestamp"].contains(&key.as_str()) {
                text.push_str(&format!(" {key}={value}"));
            }
        }
        text
    }
}

impl Log {
    pub(crate) fn read(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let read = move || {
            for text in BufReader::new(pipe).split(b'\n') {
                let Ok(text) = text else { return };
                let line = Line::parse(&String::from_utf8_lossy(&text));
                let mut lines = lock(&sink);
                // Reading goes on, so that the daemon never waits for a full pipe.
                if lines.len() < LINES_MAX {
                    lines.push(line);
                }
            }
        };
        Self {
            lines,
            reader: Some(std::thread::spawn(read)),
        }
    }

    /// How many lines there are: the place from which later lines are new.
    #[must_use]
    pub fn mark(&self) -> usize {
        lock(&self.lines).len()
    }

    /// The lines from a mark on.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<Line> {
        lock(&self.lines).iter().skip(mark).cloned().collect()
    }

    /// The first line from a mark on that fits.
    #[must_use]
    pub fn find(&self, mark: usize, fits: impl Fn(&Line) -> bool) -> Option<Line> {
        lock(&self.lines)
            .iter()
            .skip(mark)
            .find(|line| fits(line))
            .cloned()
    }

    /// Waits for a line from a mark on that fits.
    ///
    /// # Panics
    /// There is none within the patience of tests.
    #[track_caller]
    pub fn wait(&self, mark: usize, what: &str, fits: impl Fn(&Line) -> bool) -> Line {
        wait::until(what, || self.find(mark, &fits))
    }

    /// Lines in which the host, not a plugin, reports an error, or a panic.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let lines = lock(&self.lines);
        let bad = lines.iter().filter(|line| {
            let by_host = line.level == "ERROR" && line.field("target") != "plugin";
            by_host || line.level.is_empty() && line.message.contains("panicked at")
        });
        bad.map(Line::text).collect()
    }

    /// The last lines, for a test that failed.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = lock(&self.lines);
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        tail.iter().map(Line::text).collect::<Vec<_>>().join("\n")
    }

    /// Reads the rest; the daemon has ended.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has left what it read.
            let _ = reader.join();
        }
    }
}

fn lock(lines: &Mutex<Vec<Line>>) -> MutexGuard<'_, Vec<Line>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_line_is_read_to_the_microsecond() {
        let at = |stamp: &str| {
            let text = format!("{{\"timestamp\":\"{stamp}\",\"message\":\"\"}}");
            Line::parse(&text).written_us()
        };
        assert_eq!(at("2026-01-02T01:02:03.000004Z"), Some(3_723_000_004));
        assert_eq!(at("2026-01-02T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(at("2026-01-02T00:00:01Z"), Some(1_000_000));
        assert_eq!(at("yesterday"), None);
    }
}
