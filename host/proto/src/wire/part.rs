//! Plugins' messages on the wire: whole ones, parts of long ones, and what repairs them.
//!
//! These bodies are packed tightly by hand, since they are the bulk of all traffic: a whole message
//! alone in its datagram takes at most eight bytes of framing (one of kind, one of class and slot,
//! two of an epoch below 2^14, four of a number below 2^28). Numbers marked *leb* are LEB128: seven
//! bits a byte, low ones first, in the shortest form.

use bytes::Bytes;

use super::message::DecodeError;
use crate::MAX_PAYLOAD;
pub(crate) use crate::cost::CHUNK;
use crate::id::{BootId, GroupKey, NodeId};

/// Parts of the longest message; a bitmap of them fits 64 bits.
pub(crate) const PARTS_MAX: u32 = MAX_PAYLOAD.div_ceil(CHUNK) as u32;
/// The slot that says that the group's key follows.
pub(crate) const SLOT_NONE: u8 = 31;
/// Bytes of a notice's digest.
pub(crate) const DIGEST_LEN: usize = 16;

/// How a plugin's message is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Broadcast,
    ToLeader,
    Direct,
    ToAll,
}

impl Class {
    const fn bits(self) -> u8 {
        match self {
            Self::Broadcast => 0,
            Self::ToLeader => 1,
            Self::Direct => 2,
            Self::ToAll => 3,
        }
    }

    const fn of(byte: u8) -> Self {
        match byte & 3 {
            0 => Self::Broadcast,
            1 => Self::ToLeader,
            2 => Self::Direct,
            _ => Self::ToAll,
        }
    }
}

/// Which group a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupRef {
    /// The number that the sender's record gives it, below [`SLOT_NONE`].
    Slot(u8),
    /// The group itself.
    Key(GroupKey),
}

/// What a message is, apart from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) group: GroupRef,
    pub(crate) class: Class,
    /// The sender's tenure for a broadcast, else 0.
    pub(crate) epoch: u64,
    /// Unique within the sender's boot.
    pub(crate) seq: u64,
}

/// A message, or a part of one that exceeds [`CHUNK`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) head: Head,
    /// Bytes of the whole payload.
    pub(crate) total: u32,
    /// Which part; the parts before it have [`CHUNK`] bytes each.
    pub(crate) index: u8,
    pub(crate) chunk: Bytes,
}

/// A leader's broadcast, or a part of one, passed on to a member that the leader does not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// Prefix of the leader's id.
    pub(crate) origin: NodeId,
    pub(crate) boot: BootId,
    pub(crate) part: Part,
}

/// A part of a message that travels through the fan-out tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) origin: NodeId,
    pub(crate) boot: BootId,
    /// The positions that the receiver has to supply, both ends included; none if the first is the
    /// larger one.
    pub(crate) range: (u64, u64),
    pub(crate) part: Part,
}

/// What the sender of a message that travels through the tree tells each receiver itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) head: Head,
    pub(crate) total: u32,
    pub(crate) digest: [u8; DIGEST_LEN],
}

/// Asks for what is missing of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) origin: NodeId,
    pub(crate) boot: BootId,
    pub(crate) seq: u64,
    /// Whether the origin's notice is wanted.
    pub(crate) notice: bool,
    /// A bit for each part, the lowest for the first.
    pub(crate) missing: u64,
}

/// How many parts a payload of `total` bytes has.
pub(crate) const fn part_count(total: u32) -> u32 {
    if total == 0 {
        1
    } else {
        total.div_ceil(CHUNK as u32)
    }
}

/// The bytes of a payload that part `index` holds.
pub(crate) fn part_range(total: u32, index: u32) -> core::ops::Range<usize> {
    let start = index as usize * CHUNK;
    start..(start + CHUNK).min(total as usize)
}

impl Part {
    /// Whether it is the whole message.
    pub(crate) fn is_whole(&self) -> bool {
        self.total as usize <= CHUNK
    }

    /// As the body of a whole message.
    pub(crate) fn encode_whole(&self, out: &mut Vec<u8>) {
        self.head.encode(out);
        out.extend_from_slice(&self.chunk);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.head.encode(out);
        put_leb(out, u64::from(self.total));
        out.push(self.index);
        out.extend_from_slice(&self.chunk);
    }

    pub(crate) fn decode_whole(reader: &mut Reader) -> Result<Self, DecodeError> {
        let head = reader.head()?;
        let chunk = reader.rest();
        if chunk.len() > CHUNK {
            return Err(DecodeError::TooLong(reader.kind));
        }
        let total = chunk.len() as u32;
        Ok(Self {
            head,
            total,
            index: 0,
            chunk,
        })
    }

    /// The number of parts follows from the total, and each part's length from both, so a header
    /// that contradicts itself is refused here.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let head = reader.head()?;
        let total = reader.total()?;
        let index = reader.byte()?;
        if u32::from(index) >= part_count(total) {
            return Err(reader.malformed("a part beyond the last"));
        }
        let chunk = reader.rest();
        if chunk.len() != part_range(total, u32::from(index)).len() {
            return Err(reader.malformed("a part of another length than its place asks for"));
        }
        Ok(Self {
            head,
            total,
            index,
            chunk,
        })
    }
}

impl Relayed {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.origin.0.to_be_bytes());
        out.extend_from_slice(&self.boot.0.to_be_bytes());
        self.part.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (origin, boot) = reader.source()?;
        let part = reader.part_by_key()?;
        Ok(Self { origin, boot, part })
    }
}

impl Branch {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.origin.0.to_be_bytes());
        out.extend_from_slice(&self.boot.0.to_be_bytes());
        out.extend_from_slice(&self.range.0.to_be_bytes());
        out.extend_from_slice(&self.range.1.to_be_bytes());
        self.part.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (origin, boot) = reader.source()?;
        let range = (reader.word()?, reader.word()?);
        let part = reader.part_by_key()?;
        Ok(Self {
            origin,
            boot,
            range,
            part,
        })
    }
}

impl Notice {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.head.encode(out);
        put_leb(out, u64::from(self.total));
        out.extend_from_slice(&self.digest);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let head = reader.head()?;
        let total = reader.total()?;
        let digest = reader.array()?;
        reader.end()?;
        Ok(Self {
            head,
            total,
            digest,
        })
    }
}

impl Ask {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.origin.0.to_be_bytes());
        out.extend_from_slice(&self.boot.0.to_be_bytes());
        put_leb(out, self.seq);
        out.push(u8::from(self.notice));
        out.extend_from_slice(&self.missing.to_be_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (origin, boot) = reader.source()?;
        let seq = reader.leb()?;
        let notice = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(reader.malformed("a flag that is neither 0 nor 1")),
        };
        let missing = reader.word()?;
        reader.end()?;
        Ok(Self {
            origin,
            boot,
            seq,
            notice,
            missing,
        })
    }
}

impl Head {
    fn encode(&self, out: &mut Vec<u8>) {
        let class = self.class.bits();
        match self.group {
            GroupRef::Slot(slot) => out.push(slot.min(SLOT_NONE - 1) << 3 | class),
            GroupRef::Key(key) => {
                out.push(SLOT_NONE << 3 | class);
                out.extend_from_slice(&key.0.to_be_bytes());
            }
        }
        if self.class == Class::Broadcast {
            put_leb(out, self.epoch);
        }
        put_leb(out, self.seq);
    }
}

fn put_leb(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a body from its front; every read fails where the body ends too early.
pub(crate) struct Reader {
    kind: u8,
    body: Bytes,
}

impl Reader {
    pub(crate) fn new(kind: u8, body: Bytes) -> Self {
        Self { kind, body }
    }

    fn malformed(&self, why: &str) -> DecodeError {
        DecodeError::Malformed(self.kind, why.to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.body.first_chunk::<N>().copied() else {
            return Err(self.malformed("it ends too early"));
        };
        self.body = self.body.slice(N..);
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn leb(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return Err(self.malformed("a number in no proper form"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number in no proper form"))
    }

    fn source(&mut self) -> Result<(NodeId, BootId), DecodeError> {
        Ok((NodeId(self.word()?), BootId(self.word()?)))
    }

    fn total(&mut self) -> Result<u32, DecodeError> {
        match u32::try_from(self.leb()?) {
            Ok(total) if total as usize <= MAX_PAYLOAD => Ok(total),
            Ok(_) | Err(_) => Err(DecodeError::TooLong(self.kind)),
        }
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let byte = self.byte()?;
        if byte & 4 != 0 {
            return Err(self.malformed("an unknown flag"));
        }
        let class = Class::of(byte);
        let group = match byte >> 3 {
            SLOT_NONE => GroupRef::Key(GroupKey(self.word()?)),
            slot => GroupRef::Slot(slot),
        };
        let epoch = match class {
            Class::Broadcast => self.leb()?,
            Class::ToLeader | Class::Direct | Class::ToAll => 0,
        };
        let seq = self.leb()?;
        Ok(Head {
            group,
            class,
            epoch,
            seq,
        })
    }

    /// A part that did not come from its origin itself: slots are the origin's, so they do not
    /// count here.
    fn part_by_key(&mut self) -> Result<Part, DecodeError> {
        let part = Part::decode(self)?;
        match part.head.group {
            GroupRef::Key(_) => Ok(part),
            GroupRef::Slot(_) => Err(self.malformed("a slot in the name of another device")),
        }
    }

    fn rest(&mut self) -> Bytes {
        core::mem::take(&mut self.body)
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.body.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes after its end"))
        }
    }
}
