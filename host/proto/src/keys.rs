//! The group secret, what is derived from it, and a device's own key.
//!
//! A group has one 32-byte secret made by the tool and a 16-byte id that stays for the group's
//! life. Four things are derived from the secret, each under its own label: `kid`, which is sent
//! in clear and says which secret a datagram belongs to; the key that seals beacons; the key of
//! the first message authentication code; and the pre-shared key of the Noise handshake.
//! Passphrases are refused by construction: a sealed beacon would let a stranger test guesses
//! offline.

use core::fmt;
use core::str::FromStr;

use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2sMac, Digest as _};
use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What names a secret in clear.
pub(crate) type Kid = [u8; 4];

/// What tells a secret from every other one, without giving it away. Begins with its [`Kid`].
pub(crate) type Mark = [u8; 16];

/// A device's X25519 secret key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StaticSecret([u8; 32]);

impl StaticSecret {
    /// Takes 32 bytes from a cryptographic generator or the key file.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticSecret(..)")
    }
}

/// What admits a device to a group: the group's id and its secret.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GroupSecret {
    group_id: [u8; 16],
    secret: [u8; 32],
}

/// Why a text is no group secret. The text itself is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseGroupSecretError {
    /// It does not begin with `consort1-`.
    #[error(
        "a group secret begins with \"consort1-\" (a passphrase cannot be one: make a secret with `consort group new`)"
    )]
    Prefix,
    /// It is too short or too long.
    #[error(
        "a group secret has 80 characters after \"consort1-\" (dashes and spaces are ignored), this has {0}"
    )]
    Length(usize),
    /// A character that base32 lacks.
    #[error(
        "a group secret consists of A-Z and 2-7 only; look at character {0} after \"consort1-\""
    )]
    Character(usize),
    /// The check digits do not fit.
    #[error("the check digits do not fit: a character is wrong, or two are swapped")]
    Check,
}

const PREFIX: &str = "consort1-";
const TEXT_CHARS: usize = 80;

impl GroupSecret {
    /// Takes 48 bytes from a cryptographic generator: 16 of the group's id, 32 of its secret.
    #[must_use]
    pub fn from_random(random: &[u8; 48]) -> Self {
        let mut made = Self {
            group_id: [0; 16],
            secret: [0; 32],
        };
        made.group_id.copy_from_slice(&random[..16]);
        made.secret.copy_from_slice(&random[16..]);
        made
    }

    /// Another secret of a group.
    pub(crate) const fn from_parts(group_id: [u8; 16], secret: [u8; 32]) -> Self {
        Self { group_id, secret }
    }

    /// The secret's bytes.
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Names the secret.
    pub(crate) fn mark(&self) -> Mark {
        let mut mark = [0; 16];
        mark.copy_from_slice(&self.derive_key(b"kid")[..16]);
        mark
    }

    /// The id that the group keeps for life.
    #[must_use]
    pub const fn group_id(&self) -> &[u8; 16] {
        &self.group_id
    }

    /// The text to carry to other devices: `consort1-`, then 16 blocks of five characters, the
    /// last three of which are check digits in part.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(50);
        bytes.extend_from_slice(&self.group_id);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.checksum());
        let body = BASE32_NOPAD.encode(&bytes);
        bytes.zeroize();
        let mut text = String::from(PREFIX.trim_end_matches('-'));
        for (i, c) in body.chars().enumerate() {
            if i % 5 == 0 {
                text.push('-');
            }
            text.push(c);
        }
        text
    }

    /// Sixteen bits over the id and the secret, to catch errors of copying.
    fn checksum(&self) -> [u8; 2] {
        let mut hash = blake2::Blake2s256::new();
        blake2::Digest::update(&mut hash, b"consort group text v1");
        blake2::Digest::update(&mut hash, self.group_id);
        blake2::Digest::update(&mut hash, self.secret);
        let digest = hash.finalize();
        [digest[0], digest[1]]
    }

    /// What the protocol uses of the secret.
    #[must_use]
    pub fn derive(&self) -> GroupKeys {
        let mut kid = [0; 4];
        kid.copy_from_slice(&self.derive_key(b"kid")[..4]);
        GroupKeys {
            group_id: self.group_id,
            kid,
            beacon: self.derive_key(b"beacon"),
            mac1: self.derive_key(b"mac1"),
            noise: self.derive_key(b"noise"),
        }
    }

    fn derive_key(&self, label: &[u8]) -> [u8; 32] {
        let mut mac = <Blake2sMac<U32> as KeyInit>::new((&self.secret).into());
        Update::update(&mut mac, b"consort v1 ");
        Update::update(&mut mac, label);
        Update::update(&mut mac, &self.group_id);
        mac.finalize_fixed().into()
    }
}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSecret(..)")
    }
}

impl FromStr for GroupSecret {
    type Err = ParseGroupSecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_lowercase();
        let body = text
            .strip_prefix(PREFIX)
            .ok_or(ParseGroupSecretError::Prefix)?;
        let body: String = body
            .chars()
            .filter(|c| *c != '-' && !c.is_whitespace())
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let chars = body.chars().count();
        if chars != TEXT_CHARS {
            return Err(ParseGroupSecretError::Length(chars));
        }
        let mut bytes = BASE32_NOPAD
            .decode(body.as_bytes())
            .map_err(|e| ParseGroupSecretError::Character(e.position + 1))?;
        let mut random = [0; 48];
        random.copy_from_slice(&bytes[..48]);
        let parsed = Self::from_random(&random);
        let fits = parsed.checksum() == bytes[48..];
        random.zeroize();
        bytes.zeroize();
        if fits {
            Ok(parsed)
        } else {
            Err(ParseGroupSecretError::Check)
        }
    }
}

/// What is derived from a [`GroupSecret`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GroupKeys {
    /// The group's id, part of every handshake's prologue.
    pub(crate) group_id: [u8; 16],
    /// Names the secret in clear.
    pub(crate) kid: Kid,
    /// Seals beacons.
    pub(crate) beacon: [u8; 32],
    /// Keys the first message authentication code of handshake packets.
    pub(crate) mac1: [u8; 32],
    /// The pre-shared key of the handshake.
    pub(crate) noise: [u8; 32],
}

impl fmt::Debug for GroupKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> GroupSecret {
        let mut random = [0; 48];
        for (i, byte) in random.iter_mut().enumerate() {
            *byte = i as u8 * 5;
        }
        GroupSecret::from_random(&random)
    }

    #[test]
    fn a_secret_survives_its_text() {
        let text = secret().to_text();
        assert_eq!(text.len(), PREFIX.len() + TEXT_CHARS + 15, "{text}");
        assert_eq!(text.parse(), Ok(secret()));
        let spoken = text
            .replace("consort1-", "Consort1-")
            .replace('-', " - ")
            .replace("Consort1 - ", "consort1-");
        assert_eq!(spoken.to_lowercase().parse(), Ok(secret()));
    }

    #[test]
    fn errors_say_what_is_wrong_without_repeating_the_text() {
        let parse = |text: &str| text.parse::<GroupSecret>().expect_err("must be refused");
        assert_eq!(
            parse("correct horse battery staple"),
            ParseGroupSecretError::Prefix
        );
        assert_eq!(parse("consort1-abc"), ParseGroupSecretError::Length(3));
        let text = secret().to_text();
        let body_wrong = format!("{}1{}", &text[..10], &text[11..]);
        assert_eq!(parse(&body_wrong), ParseGroupSecretError::Character(2));
        let mut swapped = text.clone().into_bytes();
        swapped.swap(15, 16);
        let swapped = String::from_utf8(swapped).expect("ascii");
        assert_eq!(parse(&swapped), ParseGroupSecretError::Check);
    }

    #[test]
    fn each_label_gives_another_key() {
        let keys = secret().derive();
        assert_ne!(keys.beacon, keys.mac1);
        assert_ne!(keys.mac1, keys.noise);
        assert_ne!(keys.beacon[..4], keys.kid);
    }
}
