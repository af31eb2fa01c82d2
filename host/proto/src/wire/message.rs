//! What travels inside a session: frames of one kind byte, a length and a MessagePack body.
//!
//! Bodies are flat arrays of integers, byte strings and short lists. A body is decoded once, with
//! its nesting limited and trailing bytes refused, and every list has a bound that is checked here,
//! so that nothing behind this module sees unchecked input. What a later minor version adds, kinds
//! of messages and fields at the end of an array, is passed over.

use std::io::Cursor;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::Address;
use crate::id::{BootId, GroupKey, NodeId, PublicKey};
use crate::wire::header::Flags;
use crate::wire::keyring::{KeyringOffer, KeyringState};
use crate::wire::lenient;
use crate::wire::part::{Ask, Branch, Notice, Part, Reader, Relayed};
use crate::wire::state::{
    ENTRIES_MAX, SUMMARY_MAX, StateAck, StateChunk, StateDelta, StateSummary, StateVector,
    TableRequest,
};

/// Bytes that precede each body: kind and big-endian length.
pub(crate) const FRAME_HEADER: usize = 3;
/// Set in the kind of a datagram's last frame, whose length is then left out: it ends with the
/// datagram.
const LAST: u8 = 0x80;
/// Nesting allowed in a body.
const DEPTH_MAX: usize = 16;
/// Entries of each list in one message.
pub(crate) const LIST_MAX: usize = 32;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Ping(Ping),
    Pong(Pong),
    Heartbeat(Heartbeat),
    HeartbeatAck(HeartbeatAck),
    Membership(Bytes),
    Query(Query),
    Vouch(Vouch),
    WhoIs(WhoIs),
    Introduce(Introduce),
    DownNotice(DownNotice),
    Goodbye(Goodbye),
    Release(Release),
    /// A plugin's message, or a part of one.
    Part(Part),
    Relayed(Relayed),
    Branch(Branch),
    Notice(Notice),
    Ask(Ask),
    KeyringState(KeyringState),
    KeyringOffer(KeyringOffer),
    CloneNotice(CloneNotice),
    CloneSeen(CloneSeen),
    Losses(Losses),
    StateSummary(StateSummary),
    StateVector(StateVector),
    StateDelta(StateDelta),
    StateChunk(StateChunk),
    StateAck(StateAck),
    TableRequest(TableRequest),
}

/// A leader's claim to one group, as its own device tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
    /// Members that follow it, its own device included.
    pub(crate) followers: u32,
}

/// That the sender follows the recipient's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Follow {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
}

/// A third device's claim, as the sender knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
    /// Prefix of the claiming device's id.
    pub(crate) leader: NodeId,
    pub(crate) followers: u32,
    /// How long ago the sender heard that device, in microseconds.
    pub(crate) age_us: u32,
}

/// The largest epoch the sender has seen in a group, where it exceeds the recipient's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
}

/// What every probe, heartbeat and answer carries about leadership and records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bulletin {
    /// Orders the bulletins of one boot: an older one is ignored.
    pub(crate) seq: u32,
    /// Version of the sender's device record.
    pub(crate) record: u32,
    /// All that the sender claims.
    pub(crate) claims: Vec<Claim>,
    /// Which of the recipient's claims it follows.
    pub(crate) follows: Vec<Follow>,
    /// Claims it knows of groups that the recipient claims or asked about.
    pub(crate) reports: Vec<Report>,
    /// Epochs above the recipient's.
    pub(crate) seen: Vec<Seen>,
    /// Groups for which the sender looks for a leader.
    pub(crate) asks: Vec<GroupKey>,
}

/// A probe. Stamps are the low 32 bits of the sender's monotonic microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ping {
    pub(crate) sent: u32,
    pub(crate) bulletin: Bulletin,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pong {
    /// The probe's stamp.
    pub(crate) echo: u32,
    /// The sender's wall clock, microseconds since the Unix epoch.
    pub(crate) wall: u64,
    pub(crate) bulletin: Bulletin,
}

/// A leader's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) sent: u32,
    /// The stamp of the recipient's last answer and for how long it was held, in microseconds.
    pub(crate) echo: Option<(u32, u32)>,
    /// From the leader of the system group: its era and its group time at `sent`.
    pub(crate) clock: Option<(u64, u64)>,
    pub(crate) bulletin: Bulletin,
}

/// A follower's answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeartbeatAck {
    pub(crate) sent: u32,
    /// The heartbeat's stamp.
    pub(crate) echo: u32,
    pub(crate) bulletin: Bulletin,
}

/// Asks when the recipient last heard a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) device: NodeId,
    /// Whether the device's broadcasts should be relayed to the asker for the next seconds.
    pub(crate) relay: bool,
}

/// The answer to a query; none where the device was not heard lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vouch {
    pub(crate) device: NodeId,
    pub(crate) age_us: u32,
    /// What that device claimed when it was last heard.
    pub(crate) claims: Vec<Claim>,
}

/// Asks how to reach a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhoIs {
    pub(crate) device: NodeId,
}

/// How to reach a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduce {
    pub(crate) key: PublicKey,
    pub(crate) boot: BootId,
    pub(crate) flags: Flags,
    pub(crate) address: Address,
    /// Whether the sender heard it lately over a session of its own, so that it is no mere hearsay.
    pub(crate) heard: bool,
}

/// Tells a device that its membership number is of no use: which number the sender holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DownNotice {
    pub(crate) incarnation: u32,
    /// Whether that number is held for down. If not, it merely outnumbers the one that the device
    /// used.
    pub(crate) down: bool,
}

/// The sender leaves in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Goodbye {}

/// The sender gives up a leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) group: GroupKey,
    pub(crate) epoch: u64,
    /// Prefix of the device that should lead next.
    pub(crate) successor: Option<NodeId>,
}

/// What the recipient lost, as the sender saw it: a device that was restarted does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Losses {
    pub(crate) losses: Vec<Loss>,
}

/// The penalty for the recipient's losses of one group's leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) group: GroupKey,
    /// What is left of it, in thousandths of one loss.
    pub(crate) penalty: u32,
}

/// Tells a device that another one runs with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloneNotice {
    /// Whether the recipient is the one that is quarantined.
    pub(crate) refused: bool,
    /// Where the one that is kept is, as the sender sees it.
    pub(crate) kept_at: Address,
    /// Where the quarantined one is.
    pub(crate) refused_at: Address,
}

/// The sender's opinion of a device that runs in two boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloneSeen {
    pub(crate) device: NodeId,
    pub(crate) kept: BootId,
    pub(crate) refused: BootId,
    /// For how long the sender or whoever told it has held it.
    pub(crate) age_ms: u32,
}

/// Why a frame was refused. The frames behind it are read, unless it was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("a frame is cut short")]
    Truncated,
    #[error("unknown kind of message {0}")]
    UnknownKind(u8),
    #[error("malformed body of kind {0}: {1}")]
    Malformed(u8, String),
    #[error("a list or text of kind {0} is longer than allowed")]
    TooLong(u8),
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Self::Ping(_) => 1,
            Self::Pong(_) => 2,
            Self::Heartbeat(_) => 3,
            Self::HeartbeatAck(_) => 4,
            Self::Membership(_) => 5,
            Self::Query(_) => 8,
            Self::Vouch(_) => 9,
            Self::WhoIs(_) => 10,
            Self::Introduce(_) => 11,
            Self::DownNotice(_) => 12,
            Self::Goodbye(_) => 13,
            Self::Release(_) => 14,
            Self::Part(part) if part.is_whole() => 15,
            Self::Relayed(_) => 16,
            Self::Part(_) => 20,
            Self::Branch(_) => 21,
            Self::Notice(_) => 22,
            Self::Ask(_) => 23,
            Self::KeyringState(_) => 17,
            Self::KeyringOffer(_) => 18,
            Self::CloneNotice(_) => 24,
            Self::CloneSeen(_) => 25,
            Self::Losses(_) => 26,
            Self::StateSummary(_) => 27,
            Self::StateVector(_) => 28,
            Self::StateDelta(_) => 29,
            Self::StateChunk(_) => 30,
            Self::StateAck(_) => 31,
            Self::TableRequest(_) => 32,
        }
    }

    /// Appends the message as one frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0]);
        match self {
            Self::Ping(body) => pack(body, out),
            Self::Pong(body) => pack(body, out),
            Self::Heartbeat(body) => pack(body, out),
            Self::HeartbeatAck(body) => pack(body, out),
            Self::Membership(bytes) => out.extend_from_slice(bytes),
            Self::Query(body) => pack(body, out),
            Self::Vouch(body) => pack(body, out),
            Self::WhoIs(body) => pack(body, out),
            Self::Introduce(body) => pack(body, out),
            Self::DownNotice(body) => pack(body, out),
            Self::Goodbye(body) => pack(body, out),
            Self::Release(body) => pack(body, out),
            Self::Part(part) if part.is_whole() => part.encode_whole(out),
            Self::Part(part) => part.encode(out),
            Self::Relayed(body) => body.encode(out),
            Self::Branch(body) => body.encode(out),
            Self::Notice(body) => body.encode(out),
            Self::Ask(body) => body.encode(out),
            Self::KeyringState(body) => pack(body, out),
            Self::KeyringOffer(body) => pack(body, out),
            Self::CloneNotice(body) => pack(body, out),
            Self::CloneSeen(body) => pack(body, out),
            Self::Losses(body) => pack(body, out),
            Self::StateSummary(body) => pack(body, out),
            Self::StateVector(body) => pack(body, out),
            Self::StateDelta(body) => pack(body, out),
            Self::StateChunk(body) => pack(body, out),
            Self::StateAck(body) => pack(body, out),
            Self::TableRequest(body) => pack(body, out),
        }
        let length = u16::try_from(out.len() - start - FRAME_HEADER).unwrap_or(u16::MAX);
        out[start + 1..start + FRAME_HEADER].copy_from_slice(&length.to_be_bytes());
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let message = match kind {
            1 => Self::Ping(unpack(kind, &body)?),
            2 => Self::Pong(unpack(kind, &body)?),
            3 => Self::Heartbeat(unpack(kind, &body)?),
            4 => Self::HeartbeatAck(unpack(kind, &body)?),
            5 => Self::Membership(body),
            8 => Self::Query(unpack(kind, &body)?),
            9 => Self::Vouch(unpack(kind, &body)?),
            10 => Self::WhoIs(unpack(kind, &body)?),
            11 => Self::Introduce(unpack(kind, &body)?),
            12 => Self::DownNotice(unpack(kind, &body)?),
            13 => Self::Goodbye(unpack(kind, &body)?),
            14 => Self::Release(unpack(kind, &body)?),
            15 => Self::Part(Part::decode_whole(&mut Reader::new(kind, body))?),
            16 => Self::Relayed(Relayed::decode(&mut Reader::new(kind, body))?),
            20 => Self::Part(decode_part(kind, body)?),
            21 => Self::Branch(Branch::decode(&mut Reader::new(kind, body))?),
            22 => Self::Notice(Notice::decode(&mut Reader::new(kind, body))?),
            23 => Self::Ask(Ask::decode(&mut Reader::new(kind, body))?),
            17 => Self::KeyringState(unpack(kind, &body)?),
            18 => Self::KeyringOffer(unpack(kind, &body)?),
            24 => Self::CloneNotice(unpack(kind, &body)?),
            25 => Self::CloneSeen(unpack(kind, &body)?),
            26 => Self::Losses(unpack(kind, &body)?),
            27 => Self::StateSummary(unpack(kind, &body)?),
            28 => Self::StateVector(unpack(kind, &body)?),
            29 => Self::StateDelta(unpack(kind, &body)?),
            30 => Self::StateChunk(unpack(kind, &body)?),
            31 => Self::StateAck(unpack(kind, &body)?),
            32 => Self::TableRequest(unpack(kind, &body)?),
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        if message.within_bounds() {
            Ok(message)
        } else {
            Err(DecodeError::TooLong(kind))
        }
    }

    fn within_bounds(&self) -> bool {
        match self {
            Self::Ping(Ping { bulletin, .. })
            | Self::Pong(Pong { bulletin, .. })
            | Self::Heartbeat(Heartbeat { bulletin, .. })
            | Self::HeartbeatAck(HeartbeatAck { bulletin, .. }) => bulletin.within_bounds(),
            Self::Vouch(vouch) => vouch.claims.len() <= LIST_MAX,
            Self::Losses(losses) => losses.losses.len() <= LIST_MAX,
            Self::KeyringState(state) => state.within_bounds(),
            Self::KeyringOffer(offer) => offer.within_bounds(),
            Self::StateSummary(summary) => summary.groups.len() <= SUMMARY_MAX,
            Self::StateVector(vector) => vector.within_bounds(),
            Self::StateDelta(delta) => delta.entries.len() <= ENTRIES_MAX,
            Self::Membership(_)
            | Self::Query(_)
            | Self::WhoIs(_)
            | Self::Introduce(_)
            | Self::DownNotice(_)
            | Self::Goodbye(_)
            | Self::Release(_)
            | Self::Part(_)
            | Self::Relayed(_)
            | Self::Branch(_)
            | Self::Notice(_)
            | Self::Ask(_)
            | Self::CloneNotice(_)
            | Self::CloneSeen(_)
            | Self::StateChunk(_)
            | Self::StateAck(_)
            | Self::TableRequest(_) => true,
        }
    }
}

impl Bulletin {
    fn within_bounds(&self) -> bool {
        let longest = [
            self.claims.len(),
            self.follows.len(),
            self.reports.len(),
            self.seen.len(),
            self.asks.len(),
        ];
        longest.into_iter().all(|len| len <= LIST_MAX)
    }
}

/// Leaves out the length of the frame at `at`, which is the last of its datagram.
pub(crate) fn shorten_last(frames: &mut Vec<u8>, at: usize) {
    if let Some(kind) = frames.get_mut(at) {
        *kind |= LAST;
        frames.drain(at + 1..at + FRAME_HEADER);
    }
}

fn decode_part(kind: u8, body: Bytes) -> Result<Part, DecodeError> {
    let part = Part::decode(&mut Reader::new(kind, body))?;
    if part.is_whole() {
        return Err(DecodeError::Malformed(
            kind,
            String::from("a whole message as a part"),
        ));
    }
    Ok(part)
}

/// Reads the frames of one datagram, one by one.
pub(crate) struct Frames(Bytes);

impl Frames {
    pub(crate) fn new(plaintext: Bytes) -> Self {
        Self(plaintext)
    }
}

impl Iterator for Frames {
    type Item = Result<Message, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = core::mem::take(&mut self.0);
        if rest[0] & LAST != 0 {
            return Some(Message::decode(rest[0] & !LAST, rest.slice(1..)));
        }
        if rest.len() < FRAME_HEADER {
            return Some(Err(DecodeError::Truncated));
        }
        let end = FRAME_HEADER + usize::from(u16::from_be_bytes([rest[1], rest[2]]));
        if rest.len() < end {
            return Some(Err(DecodeError::Truncated));
        }
        self.0 = rest.slice(end..);
        Some(Message::decode(rest[0], rest.slice(FRAME_HEADER..end)))
    }
}

pub(super) fn pack<T: Serialize>(body: &T, out: &mut Vec<u8>) {
    rmp_serde::encode::write(out, body).expect("flat bodies always encode into a Vec");
}

pub(super) fn unpack<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, DecodeError> {
    let malformed = |error: rmp_serde::decode::Error| {
        DecodeError::Malformed(kind, error.to_string().chars().take(120).collect())
    };
    let mut from = rmp_serde::Deserializer::new(Cursor::new(body));
    from.set_max_depth(DEPTH_MAX);
    let value = lenient::read(&mut from).map_err(malformed)?;
    if from.position() < body.len() as u64 {
        return Err(DecodeError::Malformed(
            kind,
            String::from("bytes after its end"),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
