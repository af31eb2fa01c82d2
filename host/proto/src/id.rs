//! Names of things: devices, boots, plugins, versions and the groups they make.
//!
//! A device *is* its X25519 public key. What people see is the [`DeviceId`], a BLAKE2s-160 hash
//! of it in base32 with two check characters. Addresses and names identify nothing.

use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use blake2::digest::consts::{U8, U20};
use blake2::{Blake2s, Digest};
use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::mutant::{self, Mutant};

/// An X25519 public key: what a device is to its peers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PublicKey(#[serde(with = "serde_bytes")] [u8; 32]);

/// Why 32 bytes were refused as a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key is a point of low order: every exchange with it would give a known secret")]
pub struct LowOrderKey;

/// The low-order points of Curve25519 in the encodings that X25519 accepts (RFC 7748, section 6.1;
/// cr.yp.to/ecdh.html lists them). The top bit of the last byte is ignored by X25519.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

impl PublicKey {
    /// Takes a key from the wire or a file.
    ///
    /// # Errors
    /// Refuses points of low order, with any value of the ignored top bit, and the non-canonical
    /// encodings p and p + 1 of the two smallest.
    pub fn new(bytes: [u8; 32]) -> Result<Self, LowOrderKey> {
        let mut masked = bytes;
        masked[31] &= 0x7f;
        let above_p = masked[1..31].iter().all(|b| *b == 0xff) && masked[31] == 0x7f;
        let noncanonical = above_p && masked[0] >= 0xed;
        if noncanonical || LOW_ORDER.contains(&masked) {
            return Err(LowOrderKey);
        }
        Ok(Self(bytes))
    }

    /// The key's 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id under which people know this device.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        let mut hash = Blake2s::<U20>::new();
        hash.update(b"consort device id v1");
        hash.update(self.0);
        DeviceId(hash.finalize().into())
    }
}

/// As bytes. Keys that differ nearly always do so within the first eight, which makes a look-up
/// among a thousand of them some thirty comparisons of numbers.
impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let first = |key: &Self| key.0.first_chunk().map(|first| u64::from_be_bytes(*first));
        first(self)
            .cmp(&first(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: [u8; 32] = serde_bytes::deserialize(deserializer)?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key({})", self.device_id().short())
    }
}

/// A device's identity as text: 32 base32 characters of BLAKE2s-160 over its public key, and two
/// check characters that catch any single wrong or swapped character.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(#[serde(with = "serde_bytes")] [u8; 20]);

/// Why a text is no device id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseDeviceIdError {
    /// It is not as long as an id.
    #[error("a device id has 34 characters (dashes are ignored), this has {0}")]
    Length(usize),
    /// A character that base32 lacks.
    #[error("a device id consists of a-z and 2-7 only")]
    Character,
    /// The check characters do not fit.
    #[error("the check characters do not fit: a character is wrong or two are swapped")]
    Check,
}

const ID_CHARS: usize = 32;

impl DeviceId {
    /// The raw hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// What names the device inside packets.
    pub(crate) fn node(&self) -> NodeId {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        NodeId(u64::from_be_bytes(first))
    }

    /// The first eight characters, for logs.
    #[must_use]
    pub fn short(&self) -> String {
        base32().encode(&self.0[..5])
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = base32().encode(&self.0);
        let check = check_chars(body.as_bytes());
        write!(f, "{body}{}{}", check[0], check[1])
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device({})", self.short())
    }
}

impl FromStr for DeviceId {
    type Err = ParseDeviceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text: String = text
            .trim()
            .chars()
            .filter(|c| *c != '-')
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if text.len() != ID_CHARS + 2 {
            return Err(ParseDeviceIdError::Length(text.chars().count()));
        }
        let (body, check) = text.as_bytes().split_at(ID_CHARS);
        let bytes = base32()
            .decode(body)
            .map_err(|_| ParseDeviceIdError::Character)?;
        if check_chars(body).map(|c| c as u8) != check {
            return Err(ParseDeviceIdError::Check);
        }
        Ok(Self(
            bytes
                .try_into()
                .map_err(|_| ParseDeviceIdError::Character)?,
        ))
    }
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32() -> &'static Encoding {
    static BASE32: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        spec.encoding()
            .expect("a fixed alphabet of 32 distinct symbols")
    });
    &BASE32
}

/// Two check characters over base32 text: weighted sums modulo the prime 1021, so that any one
/// wrong character and any swap of two neighbours change them.
///
/// Used by device ids and by the text form of a group secret.
#[must_use]
pub fn check_chars(body: &[u8]) -> [char; 2] {
    let mut sum: u32 = 0;
    for (position, symbol) in (1u32..).zip(body) {
        let value = match symbol {
            b'a'..=b'z' => symbol - b'a',
            b'2'..=b'7' => symbol - b'2' + 26,
            _ => 0,
        };
        sum = (sum + position * (u32::from(value) + 1)) % 1021;
    }
    [
        char::from(ALPHABET[(sum / 32) as usize]),
        char::from(ALPHABET[(sum % 32) as usize]),
    ]
}

/// The first 8 bytes of a device id: what names a device inside packets and tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NodeId(pub(crate) u64);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32().encode(&self.0.to_be_bytes()[..5]))
    }
}

/// A random number made at every start of a device; it tells one run from the next without any
/// clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// A plugin's id: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or
/// digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PluginId(String);

/// Why a text is no plugin id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no plugin id: use 1 to 64 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit"
)]
pub struct InvalidPluginId(pub String);

impl PluginId {
    /// Checks and takes a plugin's id.
    ///
    /// # Errors
    /// The text is empty, too long, or holds another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidPluginId> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if text.len() > 64 || !begins_well || !text.chars().all(allowed) {
            return Err(InvalidPluginId(text.chars().take(80).collect()));
        }
        Ok(Self(text))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PluginId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A plugin's version, `major.minor.patch`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// Incompatible changes.
    pub major: u32,
    /// Compatible changes; incompatible ones while `major` is 0.
    pub minor: u32,
    /// Repairs.
    pub patch: u32,
}

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no version: write three numbers, as in \"0.1.0\"")]
pub struct InvalidVersion(pub String);

impl Version {
    /// What versions must share to form one group: the major number, for 0.x the minor one too.
    #[must_use]
    pub const fn track(self) -> (u32, u32) {
        if self.major == 0 {
            (0, self.minor)
        } else {
            (self.major, 0)
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion(text.chars().take(40).collect());
        let mut parts = text.split('.').map(str::parse::<u32>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(invalid);
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(version)
        }
    }
}

/// Names the group of a plugin on the wire: 8 bytes of BLAKE2s over its id and version track.
///
/// Devices that run incompatible versions have different group keys and never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKey(pub u64);

impl GroupKey {
    /// The group of all members, whose leader is the reference of the group clock.
    pub const SYSTEM: Self = Self(0);

    /// The group that `plugin` at `version` belongs to.
    #[must_use]
    pub fn new(plugin: &PluginId, version: Version) -> Self {
        let track = version.track();
        let (major, minor) = if mutant::is(Mutant::VersionsMixed) {
            (0, 0)
        } else {
            track
        };
        let mut hash = Blake2s::<U8>::new();
        hash.update(b"consort plugin group v1");
        hash.update(major.to_be_bytes());
        hash.update(minor.to_be_bytes());
        hash.update(plugin.as_str().as_bytes());
        // Zero names the system group.
        Self(u64::from_be_bytes(hash.finalize().into()).max(1))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::SYSTEM {
            f.write_str("system")
        } else {
            write!(f, "{:016x}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(byte: u8) -> DeviceId {
        PublicKey::new([byte; 32])
            .expect("no point of low order")
            .device_id()
    }

    #[test]
    fn a_device_id_survives_its_text() {
        let id = device(7);
        let text = id.to_string();
        assert_eq!(text.len(), 34);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        let dashed = format!("{}-{}", &text[..8], &text[8..]);
        assert_eq!(dashed.parse(), Ok(id));
    }

    #[test]
    fn one_wrong_or_swapped_character_is_caught() {
        let text = device(9).to_string();
        for i in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[i] = if wrong[i] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).expect("ascii");
            assert!(wrong.parse::<DeviceId>().is_err(), "{wrong}");
            if i > 0 && text.as_bytes()[i] != text.as_bytes()[i - 1] {
                let mut swapped = text.clone().into_bytes();
                swapped.swap(i, i - 1);
                let swapped = String::from_utf8(swapped).expect("ascii");
                assert!(swapped.parse::<DeviceId>().is_err(), "{swapped}");
            }
        }
    }

    #[test]
    fn low_order_keys_are_refused() {
        for mut point in LOW_ORDER {
            assert_eq!(PublicKey::new(point), Err(LowOrderKey));
            point[31] |= 0x80;
            assert_eq!(PublicKey::new(point), Err(LowOrderKey));
        }
        let mut p = [0xff; 32];
        p[0] = 0xed;
        p[31] = 0x7f;
        assert_eq!(PublicKey::new(p), Err(LowOrderKey));
    }

    #[test]
    fn plugin_ids_are_checked() {
        for good in ["a", "heartbeat", "my-app_2.x", "0"] {
            assert!(PluginId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "A", "a b", "a/b", "ä", "a:b"] {
            assert!(PluginId::new(bad).is_err(), "{bad}");
        }
        assert!(PluginId::new("a".repeat(65)).is_err());
    }

    #[test]
    fn versions_group_by_track() {
        let plugin = PluginId::new("app").expect("valid");
        let key = |text: &str| GroupKey::new(&plugin, text.parse().expect("valid"));
        assert_eq!(key("0.1.0"), key("0.1.9"));
        assert_ne!(key("0.1.0"), key("0.2.0"));
        assert_eq!(key("1.1.0"), key("1.9.3"));
        assert_ne!(key("1.0.0"), key("2.0.0"));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.2.-3"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
