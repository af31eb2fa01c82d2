//! Lays the layers over one another and makes the result.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use consort_proto::{Access, SendRate};

use super::file::{self, Mistake, Settings};
use super::key::KeyPath;
use super::kinds::{Checked, Kind, LogFormat, NAME_BYTES_MAX};
use super::plugin::{self, FolderGrant, Granted, Overlay};
use super::{Config, ConfigError, DEFAULTS, LocalConfig, Network};

/// Settings given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Each setting that has a flag: the flag, the setting, its value.
    pub settings: Vec<(&'static str, KeyPath, toml::Value)>,
}

/// What the process finds around it, as data.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The environment.
    pub variables: BTreeMap<String, OsString>,
    /// Whether the process runs as root.
    pub is_root: bool,
    /// The host's name.
    pub host_name: Option<String>,
    /// The folder that relative paths start from.
    pub current_dir: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// The current folder is gone.
    pub fn of_process() -> io::Result<Self> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        Ok(Self {
            variables,
            is_root: nix::unistd::geteuid().is_root(),
            host_name,
            current_dir: std::env::current_dir()?,
        })
    }

    /// An absolute path from a variable, as the XDG base directory specification wants it.
    fn folder(&self, variable: &str) -> Option<PathBuf> {
        self.variables
            .get(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}

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

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// Built in, decided by what the device is or where the program was started.
    Platform(&'static str),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Platform(why) => write!(f, "default: {why}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "${variable}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One value with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The value.
    pub value: toml::Value,
    /// Where it came from.
    pub origin: Origin,
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

const FILE_BYTES_MAX: u64 = 1 << 20;

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

type Layer = BTreeMap<KeyPath, Value>;

fn default_layer(around: &Surroundings) -> Result<Layer, ConfigError> {
    let parsed = file::parse(DEFAULTS).map_err(|mistake| invalid("default.toml", mistake))?;
    let mut layer = Layer::new();
    for (key, value) in leaves(parsed.table) {
        layer.insert(
            key,
            Value {
                value,
                origin: Origin::Default,
            },
        );
    }
    let mut platform = |key: &str, value: String, why| {
        let value = Value {
            value: toml::Value::String(value),
            origin: Origin::Platform(why),
        };
        layer.insert(KeyPath::new(&[key]), value);
    };
    match &around.host_name {
        Some(name) => platform(
            "name",
            cut(name, NAME_BYTES_MAX).to_owned(),
            "the host's name",
        ),
        None => platform("name", "device".to_owned(), "the host has no name"),
    }
    platform("plugins_dir", "plugins".to_owned(), "in the current folder");
    if let Some((path, why)) = default_data_dir(around)
        && let Ok(path) = path.into_os_string().into_string()
    {
        platform("data_dir", path, why);
    }
    Ok(layer)
}

fn default_data_dir(around: &Surroundings) -> Option<(PathBuf, &'static str)> {
    if let Some(folder) = around.folder("XDG_DATA_HOME") {
        return Some((folder.join("consort"), "$XDG_DATA_HOME/consort"));
    }
    if around.is_root {
        return Some((PathBuf::from("/var/lib/consort"), "for root"));
    }
    let home = around.folder("HOME")?;
    Some((home.join(".local/share/consort"), "~/.local/share/consort"))
}

/// The file to read: a named one whether it exists or not, else the first usual one that exists.
fn config_file(flags: &Flags, around: &Surroundings) -> Option<PathBuf> {
    let named = flags.config.clone().or_else(|| {
        let variable = around.variables.get("CONSORT_CONFIG")?;
        (!variable.is_empty()).then(|| PathBuf::from(variable))
    });
    if let Some(path) = named {
        return Some(around.current_dir.join(path));
    }
    let of_user = around
        .folder("XDG_CONFIG_HOME")
        .or_else(|| around.folder("HOME").map(|home| home.join(".config")));
    let usual = of_user.into_iter().chain([PathBuf::from("/etc")]);
    usual
        .map(|folder| folder.join("consort/consort.toml"))
        .find(|path| path.exists())
}

fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
    let text = read_bounded(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let place = path.display().to_string();
    let parsed = file::parse(&text).map_err(|mistake| invalid(&place, mistake))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut layer = Layer::new();
    for (key, value) in leaves(parsed.table) {
        let line = parsed.lines.get(&key).copied().unwrap_or(1);
        let origin = Origin::File {
            path: path.to_owned(),
            line,
        };
        layer.insert(key, Value { value, origin });
    }
    for key in ["data_dir", "plugins_dir"] {
        make_absolute(&mut layer, &KeyPath::new(&[key]), folder);
    }
    Ok(layer)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        ));
    }
    Ok(text)
}

fn environment_layer(around: &Surroundings) -> Result<Layer, ConfigError> {
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

fn unknown_variables(around: &Surroundings) -> Vec<String> {
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

/// Checks one value on its own, so that a mistake is reported at its place.
fn checked(key: &KeyPath, value: toml::Value, place: &str) -> Result<toml::Value, ConfigError> {
    let mut table = toml::Table::new();
    insert(&mut table, key.parts(), value.clone());
    file::check(table).map_err(|mistake| ConfigError::Invalid {
        place: place.to_owned(),
        key: Some(key.clone()),
        what: mistake.what,
    })?;
    Ok(value)
}

fn invalid(place: &str, mistake: Mistake) -> ConfigError {
    let place = match mistake.line {
        Some(line) => format!("{place}:{line}"),
        None => place.to_owned(),
    };
    ConfigError::Invalid {
        place,
        key: mistake.key,
        what: mistake.what,
    }
}

fn leaves(table: toml::Table) -> Vec<(KeyPath, toml::Value)> {
    let mut found = Vec::new();
    let mut open = vec![(KeyPath::default(), table)];
    while let Some((parent, table)) = open.pop() {
        for (name, value) in table {
            let key = parent.child(&name);
            match value {
                toml::Value::Table(inner) => open.push((key, inner)),
                leaf => found.push((key, leaf)),
            }
        }
    }
    found
}

fn nested(values: &Layer) -> toml::Table {
    let mut table = toml::Table::new();
    for (key, value) in values {
        insert(&mut table, key.parts(), value.value.clone());
    }
    table
}

fn insert(table: &mut toml::Table, parts: &[String], value: toml::Value) {
    match parts {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table
                .entry(first.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn make_absolute(layer: &mut Layer, key: &KeyPath, folder: &Path) {
    if let Some(Value {
        value: toml::Value::String(path),
        ..
    }) = layer.get_mut(key)
        && let Ok(absolute) = folder.join(&*path).into_os_string().into_string()
    {
        *path = absolute;
    }
}

fn assemble(settings: Settings) -> Config {
    let network = settings.network;
    let port = required(network.port.as_ref());
    let listen = network.listen.map(|list| list.0).unwrap_or_default();
    let overlay = |plugin: file::PluginSettings| Overlay {
        enabled: plugin.enabled.map(|value| value.0),
        priority: plugin.priority.map(|value| value.0),
        preempt: plugin.preempt.map(|value| value.0),
        config: plugin
            .config
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect(),
        limits: plugin.limits,
        state: plugin.state,
        capabilities: granted(plugin.capabilities),
    };
    Config {
        name: required(settings.name.as_ref()),
        data_dir: required(settings.data_dir.as_ref()),
        plugins_dir: required(settings.plugins_dir.as_ref()),
        network: Network {
            listen: listen
                .into_iter()
                .map(|ip: IpAddr| SocketAddr::new(ip, port))
                .collect(),
            discovery_port: required(network.discovery_port.as_ref()),
            multicast: required(network.multicast.as_ref()),
            broadcast: required(network.broadcast.as_ref()),
            send_rate: SendRate {
                bytes_per_second: required(network.send_kb_per_second.as_ref()) * 1_000,
                peer_bytes_per_second: required(network.peer_kb_per_second.as_ref()) * 1_000,
                burst: required(network.send_burst_kib.as_ref()) * 1_024,
            },
            seeds: network.seeds.map(|list| list.0).unwrap_or_default(),
            interfaces: network.interfaces.map(|list| list.0).unwrap_or_default(),
            interfaces_denied: network
                .interfaces_denied
                .map(|list| list.0)
                .unwrap_or_default(),
        },
        access: access(settings.group),
        local: LocalConfig {
            dir: settings.local.dir.map(|dir| dir.0),
            group: settings.local.group.map(|group| group.0),
        },
        plugins: settings
            .plugins
            .into_iter()
            .map(|(id, plugin)| (id, overlay(plugin)))
            .collect(),
        cores_dir: None,
    }
}

fn granted(capabilities: file::CapabilitySettings) -> Granted {
    let files = capabilities.files.into_iter().map(|(name, folder)| {
        let grant = FolderGrant {
            path: folder.path.0,
            access: folder
                .access
                .map_or(plugin::Access::Read, |access| access.0),
        };
        (name, grant)
    });
    Granted {
        local: capabilities.local.is_some_and(|local| local.0),
        files: files.collect(),
    }
}

fn access(group: file::GroupSettings) -> Access {
    let allow = group.allow.map(|list| list.0.into_iter().collect());
    let deny = group.deny.map(|list| list.0.into_iter().collect());
    Access::new(allow, deny.unwrap_or_default()).expect("lists are bounded where they are read")
}

fn required<K: Kind>(value: Option<&Checked<K>>) -> K::Value
where
    K::Value: Clone + fmt::Debug,
{
    value.expect("the default layer sets every key").0.clone()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
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
