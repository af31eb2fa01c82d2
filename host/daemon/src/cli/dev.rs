//! `consort dev`: the plugins of a folder, on one device or on a group of several, while their author
//! works on them. The devices are complete daemons with temporary data folders that watch the folder
//! itself, so a build into it is a reload on all of them; what their plugins log, and what the host
//! says of them, is shown as it comes.

use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use consort_plugin_host::BETWEEN_FRAMES;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::demo::fleet::{Fleet, Heard, Plugins};
use super::demo::{DemoError, Stop, duration};
use super::{CliError, event_loop, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugins folder: `<id>.wasm` or `<id>/plugin.wasm` in it.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// How many devices, all on this machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// Keep a core file of each plugin that traps in this folder, for debuggers; of each device at
    /// most 16 and 512 MiB.
    #[arg(long, value_name = "FOLDER")]
    coredump: Option<PathBuf>,
    /// For how long, as 30s or 1m30s. Default: until Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = plugins_folder(&args.folder)?;
    let program =
        std::env::current_exe().map_err(|error| CliError::Process("find this program", error))?;
    Ok(event_loop()?.block_on(show(args, &program, &folder))?)
}

/// The folder, whole, as the devices' settings need it.
fn plugins_folder(given: &Path) -> Result<PathBuf, DemoError> {
    let failed = |source| DemoError::Prepare {
        what: "use the plugins folder",
        source,
    };
    let folder = given.canonicalize().map_err(failed)?;
    if folder.join("plugin.wasm").is_file() {
        return Err(failed(io::Error::other(format!(
            "{} is a plugin; give the folder that it lies in",
            given.display()
        ))));
    }
    if !folder.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(failed(error));
    }
    Ok(folder)
}

/// The folder for cores, whole, as the devices need it; made if it is missing.
fn cores_folder(given: &Path) -> Result<PathBuf, DemoError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(given);
    let folder = made.and_then(|()| given.canonicalize());
    folder.map_err(|source| DemoError::Prepare {
        what: "use the folder for cores",
        source,
    })
}

async fn show(args: &Args, program: &Path, folder: &Path) -> Result<(), DemoError> {
    // From here on a signal is an orderly end, so that it can leave no file behind.
    let mut stop = Stop::new()?;
    let (mut fleet, _) = Fleet::prepare(usize::from(args.nodes), &Plugins::Shared(folder))?;
    let names = fleet.names();
    output::note(&format!(
        "{} on this machine, watching {}; Ctrl-C ends it",
        if names.len() == 1 {
            "one device".to_owned()
        } else {
            format!("{} devices", names.len())
        },
        folder.display()
    ));
    let cores = args.coredump.as_deref().map(cores_folder).transpose()?;
    let heard = fleet.start(program, cores.as_deref())?;
    let watched = watch(args, &names, &mut fleet, heard, &mut stop).await;
    fleet.stop().await?;
    watched
}

async fn watch(
    args: &Args,
    names: &[String],
    fleet: &mut Fleet,
    mut heard: mpsc::Receiver<Heard>,
    stop: &mut Stop,
) -> Result<(), DemoError> {
    let start = Instant::now();
    let end = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut last = vec![String::new(); names.len()];
    loop {
        let input = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            () = &mut end => return Ok(()),
            Some(input) = heard.recv() => input,
        };
        match input {
            Heard::Line { device, at, line } => {
                let name = (names.len() > 1).then(|| names[device].as_str());
                let at = at.saturating_duration_since(start);
                if let Some(text) = pretty(&line, at, name, colours)
                    && writeln!(io::stdout().lock(), "{text}").is_err()
                {
                    // Whoever read it has gone.
                    return Ok(());
                }
                last[device] = line;
            }
            Heard::Closed { device } => {
                if let Some(status) = fleet.ended(device).await {
                    return Err(DemoError::DeviceEnded {
                        name: names[device].clone(),
                        status,
                        words: last.swap_remove(device),
                    });
                }
            }
        }
    }
}

/// A line of a device's log as its plugins' author wants to see it; none if it is about something
/// else.
fn pretty(line: &str, at: Duration, device: Option<&str>, colours: bool) -> Option<String> {
    let Ok(Value::Object(object)) = serde_json::from_str(line) else {
        // An error before the log has started.
        return Some(format!("{:8.3}  {line}", at.as_secs_f64()));
    };
    let level = text(&object, "level").unwrap_or("INFO");
    let plugin = text(&object, "plugin").or_else(|| text(&object, "group"));
    let is_warning = matches!(level, "WARN" | "ERROR");
    if plugin.is_none() && !is_warning {
        return None;
    }
    let own = text(&object, "target") == Some("plugin");
    let mut shown = format!("{:8.3}  ", at.as_secs_f64());
    if let Some(device) = device {
        shown.push_str(&format!("{device:<9} "));
    }
    shown.push_str(&format!("{:<12} ", plugin.unwrap_or("consort")));
    shown.push_str(if own { "  " } else { "* " });
    if level != "INFO" {
        shown.push_str(&format!("{level} "));
    }
    shown.push_str(text(&object, "message").unwrap_or_default());
    if !own {
        append_fields(&mut shown, &object);
        append_backtrace(&mut shown, &object);
    }
    let colour = match level {
        "ERROR" => "31",
        "WARN" => "33",
        "DEBUG" | "TRACE" => "2",
        _ if own => "0",
        _ => "36",
    };
    Some(if colours {
        format!("\u{1b}[{colour}m{shown}\u{1b}[0m")
    } else {
        shown
    })
}

/// What the host says beside its message, as far as it helps.
fn append_fields(shown: &mut String, object: &Map<String, Value>) {
    for key in ["term", "leader_name", "generation", "hash", "cause", "file"] {
        match object.get(key) {
            Some(Value::String(value)) => shown.push_str(&format!("  {key}={value}")),
            Some(Value::Number(value)) => shown.push_str(&format!("  {key}={value}")),
            _ => {}
        }
    }
}

/// Where in the plugin a fault was: each frame on a line of its own, below the line that tells of it.
fn append_backtrace(shown: &mut String, object: &Map<String, Value>) {
    for frame in text(object, "backtrace")
        .iter()
        .flat_map(|all| all.split(BETWEEN_FRAMES))
    {
        shown.push_str(&format!("\n{:12}at {frame}", ""));
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Value, device: Option<&str>) -> Option<String> {
        pretty(
            &value.to_string(),
            Duration::from_millis(1_250),
            device,
            false,
        )
    }

    #[test]
    fn what_concerns_a_plugin_is_shown() {
        let own = serde_json::json!({
            "level": "INFO", "target": "plugin", "plugin": "app", "message": "hello",
        });
        assert_eq!(
            line(own, None).expect("shown"),
            "   1.250  app            hello"
        );
        let fault = serde_json::json!({
            "level": "WARN", "target": "consort", "plugin": "app", "message": "plugin faulted",
            "cause": "it trapped", "hash": "abc",
        });
        assert_eq!(
            line(fault, Some("device-2")).expect("shown"),
            "   1.250  device-2  app          * WARN plugin faulted  hash=abc  cause=it trapped"
        );
        let trap = serde_json::json!({
            "level": "WARN", "target": "consort", "plugin": "app", "message": "plugin faulted",
            "backtrace": "0x1 - app!inner <- 0x2 - app!outer",
        });
        let shown = line(trap, None).expect("shown");
        let frames: Vec<_> = shown.lines().skip(1).map(str::trim).collect();
        assert_eq!(frames, ["at 0x1 - app!inner", "at 0x2 - app!outer"]);
        let other = serde_json::json!({"level": "INFO", "target": "consort", "message": "running"});
        assert_eq!(line(other, None), None);
        let warning = serde_json::json!({"level": "WARN", "target": "consort", "message": "hot"});
        assert!(line(warning, None).is_some());
    }
}
