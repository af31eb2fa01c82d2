//! What the benchmarks drive; no part of the interface.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::crypto::{Crypto, Ring};
use crate::ctx::Ctx;
use crate::event::{Address, Destination, Transmit};
use crate::id::{BootId, PublicKey};
use crate::keys::{GroupKeys, GroupSecret, StaticSecret};
use crate::session::{Incoming, Sessions, Target};
use crate::status::Counters;
use crate::time::Time;
use crate::wire::header::Flags;

/// Two devices without a network between them.
#[derive(Debug)]
pub struct Pair {
    dialler: Device,
    dialled: Device,
}

#[derive(Debug)]
struct Device {
    sessions: Sessions,
    public: PublicKey,
    address: Address,
    flags: Flags,
    rng: ChaCha12Rng,
    outbox: VecDeque<Transmit>,
    counters: Counters,
}

const BOOT: BootId = BootId(1);

fn group_keys() -> GroupKeys {
    GroupSecret::from_random(&[7; 48]).derive()
}

impl Pair {
    /// Two strangers of one group, with or without AES in hardware.
    #[must_use]
    pub fn new(aes_in_hardware: bool) -> Self {
        Self {
            dialler: Device::new(1, aes_in_hardware),
            dialled: Device::new(2, aes_in_hardware),
        }
    }

    /// A whole handshake, confirmation included, in place of any session there was.
    pub fn handshake(&mut self) {
        let (peer, address, flags) = (
            self.dialled.public,
            self.dialled.address,
            self.dialled.flags,
        );
        self.dialler.run(|sessions, ctx| {
            sessions.close(&peer);
            let target = Target {
                peer,
                boot: BOOT,
                flags,
                kid: group_keys().kid,
            };
            sessions.connect(ctx, target, &[address]);
        });
        for _ in 0..2 {
            self.dialler.deliver_to(&mut self.dialled);
            self.dialled.deliver_to(&mut self.dialler);
        }
        while self.dialler.sessions.poll_event().is_some() {}
        while self.dialled.sessions.poll_event().is_some() {}
    }

    /// Seals a packet at one device and opens it at the other; returns the bytes that arrived.
    pub fn seal_and_open(&mut self, plaintext: &[u8]) -> usize {
        let peer = self.dialled.public;
        if self
            .dialler
            .run(|sessions, ctx| sessions.send(ctx, &peer, plaintext))
            .is_err()
        {
            return 0;
        }
        self.dialler.deliver_to(&mut self.dialled)
    }
}

impl Device {
    fn new(id: u8, aes_in_hardware: bool) -> Self {
        let secret = StaticSecret::new([id; 32]);
        let public = Ring.public_key(&secret).expect("a usable key");
        let flags = Flags::new(aes_in_hardware);
        Self {
            sessions: Sessions::new(&[group_keys()], secret, public, BOOT, flags, Arc::new(Ring)),
            public,
            address: Address::Udp(([127, 0, 0, id], 1).into()),
            flags,
            rng: ChaCha12Rng::seed_from_u64(u64::from(id)),
            outbox: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    fn run<R>(&mut self, action: impl FnOnce(&mut Sessions, &mut Ctx<'_>) -> R) -> R {
        let mut ctx = Ctx {
            now: Time::ZERO,
            rng: &mut self.rng,
            outbox: &mut self.outbox,
            counters: &mut self.counters,
        };
        action(&mut self.sessions, &mut ctx)
    }

    /// Hands all that is to be sent to the other device; returns the bytes it delivered.
    fn deliver_to(&mut self, other: &mut Self) -> usize {
        let mut delivered = 0;
        while let Some(Transmit { to, payload }) = self.outbox.pop_front() {
            debug_assert_eq!(to, Destination::Address(other.address));
            let from = self.address;
            let incoming = other.run(|s, ctx| s.handle_datagram(ctx, from, &payload));
            if let Incoming::Data { plaintext, .. } = incoming {
                delivered += plaintext.len();
            }
        }
        delivered
    }
}
