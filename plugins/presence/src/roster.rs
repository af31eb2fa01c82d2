//! Who there is, and how they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use consort_plugin::config::ParseError;
use consort_plugin::{DeviceId, payload};
use serde::{Deserialize, Serialize};

const STATUS_MAX: usize = 200;

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    name: String,
    status: String,
}

impl Status {
    pub(crate) fn new(name: String, status: String) -> Result<Self, ParseError> {
        if status.is_empty() || status.len() > STATUS_MAX || status.contains(char::is_control) {
            let allowed = format!("1 to {STATUS_MAX} bytes on one line are allowed");
            return Err(ParseError::new("status", &status, &allowed));
        }
        Ok(Self { name, status })
    }
}

/// A device in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Here(Status),
    Away(Status),
}

/// Everyone who ever said how it is.
#[derive(Debug, Default)]
pub(crate) struct Roster(BTreeMap<DeviceId, Entry>);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Here(DeviceId, Status),
    Away(DeviceId, Status),
    Forgotten(DeviceId),
    /// How many are here, of how many.
    Count(usize, usize),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(device, Status { name, status }) => {
                write!(f, "here {device} {name}: {status}")
            }
            Self::Away(device, Status { name, .. }) => write!(f, "away {device} {name}"),
            Self::Forgotten(device) => write!(f, "forgotten {device}"),
            Self::Count(here, known) => write!(f, "here={here} known={known}"),
        }
    }
}

impl Roster {
    /// Takes what is known by now: what devices said, and who is in the group. Gives what changed.
    /// Who is in the group and has said nothing yet is not listed, nor is who says what this
    /// version does not understand.
    pub(crate) fn update(
        &mut self,
        said: &[(DeviceId, Vec<u8>)],
        here: BTreeSet<DeviceId>,
    ) -> Vec<Line> {
        let said = said.iter().filter_map(|(device, value)| {
            let status = payload::decode(value).ok()?;
            let entry = if here.contains(device) {
                Entry::Here(status)
            } else {
                Entry::Away(status)
            };
            Some((device.clone(), entry))
        });
        let before = std::mem::replace(&mut self.0, said.collect());
        let mut lines: Vec<Line> = self
            .0
            .iter()
            .filter(|(device, entry)| before.get(*device) != Some(*entry))
            .map(|(device, entry)| match entry {
                Entry::Here(status) => Line::Here(device.clone(), status.clone()),
                Entry::Away(status) => Line::Away(device.clone(), status.clone()),
            })
            .collect();
        let gone = before
            .into_keys()
            .filter(|device| !self.0.contains_key(device));
        lines.extend(gone.map(Line::Forgotten));
        if !lines.is_empty() {
            let here = self.0.values().filter(|e| matches!(e, Entry::Here(_)));
            lines.push(Line::Count(here.count(), self.0.len()));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text)
    }

    fn status(text: &str) -> Status {
        Status::new(format!("name of {text}"), text.to_owned()).unwrap()
    }

    fn says(device: &str, text: &str) -> (DeviceId, Vec<u8>) {
        (id(device), payload::encode(&status(text)).unwrap())
    }

    fn here(devices: &[&str]) -> BTreeSet<DeviceId> {
        devices.iter().map(|device| id(device)).collect()
    }

    #[test]
    fn what_changed_is_told_once() {
        let mut roster = Roster::default();
        let said = [says("a", "well")];
        let expected = [Line::Here(id("a"), status("well")), Line::Count(1, 1)];
        assert_eq!(roster.update(&said, here(&["a", "b"])), expected);
        assert_eq!(roster.update(&said, here(&["a", "b"])), []);
        let said = [says("a", "tired"), says("b", "well")];
        let expected = [
            Line::Here(id("a"), status("tired")),
            Line::Here(id("b"), status("well")),
            Line::Count(2, 2),
        ];
        assert_eq!(roster.update(&said, here(&["a", "b"])), expected);
    }

    #[test]
    fn who_is_away_stays_listed_until_its_status_is_gone() {
        let mut roster = Roster::default();
        let said = [says("a", "well"), says("b", "well")];
        roster.update(&said, here(&["a", "b"]));
        let away = [Line::Away(id("b"), status("well")), Line::Count(1, 2)];
        assert_eq!(roster.update(&said, here(&["a"])), away);
        let back = [Line::Here(id("b"), status("well")), Line::Count(2, 2)];
        assert_eq!(roster.update(&said, here(&["a", "b"])), back);
        let gone = [Line::Forgotten(id("b")), Line::Count(1, 1)];
        assert_eq!(roster.update(&said[..1], here(&["a"])), gone);
    }

    #[test]
    fn what_is_no_status_is_not_listed() {
        let mut roster = Roster::default();
        let said = [(id("a"), vec![0xc1]), says("b", "well")];
        let expected = [Line::Here(id("b"), status("well")), Line::Count(1, 1)];
        assert_eq!(roster.update(&said, here(&["a", "b"])), expected);
    }

    #[test]
    fn a_status_has_one_line() {
        for wrong in ["", "a\nb", &"x".repeat(201)] {
            assert!(Status::new("n".to_owned(), wrong.to_owned()).is_err());
        }
        let lines = [
            Line::Here(id("a"), status("well")),
            Line::Away(id("a"), status("well")),
            Line::Forgotten(id("a")),
            Line::Count(1, 2),
        ];
        let expected = [
            "here a name of well: well",
            "away a name of well",
            "forgotten a",
            "here=1 known=2",
        ];
        assert_eq!(lines.map(|line| line.to_string()), expected);
    }
}
