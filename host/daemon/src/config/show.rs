//! What `consort config show` prints: each value with its origin.
//!
//! Secrets are no settings and cannot appear. A plugin's own values may hold a token of some
//! service; those whose key says so are hidden.

use std::fmt;

use serde::Serialize;

use super::layers::Origin;
use super::resolve::Resolved;

/// All settings for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The version of this form.
    pub v: u32,
    /// The configuration file that was read.
    pub file: Option<String>,
    /// Each value, ordered by key.
    pub values: Vec<ShownValue>,
    /// Variables that begin with `CONSORT_` and set nothing.
    pub unknown_variables: Vec<String>,
}

/// One setting.
#[derive(Clone, Debug, Serialize)]
pub struct ShownValue {
    /// The setting's path.
    pub key: String,
    /// Its value; null where it is hidden.
    pub value: Option<toml::Value>,
    /// The layer it came from: `default`, `file`, `environment` or `flag`.
    pub origin: &'static str,
    /// Where in that layer.
    pub place: Option<String>,
}

impl Shown {
    /// What is shown of `resolved`.
    #[must_use]
    pub fn new(resolved: &Resolved) -> Self {
        let values = resolved.values.iter().map(|(key, value)| {
            let (origin, place) = describe(&value.origin);
            let hidden = is_hidden(key.parts());
            ShownValue {
                key: key.to_string(),
                value: (!hidden).then(|| value.value.clone()),
                origin,
                place,
            }
        });
        Self {
            v: 1,
            file: resolved
                .file
                .as_ref()
                .map(|path| path.display().to_string()),
            values: values.collect(),
            unknown_variables: resolved.unknown_variables.clone(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => writeln!(f, "# file: {file}")?,
            None => writeln!(f, "# no configuration file")?,
        }
        let assignment = |value: &ShownValue| match &value.value {
            Some(shown) => format!("{} = {shown}", value.key),
            None => format!("{} = (hidden)", value.key),
        };
        let texts: Vec<String> = self.values.iter().map(assignment).collect();
        let width = texts
            .iter()
            .map(String::len)
            .filter(|len| *len <= 60)
            .max()
            .unwrap_or(0);
        for (text, value) in texts.iter().zip(&self.values) {
            let place = value.place.as_deref().unwrap_or(value.origin);
            writeln!(f, "{text:width$}  # {place}")?;
        }
        for variable in &self.unknown_variables {
            writeln!(
                f,
                "# warning: ${variable} is set, but no setting has that name"
            )?;
        }
        Ok(())
    }
}

fn describe(origin: &Origin) -> (&'static str, Option<String>) {
    match origin {
        Origin::Default => ("default", None),
        Origin::Platform(_) => ("default", Some(origin.to_string())),
        Origin::File { .. } => ("file", Some(origin.to_string())),
        Origin::Environment(_) => ("environment", Some(origin.to_string())),
        Origin::Flag(_) => ("flag", Some(origin.to_string())),
    }
}

fn is_hidden(parts: &[String]) -> bool {
    let [plugins, _, config, key] = parts else {
        return false;
    };
    let key = key.to_ascii_lowercase();
    let tells = [
        "secret",
        "token",
        "password",
        "passphrase",
        "credential",
        "api_key",
        "api-key",
    ];
    plugins == "plugins" && config == "config" && tells.iter().any(|tell| key.contains(tell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_themselves_secret_are_hidden() {
        let parts = |key: &str| {
            ["plugins", "app", "config", key]
                .map(str::to_owned)
                .to_vec()
        };
        assert!(is_hidden(&parts("radio_API_TOKEN")));
        assert!(is_hidden(&parts("password")));
        assert!(!is_hidden(&parts("interval")));
        assert!(!is_hidden(&["name".to_owned()]));
    }
}
