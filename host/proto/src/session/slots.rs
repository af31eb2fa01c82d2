//! The sessions with one peer, and which of them is sent on.
//!
//! A session the peer initiated begins *half-open*: it may be received on, and is sent on only
//! after its first valid packet proved that the peer holds its keys. So a replayed Init never
//! disturbs a session in use. Several half-open ones may stand side by side, because an initiator
//! tries several addresses at once and takes the answer that comes first.
//!
//! Which session is the newer one is decided by the order in which this side saw their handshakes.
//! The newest confirmed one is *current*, the one before it *previous*, which only receives. A late
//! confirmation of an older session makes it previous, never current. Where both sides dialled at
//! once they may see the two handshakes in different orders; then the device with the lower key
//! decides, and the other one follows to the session on which it is sent to. Sessions with another boot of the peer are the
//! business of [`crate::session::rival`].

use core::time::Duration;
use std::collections::VecDeque;

use snow::StatelessTransportState;

use crate::event::Address;
use crate::id::BootId;
use crate::keys::Kid;
use crate::mutant::{self, Mutant};
use crate::session::handshake::array;
use crate::session::refusal::Refusal;
use crate::session::rival::{Challenge, Rival};
use crate::time::Time;
use crate::window::Window;
use crate::wire::header::{DATA_HEADER_LEN, Kind};

/// An initiator asks at so many addresses at once.
const HALF_OPEN_MAX: usize = 4;
/// Far below the point at which the ciphers' bounds are reached.
pub(super) const COUNTER_MAX: u64 = 1 << 48;
/// A session that has sent so many packets is renewed.
pub(super) const RENEW_AFTER_PACKETS: u64 = 1 << 47;
/// Nothing is sent or accepted under a session of this age.
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(20 * 60);
/// A half-open session of this age is dropped: its initiator has long tried again.
pub(super) const HALF_OPEN_LIFE: Duration = Duration::from_secs(30);
/// Two sessions that began within this time may come from attempts of both sides.
const CROSSING: Duration = Duration::from_secs(60);

/// Names a session or handshake to its receiver; 24 bits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index(u32);

impl Index {
    const MASK: u32 = 0x00ff_ffff;

    pub(super) const fn new(value: u32) -> Self {
        Self(value & Self::MASK)
    }

    pub(super) const fn next(self) -> Self {
        Self::new(self.0.wrapping_add(1))
    }

    pub(super) const fn from_bytes([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_le_bytes([a, b, c, 0]))
    }

    pub(super) const fn to_bytes(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

/// The keys and counters of one finished handshake.
pub(super) struct Session {
    pub(super) local: Index,
    pub(super) boot: BootId,
    /// The secret it was established under.
    pub(super) kid: Kid,
    pub(super) initiated: bool,
    /// When this side saw the handshake.
    pub(super) created: Time,
    /// Orders the sessions of this device by `created`, also within one instant.
    pub(super) serial: u64,
    /// When this side asks for another in its place.
    pub(super) renew_at: Time,
    remote: Index,
    transport: StatelessTransportState,
    sent: u64,
    window: Window,
}

/// How a session came to be.
pub(super) struct Origin {
    pub(super) local: Index,
    pub(super) remote: Index,
    pub(super) boot: BootId,
    pub(super) kid: Kid,
    pub(super) initiated: bool,
    pub(super) created: Time,
    pub(super) serial: u64,
    pub(super) renew_at: Time,
}

impl Session {
    pub(super) fn new(origin: Origin, transport: StatelessTransportState) -> Box<Self> {
        let Origin {
            local,
            remote,
            boot,
            kid,
            initiated,
            created,
            serial,
            renew_at,
        } = origin;
        let window = Window::default();
        Box::new(Self {
            local,
            boot,
            kid,
            initiated,
            created,
            serial,
            renew_at,
            remote,
            transport,
            sent: 0,
            window,
        })
    }

    /// Whether its time is over.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        now.since(self.created) >= SESSION_LIFE && !mutant::is(Mutant::SessionAgeless)
    }

    /// Whether another is to be made in its place.
    pub(super) fn is_worn(&self, now: Time) -> bool {
        now >= self.renew_at
    }

    /// Whether the packet sent last was the one that wore it out.
    pub(super) const fn has_just_worn(&self) -> bool {
        self.sent == RENEW_AFTER_PACKETS
    }

    /// As if so many packets had been sent; for tests of what happens then.
    pub(super) const fn set_sent(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// Whether the other side's `other` is the same session.
    #[cfg(test)]
    pub(super) fn pairs_with(&self, other: &Self) -> bool {
        self.local == other.remote && self.remote == other.local
    }

    /// Seals `plaintext` as the next packet into `out` and returns its length; nothing once the
    /// counter is used up or the session has expired.
    pub(super) fn seal(&mut self, now: Time, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let used_up = self.sent >= COUNTER_MAX && !mutant::is(Mutant::CounterEndless);
        if used_up || self.is_expired(now) {
            return None;
        }
        let counter = self.sent;
        self.sent += 1;
        if self.sent == RENEW_AFTER_PACKETS && !mutant::is(Mutant::PacketsUncounted) {
            self.renew_at = now;
        }
        out[0] = Kind::Data.first_byte();
        out[1..4].copy_from_slice(&self.remote.to_bytes());
        out[4..DATA_HEADER_LEN].copy_from_slice(&counter.to_le_bytes());
        let sealed = self
            .transport
            .write_message(counter, plaintext, &mut out[DATA_HEADER_LEN..])
            .expect("the buffer has room for both");
        Some(DATA_HEADER_LEN + sealed)
    }

    /// Opens a packet into `out`; returns the length of its plaintext, and whether its counter is
    /// the newest of this session.
    pub(super) fn open(
        &mut self,
        now: Time,
        packet: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, bool), Refusal> {
        if self.is_expired(now) {
            return Err(Refusal::Expired);
        }
        let counter = u64::from_le_bytes(array(&packet[4..DATA_HEADER_LEN]));
        if counter >= COUNTER_MAX || !self.window.is_fresh(counter) {
            return Err(Refusal::Replayed);
        }
        if mutant::is(Mutant::WindowBeforeOpening) {
            self.window.commit(counter);
        }
        let len = self
            .transport
            .read_message(counter, &packet[DATA_HEADER_LEN..], out)
            .map_err(|_| Refusal::Forged)?;
        let is_newest = mutant::is(Mutant::WindowNotCommitted) || self.window.commit(counter);
        Ok((len, is_newest))
    }
}

/// The index at which a data packet is to be received.
pub(super) fn data_index(packet: &[u8]) -> Index {
    Index::from_bytes(array(&packet[1..4]))
}

/// All sessions with one peer, of which there mostly is one: each is in a box, so that the others
/// cost no room.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) current: Option<Box<Session>>,
    pub(super) previous: Option<Box<Session>>,
    half_open: VecDeque<Box<Session>>,
    /// A session with another boot of the peer.
    pub(super) rival: Option<Rival>,
    /// Where packets to the peer go.
    pub(super) endpoint: Option<Address>,
    /// When a packet of the peer was last opened.
    pub(super) last_heard: Option<Time>,
}

/// What became of a session that was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// It is the one to send on.
    Current {
        /// There was none before, or one of another boot of the peer.
        is_new: bool,
    },
    /// A newer one is in use; this one still receives.
    Previous,
    /// It belongs to an earlier boot of the peer and is gone.
    Outdated,
    /// It belongs to another boot than the one in use, and only listens.
    Rival,
    /// It is in use again: the newer boot runs on another device.
    Restored,
}

/// Where an opened packet's session stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Current,
    Previous,
    HalfOpen,
    Rival,
}

impl Slots {
    /// The session that receives at `index`.
    pub(super) fn find(&mut self, index: Index) -> Option<(Slot, &mut Session)> {
        let half_open = self
            .half_open
            .iter_mut()
            .map(|session| (Slot::HalfOpen, &mut **session));
        let current = self
            .current
            .iter_mut()
            .map(|session| (Slot::Current, &mut **session));
        let previous = self
            .previous
            .iter_mut()
            .map(|session| (Slot::Previous, &mut **session));
        let rival = self
            .rival
            .iter_mut()
            .map(|rival| (Slot::Rival, &mut *rival.session));
        current
            .chain(previous)
            .chain(rival)
            .chain(half_open)
            .find(|(_, session)| session.local == index)
    }

    /// Adds a session whose Init was just answered. `dropped` receives what had to make room.
    pub(super) fn add_half_open(&mut self, session: Box<Session>, dropped: &mut Vec<Index>) {
        if self.half_open.len() == HALF_OPEN_MAX {
            dropped.extend(self.half_open.pop_front().map(|oldest| oldest.local));
        }
        self.half_open.push_back(session);
    }

    /// Takes the half-open session at `index` out, for [`Slots::confirm`].
    pub(super) fn take_half_open(&mut self, index: Index) -> Option<Box<Session>> {
        let at = self
            .half_open
            .iter()
            .position(|session| session.local == index)?;
        self.half_open.remove(at)
    }

    /// Places a session of which the peer has proved to hold the keys.
    pub(super) fn confirm(&mut self, challenge: Challenge, dropped: &mut Vec<Index>) -> Confirmed {
        let Some(current) = self.current.take() else {
            self.current = Some(challenge.session);
            return Confirmed::Current { is_new: true };
        };
        if challenge.session.boot != current.boot {
            self.current = Some(current);
            return self.confirm_other_boot(challenge, dropped);
        }
        let session = challenge.session;
        let is_newer = session.serial > current.serial;
        let (now_current, now_previous) = if is_newer {
            (session, current)
        } else {
            (current, session)
        };
        self.current = Some(now_current);
        if mutant::is(Mutant::RekeyDropsPrevious) {
            dropped.push(now_previous.local);
            return Confirmed::Current { is_new: false };
        }
        dropped.extend(self.previous.replace(now_previous).map(|old| old.local));
        if is_newer {
            Confirmed::Current { is_new: false }
        } else {
            Confirmed::Previous
        }
    }

    /// Drops the sessions under secrets that `holds` denies.
    pub(super) fn retain(&mut self, holds: impl Fn(&Kid) -> bool, dropped: &mut Vec<Index>) {
        for slot in [&mut self.current, &mut self.previous] {
            let gone = slot.take_if(|session| !holds(&session.kid));
            dropped.extend(gone.map(|session| session.local));
        }
        let rival = self.rival.take_if(|rival| !holds(&rival.session.kid));
        dropped.extend(rival.map(|rival| rival.session.local));
        self.half_open.retain(|session| {
            let stays = holds(&session.kid);
            if !stays {
                dropped.push(session.local);
            }
            stays
        });
    }

    /// The peer decides which of two sessions is current, and sends on `previous`. Makes it current
    /// if both may come from one crossing of attempts; a late packet of a session that was renewed
    /// in due course changes nothing. Returns whether it did.
    pub(super) fn follow_to_previous(&mut self) -> bool {
        let (Some(current), Some(previous)) = (&mut self.current, &mut self.previous) else {
            return false;
        };
        let (a, b) = (current.created, previous.created);
        if a.since(b).max(b.since(a)) >= CROSSING {
            return false;
        }
        core::mem::swap(current, previous);
        true
    }

    /// Drops what is too old. Returns whether that leaves nothing to send on where there was.
    pub(super) fn sweep(&mut self, now: Time, dropped: &mut Vec<Index>) -> bool {
        let is_stale = |session: &Session| now.since(session.created) >= HALF_OPEN_LIFE;
        while self
            .half_open
            .front()
            .is_some_and(|oldest| is_stale(oldest))
        {
            dropped.extend(self.half_open.pop_front().map(|session| session.local));
        }
        let is_over = |session: &mut Box<Session>| session.is_expired(now);
        dropped.extend(self.previous.take_if(is_over).map(|session| session.local));
        let is_past = |rival: &mut Rival| rival.session.is_expired(now);
        let rival = self.rival.take_if(is_past);
        dropped.extend(rival.map(|rival| rival.session.local));
        let lost = self.current.take_if(is_over).map(|session| session.local);
        dropped.extend(lost);
        lost.is_some()
    }

    /// When [`Slots::sweep`] has something to do, or the current session is to be renewed.
    pub(super) fn next_due(&self) -> Option<Time> {
        let half_open = self.half_open.front().map(|s| s.created + HALF_OPEN_LIFE);
        let previous = self.previous.as_ref().map(|s| s.created + SESSION_LIFE);
        let rival = self.rival.as_ref();
        let rival = rival.map(|rival| rival.session.created + SESSION_LIFE);
        let current = self.current.as_ref();
        let current = current.map(|s| s.renew_at.min(s.created + SESSION_LIFE));
        let received = half_open.into_iter().chain(previous).chain(rival);
        received.chain(current).min()
    }

    /// Whether there is no session at all.
    pub(super) fn is_empty(&self) -> bool {
        self.indices().next().is_none()
    }

    /// The indices of all sessions.
    pub(super) fn indices(&self) -> impl Iterator<Item = Index> {
        let confirmed = self.current.iter().chain(&self.previous);
        let rival = self.rival.iter().map(|rival| &rival.session);
        confirmed
            .chain(&self.half_open)
            .chain(rival)
            .map(|session| session.local)
    }
}
