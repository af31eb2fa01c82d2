//! Devices that run with one key at a time: who is told, and what the quarantined one does.
//!
//! Which boot is kept is decided by the sessions. This module reports it: a warning on every member,
//! an event for the driver, and a notice to both devices. The quarantined device hears nothing but
//! notices from a member that refuses it; to it that member is gone, and comes back with the first
//! other message.

use core::time::Duration;

use super::{Node, ctx};
use crate::ctx::Ctx;
use crate::event::{Address, Event, RemovalReason};
use crate::id::{NodeId, PublicKey};
use crate::session::{Opinion, SessionEvent};
use crate::time::{Time, micros};
use crate::wire::message::{CloneNotice, CloneSeen, Message};

/// For how long a notice of a second device counts.
const NOTICE_LIFE: Duration = Duration::from_secs(60);
/// How often opinions are told again while a clone is about.
const SHARE_PERIOD: Duration = Duration::from_secs(10);
/// After so much silence the kept device is probed when its clone is heard.
const PROBE_AFTER: Duration = Duration::from_secs(3);

/// What this device knows of clones of itself, and when it last spoke of others.
#[derive(Debug, Default)]
pub(super) struct Clones {
    own: Option<(Time, CloneNotice)>,
    shared_at: Option<Time>,
}

impl Clones {
    /// The last notice that another device runs with this one's key, if it is not an old one.
    pub(super) fn own(&self, now: Time) -> Option<CloneNotice> {
        let (at, notice) = self.own?;
        (now.since(at) < NOTICE_LIFE).then_some(notice)
    }
}

impl Node {
    pub(super) fn take_clone_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Cloned {
                peer,
                kept_at,
                refused_at,
            } => self.clone_found(&peer, kept_at, refused_at),
            SessionEvent::RivalHeard {
                peer,
                boot,
                address,
                dial: true,
            } => {
                let node = peer.device_id().node();
                self.dial(node, boot, &[address]);
            }
            SessionEvent::RivalHeard { peer, address, .. } => self.refuse_clone(&peer, address),
            SessionEvent::Established { .. }
            | SessionEvent::GaveUp { .. }
            | SessionEvent::WornOut { .. }
            | SessionEvent::Expired { .. } => {}
        }
    }

    fn clone_found(&mut self, key: &PublicKey, kept_at: Address, refused_at: Address) {
        let device = key.device_id();
        tracing::warn!(
            %device,
            kept = %kept_at,
            quarantined = %refused_at,
            "two devices run with one key, as after copying a memory card; the one that started \
             later is quarantined: give it a key of its own"
        );
        self.events.push_back(Event::CloneDetected {
            device,
            kept_at,
            refused_at,
        });
        let notice = CloneNotice {
            refused: false,
            kept_at,
            refused_at,
        };
        self.send(device.node(), &Message::CloneNotice(notice));
        self.tell_rival(key, kept_at, refused_at);
        self.clones.shared_at = None;
    }

    /// A quarantined device spoke: it is told why nobody answers, and the one that is kept is
    /// probed if it has been silent for a while.
    fn refuse_clone(&mut self, key: &PublicKey, refused_at: Address) {
        let node = key.device_id().node();
        let Some(kept_at) = self.endpoint(node) else {
            return;
        };
        self.tell_rival(key, kept_at, refused_at);
        let heard = self.sessions.as_ref().and_then(|s| s.last_heard(key));
        if heard.is_none_or(|heard| self.now.since(heard) >= PROBE_AFTER) {
            self.liveness.greet(self.now, node);
        }
    }

    fn tell_rival(&mut self, key: &PublicKey, kept_at: Address, refused_at: Address) {
        let notice = Message::CloneNotice(CloneNotice {
            refused: true,
            kept_at,
            refused_at,
        });
        let mut plaintext = Vec::with_capacity(64);
        notice.encode(&mut plaintext);
        if let Some(sessions) = &mut self.sessions {
            let sent = sessions.send_to_rival(&mut ctx!(self), key, &plaintext);
            if let Err(error) = sent {
                tracing::debug!(%error, "a clone was not told");
            }
        }
    }

    /// Another device runs with this one's key.
    pub(super) fn take_clone_notice(&mut self, from: NodeId, notice: CloneNotice) {
        let known = self.clones.own(self.now);
        self.clones.own = Some((self.now, notice));
        if known.is_none_or(|known| known.refused != notice.refused) {
            let (kept_at, refused_at) = (notice.kept_at, notice.refused_at);
            tracing::warn!(
                kept = %kept_at,
                quarantined = %refused_at,
                quarantined_here = notice.refused,
                "another device runs with the key of this one, as after copying a memory card; \
                 give one of them a key of its own"
            );
            self.events.push_back(Event::CloneDetected {
                device: self.identity.device,
                kept_at,
                refused_at,
            });
        }
        if notice.refused {
            self.refused_by(from);
        }
    }

    /// A member refuses this device: it is out of reach.
    fn refused_by(&mut self, from: NodeId) {
        let Some(entry) = self.roster.get_mut(from) else {
            return;
        };
        entry.refuses = true;
        if entry.is_member() {
            self.membership.handle_goodbye(self.now, from);
            self.member_gone(from, RemovalReason::Unreachable);
        }
    }

    /// A member tells which boot it keeps of a device that runs in two.
    pub(super) fn take_clone_seen(&mut self, seen: CloneSeen) {
        let Some(key) = self.roster.get(seen.device).map(|entry| entry.key) else {
            return;
        };
        let age = Duration::from_millis(u64::from(seen.age_ms));
        let told = Opinion {
            kept: seen.kept,
            refused: seen.refused,
            since: self.now - age,
        };
        if let Some(sessions) = &mut self.sessions {
            sessions.learn_opinion(&key, told);
        }
    }

    /// Tells all connected members, now and then, of the clones that are about.
    pub(super) fn share_opinions(&mut self) {
        let last = self.clones.shared_at;
        if last.is_some_and(|last| self.now.since(last) < SHARE_PERIOD) {
            return;
        }
        for message in self.clones_seen() {
            self.clones.shared_at = Some(self.now);
            self.send_to_connected(&message);
        }
    }

    /// What to tell a member of the clones that are about.
    pub(super) fn clones_seen(&self) -> Vec<Message> {
        let Some(sessions) = &self.sessions else {
            return Vec::new();
        };
        let opinions = sessions.opinions(self.now).into_iter();
        let told = opinions.map(|(key, opinion)| {
            let age = micros(self.now.since(opinion.since)) / 1_000;
            Message::CloneSeen(CloneSeen {
                device: key.device_id().node(),
                kept: opinion.kept,
                refused: opinion.refused,
                age_ms: u32::try_from(age).unwrap_or(u32::MAX),
            })
        });
        told.collect()
    }
}
