//! A member that says what it likes, for tests of the guards against one; no part of the interface.

use bytes::Bytes;

use super::{Node, ctx};
use crate::ctx::Ctx;
use crate::id::{DeviceId, GroupKey};
use crate::messaging::{App, tree};
use crate::time::Time;
use crate::wire::header::Flags;
use crate::wire::message::Message;
use crate::wire::part::{Ask, Branch, Class, GroupRef, Head, Part, Relayed};
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
    /// `device` is down, in a packet of membership with a broadcast item behind its members.
    Item {
        /// Who runs as before.
        device: DeviceId,
    },
    /// A broadcast, whoever leads.
    Broadcast {
        /// In which group.
        group: GroupKey,
        /// In which term.
        epoch: u64,
        /// What it says.
        payload: Bytes,
    },
    /// The notice of a broadcast through the tree of which no more is sent.
    Notice(InTree),
    /// The payload of a broadcast through the tree, as passed on.
    Branch {
        /// Whose broadcast it is said to be.
        leader: DeviceId,
        /// Which.
        message: InTree,
    },
    /// A question for parts of a message of its recipient.
    Ask {
        /// Which message.
        seq: u64,
        /// A bit for each part, the lowest for the first.
        parts: u64,
    },
    /// Group time, as its reference tells it.
    GroupTime {
        /// Of which era.
        era: u64,
        /// In microseconds.
        time: u64,
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

/// A broadcast that is said to go through the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTree {
    /// In which group.
    pub group: GroupKey,
    /// In which term.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// What it says.
    pub payload: Bytes,
}

impl InTree {
    fn app(&self) -> App {
        App {
            group: self.group,
            class: Class::Broadcast,
            epoch: self.epoch,
            seq: self.seq,
            payload: self.payload.clone(),
        }
    }
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

    /// As if so many packets had been sent over the session with a device.
    #[doc(hidden)]
    pub fn wear_session(&mut self, to: DeviceId, sent: u64) {
        let key = self.roster.get(to.node()).map(|entry| entry.key);
        if let (Some(sessions), Some(key)) = (&mut self.sessions, key) {
            sessions.wear(&key, sent);
        }
    }

    /// From here on this device's beacons say that it has no AES in hardware.
    #[doc(hidden)]
    pub const fn deny_aes(&mut self) {
        self.identity.flags = Flags::new(false);
    }

    /// Tells a device a lie. Returns whether there is a session, and the lie could be made up.
    #[doc(hidden)]
    pub fn say(&mut self, now: Time, to: DeviceId, lie: Lie) -> bool {
        let Some(message) = self.made_up(to, lie) else {
            return false;
        };
        let mut plaintext = Vec::new();
        message.encode(&mut plaintext);
        self.say_bytes(now, to, &plaintext)
    }

    fn made_up(&mut self, to: DeviceId, lie: Lie) -> Option<Message> {
        Some(match lie {
            Lie::Down { by, device } => {
                let forged = self
                    .membership
                    .forge_down(by.node(), to.node(), device.node());
                Message::Membership(forged?)
            }
            Lie::Item { device } => {
                let own = self.identity.node;
                let forged = self.membership.forge_down(own, to.node(), device.node())?;
                Message::Membership([&forged[..], &[0, 1, 7]].concat().into())
            }
            Lie::GroupTime { era, time } => {
                let mut heartbeat = self.heartbeat_for(to.node(), Some((era, time)));
                // The clocks of who lies and of who hears it show the same time.
                heartbeat.echo = Some((heartbeat.sent, 0));
                Message::Heartbeat(heartbeat)
            }
            Lie::Record { device, name } => Message::StateDelta(self.forge_record(device, name)?),
            Lie::Entry(entry) => Message::StateDelta(self.forge_entry(entry)?),
            Lie::Part { group, seq, second } => Message::Part(half(group, seq, second)),
            Lie::Broadcast {
                group,
                epoch,
                payload,
            } => Message::Part(whole(group, epoch, payload)),
            Lie::Relayed {
                leader,
                group,
                epoch,
                payload,
            } => Message::Relayed(Relayed {
                origin: leader.node(),
                boot: self.roster.get(leader.node())?.boot,
                part: whole(group, epoch, payload),
            }),
            Lie::Notice(message) => Message::Notice(self.notice_of(&message.app())),
            Lie::Branch { leader, message } => {
                let mut part = whole(message.group, message.epoch, message.payload);
                part.head.seq = message.seq;
                Message::Branch(Branch {
                    origin: leader.node(),
                    boot: self.roster.get(leader.node())?.boot,
                    range: tree::NOBODY,
                    part,
                })
            }
            Lie::Ask { seq, parts } => Message::Ask(Ask {
                origin: to.node(),
                boot: self.roster.get(to.node())?.boot,
                seq,
                notice: false,
                missing: parts,
            }),
        })
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

/// Half of a long message to the plugin of one device.
fn half(group: GroupKey, seq: u64, second: bool) -> Part {
    Part {
        head: Head {
            group: GroupRef::Key(group),
            class: Class::Direct,
            epoch: 0,
            seq,
        },
        total: 2 * HALF as u32,
        index: u8::from(second),
        chunk: Bytes::from_static(&[7; HALF]),
    }
}

/// A short broadcast, of a number that no other message has.
fn whole(group: GroupKey, epoch: u64, payload: Bytes) -> Part {
    Part {
        head: Head {
            group: GroupRef::Key(group),
            class: Class::Broadcast,
            epoch,
            seq: u64::from(u32::MAX),
        },
        total: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        index: 0,
        chunk: payload,
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
