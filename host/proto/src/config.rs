//! What a node is given at its start.

use std::sync::Arc;

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
}
