//! foca's identities and their bytes.
//!
//! All integers are big-endian. A header is: kind 1, source 12, source's incarnation 2,
//! destination 12, then by kind a probe number 1 and a third identity 12. A member is: identity 12,
//! incarnation 2, state 1.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};
use thiserror::Error;

use crate::id::NodeId;

/// Renewals within one boot that the low bits count.
const RENEWAL_BITS: u32 = 10;

/// A member's identity: the first 8 bytes of its device id, and a number whose high 22 bits count
/// the device's boots and whose low 10 bits count its renewals within this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberId {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u32,
}

impl MemberId {
    pub(super) fn at_boot(node: NodeId, boot_counter: u64) -> Self {
        Self {
            node,
            incarnation: (boot_counter as u32) << RENEWAL_BITS,
        }
    }
}

impl Identity for MemberId {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            node: self.node,
            incarnation: self.incarnation.wrapping_add(1),
        })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    /// The later number wins, on a circle: what is less than half of it ahead is later. So a
    /// counter that wraps goes on winning.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let ahead = self.incarnation.wrapping_sub(adversary.incarnation);
        ahead != 0 && ahead < u32::MAX / 2
    }
}

/// Why bytes are no membership packet, or why there was no room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum CodecError {
    #[error("no room left in the packet")]
    Full,
    #[error("cut short")]
    Short,
    #[error("unknown kind {0}")]
    Kind(u8),
    #[error("unknown state {0}")]
    State(u8),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MemberCodec;

const ID_LEN: usize = 12;
pub(super) const MEMBER_LEN: usize = ID_LEN + 3;
const HEADER_LEN_MAX: usize = 1 + ID_LEN + 2 + ID_LEN + 1 + ID_LEN;

impl Codec<MemberId> for MemberCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<MemberId>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        if buf.remaining_mut() < HEADER_LEN_MAX {
            return Err(CodecError::Full);
        }
        let (kind, probe, third) = parts(&header.message);
        buf.put_u8(kind);
        put_id(&mut buf, header.src);
        buf.put_u16(header.src_incarnation);
        put_id(&mut buf, header.dst);
        if let Some(probe) = probe {
            buf.put_u8(probe);
        }
        if let Some(third) = third {
            put_id(&mut buf, third);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<MemberId>, CodecError> {
        let kind = take(&mut buf, 1)?.get_u8();
        let src = get_id(&mut buf)?;
        let src_incarnation = take(&mut buf, 2)?.get_u16();
        let dst = get_id(&mut buf)?;
        let message = get_message(kind, &mut buf)?;
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<MemberId>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        if buf.remaining_mut() < MEMBER_LEN {
            return Err(CodecError::Full);
        }
        put_id(&mut buf, *member.id());
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<MemberId>, CodecError> {
        let id = get_id(&mut buf)?;
        let rest = take(&mut buf, 3)?;
        let incarnation = rest.get_u16();
        let state = match rest.get_u8() {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            unknown => return Err(CodecError::State(unknown)),
        };
        Ok(Member::new(id, incarnation, state))
    }
}

fn parts(message: &Message<MemberId>) -> (u8, Option<u8>, Option<MemberId>) {
    match *message {
        Message::Ping(n) => (0, Some(n), None),
        Message::Ack(n) => (1, Some(n), None),
        Message::PingReq {
            target,
            probe_number,
        } => (2, Some(probe_number), Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (3, Some(probe_number), Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (4, Some(probe_number), Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (5, Some(probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    }
}

fn get_message(kind: u8, buf: &mut impl Buf) -> Result<Message<MemberId>, CodecError> {
    let mut probe = || take(buf, 1).map(Buf::get_u8);
    Ok(match kind {
        0 => Message::Ping(probe()?),
        1 => Message::Ack(probe()?),
        2 => {
            let probe_number = probe()?;
            Message::PingReq {
                target: get_id(buf)?,
                probe_number,
            }
        }
        3 => {
            let probe_number = probe()?;
            Message::IndirectPing {
                origin: get_id(buf)?,
                probe_number,
            }
        }
        4 => {
            let probe_number = probe()?;
            Message::IndirectAck {
                target: get_id(buf)?,
                probe_number,
            }
        }
        5 => {
            let probe_number = probe()?;
            Message::ForwardedAck {
                origin: get_id(buf)?,
                probe_number,
            }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        // No broadcast items are used, and foca's own notice is off: neither is ever sent.
        unknown => return Err(CodecError::Kind(unknown)),
    })
}

fn take<B: Buf>(buf: &mut B, len: usize) -> Result<&mut B, CodecError> {
    if buf.remaining() < len {
        Err(CodecError::Short)
    } else {
        Ok(buf)
    }
}

fn put_id(buf: &mut impl BufMut, id: MemberId) {
    buf.put_u64(id.node.0);
    buf.put_u32(id.incarnation);
}

fn get_id(buf: &mut impl Buf) -> Result<MemberId, CodecError> {
    let buf = take(buf, ID_LEN)?;
    Ok(MemberId {
        node: NodeId(buf.get_u64()),
        incarnation: buf.get_u32(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> MemberId {
        MemberId {
            node: NodeId(u64::from(n) << 40),
            incarnation: n,
        }
    }

    #[test]
    fn headers_survive_their_bytes_and_no_cut_panics() {
        let messages = [
            Message::Ping(7),
            Message::Ack(8),
            Message::PingReq {
                target: id(3),
                probe_number: 9,
            },
            Message::IndirectPing {
                origin: id(3),
                probe_number: 1,
            },
            Message::IndirectAck {
                target: id(3),
                probe_number: 2,
            },
            Message::ForwardedAck {
                origin: id(3),
                probe_number: 3,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
        ];
        for message in messages {
            let header = Header {
                src: id(1),
                src_incarnation: 5,
                dst: id(2),
                message,
            };
            let mut bytes = Vec::new();
            MemberCodec
                .encode_header(&header, &mut bytes)
                .expect("room");
            assert_eq!(MemberCodec.decode_header(bytes.as_slice()), Ok(header));
            for cut in 0..bytes.len() {
                assert_eq!(
                    MemberCodec.decode_header(&bytes[..cut]),
                    Err(CodecError::Short)
                );
            }
        }
    }

    #[test]
    fn a_later_boot_wins_and_so_does_a_renewal() {
        let first = MemberId::at_boot(NodeId(1), 4);
        let renewed = first.renew().expect("always");
        let next = MemberId::at_boot(NodeId(1), 5);
        assert!(renewed.win_addr_conflict(&first));
        assert!(next.win_addr_conflict(&renewed));
        assert!(!first.win_addr_conflict(&next));
        assert!(!first.win_addr_conflict(&first));
        let last = MemberId::at_boot(NodeId(1), (1 << 22) - 1);
        assert!(MemberId::at_boot(NodeId(1), 1 << 22).win_addr_conflict(&last));
    }
}
