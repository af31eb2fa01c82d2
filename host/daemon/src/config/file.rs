//! The form of the settings: which keys there are and what each may hold.
//!
//! A layer of settings (the built-in defaults, a file, one variable, one flag) is a TOML table in
//! which every key is optional and unknown keys are refused. The kinds of values check their own
//! bounds, so the same sentence is said for a bad value wherever it comes from; for a text with
//! lines the place is found by the span of the mistake.

use std::collections::BTreeMap;

use consort_proto::PluginId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};

use super::key::KeyPath;
use super::kinds::{
    Burst, Checked, Device, FixedPort, Folder, FolderAccess, GrantedFolder, List, ListenAddress,
    LogFormat, Name, Pattern, PluginValue, Port, Priority, Rate, Seed, Switch, SystemGroup,
    plugin_values,
};
use super::plugin::{
    FOLDERS_MAX, LimitTable, StateTable, is_folder_name, key_at, line_at, wording,
};

/// All settings, each of them optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) name: Option<Checked<Name>>,
    pub(super) data_dir: Option<Checked<Folder>>,
    pub(super) plugins_dir: Option<Checked<Folder>>,
    pub(super) network: NetworkSettings,
    pub(super) group: GroupSettings,
    pub(super) log: LogSettings,
    pub(super) local: LocalSettings,
    pub(super) plugins: BTreeMap<PluginId, PluginSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkSettings {
    pub(super) listen: Option<List<ListenAddress>>,
    pub(super) port: Option<Checked<Port>>,
    pub(super) discovery_port: Option<Checked<FixedPort>>,
    pub(super) multicast: Option<Checked<Switch>>,
    pub(super) broadcast: Option<Checked<Switch>>,
    pub(super) send_kb_per_second: Option<Checked<Rate>>,
    pub(super) peer_kb_per_second: Option<Checked<Rate>>,
    pub(super) send_burst_kib: Option<Checked<Burst>>,
    pub(super) seeds: Option<List<Seed>>,
    pub(super) interfaces: Option<List<Pattern>>,
    pub(super) interfaces_denied: Option<List<Pattern>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GroupSettings {
    pub(super) allow: Option<List<Device>>,
    pub(super) deny: Option<List<Device>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogSettings {
    pub(super) format: Option<Checked<LogFormat>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LocalSettings {
    pub(super) dir: Option<Checked<GrantedFolder>>,
    pub(super) group: Option<Checked<SystemGroup>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginSettings {
    pub(super) enabled: Option<Checked<Switch>>,
    pub(super) priority: Option<Checked<Priority>>,
    pub(super) preempt: Option<Checked<Switch>>,
    #[serde(deserialize_with = "plugin_values")]
    pub(super) config: BTreeMap<String, Checked<PluginValue>>,
    pub(super) limits: LimitTable,
    pub(super) state: StateTable,
    pub(super) capabilities: CapabilitySettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CapabilitySettings {
    pub(super) local: Option<Checked<Switch>>,
    #[serde(deserialize_with = "folders")]
    pub(super) files: BTreeMap<String, FolderSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FolderSettings {
    pub(super) path: Checked<GrantedFolder>,
    pub(super) access: Option<Checked<FolderAccess>>,
}

/// Reads the folders that a plugin is granted, bounded in number and by the form of their names.
fn folders<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, FolderSettings>, D::Error> {
    let folders = BTreeMap::<String, FolderSettings>::deserialize(deserializer)?;
    if folders.len() > FOLDERS_MAX {
        let count = folders.len();
        return Err(D::Error::custom(format_args!(
            "{count} folders, expected at most {FOLDERS_MAX}"
        )));
    }
    match folders.keys().find(|name| !is_folder_name(name)) {
        Some(name) => Err(D::Error::custom(format_args!(
            "{name:?} as the name of a folder, expected 1 to 32 of a-z, 0-9, - and _"
        ))),
        None => Ok(folders),
    }
}

/// A layer's table and, for a text with lines, where in it each value stands.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) table: toml::Table,
    pub(super) lines: BTreeMap<KeyPath, usize>,
}

/// What is wrong with a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: Option<usize>,
    pub(super) key: Option<KeyPath>,
    pub(super) what: String,
}

/// Reads and checks a layer written as TOML.
pub(super) fn parse(text: &str) -> Result<Parsed, Mistake> {
    let document = DeTable::parse(text).map_err(|error| mistake(text, None, &error))?;
    let checked: Result<Settings, _> = toml::from_str(text);
    checked.map_err(|error| mistake(text, Some(document.get_ref()), &error))?;
    let table = toml::from_str(text).map_err(|error| mistake(text, None, &error))?;
    let mut lines = BTreeMap::new();
    collect_lines(text, document.get_ref(), &KeyPath::default(), &mut lines);
    Ok(Parsed { table, lines })
}

/// Checks a layer that is already a table.
pub(super) fn check(table: toml::Table) -> Result<Settings, Mistake> {
    let checked: Result<Settings, toml::de::Error> = table.try_into();
    checked.map_err(|error| Mistake {
        line: None,
        key: None,
        what: wording(&error),
    })
}

fn mistake(text: &str, document: Option<&DeTable<'_>>, error: &toml::de::Error) -> Mistake {
    let start = error.span().map(|span| span.start);
    let key = start
        .zip(document)
        .and_then(|(start, document)| key_at(document, start))
        .map(KeyPath::from);
    Mistake {
        line: start.map(|start| line_at(text, start)),
        key,
        what: wording(error),
    }
}

fn collect_lines(
    text: &str,
    table: &DeTable<'_>,
    parent: &KeyPath,
    lines: &mut BTreeMap<KeyPath, usize>,
) {
    for (key, value) in table {
        let path = parent.child(key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect_lines(text, inner, &path, lines),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                lines.insert(path, line_at(text, key.span().start));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (usize, String, String) {
        let mistake = parse(text).expect_err("must be refused");
        let key = mistake.key.map(|key| key.to_string()).unwrap_or_default();
        (mistake.line.unwrap_or(0), key, mistake.what)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_allowed_ones() {
        let (line, key, what) = refused("name = \"a\"\n\n[network]\nport = 1\nprot = 4747\n");
        assert_eq!((line, key.as_str()), (5, "network.prot"));
        assert!(
            what.starts_with("unknown key `prot`, allowed here: `listen`, `port`"),
            "{what}"
        );

        let (line, key, what) = refused("[plugins.\"my.app\"]\nprio = 1\n");
        assert_eq!((line, key.as_str()), (2, "plugins.\"my.app\".prio"));
        assert!(
            what.contains("`enabled`, `priority`, `preempt`, `config`"),
            "{what}"
        );

        let (_, key, what) = refused("[log]\nfromat = \"json\"\n");
        assert_eq!(key, "log.fromat");
        assert_eq!(what, "unknown key `fromat`, allowed here: `format`");
    }

    #[test]
    fn a_bad_value_is_answered_with_the_allowed_form_and_bounds() {
        let cases = [
            (
                "[network]\nport = 65536",
                2,
                "network.port",
                "from 0 (any free one) to 65535",
            ),
            (
                "[network]\nport = \"4747\"",
                2,
                "network.port",
                "a whole number",
            ),
            (
                "[network]\ndiscovery_port = 0",
                2,
                "network.discovery_port",
                "from 1 to 65535",
            ),
            (
                "[network]\nmulticast = \"yes\"",
                2,
                "network.multicast",
                "true or false",
            ),
            (
                "[network]\nlisten = []",
                2,
                "network.listen",
                "expected 1 to 16",
            ),
            (
                "[network]\nlisten = [\n \"1.2.3.4:5\"]",
                3,
                "network.listen",
                "without port",
            ),
            (
                "[network]\nseeds = [\"kitchen\"]",
                2,
                "network.seeds",
                "\"host:port\"",
            ),
            (
                "[network]\nseeds = [\"::1:4747\"]",
                2,
                "network.seeds",
                "[fe80::1]:4747",
            ),
            ("name = \"\"", 1, "name", "1 to 64 bytes"),
            (
                "[log]\nformat = \"xml\"",
                2,
                "log.format",
                "\"human\" or \"json\"",
            ),
            (
                "[plugins.a]\npriority = 40000",
                2,
                "plugins.a.priority",
                "-32768 to 32767",
            ),
            (
                "[plugins.a.limits]\nmemory_mib = 5000",
                2,
                "plugins.a.limits.memory_mib",
                "1 to 1024",
            ),
            (
                "[plugins.a.state]\nquota_kib = 20000",
                2,
                "plugins.a.state.quota_kib",
                "1 to 16384",
            ),
            (
                "[plugins.a.capabilities.files.music]\npath = \"music\"",
                2,
                "plugins.a.capabilities.files.music.path",
                "begins with `/`",
            ),
            (
                "[plugins.a.capabilities.files.music]\npath = \"/m\"\naccess = \"all\"",
                3,
                "plugins.a.capabilities.files.music.access",
                "read-write",
            ),
            (
                "[plugins.a.capabilities]\nnetwork = true",
                2,
                "plugins.a.capabilities.network",
                "unknown",
            ),
            (
                "[plugins.a.config]\nx = [1]",
                2,
                "plugins.a.config.x",
                "a number, true or false",
            ),
        ];
        for (text, line, key, said) in cases {
            let found = refused(text);
            assert_eq!(
                (found.0, found.1.as_str()),
                (line, key),
                "{text}: {}",
                found.2
            );
            assert!(found.2.contains(said), "{text}: {}", found.2);
        }
        let (_, _, what) = refused("[plugins.\"A b\"]\nenabled = true");
        assert!(what.contains("no plugin id"), "{what}");
    }

    #[test]
    fn broken_syntax_is_placed() {
        let (line, _, what) = refused("name = \"a\"\nport 3\n");
        assert_eq!(line, 2, "{what}");
        let (line, _, what) = refused("name = \"a\"\nname = \"b\"\n");
        assert_eq!(line, 2, "{what}");
        assert!(what.contains("duplicate"), "{what}");
    }

    #[test]
    fn good_values_are_taken_and_placed() {
        let text = "[network]\nseeds = [\"a.b:1\", \"[fe80::1%eth0]:4747\", \"1.2.3.4:5\"]\n\
                    [plugins.app.config]\na = 1\nb = true\nc = \"x\"\n";
        let parsed = parse(text).expect("valid");
        assert_eq!(parsed.lines[&KeyPath::new(&["network", "seeds"])], 2);
        assert_eq!(
            parsed.lines[&KeyPath::new(&["plugins", "app", "config", "b"])],
            5
        );
        let settings = check(parsed.table).expect("valid");
        let app = settings.plugins.values().next().expect("one plugin");
        let values: Vec<&str> = app.config.values().map(|value| value.0.as_str()).collect();
        assert_eq!(values, ["1", "true", "x"]);
    }
}
