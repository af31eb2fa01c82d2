//! The age of sessions: when they are renewed, and when they end.
//!
//! A session is renewed by a new handshake, 15 minutes after its own, give or take a tenth. The
//! side that initiated it asks; the other one does so two and a half to three and a half minutes
//! later if nothing has happened by then, so the two do not collide. Either side asks at once when
//! it has sent half of all the packets that the counter allows. The session in use goes on until the
//! new one is confirmed. At 20 minutes it ends, renewed or not: so nothing is kept about a device
//! that is gone.
//!
//! Ages are looked at once a second at most, in one pass over all peers; what is sent and received
//! checks its own session's age.

use core::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::ctx::Ctx;
use crate::session::{SessionEvent, Sessions};
use crate::time::{Time, micros};

const MINUTE: Duration = Duration::from_secs(60);
/// When the initiator of a session asks for the next: 15 minutes ± 10 %.
const INITIATOR_FROM: Duration = Duration::from_secs(13 * 60 + 30);
const INITIATOR_TO: Duration = Duration::from_secs(16 * 60 + 30);
/// When the other side does. An attempt of the initiator, up to a minute long, is over by then.
const RESPONDER_FROM: Duration = Duration::from_secs(17 * 60 + 30);
const RESPONDER_TO: Duration = Duration::from_secs(18 * 60 + 30);
/// How often ages are looked at.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// When a side asks for the renewal of a session that begins now.
pub(super) fn renew_at(rng: &mut ChaCha12Rng, now: Time, initiated: bool) -> Time {
    let (from, to) = if initiated {
        (INITIATOR_FROM, INITIATOR_TO)
    } else {
        (RESPONDER_FROM, RESPONDER_TO)
    };
    now + Duration::from_micros(rng.random_range(micros(from)..=micros(to)))
}

impl Sessions {
    /// Ends what is too old and reports what is to be renewed.
    pub(super) fn sweep(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now;
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        let mut dropped = Vec::new();
        for (peer, slots) in &mut self.peers {
            let peer = *peer;
            if slots.sweep(now, &mut dropped) {
                tracing::debug!(?peer, "a session has grown too old");
                self.events.push_back(SessionEvent::Expired { peer });
            }
            let Some(current) = slots.current.as_mut().filter(|s| s.is_worn(now)) else {
                continue;
            };
            // If nothing comes of it, it is said again once the attempt is over.
            let again = ctx.rng.random_range(micros(MINUTE)..=2 * micros(MINUTE));
            current.renew_at = now + Duration::from_micros(again);
            if !self.attempts.contains_key(&peer) {
                self.events.push_back(SessionEvent::WornOut { peer });
            }
        }
        self.free(dropped);
        self.peers.retain(|_, slots| !slots.is_empty());
        let due = self
            .peers
            .values()
            .filter_map(|slots| slots.next_due())
            .min();
        self.sweep_at = due.map(|due| due.max(now + SWEEP_PERIOD));
    }

    /// Makes the next look at ages no later than this.
    pub(super) fn sweep_by(&mut self, due: Time) {
        self.sweep_at = Some(self.sweep_at.map_or(due, |at| at.min(due)));
    }
}
