//! Both sides dial at once: every order of packets, each packet lost in turn, stale addresses.

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
    assert_both_ways(a, b);
    assert_both_ways(b, a);
    assert_eq!(
        (a.events().len(), b.events().len()),
        (1, 1),
        "{:?}",
        orders.choices
    );
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
    for _ in 0..2 {
        b.wait(FRESH + Duration::from_millis(1));
        b.connect(&a);
        settle(&mut a, &mut b);
    }
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
