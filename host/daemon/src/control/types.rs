//! What the control socket answers, version 1.
//!
//! Names are in snake_case; durations and times are integers named `_ms` or `_us`; device ids are
//! texts; what is not known is null and never left out.

use serde::{Deserialize, Serialize};

/// The number of this form.
pub const VERSION: u32 = 1;

/// The daemon at one instant: what `consort status --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always 1.
    pub v: u32,
    /// This device.
    pub device: DeviceStatus,
    /// Its group.
    pub group: GroupStatus,
    /// How other devices are looked for.
    pub discovery: DiscoveryStatus,
    /// Group time.
    pub clock: ClockStatus,
    /// The other devices it knows, ordered by id.
    pub peers: Vec<PeerStatus>,
    /// Its plugins, ordered by id.
    pub plugins: Vec<PluginStatus>,
    /// Counts since the start.
    pub counters: Counters,
}

/// This device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its identity.
    pub id: String,
    /// Its name; not unique.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// How often it was started.
    pub boot_counter: u64,
    /// Since the daemon's start.
    pub uptime_ms: u64,
    /// The process.
    pub pid: u32,
    /// Another device runs with the key of this one; null where none does.
    pub clone: Option<CloneStatus>,
}

/// Two devices that run with one key, as after copying a memory card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneStatus {
    /// Whether this device is the one of which no member takes notice.
    pub quarantined_here: bool,
    /// Where the one is that goes on as before, with port.
    pub kept_at: String,
    /// Where the quarantined one is, with port.
    pub quarantined_at: String,
}

/// How this device takes part in its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Whether it has a group secret; without one it is a group of one.
    pub has_secret: bool,
    /// Devices that are members, this one included.
    pub members: u64,
    /// The addresses it listens on.
    pub listen: Vec<String>,
    /// The network interfaces used for discovery.
    pub interfaces: Vec<String>,
    /// The group's secrets by epoch, oldest first; more than one while a rotation is under way.
    pub secrets: Vec<SecretStatus>,
    /// Whether the newest change of the secrets could not be stored here.
    pub secrets_not_stored: bool,
}

/// One secret of the group, without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStatus {
    /// Grows with each rotation.
    pub epoch: u32,
    /// What is done with it.
    pub state: SecretState,
    /// Whether it replaced a stolen one and goes to devices that are allowed by name only.
    pub restricted: bool,
}

/// What is done with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretState {
    /// Accepted.
    Staged,
    /// Accepted and used.
    Active,
    /// Accepted from devices that are behind.
    Retiring,
}

impl From<consort_proto::KeyEntry> for SecretStatus {
    fn from(entry: consort_proto::KeyEntry) -> Self {
        Self {
            epoch: entry.epoch,
            state: match entry.state {
                consort_proto::KeyState::Staged => SecretState::Staged,
                consort_proto::KeyState::Active => SecretState::Active,
                consort_proto::KeyState::Retiring => SecretState::Retiring,
            },
            restricted: entry.restricted,
        }
    }
}

/// How another device's secrets compare with this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerSecrets {
    /// It has not told.
    Unknown,
    /// It holds all that this one holds.
    Current,
    /// It lacks something.
    Behind,
    /// It lacks something because it could not store it.
    NotStored,
}

/// How other devices are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryStatus {
    /// Whether by IPv4 and IPv6 multicast.
    pub multicast: bool,
    /// Whether by IPv4 broadcast.
    pub broadcast: bool,
    /// The port that beacons to everyone go to; 0 without a group.
    pub port: u16,
    /// Whether the system tells of interfaces that change; else they are looked at every 2 s.
    pub watches_interfaces: bool,
    /// The network interfaces, the loopback apart: those that are used, then at most 64 others.
    pub interfaces: Vec<InterfaceStatus>,
    /// The seeds, as they stand in the settings.
    pub seeds: Vec<SeedStatus>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is used for discovery.
    pub used: bool,
    /// Its addresses that can be sent from, if it is used.
    pub addresses: Vec<String>,
    /// Why it is not used, in words; null if it is.
    pub why: Option<String>,
}

/// A seed of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedStatus {
    /// As it stands there.
    pub seed: String,
    /// What is known of it.
    pub state: SeedState,
    /// What it stands for, with port; after a failure what it stood for before.
    pub addresses: Vec<String>,
    /// Why it cannot be looked up, in the system's words; null if it can.
    pub problem: Option<String>,
}

/// What is known of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedState {
    /// It is an address.
    Literal,
    /// The name was not looked up yet.
    Pending,
    /// The name has addresses.
    Resolved,
    /// The name cannot be looked up at present.
    Failed,
}

/// Group time on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Now, since the Unix epoch.
    pub group_time_us: u64,
    /// Whether it follows the group's reference, or is it.
    pub synchronised: bool,
    /// Bound on the error against the reference; null where there is none.
    pub error_bound_us: Option<u64>,
    /// How group time follows from the monotonic clock, which all daemons of one machine share.
    pub line: ClockLine,
}

/// `group_time = group_at_us + elapsed * (1 + rate) + min(elapsed, slew_us) * slew`, where `elapsed`
/// is the monotonic time since `at_us`, suspend included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockLine {
    /// Monotonic time of the last change.
    pub at_us: u64,
    /// Group time then.
    pub group_at_us: u64,
    /// How much faster group time runs, in parts per billion.
    pub rate_ppb: i32,
    /// How much faster still while it is slewed.
    pub slew_ppb: i32,
    /// For how long after `at_us` it is slewed.
    pub slew_us: u64,
    /// Bound on the error then; null where there is none.
    pub error_bound_us: Option<u64>,
    /// By how much it grows with time, in parts per billion.
    pub bound_ppb: u32,
}

/// Another device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its identity.
    pub id: String,
    /// Its name, once it told.
    pub name: Option<String>,
    /// The program's version there, once it told.
    pub version: Option<String>,
    /// Where it was last heard from, with port.
    pub address: Option<String>,
    /// How far it has come.
    pub state: PeerState,
    /// Why it is not simply a member, in words; null for members.
    pub why: Option<String>,
    /// Since a packet of it was last opened.
    pub last_heard_ms: Option<u64>,
    /// Smoothed round trip.
    pub round_trip_us: Option<u64>,
    /// Its wall clock minus this device's.
    pub clock_delta_us: Option<i64>,
    /// How its secrets of the group compare.
    pub secrets: PeerSecrets,
    /// The plugins it runs healthily.
    pub plugins: Vec<PeerPlugin>,
    /// Plugins' messages to and from it.
    pub messages: MessageCounts,
}

/// Plugins' messages between this device and another one, since the daemon's start. Nobody confirms
/// a message: what became of `sent` shows in the other device's `received`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// Messages queued for it.
    pub sent: u64,
    /// Messages for it that were dropped because too much was waiting.
    pub dropped: u64,
    /// Parts of long messages that were sent again because a receiver asked for them.
    pub parts_resent: u64,
    /// Messages of it that were delivered to a plugin here.
    pub received: u64,
    /// Messages of it that came again.
    pub duplicates: u64,
    /// Messages of it that are known to be lost: long ones that stayed incomplete, and announced
    /// ones that never came.
    pub lost: u64,
}

/// How far a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Heard of, no session yet.
    Known,
    /// A handshake is under way.
    Connecting,
    /// There is a session, not yet a member.
    Connected,
    /// A member.
    Member,
    /// A member that is being probed.
    Suspect,
    /// Was a member and is missing.
    Missing,
    /// Said goodbye.
    Left,
    /// Not admitted by the settings, and calling all the same.
    Denied,
}

/// A plugin on another device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPlugin {
    /// Which plugin.
    pub id: String,
    /// Which version of it.
    pub version: String,
    /// Rank of that device in elections.
    pub priority: i16,
}

/// A plugin on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Which plugin.
    pub id: String,
    /// Which version of it, once it is read.
    pub version: Option<String>,
    /// Where it is in its life, by the host's name for it; null if the host does not have it.
    pub state: Option<String>,
    /// How often its code was exchanged.
    pub generation: Option<u64>,
    /// The beginning of its file's hash.
    pub content_hash: Option<String>,
    /// What its last fault was.
    pub last_fault: Option<String>,
    /// Where in the plugin that fault was, the innermost function first.
    pub last_backtrace: Vec<String>,
    /// Messages lost because its mailbox was full.
    pub dropped_messages: u64,
    /// Messages to the group that its host refused at the call: too large, or beyond the quota.
    pub refused_messages: u64,
    /// Writes of replicated state that its host refused at the call: too large, or beyond a quota.
    pub refused_writes: u64,
    /// Messages for local programs that were refused: without the capability, beyond the quota, or
    /// too large.
    pub refused_publishes: u64,
    /// What it asks to reach outside its sandbox and does not get, each with the reason.
    pub refused_capabilities: Vec<String>,
    /// This device's role in the plugin's group.
    pub role: Role,
    /// Who leads, as far as this device knows.
    pub leader: Option<Leader>,
    /// The leader's term; null before the plugin joined its group.
    pub term: Option<u64>,
    /// How many devices run it, this one included; null before it joined.
    pub members: Option<u64>,
    /// Its group's replicated state as this device holds it; null before it joined.
    pub replica: Option<ReplicaStatus>,
}

/// The replicated state of a plugin's group on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of those keys and their values.
    pub bytes: u64,
    /// Whether other members are known to hold much that this device lacks.
    pub catching_up: bool,
    /// What other devices sent of it and was refused, in messages: as a whole, or entries of it
    /// beyond the cut of their leader's tenure.
    pub refused: u64,
    /// Writes of the plugin on this device that were accepted and are lost, for others' writes took
    /// their room.
    pub lost: u64,
    /// Why the disk has not taken what the plugin asked to keep; null while it takes it.
    pub not_kept: Option<String>,
}

/// This device's role in a plugin's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Not yet, or not for now.
    None,
    /// An election is under way.
    Electing,
    /// Another device leads.
    Follower,
    /// This device leads.
    Leader,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its identity.
    pub id: String,
    /// Its name, once it told.
    pub name: Option<String>,
}

/// Counts since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams handed to the kernel.
    pub datagrams_sent: u64,
    /// Their payload.
    pub bytes_sent: u64,
    /// Datagrams that could not be sent.
    pub send_errors: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Their payload.
    pub bytes_received: u64,
    /// Datagrams longer than any of the protocol.
    pub datagrams_oversized: u64,
    /// Datagrams that were malformed, forged or of another group.
    pub datagrams_refused: u64,
    /// Datagrams that had been received before.
    pub datagrams_replayed: u64,
    /// Plugin messages that had been delivered before.
    pub messages_duplicate: u64,
    /// Plugin messages of a tenure that is not followed.
    pub messages_stale: u64,
    /// Messages of this device's plugins that were dropped for exceeding a quota.
    pub messages_over_quota: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Handshakes of devices that hold a secret of the group and are not admitted.
    pub handshakes_denied: u64,
    /// Handshakes that were put off or asked for a cookie, because too many came at once.
    pub handshakes_put_off: u64,
    /// Messages with state that were malformed, forged, or of a plugin that does not run here.
    pub state_refused: u64,
}
