//! What a device says of itself: the value of the key [`RECORD_KEY`] of its own state in the system
//! group's namespace.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{BootId, PluginId, PublicKey, Version};
use crate::wire::header::Flags;
use crate::wire::message::{pack, unpack};
use crate::wire::part::SLOT_NONE;

/// Under which key a device keeps its record.
pub(crate) const RECORD_KEY: &str = "record";
/// Bytes of a packed record: with all that is around it, it fills a datagram.
pub(crate) const RECORD_MAX: usize = 1060;
/// Plugins in one device record.
pub(crate) const PLUGINS_MAX: usize = 24;
/// Bytes of a device's name.
pub(crate) const NAME_MAX: usize = 64;

/// A plugin in a device record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordPlugin {
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    pub(crate) priority: i16,
    /// Takes over from a leader of lower priority once it has been stable for long enough.
    pub(crate) preempts: bool,
    /// Ranks last for now: it keeps losing the leadership, or faulted twice within a minute.
    pub(crate) flapping: bool,
    /// Lacks much of the group's state.
    pub(crate) incomplete: bool,
    /// Stands for the plugin's group in this device's messages; never another group's within a
    /// boot. 31 if it has none.
    pub(crate) slot: u8,
}

/// A device's record of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Whose record.
    pub(crate) key: PublicKey,
    pub(crate) boot: BootId,
    /// Grows with each change within a boot.
    pub(crate) version: u32,
    /// What its beacons advertise.
    pub(crate) flags: Flags,
    pub(crate) name: String,
    pub(crate) program: Version,
    /// Ranks last for now in the system group.
    pub(crate) flapping: bool,
    /// Plugins that run healthily.
    pub(crate) plugins: Vec<RecordPlugin>,
}

impl Record {
    /// Packs it. It may be longer than [`RECORD_MAX`].
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        pack(self, &mut bytes);
        Bytes::from(bytes)
    }

    /// Reads a packed record and checks its bounds.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECORD_MAX {
            return None;
        }
        let record: Self = unpack(0, bytes).ok()?;
        let sound = record.plugins.len() <= PLUGINS_MAX
            && record.name.len() <= NAME_MAX
            && record.plugins.iter().all(|plugin| plugin.slot <= SLOT_NONE);
        sound.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupKey, NodeId};
    use crate::session::MAX_PLAINTEXT;
    use crate::wire::message::{Frames, Message};
    use crate::wire::state::{Class, Stamp, StateDelta, StreamId, WireEntry};

    fn record(plugins: usize) -> Record {
        let plugin = |n: usize| RecordPlugin {
            id: PluginId::new(format!("plugin-{n}")).expect("valid"),
            version: Version {
                major: 1,
                minor: 2,
                patch: 3,
            },
            priority: -5,
            preempts: n.is_multiple_of(3),
            flapping: n.is_multiple_of(2),
            incomplete: n.is_multiple_of(3),
            slot: n as u8,
        };
        Record {
            key: PublicKey::new([9; 32]).expect("no point of low order"),
            boot: BootId(u64::MAX),
            version: 7,
            flags: Flags::new(true),
            name: String::from("däumling"),
            program: Version::default(),
            flapping: true,
            plugins: (0..plugins).map(plugin).collect(),
        }
    }

    #[test]
    fn what_is_packed_is_read() {
        let record = record(3);
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn what_exceeds_its_bounds_is_refused() {
        let mut crowded = record(PLUGINS_MAX);
        assert!(Record::decode(&crowded.encode()).is_some());
        crowded.plugins.push(crowded.plugins[0].clone());
        assert_eq!(Record::decode(&crowded.encode()), None);
        let mut long = record(0);
        long.name = "n".repeat(NAME_MAX + 1);
        assert_eq!(Record::decode(&long.encode()), None);
        let mut slot = record(1);
        slot.plugins[0].slot = SLOT_NONE + 1;
        assert_eq!(Record::decode(&slot.encode()), None);
        let mut more = record(0).encode().to_vec();
        more.push(0);
        assert_eq!(Record::decode(&more), None);
    }

    #[test]
    fn a_key_of_low_order_is_refused() {
        let mut bytes = record(0).encode().to_vec();
        let at = bytes.windows(32).position(|window| window == [9; 32]);
        let at = at.expect("the key is in it");
        bytes[at..at + 32].fill(0);
        assert_eq!(Record::decode(&bytes), None);
    }

    #[test]
    fn the_longest_record_fits_a_datagram() {
        let delta = Message::StateDelta(StateDelta {
            group: GroupKey::SYSTEM,
            stream: StreamId::Device {
                writer: NodeId(u64::MAX),
                stamp: Stamp(u64::MAX),
            },
            device: None,
            direct: true,
            more: false,
            from: 0,
            to: u64::from(u32::MAX),
            tenure: None,
            relied: 0,
            entries: vec![WireEntry {
                n: u64::from(u32::MAX),
                class: Class::Value,
                key: RECORD_KEY.to_owned(),
                at: 0,
                expires_at: 0,
                value: Bytes::from(vec![0; RECORD_MAX]),
            }],
        });
        let mut frame = Vec::new();
        delta.encode(&mut frame);
        assert!(frame.len() <= MAX_PLAINTEXT, "{} bytes", frame.len());
        let read = Frames::new(Bytes::from(frame)).next();
        assert_eq!(read, Some(Ok(delta)));
    }
}
