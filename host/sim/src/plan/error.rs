//! What is wrong with a plan.

use core::fmt;

/// Why a text is no plan, or a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The text has not the form: no TOML, a key that is unknown or missing, a value of another
    /// kind. Says where and what is allowed.
    Form(String),
    /// A value is out of its bounds.
    Value {
        /// Where it stands, such as `step[2].crash`; lists count from 0.
        key: String,
        /// The value.
        value: String,
        /// What is allowed there.
        allowed: String,
    },
}

impl PlanError {
    pub(super) fn form(error: &toml::de::Error) -> Self {
        Self::Form(error.to_string().trim_end().to_owned())
    }

    pub(super) fn value(
        key: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Value {
            key: key.into(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(what) => f.write_str(what),
            Self::Value {
                key,
                value,
                allowed,
            } => write!(f, "{key} = {value}: {allowed}"),
        }
    }
}

impl std::error::Error for PlanError {}
