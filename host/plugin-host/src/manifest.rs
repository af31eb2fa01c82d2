//! `plugin.toml`, the optional file beside a plugin's `plugin.wasm`, and what holds after the
//! operator's overlay.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use consort_proto::{PluginId, PluginSpec, Version};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::allowance::Limits;

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
}

/// What holds for one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) spec: PluginSpec,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) limits: Limits,
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
    pub(crate) fn new(
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
            mut priority,
            mut preempt,
        } = manifest.election;
        if let Some(overlay) = overlay {
            config.extend(overlay.config.clone());
            priority = overlay.priority.or(priority);
            preempt = overlay.preempt.or(preempt);
        }
        Ok(Self {
            spec: PluginSpec {
                id: id.clone(),
                version: manifest
                    .version
                    .map_or(VERSION_WITHOUT_MANIFEST, |version| version.0),
                priority: priority.unwrap_or(0),
                preempt: preempt.unwrap_or(false),
            },
            config: Arc::new(config),
            limits: manifest.limits.resolve(),
        })
    }
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
    limits: LimitsAsked,
    #[serde(default)]
    election: Election,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Election {
    priority: Option<i16>,
    preempt: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsAsked {
    memory_mib: Option<Within<1, 1024>>,
    cpu_ms: Option<Within<1, 10_000>>,
    setup_cpu_ms: Option<Within<1, 60_000>>,
    mailbox: Option<Within<1, 65_536>>,
    messages_per_second: Option<Within<1, 100_000>>,
    message_burst: Option<Within<1, 100_000>>,
    payload_kib_per_second: Option<Within<1, 1_048_576>>,
    payload_burst_kib: Option<Within<64, 1_048_576>>,
    log_kib_per_second: Option<Within<1, 65_536>>,
}

impl LimitsAsked {
    fn resolve(self) -> Limits {
        let mut limits = Limits::default();
        let millis = |asked: u32| Duration::from_millis(u64::from(asked));
        if let Some(Within(mib)) = self.memory_mib {
            limits.memory_bytes = (mib as usize) << 20;
        }
        if let Some(Within(asked)) = self.cpu_ms {
            limits.cpu = millis(asked);
        }
        if let Some(Within(asked)) = self.setup_cpu_ms {
            limits.setup_cpu = millis(asked);
        }
        if let Some(Within(messages)) = self.mailbox {
            limits.mailbox = messages as usize;
        }
        if let Some(Within(rate)) = self.messages_per_second {
            limits.messages_per_second = rate;
        }
        if let Some(Within(burst)) = self.message_burst {
            limits.message_burst = burst;
        }
        if let Some(Within(kib)) = self.payload_kib_per_second {
            limits.payload_bytes_per_second = kib << 10;
        }
        if let Some(Within(kib)) = self.payload_burst_kib {
            limits.payload_burst_bytes = kib << 10;
        }
        if let Some(Within(kib)) = self.log_kib_per_second {
            limits.log_bytes_per_second = kib << 10;
        }
        limits
    }
}

/// A number between two bounds, both included.
#[derive(Clone, Copy, Debug)]
struct Within<const MIN: u32, const MAX: u32>(u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            Ok(_) | Err(_) => Err(D::Error::custom(format!(
                "{number} is not allowed; use {MIN} to {MAX}"
            ))),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct VersionText(Version);

impl<'de> Deserialize<'de> for VersionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

#[derive(Clone, Copy, Debug)]
struct Api;

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == API {
            return Ok(Self);
        }
        Err(D::Error::custom(format!(
            "this host offers api \"{API}\", not {text:?}"
        )))
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
                f.write_str("a string, a number or a boolean")
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
    let error = |start: Option<usize>, message: &str| {
        let start = start.unwrap_or(0).min(text.len());
        let before = text.get(..start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let key = text
            .lines()
            .nth(line - 1)
            .and_then(|line| line.split_once('='))
            .map(|(key, _)| format!("{}: ", key.trim()))
            .unwrap_or_default();
        let text = format!("{key}{}", message.trim().replace('\n', "; "));
        ManifestError {
            file: file.to_owned(),
            line,
            text,
        }
    };
    let manifest: Manifest = toml::from_str(text)
        .map_err(|wrong| error(wrong.span().map(|span| span.start), wrong.message()))?;
    if let Some(given) = manifest.id.as_ref().filter(|given| given.get_ref() != id) {
        let message = format!(
            "{:?} is not the name of the plugin's folder; use \"{id}\" or rename the folder",
            given.get_ref().as_str(),
        );
        return Err(error(Some(given.span().start), &message));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
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
    fn errors_name_file_line_key_and_remedy() {
        for (text, line, parts) in [
            ("version = \"1.2\"\n", 1, &["version", "three numbers"][..]),
            ("\nid = \"other\"\n", 2, &["id", "other", "app"]),
            ("api = \"0.2\"\n", 1, &["api", "0.1"]),
            (
                "[limits]\nmemory_mib = 4096\n",
                2,
                &["memory_mib", "4096", "1 to 1024"],
            ),
            ("[limits]\nmemroy = 1\n", 2, &["memroy", "memory_mib"]),
            ("colour = 1\n", 1, &["colour", "version"]),
            (
                "[config]\na = [1]\n",
                2,
                &["a", "a string, a number or a boolean"],
            ),
            ("[election]\npriority = 99999\n", 2, &["priority"]),
            ("[config\n", 1, &[]),
        ] {
            let error = settings(text).expect_err(text);
            assert_eq!(error.line, line, "{error}");
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("app/plugin.toml:{line}: ")),
                "{shown}"
            );
            for part in parts {
                assert!(shown.contains(part), "{part:?} in {shown}");
            }
        }
    }
}
