//! The layer of environment variables.

use super::ConfigError;
use super::key::KeyPath;
use super::layers::{Layer, Origin, Value, checked};
use super::surroundings::Surroundings;

/// How a variable's text becomes a value.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Number,
    Switch,
    List,
}

/// The settings that a variable can set.
const VARIABLES: [(&[&str], Shape); 19] = [
    (&["name"], Shape::Text),
    (&["data_dir"], Shape::Text),
    (&["plugins_dir"], Shape::Text),
    (&["network", "listen"], Shape::List),
    (&["network", "port"], Shape::Number),
    (&["network", "discovery_port"], Shape::Number),
    (&["network", "multicast"], Shape::Switch),
    (&["network", "broadcast"], Shape::Switch),
    (&["network", "send_kb_per_second"], Shape::Number),
    (&["network", "peer_kb_per_second"], Shape::Number),
    (&["network", "send_burst_kib"], Shape::Number),
    (&["network", "seeds"], Shape::List),
    (&["network", "interfaces"], Shape::List),
    (&["network", "interfaces_denied"], Shape::List),
    (&["group", "allow"], Shape::List),
    (&["group", "deny"], Shape::List),
    (&["log", "format"], Shape::Text),
    (&["local", "dir"], Shape::Text),
    (&["local", "group"], Shape::Text),
];

/// Variables that begin like settings and are none.
const OTHER_VARIABLES: [&str; 2] = ["CONSORT_CONFIG", "CONSORT_LOG"];

pub(super) fn environment_layer(around: &Surroundings) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for (parts, shape) in VARIABLES {
        let key = KeyPath::new(parts);
        let variable = key.variable();
        let Some(text) = around
            .variables
            .get(&variable)
            .filter(|text| !text.is_empty())
        else {
            continue;
        };
        let place = format!("${variable}");
        let text = text.to_str().ok_or_else(|| ConfigError::Invalid {
            place: place.clone(),
            key: None,
            what: "it is no UTF-8 text".to_owned(),
        })?;
        let value = checked(&key, shape.value(text), &place)?;
        layer.insert(
            key,
            Value {
                value,
                origin: Origin::Environment(variable),
            },
        );
    }
    Ok(layer)
}

impl Shape {
    /// A text that does not fit its shape stays a text, which the check then refuses with the
    /// words that it has for the same value in a file.
    fn value(self, text: &str) -> toml::Value {
        let as_text = || toml::Value::String(text.to_owned());
        match self {
            Self::Text => as_text(),
            Self::Number => text
                .trim()
                .parse()
                .map_or_else(|_| as_text(), toml::Value::Integer),
            Self::Switch => text
                .trim()
                .parse()
                .map_or_else(|_| as_text(), toml::Value::Boolean),
            Self::List => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                toml::Value::Array(items.map(toml::Value::from).collect())
            }
        }
    }
}

pub(super) fn unknown_variables(around: &Surroundings) -> Vec<String> {
    let known: Vec<String> = VARIABLES
        .iter()
        .map(|(parts, _)| KeyPath::new(parts).variable())
        .chain(OTHER_VARIABLES.map(str::to_owned))
        .collect();
    let ours = around
        .variables
        .keys()
        .filter(|name| name.starts_with("CONSORT_"));
    ours.filter(|name| !known.contains(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::layers::leaves;
    use super::super::{DEFAULTS, file};
    use super::*;

    #[test]
    fn every_default_can_be_set_by_a_variable() {
        let parsed = file::parse(DEFAULTS).expect("valid");
        for (key, _) in leaves(parsed.table) {
            let named = VARIABLES
                .iter()
                .any(|(parts, _)| KeyPath::new(parts) == key);
            assert!(named, "{key} has no variable");
        }
    }
}
