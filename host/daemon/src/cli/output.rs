//! Results on standard output, everything else on standard error.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

use super::CliError;

/// Prints a result: with `json` as one line of JSON, else as text.
pub(super) fn result<T: Serialize + Display>(value: &T, json: bool) -> Result<(), CliError> {
    if json {
        object(value)
    } else {
        text(&shown(&value.to_string()))
    }
}

/// Text for people: control characters in it, which may come from a plugin's files or another
/// device, are escaped, line ends apart.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let odd = |c: char| c.is_control() && c != '\n';
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_lines_kept() {
        let text = shown("a\u{1b}[31mb\r\nc\u{9b}d\u{7f}\n");
        assert_eq!(text, "a\\u{1b}[31mb\\r\nc\\u{9b}d\\u{7f}\n");
        assert!(matches!(shown("pläin\n"), Cow::Borrowed("pläin\n")));
    }
}
