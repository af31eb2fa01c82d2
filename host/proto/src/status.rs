//! What a node shows of itself to observers: a snapshot of plain data.

use core::time::Duration;

use crate::event::PluginSpec;
use crate::id::{DeviceId, Version};
use crate::keyring::KeyEntry;

/// A node's state at one instant.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// This device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Whether it has a group secret.
    pub has_group: bool,
    /// The group's secrets on this device; none without a group.
    pub keyring: Option<KeyringStatus>,
    /// The other devices it knows, ordered by id.
    pub peers: Vec<PeerStatus>,
    /// Its plugins, ordered by id.
    pub plugins: Vec<PluginStatus>,
    /// Another device runs with the key of this one.
    pub clone: Option<CloneStatus>,
    /// Counts of what was refused or lost.
    pub counters: Counters,
}

/// The group's secrets on this device, without the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyringStatus {
    /// Oldest first.
    pub entries: Vec<KeyEntry>,
    /// Whether the newest change could not be stored here.
    pub not_stored: bool,
}

/// How another device's keyring compares with this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKeyring {
    /// It has not told, or there is no session with it.
    Unknown,
    /// It holds all that this one holds.
    Current,
    /// It lacks something.
    Behind,
    /// It lacks something because it could not store it.
    NotStored,
}

/// Two devices with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneStatus {
    /// Whether this device is the quarantined one, of which no member takes notice.
    pub quarantined_here: bool,
    /// Where the one that is kept is, with port, as a member sees it.
    pub kept_at: String,
    /// Where the quarantined one is, with port.
    pub quarantined_at: String,
}

/// Another device.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its identity.
    pub device: DeviceId,
    /// Its name, once its record arrived.
    pub name: Option<String>,
    /// The program's version there.
    pub version: Option<Version>,
    /// Where it was last heard from, with port.
    pub address: Option<String>,
    /// How far it has come.
    pub state: PeerState,
    /// For how long it has been missing.
    pub missing_for: Option<Duration>,
    /// Where another device runs with its key, quarantined, with port.
    pub quarantined_clone: Option<String>,
    /// Whether it refuses this device as a clone.
    pub refuses: bool,
    /// Time since a packet of it was last opened.
    pub last_heard: Option<Duration>,
    /// Smoothed round trip in microseconds.
    pub round_trip_us: Option<u32>,
    /// Its wall clock minus this device's, in microseconds.
    pub clock_delta_us: Option<i64>,
    /// How its keyring compares.
    pub keyring: PeerKeyring,
    /// The plugins it runs healthily.
    pub plugins: Vec<PluginSpec>,
    /// Plugins' messages to and from it.
    pub messages: MessageCounts,
}

/// Plugins' messages between this device and another one, since the start. Nobody confirms a
/// message, so what became of `sent` shows in the other device's `received`. What a plugin sent to
/// the device is `sent`, `dropped`, or still waiting for credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Messages to it that went out, one per message whatever its length; of one that takes the
    /// fan-out tree, its announcement.
    pub sent: u64,
    /// Messages to it that were dropped, because too much was waiting or because it went away
    /// before all of the message was out. Those that were to be passed on to it count too, and the
    /// payload of an announced message, which it may still get from others.
    pub dropped: u64,
    /// Parts of long messages that were sent again because a receiver asked for them.
    pub parts_resent: u64,
    /// Messages of it that were delivered to a plugin here, whichever way they came.
    pub received: u64,
    /// Messages of it that came again over another device or session. What the network doubles is
    /// recognised before that, and so are parts of a long message that is here.
    pub duplicates: u64,
    /// Long messages of it that stayed incomplete, and messages it announced that never came.
    pub lost: u64,
}

/// How far another device has come on its way to membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Heard of, no session yet.
    Known,
    /// A handshake is under way.
    Connecting,
    /// There is a session, not yet a member.
    Connected,
    /// A member.
    Member,
    /// A member that is being probed because it is silent or reported down.
    Suspect,
    /// Was a member and is missing.
    Missing,
    /// Said goodbye.
    Left,
    /// Not admitted: it was a member before, or called in vain.
    Denied,
    /// It holds the group's secret and speaks no version of the protocol that this program does.
    Incompatible {
        /// The lowest version it speaks.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
}

/// One plugin on this device.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    /// Which plugin.
    pub spec: PluginSpec,
    /// This device's role in its group.
    pub role: Role,
    /// Who leads, as this device knows it.
    pub leader: Option<DeviceId>,
    /// The leader's term; without a leader the largest seen.
    pub term: u64,
    /// How many devices run it, this one included.
    pub members: usize,
    /// What is known of the group's state.
    pub state: StateStatus,
}

/// One group's replicated state on this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateStatus {
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Whether other members are known to hold much that this device lacks.
    pub catching_up: bool,
    /// What other devices sent and was refused, in messages: as a whole, or entries of it that lie
    /// beyond their cut.
    pub refused: u64,
    /// Why the disk has not taken what the plugin asked to keep; none while it takes it.
    pub not_kept: Option<String>,
}

/// A device's role in a plugin's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not yet, or not for now: joining, or the instance is faulted.
    None,
    /// An election is under way.
    Electing,
    /// Another device leads.
    Follower,
    /// This device leads.
    Leader,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were malformed, forged or of another group.
    pub datagrams_refused: u64,
    /// Datagrams that had been received before.
    pub datagrams_replayed: u64,
    /// Messages of members of a kind that this program does not know: they run a later version.
    pub messages_unknown: u64,
    /// Plugin messages dropped because they had been delivered before.
    pub messages_duplicate: u64,
    /// Plugin messages dropped because they belong to a tenure this device does not follow.
    pub messages_stale: u64,
    /// Plugin messages that this device's plugins sent beyond their quotas.
    pub messages_over_quota: u64,
    /// Epochs refused because they lay far above all seen.
    pub epochs_refused: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Handshakes of devices that hold the group secret and are not admitted.
    pub handshakes_denied: u64,
    /// Handshakes that members began and that were put off or asked for a cookie, because too many
    /// came at once.
    pub handshakes_put_off: u64,
    /// State of other devices that was malformed, forged, of a plugin that does not run here, or
    /// beyond the cut of its leader's tenure.
    pub state_refused: u64,
}
