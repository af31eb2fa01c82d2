//! Datagrams that somebody made, changed, recorded or cut.

use rand::RngExt;

use super::*;
use crate::session::handshake::Target;
use crate::wire::header::{INIT_LEN, RESPONSE_LEN, Suite};

/// The three packets of a handshake, not yet delivered to `b`, `a` and `b`.
struct Recorded {
    a: Device,
    b: Device,
    packets: [Flying; 3],
}

/// Runs a handshake; `before` sees each packet and its receiver before it is delivered.
fn handshake(aes: bool, mut before: impl FnMut(&mut Device, &Flying)) -> Recorded {
    let keys = group_keys();
    let (mut a, mut b) = (
        Device::with(1, 11, aes, &keys),
        Device::with(2, 22, aes, &keys),
    );
    a.connect(&b);
    let init = a.sent_one();
    before(&mut b, &init);
    b.receive(&init);
    let response = b.sent_one();
    before(&mut a, &response);
    a.receive(&response);
    let data = a.sent_one();
    before(&mut b, &data);
    b.receive(&data);
    Recorded {
        a,
        b,
        packets: [init, response, data],
    }
}

fn with_bytes(flying: &Flying, bytes: Vec<u8>) -> Flying {
    Flying {
        bytes: bytes.into(),
        ..flying.clone()
    }
}

/// The device neither answers, nor tells its caller anything, nor fails to count.
fn assert_refused(device: &mut Device, datagram: &Flying, what: &str) {
    let counted = device.refused();
    assert_eq!(device.receive(datagram), Incoming::Nothing, "{what}");
    assert_eq!(device.refused(), counted + 1, "{what}");
    assert_eq!(device.sent(), [], "{what}");
    assert_eq!(device.events(), [], "{what}");
}

#[test]
fn a_flipped_byte_anywhere_is_refused_and_the_genuine_packet_still_taken() {
    for aes in [true, false] {
        let mut recorded = handshake(aes, |receiver, genuine| {
            // The second code of an Init counts under load only.
            let checked = genuine.bytes.len().min(144);
            for position in 0..checked {
                for flip in [0x01, 0x80] {
                    let mut bytes = genuine.bytes.to_vec();
                    bytes[position] ^= flip;
                    let what = format!("{} bytes, byte {position}", genuine.bytes.len());
                    assert_refused(receiver, &with_bytes(genuine, bytes), &what);
                }
            }
        });
        assert_both_ways(&mut recorded.a, &mut recorded.b);
    }
}

#[test]
fn a_packet_cut_or_lengthened_is_refused() {
    let mut recorded = handshake(true, |receiver, genuine| {
        for len in 0..genuine.bytes.len() {
            let cut = with_bytes(genuine, genuine.bytes[..len].to_vec());
            assert_refused(receiver, &cut, &format!("cut to {len}"));
        }
        let mut long = genuine.bytes.to_vec();
        for _ in 0..1500 {
            long.push(0);
            assert_refused(receiver, &with_bytes(genuine, long.clone()), "lengthened");
        }
    });
    assert_both_ways(&mut recorded.a, &mut recorded.b);
}

#[test]
fn garbage_is_refused() {
    let (mut a, mut b) = connected();
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    let index = *a.sessions.indices.keys().next().expect("a session");
    for round in 0..20_000 {
        let fixed = [INIT_LEN, RESPONSE_LEN, 117, 60];
        let len = match round % 5 {
            4 => rng.random_range(0..1500),
            kind => fixed[kind],
        };
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        if len > 8 && round % 2 == 0 {
            bytes[0] = 0x10 | rng.random_range(0..8);
            bytes[4..8].copy_from_slice(&group_keys().kid);
            if bytes[0] == Kind::Data.first_byte() {
                bytes[1..4].copy_from_slice(&index.to_bytes());
            }
        }
        let datagram = Flying {
            from: address(9),
            to: a.address,
            bytes: bytes.into(),
        };
        assert_refused(&mut a, &datagram, "garbage");
    }
    assert_eq!(a.sessions.endpoint(&b.public), Some(b.address));
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn another_secret_gets_silence() {
    let other_group = GroupSecret::from_random(&[4; 48]).derive();
    let mut wrong_psk = group_keys();
    wrong_psk.noise = [9; 32];
    let mut wrong_mac = group_keys();
    wrong_mac.mac1 = [9; 32];
    let mut other_id = group_keys();
    other_id.group_id = [9; 16];
    for keys in [other_group, wrong_psk, wrong_mac, other_id] {
        for aes in [true, false] {
            let mut stranger = Device::with(1, 11, aes, &keys);
            let mut member = Device::with(2, 22, aes, &group_keys());
            stranger.connect(&member);
            let init = stranger.sent_one();
            assert_refused(&mut member, &init, "a stranger's Init");
            assert!(member.sessions.peers.is_empty());
        }
    }
}

#[test]
fn other_flags_than_the_advertised_ones_fail() {
    let (mut a, mut b) = pair();
    let lie = Flags::from_bytes([1, 2, 1, 0, 0, 0]);
    let target = Target {
        peer: b.public,
        boot: b.boot,
        flags: lie,
        kid: a.kid,
    };
    a.run(|s, ctx| s.connect(ctx, target, &[b.address]));
    let init = a.sent_one();
    assert_refused(&mut b, &init, "flags that were changed on the way");
}

#[test]
fn every_recorded_packet_is_worth_nothing() {
    let Recorded {
        mut a,
        mut b,
        packets,
    } = handshake(true, |_, _| {});
    a.events();
    b.events();
    assert_both_ways(&mut a, &mut b);
    let elsewhere = address(99);
    for _ in 0..3 {
        for packet in &packets {
            for from in [packet.from, elsewhere] {
                let replayed = Flying {
                    from,
                    ..packet.clone()
                };
                assert_refused(&mut a, &replayed, "replayed to the initiator");
                assert_refused(&mut b, &replayed, "replayed to the responder");
            }
        }
        // Even when the list of seen codes has been flushed.
        b.sessions.seen = SeenMacs::default();
    }
    assert_eq!(b.sessions.endpoint(&a.public), Some(a.address));
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn a_recorded_init_only_gets_a_beacon_after_a_restart() {
    let Recorded { packets, .. } = handshake(true, |_, _| {});
    let mut restarted = Device::new(2, 23);
    let from = address(66);
    let replayed = Flying {
        from,
        ..packets[0].clone()
    };
    assert_eq!(
        restarted.receive(&replayed),
        Incoming::WantsBeacon {
            to: from,
            kid: group_keys().kid,
        }
    );
    assert_eq!(restarted.sent(), []);
    assert!(restarted.sessions.peers.is_empty());
    assert_refused(&mut restarted, &replayed, "once is enough");
    assert_refused(&mut restarted, &packets[2], "the last run's data");
}

#[test]
fn an_init_of_a_forgotten_boot_harms_no_session() {
    let Recorded { packets, mut b, .. } = handshake(true, |_, _| {});
    // The initiator restarts nine times: the first boot is forgotten.
    let mut last = None;
    for boot in 100..109 {
        let mut a = Device::new(1, boot);
        a.connect(&b);
        settle(&mut a, &mut b);
        last = Some(a);
    }
    let mut a = last.expect("nine");
    b.sessions.seen = SeenMacs::default();
    b.events();
    assert_eq!(b.receive(&packets[0]), Incoming::Nothing);
    assert_eq!(
        b.sent_one().bytes.len(),
        RESPONSE_LEN,
        "answered, as the design has it"
    );
    assert_eq!(b.sessions.boot(&a.public), Some(a.boot));
    assert_refused(&mut b, &packets[2], "but nobody can confirm");
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn an_endpoint_moves_with_the_newest_packet_only() {
    let (mut a, mut b) = connected();
    a.send(&b.public, b"one").expect("a session");
    a.send(&b.public, b"two").expect("a session");
    let [one, two]: [Flying; 2] = a.sent().try_into().expect("two");
    let (old, new) = (address(50), address(51));
    b.receive(&Flying {
        from: new,
        ..two.clone()
    });
    assert_eq!(b.sessions.endpoint(&a.public), Some(new));
    let late = b.receive(&Flying { from: old, ..one });
    assert!(matches!(late, Incoming::Data { .. }), "late, but fresh");
    assert_eq!(b.sessions.endpoint(&a.public), Some(new), "not moved back");
    b.receive(&Flying { from: old, ..two });
    assert_eq!(b.sessions.endpoint(&a.public), Some(new), "nor by a copy");
    b.send(&a.public, b"x").expect("a session");
    assert_eq!(b.sent_one().to, new);
}

#[test]
fn an_init_moves_no_endpoint_and_evicts_no_session() {
    let (mut a, mut b) = connected();
    let boot = b.sessions.boot(&a.public);
    let mut twin = a.restarted(77);
    twin.connect(&b);
    let init = Flying {
        from: address(70),
        ..twin.sent_one()
    };
    b.receive(&init);
    assert_eq!(b.sent_one().to, address(70));
    assert_eq!(b.sessions.endpoint(&a.public), Some(a.address));
    assert_eq!(b.sessions.boot(&a.public), boot);
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn keys_of_low_order_and_ones_own_are_refused() {
    let (mut a, _) = pair();
    let flags = a.flags;
    let own = a.public;
    let target = Target {
        peer: own,
        boot: BootId(1),
        flags,
        kid: a.kid,
    };
    a.run(|s, ctx| s.connect(ctx, target, &[address(5)]));
    assert_eq!(a.sent(), []);
    assert_eq!(a.events(), [SessionEvent::GaveUp { peer: own }]);

    let mut twin = a.restarted(99);
    let target = Target {
        peer: a.public,
        boot: a.boot,
        flags,
        kid: a.kid,
    };
    let (_, packet) = twin
        .sessions
        .identity
        .write_init(&mut twin.rng, &target, Index::new(1), 1)
        .expect("it holds the secret");
    let init = Flying {
        from: address(5),
        to: a.address,
        bytes: packet.to_vec().into(),
    };
    assert_refused(&mut a, &init, "an Init under this device's own key");
}

#[test]
fn ephemeral_keys_of_low_order_are_refused_for_what_they_are() {
    let (mut a, mut b) = pair();
    a.connect(&b);
    let mut init = a.sent_one().bytes.to_vec();
    init[8..40].fill(0);
    let opened = b
        .sessions
        .identity
        .open_init(&mut b.rng, Suite::AesGcm, &init);
    assert_eq!(opened.map(drop), Err(Refusal::LowOrderKey));

    let mut response = vec![0; RESPONSE_LEN];
    let tag = a.sessions.identity.keys[0].mac_key.tag(&response[..64]);
    response[64..80].copy_from_slice(&tag);
    assert_eq!(
        a.sessions.identity.check_response(&a.kid, &response),
        Err(Refusal::LowOrderKey)
    );
}

#[test]
fn a_member_that_garbles_noise_leaves_the_genuine_packets_alone() {
    let mut recorded = handshake(false, |receiver, genuine| {
        let mac_at = match genuine.bytes.len() {
            INIT_LEN => 128,
            RESPONSE_LEN => 64,
            _ => return,
        };
        for position in 8..mac_at {
            let mut bytes = genuine.bytes.to_vec();
            bytes[position] ^= 4;
            // Slowly enough to be no load.
            receiver.now += Duration::from_millis(20);
            let tag = receiver.sessions.identity.keys[0]
                .mac_key
                .tag(&bytes[..mac_at]);
            bytes[mac_at..mac_at + 16].copy_from_slice(&tag);
            assert_refused(receiver, &with_bytes(genuine, bytes), "garbled by a member");
        }
    });
    assert_both_ways(&mut recorded.a, &mut recorded.b);
}

#[test]
fn many_packets_in_any_order_arrive_once() {
    let (mut a, mut b) = connected();
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    for n in 0..1500_u32 {
        a.send(&b.public, &n.to_le_bytes()).expect("a session");
    }
    let mut flying = a.sent();
    flying.extend(flying.clone());
    for i in (1..flying.len()).rev() {
        flying.swap(i, rng.random_range(0..=i));
    }
    let arrived = flying
        .iter()
        .filter(|f| b.receive(f) != Incoming::Nothing)
        .count();
    assert_eq!(arrived, 1500);
    assert_eq!(b.counters.datagrams_replayed, 1500);
}
