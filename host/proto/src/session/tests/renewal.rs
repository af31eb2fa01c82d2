//! Sessions that grow old: their renewal, their end, and what is under way meanwhile.

use std::collections::BTreeSet;

use rand::RngExt;

use super::*;
use crate::session::slots::{COUNTER_MAX, HALF_OPEN_LIFE, RENEW_AFTER_PACKETS, SESSION_LIFE};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn session<'a>(of: &'a mut Device, with: &Device) -> &'a mut slots::Session {
    let slots = of.sessions.peers.get_mut(&with.public).expect("known");
    slots.current.as_mut().expect("a session")
}

/// Waits until a device is told that its session is worn out.
fn wait_until_worn(device: &mut Device, limit: Duration) -> Duration {
    let start = device.now;
    while device.now.since(start) < limit {
        device.wait(SECOND);
        let events = device.events();
        if events
            .iter()
            .any(|e| matches!(e, SessionEvent::WornOut { .. }))
        {
            return device.now.since(start);
        }
    }
    panic!("not within {limit:?}");
}

#[test]
fn the_initiator_renews_after_fifteen_minutes_and_the_other_only_later() {
    let mut times = BTreeSet::new();
    for boot in 11..31 {
        let (mut a, mut b) = (Device::new(1, boot), Device::new(2, boot));
        a.connect(&b);
        settle(&mut a, &mut b);
        a.events();
        b.events();
        let took = wait_until_worn(&mut a, 20 * MINUTE);
        assert!((13 * MINUTE + 30 * SECOND..=16 * MINUTE + 31 * SECOND).contains(&took));
        times.insert(took);
        let took = wait_until_worn(&mut b, 20 * MINUTE);
        assert!((17 * MINUTE + 30 * SECOND..=18 * MINUTE + 31 * SECOND).contains(&took));
    }
    assert!(times.len() > 10, "spread out: {times:?}");
}

#[test]
fn sessions_renew_themselves_for_a_day_one_handshake_at_a_time() {
    let (mut a, mut b) = connected();
    let inits = a.sessions.inits + b.sessions.inits;
    for _ in 0..24 * 60 {
        pass(&mut a, &mut b, MINUTE);
        assert_both_ways(&mut a, &mut b);
    }
    let inits = a.sessions.inits + b.sessions.inits - inits;
    assert!((24 * 3..=24 * 5).contains(&inits), "{inits} in a day");
    assert_agreed(&mut a, &mut b, &"a day later");
}

#[test]
fn the_other_side_renews_where_the_initiator_does_not() {
    let (mut a, mut b) = connected();
    // The initiator's Inits are lost, all else arrives.
    for _ in 0..18 * 60 + 32 {
        a.wait(SECOND);
        b.wait(SECOND);
        if a.renew_worn(&b) {
            let peer = b.public;
            a.run(|s, _| s.drop_attempt(&peer));
            a.sent();
        }
        if b.renew_worn(&a) {
            settle(&mut a, &mut b);
        }
    }
    let created = session(&mut a, &b).created;
    assert!(
        a.now.since(created) < 2 * MINUTE,
        "renewed by the other side"
    );
    assert_agreed(&mut a, &mut b, &"by the responder");
}

#[test]
fn nothing_is_sent_or_accepted_under_a_session_of_twenty_minutes() {
    for early in [true, false] {
        let (mut a, mut b) = connected();
        b.send(&a.public, b"on time").expect("a session");
        b.send(&a.public, b"too late").expect("a session");
        let [first, second]: [Flying; 2] = b.sent().try_into().expect("two");
        a.now += SESSION_LIFE - SECOND;
        assert!(matches!(a.receive(&first), Incoming::Data { .. }));
        a.send(&b.public, b"x").expect("a second is left");
        a.now += SECOND;
        // Whether or not the timer came first.
        if !early {
            a.run(|s, ctx| s.handle_timeout(ctx));
        }
        let refused = a.refused();
        assert_eq!(a.receive(&second), Incoming::Nothing);
        assert_eq!(a.refused(), refused + 1);
        assert_eq!(a.send(&b.public, b"x"), Err(NoSession));
        a.wait(SECOND);
        assert!(
            a.events()
                .contains(&SessionEvent::Expired { peer: b.public })
        );
        assert!(!a.sessions.is_established(&b.public));
        assert!(a.sessions.peers.is_empty() && a.sessions.indices.is_empty());
    }
}

#[test]
fn a_session_is_renewed_and_ends_by_its_count_of_packets() {
    let (mut a, mut b) = connected();
    session(&mut a, &b).set_sent(RENEW_AFTER_PACKETS - 1);
    assert_one_way(&mut a, &mut b, b"the last before");
    a.run(|s, ctx| s.handle_timeout(ctx));
    assert!(a.renew_worn(&b));
    settle(&mut a, &mut b);
    assert_one_way(&mut a, &mut b, b"under the next");
    let created = session(&mut a, &b).created;
    assert_eq!(created, a.now, "renewed at once");
    session(&mut a, &b).set_sent(COUNTER_MAX - 1);
    assert_one_way(&mut a, &mut b, b"the very last");
    assert_eq!(a.send(&b.public, b"no more"), Err(NoSession));
}

#[test]
fn a_device_that_is_gone_leaves_nothing_behind() {
    let (mut a, b) = connected();
    let mut dialler = Device::new(9, 1);
    dialler.connect(&a);
    a.receive(&dialler.sent_one());
    assert_eq!(a.sessions.peers.len(), 2);
    let mut renewals = 0;
    for _ in 0..SESSION_LIFE.as_secs() + 61 {
        a.wait(SECOND);
        renewals += u32::from(a.renew_worn(&b));
        a.sent();
        if a.now.since(Time::from_micros(1_000_000)) > HALF_OPEN_LIFE + SECOND {
            assert!(a.sessions.peers.len() <= 1, "the half-open one is gone");
        }
    }
    assert!(renewals >= 2, "it was asked again: {renewals}");
    assert!(a.sessions.peers.is_empty());
    assert!(a.sessions.attempts.is_empty());
    assert!(a.sessions.indices.is_empty());
    assert_eq!(a.sessions.next_timeout(), None, "nothing left to wait for");
}

#[test]
fn the_responder_sends_on_the_next_session_only_after_it_was_confirmed() {
    let (mut a, mut b) = connected();
    let (peer, flags) = (b.public, b.flags);
    a.now += MINUTE;
    b.now += MINUTE;
    a.run(|s, ctx| s.renew(ctx, &peer, flags, group_keys().kid));
    b.receive(&a.sent_one());
    let response = b.sent_one();
    // Not confirmed: what it sends is under the session before, and still read after the switch.
    b.send(&a.public, b"under the old").expect("a session");
    let old = b.sent_one();
    a.receive(&response);
    let confirmation = a.sent_one();
    assert_ne!(old.bytes[1..4], response.bytes[1..4]);
    assert!(matches!(a.receive(&old), Incoming::Data { .. }));
    a.send(&b.public, b"under the new").expect("a session");
    let new = a.sent_one();
    assert!(
        matches!(b.receive(&new), Incoming::Data { .. }),
        "it confirms as well"
    );
    assert!(matches!(b.receive(&confirmation), Incoming::Data { .. }));
    assert_agreed(&mut a, &mut b, &"renewed");
}

#[test]
fn a_packet_of_the_previous_session_moves_no_endpoint() {
    let (mut a, mut b) = connected();
    a.send(&b.public, b"late").expect("a session");
    let late = a.sent_one();
    pass(&mut a, &mut b, 17 * MINUTE);
    assert!(
        session(&mut a, &b).created > Time::from_micros(5_000_000),
        "renewed"
    );
    let from = address(77);
    assert!(matches!(
        b.receive(&Flying { from, ..late }),
        Incoming::Data { .. }
    ));
    assert_eq!(b.sessions.endpoint(&a.public), Some(a.address));
}

/// Sends numbered texts both ways through several renewals, some of which begin at both sides at
/// once, while the network loses, doubles and reorders. What the network delivers at least once is
/// delivered exactly once.
#[test]
fn no_message_is_lost_or_doubled_by_a_renewal() {
    for seed in 0..12 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (mut a, mut b) = connected();
        let mut air: Vec<(Time, Flying)> = Vec::new();
        let (mut carried, mut got) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..6_000_u32 {
            for device in [&mut a, &mut b] {
                device.wait(Duration::from_millis(5));
            }
            if step % 1_000 == 500 {
                a.run(|s, ctx| s.renew(ctx, &b.public, b.flags, group_keys().kid));
            }
            if step % 1_000 == 500 && step % 2_000 == 500 {
                b.run(|s, ctx| s.renew(ctx, &a.public, a.flags, group_keys().kid));
            }
            let now = a.now;
            let mut fly = |from: &mut Device, text: Option<u32>, air: &mut Vec<_>| {
                for datagram in from.sent() {
                    let copies = [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][rng.random_range(0..10)];
                    let is_text = text.is_some() && classify(&datagram.bytes) == Kind::Data;
                    if is_text && copies > 0 && datagram.bytes.len() > 28 {
                        carried.insert((from.public, text.expect("checked")));
                    }
                    for _ in 0..copies {
                        let delay = Duration::from_millis(rng.random_range(1..80));
                        air.push((now + delay, datagram.clone()));
                    }
                }
            };
            fly(&mut a, None, &mut air);
            fly(&mut b, None, &mut air);
            a.send(&b.public, &step.to_le_bytes())
                .expect("always a session");
            fly(&mut a, Some(step), &mut air);
            b.send(&a.public, &step.to_le_bytes())
                .expect("always a session");
            fly(&mut b, Some(step), &mut air);
            let due = air.extract_if(.., |(at, _)| *at <= now);
            for (_, datagram) in due.collect::<Vec<_>>() {
                let to = if datagram.to == a.address {
                    &mut a
                } else {
                    &mut b
                };
                if let Incoming::Data { peer, plaintext } = to.receive(&datagram)
                    && let Ok(number) = plaintext[..].try_into()
                {
                    let fresh = got.insert((peer, u32::from_le_bytes(number)));
                    assert!(fresh, "seed {seed}: {number:?} again");
                }
            }
        }
        let landed = air.iter().all(|(at, _)| a.now.since(*at) < SECOND);
        assert!(landed);
        let last = 6_000 - 40;
        let lost = carried.difference(&got).filter(|(_, n)| *n < last);
        assert_eq!(lost.count(), 0, "seed {seed}");
        let renewed = session(&mut a, &b).created > Time::from_micros(20_000_000);
        assert!(renewed, "seed {seed}");
    }
}
