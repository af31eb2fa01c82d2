//! What stands before an exchange of keys: the order of the checks, the memory of copies, load,
//! buckets and cookies.

use core::sync::atomic::{AtomicU64, Ordering};

use rand_chacha::ChaCha12Rng;
use snow::resolvers::CryptoResolver;

use super::*;
use crate::session::handshake::init_mac1;
use crate::wire::header::{COOKIE_LEN, INIT_LEN, RESPONSE_LEN};

/// The real primitives, counting the handshakes that are begun or read with them.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Crypto for Counting {
    fn resolver(&self, rng: ChaCha12Rng) -> Box<dyn CryptoResolver + Send> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ring.resolver(rng)
    }

    fn public_key(&self, secret: &StaticSecret) -> Option<PublicKey> {
        Ring.public_key(secret)
    }
}

/// A device whose exchanges of keys are counted.
fn counting(id: u8, boot: u64) -> (Device, Arc<Counting>) {
    let crypto = Arc::new(Counting::default());
    let device = Device::on(id, boot, true, &group_keys(), crypto.clone());
    (device, crypto)
}

/// An Init of a device of its own to `hub`, from that device's address.
fn init_of(id: u8, hub: &Device) -> Flying {
    let mut device = Device::new(id, 1);
    device.connect(hub);
    device.sent_one()
}

/// Brings a device under load with Inits of many members.
fn load(hub: &mut Device) {
    let mut members: Vec<Device> = (100..113).map(|id| Device::new(id, 1)).collect();
    for round in 0..8 {
        for member in &mut members {
            member.now = hub.now + Duration::from_millis(round * 400);
            member.connect(hub);
            member.run(|s, ctx| s.handle_timeout(ctx));
            for init in member.sent() {
                hub.receive(&init);
            }
        }
    }
    hub.sent();
}

/// What `hub` decides on an Init, without its counters.
fn decide(hub: &mut Device, init: &Flying) -> Result<Incoming, Refusal> {
    hub.run(|s, ctx| match classify(&init.bytes) {
        Kind::Init(suite) => s.admit_init(ctx, init.from, suite, &init.bytes),
        _ => Err(Refusal::Malformed),
    })
}

fn changed(init: &Flying, change: impl FnOnce(&mut [u8])) -> Flying {
    let mut bytes = init.bytes.to_vec();
    change(&mut bytes);
    Flying {
        bytes: bytes.into(),
        ..init.clone()
    }
}

/// Makes the first code right again, as a member can.
fn resealed(hub: &Device, init: &Flying) -> Flying {
    changed(init, |bytes| {
        let tag = hub.sessions.identity.keys[0].mac_key.tag(&bytes[..128]);
        bytes[128..144].copy_from_slice(&tag);
    })
}

/// Each row fails one check and all that come after it. A check that came too early would refuse it
/// for another reason; one too late would let it cost an exchange of keys.
#[test]
fn an_init_meets_the_checks_in_the_order_of_their_cost() {
    let (mut hub, exchanges) = counting(1, 11);
    let seen = init_of(2, &hub);
    hub.receive(&seen);
    load(&mut hub);
    let exhausted = init_of(60, &hub);
    for _ in 0..5 {
        assert_eq!(decide(&mut hub, &exhausted), Err(Refusal::NoCookie));
    }
    hub.sent();
    let before = exchanges.0.load(Ordering::Relaxed);

    // All else about it is wrong as well: group, code, Noise.
    let garbage = changed(&seen, |bytes| bytes[4..].fill(0xee));
    let short = Flying {
        bytes: garbage.bytes.slice(..INIT_LEN - 1),
        ..garbage.clone()
    };
    let wrong_mac = changed(&garbage, |bytes| {
        bytes[4..8].copy_from_slice(&group_keys().kid);
    });
    // Its address has no token left, and it carries no cookie.
    let copy = Flying {
        from: exhausted.from,
        ..seen.clone()
    };
    let no_noise = |init: &Flying| changed(init, |bytes| bytes[40..128].fill(7));
    let no_token = resealed(&hub, &no_noise(&exhausted));
    let no_cookie = resealed(&hub, &no_noise(&init_of(50, &hub)));
    for (init, expected) in [
        (&short, Refusal::Malformed),
        (&garbage, Refusal::OtherGroup),
        (&wrong_mac, Refusal::Mac),
        (&copy, Refusal::Replayed),
        (&no_token, Refusal::TooMany),
        (&no_cookie, Refusal::NoCookie),
    ] {
        assert_eq!(decide(&mut hub, init), Err(expected));
        let replies = hub.sent();
        let sizes: Vec<usize> = replies.iter().map(|reply| reply.bytes.len()).collect();
        let expected_sizes: &[usize] = match expected {
            Refusal::NoCookie => &[COOKIE_LEN],
            _ => &[],
        };
        assert_eq!(sizes, expected_sizes, "{expected:?}");
        assert_eq!(exchanges.0.load(Ordering::Relaxed), before, "{expected:?}");
    }

    // From here on each costs an exchange of keys, and comes to its own check.
    hub.now += Duration::from_secs(10);
    let noise = resealed(&hub, &no_noise(&init_of(51, &hub)));
    assert_eq!(decide(&mut hub, &noise), Err(Refusal::Handshake));
    let mut late = Device::new(52, 1);
    late.connect(&hub);
    let first = late.sent_one();
    late.wait(Duration::from_millis(400));
    hub.receive(&late.sent_one());
    assert_eq!(decide(&mut hub, &first), Err(Refusal::Replayed), "counter");
    let cost = exchanges.0.load(Ordering::Relaxed) - before;
    assert_eq!(cost, 3);
}

/// Steps 7 to 10, all of which cost an exchange of keys: each row fails one and all after it.
#[test]
fn an_init_that_opens_meets_the_rest_of_the_checks_in_order() {
    let mut hub = Device::new(1, 11);
    // A device that this one dials itself, so that its own attempt may be held against it.
    let mut callers = (30..60).map(|id| Device::new(id, 1));
    let caller = callers.find(|device| hub.public < device.public);
    let mut caller = caller.expect("a larger key");
    let of = |device: &mut Device, hub: &Device| {
        device.sessions.close(&hub.public);
        device.connect(hub);
        device.sent_one()
    };
    hub.connect(&caller);
    hub.sent();
    let denied = Access::new(None, [caller.public.device_id()].into()).expect("one device");
    let allowed = core::mem::take(&mut hub.sessions.access);
    hub.sessions.access = denied;

    hub.boot = BootId(12);
    let other_boot = of(&mut caller, &hub);
    hub.boot = BootId(11);
    let wants = decide(&mut hub, &other_boot);
    assert!(matches!(wants, Ok(Incoming::WantsBeacon { .. })));
    let (first, second) = (of(&mut caller, &hub), of(&mut caller, &hub));
    assert_eq!(decide(&mut hub, &second), Err(Refusal::Denied));
    assert_eq!(
        decide(&mut hub, &first),
        Err(Refusal::Replayed),
        "then the list"
    );
    hub.sessions.access = allowed;
    let third = of(&mut caller, &hub);
    assert_eq!(decide(&mut hub, &third), Ok(Incoming::Nothing));
    assert_eq!(hub.sent(), [], "its own attempt has come first");

    // No room: who is known already, or dialled, is not refused for that.
    hub.sessions.drop_attempt(&caller.public);
    for n in 0..PEERS_MAX {
        let mut key = [9; 32];
        key[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let key = PublicKey::new(key).expect("no point of low order");
        hub.sessions.peers.insert(key, Box::default());
    }
    let fourth = of(&mut caller, &hub);
    assert_eq!(decide(&mut hub, &fourth), Err(Refusal::Full));
    let denied = Access::new(None, [caller.public.device_id()].into()).expect("one device");
    hub.sessions.access = denied;
    let fifth = of(&mut caller, &hub);
    assert_eq!(
        decide(&mut hub, &fifth),
        Err(Refusal::Denied),
        "before that"
    );
    assert_eq!(hub.sent(), [], "each gets silence");
}

#[test]
fn a_copy_that_keeps_coming_stays_known() {
    let mut hub = Device::new(1, 11);
    let init = init_of(2, &hub);
    hub.receive(&init);
    assert!(hub.sessions.seen.contains(&init_mac1(
        init.bytes[..].try_into().expect("an Init's length")
    )));
    for n in 0..10_000_u16 {
        let mut mac = [1; 16];
        mac[..2].copy_from_slice(&n.to_le_bytes());
        hub.sessions.seen.insert(mac);
        if n % 1000 == 0 {
            assert_eq!(decide(&mut hub, &init), Err(Refusal::Replayed));
        }
    }
    assert_eq!(decide(&mut hub, &init), Err(Refusal::Replayed));
}

#[test]
fn under_load_a_cookie_opens_the_door() {
    let (mut hub, exchanges) = counting(1, 11);
    load(&mut hub);
    let before = exchanges.0.load(Ordering::Relaxed);
    let mut late = Device::new(2, 22);
    late.connect(&hub);
    hub.receive(&late.sent_one());
    let reply = hub.sent_one();
    assert_eq!(reply.bytes.len(), COOKIE_LEN);
    assert_eq!(reply.to, late.address);
    assert_eq!(exchanges.0.load(Ordering::Relaxed), before);

    assert_eq!(late.receive(&reply), Incoming::Nothing);
    let again = late.sent_one();
    assert_eq!(again.to, hub.address, "at once");
    assert_eq!(late.receive(&reply), Incoming::Nothing);
    assert_eq!(late.sent(), [], "a copy of the reply makes no further one");
    hub.receive(&again);
    let response = hub.sent_one();
    assert_eq!(response.bytes.len(), RESPONSE_LEN);
    late.receive(&response);
    settle(&mut hub, &mut late);
    assert_both_ways(&mut hub, &mut late);
}

#[test]
fn a_cookie_is_kept_for_two_minutes_and_worth_nothing_elsewhere() {
    let mut hub = Device::new(1, 11);
    load(&mut hub);
    let mut late = Device::new(2, 22);
    late.connect(&hub);
    hub.receive(&late.sent_one());
    late.receive(&hub.sent_one());
    let with_cookie = late.sent_one();
    for from in [address(99), Address::Udp(([10, 0, 0, 2], 1).into())] {
        let elsewhere = Flying {
            from,
            ..with_cookie.clone()
        };
        assert_eq!(decide(&mut hub, &elsewhere), Err(Refusal::NoCookie));
        assert_eq!(hub.sent_one().to, from);
    }
    late.wait(Duration::from_millis(400));
    let next_round = late.sent_one();
    assert_eq!(decide(&mut hub, &next_round), Ok(Incoming::Nothing));
    assert_eq!(hub.sent().len(), 1, "the next round has the cookie too");
    for (after, kept) in [(119, true), (1, false)] {
        late.wait(Duration::from_secs(after));
        late.sent();
        let peer = hub.public;
        late.run(|s, _| s.close(&peer));
        late.connect(&hub);
        let init = late.sent_one();
        assert_eq!(init.bytes[144..] != [0; 16], kept, "{after} s later");
    }
}

#[test]
fn a_wrong_second_code_is_refused_under_load_and_ignored_else() {
    let mut hub = Device::new(1, 11);
    let calm = changed(&init_of(2, &hub), |bytes| bytes[144..].fill(9));
    hub.receive(&calm);
    assert_eq!(hub.sent_one().bytes.len(), RESPONSE_LEN);
    load(&mut hub);
    let loaded = changed(&init_of(3, &hub), |bytes| bytes[144..].fill(9));
    assert_eq!(decide(&mut hub, &loaded), Err(Refusal::NoCookie));
}

#[test]
fn a_forged_or_late_cookie_is_refused() {
    let (mut hub, mut late) = (Device::new(1, 11), Device::new(2, 22));
    load(&mut hub);
    late.connect(&hub);
    hub.receive(&late.sent_one());
    let reply = hub.sent_one();
    for position in 0..COOKIE_LEN {
        let forged = changed(&reply, |bytes| bytes[position] ^= 1);
        let refused = late.refused();
        late.receive(&forged);
        assert_eq!(late.refused(), refused + 1, "byte {position}");
        assert_eq!(late.sent(), [], "byte {position}");
    }
    late.now += Duration::from_secs(61);
    late.run(|s, ctx| s.handle_timeout(ctx));
    assert!(!late.sessions.is_connecting(&hub.public));
    late.receive(&reply);
    assert_eq!(late.sent(), [], "nothing awaits it");
}

#[test]
fn load_is_noticed_and_passes() {
    let (mut hub, exchanges) = counting(1, 11);
    load(&mut hub);
    let init = init_of(2, &hub);
    assert_eq!(decide(&mut hub, &init), Err(Refusal::NoCookie));
    assert!(exchanges.0.load(Ordering::Relaxed) <= 100);
    hub.now += Duration::from_secs(2);
    let init = init_of(3, &hub);
    assert_eq!(decide(&mut hub, &init), Ok(Incoming::Nothing));
}

#[test]
fn no_answer_is_longer_than_what_it_answers() {
    const { assert!(COOKIE_LEN < INIT_LEN && RESPONSE_LEN < INIT_LEN) };
    let mut hub = Device::new(1, 11);
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    load(&mut hub);
    for round in 0..2000_u32 {
        hub.now += Duration::from_micros(200);
        let init = init_of((round % 200 + 10) as u8, &hub);
        let init = match round % 4 {
            0 => resealed(
                &hub,
                &changed(&init, |bytes| rng.fill_bytes(&mut bytes[8..])),
            ),
            1 => changed(&init, |bytes| rng.fill_bytes(&mut bytes[..8])),
            _ => init,
        };
        hub.receive(&init);
        let answered: usize = hub.sent().iter().map(|reply| reply.bytes.len()).sum();
        assert!(answered < init.bytes.len(), "{answered}");
    }
}
