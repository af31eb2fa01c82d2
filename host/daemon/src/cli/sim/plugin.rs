//! A plugin's own code on every simulated device.
//!
//! The file is compiled once, for the deterministic runtime, and kept among the user's cached files;
//! each device gets the host's own supervisor over it ([`VirtualPlugin`]). Nothing of this machine
//! reaches the plugin: no folder is granted, local programs are steps of the plan, its clocks are
//! the simulator's, its randomness follows
//! from the seed.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use consort_plugin_host::{
    ClockReading, Code, Cores, Granted, HostEvent, Level, LocalMessage, Overlay, Runtime,
    RuntimeError, Said as Spoken, Settings, ShutdownReason, VirtualPlugin, VirtualSettings,
};
use consort_proto::{PluginEvent, PluginSpec, Time};
use consort_sim::{Actor, Entrance, Heard, LogLevel, Moment, Said, Stage, Turn};

use crate::cli::output;
use crate::cli::plugin::PluginError;
use crate::cli::plugin::check::{files, name_of, read_wasm};

/// Bytes of a payload that a line shows.
const PAYLOAD_SHOWN: usize = 200;

/// A plugin that is ready to be played.
pub(super) struct Played {
    runtime: Runtime,
    code: Code,
    settings: Settings,
    file: PathBuf,
    /// Where compiled code is if it is not kept.
    _scratch: Option<tempfile::TempDir>,
}

impl std::fmt::Debug for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Played")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Played {
    /// Reads and compiles a plugin's file or folder; `config` goes over its manifest. The cores of
    /// instances that trap go to the folder `cores`.
    pub(super) fn load(
        given: &Path,
        config: &[(String, String)],
        cores: Option<&Path>,
    ) -> Result<Self, PluginError> {
        let (file, manifest) = files(given);
        let wasm = read_wasm(&file)?;
        let text = match &manifest {
            Some(path) => Some(fs::read_to_string(path).map_err(unreadable(path))?),
            None => None,
        };
        let overlay = Overlay {
            config: config.iter().cloned().collect(),
            capabilities: Granted {
                local: true,
                ..Granted::default()
            },
            ..Overlay::default()
        };
        let manifest = manifest.as_deref().zip(text.as_deref());
        let settings = Settings::new(&name_of(given), manifest, Some(&overlay))?;
        for refused in settings.refused() {
            output::note(&format!("capability {refused}"));
        }
        let opened = cores.map(open_cores);
        let (runtime, scratch) = runtime(opened.transpose()?)?;
        let code = Code::new(&runtime, &wasm).map_err(|error| PluginError::NoPlugin {
            file: file.clone(),
            error,
        })?;
        Ok(Self {
            runtime,
            code,
            settings,
            file,
            _scratch: scratch,
        })
    }
}

fn open_cores(folder: &Path) -> Result<Cores, PluginError> {
    Cores::open(folder).map_err(|source| PluginError::Cores {
        folder: folder.to_owned(),
        source,
    })
}

fn unreadable(file: &Path) -> impl Fn(io::Error) -> PluginError {
    let file = file.to_owned();
    move |source| PluginError::Read {
        file: file.clone(),
        source,
    }
}

/// A runtime that keeps compiled code for the next run, if there is a place for it.
fn runtime(cores: Option<Cores>) -> Result<(Runtime, Option<tempfile::TempDir>), PluginError> {
    let kept = cache_dir().map(|folder| Runtime::deterministic(&folder, cores.clone()));
    match kept {
        Some(Ok(runtime)) => return Ok((runtime, None)),
        Some(Err(error @ (RuntimeError::Engine(_) | RuntimeError::Thread(_)))) => {
            return Err(error.into());
        }
        Some(Err(RuntimeError::CacheFolder { .. })) | None => {}
    }
    let scratch = tempfile::tempdir().map_err(unreadable(Path::new("a temporary folder")))?;
    let runtime = Runtime::deterministic(&scratch.path().join("compiled"), cores)?;
    Ok((runtime, Some(scratch)))
}

/// `consort/sim` among the user's cached files (XDG Base Directory Specification).
fn cache_dir() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let usual = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = named
        .and_then(absolute)
        .or_else(|| usual().and_then(absolute))?;
    Some(folder.join("consort").join("sim"))
}

impl Stage for Played {
    fn spec(&self) -> PluginSpec {
        self.settings.spec().clone()
    }

    fn begin(&self, entrance: Entrance) -> Box<dyn Actor> {
        let plugin = VirtualPlugin::new(VirtualSettings {
            runtime: self.runtime.clone(),
            code: self.code.clone(),
            settings: self.settings.ranked(entrance.spec.priority),
            file: self.file.clone(),
            this_device: entrance.device,
            seed: entrance.seed,
        });
        Box::new(Player(plugin.expect("the runtime is deterministic")))
    }
}

/// A plugin's host on one device.
#[derive(Debug)]
struct Player(VirtualPlugin);

impl Actor for Player {
    fn deliver(&mut self, event: PluginEvent) {
        self.0.deliver(event);
    }

    fn clock_set_back(&mut self) {
        self.0.clock_set_back();
    }

    fn request(&mut self, now: &Moment, topic: &str, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.0.request(now.local, reading(now), topic, payload);
    }

    fn has_mail(&self) -> bool {
        self.0.has_mail()
    }

    fn wake_at(&self, now: &Moment) -> Option<Time> {
        self.0.wake_at(now.local, reading(now))
    }

    fn turn(&mut self, now: &Moment) -> Turn {
        let turn = self.0.turn(now.local, reading(now));
        Turn {
            said: said(turn.said, now),
            took: turn.took,
        }
    }

    fn fault(&mut self, now: &Moment) -> Vec<Said> {
        let cause = "a fault that the scenario injects";
        said(self.0.fault(now.local, reading(now), cause), now)
    }

    fn stop(self: Box<Self>, now: &Moment, removed: bool) -> Vec<Said> {
        let reason = if removed {
            ShutdownReason::Remove
        } else {
            ShutdownReason::Stop
        };
        said(self.0.stop(now.local, reading(now), reason), now)
    }

    fn dropped(&self) -> u64 {
        self.0.messages_dropped()
    }

    fn state(&self) -> &'static str {
        self.0.state()
    }
}

const fn reading(now: &Moment) -> ClockReading {
    ClockReading {
        group_time_us: now.group_time,
        synchronised: now.synchronised,
        error_bound_us: now.error_bound,
    }
}

/// What the plugin's host says, in the simulator's terms. What the plugin tells programs on the device
/// is a line of its log, since a simulated device has no such programs.
fn said(spoken: Vec<Spoken>, now: &Moment) -> Vec<Said> {
    let mut said = Vec::new();
    for spoken in spoken {
        match spoken {
            Spoken::Host(HostEvent::Published { messages, .. }) => {
                let published = |message: LocalMessage| {
                    let text = shown(&message.payload);
                    let text = format!("publishes {}: {text}", message.topic);
                    by_plugin(now.group_time, LogLevel::Info, text)
                };
                said.extend(messages.into_iter().map(published));
            }
            other => said.extend(one_said(other)),
        }
    }
    said
}

/// The plugin's words, where they are no line of its own.
const fn by_plugin(group_time: u64, level: LogLevel, text: String) -> Said {
    Said::Line {
        group_time,
        level,
        by_host: false,
        text,
    }
}

/// The beginning of a payload, as text without control characters.
fn shown(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(PAYLOAD_SHOWN)]).into_owned();
    text.replace(char::is_control, "\u{fffd}")
}

fn one_said(spoken: Spoken) -> Option<Said> {
    Some(match spoken {
        Spoken::Host(HostEvent::Up(spec)) => Said::Up(spec),
        Spoken::Host(HostEvent::Quota { quota, .. }) => Said::Quota(quota),
        Spoken::Host(HostEvent::State { config, .. }) => Said::State(config),
        Spoken::Host(HostEvent::Faulted(_)) => Said::Faulted,
        Spoken::Host(HostEvent::Down(_)) => Said::Down,
        Spoken::Host(HostEvent::Commands { commands, .. }) => Said::Commands(commands),
        Spoken::Host(HostEvent::Local { .. } | HostEvent::Published { .. }) => return None,
        Spoken::Answer {
            group_time_us,
            topic,
            answer: Ok(answer),
        } => {
            let text = format!("answers {topic}: {}", shown(&answer));
            by_plugin(group_time_us, LogLevel::Info, text)
        }
        Spoken::Answer {
            group_time_us,
            topic,
            answer: Err(error),
        } => {
            let text = format!("answers {topic} with an error ({}): {error}", error.code());
            by_plugin(group_time_us, LogLevel::Warn, text)
        }
        Spoken::Fault(cause) => Said::Fault(cause),
        Spoken::Line {
            group_time_us,
            level,
            by_host,
            text,
        } => Said::Line {
            group_time: group_time_us,
            level: level_of(level),
            by_host,
            text,
        },
    })
}

const fn level_of(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    }
}

/// Prints the log: group time, device, level, text.
pub(super) fn audience() -> Box<dyn FnMut(&Heard)> {
    let mut out = BufWriter::new(io::stdout());
    Box::new(move |heard| {
        // A reader that has gone shows when the figures are printed.
        let _ = writeln!(out, "{}", line(heard));
    })
}

fn line(heard: &Heard) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(heard.group_time);
    let speaker = match (heard.by_host, heard.node) {
        (false, _) => "",
        (true, Some(_)) => "host: ",
        (true, None) => "scenario: ",
    };
    format!(
        "{} {} {} {speaker}{}",
        humantime::format_rfc3339_micros(time),
        heard.name,
        heard.level.as_str(),
        heard.text
    )
}

/// A setting, as `key=value`.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("give a key and a value, as name=x".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_device_level_and_text() {
        let mut heard = Heard {
            at: Time::ZERO,
            group_time: 1_790_000_001_234_567,
            node: Some(3),
            name: "n3".to_owned(),
            level: LogLevel::Warn,
            by_host: false,
            text: "two words".to_owned(),
        };
        let time = "2026-09-21T14:13:21.234567Z";
        assert_eq!(line(&heard), format!("{time} n3 warn two words"));
        heard.by_host = true;
        assert_eq!(line(&heard), format!("{time} n3 warn host: two words"));
    }

    #[test]
    fn settings_have_a_key_and_a_value() {
        assert_eq!(setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(setting("a="), Ok(("a".to_owned(), String::new())));
        assert!(setting("a").is_err() && setting("=b").is_err());
    }
}
