//! Rotation of the group's secret: steps that reach everybody, whatever happens between them.

use core::time::Duration;
use std::collections::BTreeSet;

use consort_proto::{Access, KeyState, PeerKeyring, RotateError, RotateStep};
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, scenario};
use rand::RngExt;

/// The states of a device's secrets, oldest first.
fn states(sim: &Sim, node: usize) -> Vec<(u32, KeyState)> {
    let secrets = sim.secrets(node);
    secrets.iter().map(|e| (e.epoch, e.state)).collect()
}

/// Whether all of these devices hold the same secrets in the same states, and know it of one
/// another.
fn same_secrets(sim: &Sim, nodes: &[usize]) -> bool {
    let first = states(sim, nodes[0]);
    let others = nodes.len() - 1;
    nodes
        .iter()
        .all(|node| states(sim, *node) == first && sim.acknowledged(*node) >= others)
}

/// Plugins hear nothing of a rotation, so the clock says when to look.
fn expect_same(sim: &mut Sim, nodes: &[usize], what: &str) {
    for _ in 0..200 {
        if same_secrets(sim, nodes) {
            return;
        }
        sim.run_for(ms(100));
    }
    let held: Vec<_> = nodes.iter().map(|node| states(sim, *node)).collect();
    sim.fail(&format!(
        "{what}: not the same secrets within 20 s: {held:?}"
    ));
}

/// All three steps, each on another device, each as soon as all have heard of the one before.
fn rotate_all(sim: &mut Sim, nodes: &[usize]) {
    let steps = [RotateStep::Install, RotateStep::Use, RotateStep::Remove];
    for (i, step) in steps.into_iter().enumerate() {
        let operator = nodes[i % nodes.len()];
        if let Err(error) = sim.rotate(operator, step, false) {
            sim.fail(&format!("{step:?} on n{operator}: {error}"));
        }
        expect_same(sim, nodes, &format!("{step:?}"));
        sim.run_for(secs(5));
    }
}

#[test]
fn three_steps_exchange_the_secret_of_a_busy_group() {
    let name = "three_steps_exchange_the_secret_of_a_busy_group";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 10).build();
        let before = form(&mut sim);
        sim.run_for(secs(2));
        sim.start_beat(&app(), ms(50), 64);
        rotate_all(&mut sim, &all(10));
        sim.run_for(secs(140));
        sim.stop_beats();
        sim.run_for(secs(1));
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
        assert_eq!(sim.agree(&app(), &all(10)), Some(before), "same leader");
        assert_eq!(sim.promotions(&app()), 0, "nobody else led meanwhile");
        assert_eq!(
            sim.messages(&app()),
            sim.stats().deliveries_expected,
            "nothing was lost"
        );
        assert_eq!(sim.stats().beats_busy, 0);
    });
}

#[test]
fn three_steps_under_loss() {
    let name = "three_steps_under_loss";
    scenario(name, 5, |seed| {
        let link = Link::wireless().with_loss(0.2);
        let mut sim = group(name, seed, 10).link(link).build();
        let before = form(&mut sim);
        rotate_all(&mut sim, &all(10));
        sim.run_for(secs(150));
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
        assert_eq!(sim.agree(&app(), &all(10)).map(|a| a.0), Some(before.0));
        assert_eq!(sim.promotions(&app()), 0, "nobody else led meanwhile");
    });
}

#[test]
fn steps_out_of_order_are_refused() {
    let name = "steps_out_of_order_are_refused";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 3).build();
        form(&mut sim);
        let mut refused = |step| sim.rotate(0, step, true).expect_err("must be refused");
        assert_eq!(refused(RotateStep::Use), RotateError::NothingStaged);
        assert_eq!(refused(RotateStep::Remove), RotateError::NothingRetiring);
        assert_eq!(refused(RotateStep::Compromised), RotateError::NoList);
        // A list of the denied does not tell who is to have the secret, and one that is all denied
        // tells that nobody is.
        for allow in [None, Some(vec![1])] {
            sim.set_access(0, access(&sim, allow.as_deref(), &[1]));
            let refused = sim.rotate(0, RotateStep::Compromised, true);
            assert_eq!(refused, Err(RotateError::NoList), "{allow:?}");
        }
        assert_eq!(states(&sim, 0), [(1, KeyState::Active)]);
    });
}

fn access(sim: &Sim, allow: Option<&[usize]>, deny: &[usize]) -> Access {
    let ids = |nodes: &[usize]| nodes.iter().map(|node| sim.id(*node)).collect();
    Access::new(allow.map(ids), ids(deny)).expect("short lists")
}

/// The leader broadcasts every half second: the listed devices all get it and see no other leader,
/// and `thief` gets nothing.
fn expect_locked_out(sim: &mut Sim, leader: (usize, u64), listed: &[usize], thief: usize) {
    for _ in 0..60 {
        let number = sim.broadcast(leader.0, &app(), 100).expect("it leads");
        sim.run_for(ms(500));
        let got: BTreeSet<usize> = sim.receivers(number).into_iter().collect();
        sim.expect(
            got == listed.iter().copied().collect(),
            &format!("a message went to {got:?}, listed are {listed:?}"),
        );
        sim.expect(
            sim.agree(&app(), listed) == Some(leader),
            "the listed devices keep their leader",
        );
        assert_eq!(states(sim, thief), [(1, KeyState::Active)]);
    }
}

/// The operator alone has a list, so to all others the thief is a member like any other.
#[test]
fn a_stolen_secret_is_replaced_at_once_for_those_on_the_list() {
    let name = "a_stolen_secret_is_replaced_at_once_for_those_on_the_list";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 7).build();
        let leader = form(&mut sim);
        sim.run_for(secs(2));
        let others = all_but(7, leader.0);
        let (thief, away, operator) = (others[0], others[1], others[2]);
        let listed = all_but(7, thief);
        let present: Vec<usize> = listed.iter().copied().filter(|n| *n != away).collect();
        sim.crash(away);
        settle(&mut sim, &all_but(7, away), secs(20));
        sim.set_access(operator, access(&sim, Some(&listed), &[]));
        sim.rotate(operator, RotateStep::Compromised, false)
            .expect("it has a list");
        sim.run_for(secs(1));
        assert_eq!(states(&sim, leader.0), [(2, KeyState::Active)]);
        expect_locked_out(&mut sim, leader, &present, thief);
        expect_same(&mut sim, &present, "those on the list");
        settle(&mut sim, &present, secs(1));
        assert_eq!(sim.demotions(&app()), 0, "the leader led all the time");

        // Neither a new start nor the end of the list helps who holds the stolen secret alone.
        sim.restart(thief, ms(500));
        sim.start(away);
        sim.set_access(operator, Access::default());
        expect_locked_out(&mut sim, leader, &present, thief);
        settle(&mut sim, &present, secs(1));
        sim.crash(away);
        let ring = sim.stored_keyring(operator).expect("it has a group");
        sim.give_keyring(away, ring);
        sim.start(away);
        settle(&mut sim, &listed, secs(10));
        // It may have led the thief meanwhile: the term is above what it saw.
        let leads = sim.agree(&app(), &listed).expect("they agree");
        assert_eq!(leads.0, leader.0);
        expect_locked_out(&mut sim, leads, &listed, thief);
    });
}

/// With the list on all devices the thief is out before the secret is changed, and stays out when
/// the lists are gone.
#[test]
fn a_stolen_secret_is_worth_nothing_after_lists_and_rotation() {
    let name = "a_stolen_secret_is_worth_nothing_after_lists_and_rotation";
    scenario(name, 5, |seed| {
        let link = Link::lan().with_loss(0.1);
        let mut sim = group(name, seed, 5).link(link).build();
        let leader = form(&mut sim);
        let thief = all_but(5, leader.0)[1];
        let listed = all_but(5, thief);
        for node in &listed {
            sim.set_access(*node, access(&sim, Some(&listed), &[]));
        }
        settle(&mut sim, &listed, secs(4));
        sim.rotate(leader.0, RotateStep::Compromised, false)
            .expect("it has a list");
        expect_same(&mut sim, &listed, "those on the list");
        for node in &listed {
            sim.set_access(*node, Access::default());
        }
        for _ in 0..60 {
            sim.run_for(secs(1));
            let same = sim.agree(&app(), &listed) == Some(leader);
            sim.expect(same, "the listed devices keep their leader");
            let seen = listed.iter().any(|n| sim.members_seen(*n).contains(&thief));
            sim.expect(!seen, "nobody sees the thief");
        }
        assert_eq!(states(&sim, thief), [(1, KeyState::Active)]);
        assert_eq!(sim.demotions(&app()), 0, "the leader led all the time");
    });
}

/// It could not store the secret while it was on the list, so it would be offered again.
#[test]
fn who_is_taken_off_the_list_is_offered_the_secret_no_more() {
    let name = "who_is_taken_off_the_list_is_offered_the_secret_no_more";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.run_for(secs(2));
        let (operator, suspect) = (0, 3);
        sim.set_access(operator, access(&sim, Some(&all(4)), &[]));
        sim.set_disk_full(suspect, true);
        sim.rotate(operator, RotateStep::Compromised, false)
            .expect("it has a list");
        sim.run_for(secs(1));
        assert_eq!(states(&sim, 1), [(2, KeyState::Active)]);
        sim.set_access(operator, Access::default());
        sim.set_disk_full(suspect, false);
        sim.run_for(secs(30));
        assert_eq!(states(&sim, suspect), [(1, KeyState::Active)]);
    });
}

/// What a device says of another's secrets must be so on the other's disk.
fn expect_acknowledged_is_stored(sim: &Sim, node: usize) {
    let held = sim.stored_keyring(node).expect("it has a group");
    let held: Vec<u32> = held.entries().map(|entry| entry.epoch).collect();
    for other in all(sim.device_count()) {
        let status = sim.status(other);
        let said = status.iter().flat_map(|status| &status.peers);
        let mut said = said.filter(|peer| peer.device == sim.id(node));
        if said.any(|peer| peer.keyring == PeerKeyring::Current) {
            let needed = states(sim, other);
            let removed = |epoch: &u32| held.first().is_some_and(|first| epoch < first);
            sim.expect(
                needed
                    .iter()
                    .all(|(epoch, _)| held.contains(epoch) || removed(epoch)),
                &format!("n{other} says that n{node} holds {needed:?}, it stored {held:?}"),
            );
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_a_step_loses_no_secret_that_was_acknowledged() {
    let name = "a_crash_at_any_moment_of_a_step_loses_no_secret_that_was_acknowledged";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5).build();
        form(&mut sim);
        sim.run_for(secs(2));
        let mut rng = seed.stream("crashes", 0);
        for step in [RotateStep::Install, RotateStep::Use, RotateStep::Remove] {
            let before = states(&sim, 0);
            for victim in [0, rng.random_range(1..5)] {
                sim.begin_rotate(0, step, false);
                // A write takes 4 to 8 ms, and a step some more to reach the others.
                sim.run_for(Duration::from_micros(rng.random_range(0..20_000)));
                sim.crash(victim);
                sim.run_for(ms(5));
                expect_acknowledged_is_stored(&sim, victim);
                sim.run_for(ms(500));
                sim.start(victim);
                settle(&mut sim, &all(5), secs(15));
                expect_same(&mut sim, &all(5), "after a crash");
            }
            if states(&sim, 0) == before {
                sim.rotate(0, step, false).expect("all are ready");
                expect_same(&mut sim, &all(5), "the step once more");
            }
            assert_ne!(states(&sim, 0), before, "{step:?}");
        }
        sim.run_for(secs(130));
        settle(&mut sim, &all(5), secs(1));
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
    });
}

#[test]
fn a_half_that_was_cut_off_during_steps_catches_up() {
    let name = "a_half_that_was_cut_off_during_steps_catches_up";
    scenario(name, 5, |seed| {
        let link = Link::lan().with_loss(0.05);
        let mut sim = group(name, seed, 6).link(link).build();
        form(&mut sim);
        sim.partition(&[&[0, 1, 2], &[3, 4, 5]]);
        settle(&mut sim, &[0, 1, 2], secs(20));
        sim.rotate(0, RotateStep::Install, false).expect("taken");
        expect_same(&mut sim, &[0, 1, 2], "one half installs");
        sim.heal();
        settle(&mut sim, &all(6), secs(20));
        expect_same(&mut sim, &all(6), "all have installed");
        sim.partition(&[&[0, 1, 2], &[3, 4, 5]]);
        settle(&mut sim, &[3, 4, 5], secs(20));
        sim.run_for(secs(60));
        for step in [RotateStep::Use, RotateStep::Remove] {
            sim.rotate(4, step, false).expect("all present are ready");
            expect_same(&mut sim, &[3, 4, 5], "the other half goes on to the end");
        }
        sim.heal();
        // The half that stayed behind holds the secret, staged.
        settle(&mut sim, &all(6), secs(30));
        expect_same(&mut sim, &all(6), "all have removed");
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
    });
}

#[test]
fn halves_that_rotated_apart_end_with_one_keyring() {
    let name = "halves_that_rotated_apart_end_with_one_keyring";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 6).build();
        form(&mut sim);
        let halves: [&[usize]; 2] = [&[0, 1, 2], &[3, 4, 5]];
        sim.partition(&halves);
        for half in halves {
            settle(&mut sim, half, secs(20));
            for step in [RotateStep::Install, RotateStep::Use] {
                sim.rotate(half[0], step, false)
                    .expect("all present are ready");
                expect_same(&mut sim, half, "a half for itself");
            }
        }
        // Longer than any session with the other half is kept.
        sim.run_for(secs(90));
        sim.heal();
        settle(&mut sim, &all(6), secs(30));
        expect_same(&mut sim, &all(6), "the union of both");
        use KeyState::{Active, Retiring};
        assert_eq!(states(&sim, 0), [(1, Retiring), (2, Retiring), (2, Active)]);
        sim.rotate(5, RotateStep::Remove, false)
            .expect("all use it");
        expect_same(&mut sim, &all(6), "one is left");
        assert_eq!(states(&sim, 0), [(2, Active)]);
        sim.run_for(secs(130));
        settle(&mut sim, &all(6), secs(1));
    });
}

#[test]
fn two_operators_at_once_end_with_one_keyring() {
    let name = "two_operators_at_once_end_with_one_keyring";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5)
            .link(Link::lan().with_loss(0.1))
            .build();
        form(&mut sim);
        sim.run_for(secs(2));
        for step in [RotateStep::Install, RotateStep::Use, RotateStep::Remove] {
            sim.begin_rotate(0, step, false);
            sim.begin_rotate(1, step, false);
            sim.run_for(secs(2));
            expect_same(&mut sim, &all(5), &format!("{step:?} twice"));
        }
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
        sim.run_for(secs(130));
        settle(&mut sim, &all(5), secs(1));
    });
}

#[test]
fn a_late_device_gets_the_secret_while_its_own_is_retiring() {
    let name = "a_late_device_gets_the_secret_while_its_own_is_retiring";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        form(&mut sim);
        sim.crash(4);
        settle(&mut sim, &all(4), secs(20));
        for step in [RotateStep::Install, RotateStep::Use] {
            sim.rotate(1, step, false).expect("all present are ready");
            expect_same(&mut sim, &all(4), "those that are there");
        }
        sim.run_for(secs(60));
        sim.start(4);
        settle(&mut sim, &all(5), secs(10));
        expect_same(&mut sim, &all(5), "the late device too");
        sim.rotate(1, RotateStep::Remove, false)
            .expect("all use it");
        expect_same(&mut sim, &all(5), "at the end");
        sim.run_for(secs(130));
        settle(&mut sim, &all(5), secs(1));
    });
}

#[test]
fn a_device_that_missed_everything_needs_the_secret_by_hand() {
    let name = "a_device_that_missed_everything_needs_the_secret_by_hand";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.crash(3);
        settle(&mut sim, &all(3), secs(20));
        for step in [RotateStep::Install, RotateStep::Use, RotateStep::Remove] {
            sim.rotate(0, step, false).expect("all present are ready");
            expect_same(&mut sim, &all(3), "those that are there");
        }
        sim.start(3);
        sim.run_for(secs(60));
        sim.expect(
            sim.members_seen(3).is_empty() && sim.all_see_all(&app(), &all(3)),
            "a removed secret admits nobody",
        );
        sim.crash(3);
        let ring = sim.stored_keyring(0).expect("it has a group");
        sim.give_keyring(3, ring.active_secret().clone().into());
        sim.start(3);
        settle(&mut sim, &all(4), secs(10));
        expect_same(&mut sim, &all(4), "the epoch too");
    });
}

#[test]
fn a_secret_stays_until_all_use_the_next_one() {
    let name = "a_secret_stays_until_all_use_the_next_one";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.run_for(secs(2));
        sim.rotate(0, RotateStep::Install, false).expect("taken");
        expect_same(&mut sim, &all(4), "all hold it");
        sim.set_disk_full(2, true);
        sim.rotate(1, RotateStep::Use, false).expect("all hold it");
        sim.run_for(secs(5));
        assert_eq!(
            sim.rotate(1, RotateStep::Remove, false),
            Err(RotateError::NotUsed(vec![sim.id(2)]))
        );
        sim.set_disk_full(2, false);
        expect_same(&mut sim, &all(4), "all use it");
        sim.rotate(1, RotateStep::Remove, false).expect("all do");
        expect_same(&mut sim, &all(4), "and it is gone");
    });
}

#[test]
fn a_device_that_cannot_store_keeps_what_it_has_and_holds_the_rotation_up() {
    let name = "a_device_that_cannot_store_keeps_what_it_has_and_holds_the_rotation_up";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.run_for(secs(2));
        sim.set_disk_full(2, true);
        sim.rotate(0, RotateStep::Install, false).expect("taken");
        sim.run_for(secs(5));
        assert_eq!(states(&sim, 2), [(1, KeyState::Active)]);
        let status = sim.status(0).expect("it runs");
        let full = status.peers.iter().find(|peer| peer.device == sim.id(2));
        assert_eq!(full.map(|p| p.keyring), Some(PeerKeyring::NotStored));
        assert!(
            sim.status(2)
                .expect("it runs")
                .keyring
                .expect("a group")
                .not_stored
        );
        assert_eq!(
            sim.rotate(1, RotateStep::Use, false),
            Err(RotateError::NotHeld(vec![sim.id(2)]))
        );
        let refused = sim.rotate(2, RotateStep::Install, false);
        assert!(
            matches!(refused, Err(RotateError::NotStored(_))),
            "{refused:?}"
        );
        sim.set_disk_full(2, false);
        expect_same(&mut sim, &all(4), "there is room again");
        sim.rotate(1, RotateStep::Use, false).expect("all hold it");
        expect_same(&mut sim, &all(4), "and it goes on");
    });
}

/// A keyring holds two retiring secrets, so who misses a third rotation shares none with the group.
#[test]
fn a_device_that_misses_three_rotations_is_out_of_the_group() {
    let name = "a_device_that_misses_three_rotations_is_out_of_the_group";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.set_disk_full(3, true);
        for _ in 0..3 {
            sim.rotate(0, RotateStep::Install, true).expect("taken");
            sim.run_for(secs(3));
            sim.rotate(0, RotateStep::Use, true).expect("taken");
            sim.run_for(secs(3));
        }
        let (here, there) = (sim.stored_keyring(0), sim.stored_keyring(3));
        let shared = here
            .expect("a group")
            .shares_secret_with(&there.expect("a group"));
        assert!(!shared, "its one secret is gone elsewhere");
        // Sessions under a secret that is gone are closed after two minutes.
        sim.run_for(secs(180));
        settle(&mut sim, &[0, 1, 2], secs(1));
        settle(&mut sim, &[3], secs(1));
    });
}
