//! Messages: who gets them, how large they may be, that none comes twice.

use consort_proto::{MAX_PAYLOAD, PluginCommand, SendQuota, SendRate};
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle, with_credit};
use consort_sim::{Link, PAYLOAD_MIN, Refused, Sim, scenario};

/// Bytes that one datagram takes.
const CHUNK: usize = 1100;

#[test]
fn every_way_reaches_whom_it_is_for() {
    let name = "every_way_reaches_whom_it_is_for";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(2));
        let follower = all_but(5, leader)[0];
        let other = all_but(5, leader)[1];
        let sent = [
            (sim.broadcast(leader, &app(), 100), all(5)),
            (sim.send_to_leader(follower, &app(), 100), vec![leader]),
            (sim.send_to_leader(leader, &app(), 100), vec![leader]),
            (sim.send(follower, &app(), other, 100), vec![other]),
            (sim.send(follower, &app(), follower, 100), vec![follower]),
            (sim.send(leader, &app(), follower, 100), vec![follower]),
            (sim.send_to_all(follower, &app(), 100), all(5)),
            (sim.send_to_all(leader, &app(), 100), all(5)),
        ];
        sim.run_for(ms(50));
        for (i, (number, expected)) in sent.into_iter().enumerate() {
            let number = number.expect("the host takes it");
            assert_eq!(sim.receivers(number), expected, "message {i}");
        }
    });
}

#[test]
fn the_host_refuses_what_cannot_be_sent() {
    let name = "the_host_refuses_what_cannot_be_sent";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 3).build();
        sim.start(2);
        assert_eq!(sim.send_to_leader(2, &app(), 20), Err(Refused::NoLeader));
        sim.start(0);
        sim.start(1);
        settle(&mut sim, &all(3), secs(8));
        let (leader, _) = sim.agree(&app(), &all(3)).expect("they agree");
        let follower = all_but(3, leader)[0];
        assert_eq!(sim.broadcast(follower, &app(), 20), Err(Refused::NotLeader));
        assert_eq!(
            sim.broadcast(leader, &app(), MAX_PAYLOAD + 1),
            Err(Refused::TooLarge)
        );
        sim.crash(follower);
        assert_eq!(
            sim.send_to_all(follower, &app(), 20),
            Err(Refused::NotRunning)
        );
    });
}

#[test]
fn a_payload_of_1100_bytes_fits_one_datagram() {
    let name = "a_payload_of_1100_bytes_fits_one_datagram";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 3).build();
        let (leader, _) = form(&mut sim);
        let follower = all_but(3, leader)[0];
        for len in [PAYLOAD_MIN, 500, CHUNK - 1, CHUNK] {
            let before = sim.sent(leader).0;
            let numbers = [
                sim.broadcast(leader, &app(), len).expect("it leads"),
                sim.send_to_leader(follower, &app(), len)
                    .expect("somebody leads"),
                sim.send_to_all(follower, &app(), len).expect("it is up"),
            ];
            assert_eq!(
                sim.sent(leader).0 - before,
                2,
                "one datagram for each follower"
            );
            sim.run_for(ms(20));
            assert_eq!(sim.receivers(numbers[0]), all(3));
            assert_eq!(sim.receivers(numbers[1]), [leader]);
            assert_eq!(sim.receivers(numbers[2]), all(3));
        }
    });
}

#[test]
fn doubled_and_reordered_datagrams_deliver_once() {
    let name = "doubled_and_reordered_datagrams_deliver_once";
    scenario(name, 5, |seed| {
        let link = Link {
            duplicate: 0.5,
            reorder: 0.3,
            ..Link::wireless().with_loss(0.0)
        };
        let mut sim = group(name, seed, 4).link(link).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(2));
        let mut numbers = Vec::new();
        for _ in 0..200 {
            numbers.push(sim.broadcast(leader, &app(), 200).expect("it leads"));
            for node in 0..4 {
                numbers.push(sim.send_to_all(node, &app(), 40).expect("it is up"));
            }
            sim.run_for(ms(10));
        }
        sim.run_for(secs(1));
        for number in numbers {
            assert_eq!(sim.receivers(number), all(4), "message {number}");
        }
    });
}

#[test]
fn messages_go_on_through_a_change_of_sessions() {
    let name = "messages_go_on_through_a_change_of_sessions";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 3).build();
        form(&mut sim);
        sim.start_beat(&app(), ms(200), 64);
        sim.run_for(secs(40 * 60));
        sim.stop_beats();
        sim.run_for(secs(1));
        let (got, expected) = (sim.messages(&app()), sim.stats().deliveries_expected);
        assert_eq!(got, expected, "sessions are renewed without a gap");
        assert_eq!(sim.promotions(&app()), 0);
    });
}

#[test]
fn a_restarted_sender_is_heard_again() {
    let name = "a_restarted_sender_is_heard_again";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 3).build();
        let (leader, _) = form(&mut sim);
        let sender = all_but(3, leader)[0];
        for _ in 0..4 {
            for _ in 0..5 {
                let payload = sim.payload(30);
                let sent = sim.command(sender, &app(), PluginCommand::SendToAll(payload));
                assert_eq!(sent, Ok(()));
            }
            let number = sim.send_to_all(sender, &app(), 30).expect("it is up");
            sim.run_for(ms(50));
            assert_eq!(sim.receivers(number), all(3));
            sim.restart(sender, ms(500));
            settle(&mut sim, &all(3), secs(8));
        }
    });
}

#[test]
fn a_flood_disturbs_no_leader_and_meets_its_quota() {
    let name = "a_flood_disturbs_no_leader_and_meets_its_quota";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let follower = all_but(5, before.0)[0];
        let (mut sent, mut busy) = (0, 0);
        for _ in 0..1_000 {
            for _ in 0..10 {
                match sim.send_to_all(follower, &app(), 1_000) {
                    Ok(_) => sent += 1,
                    Err(refused) => {
                        assert_eq!(refused, Refused::Busy);
                        busy += 1;
                    }
                }
            }
            sim.run_for(ms(10));
        }
        // 300 at once and 300 a second, for ten seconds.
        assert!((3_290..=3_301).contains(&sent), "{sent} sent, {busy} busy");
        assert_eq!(sim.agree(&app(), &all(5)), Some(before));
        let status = sim.status(follower).expect("it is up");
        assert_eq!(
            status.counters.messages_over_quota, 0,
            "the host refused them before"
        );
    });
}

/// How many of `count` messages of `len` bytes from one device reach another.
fn arriving(name: &str, seed: consort_sim::Seed, loss: f64, count: usize, len: usize) -> usize {
    let mut sim = group(name, seed, 3)
        .link(Link::lan().with_loss(loss))
        .build();
    let (leader, _) = form(&mut sim);
    sim.run_for(secs(2));
    let [from, to] = [all_but(3, leader)[0], all_but(3, leader)[1]];
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(sim.send(from, &app(), to, len).expect("within the quota"));
        sim.run_for(ms(200));
    }
    sim.run_for(secs(3));
    let arrived = numbers
        .iter()
        .filter(|number| !sim.receivers(**number).is_empty());
    arrived.count()
}

#[test]
fn long_messages_arrive_whole_at_every_length() {
    let name = "long_messages_arrive_whole_at_every_length";
    scenario(name, 2, |seed| {
        let mut sim = group(name, seed, 4).build();
        let (leader, _) = form(&mut sim);
        let follower = all_but(4, leader)[0];
        for len in [
            CHUNK + 1,
            2 * CHUNK,
            2 * CHUNK + 1,
            20_000,
            MAX_PAYLOAD - 1,
            MAX_PAYLOAD,
        ] {
            let sent = [
                (sim.broadcast(leader, &app(), len), all(4)),
                (sim.send_to_leader(follower, &app(), len), vec![leader]),
                (sim.send_to_all(follower, &app(), len), all(4)),
            ];
            sim.run_for(ms(500));
            for (number, expected) in sent {
                let number = number.expect("the host takes it");
                assert_eq!(sim.receivers(number), expected, "{len} bytes");
            }
        }
    });
}

#[test]
fn long_messages_pass_lossy_links() {
    let name = "long_messages_pass_lossy_links";
    scenario(name, 2, |seed| {
        assert_eq!(arriving(name, seed, 0.05, 20, MAX_PAYLOAD), 20);
        assert_eq!(arriving(name, seed, 0.20, 20, MAX_PAYLOAD), 20);
        // Without repair, three parts would pass a loss of a fifth half of the time.
        let some = arriving(name, seed, 0.20, 50, 3 * CHUNK);
        assert!(some >= 48, "{some} of 50");
    });
}

#[test]
fn long_messages_come_once_over_links_that_double_and_reorder() {
    let name = "long_messages_come_once_over_links_that_double_and_reorder";
    scenario(name, 2, |seed| {
        let link = Link {
            duplicate: 0.5,
            reorder: 0.3,
            ..Link::wireless().with_loss(0.05)
        };
        let mut sim = group(name, seed, 4).link(link).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(3));
        let mut numbers = Vec::new();
        for _ in 0..20 {
            numbers.push(sim.broadcast(leader, &app(), 30_000).expect("it leads"));
            sim.run_for(ms(200));
        }
        sim.run_for(secs(5));
        for number in numbers {
            assert_eq!(sim.receivers(number), all(4), "message {number}");
        }
    });
}

#[test]
fn a_long_message_does_not_outlive_its_sender_s_boot() {
    let name = "a_long_message_does_not_outlive_its_sender_s_boot";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 3).record().build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(2));
        let from = all_but(3, leader)[0];
        // Delivered, then every datagram of it again, before and after a restart of the sender.
        let number = sim.send(from, &app(), leader, 20_000).expect("it is up");
        sim.run_for(ms(100));
        assert_eq!(sim.receivers(number), [leader]);
        let again: Vec<_> = sim.recorded().to_vec();
        let address = consort_sim::SimBuilder::address(from);
        for _ in 0..2 {
            for datagram in again
                .iter()
                .filter(|seen| seen.to == leader && seen.from == from)
            {
                sim.inject(leader, address, datagram.payload.clone());
            }
            sim.run_for(ms(100));
            sim.restart(from, ms(500));
            settle(&mut sim, &all(3), secs(8));
        }
        // Cut off in the middle: what is left of it never becomes a message.
        let cut = sim
            .send(from, &app(), leader, MAX_PAYLOAD)
            .expect("it is up");
        sim.cut(from, leader);
        sim.run_for(ms(1));
        sim.mend(from, leader);
        sim.restart(from, ms(300));
        sim.run_for(secs(5));
        assert!(sim.receivers(cut).len() <= 1);
    });
}

#[test]
fn small_messages_of_one_moment_share_datagrams() {
    let name = "small_messages_of_one_moment_share_datagrams";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 3).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(6));
        let from = all_but(3, leader)[0];
        let one = cost(
            &mut sim,
            |sim| vec![sim.send(from, &app(), leader, 60).expect("it is up")],
            from,
        );
        // Kind, class and slot, and one byte of number.
        assert_eq!(one, (1, 60 + 28 + 3));
        let apart = cost(
            &mut sim,
            |sim| {
                let mut send = || sim.send_to_all(from, &app(), 60).expect("within the quota");
                (0..100).map(|_| send()).collect()
            },
            from,
        );
        let together = cost(
            &mut sim,
            |sim| sim.burst(from, &app(), 60, 100).expect("within the quota"),
            from,
        );
        println!(
            "100 messages of 60 bytes to two devices: {apart:?} datagrams and bytes one by one, {together:?} in one callback"
        );
        assert_eq!(apart.0, 200);
        assert_eq!(together.0, 2 * 6, "17 or 18 messages a datagram");
        assert!(together.1 * 4 < apart.1 * 3);
    });
}

/// The datagrams and bytes that a device sends for messages that all arrive.
fn cost(sim: &mut Sim, send: impl FnOnce(&mut Sim) -> Vec<u64>, from: usize) -> (u64, u64) {
    let before = sim.sent(from);
    let numbers = send(sim);
    let after = sim.sent(from);
    sim.run_for(ms(20));
    for number in numbers {
        assert!(!sim.receivers(number).is_empty(), "message {number}");
    }
    (after.0 - before.0, after.1 - before.1)
}

/// A group of 100 whose devices may put 64 kB/s on the network for plugins.
fn crowd(name: &str, seed: consort_sim::Seed, link: Link) -> (Sim, usize) {
    let rate = SendRate {
        bytes_per_second: 64_000,
        peer_bytes_per_second: 64_000,
        burst: 16 << 10,
    };
    let mut sim = with_credit(group(name, seed, 100).link(link), 100, rate).build();
    sim.start_all(ms(500));
    settle(&mut sim, &all(100), secs(30));
    sim.run_for(secs(5));
    let (leader, _) = sim.agree(&app(), &all(100)).expect("they agree");
    (sim, leader)
}

/// Broadcasts `count` times 1 KB through a crowd; the share that arrived and the bytes that the
/// leader sent for each, beyond what it sends anyway.
fn fan_out(sim: &mut Sim, leader: usize, count: usize) -> (f64, u64) {
    let idle = sim.sent(leader).1;
    sim.run_for(secs(2));
    let idle = (sim.sent(leader).1 - idle) / 2;
    let before = sim.sent(leader).1;
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(sim.broadcast(leader, &app(), 1_024).expect("it leads"));
        sim.run_for(secs(1));
    }
    sim.run_for(secs(5));
    let extra = (sim.sent(leader).1 - before).saturating_sub(idle * (count as u64 + 5));
    let arrived: usize = numbers
        .iter()
        .map(|number| sim.receivers(*number).len())
        .sum();
    (arrived as f64 / (count * 100) as f64, extra / count as u64)
}

#[test]
fn a_broadcast_to_a_hundred_costs_the_leader_little() {
    let name = "a_broadcast_to_a_hundred_costs_the_leader_little";
    scenario(name, 1, |seed| {
        let (mut sim, leader) = crowd(name, seed, Link::lan());
        let (share, bytes) = fan_out(&mut sim, leader, 10);
        println!(
            "{:.2} % arrived, {bytes} bytes of the leader for each",
            share * 100.0
        );
        assert_eq!(share, 1.0);
        assert!(bytes < 30_000, "{bytes} bytes, against 104,000 straight");
    });
}

#[test]
fn a_lossy_tree_repairs_itself() {
    let name = "a_lossy_tree_repairs_itself";
    scenario(name, 1, |seed| {
        let link = Link {
            reorder: 0.1,
            duplicate: 0.05,
            ..Link::lan().with_loss(0.05)
        };
        let (mut sim, leader) = crowd(name, seed, link);
        let (share, bytes) = fan_out(&mut sim, leader, 10);
        println!(
            "{:.2} % arrived, {bytes} bytes of the leader for each",
            share * 100.0
        );
        assert!(share >= 0.99, "{share}");
        assert!(bytes < 50_000, "{bytes} bytes, against 104,000 straight");
    });
}

/// A payload takes 0.6 s from its sender to the first members of the tree, longer than a member waits
/// before it asks. Were each answered, the sender would send most payloads itself, and all come late.
#[test]
fn a_sender_short_of_credit_leaves_long_payloads_to_the_tree() {
    let name = "a_sender_short_of_credit_leaves_long_payloads_to_the_tree";
    let rate = SendRate {
        bytes_per_second: 463_799,
        peer_bytes_per_second: 463_799,
        burst: 20_117,
    };
    scenario(name, 2, |seed| {
        let mut sim = with_credit(group(name, seed, 17), 17, rate).build();
        let (leader, _) = form(&mut sim);
        let before = sim.sent(leader).1;
        let mut numbers = Vec::new();
        for _ in 0..15 {
            numbers.push(sim.broadcast(leader, &app(), 63_928).expect("it leads"));
            sim.run_for(ms(1_333));
        }
        let bytes = (sim.sent(leader).1 - before) / 15;
        sim.run_for(secs(8));
        let took = numbers.iter().map(|number| {
            let report = sim.message(*number);
            assert_eq!(report.delivered.len(), 17, "message {number}");
            let last = report.delivered.values().max();
            last.map_or(ms(0), |last| last.since(report.sent))
        });
        let longest = took.max().unwrap_or_default();
        println!("{longest:?} at the longest, {bytes} bytes of the leader for each");
        sim.expect(longest < ms(2_000), "no payload waits for those before it");
        sim.expect(
            bytes < 400_000,
            "the leader gives out little besides 278,000",
        );
    });
}

#[test]
fn a_dead_inner_node_of_the_tree_is_gone_round() {
    let name = "a_dead_inner_node_of_the_tree_is_gone_round";
    scenario(name, 1, |seed| {
        let (mut sim, leader) = crowd(name, seed, Link::lan());
        for dead in [3, 17, 42, 61, 99]
            .into_iter()
            .filter(|node| *node != leader)
        {
            sim.crash(dead);
        }
        let up: Vec<usize> = all(100)
            .into_iter()
            .filter(|node| sim.is_up(*node))
            .collect();
        // Nobody has noticed yet: the dead ones are part of every tree.
        let mut numbers = Vec::new();
        for _ in 0..4 {
            numbers.push(sim.broadcast(leader, &app(), 1_024).expect("it leads"));
            sim.run_for(ms(500));
        }
        sim.run_for(secs(4));
        for number in numbers {
            assert_eq!(sim.receivers(number), up);
        }
    });
}

/// Every plugin sends all that its quota allows, to all, over links of 30 kB/s; the changes of
/// leader, and the slowest round trip of the leader's probes in milliseconds. `rate` is what the
/// devices put on the network for plugins.
fn flood(name: &str, seed: consort_sim::Seed, rate: SendRate) -> (u64, u32) {
    let link = Link {
        bandwidth: Some(30_000),
        ..Link::lan()
    };
    let mut sim = with_credit(group(name, seed, 5).link(link), 5, rate).build();
    let before = form(&mut sim);
    let quota = SendQuota {
        messages_per_second: 10_000,
        message_burst: 10_000,
        bytes_per_second: 10_000_000,
        byte_burst: 10_000_000,
    };
    sim.set_quota(&app(), quota);
    for round in 0..600 {
        for node in 0..5 {
            for _ in 0..10 {
                let _ = sim.send_to_all(node, &app(), 1_000);
            }
            let _ = sim.send_to_all(node, &app(), MAX_PAYLOAD * (round % 2));
        }
        sim.run_for(ms(50));
    }
    let status = sim.status(before.0).expect("it is up");
    let round_trips = status.peers.iter().filter_map(|peer| peer.round_trip_us);
    let slowest = round_trips.max().expect("probes were answered");
    let changes = sim.promotions(&app());
    if changes == 0 {
        assert_eq!(sim.agree(&app(), &all(5)), Some(before));
        assert!(
            (0..5).all(|node| sim.members_seen(node).len() == 4),
            "nobody was missed"
        );
    }
    (changes, slowest / 1_000)
}

#[test]
fn plugins_that_send_all_they_may_delay_probes_by_a_datagram_each_way() {
    let name = "plugins_that_send_all_they_may_delay_probes_by_a_datagram_each_way";
    scenario(name, 2, |seed| {
        let within = SendRate {
            bytes_per_second: 80_000,
            peer_bytes_per_second: 20_000,
            burst: 4 << 10,
        };
        let (changes, slowest) = flood(name, seed, within);
        println!("{changes} changes of leader, probes take {slowest} ms");
        assert_eq!(changes, 0);
        // A datagram of 1.2 kB takes 40 ms at 30 kB a second.
        assert!(slowest < 90, "{slowest} ms");
        // The credit is what does it: without it, probes wait behind the flood.
        let (_, slowest) = flood(name, seed, SendRate::default());
        println!("without: probes take {slowest} ms");
        assert!(slowest > 1_000, "{slowest} ms");
    });
}

#[test]
fn a_long_broadcast_goes_round_a_dead_link() {
    let name = "a_long_broadcast_goes_round_a_dead_link";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let (leader, far) = (before.0, all_but(5, before.0)[0]);
        sim.cut(leader, far);
        sim.run_for(secs(5));
        assert_eq!(
            sim.agree(&app(), &all(5)),
            Some(before),
            "it lives on vouching"
        );
        let mut heard = 0;
        for _ in 0..5 {
            let number = sim.broadcast(leader, &app(), 20_000).expect("it leads");
            sim.run_for(secs(1));
            heard += usize::from(sim.receivers(number) == all(5));
        }
        assert!(
            heard >= 4,
            "{heard} of 5 reached the far one through others"
        );
    });
}
