//! Who is a member: rejoining, clones, devices that are slow or were away, and how soon the others
//! know.

use consort_scenarios::{FORM_MAX, all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, scenario};
use rand::RngExt;

#[test]
fn a_boot_counter_restored_too_low_rejoins() {
    let name = "a_boot_counter_restored_too_low_rejoins";
    scenario(name, 6, |seed| {
        for was_removed in [false, true] {
            let mut sim = group(name, seed, 5).build();
            for node in 0..5 {
                sim.set_boot_counter(node, 700);
            }
            form(&mut sim);
            let node = 2;
            sim.crash(node);
            sim.run_for(if was_removed { secs(20) } else { ms(300) });
            sim.set_boot_counter(node, 3);
            sim.start(node);
            settle(&mut sim, &all(5), secs(6));
            sim.run_for(secs(10));
            let before = sim.sent(node).0;
            sim.run_for(secs(60));
            sim.expect(sim.all_see_all(&app(), &all(5)), "it stays a member");
            let each_second = (sim.sent(node).0 - before) / 60;
            sim.expect(each_second < 60, "no loop of renewals goes on");
        }
    });
}

/// A link on which a fifth of all datagrams is lost.
fn lossy() -> Link {
    Link {
        loss: 0.2,
        ..Link::lan()
    }
}

/// Starts the first `count` devices and waits until they are one group.
fn form_first(sim: &mut Sim, count: usize) -> (usize, u64) {
    for node in 0..count {
        sim.start(node);
        sim.run_for(ms(50));
    }
    settle(sim, &all(count), FORM_MAX);
    sim.run_for(secs(2));
    settle(sim, &all(count), secs(2));
    sim.reset_counts();
    sim.agree(&app(), &all(count)).expect("they agree")
}

/// Whether a device holds itself for the quarantined one of two.
fn is_quarantined(sim: &Sim, node: usize) -> bool {
    let status = sim.status(node).and_then(|status| status.clone);
    status.is_some_and(|clone| clone.quarantined_here)
}

/// How many devices of `nodes` show that another device runs with the key of `original`.
fn showing_clone(sim: &Sim, nodes: &[usize], original: usize) -> usize {
    let shows = |node: &&usize| {
        let peers = sim.status(**node).map(|status| status.peers);
        let peers = peers.unwrap_or_default();
        peers
            .iter()
            .any(|peer| peer.device == sim.id(original) && peer.quarantined_clone.is_some())
    };
    nodes.iter().filter(shows).count()
}

/// A group of five, of which one is copied and the copy runs beside it.
fn with_clone(sim: &mut Sim, original: usize) {
    let (clone, others) = (5, all_but(5, original));
    sim.copy_disk(original, clone);
    sim.start(clone);
    sim.run_for(secs(20));
    settle(sim, &all(5), secs(5));
    assert_eq!(showing_clone(sim, &others, original), 4, "all members know");
    for node in others {
        assert_eq!(sim.clones_detected(node), 1, "n{node} reports it once");
    }
    sim.expect(is_quarantined(sim, clone), "the clone knows");
    let own = sim.status(original).and_then(|status| status.clone);
    sim.expect(
        own.is_some_and(|own| !own.quarantined_here),
        "the original knows too",
    );
    sim.expect(
        sim.members_seen(clone).is_empty(),
        "the clone has no members",
    );
}

#[test]
fn a_clone_of_a_follower_is_quarantined_and_disturbs_no_leader() {
    let name = "a_clone_of_a_follower_is_quarantined_and_disturbs_no_leader";
    scenario(name, 5, |seed| {
        for link in [Link::lan(), lossy()] {
            let mut sim = group(name, seed, 5).link(link).clone_of(1).build();
            // Device 1 follows: another one leads before it starts.
            for node in [0, 2, 3, 4, 1] {
                sim.start(node);
                sim.run_for(secs(2));
            }
            settle(&mut sim, &all(5), FORM_MAX);
            sim.run_for(secs(2));
            let before = sim.agree(&app(), &all(5)).expect("they agree");
            assert_ne!(before.0, 1);
            sim.reset_counts();
            with_clone(&mut sim, 1);
            let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
            assert_eq!(leader, Some(before.0));
            assert_eq!(sim.app(before.0, &app()).demotions, 0);
            // It goes on for long, and nothing further comes of it.
            let sent = sim.sent(0).0;
            sim.reset_counts();
            for _ in 0..120 {
                sim.run_for(secs(1));
                sim.expect(sim.all_see_all(&app(), &all(5)), "the group is whole");
            }
            assert_eq!(sim.demotions(&app()), 0);
            assert_eq!(sim.clones_detected(0), 1);
            assert!((sim.sent(0).0 - sent) / 120 < 60, "traffic is bounded");
        }
    });
}

#[test]
fn a_clone_of_the_leader_is_quarantined_and_the_group_has_one_leader() {
    let name = "a_clone_of_the_leader_is_quarantined_and_the_group_has_one_leader";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).clone_of(0).build();
        sim.start(0);
        sim.run_for(secs(3));
        for node in 1..5 {
            sim.start(node);
        }
        settle(&mut sim, &all(5), FORM_MAX);
        assert_eq!(
            sim.agree(&app(), &all(5)).map(|(leader, _)| leader),
            Some(0)
        );
        with_clone(&mut sim, 0);
        let agreed = sim.agree(&app(), &all(5));
        sim.run_for(secs(60));
        assert_eq!(sim.agree(&app(), &all(5)), agreed, "and it stays so");
    });
}

#[test]
fn a_clone_that_is_switched_off_leaves_the_group_as_before() {
    let name = "a_clone_that_is_switched_off_leaves_the_group_as_before";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 5).clone_of(1).build();
        form_first(&mut sim, 5);
        with_clone(&mut sim, 1);
        sim.crash(5);
        sim.run_for(secs(90));
        settle(&mut sim, &all(5), secs(1));
        assert_eq!(showing_clone(&sim, &all(5), 1), 0, "the report ends");
        sim.restart(1, ms(300));
        settle(&mut sim, &all(5), secs(8));
        let clone = sim.status(1).and_then(|status| status.clone);
        assert_eq!(clone, None);
    });
}

#[test]
fn a_clone_takes_its_place_when_the_original_is_switched_off() {
    let name = "a_clone_takes_its_place_when_the_original_is_switched_off";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 5).clone_of(1).build();
        form_first(&mut sim, 5);
        with_clone(&mut sim, 1);
        sim.crash(1);
        let whole = [0, 5, 2, 3, 4];
        let took = sim.expect_within(secs(40), "the clone is a member", |sim| {
            whole.iter().all(|node| {
                let others = whole.iter().filter(|other| *other != node);
                let others = others.map(|other| if *other == 5 { 1 } else { *other });
                sim.members_seen(*node) == others.collect()
            })
        });
        assert!(
            took > secs(10),
            "after {took:?}: not before the original is gone"
        );
        sim.run_for(secs(70));
        sim.expect(!is_quarantined(&sim, 5), "it is no clone any longer");
    });
}

#[test]
fn members_that_start_beside_a_clone_keep_the_same_one() {
    let name = "members_that_start_beside_a_clone_keep_the_same_one";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).clone_of(1).build();
        form_first(&mut sim, 5);
        with_clone(&mut sim, 1);
        for node in [2, 3, 4, 0] {
            sim.restart(node, ms(500));
            sim.run_for(secs(20));
            settle(&mut sim, &all(5), secs(10));
        }
        sim.expect(is_quarantined(&sim, 5), "the clone is the one that waits");
        sim.expect(!is_quarantined(&sim, 1), "not the original");
        for _ in 0..60 {
            sim.run_for(secs(1));
            sim.expect(sim.all_see_all(&app(), &all(5)), "the group is whole");
        }
    });
}

#[test]
fn fifty_ordinary_restarts_are_never_taken_for_a_clone() {
    let name = "fifty_ordinary_restarts_are_never_taken_for_a_clone";
    scenario(name, 2, |seed| {
        let link = Link {
            loss: 0.2,
            duplicate: 0.1,
            ..Link::wireless()
        };
        let mut sim = group(name, seed, 5).link(link).record().build();
        form(&mut sim);
        let mut rng = seed.stream("restarts", 0);
        for _ in 0..50 {
            let node = rng.random_range(0..5);
            let recorded = sim.recorded().len();
            sim.restart(node, ms(rng.random_range(10..3_000)));
            // Whatever the earlier boot said last comes once more, and late.
            let late: Vec<_> = sim.recorded()[recorded.saturating_sub(60)..recorded].to_vec();
            sim.run_for(ms(rng.random_range(4_000..9_000)));
            for datagram in late.iter().filter(|datagram| datagram.from == node) {
                let from = sim.address(node);
                sim.inject(datagram.to, from, datagram.payload.clone());
            }
        }
        settle(&mut sim, &all(5), secs(20));
        for node in 0..5 {
            assert_eq!(sim.clones_detected(node), 0, "n{node}");
        }
    });
}
