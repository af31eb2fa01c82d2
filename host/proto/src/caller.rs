//! Somebody who holds the group's secret and dials without end, for floods of handshakes that get
//! past the code of the group; no part of the interface.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::crypto::Crypto;
use crate::ctx::Ctx;
use crate::discovery::beacon;
use crate::event::Address;
use crate::id::{BootId, DeviceId, PublicKey};
use crate::keys::{GroupKeys, GroupSecret, StaticSecret};
use crate::session::{Sessions, Target};
use crate::status::Counters;
use crate::time::Time;
use crate::wire::header::Flags;

/// One key and one boot; each Init is under a fresh ephemeral key and a higher counter.
pub struct Caller {
    sessions: Sessions,
    keys: GroupKeys,
    public: PublicKey,
    rng: ChaCha12Rng,
}

impl Caller {
    /// None if this key is one that peers refuse.
    #[must_use]
    pub fn new(secret: &GroupSecret, crypto: Arc<dyn Crypto>, seed: [u8; 32]) -> Option<Self> {
        let own = StaticSecret::new(seed);
        let public = crypto.public_key(&own)?;
        let keys = secret.derive();
        let all = core::slice::from_ref(&keys);
        let (boot, flags) = (BootId(1), Flags::new(false));
        Some(Self {
            sessions: Sessions::new(all, own, public, boot, flags, crypto),
            keys,
            public,
            rng: ChaCha12Rng::from_seed(seed),
        })
    }

    /// Who it says it is.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.public.device_id()
    }

    /// An Init for the device that sealed this beacon; none if it is no beacon under the secret.
    /// What comes back to it is never read, so it owns no cookie and confirms nothing.
    pub fn call(&mut self, beacon: &[u8]) -> Option<Bytes> {
        let told = beacon::open(&self.keys, beacon).ok()?;
        let target = Target {
            peer: told.key,
            boot: told.boot,
            flags: told.flags,
            kid: self.keys.kid,
        };
        let (mut outbox, mut counters) = (VecDeque::new(), Counters::default());
        let mut ctx = Ctx {
            now: Time::ZERO,
            rng: &mut self.rng,
            outbox: &mut outbox,
            counters: &mut counters,
        };
        let nowhere = Address::Udp(([127, 0, 0, 1], 1).into());
        self.sessions.close(&told.key);
        self.sessions.connect(&mut ctx, target, &[nowhere]);
        while self.sessions.poll_event().is_some() {}
        outbox.pop_front().map(|transmit| transmit.payload)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}
