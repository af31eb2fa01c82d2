//! The layers that settings come in: what is built in, the file, the environment. Each value carries
//! where it came from, and is checked there, so that a mistake is reported at its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::file::{self, Mistake};
use super::key::KeyPath;
use super::kinds::NAME_BYTES_MAX;
use super::surroundings::{Flags, Surroundings};
use super::{ConfigError, DEFAULTS};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

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

pub(super) type Layer = BTreeMap<KeyPath, Value>;

pub(super) fn default_layer(around: &Surroundings) -> Result<Layer, ConfigError> {
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
pub(super) fn config_file(flags: &Flags, around: &Surroundings) -> Option<PathBuf> {
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

pub(super) fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
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

/// Checks one value on its own, so that a mistake is reported at its place.
pub(super) fn checked(
    key: &KeyPath,
    value: toml::Value,
    place: &str,
) -> Result<toml::Value, ConfigError> {
    let mut table = toml::Table::new();
    insert(&mut table, key.parts(), value.clone());
    file::check(table).map_err(|mistake| ConfigError::Invalid {
        place: place.to_owned(),
        key: Some(key.clone()),
        what: mistake.what,
    })?;
    Ok(value)
}

pub(super) fn invalid(place: &str, mistake: Mistake) -> ConfigError {
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

pub(super) fn leaves(table: toml::Table) -> Vec<(KeyPath, toml::Value)> {
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

pub(super) fn nested(values: &Layer) -> toml::Table {
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

pub(super) fn make_absolute(layer: &mut Layer, key: &KeyPath, folder: &Path) {
    if let Some(Value {
        value: toml::Value::String(path),
        ..
    }) = layer.get_mut(key)
        && let Ok(absolute) = folder.join(&*path).into_os_string().into_string()
    {
        *path = absolute;
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
