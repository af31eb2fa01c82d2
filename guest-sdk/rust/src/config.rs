//! The plugin's settings: what its manifest says, overlaid with what the operator set.
//!
//! Values are texts. They are fixed while an instance runs, so that `setup` is the place to read
//! them.
//!
//! ```no_run
//! use std::time::Duration;
//! use consort_plugin::{BoxError, Plugin, config};
//!
//! #[derive(Default)]
//! struct Blinker {
//!     period: Duration,
//! }
//!
//! impl Plugin for Blinker {
//!     fn setup(&mut self) -> Result<(), BoxError> {
//!         let seconds = config::parse("period_secs")?.unwrap_or(2);
//!         self.period = Duration::from_secs(seconds);
//!         Ok(())
//!     }
//! }
//! ```

use std::fmt;
use std::str::FromStr;

use crate::bindings::consort::plugin::config as host;

/// The value of `key`, if there is one.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    host::get(key)
}

/// Every key and its value.
#[must_use]
pub fn entries() -> Vec<(String, String)> {
    host::entries()
}

/// The value of `key`, parsed; `Ok(None)` if there is none.
///
/// # Errors
/// The value is none of `T`. The error names key and value.
pub fn parse<T>(key: &str) -> Result<Option<T>, ParseError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let Some(value) = get(key) else {
        return Ok(None);
    };
    value
        .trim()
        .parse()
        .map(Some)
        .map_err(|cause| ParseError::new(key, &value, &cause))
}

/// A setting whose value is not what the plugin expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    key: String,
    value: String,
    cause: String,
}

impl ParseError {
    /// The error for a plugin's own checks of a value, worded like those of [`parse`].
    pub fn new(key: &str, value: &str, cause: &impl fmt::Display) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_owned(),
            cause: cause.to_string(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config value {} = {:?}: {}",
            self.key, self.value, self.cause
        )
    }
}

impl std::error::Error for ParseError {}
