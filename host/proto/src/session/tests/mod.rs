//! Two or more devices on a wire that the test holds in its hands.

mod admission;
mod handshake;
mod hostile;
mod keys;
mod races;
mod renewal;
mod rivals;

use super::*;
use crate::crypto::Ring;
use crate::event::{Destination, Transmit};
use crate::keys::GroupSecret;
use crate::status::Counters;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

/// One device with all that it needs around it.
struct Device {
    sessions: Sessions,
    id: u8,
    public: PublicKey,
    boot: BootId,
    flags: Flags,
    address: Address,
    /// The secret it dials under.
    kid: Kid,
    rng: ChaCha12Rng,
    outbox: VecDeque<Transmit>,
    counters: Counters,
    now: Time,
}

/// A datagram under way.
#[derive(Clone, Debug, PartialEq)]
struct Flying {
    from: Address,
    to: Address,
    bytes: Bytes,
}

fn group_keys() -> GroupKeys {
    GroupSecret::from_random(&[3; 48]).derive()
}

fn address(n: u8) -> Address {
    Address::Udp(([10, 0, 0, n], 5678).into())
}

impl Device {
    fn new(id: u8, boot: u64) -> Self {
        Self::with(id, boot, true, &group_keys())
    }

    fn with(id: u8, boot: u64, aes: bool, keys: &GroupKeys) -> Self {
        Self::on(id, boot, aes, keys, Arc::new(Ring))
    }

    fn on(id: u8, boot: u64, aes: bool, keys: &GroupKeys, crypto: Arc<dyn Crypto>) -> Self {
        let secret = StaticSecret::new([id; 32]);
        let public = Ring.public_key(&secret).expect("usable");
        let (boot, flags) = (BootId(boot), Flags::new(aes));
        Self {
            sessions: Sessions::new(
                core::slice::from_ref(keys),
                secret,
                public,
                boot,
                flags,
                crypto,
            ),
            id,
            public,
            boot,
            flags,
            address: address(id),
            kid: keys.kid,
            rng: ChaCha12Rng::seed_from_u64(u64::from(id) << 8 | boot.0),
            outbox: VecDeque::new(),
            counters: Counters::default(),
            now: Time::from_micros(1_000_000),
        }
    }

    /// The same device in another run.
    fn restarted(&self, boot: u64) -> Self {
        Self::new(self.id, boot)
    }

    fn run<R>(&mut self, action: impl FnOnce(&mut Sessions, &mut Ctx<'_>) -> R) -> R {
        let mut ctx = Ctx {
            now: self.now,
            rng: &mut self.rng,
            outbox: &mut self.outbox,
            counters: &mut self.counters,
        };
        let result = action(&mut self.sessions, &mut ctx);
        self.check_indices();
        result
    }

    /// Every index belongs to one live session or pending Init.
    fn check_indices(&self) {
        let sessions = &self.sessions;
        let mut live: Vec<Index> = sessions
            .peers
            .values()
            .flat_map(|slots| slots.indices())
            .collect();
        let pending = sessions
            .attempts
            .values()
            .flat_map(|a| a.pending.iter().map(|p| p.local));
        live.extend(pending);
        live.sort_unstable();
        assert_eq!(live, sessions.indices.keys().copied().collect::<Vec<_>>());
    }

    fn connect(&mut self, to: &Device) {
        self.connect_at(to, &[to.address]);
    }

    fn connect_at(&mut self, to: &Device, candidates: &[Address]) {
        let target = Target {
            peer: to.public,
            boot: to.boot,
            flags: to.flags,
            kid: self.kid,
        };
        self.run(|s, ctx| s.connect(ctx, target, candidates));
    }

    fn receive(&mut self, flying: &Flying) -> Incoming {
        self.run(|s, ctx| s.handle_datagram(ctx, flying.from, &flying.bytes))
    }

    fn send(&mut self, to: &PublicKey, text: &[u8]) -> Result<(), NoSession> {
        self.run(|s, ctx| s.send(ctx, to, text))
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.run(|s, ctx| s.handle_timeout(ctx));
    }

    /// Takes what the device wants to send.
    fn sent(&mut self) -> Vec<Flying> {
        let from = self.address;
        let flying = |transmit: Transmit| match transmit.to {
            Destination::Address(to) => Flying {
                from,
                to,
                bytes: transmit.payload,
            },
            Destination::Everyone => panic!("sessions never multicast"),
        };
        self.outbox.drain(..).map(flying).collect()
    }

    fn sent_one(&mut self) -> Flying {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().expect("one")
    }

    fn events(&mut self) -> Vec<SessionEvent> {
        core::iter::from_fn(|| self.sessions.poll_event()).collect()
    }

    /// Does what a node does when told that a session is worn out. Returns whether one was.
    fn renew_worn(&mut self, peer: &Device) -> bool {
        let mut worn = false;
        for event in self.events() {
            if event == (SessionEvent::WornOut { peer: peer.public }) {
                worn = true;
                self.run(|s, ctx| s.renew(ctx, &peer.public, peer.flags, group_keys().kid));
            }
        }
        worn
    }

    fn refused(&self) -> u64 {
        let Counters {
            datagrams_refused,
            datagrams_replayed,
            handshakes_put_off,
            ..
        } = self.counters;
        datagrams_refused + datagrams_replayed + handshakes_put_off
    }
}

/// The device with the lower key first.
fn ordered(a: Device, b: Device) -> (Device, Device) {
    if a.public < b.public { (a, b) } else { (b, a) }
}

fn pair() -> (Device, Device) {
    ordered(Device::new(1, 11), Device::new(2, 22))
}

/// Delivers all that is under way until all is quiet.
fn settle(a: &mut Device, b: &mut Device) {
    for _ in 0..20 {
        let flying: Vec<Flying> = a.sent().into_iter().chain(b.sent()).collect();
        if flying.is_empty() {
            return;
        }
        for datagram in flying {
            let to = if datagram.to == a.address {
                &mut *a
            } else {
                &mut *b
            };
            if to.address == datagram.to {
                to.receive(&datagram);
            }
        }
    }
    panic!("the devices never stop talking");
}

/// A pair with a session, its events taken.
fn connected() -> (Device, Device) {
    let (mut a, mut b) = pair();
    a.connect(&b);
    settle(&mut a, &mut b);
    assert_eq!(a.events().len(), 1);
    assert_eq!(b.events().len(), 1);
    (a, b)
}

/// Lets time pass for both, answering what a node would answer, with a network that loses nothing.
fn pass(a: &mut Device, b: &mut Device, duration: Duration) {
    let end = a.now.max(b.now) + duration;
    loop {
        let next = |device: &Device| device.sessions.next_timeout();
        let now = next(a).into_iter().chain(next(b)).min().unwrap_or(end);
        let now = now.clamp(a.now.max(b.now), end);
        for device in [&mut *a, &mut *b] {
            device.now = now;
            device.run(|s, ctx| s.handle_timeout(ctx));
        }
        a.renew_worn(b);
        b.renew_worn(a);
        settle(a, b);
        if now == end {
            return;
        }
    }
}

/// Both send on one session, nothing is under way, and nothing else is left half a minute later.
fn assert_agreed(a: &mut Device, b: &mut Device, what: &impl core::fmt::Debug) {
    assert_both_ways(a, b);
    assert_both_ways(a, b);
    {
        let of = |s: &Device, p: &PublicKey| s.sessions.peers[p].current.is_some();
        assert!(of(a, &b.public) && of(b, &a.public), "{what:?}");
        let ours = a.sessions.peers[&b.public].current.as_ref().expect("one");
        let theirs = b.sessions.peers[&a.public].current.as_ref().expect("one");
        assert!(
            ours.pairs_with(theirs),
            "they send on two sessions: {what:?}"
        );
    }
    for device in [a, b] {
        device.wait(slots::HALF_OPEN_LIFE);
        device.wait(Duration::from_secs(1));
        assert_eq!(device.sent(), [], "{what:?}");
        assert!(device.sessions.attempts.is_empty(), "{what:?}");
        assert!(device.sessions.indices.len() <= 2, "{what:?}");
    }
}

/// Sends a text each way and sees it arrive exactly once.
fn assert_both_ways(a: &mut Device, b: &mut Device) {
    assert_one_way(a, b, b"there");
    assert_one_way(b, a, b"and back");
}

fn assert_one_way(from: &mut Device, to: &mut Device, text: &[u8]) {
    from.send(&to.public, text).expect("a session");
    let datagram = from.sent_one();
    assert_eq!(datagram.to, to.address);
    let expected = Incoming::Data {
        peer: from.public,
        plaintext: Bytes::copy_from_slice(text),
    };
    assert_eq!(to.receive(&datagram), expected);
    assert_eq!(to.receive(&datagram), Incoming::Nothing);
}
