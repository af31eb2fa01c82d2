//! Two boots of one key at once: a copied memory card, told from a restart.
//!
//! A device that restarts is silent in its earlier boot; one whose card was copied runs in two. So
//! when a session with a newer boot is confirmed, the session with the *elder* is kept to listen.
//! A packet on it more than 5 s later is a hint and no more, since somebody may have held it back:
//! the elder is dialled. A handshake with it that was begun more than 5 s after the newer boot's is
//! the proof. The elder's session is current again, and the newer boot is *quarantined*: its packets
//! are opened so that it can be told, and nothing in them counts.
//!
//! A quarantined boot takes over once the kept one has been silent for 15 s. Until it has been
//! silent for a minute itself, a third boot of the key waits likewise: nobody can tell which of the
//! two devices it is.
//!
//! Members that met the two boots in different orders would keep different ones. Each therefore
//! tells its [`Opinion`]; the older of two opinions prevails. An opinion decides only which of two
//! boots is kept that both proved to run.

use core::time::Duration;

use crate::ctx::Ctx;
use crate::event::Address;
use crate::id::{BootId, PublicKey};
use crate::mutant::{self, Mutant};
use crate::session::refusal::Refusal;
use crate::session::slots::{Confirmed, Index, Session, Slots};
use crate::session::{Incoming, NoSession, SessionEvent, Sessions};
use crate::time::Time;
use crate::wire::header::DATA_OVERHEAD;

/// Packets of an earlier boot may be this late after a restart.
const MARGIN: Duration = Duration::from_secs(5);
/// After so much silence of the kept boot another one may take its place.
const RELEASE: Duration = Duration::from_secs(15);
/// For how long a quarantined boot that is silent counts as running.
const MEMORY: Duration = Duration::from_secs(60);
/// How often a rival's packets are reported.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Opinions kept; more clones than this in one group are each member's own affair.
const OPINIONS_MAX: usize = 64;
/// Opinions whose ages differ by less are held for equally old.
const SAME_AGE: Duration = Duration::from_secs(1);

/// Another boot of a peer than the one in use.
pub(super) struct Rival {
    pub(super) session: Box<Session>,
    standing: Standing,
    /// When it was superseded or quarantined.
    since: Time,
    address: Option<Address>,
    heard: Time,
    reported: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// In use before the present boot.
    Elder,
    Quarantined,
}

/// Which of two boots of one key is kept, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) kept: BootId,
    pub(crate) refused: BootId,
    pub(crate) since: Time,
}

impl Opinion {
    /// Whether this device gives up its own opinion for another one.
    fn yields_to(&self, other: &Self) -> bool {
        let apart = self.since.since(other.since) + other.since.since(self.since);
        if apart < SAME_AGE {
            other.kept < self.kept
        } else {
            other.since < self.since
        }
    }
}

/// A session that was just confirmed, of another boot than the current one.
pub(super) struct Challenge {
    pub(super) session: Box<Session>,
    pub(super) from: Address,
    /// When this side began to ask for the proof that the handshake is: nothing older is in it.
    pub(super) asked: Time,
    pub(super) now: Time,
    pub(super) opinion: Option<Opinion>,
}

/// What becomes of it.
enum Verdict {
    /// It is the newer run of the device.
    Succeeds,
    /// It is the boot that is to be kept.
    Returns,
    Waits(Standing),
    Outdated,
}

impl Slots {
    /// Places a confirmed session of another boot than the current one.
    pub(super) fn confirm_other_boot(
        &mut self,
        challenge: Challenge,
        dropped: &mut Vec<Index>,
    ) -> Confirmed {
        let verdict = self.judge(&challenge);
        let Challenge {
            session, from, now, ..
        } = challenge;
        match verdict {
            Verdict::Outdated => {
                dropped.push(session.local);
                Confirmed::Outdated
            }
            Verdict::Waits(standing) => {
                self.set_rival(session, standing, (now, Some(from)), dropped);
                Confirmed::Rival
            }
            Verdict::Succeeds => {
                self.replace_current(session, Standing::Elder, now, dropped);
                Confirmed::Current { is_new: true }
            }
            Verdict::Returns => {
                self.replace_current(session, Standing::Quarantined, now, dropped);
                Confirmed::Restored
            }
        }
    }

    fn judge(&self, challenge: &Challenge) -> Verdict {
        let Some(current) = &self.current else {
            return Verdict::Succeeds;
        };
        let (now, boot) = (challenge.now, challenge.session.boot);
        let is_newer = challenge.session.serial > current.serial;
        let vacant = self.is_silent(now);
        if is_newer && mutant::is(Mutant::ClonesTakeTurns) {
            return Verdict::Succeeds;
        }
        if let Some(opinion) = challenge.opinion {
            if (opinion.kept, opinion.refused) == (current.boot, boot) {
                return if vacant && is_newer {
                    Verdict::Succeeds
                } else {
                    Verdict::Waits(Standing::Quarantined)
                };
            }
            if (opinion.kept, opinion.refused) == (boot, current.boot) && is_newer {
                return Verdict::Returns;
            }
        }
        match &self.rival {
            Some(rival) if rival.standing == Standing::Elder && rival.session.boot == boot => {
                if is_newer && challenge.asked > rival.since + MARGIN {
                    Verdict::Returns
                } else {
                    Verdict::Waits(Standing::Elder)
                }
            }
            Some(rival) if rival.runs_in_quarantine(now) && !vacant => {
                Verdict::Waits(Standing::Quarantined)
            }
            _ if is_newer => Verdict::Succeeds,
            _ => Verdict::Outdated,
        }
    }

    /// Whether the boot in use has been silent for so long that another may take its place.
    fn is_silent(&self, now: Time) -> bool {
        self.last_heard
            .is_none_or(|heard| now.since(heard) >= RELEASE)
    }

    fn replace_current(
        &mut self,
        session: Box<Session>,
        standing: Standing,
        now: Time,
        dropped: &mut Vec<Index>,
    ) {
        dropped.extend(self.previous.take().map(|previous| previous.local));
        if let Some(replaced) = self.current.replace(session) {
            self.set_rival(replaced, standing, (now, self.endpoint), dropped);
        }
    }

    /// Sets the rival aside; a further session of it keeps the time since which it is one.
    fn set_rival(
        &mut self,
        session: Box<Session>,
        standing: Standing,
        (now, address): (Time, Option<Address>),
        dropped: &mut Vec<Index>,
    ) {
        let before = self.rival.take();
        let same = |old: &&Rival| old.session.boot == session.boot && old.standing == standing;
        let since = before.as_ref().filter(same).map_or(now, |old| old.since);
        let reported = before.as_ref().and_then(|old| old.reported);
        dropped.extend(before.map(|old| old.session.local));
        self.rival = Some(Rival {
            session,
            standing,
            since,
            address,
            heard: now,
            reported,
        });
    }
}

impl Rival {
    fn runs_in_quarantine(&self, now: Time) -> bool {
        self.standing == Standing::Quarantined && now.since(self.heard) <= MEMORY
    }
}

impl Sessions {
    /// The other device that runs with a peer's key: where it was last heard, if that was within
    /// the last minute.
    pub(crate) fn quarantined(&self, peer: &PublicKey, now: Time) -> Option<Address> {
        let rival = self.peers.get(peer)?.rival.as_ref()?;
        rival.runs_in_quarantine(now).then_some(rival.address)?
    }

    /// Seals a packet for the peer's quarantined boot.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn send_to_rival(
        &mut self,
        ctx: &mut Ctx<'_>,
        peer: &PublicKey,
        plaintext: &[u8],
    ) -> Result<(), NoSession> {
        let slots = self.peers.get_mut(peer).ok_or(NoSession)?;
        let rival = slots.rival.as_mut().ok_or(NoSession)?;
        let address = rival.address.ok_or(NoSession)?;
        let now = ctx.now;
        let packet = self.sealed.fill(DATA_OVERHEAD + plaintext.len(), |out| {
            rival.session.seal(now, plaintext, out).ok_or(NoSession)
        })?;
        ctx.transmit(address, packet);
        Ok(())
    }

    /// The opinions of this device on peers of which it heard a second boot within the last minute.
    pub(crate) fn opinions(&self, now: Time) -> Vec<(PublicKey, Opinion)> {
        let runs = |peer: &PublicKey| self.quarantined(peer, now).is_some();
        let opinions = self.opinions.iter().filter(|(peer, _)| runs(peer));
        opinions.map(|(peer, opinion)| (*peer, *opinion)).collect()
    }

    /// What this device holds of a peer's two boots.
    pub(super) fn opinion(&self, peer: &PublicKey) -> Option<Opinion> {
        self.opinions.get(peer).copied()
    }

    /// Another member's opinion of a peer's two boots.
    pub(crate) fn learn_opinion(&mut self, peer: &PublicKey, told: Opinion) {
        let has_room = self.opinions.len() < OPINIONS_MAX;
        match self.opinions.get_mut(peer) {
            Some(own) if (own.kept, own.refused) == (told.kept, told.refused) => {
                own.since = own.since.min(told.since);
            }
            Some(own) if !own.yields_to(&told) => {}
            Some(own) => *own = told,
            None if has_room => {
                self.opinions.insert(*peer, told);
            }
            None => {}
        }
    }

    /// Forgets opinions of boots that no peer runs in any longer.
    pub(super) fn review_opinion(&mut self, peer: &PublicKey, was: Option<BootId>) {
        let boot = self.boot(peer);
        let Some(opinion) = self.opinions.get(peer) else {
            return;
        };
        let released = was == Some(opinion.kept) && boot == Some(opinion.refused);
        let third = boot.is_some_and(|boot| boot != opinion.kept && boot != opinion.refused);
        if released || third {
            self.opinions.remove(peer);
        }
    }

    /// The newer of two boots is quarantined.
    pub(super) fn note_clone(&mut self, peer: &PublicKey, kept_at: Address, now: Time) {
        let Some(slots) = self.peers.get(peer) else {
            return;
        };
        let (Some(current), Some(rival)) = (&slots.current, &slots.rival) else {
            return;
        };
        let (kept, refused) = (current.boot, rival.session.boot);
        let refused_at = rival.address.unwrap_or(kept_at);
        let known = self.opinions.get(peer);
        let same = known.is_some_and(|known| (known.kept, known.refused) == (kept, refused));
        if !same && (known.is_some() || self.opinions.len() < OPINIONS_MAX) {
            let since = now;
            self.opinions.insert(
                *peer,
                Opinion {
                    kept,
                    refused,
                    since,
                },
            );
        }
        self.events.push_back(SessionEvent::Cloned {
            peer: *peer,
            kept_at,
            refused_at,
        });
    }

    /// A packet of another boot than the one in use was opened.
    pub(super) fn rival_heard(
        &mut self,
        peer: &PublicKey,
        from: Address,
        now: Time,
    ) -> Result<Incoming, Refusal> {
        let prefers = self.opinions.get(peer).map(|opinion| opinion.kept);
        let slots = self.peers.get_mut(peer).ok_or(Refusal::UnknownIndex)?;
        let vacant = slots.is_silent(now);
        let rival = slots.rival.as_mut().ok_or(Refusal::UnknownIndex)?;
        (rival.heard, rival.address) = (now, Some(from));
        let boot = rival.session.boot;
        let dial = match rival.standing {
            Standing::Elder => now > rival.since + MARGIN,
            Standing::Quarantined => vacant || prefers == Some(boot),
        };
        if rival.standing == Standing::Elder && !dial {
            return Err(Refusal::OtherBoot);
        }
        if rival
            .reported
            .is_none_or(|at| now.since(at) >= REPORT_PERIOD)
        {
            rival.reported = Some(now);
            self.events.push_back(SessionEvent::RivalHeard {
                peer: *peer,
                boot,
                address: from,
                dial,
            });
        }
        Ok(Incoming::Nothing)
    }

    /// Whether a boot of a peer is not to be dialled for now: an elder that may be a memory of the
    /// time before a restart, or one that waits in quarantine.
    pub(super) fn is_kept_waiting(&self, peer: &PublicKey, boot: BootId, now: Time) -> bool {
        let Some(slots) = self.peers.get(peer) else {
            return false;
        };
        let Some(current) = slots.current.as_ref().filter(|it| it.boot != boot) else {
            return false;
        };
        let opinion = self.opinions.get(peer);
        if opinion.is_some_and(|opinion| opinion.kept == boot) {
            return false;
        }
        if opinion.is_some_and(|it| (it.kept, it.refused) == (current.boot, boot)) {
            return !slots.is_silent(now);
        }
        match &slots.rival {
            Some(rival) if rival.standing == Standing::Elder => {
                rival.session.boot == boot && now <= rival.since + MARGIN
            }
            Some(rival) => rival.runs_in_quarantine(now) && !slots.is_silent(now),
            None => false,
        }
    }
}
