//! The flags that set settings, shared by all commands that need them.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, output};
use crate::config::{ConfigError, Flags, KeyPath, LogFormat, Resolved, Source, Surroundings};

/// Where the settings and the data are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PlaceFlags {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for this device's key, its group's secret and its state.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Settings of the daemon.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DaemonFlags {
    #[command(flatten)]
    place: PlaceFlags,
    /// The folder whose plugins run.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// What people see this device as.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A local IP address to listen on; may be given again.
    #[arg(long, value_name = "IP")]
    listen: Vec<String>,
    /// The UDP port to listen on.
    #[arg(long, value_name = "PORT")]
    port: Option<i64>,
    /// Where a member may be found; may be given again.
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<String>,
    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl PlaceFlags {
    /// All layers merged, these flags on top.
    pub(crate) fn resolve(&self) -> Result<Resolved, CliError> {
        Ok(source(self.flags()?)?.resolve()?)
    }

    fn flags(&self) -> Result<Flags, ConfigError> {
        let mut flags = Flags {
            config: self.config.clone(),
            settings: Vec::new(),
        };
        if let Some(path) = &self.data_dir {
            flags
                .settings
                .push(("--data-dir", KeyPath::new(&["data_dir"]), folder(path)?));
        }
        Ok(flags)
    }
}

impl DaemonFlags {
    /// All layers merged, these flags on top.
    pub(crate) fn resolve(&self) -> Result<Resolved, CliError> {
        Ok(self.source()?.resolve()?)
    }

    /// All layers, these flags on top.
    pub(crate) fn source(&self) -> Result<Source, CliError> {
        let mut flags = self.place.flags()?;
        let mut set = |flag, key: &[&str], value: toml::Value| {
            flags.settings.push((flag, KeyPath::new(key), value));
        };
        if let Some(path) = &self.plugins {
            set("--plugins", &["plugins_dir"], folder(path)?);
        }
        if let Some(name) = &self.name {
            set("--name", &["name"], name.as_str().into());
        }
        if !self.listen.is_empty() {
            set(
                "--listen",
                &["network", "listen"],
                self.listen.clone().into(),
            );
        }
        if let Some(port) = self.port {
            set("--port", &["network", "port"], port.into());
        }
        if !self.seeds.is_empty() {
            set("--seed", &["network", "seeds"], self.seeds.clone().into());
        }
        if let Some(format) = self.log_format {
            let text = match format {
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            };
            set("--log-format", &["log", "format"], text.into());
        }
        source(flags)
    }
}

fn source(flags: Flags) -> Result<Source, CliError> {
    let around = Surroundings::of_process()
        .map_err(|error| CliError::Process("find the current folder", error))?;
    Ok(Source { flags, around })
}

fn folder(path: &Path) -> Result<toml::Value, ConfigError> {
    let text = path.to_str().ok_or_else(|| ConfigError::Invalid {
        place: path.display().to_string(),
        key: None,
        what: "the path is no UTF-8 text".to_owned(),
    })?;
    Ok(toml::Value::from(text))
}

/// Says which variables look like settings and are none.
pub(crate) fn warn_of_unknown_variables(resolved: &Resolved) {
    for variable in &resolved.unknown_variables {
        output::note(&format!(
            "warning: ${variable} is set, but no setting has that name"
        ));
    }
}
