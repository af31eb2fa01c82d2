//! `consort demo`: a whole group on this machine, watched.
//!
//! The parent makes the devices ([`fleet`]), reads what they log ([`log_line`]), keeps the books
//! ([`tally`]) and tells the story ([`narrate`]). It takes no part in the group: everything it
//! knows, it knows from the devices' logs.

pub(super) mod fleet;
mod log_line;
mod narrate;
mod plugins;
mod tally;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::fleet::{Fleet, Heard, Plugins};
use self::log_line::LogLine;
use self::narrate::Narrator;
use self::tally::{Summary, Tally};
use super::{CliError, event_loop, output};
use crate::exit_code::ExitCode;
use crate::secrets::SecretError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many devices.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// For how long, as 30s or 1m30s.
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Kill the leader half-way (kill -9).
    #[arg(long)]
    kill_leader: bool,
    /// Print the figures as one JSON object, the last line of standard output; the story goes to
    /// standard error.
    #[arg(long)]
    json: bool,
    /// The folder with the plugins; `heartbeat` must be among them. Default: plugins,
    /// target/plugins, or `plugins` beside this program.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

/// Why the demonstration failed. No process and no file is left behind.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// Nobody could take over.
    #[error("--kill-leader needs at least two devices: give --nodes 2 or more")]
    NobodyLeft,
    /// The plugins were not found.
    #[error(
        "no heartbeat.wasm in {}; build the plugins (`cargo xtask demo` does) or give their folder \
         with --plugins", listed(.0)
    )]
    NoPlugins(Vec<PathBuf>),
    /// A step of setting up or clearing away failed.
    #[error("cannot {what}: {source}")]
    Prepare {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A secret could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A device ended that should not have.
    #[error("{name} ended by itself ({status}); its last words:\n{words}")]
    DeviceEnded {
        /// Which device.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        words: String,
    },
    /// What was to be shown did not happen.
    #[error("the demonstration did not show what it should: {0}")]
    Unmet(String),
    /// Someone stopped it.
    #[error("stopped before its time")]
    Interrupted,
}

impl DemoError {
    pub(super) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::NobodyLeft => ExitCode::Usage,
            Self::Unmet(_) => ExitCode::ExpectationNotMet,
            Self::NoPlugins(_)
            | Self::Prepare { .. }
            | Self::Secret(_)
            | Self::DeviceEnded { .. }
            | Self::Interrupted => ExitCode::Failed,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.kill_leader && args.nodes < 2 {
        return Err(DemoError::NobodyLeft.into());
    }
    let plugins = plugins::find(args.plugins.as_deref())?;
    let program =
        std::env::current_exe().map_err(|error| CliError::Process("find this program", error))?;
    let outcome = event_loop()?.block_on(prepare_and_show(args, &program, &plugins))?;
    if args.json {
        output::object(&outcome.summary)?;
    }
    Ok(outcome.judge(args)?)
}

/// What the demonstration came to.
#[derive(Debug)]
struct Outcome {
    summary: Summary,
    interrupted: bool,
}

impl Outcome {
    /// A group must have formed, a killed leader must have been replaced, and nothing may have been
    /// delivered twice. How much was delivered is for the reader of the figures to judge.
    fn judge(&self, args: &Args) -> Result<(), DemoError> {
        if self.interrupted {
            return Err(DemoError::Interrupted);
        }
        let summary = &self.summary;
        let mut unmet = Vec::new();
        if summary.cold_start_ms.is_none() {
            unmet.push("the devices never agreed on one leader");
        }
        if args.kill_leader && summary.failover_ms.is_none() {
            unmet.push("no device took over from a killed leader");
        }
        if summary.duplicates > 0 {
            unmet.push("a message was delivered twice");
        }
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(DemoError::Unmet(unmet.join("; ")))
        }
    }
}

async fn prepare_and_show(
    args: &Args,
    program: &Path,
    plugins: &Path,
) -> Result<Outcome, DemoError> {
    // From here on a signal is an orderly end, so that it can leave no file behind.
    let stop = Stop::new()?;
    let (fleet, plugin_ids) = Fleet::prepare(usize::from(args.nodes), &Plugins::Copied(plugins))?;
    let mut narrator = Narrator::new(fleet.names(), args.json);
    narrator.plain(&format!(
        "{} devices on this machine for {}, running {} from {}{}",
        args.nodes,
        humantime::format_duration(args.duration),
        plugin_ids.join(" and "),
        plugins.display(),
        if args.kill_leader {
            "; the leader is killed half-way"
        } else {
            ""
        },
    ));
    show(args, program, fleet, narrator, stop).await
}

async fn show(
    args: &Args,
    program: &Path,
    mut fleet: Fleet,
    narrator: Narrator,
    mut stop: Stop,
) -> Result<Outcome, DemoError> {
    let start = Instant::now();
    let heard = fleet.start(program, None)?;
    let mut stage = Stage {
        start,
        tally: Tally::new(&fleet.ids()),
        last_words: vec![Vec::new(); fleet.names().len()],
        kill_at: args.kill_leader.then_some(args.duration / 2),
        fleet,
        narrator,
    };
    let interrupted = stage.watch(heard, args.duration, &mut stop).await?;
    let summary = stage.tally.summary(start.elapsed().min(args.duration));
    let leader = stage.tally.leader().map(|(leader, _)| leader);
    stage.narrator.summary(&summary, leader);
    stage.fleet.stop().await?;
    Ok(Outcome {
        summary,
        interrupted,
    })
}

/// The signals that end a command with devices early, in order.
pub(super) struct Stop([Signal; 3]);

impl Stop {
    pub(super) fn new() -> Result<Self, DemoError> {
        let listen = |kind| {
            signal(kind).map_err(|source| DemoError::Prepare {
                what: "listen for signals",
                source,
            })
        };
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    pub(super) async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// All that is in play while the devices run.
struct Stage {
    start: Instant,
    fleet: Fleet,
    tally: Tally,
    narrator: Narrator,
    last_words: Vec<Vec<String>>,
    /// When the leader is due to be killed, until it was.
    kill_at: Option<Duration>,
}

/// How many of a device's last lines are kept for the case that it ends.
const LAST_WORDS: usize = 5;

impl Stage {
    /// Follows the devices until the time is up; true if someone asked to stop before.
    async fn watch(
        &mut self,
        mut heard: mpsc::Receiver<Heard>,
        duration: Duration,
        stop: &mut Stop,
    ) -> Result<bool, DemoError> {
        let end = tokio::time::Instant::from_std(self.start + duration);
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(true),
                () = tokio::time::sleep_until(end) => break,
                _ = tick.tick() => self.kill_when_due()?,
                Some(input) = heard.recv() => self.take(input).await?,
            }
        }
        // What was read before the end still counts, whatever is waiting here.
        while let Ok(input) = heard.try_recv() {
            if let Heard::Line { device, at, line } = input
                && at <= self.start + duration
            {
                self.line(device, at, &line);
            }
        }
        Ok(false)
    }

    async fn take(&mut self, input: Heard) -> Result<(), DemoError> {
        match input {
            Heard::Line { device, at, line } => self.line(device, at, &line),
            Heard::Closed { device } => {
                if let Some(status) = self.fleet.ended(device).await {
                    let name = self.fleet.names().swap_remove(device);
                    let words = self.last_words[device].join("\n");
                    return Err(DemoError::DeviceEnded {
                        name,
                        status,
                        words,
                    });
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, device: usize, at: Instant, line: &str) {
        let at = at.saturating_duration_since(self.start);
        let read = LogLine::parse(line);
        match read.heartbeat() {
            Some(said) => {
                for note in self.tally.apply(at, device, &said) {
                    self.narrator.note(at, &note);
                }
            }
            None => {
                if read.is_warning || read.is_plugins_own && !read.is_heartbeat() {
                    self.narrator.line(at, device, &read);
                }
                let words = &mut self.last_words[device];
                if words.len() == LAST_WORDS {
                    words.remove(0);
                }
                words.push(read.message);
            }
        }
    }

    /// Kills the leader once it is time and there is one.
    fn kill_when_due(&mut self) -> Result<(), DemoError> {
        let now = self.start.elapsed();
        let due = self.kill_at.is_some_and(|kill_at| now >= kill_at);
        let Some((leader, _)) = self.tally.leader().filter(|_| due) else {
            return Ok(());
        };
        self.kill_at = None;
        let pid = self
            .fleet
            .pid(leader)
            .map(|pid| format!(" {pid}"))
            .unwrap_or_default();
        let killed_at = self.start.elapsed();
        self.fleet.kill(leader)?;
        self.tally.kill(killed_at, leader);
        let name = &self.fleet.names()[leader];
        self.narrator.tell(
            killed_at,
            &format!("kill -9{pid}: {name}, the leader, is gone"),
        );
        Ok(())
    }
}

fn listed(folders: &[PathBuf]) -> String {
    let shown: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    shown.join(", ")
}

const DURATION_MIN: Duration = Duration::from_secs(1);
const DURATION_MAX: Duration = Duration::from_secs(3600);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 30s or 1m30s"))?;
    if (DURATION_MIN..=DURATION_MAX).contains(&duration) {
        Ok(duration)
    } else {
        Err("give 1s to 1h".to_owned())
    }
}
