//! How devices find each other again: by remembered addresses, by being looked for, by beacons that
//! never stop.

use consort_scenarios::{FORM_MAX, agree, all, app, form, group, ms, secs, settle};
use consort_sim::{Sim, SimBuilder, scenario};

/// Three devices whom multicast does not bring together; the first is the others' seed.
fn apart(builder: SimBuilder) -> SimBuilder {
    [(1, 1), (2, 2)]
        .into_iter()
        .fold(builder, |builder, (node, segment)| {
            builder.device(node, |device| {
                device.segment = segment;
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
        let mut sim = apart(group(name, seed, 3)).build();
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
        let mut sim = apart(group(name, seed, 3)).build();
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
        let mut sim = apart(group(name, seed, 3)).build();
        sim.cut(1, 2);
        form(&mut sim);
        sim.run_for(secs(10));
        let hears = |sim: &Sim, node: usize, other: usize| {
            let status = sim.status(node).expect("it runs");
            let other = sim.id(other);
            let peer = status.peers.iter().find(|peer| peer.device == other);
            peer.is_some_and(|peer| peer.last_heard.is_some())
        };
        sim.expect(!hears(&sim, 1, 2) && !hears(&sim, 2, 1), "they never met");
        sim.readdress(1);
        sim.readdress(2);
        sim.mend(1, 2);
        // An attempt is given up after a minute, and a new one begins with a question.
        let met = (0..150).any(|_| {
            sim.run_for(ms(100));
            hears(&sim, 1, 2) && hears(&sim, 2, 1)
        });
        sim.expect(met, "they meet where they are now");
    });
}
