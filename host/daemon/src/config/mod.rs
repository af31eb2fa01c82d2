//! The daemon's settings: parsed once, then handed to whoever owns them.
//!
//! Four layers are laid over one another, key by key: the built-in `default.toml` with what the
//! platform decides, the file, the environment, the flags. Each layer is checked on its own, so
//! that a mistake is reported where it was made; each value keeps its origin for
//! `consort config show`. Nothing looks a setting up later: owners get theirs from [`Config`], and
//! what is set for plugins once more from [`Changes`] when the file says something else.

mod assemble;
mod changes;
mod environment;
mod file;
mod key;
mod kinds;
mod layers;
/// What the plugin host has words for.
mod plugin {
    pub(super) use consort_plugin_host::{
        Access, FOLDERS_MAX, FolderGrant, Granted, LimitTable, Overlay, StateTable, is_folder_name,
        key_at, line_at, wording,
    };
}
mod resolve;
mod show;
mod surroundings;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use consort_plugin_host::Overlay;
use consort_proto::{Access, PluginId, SendRate};
use thiserror::Error;

pub use changes::{Changes, Reread};
pub use key::KeyPath;
pub use kinds::LogFormat;
pub use layers::{Origin, Value};
pub use resolve::{Resolved, Source, resolve};
pub use show::{Shown, ShownValue};
pub use surroundings::{Flags, Surroundings};

/// The built-in defaults, which are also the commented template of a configuration file.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Every setting, resolved: defaults, file, environment and flags are already merged.
#[derive(Clone, Debug)]
pub struct Config {
    /// `name`: shown to people. Default: the host's name.
    pub name: String,
    /// `data_dir`: identity, secret, store, cache, control socket.
    pub data_dir: PathBuf,
    /// `plugins_dir`.
    pub plugins_dir: PathBuf,
    /// `[network]`.
    pub network: Network,
    /// `[group]`: which devices are admitted.
    pub access: Access,
    /// `[local]`.
    pub local: LocalConfig,
    /// `[plugins.<id>]`, the operator's overlay.
    pub plugins: BTreeMap<PluginId, Overlay>,
    /// Where the cores of plugins that trap are kept: the flag `--coredump` of `consort run`, and no
    /// setting.
    pub cores_dir: Option<PathBuf>,
}

/// `[local]`: the sockets for programs on this device.
#[derive(Clone, Debug, Default)]
pub struct LocalConfig {
    /// `dir`: the folder they are in. Default: `local` in the data folder.
    pub dir: Option<PathBuf>,
    /// `group`: the users who may open them besides the daemon's own.
    pub group: Option<String>,
}

/// `[network]`.
#[derive(Clone, Debug)]
pub struct Network {
    /// `listen`: IP addresses and port of the UDP socket. Default `[::]:4747` and `0.0.0.0:4747`,
    /// given as one setting `listen = "0.0.0.0"` / `port = 4747`.
    pub listen: Vec<SocketAddr>,
    /// `discovery_port`: where beacons are multicast to.
    pub discovery_port: u16,
    /// `multicast`: whether to find devices by IPv4 and IPv6 multicast.
    pub multicast: bool,
    /// `broadcast`: whether to send IPv4 broadcasts too.
    pub broadcast: bool,
    /// `send_kb_per_second`, `peer_kb_per_second`, `send_burst_kib`: what plugins' messages may take.
    pub send_rate: SendRate,
    /// `seeds`: `host:port` texts, names are resolved by the daemon again and again.
    pub seeds: Vec<String>,
    /// `interfaces`: patterns of interfaces to use; empty means all.
    pub interfaces: Vec<String>,
    /// `interfaces_denied`: patterns of interfaces not to use (container bridges by default).
    pub interfaces_denied: Vec<String>,
}

/// Why there are no settings to work with. Nothing has been started or written.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A configuration file was named, or is at its usual place, and cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A layer holds something that is not allowed.
    #[error("{place}{}: {what}", key.as_ref().map(|key| format!(": {key}")).unwrap_or_default())]
    Invalid {
        /// File and line, variable, or flag.
        place: String,
        /// The setting, where the mistake belongs to one.
        key: Option<KeyPath>,
        /// What is wrong and what is allowed.
        what: String,
    },
    /// No place for the data folder is known.
    #[error(
        "no place for the data folder: neither HOME nor XDG_DATA_HOME is set; \
         give --data-dir or set CONSORT_DATA_DIR"
    )]
    NoDataDir,
}
