//! What devices count of each other's messages, held against what the scenario knows: which
//! messages arrived, and which datagrams went out.

use consort_proto::{MAX_PAYLOAD, MessageCounts, SendQuota, SendRate};
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle, with_credit};
use consort_sim::{Link, Seed, Sim, scenario};

/// Bytes in a full part, and the least length of a datagram that carries one.
const CHUNK: usize = 1100;
/// Parts of the longest message.
const PARTS: usize = MAX_PAYLOAD.div_ceil(CHUNK);

/// What `node` counts of messages to and from `peer`.
fn counts(sim: &Sim, node: usize, peer: usize) -> MessageCounts {
    let status = sim.status(node).expect("it is up");
    let id = sim.id(peer);
    let known = status.peers.iter().find(|known| known.device == id);
    known.expect("it knows the peer").messages
}

/// Datagrams of at least `len` bytes that went from one device to another.
fn datagrams(sim: &Sim, from: usize, to: usize, len: usize) -> usize {
    let all = sim.recorded().iter();
    all.filter(|seen| seen.from == from && seen.to == to && seen.payload.len() >= len)
        .count()
}

/// How many of these messages `to` got.
fn arrived(sim: &Sim, numbers: &[u64], to: usize) -> u64 {
    let got = |number: &&u64| sim.receivers(**number).contains(&to);
    numbers.iter().filter(got).count() as u64
}

/// Three devices of which the first follower has little credit for each peer, and no quota.
fn thrifty(name: &str, seed: Seed, bytes_per_second: u32) -> (Sim, [usize; 2]) {
    let rate = SendRate {
        bytes_per_second,
        peer_bytes_per_second: bytes_per_second,
        burst: 4 << 10,
    };
    let mut sim = with_credit(group(name, seed, 3).record(), 3, rate).build();
    let (leader, _) = form(&mut sim);
    unlimited(&mut sim);
    sim.run_for(secs(6));
    let [from, to] = [all_but(3, leader)[0], all_but(3, leader)[1]];
    (sim, [from, to])
}

fn unlimited(sim: &mut Sim) {
    let quota = SendQuota {
        messages_per_second: 10_000,
        message_burst: 10_000,
        bytes_per_second: 100_000_000,
        byte_burst: 100_000_000,
    };
    sim.set_quota(&app(), quota);
}

#[test]
fn what_is_counted_on_a_bad_link_is_what_happened() {
    let name = "what_is_counted_on_a_bad_link_is_what_happened";
    scenario(name, 3, |seed| {
        let (mut sim, [from, to]) = thrifty(name, seed, 400_000);
        let link = Link {
            duplicate: 0.3,
            reorder: 0.2,
            ..Link::lan().with_loss(0.2)
        };
        sim.set_link(from, to, link);
        sim.set_link(to, from, link);
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for round in 0..100 {
            short.push(sim.send(from, &app(), to, 500).expect("it is up"));
            if round % 5 == 0 {
                long.push(sim.send(from, &app(), to, 18 * CHUNK).expect("it is up"));
            }
            sim.run_for(ms(100));
        }
        sim.run_for(secs(5));
        let (got, gone) = (counts(&sim, to, from), counts(&sim, from, to));
        let whole = arrived(&sim, &long, to);
        assert_eq!(gone.sent, 120);
        assert_eq!(gone.dropped, 0);
        assert_eq!(got.received, arrived(&sim, &short, to) + whole);
        assert!((80..118).contains(&got.received), "{got:?}");
        assert_eq!(got.lost, 20 - whole);
        assert_eq!(got.duplicates, 0, "sessions see what the network doubles");
        let status = sim.status(to).expect("it is up");
        assert!(status.counters.datagrams_replayed > 100);
        let parts = datagrams(&sim, from, to, CHUNK) as u64;
        assert_eq!(parts, 18 * 20 + gone.parts_resent);
        assert!(gone.parts_resent > 60, "{gone:?}");

        // Cut off in the middle.
        sim.set_link(from, to, Link::lan());
        let cut = sim.send(from, &app(), to, 18 * CHUNK).expect("it is up");
        sim.run_for(ms(25));
        sim.cut_one_way(from, to);
        sim.run_for(secs(3));
        sim.mend_one_way(from, to);
        sim.run_for(secs(1));
        assert_eq!(arrived(&sim, &[cut], to), 0);
        assert_eq!(counts(&sim, to, from).lost, got.lost + 1);
        assert_eq!(counts(&sim, from, to).sent, 121);
    });
}

#[test]
fn what_a_full_lane_drops_is_counted() {
    let name = "what_a_full_lane_drops_is_counted";
    scenario(name, 3, |seed| {
        let (mut sim, [from, to]) = thrifty(name, seed, 50_000);
        let send = |sim: &mut Sim| -> Vec<u64> {
            let mut send = || sim.send(from, &app(), to, MAX_PAYLOAD).expect("it is up");
            (0..20).map(|_| send()).collect()
        };
        let first = send(&mut sim);
        sim.run_for(secs(15));
        let (got, gone) = (counts(&sim, to, from), counts(&sim, from, to));
        // 512 KiB may wait.
        assert_eq!((gone.sent, gone.dropped), (7, 13));
        assert_eq!(got.received, 7);
        assert_eq!(arrived(&sim, &first, to), 7);

        // The other one dies with most of its messages still waiting here.
        let before = datagrams(&sim, from, to, 600);
        assert_eq!(before, 7 * PARTS);
        send(&mut sim);
        sim.run_for(secs(1));
        sim.crash(to);
        sim.run_for(secs(15));
        let whole = (datagrams(&sim, from, to, 600) - before) / PARTS;
        assert!(whole < 6, "{whole} went out before it was missed");
        let gone = counts(&sim, from, to);
        assert_eq!(gone.sent, 7 + whole as u64);
        assert_eq!(gone.sent + gone.dropped, 40);
        sim.start(to);
        settle(&mut sim, &all(3), secs(10));
    });
}

#[test]
fn what_the_tree_drops_is_counted() {
    let name = "what_the_tree_drops_is_counted";
    scenario(name, 1, |seed| {
        let rate = SendRate {
            bytes_per_second: 40_000,
            peer_bytes_per_second: 40_000,
            burst: 4 << 10,
        };
        let mut sim = with_credit(group(name, seed, 12), 12, rate).build();
        let (leader, _) = form(&mut sim);
        unlimited(&mut sim);
        sim.run_for(secs(6));
        let others = all_but(12, leader);
        let dropped = |sim: &Sim| -> u64 {
            let each = others.iter().map(|to| counts(sim, leader, *to).dropped);
            each.sum()
        };
        for to in &others {
            for _ in 0..7 {
                sim.send(leader, &app(), *to, MAX_PAYLOAD)
                    .expect("it is up");
            }
        }
        assert_eq!(dropped(&sim), 0);
        // The notices fit every lane, the payload none of the four that it is for.
        sim.broadcast(leader, &app(), MAX_PAYLOAD)
            .expect("it leads");
        assert_eq!(dropped(&sim), 4);
    });
}

#[test]
fn copies_over_several_relays_are_counted() {
    let name = "copies_over_several_relays_are_counted";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 5).record().build();
        let (leader, _) = form(&mut sim);
        let far = all_but(5, leader)[0];
        sim.cut_one_way(leader, far);
        sim.run_for(secs(5));
        let others: Vec<usize> = all_but(5, leader).into_iter().skip(1).collect();
        let copies = |sim: &Sim| -> usize {
            let each = others.iter().map(|from| datagrams(sim, *from, far, 1_000));
            each.sum()
        };
        let (before, earlier) = (counts(&sim, far, leader), copies(&sim));
        let mut numbers = Vec::new();
        for _ in 0..20 {
            numbers.push(sim.broadcast(leader, &app(), 1_000).expect("it leads"));
            sim.run_for(ms(100));
        }
        let got = counts(&sim, far, leader);
        let received = got.received - before.received;
        assert_eq!(received, arrived(&sim, &numbers, far));
        assert!(received >= 18, "{received} of 20");
        let doubled = got.duplicates - before.duplicates;
        assert_eq!(doubled, (copies(&sim) - earlier) as u64 - received);
        assert!(doubled >= 20, "{doubled}");
    });
}

#[test]
fn a_long_message_over_several_relays_is_not_asked_for_when_it_is_there() {
    let name = "a_long_message_over_several_relays_is_not_asked_for_when_it_is_there";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        let far = all_but(5, leader)[0];
        sim.cut_one_way(leader, far);
        sim.run_for(secs(5));
        let mut numbers = Vec::new();
        for _ in 0..10 {
            numbers.push(sim.broadcast(leader, &app(), 20_000).expect("it leads"));
            sim.run_for(ms(300));
        }
        sim.run_for(secs(3));
        assert!(arrived(&sim, &numbers, far) >= 8);
        for relay in all_but(5, leader).into_iter().skip(1) {
            let again = counts(&sim, relay, far).parts_resent;
            assert_eq!(again, 0, "n{relay} sent parts again that nobody lost");
        }
        assert_eq!(counts(&sim, far, leader).lost, 0);
    });
}
