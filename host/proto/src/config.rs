//! What a node is given at its start.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Access;
use crate::crypto::Crypto;
use crate::event::Address;
use crate::id::{GroupKey, Version};
use crate::keyring::Keyring;
use crate::keys::StaticSecret;

/// A node's settings. All are fixed for the node's life.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Shown to people; at most 64 bytes, longer names are cut. Not unique.
    pub name: String,
    /// Admits to a group; a [`crate::GroupSecret`] makes one. Without it the device is a group of
    /// one and sends nothing.
    pub group: Option<Keyring>,
    /// This program's version, shown in device records.
    pub version: Version,
    /// The UDP port this device listens on, told in beacons. Only a hint: the source address of a
    /// packet counts.
    pub port: u16,
    /// Whether this device has AES in hardware; where both sides have it, sessions use AES-GCM,
    /// else ChaCha20-Poly1305.
    pub aes_in_hardware: bool,
    /// Addresses at which members may be found. The node says HELLO to each until it is a member.
    pub seeds: Vec<Address>,
    /// Which devices are admitted, until [`crate::Command::Access`] changes it.
    pub access: Access,
    /// The primitives of the handshake and the sessions.
    pub crypto: Arc<dyn Crypto>,
    /// What plugins' messages may take of the network.
    pub send_rate: SendRate,
}

/// The credit of all plugins' messages together. What plugins send beyond it waits, up to 512 KiB
/// for each peer and 16 MiB in all, and is dropped beyond that. Nothing else counts against it, so
/// a link should carry more than this: then heartbeats and probes pass a plugin's flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRate {
    /// Bytes of UDP payload per second to all peers together. 25 MB/s, a fifth of a gigabit link;
    /// at least 4 KB/s count.
    pub bytes_per_second: u32,
    /// The same to one peer. 12.5 MB/s; at least 4 KB/s count.
    pub peer_bytes_per_second: u32,
    /// Bytes at once after a pause, to one peer and to all together. 256 KiB; at least 4 KiB count.
    /// A broadcast that needs more than what is left of it goes through the fan-out tree.
    pub burst: u32,
}

impl Default for SendRate {
    fn default() -> Self {
        Self {
            bytes_per_second: 25_000_000,
            peer_bytes_per_second: 12_500_000,
            burst: 256 << 10,
        }
    }
}

impl SendRate {
    /// With the least values that let every datagram pass.
    pub(crate) fn clamped(self) -> Self {
        Self {
            bytes_per_second: self.bytes_per_second.max(4_000),
            peer_bytes_per_second: self.peer_bytes_per_second.max(4_000),
            burst: self.burst.max(4 << 10),
        }
    }
}

/// What a node remembers from earlier runs.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The device's key.
    pub secret: StaticSecret,
    /// How often this device has been started, this start included. Must have reached the disk
    /// before the node is made. Only the low 22 bits count on the wire.
    pub boot_counter: u64,
    /// Ceilings of the epochs claimed in earlier runs.
    pub epoch_ceilings: Vec<(GroupKey, u64)>,
    /// Where members were reached before.
    pub addresses: Vec<Address>,
    /// The state that was kept, by group: what [`crate::StoreRecord::State`] left.
    pub state: Vec<StoredState>,
}

/// One group's kept state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Which group.
    pub group: GroupKey,
    /// Keys and what is under them.
    pub records: Vec<(Bytes, Bytes)>,
}
