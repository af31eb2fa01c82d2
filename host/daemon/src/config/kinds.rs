//! The kinds of values that settings hold.
//!
//! Each kind is a type that names what it accepts and the sentence that says so. [`Checked`] and
//! [`List`] turn a kind into something that serde reads: whatever does not fit is answered with
//! the value given and that sentence.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::PathBuf;

use super::plugin::Access;
use consort_proto::{ACCESS_MAX, DeviceId};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// A kind of value: what it may be written as, and the sentence that says so.
pub(super) trait Kind: Sized {
    type Value;
    /// Completes "expected …".
    const EXPECTED: &'static str;

    fn from_text(_text: &str) -> Option<Self::Value> {
        None
    }
    fn from_integer(_number: i64) -> Option<Self::Value> {
        None
    }
    fn from_float(_number: f64) -> Option<Self::Value> {
        None
    }
    fn from_bool(_flag: bool) -> Option<Self::Value> {
        None
    }
}

/// A value that satisfies its kind.
#[derive(Debug)]
pub(super) struct Checked<K: Kind>(pub(super) K::Value)
where
    K::Value: fmt::Debug;

impl<'de, K: Kind> Deserialize<'de> for Checked<K>
where
    K::Value: fmt::Debug,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(KindVisitor::<K>(PhantomData))
            .map(Self)
    }
}

struct KindVisitor<K>(PhantomData<K>);

impl<K: Kind> Visitor<'_> for KindVisitor<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let shown: String = text.chars().take(80).collect();
        K::from_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(&shown), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        K::from_integer(number).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        K::from_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        K::from_bool(flag).ok_or_else(|| E::invalid_value(Unexpected::Bool(flag), &self))
    }
}

/// A list with a bounded number of values of one kind.
#[derive(Debug)]
pub(super) struct List<K: ListKind>(pub(super) Vec<K::Value>)
where
    K::Value: fmt::Debug;

/// A kind of value that comes in lists.
pub(super) trait ListKind: Kind {
    const COUNT_MIN: usize;
    const COUNT_MAX: usize;
}

impl<'de, K: ListKind> Deserialize<'de> for List<K>
where
    K::Value: fmt::Debug,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<Checked<K>>::deserialize(deserializer)?;
        if !(K::COUNT_MIN..=K::COUNT_MAX).contains(&values.len()) {
            return Err(D::Error::custom(format_args!(
                "a list of {} values, expected {} to {}, each of them {}",
                values.len(),
                K::COUNT_MIN,
                K::COUNT_MAX,
                K::EXPECTED
            )));
        }
        Ok(Self(values.into_iter().map(|value| value.0).collect()))
    }
}

/// What people call a device.
#[derive(Debug)]
pub(super) enum Name {}

pub(super) const NAME_BYTES_MAX: usize = 64;

impl Kind for Name {
    type Value = String;
    const EXPECTED: &'static str = "a text of 1 to 64 bytes on one line";

    fn from_text(text: &str) -> Option<String> {
        let fits = !text.trim().is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    }
}

#[derive(Debug)]
pub(super) enum Folder {}

impl Kind for Folder {
    type Value = PathBuf;
    const EXPECTED: &'static str =
        "the path of a folder, as text (`~` and variables are not replaced)";

    fn from_text(text: &str) -> Option<PathBuf> {
        let fits = !text.is_empty() && !text.starts_with('~') && !text.contains('\0');
        fits.then(|| PathBuf::from(text))
    }
}

/// A folder that a plugin is granted.
#[derive(Debug)]
pub(super) enum GrantedFolder {}

impl Kind for GrantedFolder {
    type Value = PathBuf;
    const EXPECTED: &'static str = "the path of a folder that begins with `/`";

    fn from_text(text: &str) -> Option<PathBuf> {
        let fits = text.starts_with('/') && !text.contains('\0');
        fits.then(|| PathBuf::from(text))
    }
}

/// A group of this device's users.
#[derive(Debug)]
pub(super) enum SystemGroup {}

impl Kind for SystemGroup {
    type Value = String;
    const EXPECTED: &'static str =
        "the name of a group of users, 1 to 32 of a-z, A-Z, 0-9, `-`, `_`, `.`";

    fn from_text(text: &str) -> Option<String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ((1..=32).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
    }
}

/// What a plugin may do with a folder.
#[derive(Debug)]
pub(super) enum FolderAccess {}

impl Kind for FolderAccess {
    type Value = Access;
    const EXPECTED: &'static str = "\"read\" or \"read-write\"";

    fn from_text(text: &str) -> Option<Access> {
        [Access::Read, Access::ReadWrite]
            .into_iter()
            .find(|access| access.as_str() == text)
    }
}

#[derive(Debug)]
pub(super) enum Port {}

impl Kind for Port {
    type Value = u16;
    const EXPECTED: &'static str = "a port: a whole number from 0 (any free one) to 65535";

    fn from_integer(number: i64) -> Option<u16> {
        u16::try_from(number).ok()
    }
}

#[derive(Debug)]
pub(super) enum FixedPort {}

impl Kind for FixedPort {
    type Value = u16;
    const EXPECTED: &'static str = "a port: a whole number from 1 to 65535";

    fn from_integer(number: i64) -> Option<u16> {
        u16::try_from(number).ok().filter(|port| *port != 0)
    }
}

/// Thousands of bytes a second.
#[derive(Debug)]
pub(super) enum Rate {}

impl Kind for Rate {
    type Value = u32;
    const EXPECTED: &'static str = "thousands of bytes a second: a whole number from 4 to 4000000";

    fn from_integer(number: i64) -> Option<u32> {
        within(number, 4, 4_000_000)
    }
}

/// KiB at once.
#[derive(Debug)]
pub(super) enum Burst {}

impl Kind for Burst {
    type Value = u32;
    const EXPECTED: &'static str = "KiB: a whole number from 4 to 65536";

    fn from_integer(number: i64) -> Option<u32> {
        within(number, 4, 65_536)
    }
}

fn within(number: i64, least: u32, most: u32) -> Option<u32> {
    let number = u32::try_from(number).ok()?;
    (least..=most).contains(&number).then_some(number)
}

#[derive(Debug)]
pub(super) enum Switch {}

impl Kind for Switch {
    type Value = bool;
    const EXPECTED: &'static str = "true or false";

    fn from_bool(flag: bool) -> Option<bool> {
        Some(flag)
    }
}

#[derive(Debug)]
pub(super) enum Priority {}

impl Kind for Priority {
    type Value = i16;
    const EXPECTED: &'static str = "a priority: a whole number from -32768 to 32767";

    fn from_integer(number: i64) -> Option<i16> {
        i16::try_from(number).ok()
    }
}

impl Kind for LogFormat {
    type Value = Self;
    const EXPECTED: &'static str = "\"human\" or \"json\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum ListenAddress {}

impl Kind for ListenAddress {
    type Value = IpAddr;
    const EXPECTED: &'static str =
        "an IP address without port, as \"192.168.1.5\" or \"::\" (the port is network.port)";

    fn from_text(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }
}

impl ListKind for ListenAddress {
    const COUNT_MIN: usize = 1;
    const COUNT_MAX: usize = 16;
}

#[derive(Debug)]
pub(super) enum Seed {}

impl Kind for Seed {
    type Value = String;
    const EXPECTED: &'static str =
        "\"host:port\", as \"192.168.1.5:4747\", \"[fe80::1]:4747\" or \"kitchen.local:4747\"";

    fn from_text(text: &str) -> Option<String> {
        let (host, port) = text.rsplit_once(':')?;
        let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host_fits = match bracketed {
            Some(inner) => inner.split('%').next().is_some_and(is_ipv6),
            None => {
                (1..=253).contains(&host.len())
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            }
        };
        (port_fits && host_fits).then(|| text.to_owned())
    }
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

impl ListKind for Seed {
    const COUNT_MIN: usize = 0;
    const COUNT_MAX: usize = 256;
}

#[derive(Debug)]
pub(super) enum Pattern {}

impl Kind for Pattern {
    type Value = String;
    const EXPECTED: &'static str =
        "the name of an interface, 1 to 32 characters, where `*` stands for any, as \"wlan*\"";

    fn from_text(text: &str) -> Option<String> {
        let fits = (1..=32).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic() && c != '/');
        fits.then(|| text.to_owned())
    }
}

impl ListKind for Pattern {
    const COUNT_MIN: usize = 0;
    const COUNT_MAX: usize = 64;
}

/// A device that is admitted or denied.
#[derive(Debug)]
pub(super) enum Device {}

impl Kind for Device {
    type Value = DeviceId;
    const EXPECTED: &'static str = "the whole id of a device, as `consort status --json` prints it: \
        its last two characters are a check, so one that does not fit is mistyped";

    fn from_text(text: &str) -> Option<DeviceId> {
        text.parse().ok()
    }
}

impl ListKind for Device {
    const COUNT_MIN: usize = 0;
    const COUNT_MAX: usize = ACCESS_MAX;
}

/// A value for a plugin, which gets it as text.
#[derive(Debug)]
pub(super) enum PluginValue {}

impl Kind for PluginValue {
    type Value = String;
    const EXPECTED: &'static str = "a text of at most 4096 bytes, a number, true or false";

    fn from_text(text: &str) -> Option<String> {
        (text.len() <= 4096).then(|| text.to_owned())
    }
    fn from_integer(number: i64) -> Option<String> {
        Some(number.to_string())
    }
    fn from_float(number: f64) -> Option<String> {
        Some(number.to_string())
    }
    fn from_bool(flag: bool) -> Option<String> {
        Some(flag.to_string())
    }
}

const PLUGIN_VALUES_MAX: usize = 256;
const PLUGIN_KEY_BYTES_MAX: usize = 256;

/// Reads a plugin's own table of values, bounded in number and in the length of keys.
pub(super) fn plugin_values<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Checked<PluginValue>>, D::Error> {
    let values = BTreeMap::<String, Checked<PluginValue>>::deserialize(deserializer)?;
    if values.len() > PLUGIN_VALUES_MAX {
        return Err(D::Error::custom(format_args!(
            "{} values, expected at most {PLUGIN_VALUES_MAX}",
            values.len()
        )));
    }
    if values
        .keys()
        .any(|key| key.is_empty() || key.len() > PLUGIN_KEY_BYTES_MAX)
    {
        return Err(D::Error::custom(format_args!(
            "a key of unusual length, expected 1 to {PLUGIN_KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(values)
}
