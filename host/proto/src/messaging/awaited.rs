//! Messages of the fan-out tree on their way in: a notice comes from the sender itself, the payload
//! from any member, and only both together count.
//!
//! ```text
//! sender ---- notice: digest, length ----> every receiver
//!     \--- payload ---> member --- payload ---> member ...
//! ```
//!
//! Invariant: nothing is given out as [`Verified`] whose digest the sender did not tell this device
//! over their own session. So a member can withhold what it should pass on, but not change it, and
//! what is withheld is asked for: of other members at random, then of the sender.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::kept::MessageKey;
use super::{App, tree};
use crate::id::{GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::wire::part::{Class, DIGEST_LEN};

/// Messages awaited at once, and those that one device is the reason for.
const COUNT_MAX: usize = 512;
const PEER_COUNT_MAX: usize = 64;
/// Bytes of payloads whose notice is missing.
const BYTES_MAX: usize = 1 << 20;
/// For how long a message is awaited.
const LIFE: Duration = Duration::from_secs(8);
/// After how long the other half is asked for at first, and at the longest.
const NOTICE_FIRST: Duration = Duration::from_millis(30);
const BODY_FIRST: Duration = Duration::from_millis(100);
const ASK_MAX: Duration = Duration::from_millis(800);

/// What the sender says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) group: GroupKey,
    pub(crate) class: Class,
    pub(crate) epoch: u64,
    pub(crate) total: u32,
    pub(crate) digest: [u8; DIGEST_LEN],
}

/// A payload that came from another member.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) from: NodeId,
    pub(crate) message: App,
    /// The positions that this device has to supply.
    pub(crate) range: (u64, u64),
}

/// A message that is its sender's, word for word.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) message: App,
    pub(crate) digest: [u8; DIGEST_LEN],
    pub(crate) range: (u64, u64),
}

/// What a look at the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The sender is asked for its notice.
    AskNotice { key: MessageKey },
    /// The payload is asked for: of some member, or of the sender.
    AskBody {
        key: MessageKey,
        total: u32,
        group: GroupKey,
        of_sender: bool,
    },
    /// It was awaited for too long.
    Lost { key: MessageKey, noticed: bool },
}

#[derive(Debug)]
struct Awaited {
    told: Option<Told>,
    body: Option<Body>,
    /// Who made this device wait.
    by: NodeId,
    since: Time,
    ask_at: Time,
    pause: Duration,
    rounds: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    awaited: BTreeMap<MessageKey, Awaited>,
    bytes: usize,
    /// Nothing is due before this.
    wake: Option<Time>,
    dropped: Vec<(MessageKey, bool)>,
}

impl Waiting {
    /// The sender's notice came. Gives the message out if its payload is there.
    pub(crate) fn notice(&mut self, now: Time, key: MessageKey, told: Told) -> Option<Verified> {
        let awaited = self.entry(now, key, key.0, BODY_FIRST);
        if awaited.told.is_some() {
            return None;
        }
        awaited.told = Some(told);
        awaited.pause = BODY_FIRST;
        awaited.ask_at = now + BODY_FIRST;
        let body = awaited.body.take();
        self.wake_by(now + BODY_FIRST);
        let body = body?;
        self.bytes -= body.message.payload.len();
        self.verify(key, told, body)
    }

    /// A payload came. Gives the message out if its notice is there.
    pub(crate) fn body(&mut self, now: Time, key: MessageKey, body: Body) -> Option<Verified> {
        let len = body.message.payload.len();
        let awaited = self.entry(now, key, body.from, NOTICE_FIRST);
        let unannounced = mutant::is(Mutant::TreeUnannounced);
        let unannounced = unannounced.then(|| told(&body.message, key, &body.message.payload));
        if let Some(told) = awaited.told.or(unannounced) {
            return self.verify(key, told, body);
        }
        if awaited.body.is_none() {
            awaited.body = Some(body);
            self.bytes += len;
            while self.bytes > BYTES_MAX {
                self.drop_oldest(|awaited| awaited.body.is_some());
            }
        }
        None
    }

    /// What is due. `is_arriving` says whether parts of a message come in right now.
    pub(crate) fn poll(
        &mut self,
        now: Time,
        is_arriving: impl Fn(&MessageKey) -> bool,
    ) -> Option<Due> {
        if let Some((key, noticed)) = self.dropped.pop() {
            return Some(Due::Lost { key, noticed });
        }
        if self.wake.is_none_or(|wake| wake > now) {
            return None;
        }
        loop {
            let due = self
                .awaited
                .iter_mut()
                .find(|(_, awaited)| awaited.due() <= now);
            let Some((key, awaited)) = due else {
                self.wake = self.awaited.values().map(Awaited::due).min();
                return None;
            };
            let key = *key;
            if awaited.since + LIFE <= now {
                let noticed = awaited.told.is_some();
                self.remove(&key);
                return Some(Due::Lost { key, noticed });
            }
            awaited.ask_at = now + awaited.pause;
            if awaited.told.is_some() && is_arriving(&key) {
                continue;
            }
            awaited.pause = (awaited.pause * 2).min(ASK_MAX);
            awaited.rounds += 1;
            return Some(match awaited.told {
                None => Due::AskNotice { key },
                Some(told) => Due::AskBody {
                    key,
                    total: told.total,
                    group: told.group,
                    of_sender: awaited.rounds.is_multiple_of(3),
                },
            });
        }
    }

    /// When to call [`Waiting::poll`] next; may be early.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.wake
    }

    fn verify(&mut self, key: MessageKey, told: Told, body: Body) -> Option<Verified> {
        let Body { message, range, .. } = body;
        let said = (told.group, told.class, told.epoch);
        let same = said == (message.group, message.class, message.epoch)
            && told.digest == tree::digest((message.group, message.epoch), key, &message.payload);
        if !same && !mutant::is(Mutant::DigestUnchecked) {
            tracing::debug!(origin = ?key.0, "a payload that is not its sender's was refused");
            return None;
        }
        self.remove(&key);
        let digest = told.digest;
        Some(Verified {
            message,
            digest,
            range,
        })
    }

    fn entry(&mut self, now: Time, key: MessageKey, by: NodeId, first: Duration) -> &mut Awaited {
        if !self.awaited.contains_key(&key) {
            let own = self
                .awaited
                .values()
                .filter(|awaited| awaited.by == by)
                .count();
            if own >= PEER_COUNT_MAX {
                self.drop_oldest(|awaited| awaited.by == by);
            } else if self.awaited.len() >= COUNT_MAX {
                self.drop_oldest(|_| true);
            }
            self.wake_by(now + first);
        }
        self.awaited.entry(key).or_insert(Awaited {
            told: None,
            body: None,
            by,
            since: now,
            ask_at: now + first,
            pause: first,
            rounds: 0,
        })
    }

    fn wake_by(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn drop_oldest(&mut self, of: impl Fn(&Awaited) -> bool) {
        let candidates = self.awaited.iter().filter(|(_, awaited)| of(awaited));
        let oldest = candidates.min_by_key(|(_, awaited)| awaited.since);
        if let Some((key, noticed)) = oldest.map(|(key, a)| (*key, a.told.is_some())) {
            self.remove(&key);
            self.dropped.push((key, noticed));
            self.wake = Some(Time::ZERO);
        }
    }

    fn remove(&mut self, key: &MessageKey) {
        if let Some(body) = self.awaited.remove(key).and_then(|awaited| awaited.body) {
            self.bytes -= body.message.payload.len();
        }
    }
}

impl Awaited {
    fn due(&self) -> Time {
        self.ask_at.min(self.since + LIFE)
    }
}

/// A message of the tree whose payload is `payload`.
pub(crate) fn told(message: &App, key: MessageKey, payload: &Bytes) -> Told {
    Told {
        group: message.group,
        class: message.class,
        epoch: message.epoch,
        total: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        digest: tree::digest((message.group, message.epoch), key, payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootId;

    const KEY: MessageKey = (NodeId(1), BootId(2), 3);

    fn message(payload: &'static [u8]) -> App {
        App {
            group: GroupKey(4),
            class: Class::Broadcast,
            epoch: 5,
            seq: 3,
            payload: Bytes::from_static(payload),
        }
    }

    fn body(from: u64, payload: &'static [u8]) -> Body {
        Body {
            from: NodeId(from),
            message: message(payload),
            range: tree::EVERYONE,
        }
    }

    fn notice(payload: &'static [u8]) -> Told {
        let message = message(payload);
        told(&message, KEY, &message.payload)
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn only_what_the_sender_vouches_for_comes_out() {
        let mut waiting = Waiting::default();
        assert!(waiting.body(at(0), KEY, body(7, b"forged")).is_none());
        assert!(
            waiting.body(at(0), KEY, body(8, b"true")).is_none(),
            "one payload is held"
        );
        assert!(
            waiting.notice(at(0), KEY, notice(b"true")).is_none(),
            "it is the wrong one"
        );
        assert!(waiting.body(at(0), KEY, body(7, b"forged")).is_none());
        let mut disguised = body(7, b"true");
        disguised.message.epoch = 6;
        assert!(waiting.body(at(0), KEY, disguised).is_none());
        let verified = waiting
            .body(at(0), KEY, body(8, b"true"))
            .expect("the digest fits");
        assert_eq!(verified.message, message(b"true"));
        assert!(waiting.awaited.is_empty() && waiting.bytes == 0);

        assert!(waiting.body(at(0), KEY, body(8, b"true")).is_none());
        assert!(
            waiting.notice(at(0), KEY, notice(b"true")).is_some(),
            "in either order"
        );
    }

    #[test]
    fn what_is_missing_is_asked_for_until_it_is_too_late() {
        let mut waiting = Waiting::default();
        let _ = waiting.notice(at(0), KEY, notice(b"true"));
        let mut asked = Vec::new();
        let mut lost = None;
        while let Some(now) = waiting.next_timeout() {
            while let Some(due) = waiting.poll(now, |_| false) {
                match due {
                    Due::AskBody { of_sender, .. } => {
                        asked.push((now.as_micros() / 1000, of_sender));
                    }
                    Due::Lost { noticed, .. } => lost = Some((now, noticed)),
                    Due::AskNotice { .. } => panic!("the notice is there"),
                }
            }
        }
        let first = [(100, false), (200, false), (400, true), (800, false)];
        assert_eq!(asked[..4], first);
        assert_eq!(lost, Some((at(8_000), true)));

        let _ = waiting.body(at(0), KEY, body(8, b"true"));
        assert_eq!(waiting.poll(at(29), |_| false), None);
        let ask = Due::AskNotice { key: KEY };
        assert_eq!(waiting.poll(at(30), |_| false), Some(ask));
    }

    #[test]
    fn nobody_asks_while_parts_arrive() {
        let mut waiting = Waiting::default();
        let _ = waiting.notice(at(0), KEY, notice(b"true"));
        assert_eq!(waiting.poll(at(100), |_| true), None);
        assert!(waiting.poll(at(200), |_| false).is_some());
    }

    #[test]
    fn floods_of_halves_stay_within_the_bounds() {
        let mut waiting = Waiting::default();
        let _ = waiting.notice(at(0), KEY, notice(b"true"));
        for seq in 10..2_000 {
            let _ = waiting.body(at(1), (NodeId(1), BootId(2), seq), body(66, &[0; 60_000]));
            assert!(waiting.bytes <= BYTES_MAX + 60_000);
            assert!(waiting.awaited.len() <= PEER_COUNT_MAX + 1);
        }
        assert!(
            waiting.awaited.contains_key(&KEY),
            "what another waits for is kept"
        );
        for origin in 100..3_000 {
            let _ = waiting.notice(at(2), (NodeId(origin), BootId(2), 1), notice(b"true"));
            assert!(waiting.awaited.len() <= COUNT_MAX);
        }
    }
}
