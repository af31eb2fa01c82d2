//! Results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

use super::CliError;

/// Prints a result: with `json` as one line of JSON, else as text.
pub(super) fn result<T: Serialize + Display>(value: &T, json: bool) -> Result<(), CliError> {
    if json {
        object(value)
    } else {
        text(&value.to_string())
    }
}

/// Prints one JSON object on one line.
pub(super) fn object(value: &impl Serialize) -> Result<(), CliError> {
    let line = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    text(&line)
}

/// Prints text, with a line end where it lacks one.
pub(super) fn text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{end}")
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

/// Tells people something that is no result.
pub(super) fn note(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
