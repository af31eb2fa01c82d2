//! `plugin.toml`, the optional file beside a plugin's `plugin.wasm`, and what holds after the
//! operator's overlay.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consort_proto::{PluginId, PluginSpec, StateConfig, Version};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use toml::de::DeTable;

use crate::allowance::Limits;
use crate::capabilities::{Access, Asked, Capabilities, FOLDERS_MAX, Granted, is_folder_name};
use crate::limit_table::{LimitTable, Within};
use crate::mistake::{key_at, line_at, wording};
use crate::state_table::StateTable;
use crate::text_value::text_value;

/// The version of a plugin that has no `plugin.toml`.
const VERSION_WITHOUT_MANIFEST: Version = Version {
    major: 0,
    minor: 1,
    patch: 0,
};

/// The contract that this host offers.
const API: &str = "0.1";

/// What the operator says about one plugin, over what its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Whether it runs; it does unless this is `false`.
    pub enabled: Option<bool>,
    /// This device's rank in the plugin's elections.
    pub priority: Option<i16>,
    /// Whether this device takes over from a healthy leader of lower priority.
    pub preempt: Option<bool>,
    /// Values for `config`.
    pub config: BTreeMap<String, String>,
    /// What it gets at most, whatever it asks for.
    pub limits: LimitTable,
    /// How its replicated state is kept on this device, and how large it may be at most.
    pub state: StateTable,
    /// What it may reach outside its sandbox, if it asks for it.
    pub capabilities: Granted,
}

/// What holds for one plugin.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) spec: PluginSpec,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) limits: Limits,
    /// What the operator's cap took from `limits`.
    pub(crate) capped: Vec<Capped>,
    pub(crate) asked: Asked,
    pub(crate) capabilities: Capabilities,
    pub(crate) state: StateConfig,
}

/// A limit that the operator's cap made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capped {
    /// The key under `[limits]`.
    pub key: &'static str,
    /// What the manifest asks for, or what holds without one; in the key's unit.
    pub asked: u64,
    /// What holds.
    pub granted: u64,
}

/// What is wrong with a `plugin.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}: {text}", .file.display())]
pub struct ManifestError {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub line: usize,
    /// The key, what is wrong with it and what is allowed.
    pub text: String,
}

impl Settings {
    /// Reads a manifest, if there is one, and lays the operator's values over it.
    ///
    /// # Errors
    /// The manifest says something that is not allowed.
    pub fn new(
        id: &PluginId,
        manifest: Option<(&Path, &str)>,
        overlay: Option<&Overlay>,
    ) -> Result<Self, ManifestError> {
        let manifest = match manifest {
            Some((file, text)) => parse(id, file, text)?,
            None => Manifest::default(),
        };
        let mut config: BTreeMap<String, String> = manifest
            .config
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect();
        let Election {
            priority,
            mut preempt,
        } = manifest.election;
        let mut priority = priority.map(|rank| rank.0);
        if let Some(overlay) = overlay {
            config.extend(overlay.config.clone());
            priority = overlay.priority.or(priority);
            preempt = overlay.preempt.or(preempt);
        }
        let nothing = Overlay::default();
        let granted = overlay.unwrap_or(&nothing);
        let asked_limits = manifest.limits.over(Limits::default());
        let limits = asked_limits.at_most(&granted.limits.over(Limits::unbounded()));
        let asked = Asked {
            local: manifest.capabilities.local,
            files: manifest.capabilities.files.0,
        };
        Ok(Self {
            capped: capped(&asked_limits, &limits),
            limits,
            capabilities: Capabilities::intersect(id.as_str(), &asked, &granted.capabilities),
            asked,
            state: manifest.state.resolve(&granted.state),
            spec: PluginSpec {
                id: id.clone(),
                version: manifest
                    .version
                    .map_or(VERSION_WITHOUT_MANIFEST, |version| version.0),
                priority: priority.unwrap_or(0),
                preempt: preempt.unwrap_or(false),
            },
            config: Arc::new(config),
        })
    }
}

impl Settings {
    /// Which plugin, which version, and its rank in elections.
    #[must_use]
    pub const fn spec(&self) -> &PluginSpec {
        &self.spec
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.spec.version
    }

    /// The same with another rank in elections.
    #[must_use]
    pub fn ranked(&self, priority: i16) -> Self {
        let mut ranked = self.clone();
        ranked.spec.priority = priority;
        ranked
    }

    /// Values for `config`.
    #[must_use]
    pub fn config(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.config)
    }

    /// What it may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it asks to reach outside its sandbox, as `local`, `files.<name> (read)`.
    #[must_use]
    pub fn asked_capabilities(&self) -> Vec<String> {
        let folders = self.asked.files.iter();
        let folders = folders.map(|(name, access)| format!("files.{name} ({})", access.as_str()));
        let local = self.asked.local.then(|| "local".to_owned());
        folders.chain(local).collect()
    }

    /// What is asked for and not granted, in words.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        let refused = self.capabilities.refused.iter();
        refused
            .map(|refusal| format!("{}: {}", refusal.capability, refusal.reason))
            .collect()
    }
}

fn capped(asked: &Limits, granted: &Limits) -> Vec<Capped> {
    let both = asked.named().into_iter().zip(granted.named());
    let smaller = both.filter(|((_, asked), (_, granted))| granted < asked);
    let reduced = smaller.map(|((key, asked), (_, granted))| Capped {
        key,
        asked,
        granted,
    });
    reduced.collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    id: Option<toml::Spanned<PluginId>>,
    version: Option<VersionText>,
    #[serde(rename = "api")]
    _api: Option<Api>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
    #[serde(default)]
    limits: LimitTable,
    #[serde(default)]
    capabilities: CapabilitiesAsked,
    #[serde(default)]
    election: Election,
    #[serde(default)]
    state: StateTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with priority, preempt")]
struct Election {
    priority: Option<Rank>,
    preempt: Option<bool>,
}

/// A rank in elections.
type Rank = Within<-32_768, 32_767, i16>;

/// `[capabilities]`: what the plugin asks to reach outside its sandbox.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with local, files")]
struct CapabilitiesAsked {
    #[serde(default)]
    local: bool,
    #[serde(default)]
    files: Folders,
}

/// The folders asked for, by name.
#[derive(Debug, Default)]
struct Folders(BTreeMap<String, Access>);

impl<'de> Deserialize<'de> for Folders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let folders = BTreeMap::<String, Access>::deserialize(deserializer)?;
        if folders.len() > FOLDERS_MAX {
            let count = folders.len();
            return Err(D::Error::custom(format!(
                "{count} folders are too many; use at most {FOLDERS_MAX}"
            )));
        }
        match folders.keys().find(|name| !is_folder_name(name)) {
            Some(name) => Err(D::Error::custom(format!(
                "{name:?} cannot name a folder; use 1 to 32 of a-z, 0-9, - and _"
            ))),
            None => Ok(Self(folders)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct VersionText(Version);

impl<'de> Deserialize<'de> for VersionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "three numbers in a text, as \"0.1.0\"";
        text_value(deserializer, expected, |text| {
            let version: Result<Version, _> = text.parse();
            version.map(Self).map_err(|error| error.to_string())
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Api;

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_value(deserializer, "the text \"0.1\"", |text| {
            if text == API {
                return Ok(Self);
            }
            Err(format!("this host offers api \"{API}\", not {text:?}"))
        })
    }
}

/// A value of `[config]`; plugins get it as text.
#[derive(Clone, Debug)]
struct Value(String);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value(number.to_string()))
            }

            fn visit_bool<E>(self, boolean: bool) -> Result<Value, E> {
                Ok(Value(boolean.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn parse(id: &PluginId, file: &Path, text: &str) -> Result<Manifest, ManifestError> {
    let mistake = |offset: usize, message: &str| {
        let document = DeTable::parse(text).ok();
        let key = document.and_then(|document| key_at(document.get_ref(), offset));
        let key = key.map(|path| format!("{}: ", path.join(".")));
        ManifestError {
            file: file.to_owned(),
            line: line_at(text, offset),
            text: format!("{}{message}", key.unwrap_or_default()),
        }
    };
    let manifest: Manifest = toml::from_str(text).map_err(|wrong| {
        let offset = wrong.span().map_or(0, |span| span.start);
        mistake(offset, &wording(&wrong))
    })?;
    if let Some(given) = manifest.id.as_ref().filter(|given| given.get_ref() != id) {
        let message = format!(
            "{:?} is not the name of the plugin's folder; use \"{id}\" or rename the folder",
            given.get_ref().as_str(),
        );
        return Err(mistake(given.span().start, &message));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(text: &str) -> Result<Settings, ManifestError> {
        let id = PluginId::new("app").expect("valid");
        Settings::new(&id, Some((Path::new("app/plugin.toml"), text)), None)
    }

    #[test]
    fn a_full_manifest() {
        let text = "id = \"app\"\nversion = \"1.2.3\"\napi = \"0.1\"\n\
            [config]\nname = \"x\"\ncount = 3\non = true\n\
            [limits]\nmemory_mib = 128\ncpu_ms = 50\n\
            [election]\npriority = -3\npreempt = true\n";
        let settings = settings(text).expect("valid");
        assert_eq!(settings.spec.version.to_string(), "1.2.3");
        assert_eq!(settings.spec.priority, -3);
        assert!(settings.spec.preempt);
        assert_eq!(settings.limits.memory_bytes, 128 << 20);
        assert_eq!(settings.limits.cpu, Duration::from_millis(50));
        let config: Vec<_> = settings
            .config
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(config, ["count=3", "name=x", "on=true"]);
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let id = PluginId::new("app").expect("valid");
        let overlay = Overlay {
            enabled: None,
            priority: Some(9),
            preempt: Some(false),
            config: BTreeMap::from([("a".into(), "2".into())]),
            ..Overlay::default()
        };
        let text = "[config]\na = 1\nb = 1\n[election]\npriority = 1\npreempt = true\n";
        let manifest = Some((Path::new("plugin.toml"), text));
        let settings = Settings::new(&id, manifest, Some(&overlay)).expect("valid");
        assert_eq!((settings.spec.priority, settings.spec.preempt), (9, false));
        assert_eq!(settings.config.get("a").map(String::as_str), Some("2"));
        assert_eq!(settings.config.get("b").map(String::as_str), Some("1"));
        let bare = Settings::new(&id, None, None).expect("valid");
        assert_eq!(bare.spec.version, VERSION_WITHOUT_MANIFEST);
        assert_eq!(bare.limits, Limits::default());
    }

    #[test]
    fn the_operator_caps_what_is_asked_for() {
        let id = PluginId::new("app").expect("valid");
        let overlay = Overlay {
            limits: toml::from_str("memory_mib = 32\ncpu_ms = 1000\nmailbox = 10\n")
                .expect("valid"),
            ..Overlay::default()
        };
        let text = "[limits]\nmemory_mib = 128\ncpu_ms = 50\n";
        let manifest = Some((Path::new("plugin.toml"), text));
        let settings = Settings::new(&id, manifest, Some(&overlay)).expect("valid");
        assert_eq!(settings.limits.memory_bytes, 32 << 20);
        assert_eq!(
            settings.limits.cpu,
            Duration::from_millis(50),
            "a cap gives nothing"
        );
        assert_eq!(settings.limits.mailbox, 10, "the default is capped too");
        let capped: Vec<_> = settings
            .capped
            .iter()
            .map(|c| (c.key, c.asked, c.granted))
            .collect();
        assert_eq!(capped, [("memory_mib", 128, 32), ("mailbox", 256, 10)]);
    }

    #[test]
    fn state_and_capabilities_are_read() {
        let text = "[state]\ninterval_ms = 200\nquota_kib = 2048\npersist = true\n\
            [capabilities]\nlocal = true\n[capabilities.files]\nmusic = \"read-write\"\n";
        let settings = settings(text).expect("valid");
        assert_eq!(settings.state.interval, Duration::from_millis(200));
        assert_eq!(
            (settings.state.quota, settings.state.persist),
            (2 << 20, true)
        );
        assert!(settings.capabilities.files.is_empty());
        let refused: Vec<_> = settings
            .capabilities
            .refused
            .iter()
            .map(|r| &r.capability[..])
            .collect();
        assert_eq!(refused, ["files.music", "local"]);
        assert_eq!(
            self::settings("").expect("valid").state,
            StateConfig::default()
        );
    }

    /// The manifest is refused at this line and key, and told with all of these parts.
    #[track_caller]
    fn refuses(text: &str, line: usize, key: &str, parts: &[&str]) {
        let error = settings(text).expect_err(text);
        let shown = error.to_string();
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("{key}: ")
        };
        let start = format!("app/plugin.toml:{line}: {key}");
        assert!(shown.starts_with(&start), "{start:?} begins {shown:?}");
        assert!(!shown.contains('\n'), "one line: {shown}");
        for part in parts {
            assert!(shown.contains(part), "{part:?} in {shown}");
        }
    }

    /// Each key of the manifest: its table, values that are not allowed, and what is.
    #[test]
    fn every_key_is_checked_and_told_with_file_line_and_remedy() {
        let limit = |key, range| ("limits", key, &["0", "-1", "9999999"][..], range);
        let of_limits = [
            limit("memory_mib", "1 to 1024"),
            limit("cpu_ms", "1 to 10000"),
            limit("setup_cpu_ms", "1 to 60000"),
            limit("mailbox", "1 to 65536"),
            limit("messages_per_second", "1 to 100000"),
            limit("message_burst", "1 to 100000"),
            limit("payload_kib_per_second", "1 to 1048576"),
            limit("payload_burst_kib", "64 to 1048576"),
            limit("log_kib_per_second", "1 to 65536"),
            (
                "state",
                "interval_ms",
                &["49", "3600001"][..],
                "50 to 3600000",
            ),
            ("state", "quota_kib", &["0", "16385"][..], "1 to 16384"),
            (
                "election",
                "priority",
                &["-32769", "32768"][..],
                "-32768 to 32767",
            ),
        ];
        for (table, key, numbers, range) in of_limits {
            let path = format!("{table}.{key}");
            let with = |value: &str| format!("[{table}]\n{key} = {value}\n");
            for number in numbers {
                let told = format!("{number} is not allowed; use {range}");
                refuses(&with(number), 2, &path, &[&told]);
            }
            let expected = format!("expected a whole number from {range}");
            for other in ["\"64\"", "1.5", "true", "[1]", "{ a = 1 }"] {
                refuses(&with(other), 2, &path, &["invalid type", &expected]);
            }
            let (typo, allowed) = (format!("{key}x"), format!("`{key}`"));
            let text = format!("[{table}]\n{typo} = 1\n");
            let unknown = format!("unknown key `{typo}`, allowed here: ");
            refuses(&text, 2, &format!("{table}.{typo}"), &[&unknown, &allowed]);
        }
        for (table, key) in [
            ("state", "persist"),
            ("election", "preempt"),
            ("capabilities", "local"),
        ] {
            for other in ["1", "\"yes\"", "[true]"] {
                let text = format!("[{table}]\n{key} = {other}\n");
                let parts = ["invalid type", "expected a boolean"];
                refuses(&text, 2, &format!("{table}.{key}"), &parts);
            }
        }
    }

    #[test]
    fn a_manifest_s_own_keys_are_checked() {
        let numbers = "three numbers";
        refuses("version = \"1.2\"\n", 1, "version", &["\"1.2\"", numbers]);
        for other in ["1", "1.2", "[1, 2, 3]", "true"] {
            refuses(
                &format!("version = {other}\n"),
                1,
                "version",
                &["invalid type", numbers],
            );
            let api = format!("\napi = {other}\n");
            refuses(
                &api,
                2,
                "api",
                &["invalid type", "expected the text \"0.1\""],
            );
            refuses(
                &format!("id = {other}\n"),
                1,
                "id",
                &["invalid type", "expected a string"],
            );
        }
        refuses(
            "api = \"0.2\"\n",
            1,
            "api",
            &["offers api \"0.1\", not \"0.2\""],
        );
        refuses("\nid = \"other\"\n", 2, "id", &["other", "use \"app\""]);
        refuses(
            "id = \"A b\"\n",
            1,
            "id",
            &["no plugin id", "1 to 64 of a-z"],
        );
        refuses(
            "colour = 1\n",
            1,
            "colour",
            &["unknown key `colour`, allowed here: ", "`version`"],
        );
        refuses(
            "[colours]\na = 1\n",
            1,
            "colours",
            &["unknown key `colours`", "`version`"],
        );
        refuses("[config\n", 1, "", &[]);
        refuses("api = \"0.1\"\napi = \"0.1\"\n", 2, "", &["duplicate"]);
    }

    /// A table where a value belongs, or a value where a table does, is told at its key too.
    #[test]
    fn tables_are_no_values_and_values_no_tables() {
        refuses(
            "[version]\nmajor = 1\n",
            1,
            "version",
            &["invalid type: map", "three numbers"],
        );
        refuses(
            "[limits.cpu_ms]\na = 1\n",
            1,
            "limits.cpu_ms",
            &["1 to 10000"],
        );
        for (key, expected) in [
            ("config", "a table"),
            ("limits", "a table of limits"),
            ("state", "a table with interval_ms"),
            ("election", "a table with priority, preempt"),
            ("capabilities", "a table with local, files"),
        ] {
            let expected = format!("expected {expected}");
            refuses(
                &format!("{key} = 3\n"),
                1,
                key,
                &["invalid type", &expected],
            );
        }
        refuses(
            "[config]\na = [1]\n",
            2,
            "config.a",
            &["a text, a number, true or false"],
        );
        refuses(
            "[config.a]\nb = 1\n",
            1,
            "config.a",
            &["a text, a number, true or false"],
        );
    }

    #[test]
    fn capabilities_are_checked() {
        let network = "[capabilities]\nnetwork = true\n";
        refuses(network, 2, "capabilities.network", &["`local`", "`files`"]);
        let (path, expected) = ("capabilities.files.music", "\"read\" or \"read-write\"");
        let files = |value: &str| format!("[capabilities.files]\nmusic = {value}\n");
        refuses(&files("\"all\""), 2, path, &["\"all\"", expected]);
        refuses(&files("true"), 2, path, &["invalid type", expected]);
        let inline = "[capabilities]\nfiles = { \"../etc\" = \"read\" }\n";
        refuses(inline, 2, "capabilities.files", &["../etc", "a-z"]);
        refuses(
            "[capabilities]\nfiles = true\n",
            2,
            "capabilities.files",
            &["a table"],
        );
        let names: String = (0..17).map(|n| format!("f{n} = \"read\"\n")).collect();
        let many = format!("[capabilities]\nlocal = true\n[capabilities.files]\n{names}");
        refuses(
            &many,
            3,
            "capabilities.files",
            &["17 folders", "at most 16"],
        );
    }
}
