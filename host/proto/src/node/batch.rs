//! Messages to one device that arise between two drains share datagrams.
//!
//! Nothing waits for company: the driver drains after each input or after a few that came at once,
//! and then everything goes out. A few buffers are kept for the next time, not one for each device.

use std::collections::BTreeMap;

use super::{Node, ctx};
use crate::ctx::Ctx;
use crate::id::NodeId;
use crate::messaging::outbound::Cargo;
use crate::mutant::{self, Mutant};
use crate::session::MAX_PLAINTEXT;
use crate::wire::message::{FRAME_HEADER, Message, shorten_last};

/// What the last frame of a datagram saves.
const SAVED: usize = 2;

/// Frames that have not been sealed yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    open: BTreeMap<NodeId, Frames>,
    /// Who has frames, in the order of their first.
    order: Vec<NodeId>,
    /// Empty buffers.
    spare: Vec<Vec<u8>>,
    /// Whether messages are sent as a later minor version might: for tests.
    later: bool,
}

/// A message that this version does not know.
const UNKNOWN: [u8; 5] = [63, 0, 2, 0xc3, 0xc0];
/// The body of a message that is sent as a later version might is no longer than this.
const LATER_MAX: usize = 900;

/// Empty buffers kept.
const SPARE_MAX: usize = 32;

#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where the last frame begins.
    last: usize,
}

impl Batch {
    pub(super) const fn speak_later(&mut self) {
        self.later = true;
    }

    /// Appends a frame. What does not fit the datagram with it is handed to `seal` first.
    fn append(&mut self, to: NodeId, write: impl FnOnce(&mut Vec<u8>), seal: impl FnOnce(&[u8])) {
        let spare = &mut self.spare;
        let frames = self.open.entry(to).or_insert_with(|| Frames {
            bytes: spare.pop().unwrap_or_default(),
            last: 0,
        });
        let start = frames.bytes.len();
        if start == 0 {
            self.order.push(to);
        }
        write(&mut frames.bytes);
        let last = if self.later {
            make_later(&mut frames.bytes, start)
        } else {
            start
        };
        if frames.bytes.len() > MAX_PLAINTEXT + SAVED && start > 0 {
            let mut next = self.spare.pop().unwrap_or_default();
            next.extend_from_slice(&frames.bytes[start..]);
            frames.bytes.truncate(start);
            shorten_last(&mut frames.bytes, frames.last);
            seal(&frames.bytes);
            let sealed = core::mem::replace(&mut frames.bytes, next);
            frames.last = last - start;
            self.keep(sealed);
        } else {
            frames.last = last;
        }
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Puts a message of unknown kind before the frame at `start`, and a field behind those of its
/// array. Returns where the frame is.
fn make_later(frames: &mut Vec<u8>, start: usize) -> usize {
    let body = start + FRAME_HEADER;
    let is_packed = !matches!(frames[start], 5 | 15 | 16 | 20..=23);
    let is_short = frames.len() - body <= LATER_MAX;
    if !(is_packed && is_short && matches!(frames[body], 0x90..0x9f)) {
        return start;
    }
    frames[body] += 1;
    frames.extend_from_slice(&[0x92, 7, 0xc0]);
    let length = (frames.len() - body) as u16;
    frames[start + 1..body].copy_from_slice(&length.to_be_bytes());
    frames.splice(start..start, UNKNOWN);
    start + UNKNOWN.len()
}

impl Node {
    /// Sends a message over the session with a device. Returns whether there is one.
    pub(super) fn send(&mut self, to: NodeId, message: &Message) -> bool {
        if mutant::is(Mutant::ControlWaits) && self.messaging.outbound.is_waiting(to) {
            let mut frame = Vec::new();
            message.encode(&mut frame);
            return self
                .messaging
                .outbound
                .push(to, &[frame.into()], Cargo::Again);
        }
        self.send_frame(to, |out| message.encode(out))
    }

    /// Sends a frame over the session with a device. Returns whether there is one.
    pub(super) fn send_frame(&mut self, to: NodeId, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let (Some(entry), Some(sessions)) = (self.roster.get(to), &mut self.sessions) else {
            return false;
        };
        if !sessions.is_established(&entry.key) {
            return false;
        }
        let mut ctx = ctx!(self);
        self.batch.append(to, write, |plaintext| {
            let _ = sessions.send(&mut ctx, &entry.key, plaintext);
        });
        true
    }

    /// Seals and sends all that has been collected.
    pub(super) fn flush(&mut self) {
        if self.batch.order.is_empty() {
            return;
        }
        let mut order = core::mem::take(&mut self.batch.order);
        for to in order.drain(..) {
            let Some(mut frames) = self.batch.open.remove(&to) else {
                continue;
            };
            if let (Some(entry), Some(sessions)) = (self.roster.get(to), &mut self.sessions) {
                shorten_last(&mut frames.bytes, frames.last);
                let _ = sessions.send(&mut ctx!(self), &entry.key, &frames.bytes);
            }
            self.batch.keep(frames.bytes);
        }
        self.batch.order = order;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::message::Frames as Reader;

    fn frame(len: usize) -> Message {
        Message::Membership(Bytes::from(vec![7; len]))
    }

    #[test]
    fn datagrams_are_filled_and_what_overflows_starts_the_next() {
        let mut batch = Batch::default();
        let mut sealed: Vec<Vec<u8>> = Vec::new();
        let lengths = [10, 500, 650, MAX_PLAINTEXT - 1, 1, 2];
        for len in lengths {
            let write = |out: &mut Vec<u8>| frame(len).encode(out);
            batch.append(NodeId(1), write, |datagram| sealed.push(datagram.to_vec()));
        }
        let frames = batch.open.get_mut(&NodeId(1)).expect("the last ones wait");
        shorten_last(&mut frames.bytes, frames.last);
        sealed.push(frames.bytes.clone());
        let read = sealed.iter().map(|datagram| {
            assert!(datagram.len() <= MAX_PLAINTEXT);
            let frames = Reader::new(Bytes::copy_from_slice(datagram));
            frames.map(|frame| frame.expect("well formed")).collect()
        });
        let read: Vec<Vec<Message>> = read.collect();
        let expected = [vec![10, 500, 650], vec![MAX_PLAINTEXT - 1], vec![1, 2]];
        let expected = expected.map(|lengths| lengths.into_iter().map(frame).collect::<Vec<_>>());
        assert_eq!(read, expected);
        assert_eq!(batch.order, [NodeId(1)]);
    }
}
