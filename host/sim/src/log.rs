//! Catches what the nodes log. An ERROR is a failure of the run, as it is in tests of daemons: it says
//! that something is wrong with this program, and no scenario may bring that about.

use core::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Lines that nodes logged since the last look.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    dispatch: Dispatch,
}

impl Log {
    /// Catches lines of `level` and graver ones.
    pub(crate) fn new(level: Level) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let dispatch = Dispatch::new(Capture {
            level,
            lines: Arc::clone(&lines),
        });
        Self { lines, dispatch }
    }

    /// Runs `work` so that what it logs ends up here.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, work)
    }

    /// Takes the lines caught so far.
    pub(crate) fn take(&self) -> Vec<(Level, String)> {
        core::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Capture {
    level: Level,
    lines: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((*metadata.level(), line.0));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("a string takes all text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graver_lines_are_caught_with_their_fields() {
        let log = Log::new(Level::ERROR);
        log.during(|| {
            tracing::error!(node = 3, "broken");
            tracing::info!("fine");
        });
        tracing::error!("not ours");
        let caught = log.take();
        assert_eq!(caught.len(), 1, "{caught:?}");
        assert!(caught[0].1.contains("broken node=3"), "{caught:?}");
        assert!(log.take().is_empty());
    }
}
