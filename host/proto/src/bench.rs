//! What the benchmarks drive; no part of the interface.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::crypto::{Crypto, Ring};
use crate::ctx::Ctx;
use crate::event::{Address, Destination, Transmit};
use crate::id::{BootId, GroupKey, PublicKey};
use crate::keys::{GroupKeys, GroupSecret, StaticSecret};
use crate::replication::{Parcel, Replica, Setup};
use crate::session::{Incoming, Sessions, Target};
use crate::state::{Origin, Scope, StateConfig, StateUpdate, StateView, StateWrite};
use crate::status::Counters;
use crate::time::Time;
use crate::wire::header::Flags;
use crate::wire::state::Stamp;

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

/// Two replicas of one group's state, and what a plugin reads of the first.
#[derive(Debug)]
pub struct Replicas {
    first: Replica,
    second: Replica,
    view: StateView,
    now: u64,
    written: u64,
}

impl Replicas {
    /// Both hold `keys` values of 100 bytes.
    #[must_use]
    pub fn new(keys: u64) -> Self {
        let id = |id: u8| {
            Ring.public_key(&StaticSecret::new([id; 32]))
                .expect("a usable key")
        };
        let config = StateConfig {
            quota: 64 << 20,
            ..StateConfig::default()
        };
        let replica = |i: u8| {
            Replica::new(Setup {
                group: GroupKey(1),
                me: id(i).device_id(),
                stamp: Stamp(1 << 32),
                config,
            })
        };
        let first = replica(1);
        let view = StateView::new(id(1).device_id(), config);
        let mut replicas = Self {
            first,
            second: replica(2),
            view,
            now: 1_700_000_000_000_000,
            written: 0,
        };
        for key in 0..keys {
            replicas.put(key);
            replicas.merge();
        }
        let changes = replicas.first.whole(replicas.now);
        replicas.view.apply(&StateUpdate {
            changes,
            handled: 0,
            room: u64::MAX,
            whole: true,
        });
        replicas
    }

    /// Writes a key.
    pub fn put(&mut self, key: u64) {
        self.now += 1000;
        self.written += 1;
        let mut value = [0; 100];
        value[..8].copy_from_slice(&self.written.to_be_bytes());
        let write = StateWrite::Put {
            scope: Scope::Shared,
            key: format!("key {key:08}").into(),
            value: Bytes::copy_from_slice(&value),
            ttl_ms: None,
        };
        let written = self.first.write(self.now, &write);
        debug_assert_eq!(written, Ok(()));
        self.first.take_changes();
    }

    /// Reads a key as a plugin does. Whether it is there.
    #[must_use]
    pub fn get(&self, key: &str) -> bool {
        self.view.get(Origin::Shared, key, self.now).is_some()
    }

    /// The digest, which a write or merge has changed.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.first.digest()
    }

    /// Hands what was written to the other replica. Whether anything was new there.
    pub fn merge(&mut self) -> bool {
        let sender = self
            .first
            .own_marks()
            .first()
            .map(|(stream, _)| stream.writer());
        let mut new = false;
        for parcel in self.first.take_push() {
            if let (Parcel::Delta(delta), Some(sender)) = (parcel, sender) {
                new |= self.second.merge(self.now, sender, &delta) == Ok(true);
            }
        }
        self.second.take_changes();
        new
    }

    /// Whether both replicas hold the same.
    #[must_use]
    pub fn are_equal(&self) -> bool {
        self.first.digest() == self.second.digest()
    }
}
