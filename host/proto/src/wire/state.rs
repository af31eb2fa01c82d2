//! What devices tell each other of replicated state. `PROTOCOL.md`, "State", has the exchange.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, GroupKey, NodeId};

/// Groups in one summary.
pub(crate) const SUMMARY_MAX: usize = 32;
/// Streams in one part of a vector.
pub(crate) const HELD_MAX: usize = 64;
/// Entries in one delta.
pub(crate) const ENTRIES_MAX: usize = 256;
/// Earlier tenures in a table.
pub(crate) const CUTS_MAX: usize = 32;
/// Stamps in a table's lineage.
pub(crate) const LINEAGE_MAX: usize = 24;

/// One leader's term of office: of two, the larger counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tenure {
    pub(crate) epoch: u64,
    pub(crate) leader: NodeId,
}

/// Names a boot of a device: its boot counter above 32 random bits. Later boots have larger ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    /// For a device that begins new streams within a boot: as if it had started once more.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1 << 32))
    }
}

/// A sequence of entries by one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StreamId {
    Leader(Tenure),
    Device { writer: NodeId, stamp: Stamp },
    Shared { writer: NodeId, stamp: Stamp },
}

impl StreamId {
    /// Who writes it.
    pub(crate) fn writer(&self) -> NodeId {
        match self {
            Self::Leader(tenure) => tenure.leader,
            Self::Device { writer, .. } | Self::Shared { writer, .. } => *writer,
        }
    }

    /// Of leader state, whose it is.
    pub(crate) fn tenure(&self) -> Option<Tenure> {
        match self {
            Self::Leader(tenure) => Some(*tenure),
            Self::Device { .. } | Self::Shared { .. } => None,
        }
    }

    /// `(class, a, b)`: 0 with epoch and leader, 1 and 2 with writer and stamp.
    pub(crate) fn parts(&self) -> (u8, u64, u64) {
        match self {
            Self::Leader(tenure) => (0, tenure.epoch, tenure.leader.0),
            Self::Device { writer, stamp } => (1, writer.0, stamp.0),
            Self::Shared { writer, stamp } => (2, writer.0, stamp.0),
        }
    }
}

/// As its parts.
impl Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (class, a, b) = <(u8, u64, u64)>::deserialize(deserializer)?;
        let (writer, stamp) = (NodeId(a), Stamp(b));
        match class {
            0 => Ok(Self::Leader(Tenure {
                epoch: a,
                leader: NodeId(b),
            })),
            1 => Ok(Self::Device { writer, stamp }),
            2 => Ok(Self::Shared { writer, stamp }),
            _ => Err(serde::de::Error::custom("unknown class of stream")),
        }
    }
}

/// Which entries of earlier tenures hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) tenure: Tenure,
    /// Of the tenure's entries, this table's own number.
    pub(crate) n: u64,
    /// Ascending. A tenure that is not listed has none.
    pub(crate) cuts: Vec<(Tenure, u64)>,
    /// Newest last.
    pub(crate) lineage: Vec<u32>,
    /// When the newest stamp of the lineage was added, in microseconds of group time.
    pub(crate) stamped: u64,
}

/// What the sender has of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupSummary {
    pub(crate) group: GroupKey,
    pub(crate) digest: u64,
    /// Of the table it holds.
    pub(crate) tenure: Option<Tenure>,
}

/// Begins an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateSummary {
    pub(crate) groups: Vec<GroupSummary>,
    /// Whether the sender knows of a member that is not there.
    pub(crate) missing: bool,
}

/// What a vector asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// What the sender lacks, and a vector if the recipient lacks something.
    Exchange,
    /// What the sender lacks.
    Reply,
    /// Nothing: it answers a [`TableRequest`] of this epoch.
    Answer(u64),
}

/// What is held of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) stream: StreamId,
    /// All up to here, as far as it is not superseded.
    pub(crate) mark: u64,
    /// Of the numbers above the mark that are held; 0 if there are none.
    pub(crate) extras: u32,
    /// The largest number that was ever held, or relied upon.
    pub(crate) top: u64,
    /// Of the numbers that are held and quarantined; 0 if there are none.
    pub(crate) pending: u32,
}

/// What is held of the streams in `(after, upto]`: what is not listed is not held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateVector {
    pub(crate) group: GroupKey,
    pub(crate) purpose: Purpose,
    pub(crate) table: Option<Table>,
    pub(crate) after: Option<StreamId>,
    pub(crate) upto: Option<StreamId>,
    pub(crate) held: Vec<Held>,
}

impl StateVector {
    pub(super) fn within_bounds(&self) -> bool {
        let table = self.table.as_ref();
        self.held.len() <= HELD_MAX
            && table.is_none_or(|table| {
                table.cuts.len() <= CUTS_MAX && table.lineage.len() <= LINEAGE_MAX
            })
    }
}

/// What an entry is. On the wire a number from 0 on, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(crate) enum Class {
    Value,
    /// Deleted; expired where `expires_at` is given.
    Tombstone,
    /// `at` is the floor, `value` the sum as eight big-endian bytes.
    Counter,
    /// `value` is a packed [`Table`].
    Table,
}

impl From<Class> for u8 {
    fn from(class: Class) -> Self {
        match class {
            Class::Value => 0,
            Class::Tombstone => 1,
            Class::Counter => 2,
            Class::Table => 3,
        }
    }
}

impl TryFrom<u8> for Class {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, &'static str> {
        match number {
            0 => Ok(Self::Value),
            1 => Ok(Self::Tombstone),
            2 => Ok(Self::Counter),
            3 => Ok(Self::Table),
            _ => Err("unknown class of entry"),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireEntry {
    /// Its place in the stream.
    pub(crate) n: u64,
    pub(crate) class: Class,
    pub(crate) key: String,
    /// Group time of the write in microseconds; in shared state its hybrid logical clock.
    pub(crate) at: u64,
    /// Group time from which it is gone; 0 keeps it.
    pub(crate) expires_at: u64,
    #[serde(with = "byte_string")]
    pub(crate) value: Bytes,
}

/// All entries of a stream in `(from, to]` that are not superseded, but for those that travel in
/// chunks of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateDelta {
    pub(crate) group: GroupKey,
    pub(crate) stream: StreamId,
    /// The writer's whole id, where the stream is device state.
    pub(crate) device: Option<DeviceId>,
    /// Whether the writer itself pushes them, and wants to hear of it.
    pub(crate) direct: bool,
    /// Whether there is more than could be sent.
    pub(crate) more: bool,
    pub(crate) from: u64,
    /// `from` where nothing is asserted; the entries then are any above it.
    pub(crate) to: u64,
    /// Of the sender's table, by which it judged what of leader state is superseded.
    pub(crate) tenure: Option<Tenure>,
    /// What it relied upon in judging: of leader state the largest number of that tenure, of
    /// shared state the largest hybrid logical clock that counts. Of device state the group time
    /// until which the sender keeps what the device wrote, 0 for as long as that is a member.
    pub(crate) relied: u64,
    pub(crate) entries: Vec<WireEntry>,
}

/// A piece of an entry that fits no datagram: of its MessagePack encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateChunk {
    pub(crate) group: GroupKey,
    pub(crate) stream: StreamId,
    pub(crate) device: Option<DeviceId>,
    pub(crate) direct: bool,
    pub(crate) n: u64,
    /// The same as in [`StateDelta`]; in the last chunk alone, since two chunks of an entry that just
    /// fits no datagram share one.
    pub(crate) tenure: Option<Tenure>,
    /// The same as in [`StateDelta`] of device state; 0 of other kinds.
    pub(crate) until: u64,
    /// Bytes of the whole encoding.
    pub(crate) total: u32,
    pub(crate) offset: u32,
    #[serde(with = "byte_string")]
    pub(crate) bytes: Bytes,
}

/// The recipient's push arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateAck {
    pub(crate) group: GroupKey,
    pub(crate) stream: StreamId,
    pub(crate) mark: u64,
}

/// The sender begins to lead in this epoch, and asks what is held of earlier tenures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableRequest {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
}

/// Bytes as one MessagePack byte string.
mod byte_string {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&bytes[..], to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        serde_bytes::deserialize::<Vec<u8>, D>(from).map(Bytes::from)
    }
}
