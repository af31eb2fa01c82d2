//! What the settings depend on besides their file: the command line and what the process finds around
//! it, as data.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::key::KeyPath;

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
    pub(super) fn folder(&self, variable: &str) -> Option<PathBuf> {
        self.variables
            .get(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}
