//! What a write leaves behind on the disk: a second after it, the device may die at any point.
//!
//! The disks are as slow as they may be for that. The ledger holds every other write of these runs
//! to the same second.

use consort_proto::{Origin, Scope, StateConfig};
use consort_scenarios::state::{QUIET_MAX, busy, common, everywhere, formed, put};
use consort_scenarios::{all, app, ms, secs, settle};
use consort_sim::{Seed, Sim, Workload, scenario, spec};

/// What is promised.
const KEPT: core::time::Duration = secs(1);
/// The slowest disk for which it is.
const SLOW: core::time::Duration = ms(375);

/// Writes without end beside those that a scenario looks at. By seed the disk is hardly ever idle,
/// or now and then, or mostly.
fn beside(seed: Seed) -> Workload {
    Workload {
        keys: 3,
        ..busy(ms([30, 400, 3_000][(seed.0 % 3) as usize]))
    }
}

/// Devices with slow disks and a lot to write.
fn slow(name: &str, seed: Seed, count: usize) -> (Sim, usize) {
    let config = StateConfig {
        persist: true,
        ..StateConfig::default()
    };
    let (mut sim, leader) = formed(name, seed, count, config);
    all(count)
        .into_iter()
        .for_each(|node| sim.set_disk_speed(node, SLOW));
    sim.start_writes(&app(), beside(seed));
    (sim, leader)
}

/// One write of each kind by one device, which leads.
fn write_all(sim: &mut Sim, node: usize, key: &str) -> Vec<(Origin, u64)> {
    let own = Origin::Device(sim.id(node));
    let written = [
        (Origin::Leader, Scope::Leader),
        (own, Scope::Device),
        (Origin::Shared, Scope::Shared),
    ]
    .map(|(origin, scope)| (origin, put(sim, node, scope, key, 60)));
    sim.add_to(node, &app(), "kept", 7).expect("within quotas");
    written.into()
}

/// Everything that was written so is there.
fn expect_all(sim: &Sim, nodes: &[usize], key: &str, written: &[(Origin, u64)], sum: i64) {
    for (origin, number) in written {
        let shown = common(sim, nodes, *origin, key);
        assert_eq!(shown, Some(*number), "{origin:?} {key:?}");
    }
    for node in nodes {
        assert_eq!(sim.counter(*node, &app(), "kept"), sum, "n{node}");
    }
}

/// The power goes exactly a second after the writes, or in the middle of what the disk writes next.
#[test]
fn a_second_after_a_write_a_device_alone_has_it_over_any_crash() {
    let name = "a_second_after_a_write_a_device_alone_has_it_over_any_crash";
    scenario(name, 6, |seed| {
        let (mut sim, _) = slow(name, seed, 1);
        let mut sum = 0;
        for round in 0..8 {
            sim.run_for(ms(400 + (seed.0.wrapping_mul(131) + round * 173) % 700));
            let key = format!("kept {round}");
            let written = write_all(&mut sim, 0, &key);
            sum += 7;
            sim.run_for(KEPT);
            if round % 2 == 0 {
                sim.crash(0);
            } else {
                let writes = u32::try_from(round % 3).expect("small") + 1;
                sim.crash_at_write(0, writes, true, None);
                sim.expect_within(secs(20), "the power goes", |sim| !sim.is_up(0));
            }
            sim.run_for(ms(500));
            sim.start(0);
            settle(&mut sim, &[0], secs(10));
            expect_all(&sim, &[0], &key, &written, sum);
            sim.judge_state(&app(), &[0]);
        }
    });
}

/// All die a second after the writes reached one of them, which later is the only one that has
/// anything left: the writer, or another one.
#[test]
fn a_second_after_a_write_arrived_one_disk_is_enough() {
    let name = "a_second_after_a_write_arrived_one_disk_is_enough";
    scenario(name, 6, |seed| {
        let (mut sim, leader) = slow(name, seed, 3);
        sim.run_for(ms(2_000 + seed.0.wrapping_mul(131) % 700));
        let mut sum = 0;
        for (round, left) in [leader, (leader + 1) % 3].into_iter().enumerate() {
            let (leads, _) = sim.agree(&app(), &all(3)).expect("they agree");
            let key = format!("kept {round}");
            let written = write_all(&mut sim, leads, &key);
            sum += 7;
            sim.expect_within(secs(3), "it has arrived", |sim| {
                let shows = |(origin, number): &(Origin, u64)| {
                    sim.shown(left, &app(), *origin, &key) == Some(*number)
                };
                written.iter().all(shows) && sim.counter(left, &app(), "kept") == sum
            });
            sim.run_for(KEPT);
            if seed.0 % 2 == 0 {
                sim.crash(left);
            } else {
                sim.crash_at_write(left, 1, true, None);
                sim.expect_within(secs(20), "the power goes", |sim| !sim.is_up(left));
            }
            for node in all(3) {
                if node != left {
                    sim.crash(node);
                    sim.wipe_state(node);
                }
            }
            sim.run_for(ms(500));
            sim.start(left);
            settle(&mut sim, &[left], secs(15));
            expect_all(&sim, &[left], &key, &written, sum);
            all(3)
                .into_iter()
                .filter(|node| *node != left)
                .for_each(|node| sim.start(node));
            settle(&mut sim, &all(3), secs(20));
            sim.run_for(secs(10));
            expect_all(&sim, &all(3), &key, &written, sum);
        }
        sim.stop_writes();
        settle(&mut sim, &all(3), secs(20));
        sim.expect_state(&app(), &all(3), QUIET_MAX);
    });
}

/// Plugins that come and go until a device has held more replicas than it holds at once.
fn many_others(sim: &mut Sim, persist: bool) {
    for number in 0..80 {
        let other = spec(&format!("other{number}"));
        sim.add_plugin(0, other.clone());
        let config = StateConfig {
            persist,
            ..StateConfig::default()
        };
        sim.set_state_config(&other, config);
        sim.plugin_up(0, other.clone());
        sim.run_for(ms(20));
        sim.put(0, &other, Scope::Shared, "of another", 30)
            .expect("it runs");
        sim.run_for(ms(20));
        sim.plugin_down(0, &other);
    }
}

/// A device alone, so that nobody else has it.
#[test]
fn what_a_plugin_kept_is_there_when_it_comes_back_after_many_others() {
    let name = "what_a_plugin_kept_is_there_when_it_comes_back_after_many_others";
    scenario(name, 2, |seed| {
        for others_persist in [false, true] {
            let config = StateConfig {
                persist: true,
                ..StateConfig::default()
            };
            let (mut sim, _) = formed(name, seed, 1, config);
            let written = write_all(&mut sim, 0, "kept");
            sim.run_for(ms(20));
            sim.plugin_down(0, &app());
            many_others(&mut sim, others_persist);
            sim.plugin_up(0, app());
            settle(&mut sim, &[0], secs(10));
            expect_all(&sim, &[0], "kept", &written, 7);
            let again = write_all(&mut sim, 0, "again");
            sim.run_for(secs(2));
            sim.restart(0, secs(1));
            settle(&mut sim, &[0], secs(10));
            expect_all(&sim, &[0], "kept", &written, 14);
            expect_all(&sim, &[0], "again", &again, 14);
        }
    });
}

/// What it writes then has numbers that the others know for other entries, unless it begins anew.
#[test]
fn a_plugin_that_comes_back_after_many_others_is_heard() {
    let name = "a_plugin_that_comes_back_after_many_others_is_heard";
    scenario(name, 2, |seed| {
        for persist in [false, true] {
            let config = StateConfig {
                persist,
                ..StateConfig::default()
            };
            let (mut sim, _) = formed(name, seed, 2, config);
            let (home, other) = (0, 1);
            for round in 0..3 {
                for key in ["one", "two"] {
                    put(&mut sim, home, Scope::Shared, key, 30);
                    put(&mut sim, home, Scope::Device, key, 30);
                }
                sim.add_to(home, &app(), "kept", 7).expect("within quotas");
                let (leader, _) = sim.agree(&app(), &all(2)).expect("they agree");
                put(&mut sim, leader, Scope::Leader, "led", 30);
                sim.run_for(secs(3));
                assert_eq!(sim.counter(other, &app(), "kept"), 7 * (round + 1));
                sim.plugin_down(home, &app());
                many_others(&mut sim, persist);
                sim.plugin_up(home, app());
                settle(&mut sim, &all(2), secs(20));
                sim.expect_state(&app(), &all(2), QUIET_MAX);
                let number = put(&mut sim, home, Scope::Shared, "one", 40);
                let own = put(&mut sim, home, Scope::Device, "one", 40);
                everywhere(&mut sim, &all(2), number, secs(3));
                everywhere(&mut sim, &all(2), own, secs(3));
            }
        }
    });
}
