//! The first byte of every datagram, the sizes of the packets, and what a device advertises of its
//! protocol.
//!
//! The first byte holds the protocol version in its high nibble and the kind in its low one. Every
//! kind but data has one fixed size, so that a datagram of another size is refused unread. All
//! integers are little-endian.

use serde::{Deserialize, Serialize};

/// The only version of the protocol that this program speaks.
pub(crate) const VERSION: u8 = 1;

/// The size of a sealed beacon.
pub(crate) const BEACON_LEN: usize = 117;
/// The size of a handshake's first message.
pub(crate) const INIT_LEN: usize = 160;
/// The size of a handshake's second message.
pub(crate) const RESPONSE_LEN: usize = 96;
/// The size of a cookie reply.
pub(crate) const COOKIE_LEN: usize = 60;
/// Bytes before a data packet's ciphertext: kind, receiver index, counter.
pub(crate) const DATA_HEADER_LEN: usize = 12;
/// The size of the authentication tag of every cipher in use.
pub(crate) const TAG_LEN: usize = 16;
/// What a data packet costs beyond its plaintext.
pub(crate) const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;
/// The largest datagram that is accepted: what an Ethernet frame carries over IPv6. Senders stay
/// below [`crate::MAX_DATAGRAM`].
pub(crate) const ACCEPTED_LEN_MAX: usize = 1452;

/// A cipher with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// AES-256-GCM with SHA-256, for processors that have both in hardware.
    AesGcm,
    /// ChaCha20-Poly1305 with BLAKE2s, for all others.
    ChaChaPoly,
}

/// What a datagram claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sealed beacon.
    Beacon,
    /// A handshake's first message.
    Init(Suite),
    /// A handshake's second message.
    Response,
    /// A cookie reply.
    Cookie,
    /// A packet of a session.
    Data,
    /// Another version, another kind, or a size that the kind does not have.
    Unknown,
}

impl Kind {
    /// The first byte of this kind of datagram.
    ///
    /// # Panics
    /// [`Kind::Unknown`] is never sent.
    pub(crate) const fn first_byte(self) -> u8 {
        let kind = match self {
            Self::Beacon => 1,
            Self::Init(Suite::AesGcm) => 2,
            Self::Init(Suite::ChaChaPoly) => 3,
            Self::Response => 4,
            Self::Cookie => 5,
            Self::Data => 6,
            Self::Unknown => panic!("a datagram of unknown kind is never sent"),
        };
        VERSION << 4 | kind
    }
}

/// Tells what a datagram claims to be, by its first byte and its size.
pub(crate) fn classify(datagram: &[u8]) -> Kind {
    let Some(first) = datagram.first() else {
        return Kind::Unknown;
    };
    if first >> 4 != VERSION {
        return Kind::Unknown;
    }
    match (first & 0x0f, datagram.len()) {
        (1, BEACON_LEN) => Kind::Beacon,
        (2, INIT_LEN) => Kind::Init(Suite::AesGcm),
        (3, INIT_LEN) => Kind::Init(Suite::ChaChaPoly),
        (4, RESPONSE_LEN) => Kind::Response,
        (5, COOKIE_LEN) => Kind::Cookie,
        (6, DATA_OVERHEAD..=ACCEPTED_LEN_MAX) => Kind::Data,
        _ => Kind::Unknown,
    }
}

/// Whether a datagram is a beacon, of whichever version: a beacon says which versions its device
/// speaks, so its form is the same in all of them.
pub(crate) fn is_beacon(datagram: &[u8]) -> bool {
    let beacon = Kind::Beacon.first_byte() & 0x0f;
    let kind = datagram.first().map(|first| first & 0x0f);
    kind == Some(beacon) && datagram.len() == BEACON_LEN
}

/// What a device advertises of its protocol: the versions it speaks and what it can do.
///
/// Both are part of the prologue of every handshake to the device, so that nobody can talk two
/// devices down to less than both are able to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Flags {
    version_min: u8,
    version_max: u8,
    bits: u32,
}

const AES_IN_HARDWARE: u32 = 1;

impl Flags {
    /// The size of the flags on the wire.
    pub(crate) const LEN: usize = 6;

    /// What this program advertises.
    pub(crate) const fn new(aes_in_hardware: bool) -> Self {
        let bits = if aes_in_hardware { AES_IN_HARDWARE } else { 0 };
        Self {
            version_min: VERSION,
            version_max: VERSION,
            bits,
        }
    }

    /// Takes the flags from the wire: lowest and highest version, then 32 bits of which unknown
    /// ones are kept as they are.
    pub(crate) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [version_min, version_max, a, b, c, d] = bytes;
        Self {
            version_min,
            version_max,
            bits: u32::from_le_bytes([a, b, c, d]),
        }
    }

    /// The flags as they are on the wire.
    pub(crate) const fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.bits.to_le_bytes();
        [self.version_min, self.version_max, a, b, c, d]
    }

    /// What a program that speaks this version alone advertises.
    pub(crate) const fn of_version(self, version: u8) -> Self {
        Self {
            version_min: version,
            version_max: version,
            bits: self.bits,
        }
    }

    /// The lowest version and the highest.
    pub(crate) const fn versions(self) -> (u8, u8) {
        (self.version_min, self.version_max)
    }

    /// Whether the device speaks the version of this program.
    pub(crate) const fn speaks_our_version(self) -> bool {
        self.version_min <= VERSION && VERSION <= self.version_max
    }

    /// The suite for a handshake between two devices: AES only where both have it in hardware.
    pub(crate) const fn suite_with(self, other: Self) -> Suite {
        if self.bits & other.bits & AES_IN_HARDWARE != 0 {
            Suite::AesGcm
        } else {
            Suite::ChaChaPoly
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(Kind, usize); 5] = [
        (Kind::Beacon, BEACON_LEN),
        (Kind::Init(Suite::AesGcm), INIT_LEN),
        (Kind::Init(Suite::ChaChaPoly), INIT_LEN),
        (Kind::Response, RESPONSE_LEN),
        (Kind::Cookie, COOKIE_LEN),
    ];

    #[test]
    fn a_kind_is_known_by_first_byte_and_size() {
        for (kind, len) in SIZES {
            let mut datagram = vec![0; len];
            datagram[0] = kind.first_byte();
            assert_eq!(classify(&datagram), kind);
            assert_eq!(classify(&datagram[..len - 1]), Kind::Unknown);
            datagram.push(0);
            assert_eq!(classify(&datagram), Kind::Unknown);
        }
        let mut data = vec![0; ACCEPTED_LEN_MAX + 1];
        data[0] = Kind::Data.first_byte();
        assert_eq!(classify(&data), Kind::Unknown);
        assert_eq!(classify(&data[..ACCEPTED_LEN_MAX]), Kind::Data);
        assert_eq!(classify(&data[..DATA_OVERHEAD]), Kind::Data);
        assert_eq!(classify(&data[..DATA_OVERHEAD - 1]), Kind::Unknown);
        assert_eq!(classify(&[]), Kind::Unknown);
    }

    #[test]
    fn another_version_is_unknown() {
        let mut datagram = [0; INIT_LEN];
        for version in (0..16).filter(|version| *version != VERSION) {
            datagram[0] = version << 4 | 2;
            assert_eq!(classify(&datagram), Kind::Unknown);
        }
    }

    #[test]
    fn flags_survive_the_wire_and_choose_the_suite() {
        let unknown = Flags::from_bytes([1, 3, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(Flags::from_bytes(unknown.to_bytes()), unknown);
        assert!(unknown.speaks_our_version());
        assert!(!Flags::from_bytes([2, 3, 0, 0, 0, 0]).speaks_our_version());
        assert!(!Flags::from_bytes([0, 0, 0, 0, 0, 0]).speaks_our_version());
        let (with, without) = (Flags::new(true), Flags::new(false));
        assert_eq!(with.suite_with(unknown), Suite::AesGcm);
        assert_eq!(with.suite_with(without), Suite::ChaChaPoly);
        assert_eq!(without.suite_with(with), Suite::ChaChaPoly);
    }
}
