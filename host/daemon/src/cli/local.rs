//! `consort local`: what a program on this device does, from the command line. It finds the plugin's
//! socket by the daemon's control socket and is one of the plugin's local programs from there on.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use consort_plugin_host::LOCAL_PAYLOAD_MAX;
use consort_proto::PluginId;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::plugin::{self, PluginError};
use super::settings::PlaceFlags;
use super::{CliError, event_loop, output};
use crate::control::client;
use crate::control::plugins::PluginInspection;
use crate::exit_code::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 the plugin could not be asked (not granted, busy, not running, lost in the
request), 6 daemon not reachable, 7 the plugin answered with an error.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print what a plugin publishes on this device, one message per line, until Ctrl-C.
    Subscribe {
        /// Which plugin.
        #[arg(value_name = "PLUGIN", value_parser = plugin::plugin_id)]
        id: PluginId,
        /// Only what is published under this topic.
        topic: Option<String>,
        /// End after so many messages, retained ones included.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Print each line as it is on the socket.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Ask a plugin and print its answer.
    Request {
        /// Which plugin.
        #[arg(value_name = "PLUGIN", value_parser = plugin::plugin_id)]
        id: PluginId,
        /// What about.
        topic: String,
        /// What it is to know; `-` reads it from standard input. Default: nothing.
        payload: Option<String>,
        /// Print the line as it is on the socket.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
}

/// Why a local program got nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// The plugin has no socket.
    #[error("the plugin {id} has no socket for local programs: {why}")]
    NoSocket {
        /// Which plugin.
        id: PluginId,
        /// What would give it one.
        why: String,
    },
    /// The socket cannot be used.
    #[error("cannot use the socket {}: {source}", .path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The payload cannot be read.
    #[error("cannot read the payload: {0}")]
    Payload(io::Error),
    /// What was asked for did not happen.
    #[error("{code}: {text}")]
    Refused {
        /// A word for programs.
        code: String,
        /// For people.
        text: String,
    },
    /// The plugin's own answer is an error.
    #[error("{0}")]
    Failed(String),
    /// The other side said something else.
    #[error("the daemon's line is not understood: {0}")]
    NotUnderstood(String),
}

impl LocalError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::ExpectationNotMet,
            Self::NoSocket { .. }
            | Self::Socket { .. }
            | Self::Payload(_)
            | Self::Refused { .. }
            | Self::NotUnderstood(_) => ExitCode::Failed,
        }
    }
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Subscribe {
            id,
            topic,
            count,
            json,
            place,
        } => {
            let mut line = json!({"op": "subscribe"});
            if let Some(topic) = &topic {
                line["topic"] = topic.as_str().into();
            }
            let socket = Socket::connect(&place, &id)?;
            subscribe(socket, &line, topic.is_some(), count, json)
        }
        Command::Request {
            id,
            topic,
            payload,
            json,
            place,
        } => {
            let payload = read_payload(payload).map_err(LocalError::Payload)?;
            let mut line = json!({"op": "request", "topic": topic});
            match String::from_utf8(payload) {
                Ok(text) => line["text"] = text.into(),
                Err(binary) => line["base64"] = BASE64.encode(binary.as_bytes()).into(),
            }
            let mut socket = Socket::connect(&place, &id)?;
            socket.say(&line)?;
            let (raw, said) = socket.hear()?;
            print(&raw, &said, json, false)
        }
    }
}

fn subscribe(
    mut socket: Socket,
    line: &Value,
    one_topic: bool,
    count: Option<u64>,
    json: bool,
) -> Result<(), CliError> {
    socket.say(line)?;
    let mut messages = 0;
    while count.is_none_or(|count| messages < count) {
        let (raw, said) = socket.hear()?;
        if said["event"] == "subscribed" {
            continue;
        }
        print(&raw, &said, json, !one_topic)?;
        messages += 1;
    }
    Ok(())
}

/// Prints a message or an answer: text with a line end, other bytes as they are.
fn print(raw: &str, said: &Value, json: bool, with_topic: bool) -> Result<(), CliError> {
    refuse(said)?;
    if json {
        return output::text(raw);
    }
    if with_topic && let Some(topic) = said["topic"].as_str() {
        write(format!("{topic}: ").as_bytes())?;
    }
    match (said["text"].as_str(), said["base64"].as_str()) {
        (Some(text), _) => output::text(text),
        (None, Some(code)) => {
            let bytes = BASE64
                .decode(code.as_bytes())
                .map_err(|error| LocalError::NotUnderstood(error.to_string()))?;
            write(&bytes)
        }
        (None, None) => Err(LocalError::NotUnderstood(raw.to_owned()).into()),
    }
}

fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

/// An error that was said is one.
fn refuse(said: &Value) -> Result<(), LocalError> {
    if said["event"] != "error" {
        return Ok(());
    }
    let word = |key: &str| said[key].as_str().unwrap_or("unknown").to_owned();
    Err(match said["code"].as_str() {
        Some("failed") => LocalError::Failed(word("error")),
        Some(_) | None => LocalError::Refused {
            code: word("code"),
            text: word("error"),
        },
    })
}

/// A payload that is a little too long is left to the daemon, whose words say how long it may be.
fn read_payload(given: Option<String>) -> io::Result<Vec<u8>> {
    match given.as_deref() {
        Some("-") => {
            let mut payload = Vec::new();
            let most = LOCAL_PAYLOAD_MAX as u64 + 1;
            io::stdin().lock().take(most).read_to_end(&mut payload)?;
            Ok(payload)
        }
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Ok(Vec::new()),
    }
}

/// A plugin's socket.
struct Socket {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Socket {
    fn connect(place: &PlaceFlags, id: &PluginId) -> Result<Self, CliError> {
        let data_dir = place.resolve()?.config.data_dir;
        let asked = plugin::path(id);
        let inspection = client::get::<PluginInspection>(&data_dir, &asked);
        let inspection = event_loop()?
            .block_on(inspection)
            .map_err(PluginError::from)?;
        let path = socket_of(&inspection).map_err(|why| LocalError::NoSocket {
            id: id.clone(),
            why,
        })?;
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self {
                path,
                stream: BufReader::new(stream),
            }),
            Err(source) => Err(LocalError::Socket { path, source }.into()),
        }
    }

    fn say(&mut self, line: &Value) -> Result<(), LocalError> {
        let said = self
            .stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes());
        said.map_err(|source| self.failed(source))
    }

    /// The next line, and what it says.
    fn hear(&mut self) -> Result<(String, Value), LocalError> {
        let mut line = String::new();
        let heard = self.stream.read_line(&mut line);
        match heard {
            Ok(0) => Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(said) => Ok((line, said)),
                Err(_) => Err(LocalError::NotUnderstood(line)),
            },
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> LocalError {
        LocalError::Socket {
            path: self.path.clone(),
            source,
        }
    }
}

/// The path of the plugin's socket, or what would give it one.
fn socket_of(plugin: &PluginInspection) -> Result<PathBuf, String> {
    let Some(holds) = &plugin.holds else {
        return Err(format!("it is {}", plugin.state));
    };
    let capabilities = &holds.capabilities;
    if let Some(socket) = &capabilities.local_socket {
        return Ok(PathBuf::from(socket));
    }
    let refused = capabilities.refused.iter();
    let mut refused = refused.filter(|refusal| refusal.capability == "local");
    Err(match refused.next() {
        Some(refusal) => format!("the capability `local` is {}", refusal.reason),
        None if capabilities.local => format!("it is {}; see the daemon's log", plugin.state),
        None => "its manifest does not ask for it: `local = true` under [capabilities]".to_owned(),
    })
}
