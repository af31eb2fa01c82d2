//! Sealed beacons: how a device says where it is, to those who hold the group secret only.
//!
//! A stranger learns the four bytes that name the secret, the size (always the same), the timing
//! and the addresses. A beacon is a hint: it may start a handshake and nothing else, for a recorded
//! one can be replayed by anyone.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use thiserror::Error;

use crate::id::{BootId, LowOrderKey, PublicKey};
use crate::keys::{GroupKeys, Kid};
use crate::wire::header::{BEACON_LEN, Flags, Kind, TAG_LEN, is_beacon};

const KID: usize = 1;
const NONCE: usize = 5;
const BODY: usize = 29;
const TAG: usize = BEACON_LEN - TAG_LEN;
/// Zero when sent, ignored when read.
const RESERVED_LEN: usize = 16;

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beacon {
    /// Who it is.
    pub(crate) key: PublicKey,
    /// Which of its runs this is.
    pub(crate) boot: BootId,
    /// Grows with each beacon of a run.
    pub(crate) seq: u64,
    /// The UDP port it listens on. Only a hint: the source address of the packet counts.
    pub(crate) port: u16,
    /// The versions it speaks and what it can do.
    pub(crate) flags: Flags,
}

/// Why a datagram was refused as a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BeaconError {
    /// It is no beacon by its first byte and size.
    #[error("no beacon")]
    Malformed,
    /// It was sealed under another secret.
    #[error("a beacon of another group, or of a device with another group secret")]
    OtherGroup,
    /// It was changed on the way or made by somebody without the secret.
    #[error("a beacon that was not sealed with the group secret")]
    Forged,
    /// A member advertises a key that nobody may use.
    #[error("a beacon whose device key is unusable")]
    LowOrderKey(#[from] LowOrderKey),
}

/// Seals a beacon with a random nonce, under the lowest version that its device speaks.
pub(crate) fn seal(keys: &GroupKeys, rng: &mut ChaCha12Rng, beacon: &Beacon) -> [u8; BEACON_LEN] {
    let mut packet = [0; BEACON_LEN];
    packet[0] = beacon.flags.versions().0 << 4 | (Kind::Beacon.first_byte() & 0x0f);
    packet[KID..NONCE].copy_from_slice(&keys.kid);
    rng.fill_bytes(&mut packet[NONCE..BODY]);
    write_body(beacon, &mut packet[BODY..TAG]);
    let (header, rest) = packet.split_at_mut(BODY);
    let (body, tag) = rest.split_at_mut(TAG - BODY);
    let sealed = XChaCha20Poly1305::new((&keys.beacon).into())
        .encrypt_in_place_detached(header[NONCE..].into(), header, body)
        .expect("a beacon is far shorter than the cipher's limit");
    tag.copy_from_slice(&sealed);
    packet
}

/// The secret that a datagram of a beacon's size says it is sealed under.
pub(crate) fn kid(datagram: &[u8]) -> Option<Kid> {
    is_beacon(datagram).then(|| array(&datagram[KID..NONCE]))
}

/// Opens a beacon that was sealed with the same secret, of whichever version.
///
/// # Errors
/// The datagram is no beacon, of another group, forged, or names an unusable key.
pub(crate) fn open(keys: &GroupKeys, datagram: &[u8]) -> Result<Beacon, BeaconError> {
    if !is_beacon(datagram) {
        return Err(BeaconError::Malformed);
    }
    if datagram[KID..NONCE] != keys.kid {
        return Err(BeaconError::OtherGroup);
    }
    let (header, rest) = datagram.split_at(BODY);
    let (sealed, tag) = rest.split_at(TAG - BODY);
    let mut body = [0; TAG - BODY];
    body.copy_from_slice(sealed);
    XChaCha20Poly1305::new((&keys.beacon).into())
        .decrypt_in_place_detached(header[NONCE..].into(), header, &mut body, tag.into())
        .map_err(|_| BeaconError::Forged)?;
    read_body(&body)
}

fn write_body(beacon: &Beacon, body: &mut [u8]) {
    body[..32].copy_from_slice(beacon.key.as_bytes());
    body[32..40].copy_from_slice(&beacon.boot.0.to_le_bytes());
    body[40..48].copy_from_slice(&beacon.seq.to_le_bytes());
    body[48..50].copy_from_slice(&beacon.port.to_le_bytes());
    body[50..56].copy_from_slice(&beacon.flags.to_bytes());
    body[56..].copy_from_slice(&[0; RESERVED_LEN]);
}

fn read_body(body: &[u8; TAG - BODY]) -> Result<Beacon, BeaconError> {
    Ok(Beacon {
        key: PublicKey::new(array(&body[..32]))?,
        boot: BootId(u64::from_le_bytes(array(&body[32..40]))),
        seq: u64::from_le_bytes(array(&body[40..48])),
        port: u16::from_le_bytes(array(&body[48..50])),
        flags: Flags::from_bytes(array(&body[50..56])),
    })
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller slices by constants")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::keys::GroupSecret;

    fn keys(byte: u8) -> GroupKeys {
        GroupSecret::from_random(&[byte; 48]).derive()
    }

    fn beacon() -> Beacon {
        Beacon {
            key: PublicKey::new([7; 32]).expect("no point of low order"),
            boot: BootId(0x0102_0304_0506_0708),
            seq: 9,
            port: 5678,
            flags: Flags::new(true),
        }
    }

    #[test]
    fn a_beacon_survives_sealing() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let sealed = seal(&keys(1), &mut rng, &beacon());
        assert_eq!(open(&keys(1), &sealed), Ok(beacon()));
        assert_ne!(
            seal(&keys(1), &mut rng, &beacon()),
            sealed,
            "each has a nonce of its own"
        );
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        assert_eq!(
            seal(&keys(1), &mut rng, &beacon()),
            sealed,
            "one seed, the same bytes"
        );
    }

    #[test]
    fn any_other_datagram_is_refused() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let sealed = seal(&keys(1), &mut rng, &beacon());
        assert_eq!(open(&keys(2), &sealed), Err(BeaconError::OtherGroup));
        assert_eq!(kid(&sealed), Some(keys(1).kid));
        let mut other = keys(1);
        other.beacon = [3; 32];
        assert_eq!(open(&other, &sealed), Err(BeaconError::Forged));
        for position in 0..BEACON_LEN {
            let mut wrong = sealed;
            wrong[position] ^= 0x40;
            assert!(open(&keys(1), &wrong).is_err(), "byte {position}");
            assert_eq!(
                open(&keys(1), &sealed[..position]),
                Err(BeaconError::Malformed)
            );
        }
        for _ in 0..1000 {
            let mut noise = [0; BEACON_LEN];
            rng.fill_bytes(&mut noise);
            noise[0] = Kind::Beacon.first_byte();
            noise[KID..NONCE].copy_from_slice(&keys(1).kid);
            assert_eq!(open(&keys(1), &noise), Err(BeaconError::Forged));
        }
    }

    #[test]
    fn a_key_of_low_order_is_refused() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let keys = keys(1);
        let mut packet = [0; BEACON_LEN];
        packet[0] = Kind::Beacon.first_byte();
        packet[KID..NONCE].copy_from_slice(&keys.kid);
        rng.fill_bytes(&mut packet[NONCE..BODY]);
        let (header, rest) = packet.split_at_mut(BODY);
        let (body, tag) = rest.split_at_mut(TAG - BODY);
        let sealed = XChaCha20Poly1305::new((&keys.beacon).into())
            .encrypt_in_place_detached(header[NONCE..].into(), header, body)
            .expect("short");
        tag.copy_from_slice(&sealed);
        assert_eq!(
            open(&keys, &packet),
            Err(BeaconError::LowOrderKey(LowOrderKey))
        );
    }
}
