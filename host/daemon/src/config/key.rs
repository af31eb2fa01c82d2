//! The path of one setting, as written in a file and as the name of a variable.

use std::fmt;

/// A setting's path: `network.port`; parts that TOML would quote are shown quoted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The path made of `parts`.
    #[must_use]
    pub fn new(parts: &[&str]) -> Self {
        Self(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    /// The path of `part` within this one.
    #[must_use]
    pub fn child(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }

    /// The path's parts, outermost first.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        let mut name = String::from("CONSORT");
        for part in &self.0 {
            name.push('_');
            name.push_str(&part.to_ascii_uppercase());
        }
        name
    }
}

impl From<Vec<String>> for KeyPath {
    fn from(parts: Vec<String>) -> Self {
        Self(parts)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            let bare = !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if bare {
                f.write_str(part)?
            } else {
                write!(f, "{part:?}")?
            }
        }
        Ok(())
    }
}
