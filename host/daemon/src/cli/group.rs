//! `consort group`: the secret that admits devices to a group.
//!
//! The secret is taken from a prompt or from standard input and never from an argument, which other
//! users of the machine could read; only `export` prints it.

use std::fmt;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use clap::Subcommand;
use consort_proto::{GroupSecret, Keyring, ParseGroupSecretError};
use serde::{Serialize, Serializer};
use thiserror::Error;
use zeroize::Zeroizing;

use super::settings::PlaceFlags;
use super::{CliError, output, prompt, rotate};
use crate::control::types::{SecretState, SecretStatus};
use crate::exit_code::ExitCode;
use crate::secrets::{self, GROUP_SECRET_FILE};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new group with this device as its first member.
    New {
        /// Leave the group this device belongs to, for good.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show which group this device belongs to, without the secret.
    Show {
        #[command(flatten)]
        common: Common,
    },
    /// Print the secret, to be given to `consort group join` on another device.
    Export {
        #[command(flatten)]
        common: Common,
    },
    /// Replace the secret of the whole group, step by step, by the daemon that runs here.
    Rotate(rotate::Args),
    /// Take the secret from a prompt, or from standard input, and belong to its group.
    Join {
        /// Leave the group this device belongs to, for good.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) place: PlaceFlags,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Why a group command failed. Nothing has been changed but where it says so.
#[derive(Debug, Error)]
pub(crate) enum GroupError {
    /// There is no secret to export.
    #[error(
        "this device belongs to no group; make one with `consort group new`, or give it the secret \
         of one with `consort group join`"
    )]
    NoGroup,
    /// What was given is no secret.
    #[error("this is no group secret: {0}")]
    Refused(#[from] ParseGroupSecretError),
    /// Nothing was given.
    #[error(
        "no group secret was given; pass on the text that `consort group export` prints on a \
         member, as in `consort group join < secret.txt`"
    )]
    Nothing,
    /// Far more was given than a secret.
    #[error("what was given is far longer than a group secret")]
    TooLong,
    /// A step of a rotation was refused.
    #[error("{reason}{}", listed(devices))]
    NotRotated {
        /// The daemon's reason.
        reason: String,
        /// The devices that are not ready.
        devices: Vec<String>,
    },
    /// A step was taken here, and not acknowledged by all who are present.
    #[error(
        "not all devices that are present have acknowledged; they are told until they do, and \
         `consort status` says how far they are"
    )]
    Unfinished,
    /// Neither the terminal nor standard input could be read.
    #[error("cannot read the group secret: {0}")]
    Input(#[source] io::Error),
}

impl GroupError {
    pub(super) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unfinished => ExitCode::ExpectationNotMet,
            Self::NoGroup
            | Self::Refused(_)
            | Self::Nothing
            | Self::TooLong
            | Self::NotRotated { .. }
            | Self::Input(_) => ExitCode::Failed,
        }
    }
}

/// Which devices hold a step up, and what helps.
fn listed(devices: &[String]) -> String {
    if devices.is_empty() {
        return String::new();
    }
    format!(
        ":\n  {}\nThey are told until they have stored it; look why they have not with `consort \
         status`, or pass over\nthem with --force",
        devices.join("\n  ")
    )
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    match args.action {
        Action::New { replace, common } => new(replace, &common),
        Action::Show { common } => show(&common),
        Action::Export { common } => export(&common),
        Action::Join { replace, common } => join(replace, &common),
        Action::Rotate(args) => rotate::run(&args),
    }
}

/// What all group commands print with `--json`.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    /// The group's id; null without a group.
    group_id: Option<String>,
    /// Eight characters that are the same where the secret is the same.
    fingerprint: Option<String>,
    /// Where the secret is stored.
    file: Option<String>,
    /// The secrets by epoch, oldest first.
    secrets: Vec<SecretStatus>,
    /// The secret, with `export` alone.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    secret: Option<Zeroizing<String>>,
    #[serde(skip)]
    advice: &'static str,
}

impl Report {
    fn new(keyring: Option<&Keyring>, data_dir: &Path, advice: &'static str) -> Self {
        let secret = keyring.map(Keyring::active_secret);
        Self {
            v: 1,
            group_id: secret.map(secrets::group_id),
            fingerprint: secret.map(secrets::fingerprint),
            file: secret.map(|_| data_dir.join(GROUP_SECRET_FILE).display().to_string()),
            secrets: keyring
                .map(|keyring| keyring.entries().map(Into::into).collect())
                .unwrap_or_default(),
            secret: None,
            advice,
        }
    }
}

fn exposed<S: Serializer>(
    secret: &Option<Zeroizing<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret
        .as_ref()
        .map(|secret| secret.as_str())
        .serialize(serializer)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(id), Some(fingerprint), Some(file)) =
            (&self.group_id, &self.fingerprint, &self.file)
        {
            writeln!(f, "group        {id}")?;
            writeln!(
                f,
                "fingerprint  {fingerprint}  (the same on every device of the group)"
            )?;
            writeln!(f, "secret in    {file}")?;
        }
        if self.secrets.len() > 1 {
            for secret in &self.secrets {
                let state = match secret.state {
                    SecretState::Staged => "staged: accepted, not used yet",
                    SecretState::Active => "active",
                    SecretState::Retiring => "retiring: accepted, not used any more",
                };
                writeln!(f, "epoch {:<6} {state}", secret.epoch)?;
            }
        }
        if self.advice.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.advice)
        }
    }
}

const AFTER_NEW: &str = "\
This device is the group's first. To add another device:
  1. here:   consort group export     shows the secret; carry it over a way you trust
  2. there:  consort group join       asks for it
A daemon that is running takes the secret at its next start.";

const AFTER_JOIN: &str = "\
This device belongs to the group. A daemon that is running takes the secret at its next start;
the fingerprint must be the same as the one `consort group show` prints on the other devices.";

const WITHOUT: &str = "\
This device belongs to no group: it runs its plugins alone and sends nothing.
Make a group with `consort group new`, or belong to one with `consort group join`.";

fn new(replace: bool, common: &Common) -> Result<(), CliError> {
    let data_dir = common.place.resolve()?.config.data_dir;
    let secret = secrets::new_group_secret()?;
    secrets::store_group_secret(&data_dir, &secret, replace)?;
    output::result(
        &Report::new(Some(&secret.into()), &data_dir, AFTER_NEW),
        common.json,
    )
}

fn show(common: &Common) -> Result<(), CliError> {
    let data_dir = common.place.resolve()?.config.data_dir;
    let keyring = secrets::group_keyring(&data_dir)?;
    let advice = if keyring.is_some() { "" } else { WITHOUT };
    output::result(
        &Report::new(keyring.as_ref(), &data_dir, advice),
        common.json,
    )
}

fn export(common: &Common) -> Result<(), CliError> {
    let data_dir = common.place.resolve()?.config.data_dir;
    let keyring = secrets::group_keyring(&data_dir)?.ok_or(GroupError::NoGroup)?;
    let text = Zeroizing::new(keyring.active_secret().to_text());
    if !common.json {
        return output::text(&text);
    }
    let mut report = Report::new(Some(&keyring), &data_dir, "");
    report.secret = Some(text);
    output::object(&report)
}

fn join(replace: bool, common: &Common) -> Result<(), CliError> {
    let data_dir = common.place.resolve()?.config.data_dir;
    let secret = read_secret()?;
    secrets::store_group_secret(&data_dir, &secret, replace)?;
    output::result(
        &Report::new(Some(&secret.into()), &data_dir, AFTER_JOIN),
        common.json,
    )
}

/// Far longer than a secret with every kind of spacing in it.
const INPUT_BYTES_MAX: u64 = 4096;

fn read_secret() -> Result<GroupSecret, GroupError> {
    let stdin = io::stdin();
    let text = if stdin.is_terminal() {
        prompt::hidden("Group secret (not shown): ").map_err(GroupError::Input)?
    } else {
        let mut text = Zeroizing::new(String::with_capacity(INPUT_BYTES_MAX as usize));
        let mut bounded = stdin.lock().take(INPUT_BYTES_MAX);
        bounded
            .read_to_string(&mut text)
            .map_err(GroupError::Input)?;
        text
    };
    if text.trim().is_empty() {
        return Err(GroupError::Nothing);
    }
    if text.len() as u64 >= INPUT_BYTES_MAX {
        return Err(GroupError::TooLong);
    }
    Ok(text.parse()?)
}
