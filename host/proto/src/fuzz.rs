//! What the fuzz targets drive below the level of a node; no part of the interface.
//!
//! Each is a function of its bytes and panics where something is wrong.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::crypto::{Crypto, Ring};
use crate::ctx::Ctx;
use crate::discovery::beacon::{self, Beacon};
use crate::event::{Address, Destination, Transmit};
use crate::id::{BootId, GroupKey, NodeId, PublicKey};
use crate::keys::{GroupKeys, GroupSecret, Kid, StaticSecret};
use crate::membership::decode_packet;
use crate::replication::{Parcel, Replica, Setup};
use crate::session::{Incoming, Sessions, Target, sign};
use crate::state::{Scope, StateConfig, StateWrite};
use crate::status::Counters;
use crate::time::Time;
use crate::wire::header::{Flags, Kind, classify};
use crate::wire::message::{DecodeError, Frames, Message};
use crate::wire::state::{Stamp, StateVector, Tenure};

/// More from one datagram would be amplification.
const ANSWERS_MAX: usize = 16;
/// Steps of one input.
const STEPS_MAX: usize = 256;
const BOOT: BootId = BootId(1);

fn group_keys() -> GroupKeys {
    GroupSecret::from_random(&[7; 48]).derive()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let len = bytes.len().min(N);
    array[..len].copy_from_slice(&bytes[..len]);
    array
}

/// Opens the bytes as a beacon; then seals one that is made of them, and opens that whole and spoilt.
pub fn beacon(bytes: &[u8]) {
    let keys = group_keys();
    let _ = beacon::kid(bytes);
    let opened = beacon::open(&keys, bytes);
    assert!(opened.is_err(), "nobody guesses the secret: {opened:?}");
    let Ok(key) = PublicKey::new(array(bytes)) else {
        return;
    };
    let field = |at: usize| bytes.get(at..).unwrap_or_default();
    let told = Beacon {
        key,
        boot: BootId(u64::from_le_bytes(array(field(32)))),
        seq: u64::from_le_bytes(array(field(40))),
        port: u16::from_le_bytes(array(field(48))),
        flags: Flags::from_bytes(array(field(50))),
    };
    let mut rng = ChaCha12Rng::from_seed(array(field(56)));
    let mut sealed = beacon::seal(&keys, &mut rng, &told);
    assert_eq!(beacon::open(&keys, &sealed), Ok(told));
    let (at, bit) = (field(58), field(59).first().copied().unwrap_or(0) % 8);
    let at = usize::from(at.first().copied().unwrap_or(0)) % sealed.len();
    sealed[at] ^= 1 << bit;
    assert!(
        beacon::open(&keys, &sealed).is_err(),
        "byte {at}, bit {bit}"
    );
}

/// Reads frames; what is taken is the same after it was written and read again.
pub fn messages(bytes: &[u8]) {
    for message in Frames::new(Bytes::copy_from_slice(bytes)) {
        let Ok(message) = message else { continue };
        let mut written = Vec::new();
        message.encode(&mut written);
        let again: Vec<_> = Frames::new(Bytes::from(written)).collect();
        assert_eq!(again, [Ok(message.clone())]);
        if let Message::Membership(packet) = message {
            let _ = decode_packet(&packet);
        }
    }
}

/// The kinds of the frames in these bytes that are read without a mistake.
#[must_use]
pub fn kinds(bytes: &[u8]) -> BTreeSet<u8> {
    let read = Frames::new(Bytes::copy_from_slice(bytes)).flatten();
    let kind = |message: Message| {
        let mut written = Vec::new();
        message.encode(&mut written);
        written[0]
    };
    read.map(kind).collect()
}

/// All kinds of message that there are.
#[must_use]
pub fn known_kinds() -> BTreeSet<u8> {
    let is_known = |kind: &u8| {
        let read = Frames::new(Bytes::from(vec![*kind, 0, 0])).next();
        !matches!(read, Some(Err(DecodeError::UnknownKind(_))))
    };
    (0..=u8::MAX >> 1).filter(is_known).collect()
}

/// Where the clock of [`state`] begins: late in 2023, in microseconds.
const STATE_BEGINS: u64 = 1_700_000_000_000_000;

fn replica(id: u8) -> Replica {
    let key = Ring.public_key(&StaticSecret::new([id; 32]));
    let mut replica = Replica::new(Setup {
        group: GroupKey(7),
        me: key.expect("a usable key").device_id(),
        stamp: Stamp(1 << 32),
        config: StateConfig::default(),
    });
    for scope in [Scope::Device, Scope::Shared] {
        let write = StateWrite::Put {
            scope,
            key: "k".into(),
            value: Bytes::from_static(b"v"),
            ttl_ms: None,
        };
        let written = replica.write(STATE_BEGINS, &write);
        assert_eq!(written, Ok(()));
    }
    replica
}

/// Gives a replica whatever of the frames concerns it; then another one gets what it holds.
pub fn state(bytes: &[u8]) {
    let (mut replica, mut other) = (replica(1), replica(2));
    let mut now = STATE_BEGINS;
    let sender = NodeId(2);
    for message in Frames::new(Bytes::copy_from_slice(bytes)).take(STEPS_MAX) {
        now += 1_000_000;
        match message {
            Ok(Message::StateVector(vector)) => {
                replica.compare(now, &vector);
                replica.delta_for(&vector, 32 << 10);
            }
            Ok(Message::StateDelta(delta)) => drop(replica.merge(now, sender, &delta)),
            Ok(Message::StateChunk(chunk)) => drop(replica.merge_chunk(now, sender, chunk)),
            Ok(Message::StateAck(ack)) => drop(replica.push_after(ack.stream, ack.mark)),
            Ok(Message::TableRequest(request)) => {
                let leader = NodeId(request.epoch & 7);
                replica.follow(Some(Tenure {
                    epoch: request.epoch,
                    leader,
                }));
            }
            Ok(Message::StateSummary(_)) => replica.set_back(now - 60_000_000),
            Ok(_) => replica.handle_timeout(now),
            Err(_) => break,
        }
        assert!(replica.is_within_bounds());
    }
    let vectors = other.vectors();
    for parcel in vectors.iter().flat_map(|part| offer(&mut replica, part)) {
        match parcel {
            Parcel::Delta(delta) => drop(other.merge(now, sender, &delta)),
            Parcel::Chunk(chunk) => drop(other.merge_chunk(now, sender, chunk)),
        }
    }
    assert!(other.is_within_bounds());
    replica.handle_timeout(u64::MAX);
    assert!(replica.take_push().len() < STEPS_MAX);
}

fn offer(replica: &mut Replica, theirs: &StateVector) -> Vec<Parcel> {
    replica.delta_for(theirs, 1 << 20)
}

/// One of two devices with a session's worth of state.
struct Device {
    sessions: Sessions,
    public: PublicKey,
    address: Address,
    flags: Flags,
    kid: Kid,
    now: Time,
    rng: ChaCha12Rng,
    outbox: VecDeque<Transmit>,
    counters: Counters,
}

impl Device {
    fn new(id: u8) -> Self {
        let secret = StaticSecret::new([id << 3; 32]);
        let public = Ring.public_key(&secret).expect("a usable key");
        let (keys, flags) = (group_keys(), Flags::new(true));
        let kid = keys.kid;
        Self {
            sessions: Sessions::new(&[keys], secret, public, BOOT, flags, Arc::new(Ring)),
            public,
            address: Address::Udp(([127, 0, 0, id], 1).into()),
            flags,
            kid,
            now: Time::ZERO,
            rng: ChaCha12Rng::seed_from_u64(u64::from(id)),
            outbox: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    fn run<R>(&mut self, action: impl FnOnce(&mut Sessions, &mut Ctx<'_>) -> R) -> R {
        let before = self.outbox.len();
        let mut ctx = Ctx {
            now: self.now,
            rng: &mut self.rng,
            outbox: &mut self.outbox,
            counters: &mut self.counters,
        };
        let result = action(&mut self.sessions, &mut ctx);
        assert!(self.outbox.len() - before <= ANSWERS_MAX, "answers are few");
        assert!(self.sessions.indices_hold());
        while self.sessions.poll_event().is_some() {}
        result
    }

    fn take(&mut self, from: Address, datagram: &[u8]) -> Incoming {
        self.run(|sessions, ctx| sessions.handle_datagram(ctx, from, datagram))
    }

    fn connect(&mut self, to: &Self) {
        let target = Target {
            peer: to.public,
            boot: BOOT,
            flags: to.flags,
            kid: to.kid,
        };
        let candidates = [to.address];
        self.run(|sessions, ctx| sessions.connect(ctx, target, &candidates));
    }
}

/// Two devices, and what was ever sent.
struct Pair {
    devices: [Device; 2],
    log: Vec<(usize, Vec<u8>)>,
}

impl Pair {
    fn new() -> Self {
        Self {
            devices: [Device::new(1), Device::new(2)],
            log: Vec::new(),
        }
    }

    fn dial(&mut self, from: usize) {
        let [first, second] = &mut self.devices;
        let (own, other) = if from == 0 {
            (first, second)
        } else {
            (second, first)
        };
        own.connect(other);
    }

    /// Takes what a device has to send.
    fn collect(&mut self, from: usize) {
        while let Some(Transmit { to, payload }) = self.devices[from].outbox.pop_front() {
            assert!(payload.len() <= crate::MAX_DATAGRAM);
            assert_ne!(to, Destination::Everyone);
            if self.log.len() < 4 * STEPS_MAX {
                self.log.push((from, payload.to_vec()));
            }
        }
    }

    /// Delivers a datagram of the log, `spoil`ed.
    fn deliver(&mut self, at: usize, spoil: impl FnOnce(&mut Vec<u8>)) -> Option<Incoming> {
        let (from, mut datagram) = self.log.get(at)?.clone();
        spoil(&mut datagram);
        let address = self.devices[from].address;
        let incoming = self.devices[1 - from].take(address, &datagram);
        self.collect(1 - from);
        Some(incoming)
    }

    fn establish(&mut self) {
        self.dial(0);
        self.collect(0);
        for at in 0..3 {
            self.deliver(at, |_| {});
        }
        let peer = self.devices[1].public;
        assert!(self.devices[0].sessions.is_established(&peer));
    }

    fn pass(&mut self, time: Duration) {
        for device in &mut self.devices {
            device.now += time;
            device.run(|sessions, ctx| sessions.handle_timeout(ctx));
        }
        self.collect(0);
        self.collect(1);
    }
}

/// See the target's documentation. A step is a byte for what, and three that say how.
pub fn handshake(bytes: &[u8]) {
    let mut pair = Pair::new();
    let keys = group_keys();
    let mut next = 0;
    for step in bytes.chunks(4).take(STEPS_MAX) {
        let [what, a, b, c] = array(step);
        let from = usize::from(a & 1);
        let any = usize::from(u16::from_le_bytes([a, b])) % pair.log.len().max(1);
        match what % 8 {
            0 => pair.dial(from),
            1 | 2 => {
                pair.deliver(next, |_| {});
                next += 1;
            }
            3 => next += 1,
            4 => drop(pair.deliver(any, |_| {})),
            5 => drop(pair.deliver(any, |datagram| spoil(datagram, b, c))),
            6 => {
                // A member's packet with a code that fits and anything else within.
                let to = pair.devices[1 - from].public;
                pair.deliver(any, |datagram| {
                    spoil(datagram, b, c);
                    let at = match classify(datagram) {
                        Kind::Init(_) => 128,
                        Kind::Response => 64,
                        _ => return,
                    };
                    sign(&keys, &to, datagram, at);
                });
            }
            _ => pair.pass(Duration::from_millis(u64::from(b) << (c % 16))),
        }
        pair.collect(0);
        pair.collect(1);
    }
}

fn spoil(datagram: &mut Vec<u8>, at: u8, with: u8) {
    if with == 0 {
        return datagram.truncate(usize::from(at));
    }
    let at = usize::from(at) % datagram.len().max(1);
    if let Some(byte) = datagram.get_mut(at) {
        *byte ^= with;
    }
}

/// See the target's documentation. A step is a byte for what, and three that say how.
pub fn data(bytes: &[u8]) {
    let mut pair = Pair::new();
    pair.establish();
    let first = pair.log.len();
    let mut opened = Vec::new();
    for (number, step) in bytes.chunks(4).take(STEPS_MAX).enumerate() {
        let [what, a, b, c] = array(step);
        let from = usize::from(what >> 7);
        let sealed = pair.log.len() - first;
        let any = first + usize::from(u16::from_le_bytes([a, b])) % sealed.max(1);
        let (at, spoilt) = match what % 4 {
            0 => {
                let mut plaintext = vec![c; usize::from(b)];
                plaintext.extend_from_slice(&(number as u32).to_le_bytes());
                let peer = pair.devices[1 - from].public;
                let sent = pair.devices[from].run(|s, ctx| s.send(ctx, &peer, &plaintext));
                assert!(sent.is_ok(), "the session stands");
                pair.collect(from);
                continue;
            }
            1 => (any, false),
            2 => (any, c != 0),
            _ => (
                pair.log.len().saturating_sub(1 + usize::from(a)).max(first),
                false,
            ),
        };
        if at >= pair.log.len() {
            continue;
        }
        let incoming = pair.deliver(at, |datagram| {
            if spoilt {
                let at = usize::from(b) % datagram.len();
                datagram[at] ^= c;
            }
        });
        if matches!(incoming, Some(Incoming::Data { .. })) {
            assert!(!spoilt, "a spoilt packet is never opened");
            assert!(!opened.contains(&at), "a packet is opened once");
            opened.push(at);
        }
    }
}
