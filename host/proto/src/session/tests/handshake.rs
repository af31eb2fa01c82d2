//! Handshakes that nobody disturbs, but the network and restarts.

use super::*;
use crate::wire::header::{DATA_OVERHEAD, INIT_LEN, RESPONSE_LEN, Suite};

#[test]
fn both_suites_carry_data_both_ways() {
    for (aes_a, aes_b, suite) in [
        (true, true, Suite::AesGcm),
        (true, false, Suite::ChaChaPoly),
        (false, true, Suite::ChaChaPoly),
    ] {
        let keys = group_keys();
        let mut a = Device::with(1, 11, aes_a, &keys);
        let mut b = Device::with(2, 22, aes_b, &keys);
        a.connect(&b);
        assert!(a.sessions.is_connecting(&b.public));
        assert_eq!(a.send(&b.public, b"early"), Err(NoSession));

        let init = a.sent_one();
        assert_eq!(classify(&init.bytes), Kind::Init(suite));
        assert_eq!(init.bytes.len(), INIT_LEN);
        assert_eq!(b.receive(&init), Incoming::Nothing);
        assert!(
            !b.sessions.is_established(&a.public),
            "not before the confirmation"
        );
        assert_eq!(b.send(&a.public, b"early"), Err(NoSession));

        let response = b.sent_one();
        assert_eq!(response.bytes.len(), RESPONSE_LEN);
        assert_eq!(a.receive(&response), Incoming::Nothing);
        let (peer, boot, address) = (b.public, b.boot, b.address);
        let established = SessionEvent::Established {
            peer,
            boot,
            address,
            initiated: true,
        };
        assert_eq!(a.events(), [established]);
        assert!(!a.sessions.is_connecting(&b.public));

        let confirmation = a.sent_one();
        assert_eq!(confirmation.bytes.len(), DATA_OVERHEAD);
        let empty = Incoming::Data {
            peer: a.public,
            plaintext: Bytes::new(),
        };
        assert_eq!(b.receive(&confirmation), empty);
        let (peer, boot, address) = (a.public, a.boot, a.address);
        let established = SessionEvent::Established {
            peer,
            boot,
            address,
            initiated: false,
        };
        assert_eq!(b.events(), [established]);

        for _ in 0..3 {
            assert_both_ways(&mut a, &mut b);
        }
        assert_eq!(a.sessions.last_heard(&b.public), Some(a.now));
        assert_eq!(b.sessions.boot(&a.public), Some(a.boot));
        assert_eq!(a.events(), []);
    }
}

#[test]
fn a_session_carries_its_largest_packet() {
    let (mut a, mut b) = connected();
    a.send(&b.public, &[7; MAX_PLAINTEXT]).expect("a session");
    let datagram = a.sent_one();
    assert_eq!(datagram.bytes.len(), MAX_DATAGRAM);
    let plaintext = Bytes::from_static(&[7; MAX_PLAINTEXT]);
    assert_eq!(
        b.receive(&datagram),
        Incoming::Data {
            peer: a.public,
            plaintext
        }
    );
}

#[test]
fn one_seed_gives_the_same_bytes_and_each_attempt_others() {
    let run = || {
        let (mut a, mut b) = pair();
        a.connect(&b);
        let init = a.sent_one();
        b.receive(&init);
        let response = b.sent_one();
        a.receive(&response);
        let confirmation = a.sent_one();
        [init, response, confirmation]
    };
    assert_eq!(run(), run());

    let (mut a, b) = pair();
    a.connect(&b);
    let first = a.sent_one();
    a.wait(Duration::from_millis(400));
    let second = a.sent_one();
    assert_ne!(
        first.bytes[8..40],
        second.bytes[8..40],
        "a fresh ephemeral key each time"
    );
}

#[test]
fn retries_back_off_and_end() {
    let (mut a, b) = pair();
    a.connect(&b);
    let mut gaps = Vec::new();
    let mut last = a.now;
    while let Some(wake) = a.sessions.next_timeout() {
        assert!(wake > a.now, "time must go on");
        let sent = a.sent();
        assert!(sent.iter().all(|init| init.to == b.address));
        gaps.extend((gaps.len() < 15).then(|| wake.since(last)));
        last = wake;
        a.wait(wake.since(a.now));
    }
    let slow = [500, 1000, 2000, 4000, 5000, 5000, 5000];
    let nominal = [250; 8].into_iter().chain(slow);
    for (gap, nominal) in gaps.iter().zip(nominal.map(Duration::from_millis)) {
        assert!((nominal..=nominal + nominal / 4).contains(gap), "{gaps:?}");
    }
    assert_eq!(a.events(), [SessionEvent::GaveUp { peer: b.public }]);
    assert_eq!(a.counters.handshakes_failed, 1);
    assert!(!a.sessions.is_connecting(&b.public));
    assert!(a.now.since(Time::from_micros(1_000_000)) >= Duration::from_secs(60));
}

#[test]
fn a_lost_init_or_response_is_made_up_for() {
    for lost in 0..2 {
        let (mut a, mut b) = pair();
        a.connect(&b);
        let init = a.sent_one();
        if lost == 1 {
            b.receive(&init);
            b.sent_one();
        }
        a.wait(Duration::from_millis(400));
        settle(&mut a, &mut b);
        assert_both_ways(&mut a, &mut b);
    }
}

#[test]
fn a_lost_confirmation_is_made_up_for_by_any_packet() {
    let (mut a, mut b) = pair();
    a.connect(&b);
    let init = a.sent_one();
    b.receive(&init);
    let response = b.sent_one();
    a.receive(&response);
    a.sent_one();
    assert!(!b.sessions.is_established(&a.public));
    assert_one_way(&mut a, &mut b, b"first that arrives");
    assert_eq!(b.events().len(), 1);
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn several_addresses_are_tried_at_once_and_the_first_answer_wins() {
    let (mut a, mut b) = pair();
    let stale = [address(101), address(102), address(103)];
    a.connect_at(&b, &[stale[0], b.address, stale[1], stale[2], address(104)]);
    let inits = a.sent();
    assert_eq!(inits.len(), 4, "no more than four at once");
    // Two addresses lead to the same device: both are answered, either answer will do.
    for init in &inits[..2] {
        b.receive(init);
    }
    let responses = b.sent();
    assert_eq!(responses.len(), 2);
    for response in responses.iter().rev() {
        a.receive(response);
    }
    assert_eq!(a.refused(), 1, "the slower answer finds no attempt");
    settle(&mut a, &mut b);
    assert_eq!((a.events().len(), b.events().len()), (1, 1));
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn an_attempt_takes_new_addresses_at_once_but_no_more_than_four_a_round() {
    let (mut a, b) = pair();
    a.connect_at(&b, &[address(101)]);
    assert_eq!(a.sent().len(), 1);
    a.connect_at(&b, &[address(101), b.address]);
    assert_eq!(a.sent_one().to, b.address);
    for n in 110..120 {
        a.connect_at(&b, &[address(n)]);
    }
    assert_eq!(a.sent().len(), 2);
    a.wait(Duration::from_millis(400));
    let tried: Vec<Address> = a.sent().into_iter().map(|init| init.to).collect();
    assert_eq!(tried, [116, 117, 118, 119].map(address));
}

#[test]
fn a_session_in_use_is_left_alone() {
    let (mut a, mut b) = connected();
    a.connect(&b);
    assert_eq!(a.sent(), []);
    a.wait(FRESH + Duration::from_millis(1));
    a.connect(&b);
    settle(&mut a, &mut b);
    assert_eq!(
        (a.events(), b.events()),
        (vec![], vec![]),
        "a new session, the same boot"
    );
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn the_previous_session_still_receives() {
    let (mut a, mut b) = connected();
    b.send(&a.public, b"slow").expect("a session");
    let slow = b.sent_one();
    a.wait(FRESH + Duration::from_millis(1));
    a.connect(&b);
    settle(&mut a, &mut b);
    let expected = Incoming::Data {
        peer: b.public,
        plaintext: Bytes::from_static(b"slow"),
    };
    assert_eq!(a.receive(&slow), expected);
}

#[test]
fn a_restarted_peer_is_established_anew_whoever_dials() {
    for restarted_dials in [true, false] {
        let (mut a, mut b) = connected();
        b.send(&a.public, b"of the last run").expect("a session");
        let late = b.sent_one();
        let mut b = b.restarted(33);
        if restarted_dials {
            b.connect(&a);
        } else {
            a.connect(&b);
        }
        settle(&mut a, &mut b);
        let (peer, boot, address) = (b.public, BootId(33), b.address);
        let initiated = !restarted_dials;
        let established = SessionEvent::Established {
            peer,
            boot,
            address,
            initiated,
        };
        assert_eq!(a.events(), [established]);
        assert_eq!(a.sessions.boot(&b.public), Some(BootId(33)));
        assert_eq!(a.receive(&late), Incoming::Nothing, "the last run is over");
        assert_both_ways(&mut a, &mut b);
    }
}

#[test]
fn who_dials_an_old_boot_is_told_and_dials_the_right_one() {
    let (mut a, mut b) = pair();
    let old = b.restarted(7);
    a.connect_at(&old, &[b.address]);
    let init = a.sent_one();
    assert_eq!(
        b.receive(&init),
        Incoming::WantsBeacon {
            to: a.address,
            kid: group_keys().kid,
        }
    );
    assert_eq!(b.sent(), []);
    assert_eq!(b.refused(), 0);
    a.connect(&b);
    settle(&mut a, &mut b);
    assert_both_ways(&mut a, &mut b);
    assert_eq!(a.sessions.boot(&b.public), Some(b.boot));
}

#[test]
fn an_old_hint_ends_with_the_next_true_one() {
    let (mut a, mut b) = connected();
    let old = b.restarted(7);
    a.connect_at(&old, &[address(99)]);
    a.sent();
    assert!(a.sessions.is_connecting(&b.public));
    a.now += Duration::from_millis(1);
    assert_both_ways(&mut b, &mut a);
    a.connect(&b);
    assert!(!a.sessions.is_connecting(&b.public));
    assert_eq!(
        a.sessions.boot(&b.public),
        Some(b.boot),
        "the session stood all the time"
    );
}

#[test]
fn a_true_hint_of_a_restart_survives_an_old_one() {
    let (mut a, b) = connected();
    let restarted = b.restarted(33);
    a.now += Duration::from_millis(1);
    a.connect(&restarted);
    a.connect(&b);
    assert!(a.sessions.is_connecting(&b.public));
}

#[test]
fn close_forgets_sessions_and_attempts_but_not_counters() {
    let (mut a, mut b) = pair();
    a.connect(&b);
    let init = a.sent_one();
    b.receive(&init);
    settle(&mut a, &mut b);
    let peer = a.public;
    b.run(|s, _| s.close(&peer));
    assert!(!b.sessions.is_established(&peer));
    assert_eq!(b.sessions.endpoint(&peer), None);
    assert_eq!(b.send(&peer, b"x"), Err(NoSession));
    assert_eq!(b.receive(&init), Incoming::Nothing);
    assert_eq!(b.sent(), []);
    b.sessions.seen = SeenMacs::default();
    assert_eq!(
        b.receive(&init),
        Incoming::Nothing,
        "refused by the counter as well"
    );
    assert_eq!(b.sent(), []);
    a.run(|s, _| s.close(&s.peers.keys().next().copied().expect("one peer")));
    a.connect(&b);
    settle(&mut a, &mut b);
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn peers_are_bounded_and_half_open_ones_make_room() {
    let mut hub = Device::new(1, 11);
    for n in 0..PEERS_MAX as u16 - 10 {
        let mut key = [6; 32];
        key[1..3].copy_from_slice(&n.to_be_bytes());
        let key = PublicKey::new(key).expect("no point of low order");
        let flags = hub.flags;
        let target = Target {
            peer: key,
            boot: BootId(1),
            flags,
            kid: hub.kid,
        };
        hub.run(|s, ctx| s.connect(ctx, target, &[address(200)]));
    }
    assert_eq!(hub.sent().len(), PEERS_MAX - 10);
    for id in 10..20 {
        let mut device = Device::new(id, 1);
        device.connect(&hub);
        hub.receive(&device.sent_one());
        assert_eq!(hub.sent().len(), 1);
    }
    let mut last = Device::new(20, 1);
    last.connect(&hub);
    assert_eq!(hub.receive(&last.sent_one()), Incoming::Nothing);
    assert_eq!((hub.sent(), hub.refused()), (vec![], 1), "no room");
    hub.connect(&last);
    assert_eq!(hub.events(), [SessionEvent::GaveUp { peer: last.public }]);

    hub.wait(slots::HALF_OPEN_LIFE);
    hub.sent();
    assert!(hub.sessions.peers.is_empty());
    last.wait(Duration::from_millis(400));
    settle(&mut hub, &mut last);
    assert_both_ways(&mut hub, &mut last);
}
