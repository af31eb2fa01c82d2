//! Replicated state under faults. Every run is held against the reference model of each kind: see
//! docs/simulator.md, "Replicated state".

use std::sync::{Arc, Mutex};
use std::time::Duration;

use consort_proto::{Origin, Scope, StateConfig};
use consort_scenarios::state::{
    QUIET_MAX, busy, common, everywhere, formed, put, quiet, superseded,
};
use consort_scenarios::{all, all_but, app, group, ms, secs, settle};
use consort_sim::{Kind, Link, Seed, Sim, Toy, Workload, scenario};

#[test]
fn writes_of_all_kinds_reach_everyone_and_are_equal() {
    let name = "writes_of_all_kinds_reach_everyone_and_are_equal";
    scenario(name, 3, |seed| {
        let (mut sim, leader) = formed(name, seed, 5, StateConfig::default());
        let first = put(&mut sim, leader, Scope::Leader, "scene", 40);
        let own = put(&mut sim, 1, Scope::Device, "name", 20);
        let shared = put(&mut sim, 2, Scope::Shared, "colour", 1000);
        let large = put(&mut sim, 3, Scope::Shared, "picture", 64 << 10);
        for node in 0..5 {
            sim.add_to(node, &app(), "hits", 3).expect("within quotas");
        }
        for number in [first, own, shared, large] {
            everywhere(&mut sim, &all(5), number, secs(5));
        }
        sim.run_for(secs(2));
        for node in 0..5 {
            assert_eq!(sim.counter(node, &app(), "hits"), 15, "n{node}");
        }
        sim.start_writes(&app(), busy(ms(50)));
        sim.run_for(secs(30));
        quiet(&mut sim, &all(5));
    });
}

#[test]
fn a_partition_during_writes_ends_in_one_state() {
    let name = "a_partition_during_writes_ends_in_one_state";
    scenario(name, 4, |seed| {
        let (mut sim, _) = formed(name, seed, 6, StateConfig::default());
        sim.start_writes(&app(), busy(ms(60)));
        sim.run_for(secs(5));
        sim.partition(&[&[0, 1, 2], &[3, 4, 5]]);
        sim.run_for(secs(20));
        sim.heal();
        sim.run_for(secs(10));
        quiet(&mut sim, &all(6));
    });
}

#[test]
fn a_leader_that_dies_before_its_push_takes_only_that_write_along() {
    let name = "a_leader_that_dies_before_its_push_takes_only_that_write_along";
    scenario(name, 5, |seed| {
        let (mut sim, leader) = formed(name, seed, 4, StateConfig::default());
        let rest = all_but(4, leader);
        sim.run_for(secs(3));
        let pushed = put(&mut sim, leader, Scope::Leader, "first", 100);
        sim.run_for(ms(20));
        // It waits for the end of the interval, and for the next comparison.
        let batched = put(&mut sim, leader, Scope::Leader, "second", 100);
        sim.crash(leader);
        sim.run_for(secs(5));
        settle(&mut sim, &rest, secs(5));
        sim.expect_state(&app(), &rest, QUIET_MAX);
        assert_eq!(common(&sim, &rest, Origin::Leader, "first"), Some(pushed));
        assert_eq!(common(&sim, &rest, Origin::Leader, "second"), None);
        assert_eq!(
            sim.written(batched).seen.len(),
            1,
            "nobody else ever saw it"
        );
        sim.start(leader);
        settle(&mut sim, &all(4), secs(20));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), Origin::Leader, "first"), Some(pushed));
    });
}

#[test]
fn a_stale_leader_s_late_write_is_reported_to_its_plugin() {
    let name = "a_stale_leader_s_late_write_is_reported_to_its_plugin";
    scenario(name, 5, |seed| {
        let (mut sim, stale) = formed(name, seed, 5, StateConfig::default());
        let rest = all_but(5, stale);
        let before = put(&mut sim, stale, Scope::Leader, "kept", 50);
        put(&mut sim, stale, Scope::Leader, "scene", 50);
        everywhere(&mut sim, &all(5), before, secs(3));
        sim.run_for(secs(2));
        sim.partition(&[&[stale]]);
        sim.run_for(secs(10));
        let (leader, _) = sim.agree(&app(), &rest).expect("the rest has a leader");
        assert!(sim.leads(stale, &app()), "it leads on, alone");
        let late = put(&mut sim, stale, Scope::Leader, "scene", 60);
        let only = put(&mut sim, stale, Scope::Leader, "only", 60);
        let right = put(&mut sim, leader, Scope::Leader, "scene", 70);
        sim.run_for(secs(3));
        sim.heal();
        settle(&mut sim, &all(5), secs(20));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        let told = superseded(&sim, stale);
        for key in ["scene", "only"] {
            assert!(told.contains(&key.to_owned()), "{told:?} lacks {key}");
        }
        assert!(!told.contains(&"kept".to_owned()), "{told:?}");
        for node in &rest {
            assert_eq!(superseded(&sim, *node), Vec::<String>::new(), "n{node}");
        }
        assert_eq!(common(&sim, &all(5), Origin::Leader, "scene"), Some(right));
        assert_eq!(common(&sim, &all(5), Origin::Leader, "kept"), Some(before));
        assert_eq!(common(&sim, &all(5), Origin::Leader, "only"), None);
        for number in [late, only] {
            assert_eq!(
                sim.written(number).seen.len(),
                1,
                "no entry beyond its cut is served"
            );
        }
    });
}

#[test]
fn a_wiped_device_gets_its_own_state_back_and_writes_on() {
    let name = "a_wiped_device_gets_its_own_state_back_and_writes_on";
    scenario(name, 5, |seed| {
        let config = StateConfig {
            persist: true,
            ..StateConfig::default()
        };
        let (mut sim, leader) = formed(name, seed, 4, config);
        let node = (leader + 1) % 4;
        let origin = Origin::Device(sim.id(node));
        let seen = put(&mut sim, node, Scope::Device, "seen", 40);
        put(&mut sim, node, Scope::Device, "again", 40);
        sim.add_to(node, &app(), "count", 5).expect("within quotas");
        sim.run_for(secs(3));
        sim.crash(node);
        sim.wipe_state(node);
        sim.set_boot_counter(node, 0);
        sim.run_for(secs(20));
        sim.start(node);
        let again = put(&mut sim, node, Scope::Device, "again", 50);
        sim.add_to(node, &app(), "count", 2).expect("within quotas");
        settle(&mut sim, &all(4), secs(30));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), origin, "seen"), Some(seen));
        assert_eq!(common(&sim, &all(4), origin, "again"), Some(again));
        for other in 0..4 {
            assert_eq!(sim.counter(other, &app(), "count"), 7, "n{other}");
        }
    });
}

#[test]
fn a_joiner_takes_up_a_mebibyte_while_heartbeats_pass() {
    let name = "a_joiner_takes_up_a_mebibyte_while_heartbeats_pass";
    scenario(name, 3, |seed| {
        joins_a_mebibyte(name, seed, 6, (16, 64_000), secs(10));
    });
}

#[test]
fn a_joiner_takes_up_a_thousand_values_of_one_writer() {
    let name = "a_joiner_takes_up_a_thousand_values_of_one_writer";
    scenario(name, 3, |seed| {
        joins_a_mebibyte(name, seed, 10, (1000, 1024), secs(5));
    });
}

/// The last of some devices joins where there are so many values of that length.
fn joins_a_mebibyte(name: &str, seed: Seed, devices: usize, values: (usize, usize), max: Duration) {
    let mut sim = group(name, seed, devices).crypto(Arc::new(Toy)).build();
    let joiner = devices - 1;
    for node in 0..joiner {
        sim.start(node);
    }
    settle(&mut sim, &all(joiner), secs(10));
    let (count, length) = values;
    // Few large ones by all in turn, many small ones by one.
    let writers = if count > 100 { 1 } else { joiner };
    for piece in 0..count {
        let key = format!("piece {piece}");
        put(&mut sim, piece % writers, Scope::Shared, &key, length);
        sim.run_for(Duration::from_micros(11 * length as u64));
    }
    sim.expect_state(&app(), &all(joiner), QUIET_MAX);
    sim.start_beat(&app(), ms(5), 400);
    sim.run_for(secs(2));
    sim.reset_counts();
    sim.start(joiner);
    settle(&mut sim, &all(devices), secs(10));
    let took = sim.expect_state(&app(), &all(devices), secs(20));
    println!("a joiner had 1 MiB {took:?} after it was a member (seed {seed})");
    assert!(took <= max, "{took:?}");
    assert_eq!(sim.promotions(&app()), 0, "the leader stays");
    assert_eq!(sim.demotions(&app()), 0);
}

#[test]
fn a_leader_that_dies_before_it_publishes_its_cuts_leaves_no_trace() {
    let name = "a_leader_that_dies_before_it_publishes_its_cuts_leaves_no_trace";
    scenario(name, 6, |seed| {
        let (mut sim, first) = formed(name, seed, 5, StateConfig::default());
        let number = put(&mut sim, first, Scope::Leader, "scene", 50);
        let deleted = put(&mut sim, first, Scope::Leader, "gone", 50);
        everywhere(&mut sim, &all(5), number, secs(3));
        everywhere(&mut sim, &all(5), deleted, secs(3));
        sim.delete(first, &app(), Scope::Leader, "gone")
            .expect("it leads");
        sim.run_for(secs(3));
        sim.crash(first);
        let mut rest = all_but(5, first);
        sim.expect_within(secs(4), "another leads", |sim| {
            rest.iter().any(|node| sim.leads(*node, &app()))
        });
        let second = sim.leaders(&app())[0];
        sim.crash(second);
        rest.retain(|node| *node != second);
        settle(&mut sim, &rest, secs(15));
        sim.expect_state(&app(), &rest, QUIET_MAX);
        assert_eq!(common(&sim, &rest, Origin::Leader, "scene"), Some(number));
        assert_eq!(common(&sim, &rest, Origin::Leader, "gone"), None);
        let (third, _) = sim.agree(&app(), &rest).expect("they agree");
        let next = put(&mut sim, third, Scope::Leader, "scene", 60);
        everywhere(&mut sim, &rest, next, secs(3));
        for node in [first, second] {
            sim.start(node);
        }
        settle(&mut sim, &all(5), secs(20));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        assert_eq!(common(&sim, &all(5), Origin::Leader, "scene"), Some(next));
    });
}

#[test]
fn two_heals_in_a_row_end_in_one_state() {
    let name = "two_heals_in_a_row_end_in_one_state";
    scenario(name, 6, |seed| {
        let (mut sim, _) = formed(name, seed, 6, StateConfig::default());
        sim.start_writes(&app(), busy(ms(60)));
        sim.run_for(secs(3));
        sim.partition(&[&[0, 1], &[2, 3], &[4, 5]]);
        sim.run_for(secs(15));
        sim.partition(&[&[0, 1, 2, 3], &[4, 5]]);
        sim.run_for(Duration::from_millis(500 + seed.0 % 3_000));
        sim.heal();
        sim.run_for(secs(5));
        sim.partition(&[&[0, 2, 4], &[1, 3, 5]]);
        sim.run_for(secs(10));
        sim.heal();
        sim.run_for(secs(5));
        quiet(&mut sim, &all(6));
    });
}

#[test]
fn additions_over_partitions_and_crashes_sum_exactly() {
    let name = "additions_over_partitions_and_crashes_sum_exactly";
    scenario(name, 4, |seed| {
        let (mut sim, _) = formed(name, seed, 8, StateConfig::default());
        let mut total = 0;
        let mut step = 0;
        let mut add = |sim: &mut Sim, nodes: &[usize], rounds: usize| {
            for _ in 0..rounds {
                for node in nodes {
                    step += 1;
                    let delta = (step * 7 + i64::try_from(*node).unwrap_or(0)) % 23 - 5;
                    if sim.add_to(*node, &app(), "hits", delta).is_ok() {
                        total += delta;
                    }
                }
                sim.run_for(ms(20));
            }
        };
        add(&mut sim, &all(8), 40);
        sim.partition(&[&[0, 1, 2], &[3, 4, 5, 6, 7]]);
        add(&mut sim, &all(8), 40);
        sim.run_for(ms(2_500));
        sim.crash(1);
        sim.crash(4);
        add(&mut sim, &[0, 2, 3, 5, 6, 7], 40);
        sim.heal();
        sim.run_for(secs(3));
        sim.start(1);
        sim.start(4);
        add(&mut sim, &all(8), 40);
        sim.partition(&[&[0, 2, 4, 6], &[1, 3, 5, 7]]);
        add(&mut sim, &all(8), 40);
        sim.run_for(ms(2_500));
        sim.restart(1, secs(4));
        add(&mut sim, &all(8), 20);
        sim.heal();
        settle(&mut sim, &all(8), secs(30));
        sim.run_for(secs(10));
        sim.expect_state(&app(), &all(8), QUIET_MAX);
        for node in 0..8 {
            assert_eq!(sim.counter(node, &app(), "hits"), total, "n{node}");
        }
    });
}

#[test]
fn kept_state_survives_a_restart_of_all_at_once() {
    let name = "kept_state_survives_a_restart_of_all_at_once";
    scenario(name, 4, |seed| {
        let config = StateConfig {
            persist: true,
            ..StateConfig::default()
        };
        let (mut sim, leader) = formed(name, seed, 5, config);
        let led = put(&mut sim, leader, Scope::Leader, "scene", 50);
        let own = put(&mut sim, 1, Scope::Device, "own", 50);
        let shared = put(&mut sim, 2, Scope::Shared, "large", 20_000);
        put(&mut sim, 3, Scope::Shared, "gone", 50);
        sim.add_to(4, &app(), "count", 9).expect("within quotas");
        sim.run_for(secs(1));
        sim.delete(3, &app(), Scope::Shared, "gone")
            .expect("it is there");
        sim.start_writes(
            &app(),
            Workload {
                keys: 4,
                ..busy(ms(50))
            },
        );
        sim.run_for(secs(10));
        sim.stop_writes();
        sim.run_for(secs(4));
        (0..5).for_each(|node| sim.crash(node));
        sim.run_for(secs(2));
        (0..5).for_each(|node| sim.start(node));
        settle(&mut sim, &all(5), secs(20));
        quiet(&mut sim, &all(5));
        assert_eq!(common(&sim, &all(5), Origin::Leader, "scene"), Some(led));
        let origin = Origin::Device(sim.id(1));
        assert_eq!(common(&sim, &all(5), origin, "own"), Some(own));
        assert_eq!(common(&sim, &all(5), Origin::Shared, "large"), Some(shared));
        assert_eq!(common(&sim, &all(5), Origin::Shared, "gone"), None);
        for node in 0..5 {
            assert_eq!(sim.counter(node, &app(), "count"), 9, "n{node}");
        }
    });
}

#[test]
fn damaged_records_are_left_out_and_come_back_from_peers() {
    let name = "damaged_records_are_left_out_and_come_back_from_peers";
    scenario(name, 5, |seed| {
        let config = StateConfig {
            persist: true,
            ..StateConfig::default()
        };
        let (mut sim, leader) = formed(name, seed, 4, config);
        sim.start_writes(&app(), busy(ms(50)));
        sim.run_for(secs(10));
        sim.stop_writes();
        sim.run_for(secs(3));
        let node = (leader + 1) % 4;
        sim.crash(node);
        assert!(sim.corrupt_state(node) > 0, "it had kept something");
        sim.run_for(secs(1));
        sim.start(node);
        settle(&mut sim, &all(4), secs(20));
        quiet(&mut sim, &all(4));
    });
}

#[test]
fn at_twenty_percent_loss_a_write_reaches_all_within_three_intervals() {
    let name = "at_twenty_percent_loss_a_write_reaches_all_within_three_intervals";
    let times = Mutex::new(Vec::new());
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 10)
            .crypto(Arc::new(Toy))
            .link(Link::lan().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(10), secs(30));
        sim.run_for(secs(3));
        for turn in 0..20 {
            let number = put(
                &mut sim,
                turn % 10,
                Scope::Shared,
                &format!("k{}", turn % 4),
                1000,
            );
            let took = everywhere(&mut sim, &all(10), number, secs(30));
            times.lock().expect("no test panicked").push(took);
            sim.run_for(ms(2_500));
        }
    });
    let mut times = times.into_inner().expect("no test panicked");
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    println!(
        "1 KB to 10 devices at 20 % loss: p50 {:?}, p99 {:?}, most {:?}, of {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
    assert!(at(99) <= secs(3), "{:?}", at(99));
}

#[test]
fn counters_alone_survive_a_device_that_comes_and_goes() {
    let name = "counters_alone_survive_a_device_that_comes_and_goes";
    scenario(name, 4, |seed| {
        let (mut sim, leader) = formed(name, seed, 4, StateConfig::default());
        let node = (leader + 1) % 4;
        let workload = Workload {
            kinds: vec![Kind::Counter],
            keys: 3,
            ..busy(ms(40))
        };
        sim.start_writes(&app(), workload);
        for _ in 0..4 {
            sim.run_for(secs(6));
            sim.crash(node);
            sim.run_for(secs(3));
            sim.start(node);
        }
        sim.run_for(secs(10));
        quiet(&mut sim, &all(4));
    });
}
