//! What a write leaves behind on the disk: a second after it, the device may die at any point.
//!
//! The disks are as slow as they may be for that. The ledger holds every other write of these runs
//! to the same second.

use consort_proto::{Origin, Scope, StateConfig};
use consort_scenarios::state::{QUIET_MAX, busy, common, formed, put};
use consort_scenarios::{all, app, ms, secs, settle};
use consort_sim::{Seed, Sim, Workload, scenario};

/// What is promised.
const KEPT: core::time::Duration = secs(1);
/// The slowest disk for which it is.
const SLOW: core::time::Duration = ms(375);

/// Writes without end beside those that a scenario looks at, so that the disk is hardly ever idle.
fn many() -> Workload {
    Workload {
        keys: 3,
        ..busy(ms(30))
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
    sim.start_writes(&app(), many());
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
                sim.expect_within(secs(5), "the power goes", |sim| !sim.is_up(0));
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
                sim.expect_within(secs(5), "the power goes", |sim| !sim.is_up(left));
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
