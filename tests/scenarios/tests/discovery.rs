//! How devices find each other again: by remembered addresses, by being looked for, by beacons that
//! never stop.

use std::time::Duration;

use consort_scenarios::{FORM_MAX, agree, all, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, SimBuilder, scenario};

/// Devices whom multicast does not bring together: the first is the seed of the others, which are in
/// these segments.
fn apart(builder: SimBuilder, segments: &[u32]) -> SimBuilder {
    let others = (1..).zip(segments);
    others.fold(builder, |builder, (node, segment)| {
        builder.device(node, |device| {
            device.segment = *segment;
            device.seeds = vec![SimBuilder::address(0)];
        })
    })
}

/// Only the first device is named in the others' settings, and multicast reaches nobody. When it is
/// gone, the others know each other from the run before.
#[test]
fn remembered_addresses_outlive_a_restart() {
    let name = "remembered_addresses_outlive_a_restart";
    scenario(name, 5, |seed| {
        let mut sim = apart(group(name, seed, 3), &[1, 2]).build();
        form(&mut sim);
        // The addresses have reached the disk.
        sim.run_for(secs(60));
        for node in all(3) {
            sim.crash(node);
        }
        sim.run_for(secs(5));
        sim.start(1);
        sim.start(2);
        settle(&mut sim, &[1, 2], FORM_MAX);
    });
}

/// Devices out of multicast's reach that lost each other find each other without any help: the
/// missing are called.
#[test]
fn a_missing_member_is_called_until_it_answers() {
    let name = "a_missing_member_is_called_until_it_answers";
    scenario(name, 5, |seed| {
        let mut sim = apart(group(name, seed, 3), &[1, 2]).build();
        form(&mut sim);
        sim.partition(&[&[0, 1], &[2]]);
        agree(&mut sim, &[0, 1], secs(30));
        agree(&mut sim, &[2], secs(30));
        // Long enough that sessions with the missing are given up.
        sim.run_for(secs(300));
        sim.heal();
        // Two are missing on one side, one on the other: each is called every other second.
        settle(&mut sim, &all(3), secs(8));
    });
}

/// Changing the network over and over costs no leadership.
#[test]
fn a_flapping_interface_disturbs_nobody() {
    let name = "a_flapping_interface_disturbs_nobody";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        for turn in 0..100 {
            sim.network_changed(turn % 5);
            sim.run_for(ms(130));
        }
        sim.expect(sim.promotions(&app()) == 0, "nobody takes over");
        let after = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
        sim.expect(after == Some(leader), "the leader stays");
    });
}

/// Two members out of multicast's reach of each other both move while no packet passes between them.
/// Whoever dials one of them where it was asks the third, which heard it since.
#[test]
fn a_member_that_moved_unheard_is_found_through_others() {
    let name = "a_member_that_moved_unheard_is_found_through_others";
    scenario(name, 5, |seed| {
        let mut sim = apart(group(name, seed, 3), &[1, 2]).build();
        sim.cut(1, 2);
        form(&mut sim);
        sim.run_for(secs(10));
        let met = heard(&sim, 1, 2).or(heard(&sim, 2, 1));
        sim.expect(met.is_none(), "they never met");
        sim.readdress(1);
        sim.readdress(2);
        sim.mend(1, 2);
        // An attempt is given up after a minute, and a new one begins with a question.
        sim.expect_within(secs(15), "they meet where they are now", |sim| {
            hear_each_other(sim, 1, 2)
        });
    });
}

/// How long ago a device last heard another.
fn heard(sim: &Sim, node: usize, other: usize) -> Option<Duration> {
    let (status, other) = (sim.status(node)?, sim.id(other));
    let mut peers = status.peers.iter();
    peers.find(|peer| peer.device == other)?.last_heard
}

fn hear_each_other(sim: &Sim, one: usize, other: usize) -> bool {
    let lately = |a, b| heard(sim, a, b).is_some_and(|ago| ago < secs(1));
    lately(one, other) && lately(other, one)
}

/// Two members with a session both move while no packet passes between them, and each goes on
/// sending to where the other was. A third one hears both.
#[test]
fn members_that_both_moved_do_not_send_to_where_the_other_was_for_good() {
    let name = "members_that_both_moved_do_not_send_to_where_the_other_was_for_good";
    scenario(name, 10, |seed| {
        let mut sim = apart(group(name, seed, 3), &[1, 2]).build();
        form(&mut sim);
        sim.run_for(secs(10));
        sim.cut(1, 2);
        sim.run_for(secs(1));
        sim.readdress(1);
        sim.readdress(2);
        sim.run_for(secs(2));
        sim.mend(1, 2);
        // A session counts as silent after 15 s; the question has its turn every four.
        sim.expect_within(secs(25), "they hear each other", |sim| {
            hear_each_other(sim, 1, 2)
        });
        settle(&mut sim, &all(3), secs(1));
    });
}

/// A session opens, and all that either asks the other for then is lost. No beacon goes to the
/// address of a session.
#[test]
fn strangers_with_a_session_go_on_asking_to_join() {
    let name = "strangers_with_a_session_go_on_asking_to_join";
    scenario(name, 20, |seed| {
        let mut sim = apart(group(name, seed, 2), &[1])
            .link(Link::lan().with_loss(0.9))
            .build();
        sim.start_all(ms(500));
        sim.expect_within(secs(3600), "a session", |sim| {
            heard(sim, 0, 1).is_some() && heard(sim, 1, 0).is_some()
        });
        sim.set_links(Link::lan());
        settle(&mut sim, &all(2), secs(12));
    });
}

/// The one device that two segments know by its address is started anew while each of the three is
/// by itself, so it does not know that each segment misses the other. All others move meanwhile.
#[test]
fn missing_members_that_moved_are_found_through_another() {
    let name = "missing_members_that_moved_are_found_through_another";
    scenario(name, 10, |seed| {
        let mut sim = apart(group(name, seed, 5), &[1, 2, 1, 2]).build();
        form(&mut sim);
        sim.run_for(secs(10));
        sim.partition(&[&[0], &[1, 3], &[2, 4]]);
        // Long enough that sessions with the missing are given up.
        sim.run_for(secs(60));
        for node in 1..5 {
            sim.readdress(node);
        }
        sim.restart(0, secs(1));
        sim.run_for(secs(5));
        sim.heal();
        settle(&mut sim, &all(5), secs(20));
    });
}
