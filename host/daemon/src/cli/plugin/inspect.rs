//! `consort plugin inspect`: what holds for one plugin, with reasons.

use std::fmt::{self, Display};

use super::{Of, PluginError, path};
use crate::cli::{CliError, event_loop, output};
use crate::control::client;
use crate::control::plugins::{PluginHolds, PluginInspection};

pub(super) fn run(of: &Of, json: bool) -> Result<(), CliError> {
    let data_dir = of.place.resolve()?.config.data_dir;
    let path = path(&of.id);
    let asked = client::get::<PluginInspection>(&data_dir, &path);
    let plugin = event_loop()?.block_on(asked).map_err(PluginError::from)?;
    output::result(&plugin, json)
}

impl Display for PluginInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Plugin        {}  ({})", self.id, self.state)?;
        if let Some(hash) = &self.content_hash {
            writeln!(f, "Content       {hash}, generation {}", self.generation)?;
        }
        if let Some(fault) = &self.last_fault {
            writeln!(f, "Last fault    {fault}")?;
            for frame in &self.last_backtrace {
                writeln!(f, "{:<14}at {frame}", "")?;
            }
        }
        if self.dropped_messages > 0 {
            writeln!(f, "Dropped       {} messages", self.dropped_messages)?;
        }
        for (count, what) in [
            (self.refused_messages, "messages to the group"),
            (self.refused_writes, "writes of state"),
            (self.refused_publishes, "messages for local programs"),
        ] {
            if count > 0 {
                writeln!(f, "Refused       {count} {what}")?;
            }
        }
        self.holds.as_ref().map_or(Ok(()), |holds| holds.fmt(f))
    }
}

impl Display for PluginHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "File          {}", self.file)?;
        writeln!(f, "Version       {}", self.version)?;
        let preempt = if self.preempt { ", preempts" } else { "" };
        writeln!(f, "Election      priority {}{preempt}", self.priority)?;
        let mut head = "Limits";
        for (key, value) in &self.limits {
            let capped = self.capped.iter().find(|capped| capped.key == *key);
            let why = capped
                .map(|capped| format!("  ({} asked for, capped by the operator)", capped.asked))
                .unwrap_or_default();
            writeln!(f, "{head:<14}{key} = {value}{why}")?;
            head = "";
        }
        let state = &self.replicated_state;
        let kept = if state.persist {
            ", kept over restarts"
        } else {
            ""
        };
        writeln!(
            f,
            "State         {} KiB, sent every {} ms{kept}",
            state.quota_bytes >> 10,
            state.interval_ms
        )?;
        self.write_capabilities(f)?;
        if !self.config_keys.is_empty() {
            writeln!(f, "Config        {}", self.config_keys.join(", "))?;
        }
        writeln!(f, "Exports       {}", self.exports.join(" "))?;
        writeln!(f, "Imports       {}", self.imports.join(" "))
    }
}

impl PluginHolds {
    fn write_capabilities(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = &self.capabilities;
        for folder in &held.files {
            writeln!(
                f,
                "Granted       files.{}: {} of {} as /{}",
                folder.name, folder.access, folder.path, folder.name
            )?;
        }
        if held.local {
            let socket = held.local_socket.as_deref();
            let place = socket.unwrap_or("no socket, see the daemon's log");
            writeln!(f, "Granted       local: {place}")?;
        }
        for refused in &held.refused {
            writeln!(
                f,
                "Refused       {}: {}",
                refused.capability, refused.reason
            )?;
        }
        if held.files.is_empty() && !held.local && held.refused.is_empty() {
            writeln!(f, "Capabilities  none asked for")?;
        }
        Ok(())
    }
}
