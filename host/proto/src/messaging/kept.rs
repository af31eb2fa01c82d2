//! Messages that others may ask for again: long ones that this device sent, and those of the fan-out
//! tree that it sent or got. Bounded in number, bytes and time; the oldest go first.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::App;
use crate::id::{BootId, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::wire::part::{DIGEST_LEN, PARTS_MAX, part_count};

const COUNT_MAX: usize = 1024;
const BYTES_MAX: usize = 4 << 20;
const LIFE: Duration = Duration::from_secs(10);
/// How many times over a message may be sent again, on average over its receivers.
const AGAIN_MAX: u32 = 4;

/// Which message: its sender, the sender's boot, its number.
pub(crate) type MessageKey = (NodeId, BootId, u64);

/// A message that may be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) message: App,
    /// Its one receiver; none if the whole group may have it.
    pub(crate) to: Option<NodeId>,
    /// Of a message that travels through the tree.
    pub(crate) digest: Option<[u8; DIGEST_LEN]>,
    at: Time,
    /// Parts that may be sent again.
    left: u32,
    /// Whether this device has done its part in the tree.
    passed_on: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Store {
    kept: BTreeMap<MessageKey, Kept>,
    order: VecDeque<MessageKey>,
    bytes: usize,
}

impl Store {
    /// Keeps a message that goes to `receivers` devices.
    pub(crate) fn keep(
        &mut self,
        now: Time,
        key: MessageKey,
        message: App,
        to: Option<NodeId>,
        digest: Option<[u8; DIGEST_LEN]>,
        receivers: usize,
    ) {
        if self.kept.contains_key(&key) {
            return;
        }
        self.bytes += message.payload.len();
        let receivers = u32::try_from(receivers).unwrap_or(u32::MAX).max(1);
        let parts = part_count(u32::try_from(message.payload.len()).unwrap_or(0)).min(PARTS_MAX);
        let kept = Kept {
            message,
            to,
            digest,
            at: now,
            left: receivers.saturating_mul(parts).saturating_mul(AGAIN_MAX),
            passed_on: false,
        };
        self.kept.insert(key, kept);
        self.order.push_back(key);
        self.prune(now);
    }

    /// A message that is still kept.
    pub(crate) fn get(&self, key: &MessageKey) -> Option<&Kept> {
        self.kept.get(key)
    }

    /// Allows `parts` of a message to be sent again, unless that has been done too often.
    pub(crate) fn allow(&mut self, key: &MessageKey, parts: u32) -> bool {
        let Some(kept) = self.kept.get_mut(key) else {
            return false;
        };
        match kept.left.checked_sub(parts) {
            Some(left) => {
                kept.left = left;
                true
            }
            None => mutant::is(Mutant::SentAgainEndlessly),
        }
    }

    /// Whether this device's part in the tree is still to be done; it is done after this.
    pub(crate) fn pass_on(&mut self, key: &MessageKey) -> bool {
        let kept = self.kept.get_mut(key);
        kept.is_some_and(|kept| !core::mem::replace(&mut kept.passed_on, true))
    }

    /// Drops what is too old or beyond the bounds.
    pub(crate) fn prune(&mut self, now: Time) {
        while let Some(key) = self.order.front() {
            let old = self
                .kept
                .get(key)
                .is_none_or(|kept| now.since(kept.at) >= LIFE);
            if !old && self.kept.len() <= COUNT_MAX && self.bytes <= BYTES_MAX {
                return;
            }
            if let Some(kept) = self.kept.remove(key) {
                self.bytes -= kept.message.payload.len();
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::GroupKey;
    use crate::wire::part::Class;

    fn key(seq: u64) -> MessageKey {
        (NodeId(1), BootId(2), seq)
    }

    fn app(seq: u64, len: usize) -> App {
        App {
            group: GroupKey(1),
            class: Class::ToAll,
            epoch: 0,
            seq,
            payload: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn bounds_hold_and_the_oldest_go_first() {
        let mut store = Store::default();
        for seq in 0..2_000 {
            store.keep(Time::ZERO, key(seq), app(seq, 60_000), None, None, 1);
            assert!(store.bytes <= BYTES_MAX);
        }
        assert!(store.get(&key(1_999)).is_some() && store.get(&key(1_900)).is_none());
        for seq in 2_000..5_000 {
            store.keep(Time::ZERO, key(seq), app(seq, 10), None, None, 1);
        }
        assert_eq!(store.kept.len(), COUNT_MAX);
        store.prune(Time::ZERO + LIFE);
        assert!(store.kept.is_empty() && store.order.is_empty() && store.bytes == 0);
    }

    #[test]
    fn a_message_is_sent_again_a_few_times_and_passed_on_once() {
        let mut store = Store::default();
        store.keep(Time::ZERO, key(1), app(1, 3_000), None, None, 2);
        assert!(store.allow(&key(1), 3 * 2 * AGAIN_MAX));
        assert!(!store.allow(&key(1), 1), "everyone got it often enough");
        assert!(!store.allow(&key(2), 1), "not kept");
        assert!(store.pass_on(&key(1)));
        assert!(!store.pass_on(&key(1)));
    }
}
