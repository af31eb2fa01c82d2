//! A keyring as text, for the file that a device keeps it in.
//!
//! ```text
//! consort-keyring 1
//! floor 2 0123456789abcdef0123456789abcdef
//! 2 retiring consort1-…
//! 3 active restricted consort1-…
//! ```
//!
//! A file of nothing but a group secret is a keyring too: that secret, in epoch 1, active.

use core::fmt::Write as _;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{KeyId, KeyPart, KeyState, Keyring, KeyringError};
use crate::keys::{GroupSecret, ParseGroupSecretError};

const HEAD: &str = "consort-keyring ";
const VERSION: u32 = 1;

/// Why a text is no keyring. What is secret in it is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseKeyringError {
    /// A newer program wrote it.
    #[error(
        "it has form {0}, and this program knows form {VERSION} only: a newer version of consort \
         wrote it; run that version, or a newer one"
    )]
    Newer(u32),
    /// A group secret in it is none.
    #[error(transparent)]
    Secret(#[from] ParseGroupSecretError),
    /// A line does not read as it should.
    #[error("line {0} is damaged")]
    Line(usize),
    /// The lines do not fit each other.
    #[error("{0}")]
    Contents(String),
}

impl From<KeyringError> for ParseKeyringError {
    fn from(error: KeyringError) -> Self {
        Self::Contents(error.to_string())
    }
}

impl Keyring {
    /// The keyring as text, secrets included.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Large enough for all lines, so that no copy is left behind where the text grew.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let floor = HEXLOWER.encode(&self.floor.mark);
        let _ = writeln!(text, "{HEAD}{VERSION}\nfloor {} {floor}", self.floor.epoch);
        for key in &self.keys {
            let state = match self.state(key) {
                KeyState::Staged => "staged",
                KeyState::Active => "active",
                KeyState::Retiring => "retiring",
            };
            let restricted = if key.restricted { " restricted" } else { "" };
            let secret = Zeroizing::new(key.secret.to_text());
            let _ = writeln!(text, "{} {state}{restricted} {}", key.epoch, *secret);
        }
        text
    }
}

impl FromStr for Keyring {
    type Err = ParseKeyringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.trim_start().strip_prefix(HEAD) else {
            return Ok(Self::from(text.parse::<GroupSecret>()?));
        };
        let mut lines = rest.lines();
        let version = lines.next().and_then(|line| line.trim().parse().ok());
        match version {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(ParseKeyringError::Newer(newer)),
            Some(_) | None => return Err(ParseKeyringError::Line(1)),
        }
        let floor = lines.next().and_then(parse_floor);
        let floor = floor.ok_or(ParseKeyringError::Line(2))?;
        let (mut parts, mut active) = (Vec::new(), None);
        for (i, line) in lines
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let (part, is_active) = parse_key(line, i + 3)?;
            if is_active && active.replace(part.secret.mark()).is_some() {
                return Err(ParseKeyringError::Line(i + 3));
            }
            parts.push(part);
        }
        let active = active.ok_or(KeyringError::NoActive)?;
        Ok(Self::from_parts(parts, active, floor)?)
    }
}

fn parse_floor(line: &str) -> Option<KeyId> {
    let (epoch, mark) = line.strip_prefix("floor ")?.split_once(' ')?;
    let mark = HEXLOWER.decode(mark.trim().as_bytes()).ok()?;
    Some(KeyId {
        epoch: epoch.parse().ok()?,
        mark: mark.try_into().ok()?,
    })
}

fn parse_key(line: &str, number: usize) -> Result<(KeyPart, bool), ParseKeyringError> {
    let damaged = || ParseKeyringError::Line(number);
    let (epoch, rest) = line.split_once(' ').ok_or_else(damaged)?;
    let (state, rest) = rest.split_once(' ').ok_or_else(damaged)?;
    if !["staged", "active", "retiring"].contains(&state) {
        return Err(damaged());
    }
    let secret = rest.strip_prefix("restricted ");
    let part = KeyPart {
        epoch: epoch.parse().map_err(|_| damaged())?,
        secret: secret.unwrap_or(rest).parse()?,
        restricted: secret.is_some(),
    };
    Ok((part, state == "active"))
}
