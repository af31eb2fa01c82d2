//! Long messages on their way in: parts are put together until the message is whole, and what is
//! missing is asked for.
//!
//! Parts are kept by who sent them, so that nobody spoils what another sends. The first part fixes
//! a message's head and length; a later one that contradicts it changes nothing. Every bound is on
//! what one device sent and on everything: beyond it the oldest unfinished message is dropped, of
//! that device if it is its own bound. A message is dropped when no part came for two seconds.
//!
//! Without repair a message of 60 parts would never pass a link that loses a fifth. A pause of
//! 30 ms makes the receiver ask for the missing parts, then after 60, 120 ms and so on without a
//! new part; at a fifth of loss, five rounds bring the last part of 60.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::{BootId, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::wire::part::{Head, Part, part_count, part_range};

/// Unfinished messages of one device, their bytes, and the same of all devices.
const PEER_COUNT_MAX: usize = 16;
const PEER_BYTES_MAX: usize = 512 << 10;
const COUNT_MAX: usize = 256;
const BYTES_MAX: usize = 4 << 20;
/// After how long without a new part a message is given up, and after how long in all.
const STALLED: Duration = Duration::from_secs(2);
const LIFE: Duration = Duration::from_secs(10);
/// The first pause that makes the receiver ask, and the longest.
const ASK_FIRST: Duration = Duration::from_millis(30);
const ASK_MAX: Duration = Duration::from_millis(480);

/// Which message, and who sends it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartKey {
    pub(crate) from: NodeId,
    pub(crate) origin: NodeId,
    pub(crate) boot: BootId,
    pub(crate) seq: u64,
}

/// What came of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The message is whole.
    Whole(Bytes),
    /// More parts are missing.
    Kept,
    /// It was there, or contradicts what was there.
    Ignored,
}

/// What a look at the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// These parts are missing.
    Ask { key: PartKey, missing: u64 },
    /// The message was given up.
    Lost { key: PartKey },
}

#[derive(Debug)]
struct Partial {
    head: Head,
    missing: u64,
    bytes: Vec<u8>,
    started: Time,
    progress: Time,
    ask_at: Time,
    pause: Duration,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    partials: BTreeMap<PartKey, Partial>,
    bytes: usize,
    /// No partial is due before this.
    wake: Option<Time>,
    dropped: Vec<PartKey>,
}

impl Reassembly {
    /// Takes a part of a message that has several.
    pub(crate) fn take(&mut self, now: Time, key: PartKey, part: &Part) -> Taken {
        if !self.partials.contains_key(&key) {
            self.begin(now, key, part);
        }
        let Some(partial) = self.partials.get_mut(&key) else {
            return Taken::Ignored;
        };
        let bit = 1 << part.index;
        if partial.head != part.head
            || partial.bytes.len() != part.total as usize
            || partial.missing & bit == 0
        {
            return Taken::Ignored;
        }
        partial.bytes[part_range(part.total, part.index.into())].copy_from_slice(&part.chunk);
        partial.missing &= !bit;
        partial.progress = now;
        partial.pause = ASK_FIRST;
        partial.ask_at = now + ASK_FIRST;
        if partial.missing != 0 {
            return Taken::Kept;
        }
        self.remove(&key)
            .map_or(Taken::Ignored, |done| Taken::Whole(done.bytes.into()))
    }

    /// What is due: questions, and messages that are given up.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Due> {
        if let Some(key) = self.dropped.pop() {
            return Some(Due::Lost { key });
        }
        if self.wake.is_none_or(|wake| wake > now) {
            return None;
        }
        let is_due = |partial: &Partial| partial.due() <= now;
        let due = self.partials.iter().find(|(_, partial)| is_due(partial));
        let Some(key) = due.map(|(key, _)| *key) else {
            self.wake = self.partials.values().map(Partial::due).min();
            return None;
        };
        let partial = self.partials.get_mut(&key)?;
        if partial.ends() <= now {
            self.remove(&key);
            return Some(Due::Lost { key });
        }
        partial.pause = (partial.pause * 2).min(ASK_MAX);
        partial.ask_at = now + partial.pause;
        let missing = partial.missing;
        Some(Due::Ask { key, missing })
    }

    /// When to call [`Reassembly::poll`] next; may be early.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// Ends a message that came another way.
    pub(crate) fn forget(&mut self, origin: NodeId, boot: BootId, seq: u64) {
        let same = |key: &&PartKey| (key.origin, key.boot, key.seq) == (origin, boot, seq);
        let keys: Vec<PartKey> = self.partials.keys().filter(same).copied().collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// Who sends parts of a message.
    pub(crate) fn senders(
        &self,
        origin: NodeId,
        boot: BootId,
        seq: u64,
    ) -> impl Iterator<Item = NodeId> {
        let same = move |key: &&PartKey| (key.origin, key.boot, key.seq) == (origin, boot, seq);
        self.partials.keys().filter(same).map(|key| key.from)
    }

    fn begin(&mut self, now: Time, key: PartKey, part: &Part) {
        let total = part.total as usize;
        let of_peer = |key: &PartKey, from| key.from == from;
        let own = || self.partials.iter().filter(|(k, _)| of_peer(k, key.from));
        let own_bytes: usize = own().map(|(_, partial)| partial.bytes.len()).sum();
        if mutant::is(Mutant::ReassemblyUnbounded) {
            // The memory is whoever sends to fill.
        } else if own().count() >= PEER_COUNT_MAX || own_bytes + total > PEER_BYTES_MAX {
            self.drop_oldest(|k| of_peer(k, key.from));
        } else if self.partials.len() >= COUNT_MAX || self.bytes + total > BYTES_MAX {
            self.drop_oldest(|_| true);
        }
        self.bytes += total;
        let missing = u64::MAX >> (64 - part_count(part.total).clamp(1, 64));
        let partial = Partial {
            head: part.head,
            missing,
            bytes: vec![0; total],
            started: now,
            progress: now,
            ask_at: now + ASK_FIRST,
            pause: ASK_FIRST,
        };
        let due = partial.due();
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
        self.partials.insert(key, partial);
    }

    fn drop_oldest(&mut self, of: impl Fn(&PartKey) -> bool) {
        let candidates = self.partials.iter().filter(|(key, _)| of(key));
        let oldest = candidates.min_by_key(|(_, partial)| partial.started);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.remove(&key);
            self.dropped.push(key);
            self.wake = Some(Time::ZERO);
        }
    }

    fn remove(&mut self, key: &PartKey) -> Option<Partial> {
        let partial = self.partials.remove(key)?;
        self.bytes -= partial.bytes.len();
        Some(partial)
    }
}

impl Partial {
    fn ends(&self) -> Time {
        (self.progress + STALLED).min(self.started + LIFE)
    }

    fn due(&self) -> Time {
        self.ask_at.min(self.ends())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_PAYLOAD;
    use crate::id::GroupKey;
    use crate::wire::part::{CHUNK, Class, GroupRef};

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn key(from: u64, seq: u64) -> PartKey {
        PartKey {
            from: NodeId(from),
            origin: NodeId(from),
            boot: BootId(1),
            seq,
        }
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 % 251) as u8).collect()
    }

    fn part(len: usize, seq: u64, index: u32) -> Part {
        let head = Head {
            group: GroupRef::Key(GroupKey(1)),
            class: Class::ToAll,
            epoch: 0,
            seq,
        };
        let total = len as u32;
        let chunk = Bytes::copy_from_slice(&payload(len)[part_range(total, index)]);
        Part {
            head,
            total,
            index: index as u8,
            chunk,
        }
    }

    #[test]
    fn parts_in_any_order_and_twice_make_the_message_once() {
        for len in [CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7, MAX_PAYLOAD] {
            let mut reassembly = Reassembly::default();
            let count = part_count(len as u32);
            let mut whole = Vec::new();
            for step in 0..count {
                // 7 is prime to every count here but 7's own multiples.
                let index = if count.is_multiple_of(7) {
                    step
                } else {
                    step * 7 % count
                };
                for copy in 0..2 {
                    match reassembly.take(at(0), key(1, 1), &part(len, 1, index)) {
                        Taken::Whole(bytes) => whole.push(bytes),
                        Taken::Kept => assert_eq!(copy, 0),
                        Taken::Ignored => assert_eq!(copy, 1),
                    }
                    if !whole.is_empty() {
                        break;
                    }
                }
            }
            assert_eq!(whole, [payload(len)], "{len}");
            assert_eq!((reassembly.bytes, reassembly.partials.len()), (0, 0));
        }
    }

    #[test]
    fn parts_that_contradict_the_first_change_nothing() {
        let mut reassembly = Reassembly::default();
        let len = 3 * CHUNK;
        assert_eq!(
            reassembly.take(at(0), key(1, 1), &part(len, 1, 0)),
            Taken::Kept
        );
        let longer = part(len + 1, 1, 1);
        let mut other = part(len, 1, 1);
        other.head.class = Class::Broadcast;
        for wrong in [longer, other] {
            assert_eq!(reassembly.take(at(0), key(1, 1), &wrong), Taken::Ignored);
        }
        assert_eq!(
            reassembly.take(at(0), key(1, 1), &part(len, 1, 1)),
            Taken::Kept
        );
        let last = reassembly.take(at(0), key(1, 1), &part(len, 1, 2));
        assert_eq!(last, Taken::Whole(payload(len).into()));
    }

    #[test]
    fn a_flood_of_first_parts_stays_within_the_bounds_and_spares_others() {
        let mut reassembly = Reassembly::default();
        let _ = reassembly.take(at(0), key(99, 7), &part(MAX_PAYLOAD, 7, 0));
        for seq in 0..10_000 {
            let _ = reassembly.take(at(1), key(1, seq), &part(MAX_PAYLOAD, seq, 0));
            assert!(reassembly.bytes <= PEER_BYTES_MAX + MAX_PAYLOAD);
        }
        assert!(
            reassembly.partials.contains_key(&key(99, 7)),
            "another device's is kept"
        );
        let lost = core::iter::from_fn(|| reassembly.poll(at(2))).count();
        assert_eq!(
            lost,
            10_000 - PEER_BYTES_MAX / MAX_PAYLOAD,
            "each is counted"
        );
        for from in 0..1_000 {
            for seq in 0..20 {
                let _ = reassembly.take(at(3), key(from, seq), &part(2 * CHUNK, seq, 0));
                assert!(reassembly.partials.len() <= COUNT_MAX);
                assert!(reassembly.bytes <= BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_pause_asks_with_growing_gaps_until_the_message_is_given_up() {
        let mut reassembly = Reassembly::default();
        let _ = reassembly.take(at(0), key(1, 1), &part(3 * CHUNK, 1, 1));
        let mut asked = Vec::new();
        for _ in 0..100 {
            let Some(now) = reassembly.next_timeout() else {
                break;
            };
            while let Some(due) = reassembly.poll(now) {
                match due {
                    Due::Ask { missing, .. } => {
                        assert_eq!(missing, 0b101);
                        asked.push(now.as_micros() / 1000);
                    }
                    Due::Lost { .. } => asked.push(u64::MAX),
                }
                if asked == [30] {
                    let _ = reassembly.take(now, key(1, 1), &part(3 * CHUNK, 1, 1));
                }
            }
        }
        assert_eq!(asked, [30, 90, 210, 450, 930, 1410, 1890, u64::MAX]);
        assert!(reassembly.partials.is_empty());
    }
}
