//! Messages: who gets them, how large they may be, that none comes twice.

use consort_proto::{MAX_PAYLOAD, PluginCommand};
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Link, PAYLOAD_MIN, Refused, scenario};

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
fn the_largest_payload_fits_one_datagram() {
    let name = "the_largest_payload_fits_one_datagram";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 3).build();
        let (leader, _) = form(&mut sim);
        let follower = all_but(3, leader)[0];
        for len in [PAYLOAD_MIN, 500, MAX_PAYLOAD - 1, MAX_PAYLOAD] {
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
fn a_flood_disturbs_no_leader() {
    let name = "a_flood_disturbs_no_leader";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let follower = all_but(5, before.0)[0];
        for _ in 0..1_000 {
            for _ in 0..10 {
                sim.send_to_all(follower, &app(), 1_000).expect("it is up");
            }
            sim.run_for(ms(10));
        }
        assert_eq!(sim.agree(&app(), &all(5)), Some(before));
    });
}
