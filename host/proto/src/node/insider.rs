//! A member that says what it likes, for tests of the guards against one; no part of the interface.

use bytes::Bytes;

use super::{Node, ctx};
use crate::ctx::Ctx;
use crate::id::{DeviceId, GroupKey};
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::part::{Class, GroupRef, Head, Part, Relayed};
use crate::wire::record::RECORD_KEY;
use crate::wire::state::{Class as EntryClass, StateDelta, StreamId, Table, Tenure, WireEntry};

/// Something that a member should not be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// `device` is down, in a packet of membership from `by`.
    Down {
        /// Who says so by the packet.
        by: DeviceId,
        /// Who runs as before.
        device: DeviceId,
    },
    /// `device` is called `name`, in a later record than all known.
    Record {
        /// Whose record.
        device: DeviceId,
        /// Another name than its own.
        name: String,
    },
    /// `leader` broadcasts `payload`.
    Relayed {
        /// Who said nothing.
        leader: DeviceId,
        /// In which group.
        group: GroupKey,
        /// In which term.
        epoch: u64,
        /// What it did not say.
        payload: Bytes,
    },
    /// An entry of replicated state.
    Entry(FalseEntry),
    /// A part of a long message to the plugin of one device.
    Part {
        /// In which group.
        group: GroupKey,
        /// Which message.
        seq: u64,
        /// Whether the first or the second half of it.
        second: bool,
    },
}

/// An entry of replicated state that its writer never wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FalseEntry {
    /// In which group.
    pub group: GroupKey,
    /// Whose it is said to be.
    pub writer: DeviceId,
    /// Where.
    pub kind: FalseKind,
    /// Whether it is pushed, as only its writer does.
    pub direct: bool,
    /// Under which key.
    pub key: String,
    /// What.
    pub value: Bytes,
}

/// Of which kind of state a [`FalseEntry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FalseKind {
    /// The writer's own, next after what is known.
    Device,
    /// Shared, next after what is known.
    Shared,
    /// The leader's, next after what is known of the tenure in this epoch.
    Leader(u64),
    /// The table of the tenure in this epoch, by which nothing that was written before counts.
    Table(u64),
}

/// The bytes of each half of a long message that is made up.
const HALF: usize = 1100;

impl Node {
    /// Sends a plaintext of any bytes over the session with a device. Returns whether there is one.
    #[doc(hidden)]
    pub fn say_bytes(&mut self, now: Time, to: DeviceId, plaintext: &[u8]) -> bool {
        self.begin(now);
        let key = self.roster.get(to.node()).map(|entry| entry.key);
        let said = match (&mut self.sessions, key) {
            (Some(sessions), Some(key)) => sessions.send(&mut ctx!(self), &key, plaintext).is_ok(),
            _ => false,
        };
        self.settle();
        said
    }

    /// From here on this device's beacons say that it speaks this version of the protocol alone.
    #[doc(hidden)]
    pub fn speak_only(&mut self, version: u8) {
        self.identity.flags = self.identity.flags.of_version(version);
    }

    /// From here on this device speaks as a later minor version may: before each short message
    /// goes one of unknown kind, and its array has one more field.
    #[doc(hidden)]
    pub const fn speak_later(&mut self) {
        self.batch.speak_later();
    }

    /// Tells a device a lie. Returns whether there is a session, and the lie could be made up.
    #[doc(hidden)]
    pub fn say(&mut self, now: Time, to: DeviceId, lie: Lie) -> bool {
        let message = match lie {
            Lie::Down { by, device } => self
                .membership
                .forge_down(by.node(), to.node(), device.node())
                .map(Message::Membership),
            Lie::Record { device, name } => {
                self.forge_record(device, name).map(Message::StateDelta)
            }
            Lie::Entry(entry) => self.forge_entry(entry).map(Message::StateDelta),
            Lie::Part { group, seq, second } => Some(Message::Part(Part {
                head: Head {
                    group: GroupRef::Key(group),
                    class: Class::Direct,
                    epoch: 0,
                    seq,
                },
                total: 2 * HALF as u32,
                index: u8::from(second),
                chunk: Bytes::from_static(&[7; HALF]),
            })),
            Lie::Relayed {
                leader,
                group,
                epoch,
                payload,
            } => self.roster.get(leader.node()).map(|entry| {
                let head = Head {
                    group: GroupRef::Key(group),
                    class: Class::Broadcast,
                    epoch,
                    seq: u64::from(u32::MAX),
                };
                let part = Part {
                    head,
                    total: u32::try_from(payload.len()).unwrap_or(u32::MAX),
                    index: 0,
                    chunk: payload,
                };
                Message::Relayed(Relayed {
                    origin: leader.node(),
                    boot: entry.boot,
                    part,
                })
            }),
        };
        let Some(message) = message else { return false };
        let mut plaintext = Vec::new();
        message.encode(&mut plaintext);
        self.say_bytes(now, to, &plaintext)
    }

    fn forge_record(&self, device: DeviceId, name: String) -> Option<StateDelta> {
        let mut record = self.roster.get(device.node())?.record.clone()?;
        record.version += 1;
        record.name = name;
        let writer = device.node();
        let wanted = |stream: &StreamId| stream.writer() == writer;
        let (stream, mark) = self.known_stream(GroupKey::SYSTEM, wanted)?;
        Some(StateDelta {
            group: GroupKey::SYSTEM,
            stream,
            device: None,
            direct: false,
            more: false,
            from: 0,
            to: mark + 1,
            tenure: None,
            relied: 0,
            entries: vec![WireEntry {
                n: mark + 1,
                class: EntryClass::Value,
                key: RECORD_KEY.to_owned(),
                at: 0,
                expires_at: 0,
                value: record.encode(),
            }],
        })
    }

    fn forge_entry(&self, entry: FalseEntry) -> Option<StateDelta> {
        let writer = entry.writer.node();
        let wanted = |stream: &StreamId| match (stream, entry.kind) {
            (StreamId::Device { writer: of, .. }, FalseKind::Device)
            | (StreamId::Shared { writer: of, .. }, FalseKind::Shared) => *of == writer,
            (StreamId::Leader(tenure), FalseKind::Leader(epoch) | FalseKind::Table(epoch)) => {
                (tenure.epoch, tenure.leader) == (epoch, writer)
            }
            _ => false,
        };
        let known = self.known_stream(entry.group, wanted);
        let (stream, from) = match (known, entry.kind) {
            (Some(known), _) => known,
            (None, FalseKind::Leader(epoch) | FalseKind::Table(epoch)) => {
                let tenure = Tenure {
                    epoch,
                    leader: writer,
                };
                (StreamId::Leader(tenure), 0)
            }
            (None, FalseKind::Device | FalseKind::Shared) => return None,
        };
        let at = match entry.kind {
            FalseKind::Shared => (self.clock.reading(self.now).1 / 1000) << 16,
            FalseKind::Device | FalseKind::Leader(_) => self.clock.reading(self.now).1,
            FalseKind::Table(_) => 0,
        };
        let value = match stream {
            StreamId::Leader(tenure) if matches!(entry.kind, FalseKind::Table(_)) => {
                empty_table(tenure, from + 1)
            }
            _ => entry.value,
        };
        let is_table = matches!(entry.kind, FalseKind::Table(_));
        Some(StateDelta {
            group: entry.group,
            stream,
            device: (entry.kind == FalseKind::Device).then_some(entry.writer),
            direct: entry.direct,
            more: false,
            from,
            to: from + 1,
            tenure: None,
            relied: 0,
            entries: vec![WireEntry {
                n: from + 1,
                class: if is_table {
                    EntryClass::Table
                } else {
                    EntryClass::Value
                },
                key: entry.key,
                at,
                expires_at: 0,
                value,
            }],
        })
    }
}

fn empty_table(tenure: Tenure, n: u64) -> Bytes {
    let table = Table {
        tenure,
        n,
        cuts: Vec::new(),
        lineage: vec![7],
        stamped: 1,
    };
    rmp_serde::to_vec(&table).unwrap_or_default().into()
}
