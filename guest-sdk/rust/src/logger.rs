//! Routes the `log` crate and panics to the host's log.

use std::panic::PanicHookInfo;

use ::log::{Level, LevelFilter, Log, Metadata, Record};

use crate::bindings::consort::plugin::log as host;

/// Makes the host's log that of this instance. Calling it again changes nothing.
///
/// Every level is passed on, as the host decides what it keeps. A plugin that finds this costly
/// lowers it by `log::set_max_level` in its `setup`.
pub(crate) fn install() {
    // An error means that a logger is set already, which is this one: an instance has no other.
    if ::log::set_logger(&HostLog).is_ok() {
        ::log::set_max_level(LevelFilter::Trace);
    }
    std::panic::set_hook(Box::new(|info| {
        host::write(host::Level::Error, &panic_line(info))
    }));
}

struct HostLog;

impl Log for HostLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = host_level(record.level());
        match record.args().as_str() {
            Some(literal) => host::write(level, literal),
            None => host::write(level, &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

fn host_level(level: Level) -> host::Level {
    match level {
        Level::Error => host::Level::Error,
        Level::Warn => host::Level::Warn,
        Level::Info => host::Level::Info,
        Level::Debug => host::Level::Debug,
        Level::Trace => host::Level::Trace,
    }
}

/// A panic's place and message in one line.
fn panic_line(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("(no message)");
    match info.location() {
        Some(place) => format!("panicked at {}:{}: {message}", place.file(), place.line()),
        None => format!("panicked: {message}"),
    }
}
