//! Both sides dial at once: every order of packets, each packet lost in turn, stale addresses.

use rand::RngExt;

use super::*;

/// One schedule: at each step, which of the datagrams under way is delivered next.
struct Schedule {
    choices: Vec<usize>,
    /// How many there were to choose from, as found while running.
    widths: Vec<usize>,
}

impl Schedule {
    /// The next schedule in order, if there is one.
    fn next(mut self) -> Option<Self> {
        self.choices.resize(self.widths.len(), 0);
        while let Some(choice) = self.choices.pop() {
            let width = self.widths[self.choices.len()];
            if choice + 1 < width {
                self.choices.push(choice + 1);
                return Some(Self {
                    choices: self.choices,
                    widths: Vec::new(),
                });
            }
        }
        None
    }

    fn choose(&mut self, width: usize) -> usize {
        let step = self.widths.len();
        self.widths.push(width);
        self.choices.get(step).copied().unwrap_or(0)
    }
}

/// Runs `scenario` under every order of delivery and returns how many there were.
fn in_every_order(mut scenario: impl FnMut(&mut Schedule)) -> usize {
    let mut schedule = Some(Schedule {
        choices: Vec::new(),
        widths: Vec::new(),
    });
    let mut runs = 0;
    while let Some(mut now) = schedule {
        scenario(&mut now);
        schedule = now.next();
        runs += 1;
        assert!(
            runs < 100_000,
            "the scenario is too large to be tried in every order"
        );
    }
    runs
}

/// Delivers what is under way in the order that the schedule says; the `lost`-th one is lost.
fn deliver(a: &mut Device, b: &mut Device, schedule: &mut Schedule, lost: Option<usize>) {
    let mut flying = Vec::new();
    for step in 0.. {
        flying.extend(a.sent());
        flying.extend(b.sent());
        if flying.is_empty() {
            return;
        }
        assert!(step < 50, "the devices never stop talking");
        let datagram = flying.remove(schedule.choose(flying.len()));
        if Some(step) == lost {
            continue;
        }
        if datagram.to == a.address {
            a.receive(&datagram);
        } else if datagram.to == b.address {
            b.receive(&datagram);
        }
    }
}

/// Lets time pass, with both devices reachable, until nothing is being attempted.
fn wait_until_settled(a: &mut Device, b: &mut Device) {
    for _ in 0..100 {
        settle(a, b);
        if !a.sessions.is_connecting(&b.public) && !b.sessions.is_connecting(&a.public) {
            return;
        }
        a.wait(Duration::from_millis(50));
        b.wait(Duration::from_millis(50));
    }
    panic!("five seconds were not enough");
}

fn assert_settled(a: &mut Device, b: &mut Device, orders: &Schedule) {
    assert!(a.sessions.is_established(&b.public), "{:?}", orders.choices);
    assert!(b.sessions.is_established(&a.public), "{:?}", orders.choices);
    assert_eq!(
        (a.events().len(), b.events().len()),
        (1, 1),
        "{:?}",
        orders.choices
    );
    if a.sessions.attempts.is_empty() && b.sessions.attempts.is_empty() {
        assert_agreed(a, b, &orders.choices);
    } else {
        assert_both_ways(a, b);
    }
}

#[test]
fn crossing_inits_end_in_sessions_at_once_in_every_order() {
    for delay_ms in [0, 240] {
        let runs = in_every_order(|schedule| {
            let (mut a, mut b) = pair();
            a.connect(&b);
            b.connect(&a);
            for device in [&mut a, &mut b] {
                device.now += Duration::from_millis(delay_ms);
            }
            deliver(&mut a, &mut b, schedule, None);
            assert_settled(&mut a, &mut b, schedule);
            assert!(!a.sessions.is_connecting(&b.public));
            assert!(!b.sessions.is_connecting(&a.public));
        });
        assert!(runs > 1, "{runs}");
    }
}

#[test]
fn the_attempt_of_the_lower_key_wins() {
    let (mut a, mut b) = pair();
    a.connect(&b);
    b.connect(&a);
    let (of_lower, of_higher) = (a.sent_one(), b.sent_one());
    a.receive(&of_higher);
    assert_eq!(
        a.sent(),
        [],
        "the lower key holds its own against the other's"
    );
    b.receive(&of_lower);
    assert!(
        b.sessions.attempts[&a.public].pending.is_empty(),
        "the higher key gives way"
    );
    let response = b.sent_one();
    a.receive(&response);
    settle(&mut a, &mut b);
    assert_eq!((a.sessions.indices.len(), b.sessions.indices.len()), (1, 1));
    assert_both_ways(&mut a, &mut b);
}

/// A half-open session of `b` and the packet of `a` that would confirm it.
fn unconfirmed(a: &mut Device, b: &mut Device) -> Flying {
    a.connect(b);
    b.receive(&a.sent_one());
    a.receive(&b.sent_one());
    a.sent_one()
}

#[test]
fn a_late_confirmation_of_an_older_session_is_not_sent_on() {
    let (mut a, mut b) = pair();
    let late = unconfirmed(&mut a, &mut b);
    b.connect(&a);
    for _ in 0..2 {
        settle(&mut a, &mut b);
        b.wait(Duration::from_secs(10));
        b.run(|s, ctx| s.renew(ctx, &a.public, a.flags, group_keys().kid));
    }
    settle(&mut a, &mut b);
    let empty = Incoming::Data {
        peer: a.public,
        plaintext: Bytes::new(),
    };
    assert_eq!(b.receive(&late), empty, "it is fresh all the same");
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn a_late_confirmation_of_an_earlier_boot_is_refused() {
    let (mut a, mut b) = pair();
    let late = unconfirmed(&mut a, &mut b);
    let mut a = a.restarted(33);
    a.connect(&b);
    settle(&mut a, &mut b);
    assert_eq!(b.receive(&late), Incoming::Nothing);
    assert_eq!(b.refused(), 1);
    assert_eq!(b.sessions.boot(&a.public), Some(a.boot));
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn inits_that_cross_late_end_in_sessions_in_every_order() {
    let runs = in_every_order(|schedule| {
        let (mut a, mut b) = pair();
        a.connect(&b);
        b.connect(&a);
        // Too old to be held against the other's: both are answered.
        for device in [&mut a, &mut b] {
            device.now += Duration::from_millis(300);
        }
        deliver(&mut a, &mut b, schedule, None);
        assert_settled(&mut a, &mut b, schedule);
    });
    assert!(runs > 10, "{runs}");
}

#[test]
fn two_addresses_each_way_end_in_sessions_in_every_order() {
    let runs = in_every_order(|schedule| {
        let (mut a, mut b) = pair();
        a.connect_at(&b, &[address(90), b.address]);
        b.connect(&a);
        let late = Duration::from_millis(300);
        a.now += late;
        b.now += late;
        // One of the addresses is another way to the same device.
        let flying = a.sent();
        for datagram in &flying {
            let sent = crate::event::Destination::Address(b.address);
            a.outbox.push_back(Transmit {
                to: sent,
                payload: datagram.bytes.clone(),
            });
        }
        deliver(&mut a, &mut b, schedule, None);
        wait_until_settled(&mut a, &mut b);
        assert_settled(&mut a, &mut b, schedule);
    });
    assert!(runs > 10, "{runs}");
}

#[test]
fn one_lost_packet_delays_crossing_inits_but_stops_nothing() {
    for late_ms in [0, 300] {
        for lost in 0..6 {
            in_every_order(|schedule| {
                let (mut a, mut b) = pair();
                a.connect(&b);
                b.connect(&a);
                a.now += Duration::from_millis(late_ms);
                b.now += Duration::from_millis(late_ms);
                deliver(&mut a, &mut b, schedule, Some(lost));
                wait_until_settled(&mut a, &mut b);
                // A lost confirmation is made up for by the next packet of the same side.
                let probes = [a.send(&b.public, b"probe"), b.send(&a.public, b"probe")];
                assert!(probes.contains(&Ok(())), "neither has a session");
                settle(&mut a, &mut b);
                assert_settled(&mut a, &mut b, schedule);
            });
        }
    }
}

/// Renewal from both sides at once, in every order of packets, with each single packet lost: it
/// ends with one session on which both send, and nothing else.
#[test]
fn renewals_that_cross_end_in_one_session_in_every_order() {
    for late_ms in [0, 300] {
        for lost in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)] {
            let runs = in_every_order(|schedule| {
                let (mut a, mut b) = connected();
                for device in [&mut a, &mut b] {
                    device.now += Duration::from_secs(600);
                }
                a.run(|s, ctx| s.renew(ctx, &b.public, b.flags, group_keys().kid));
                b.run(|s, ctx| s.renew(ctx, &a.public, a.flags, group_keys().kid));
                for device in [&mut a, &mut b] {
                    device.now += Duration::from_millis(late_ms);
                }
                deliver(&mut a, &mut b, schedule, lost);
                wait_until_settled(&mut a, &mut b);
                let what = (late_ms, lost, &schedule.choices);
                assert_agreed(&mut a, &mut b, &what);
                assert_eq!((a.events(), b.events()), (vec![], vec![]), "{what:?}");
                let renewed = a.sessions.peers[&b.public].current.as_ref();
                let created = renewed.expect("a session").created;
                assert!(created > Time::from_micros(600_000_000), "{what:?}");
            });
            assert!(runs > 1, "{runs}");
        }
    }
}

/// The two sides see two handshakes in different orders: the higher key gives way to an Init, dials
/// again when its confirmation does not come, and is answered before the first one's Response
/// arrives. They settle on one session all the same.
#[test]
fn handshakes_seen_in_different_orders_end_in_one_session() {
    let (mut a, mut b) = pair();
    a.connect(&b);
    b.connect(&a);
    b.sent();
    b.receive(&a.sent_one());
    let slow_response = b.sent_one();
    for device in [&mut a, &mut b] {
        device.now += Duration::from_millis(400);
    }
    b.run(|s, ctx| s.handle_timeout(ctx));
    a.receive(&b.sent_one());
    b.receive(&a.sent_one());
    let confirmation = b.sent_one();
    a.receive(&slow_response);
    settle(&mut a, &mut b);
    a.receive(&confirmation);
    assert_agreed(&mut a, &mut b, &"seen in different orders");
}

/// Attempts and renewals of both sides with timers that run out at any moment and packets that are
/// late or lost at random.
#[test]
fn rounds_that_cross_at_random_end_in_one_session() {
    for seed in 0..500 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (mut a, mut b) = if seed % 2 == 0 { pair() } else { connected() };
        a.wait(FRESH * 2);
        b.wait(FRESH * 2);
        a.connect(&b);
        if seed % 4 < 3 {
            b.connect(&a);
        }
        let mut flying = Vec::new();
        for _ in 0..rng.random_range(5..25) {
            flying.extend(a.sent());
            flying.extend(b.sent());
            match rng.random_range(0..10) {
                0 => a.wait(Duration::from_millis(150)),
                1 => b.wait(Duration::from_millis(150)),
                _ if flying.is_empty() => {}
                choice => {
                    let datagram = flying.remove(rng.random_range(0..flying.len()));
                    let to = if datagram.to == a.address {
                        &mut a
                    } else {
                        &mut b
                    };
                    if choice > 2 {
                        to.receive(&datagram);
                    }
                }
            }
        }
        for datagram in flying {
            let to = if datagram.to == a.address {
                &mut a
            } else {
                &mut b
            };
            to.receive(&datagram);
        }
        wait_until_settled(&mut a, &mut b);
        // A lost confirmation is made up for by the next packet of the same side.
        let probes = [a.send(&b.public, b"probe"), b.send(&a.public, b"probe")];
        assert!(
            probes.contains(&Ok(())),
            "seed {seed}: neither has a session"
        );
        settle(&mut a, &mut b);
        assert_agreed(&mut a, &mut b, &seed);
    }
}

/// One side's renewal meets the other side's data in every order: nothing is lost.
#[test]
fn a_renewal_among_data_loses_nothing_in_any_order() {
    let runs = in_every_order(|schedule| {
        let (mut a, mut b) = connected();
        a.run(|s, ctx| s.renew(ctx, &b.public, b.flags, group_keys().kid));
        a.send(&b.public, b"1").expect("a session");
        b.send(&a.public, b"2").expect("a session");
        let (mut flying, mut got) = (Vec::new(), 0);
        for step in 0.. {
            flying.extend(a.sent());
            flying.extend(b.sent());
            if step == 2 {
                a.send(&b.public, b"3").expect("a session");
                b.send(&a.public, b"4").expect("a session");
                flying.extend(a.sent());
                flying.extend(b.sent());
            }
            if flying.is_empty() {
                break;
            }
            let datagram: Flying = flying.remove(schedule.choose(flying.len()));
            let to = if datagram.to == a.address {
                &mut a
            } else {
                &mut b
            };
            let incoming = to.receive(&datagram);
            got += usize::from(
                matches!(incoming, Incoming::Data { plaintext, .. } if !plaintext.is_empty()),
            );
        }
        assert_eq!(got, 4, "{:?}", schedule.choices);
        assert_agreed(&mut a, &mut b, &schedule.choices);
    });
    assert!(runs > 100, "{runs}");
}

#[test]
fn a_stale_address_does_not_stop_the_lower_key_from_answering() {
    let (mut a, mut b) = pair();
    a.connect_at(&b, &[address(90)]);
    a.sent();
    b.connect(&a);
    settle(&mut a, &mut b);
    let schedule = Schedule {
        choices: Vec::new(),
        widths: Vec::new(),
    };
    assert_settled(&mut a, &mut b, &schedule);
}

#[test]
fn an_attempt_at_an_old_boot_does_not_stop_the_lower_key_from_answering() {
    let (mut a, mut b) = pair();
    let old = b.restarted(7);
    a.connect_at(&old, &[b.address]);
    a.sent();
    b.connect(&a);
    settle(&mut a, &mut b);
    assert_both_ways(&mut a, &mut b);
}

#[test]
fn both_dial_again_and_again_and_always_share_a_session() {
    let (mut a, mut b) = connected();
    for _ in 0..50 {
        for device in [&mut a, &mut b] {
            device.now += FRESH + Duration::from_millis(1);
        }
        a.connect(&b);
        b.connect(&a);
        settle(&mut a, &mut b);
        assert_both_ways(&mut a, &mut b);
    }
    assert!(
        a.sessions.indices.len() <= 6,
        "{}",
        a.sessions.indices.len()
    );
    assert!(
        b.sessions.indices.len() <= 6,
        "{}",
        b.sessions.indices.len()
    );
}
