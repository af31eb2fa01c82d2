//! Strangers on the network: garbage, pieces, replays, forged sources, spoilt bits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use consort_proto::{Access, Address};
use consort_scenarios::{all, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, SimBuilder, scenario};
use rand::{Rng, RngExt};

/// Where a stranger sends from.
fn stranger() -> Address {
    SimBuilder::address(60_000)
}

/// Whatever happened must not have changed a role or a peer.
fn expect_undisturbed(sim: &Sim, before: (usize, u64)) {
    sim.expect(
        sim.agree(&app(), &all(sim.device_count())) == Some(before),
        "same leader and term",
    );
    sim.expect(
        sim.all_see_all(&app(), &all(sim.device_count())),
        "same peers",
    );
    sim.expect(sim.promotions(&app()) == 0, "no promotion");
}

#[test]
fn garbage_disturbs_nothing() {
    let name = "garbage_disturbs_nothing";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        sim.start_beat(&app(), ms(100), 64);
        let mut rng = seed.stream("garbage", 0);
        for round in 0..3_000u32 {
            let mut datagram = vec![0; rng.random_range(0..1_500)];
            rng.fill_bytes(&mut datagram);
            if let Some(kind) = datagram.first_mut() {
                // Most first bytes name no kind of packet; try those that do as well.
                *kind = if round % 2 == 0 {
                    rng.random_range(0..16)
                } else {
                    *kind
                };
            }
            let from = if round % 3 == 0 {
                sim.address(1)
            } else {
                stranger()
            };
            sim.inject(rng.random_range(0..4), from, datagram);
            sim.run_for(ms(5));
        }
        expect_undisturbed(&sim, before);
        sim.stop_beats();
        sim.run_for(secs(1));
        assert_eq!(
            sim.messages(&app()),
            sim.stats().deliveries_expected,
            "nothing was lost"
        );
    });
}

#[test]
fn pieces_and_changed_copies_of_real_datagrams_disturb_nothing() {
    let name = "pieces_and_changed_copies_of_real_datagrams_disturb_nothing";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).record().build();
        let before = form(&mut sim);
        sim.start_beat(&app(), ms(200), 64);
        sim.run_for(secs(5));
        let real: Vec<_> = sim.recorded().to_vec();
        let mut rng = seed.stream("pieces", 0);
        for _ in 0..4_000 {
            let copy = &real[rng.random_range(0..real.len())];
            let mut datagram = copy.payload.to_vec();
            match rng.random_range(0..3) {
                0 => datagram.truncate(rng.random_range(0..datagram.len())),
                1 => {
                    let byte = rng.random_range(0..datagram.len());
                    datagram[byte] ^= 1 << rng.random_range(0..8);
                }
                _ => datagram.push(rng.random()),
            }
            let from = if rng.random_bool(0.5) {
                sim.address(copy.from)
            } else {
                stranger()
            };
            sim.inject(copy.to, from, datagram);
            sim.run_for(ms(2));
        }
        sim.run_for(secs(10));
        expect_undisturbed(&sim, before);
    });
}

#[test]
fn replayed_datagrams_deliver_nothing() {
    let name = "replayed_datagrams_deliver_nothing";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).record().build();
        let before = form(&mut sim);
        sim.start_beat(&app(), ms(200), 64);
        sim.run_for(secs(10));
        sim.stop_beats();
        sim.run_for(secs(1));
        let (delivered, old) = (sim.messages(&app()), sim.recorded().to_vec());
        let before_replay = sim.stats();
        for forged in [false, true] {
            for datagram in &old {
                let from = if forged {
                    stranger()
                } else {
                    sim.address(datagram.from)
                };
                sim.inject(datagram.to, from, datagram.payload.clone());
                sim.run_for(ms(1));
            }
        }
        assert_eq!(
            sim.messages(&app()),
            delivered,
            "the past brings no message"
        );
        expect_undisturbed(&sim, before);
        let after = sim.stats();
        assert_eq!(after.astray, 0, "nobody answers the past");
        assert_eq!(after.cookies, 0, "nor is it load");
        assert_eq!(after.removals, before_replay.removals);
        for node in 0..4 {
            let counters = sim.status(node).expect("it runs").counters;
            assert_eq!(counters.messages_duplicate, 0, "no packet was opened twice");
        }
        let number = sim.broadcast(before.0, &app(), 64).expect("it leads");
        sim.run_for(ms(50));
        assert_eq!(sim.receivers(number), all(4), "sessions go where they went");
    });
}

#[test]
fn datagrams_of_earlier_lives_and_to_others_deliver_nothing() {
    let name = "datagrams_of_earlier_lives_and_to_others_deliver_nothing";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 3).record().build();
        form(&mut sim);
        sim.start_beat(&app(), ms(200), 64);
        sim.run_for(secs(5));
        sim.stop_beats();
        let old: Vec<(usize, usize, Bytes)> = sim
            .recorded()
            .iter()
            .map(|d| (d.from, d.to, d.payload.clone()))
            .collect();
        for node in 0..3 {
            sim.restart(node, ms(100));
        }
        settle(&mut sim, &all(3), secs(12));
        sim.run_for(secs(1));
        let delivered = sim.messages(&app());
        sim.reset_counts();
        let began = sim.now();
        for (from, to, payload) in old {
            for other in [to, (to + 1) % 3] {
                for source in [sim.address(from), stranger()] {
                    sim.inject(other, source, payload.clone());
                }
            }
            sim.run_for(ms(1));
        }
        sim.run_for(secs(120));
        assert_eq!(
            sim.messages(&app()),
            delivered,
            "the past brings no message"
        );
        expect_bounded_answers(&sim, sim.now().since(began));
        assert_eq!(sim.promotions(&app()) + sim.demotions(&app()), 0);
        sim.expect(sim.agree(&app(), &all(3)).is_some(), "one leader");
        sim.expect(sim.all_see_all(&app(), &all(3)), "same peers");
    });
}

/// What a replayer can make three devices send to an address of his choice: an old beacon makes a
/// device dial where it came from, in one attempt per peer at a time, and an old Init gets a beacon,
/// which is smaller. However many copies there are, an attempt goes on for a minute after the last one
/// at most, in rounds that are 250 ms apart, then seconds.
fn expect_bounded_answers(sim: &Sim, took: Duration) {
    let stats = sim.stats();
    sim.expect(stats.astray > 0, "old beacons are hints");
    let attempts = 3 * 2;
    let rounds = 4 * (took.as_secs() + 1);
    let inits = sim
        .recorded()
        .iter()
        .filter(|d| INITS.contains(&shape(&d.payload)));
    let beacons = 2 * inits.count() as u64;
    let most = attempts * rounds * 160 + beacons * 117;
    println!(
        "{} datagrams of {} bytes go astray in {took:?}",
        stats.astray, stats.astray_bytes
    );
    sim.expect(
        stats.astray_bytes <= most,
        &format!("{} bytes go astray, of at most {most}", stats.astray_bytes),
    );
}

#[test]
fn spoilt_bits_are_refused() {
    let name = "spoilt_bits_are_refused";
    scenario(name, 5, |seed| {
        let link = Link {
            corrupt: 0.1,
            ..Link::lan()
        };
        let mut sim = group(name, seed, 4).link(link).build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(4), secs(15));
        sim.start_beat(&app(), ms(100), 200);
        sim.run_for(secs(60));
        sim.expect(sim.agree(&app(), &all(4)).is_some(), "one leader");
        let refused: u64 = (0..4)
            .map(|node| {
                sim.status(node)
                    .expect("it runs")
                    .counters
                    .datagrams_refused
            })
            .sum();
        assert!(refused > 100, "only {refused} refusals were counted");
    });
}

/// The low half of the first byte, and the length, of what devices send.
const BEACON: (u8, usize) = (1, 117);
const INITS: [(u8, usize); 2] = [(2, 160), (3, 160)];
const COOKIE: (u8, usize) = (5, 60);

fn shape(payload: &Bytes) -> (u8, usize) {
    (payload.first().map_or(0, |byte| byte & 0x0f), payload.len())
}

/// One of eight addresses of nobody.
fn one_of_eight(number: u32) -> Address {
    SimBuilder::address(60_000 + (number % 8) as usize)
}

/// The last beacon of each device so far.
fn beacons(sim: &Sim) -> BTreeMap<usize, Bytes> {
    let sent = sim
        .recorded()
        .iter()
        .filter(|d| shape(&d.payload) == BEACON);
    sent.map(|d| (d.from, d.payload.clone())).collect()
}

/// Somebody with the group's secret, whom half of the members deny, calls every device three hundred
/// times a second, and copies of all handshakes so far come from elsewhere. All are under load, yet
/// the leader stays. A newcomer whom nobody hears at first, and who is flooded just so, gets in by
/// cookies.
#[test]
fn a_flood_of_handshakes_from_within_keeps_out_nobody() {
    let name = "a_flood_of_handshakes_from_within_keeps_out_nobody";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).record().build();
        for node in 0..4 {
            sim.start(node);
            sim.cut_one_way(4, node);
        }
        settle(&mut sim, &all(4), secs(8));
        sim.run_for(secs(6));
        let before = sim.agree(&app(), &all(4)).expect("they agree");
        sim.reset_counts();
        sim.start_beat(&app(), ms(100), 64);
        let inits = sim.recorded().iter();
        let inits = inits.filter(|d| INITS.contains(&shape(&d.payload)));
        let copies: Vec<(usize, Bytes)> = inits.map(|d| (d.to, d.payload.clone())).collect();
        let mut caller = sim.insider();
        let denied = Access::new(None, BTreeSet::from([caller.device()])).expect("one device");
        sim.set_access(0, denied.clone());
        sim.set_access(1, denied);
        let mut heard = beacons(&sim);
        for number in 0..4_000 {
            match number {
                500 => {
                    sim.start(4);
                    heard = beacons(&sim);
                }
                2_500 => sim.heal(),
                _ => {}
            }
            for (node, beacon) in &heard {
                let call = caller.call(beacon).expect("a beacon of the group");
                sim.inject(*node, one_of_eight(number), call);
            }
            let (to, copy) = &copies[number as usize % copies.len()];
            sim.inject(*to, one_of_eight(number), copy.clone());
            sim.run_for(ms(3));
        }
        sim.expect(sim.all_see_all(&app(), &all(5)), "the newcomer is a member");
        expect_same(&sim, before);
        expect_all_held_back(&sim);
        sim.run_for(secs(10));
        expect_same(&sim, before);
    });
}

/// The leader was never demoted; the newcomer, who led alone at first, may have raised the term.
fn expect_same(sim: &Sim, (leader, _): (usize, u64)) {
    let leads = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
    sim.expect(leads == Some(leader), "same leader");
    sim.expect(sim.app(leader, &app()).demotions == 0, "all the while");
}

/// Each guard of handshakes had something to do.
fn expect_all_held_back(sim: &Sim) {
    let mut put_off = 0;
    for node in 0..5 {
        let counters = sim.status(node).expect("it runs").counters;
        let copied = counters.datagrams_replayed > 0;
        sim.expect(copied || node == 4, "copies are known as such");
        let denied = counters.handshakes_denied > 0;
        sim.expect(denied == (node < 2), "the lists count where there are some");
        put_off += counters.handshakes_put_off;
    }
    let cookies = sim.stats().cookies;
    sim.expect(cookies > 0 && put_off > cookies, "buckets ran dry besides");
    let given = sim
        .recorded()
        .iter()
        .filter(|d| shape(&d.payload) == COOKIE);
    let given = given.filter(|d| d.from == 4 || d.to == 4).count();
    sim.expect(
        given > 0,
        "the newcomer was asked for a cookie, or asked for one",
    );
}
