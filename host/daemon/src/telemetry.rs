//! The log: one subscriber for the process, written to standard error.
//!
//! What is shown is decided by `CONSORT_LOG`, else `RUST_LOG`, else everything from `info` on. The
//! JSON form has one object per line with the event's fields at the top level; a line that a plugin
//! wrote carries its id in the field `plugin`.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

use crate::config::LogFormat;

/// Starts the log. A second call changes nothing. An unreadable filter is reported in the log
/// and replaced by `info`.
pub fn init(format: LogFormat, ansi: bool) {
    let (filter, complaint) = filter();
    let builder = || -> SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> io::Stderr> {
        tracing_subscriber::fmt()
            .with_env_filter(filter.clone())
            .with_writer(io::stderr as fn() -> io::Stderr)
    };
    let started = match format {
        LogFormat::Human => builder().with_ansi(ansi).try_init(),
        LogFormat::Json => builder()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    if started.is_ok()
        && let Some(complaint) = complaint
    {
        tracing::warn!("{complaint}; showing everything from info on");
    }
}

/// The filter from the environment, and what is wrong with it.
fn filter() -> (EnvFilter, Option<String>) {
    let set = ["CONSORT_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        Some((
            name,
            std::env::var(name).ok().filter(|text| !text.is_empty())?,
        ))
    });
    let Some((name, text)) = set else {
        return (EnvFilter::new("info"), None);
    };
    match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new("info"),
            Some(format!("{name}={text:?} is no log filter ({error})")),
        ),
    }
}
