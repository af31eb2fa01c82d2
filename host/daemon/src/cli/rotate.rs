//! `consort group rotate`: an operator's steps, taken on one device for the whole group.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{ArgGroup, ValueEnum};
use serde::Serialize;

use super::group::{Common, GroupError};
use super::status::StatusError;
use super::{CliError, event_loop, output};
use crate::control::client::{ask_rotate, fetch_status};
use crate::control::rotate::{RotateRequest, RotateStep};
use crate::control::types::{PeerSecrets, PeerState, PeerStatus, SecretState, Status};

/// How long the other devices get to acknowledge a step before it is reported.
const WAIT_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["step", "compromised"])))]
pub(super) struct Args {
    /// Which step to take.
    #[arg(value_enum)]
    step: Option<Step>,
    /// The secret has been stolen: replace it at once, on the devices that are allowed by name.
    #[arg(long)]
    compromised: bool,
    /// Pass over devices that are not ready for the step.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Step {
    /// Make a fresh secret and give it to all members, who accept it from then on.
    Install,
    /// Use the fresh secret; the former one is still accepted.
    Use,
    /// Refuse the former secret.
    Remove,
}

/// What a step has come to, and what `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    step: RotateStep,
    /// The epoch of the active secret.
    epoch: u32,
    /// The devices that have stored the same secrets as this one.
    acknowledged: Vec<Device>,
    /// The others that this device knows of.
    missing: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    id: String,
    name: Option<String>,
    /// Why it is missing; null if it is not.
    why: Option<&'static str>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let data_dir = args.common.place.resolve()?.config.data_dir;
    let step = match args.step {
        Some(Step::Install) => RotateStep::Install,
        Some(Step::Use) => RotateStep::Use,
        Some(Step::Remove) => RotateStep::Remove,
        None => RotateStep::Compromised,
    };
    let request = RotateRequest {
        step,
        force: args.force,
    };
    let report = event_loop()?.block_on(rotate(&data_dir, request))?;
    output::result(&report, args.common.json)?;
    if report.missing.iter().any(|device| device.why != Some(AWAY)) {
        return Err(GroupError::Unfinished.into());
    }
    Ok(())
}

async fn rotate(data_dir: &Path, request: RotateRequest) -> Result<Report, CliError> {
    let asked = ask_rotate(data_dir, request).await;
    let answer = asked.map_err(StatusError::Client)?;
    let Some(epoch) = answer.epoch else {
        let reason = answer.refused.unwrap_or_default();
        let status = fetch_status(data_dir).await.map_err(StatusError::Client)?;
        let named = answer.not_ready.iter().map(|id| named(&status, id));
        let devices: Vec<String> = named.collect();
        return Err(GroupError::NotRotated { reason, devices }.into());
    };
    let until = Instant::now() + WAIT_MAX;
    loop {
        let status = fetch_status(data_dir).await.map_err(StatusError::Client)?;
        let report = Report::new(request.step, epoch, &status);
        let present = |device: &Device| device.why != Some(AWAY);
        let done = shows(&status, request.step, epoch) && !report.missing.iter().any(present);
        if done || Instant::now() >= until {
            return Ok(report);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a status is of the time after the step.
fn shows(status: &Status, step: RotateStep, epoch: u32) -> bool {
    let mut secrets = status.group.secrets.iter();
    match step {
        RotateStep::Install => secrets.any(|secret| secret.state == SecretState::Staged),
        RotateStep::Use | RotateStep::Compromised => {
            secrets.any(|secret| secret.state == SecretState::Active && secret.epoch == epoch)
        }
        RotateStep::Remove => secrets.all(|secret| secret.state != SecretState::Retiring),
    }
}

fn named(status: &Status, id: &str) -> String {
    let name = status.peers.iter().find(|peer| peer.id == id);
    match name.and_then(|peer| peer.name.as_deref()) {
        Some(name) => format!("{} ({id})", printable(name)),
        None => id.to_owned(),
    }
}

/// A peer's name without control characters, which it may hold.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

const AWAY: &str = "away";
const BEHIND: &str = "has not acknowledged";
const NOT_STORED: &str = "could not store it";
const UNKNOWN: &str = "has not told what it holds";

fn why(peer: &PeerStatus) -> Option<&'static str> {
    match (peer.state, peer.secrets) {
        (PeerState::Missing | PeerState::Left, _) => Some(AWAY),
        (_, PeerSecrets::Current) => None,
        (_, PeerSecrets::Behind) => Some(BEHIND),
        (_, PeerSecrets::NotStored) => Some(NOT_STORED),
        (_, PeerSecrets::Unknown) => Some(UNKNOWN),
    }
}

impl Report {
    fn new(step: RotateStep, epoch: u32, status: &Status) -> Self {
        // Whoever never was a member has no part in it.
        let known = status.peers.iter().filter(|peer| match peer.state {
            PeerState::Known | PeerState::Connecting | PeerState::Denied => false,
            PeerState::Connected
            | PeerState::Member
            | PeerState::Suspect
            | PeerState::Missing
            | PeerState::Left => true,
        });
        let device = |peer: &PeerStatus| Device {
            id: peer.id.clone(),
            name: peer.name.clone(),
            why: why(peer),
        };
        let (acknowledged, missing) = known.map(device).partition(|d: &Device| d.why.is_none());
        Self {
            v: 1,
            step,
            epoch,
            acknowledged,
            missing,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.step {
            RotateStep::Install => "A fresh secret is installed on this device",
            RotateStep::Use => "The fresh secret is in use on this device",
            RotateStep::Remove => "The former secret is removed on this device",
            RotateStep::Compromised => "The stolen secret is replaced on this device",
        };
        let all = self.acknowledged.len() + self.missing.len();
        let (some, epoch) = (self.acknowledged.len(), self.epoch);
        writeln!(f, "{done}; epoch {epoch} is active.")?;
        writeln!(f, "{some} of {all} other devices have acknowledged.")?;
        for device in &self.missing {
            let name = device.name.as_deref().map_or_else(|| "-".into(), printable);
            let why = device.why.unwrap_or_default();
            writeln!(f, "  missing: {name} ({}): {why}", device.id)?;
        }
        write!(f, "\n{}", self.advice())
    }
}

impl Report {
    fn advice(&self) -> &'static str {
        match (self.step, self.missing.is_empty()) {
            (RotateStep::Install, true) => "Next: consort group rotate use",
            (RotateStep::Install, false) => {
                "A missing device gets the secret when it is back, as long as the former one is \
                 not removed.\nNext: consort group rotate use"
            }
            (RotateStep::Use, true) => "Next: consort group rotate remove",
            (RotateStep::Use, false) => {
                "Next: consort group rotate remove, once the missing devices have been back: \
                 whoever lacks the\nfresh secret then needs `consort group join --replace` by hand."
            }
            (RotateStep::Remove, true) => "The rotation is complete.",
            (RotateStep::Remove | RotateStep::Compromised, false) => {
                "A missing device that lacks the secret is locked out. If it belongs to the group, \
                 give it what\n`consort group export` prints here, by `consort group join \
                 --replace` there, and start it anew."
            }
            (RotateStep::Compromised, true) => {
                "Devices that are not allowed by name are locked out. If one belongs to the group, \
                 allow it, and\ngive it what `consort group export` prints here, by `consort group \
                 join --replace` there."
            }
        }
    }
}
