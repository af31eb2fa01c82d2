//! Lays the layers over one another and makes the result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::assemble::{assemble, required};
use super::environment::{environment_layer, unknown_variables};
use super::file;
use super::key::KeyPath;
use super::kinds::LogFormat;
use super::layers::{
    Layer, Origin, Value, checked, config_file, default_layer, file_layer, invalid, make_absolute,
    nested,
};
use super::surroundings::{Flags, Surroundings};
use super::{Config, ConfigError};

/// What the settings are made from, again and again the same way.
#[derive(Clone, Debug)]
pub struct Source {
    /// The flags that the process was given.
    pub flags: Flags,
    /// What it found around it when it started.
    pub around: Surroundings,
}

impl Source {
    /// Reads, checks and merges all layers: [`resolve`].
    ///
    /// # Errors
    /// Those of [`resolve`].
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        resolve(&self.flags, &self.around)
    }

    /// The configuration file, as of the moment: a named one whether it exists or not, else the
    /// first usual one that exists.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        config_file(&self.flags, &self.around)
    }
}

/// All layers, merged.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings for their owners.
    pub config: Config,
    /// `log.format`.
    pub log_format: LogFormat,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    /// Each value with its origin.
    pub values: BTreeMap<KeyPath, Value>,
    /// Variables that begin with `CONSORT_` and set nothing.
    pub unknown_variables: Vec<String>,
}

/// Reads, checks and merges all layers.
///
/// # Errors
/// A file that cannot be read, a mistake in any layer, or no place for the data folder.
pub fn resolve(flags: &Flags, around: &Surroundings) -> Result<Resolved, ConfigError> {
    let mut values = default_layer(around)?;
    let file = config_file(flags, around);
    if let Some(path) = &file {
        values.extend(file_layer(path)?);
    }
    values.extend(environment_layer(around)?);
    for (flag, key, value) in &flags.settings {
        let value = checked(key, value.clone(), flag)?;
        values.insert(
            key.clone(),
            Value {
                value,
                origin: Origin::Flag(flag),
            },
        );
    }
    if !values.contains_key(&KeyPath::new(&["data_dir"])) {
        return Err(ConfigError::NoDataDir);
    }
    for key in ["data_dir", "plugins_dir"] {
        make_absolute(&mut values, &KeyPath::new(&[key]), &around.current_dir);
    }
    let settings = file::check(nested(&values)).map_err(|mistake| invalid("settings", mistake))?;
    check_local(&values)?;
    Ok(Resolved {
        log_format: required(settings.log.format.as_ref()),
        config: assemble(settings),
        file,
        values,
        unknown_variables: unknown_variables(around),
    })
}

/// A group that may open sockets must be able to get to them, and the data folder is private.
fn check_local(values: &Layer) -> Result<(), ConfigError> {
    let (group, dir) = (
        KeyPath::new(&["local", "group"]),
        KeyPath::new(&["local", "dir"]),
    );
    match values.get(&group) {
        Some(value) if !values.contains_key(&dir) => Err(ConfigError::Invalid {
            place: value.origin.to_string(),
            key: Some(group),
            what: "it needs local.dir, a folder that the group can get to, as \"/run/consort\": \
                the data folder is for its owner alone"
                .to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use consort_proto::SendRate;

    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), OsString::from(value));
        Surroundings {
            variables: variables.iter().map(own).collect(),
            is_root: false,
            host_name: Some("kitchen".to_owned()),
            current_dir: PathBuf::from("/start"),
        }
    }

    fn origin(resolved: &Resolved, key: &[&str]) -> Origin {
        resolved.values[&KeyPath::new(key)].origin.clone()
    }

    #[test]
    fn it_works_without_any_file() {
        let resolved = resolve(&Flags::default(), &around(&[("HOME", "/home/a")])).expect("valid");
        let config = &resolved.config;
        assert_eq!(config.name, "kitchen");
        assert_eq!(config.data_dir, Path::new("/home/a/.local/share/consort"));
        assert_eq!(config.plugins_dir, Path::new("/start/plugins"));
        let listen: Vec<String> = config
            .network
            .listen
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(listen, ["0.0.0.0:4747", "[::]:4747"]);
        assert_eq!(config.network.discovery_port, 4748);
        assert!(config.network.multicast && !config.network.broadcast);
        assert_eq!(config.network.send_rate, SendRate::default());
        assert!(config.network.seeds.is_empty() && config.plugins.is_empty());
        assert_eq!(resolved.log_format, LogFormat::Human);
        assert_eq!(origin(&resolved, &["network", "port"]), Origin::Default);
    }

    #[test]
    fn the_data_folder_follows_the_platform() {
        let data_dir = |around: &Surroundings| {
            resolve(&Flags::default(), around)
                .expect("valid")
                .config
                .data_dir
        };
        let xdg = around(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/data")]);
        assert_eq!(data_dir(&xdg), Path::new("/data/consort"));
        let relative = around(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "data")]);
        assert_eq!(
            data_dir(&relative),
            Path::new("/home/a/.local/share/consort")
        );
        let mut root = around(&[("HOME", "/root")]);
        root.is_root = true;
        assert_eq!(data_dir(&root), Path::new("/var/lib/consort"));
        let given = around(&[("CONSORT_DATA_DIR", "here")]);
        assert_eq!(data_dir(&given), Path::new("/start/here"));
        let none = resolve(&Flags::default(), &around(&[]));
        assert!(matches!(none, Err(ConfigError::NoDataDir)), "{none:?}");
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("consort.toml");
        let text = "name = \"file\"\ndata_dir = \"data\"\n[network]\nport = 1\n\
                    discovery_port = 2\nseeds = [\"a:1\"]\n\
                    [plugins.app]\npriority = -3\npreempt = true\nconfig = { step = 5 }\n";
        std::fs::write(&path, text).expect("written");
        let variables = [
            ("CONSORT_NETWORK_PORT", "11"),
            ("CONSORT_NETWORK_SEEDS", "b:1, c:2"),
            ("HOME", "/h"),
        ];
        let flags = Flags {
            config: Some(path.clone()),
            settings: vec![("--name", KeyPath::new(&["name"]), toml::Value::from("flag"))],
        };
        let resolved = resolve(&flags, &around(&variables)).expect("valid");
        let config = &resolved.config;
        assert_eq!(config.name, "flag");
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.network.listen[0].port(), 11);
        assert_eq!(config.network.discovery_port, 2);
        assert_eq!(config.network.seeds, ["b:1", "c:2"]);
        let app = config.plugins.values().next().expect("one plugin");
        assert_eq!((app.priority, app.config["step"].as_str()), (Some(-3), "5"));
        assert_eq!(app.preempt, Some(true));
        let from_file = Origin::File { path, line: 5 };
        assert_eq!(origin(&resolved, &["network", "discovery_port"]), from_file);
        let variable = Origin::Environment("CONSORT_NETWORK_PORT".to_owned());
        assert_eq!(origin(&resolved, &["network", "port"]), variable);
        assert_eq!(origin(&resolved, &["name"]), Origin::Flag("--name"));
    }

    #[test]
    fn mistakes_are_placed_in_their_layer() {
        let said = |flags: &Flags, variables: &[(&str, &str)]| {
            resolve(flags, &around(variables))
                .expect_err("must be refused")
                .to_string()
        };
        let variable = said(&Flags::default(), &[("CONSORT_NETWORK_PORT", "many")]);
        assert!(
            variable.starts_with("$CONSORT_NETWORK_PORT: network.port: invalid"),
            "{variable}"
        );
        assert!(variable.contains("\"many\", expected a port"), "{variable}");
        let flags = Flags {
            config: None,
            settings: vec![("--name", KeyPath::new(&["name"]), toml::Value::from(""))],
        };
        let flag = said(&flags, &[("HOME", "/h")]);
        assert!(flag.starts_with("--name: name: "), "{flag}");
        let missing = Flags {
            config: Some("none.toml".into()),
            settings: Vec::new(),
        };
        let missing = said(&missing, &[("HOME", "/h")]);
        assert!(
            missing.contains("configuration file /start/none.toml"),
            "{missing}"
        );
    }

    #[test]
    fn a_group_for_local_programs_needs_a_folder_it_can_get_to() {
        let settings = |variables: &[(&str, &str)]| {
            let home = [("HOME", "/h")];
            let all: Vec<_> = home.iter().chain(variables).copied().collect();
            resolve(&Flags::default(), &around(&all))
        };
        let group = ("CONSORT_LOCAL_GROUP", "kiosk");
        let said = settings(&[group]).expect_err("no folder").to_string();
        assert!(
            said.starts_with("$CONSORT_LOCAL_GROUP: local.group: "),
            "{said}"
        );
        assert!(said.contains("local.dir"), "{said}");
        let both = settings(&[group, ("CONSORT_LOCAL_DIR", "/run/consort")]).expect("valid");
        let local = both.config.local;
        assert_eq!(local.group.as_deref(), Some("kiosk"));
        assert_eq!(local.dir, Some(PathBuf::from("/run/consort")));
        let relative = settings(&[("CONSORT_LOCAL_DIR", "run")]).expect_err("relative");
        assert!(
            relative.to_string().contains("begins with `/`"),
            "{relative}"
        );
    }

    #[test]
    fn a_misspelt_variable_is_reported() {
        let variables = [
            ("HOME", "/h"),
            ("CONSORT_NETWRK_PORT", "1"),
            ("CONSORT_LOG", "debug"),
        ];
        let resolved = resolve(&Flags::default(), &around(&variables)).expect("valid");
        assert_eq!(resolved.unknown_variables, ["CONSORT_NETWRK_PORT"]);
    }
}
