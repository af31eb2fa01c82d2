//! Group time: one pace, one era, no jumps, and an error that is no larger than what is said.
//!
//! That it never runs back, that it does not jump within an era, and that every device is within
//! the bound that it states, the simulator checks in every run (host/sim, `sim/clocks.rs`).

use consort_proto::Time;
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, scenario};

/// What the devices' clocks are off by, in parts per million.
const DRIFTS: [i32; 5] = [200, -200, 0, -450, 450];
/// From 2026 to 2038, in microseconds.
const TWELVE_YEARS: i64 = 12 * 365 * 86_400 * 1_000_000;

/// A group of five whose clocks drift.
fn drifting(name: &str, seed: consort_sim::Seed) -> Sim {
    let builder = group(name, seed, 5);
    (0..5)
        .fold(builder, |builder, node| {
            builder.device(node, |config| config.drift_ppm = DRIFTS[node])
        })
        .build()
}

/// The device that is the reference for all of `nodes`.
fn reference(sim: &Sim, nodes: &[usize]) -> usize {
    let leads = |node: &&usize| {
        let status = sim.clock_view(**node);
        status.is_some_and(|(view, _)| view.synchronised && view.error_bound == 0)
    };
    let found: Vec<usize> = nodes.iter().filter(leads).copied().collect();
    assert_eq!(found.len(), 1, "one reference");
    found[0]
}

/// Group time at a device.
fn shows(sim: &Sim, node: usize) -> u64 {
    sim.group_time(node).expect("it is up").0
}

/// How much faster than true time a device's group time runs, in parts per billion.
fn pace(sim: &Sim, node: usize) -> i64 {
    let (view, _) = sim.clock_view(node).expect("it is up");
    i64::from(DRIFTS[node]) * 1_000 + i64::from(view.rate_ppb)
}

/// How far a device's group time may be from its reference's by its own word.
fn stated(sim: &Sim, node: usize) -> u64 {
    let (view, local) = sim.clock_view(node).expect("it is up");
    view.error_bound_at(local)
}

/// How often group time was set back on any device, forming included.
fn set_backs(sim: &Sim) -> u64 {
    all(5).iter().map(|node| sim.set_backs(*node)).sum()
}

/// The largest spread of group time seen within `seconds`.
fn widest(sim: &mut Sim, nodes: &[usize], seconds: u64) -> u64 {
    let looks = (0..seconds * 7).map(|_| {
        sim.run_for(ms(143));
        sim.clock_spread(nodes).expect("all are synchronised")
    });
    looks.max().unwrap_or(0)
}

#[test]
fn devices_that_drift_share_one_time() {
    let name = "devices_that_drift_share_one_time";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        sim.run_for(secs(60));
        let spread = widest(&mut sim, &all(5), 60);
        assert!(spread <= 250, "{spread} µs apart with 0.3 ms of jitter");
        let leads = reference(&sim, &all(5));
        for node in all(5) {
            let off = pace(&sim, node) - pace(&sim, leads);
            assert!(off.abs() <= 15_000, "n{node} runs {off} ppb faster");
        }
    });
}

#[test]
fn a_device_that_loses_its_reference_keeps_the_pace() {
    let name = "a_device_that_loses_its_reference_keeps_the_pace";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        let formed = set_backs(&sim);
        sim.run_for(secs(90));
        let leads = reference(&sim, &all(5));
        let alone = (leads + 1) % 5;
        sim.partition(&[&[alone]]);
        sim.run_for(secs(60));
        let apart = shows(&sim, alone).abs_diff(shows(&sim, leads));
        assert!(apart <= 1_500, "{apart} µs apart after a minute");
        let (view, _) = sim.clock_view(alone).expect("it is up");
        assert!(view.synchronised, "it is its own reference");
        sim.heal();
        settle(&mut sim, &all(5), secs(20));
        sim.run_for(secs(10));
        let spread = widest(&mut sim, &all(5), 5);
        assert!(spread <= 250, "{spread} µs apart");
        assert_eq!(set_backs(&sim), formed, "nothing is set back");
    });
}

/// Others vouch for a leader, so a device follows one that it does not hear, and gets no samples.
#[test]
fn the_bound_grows_while_the_reference_is_out_of_hearing() {
    let name = "the_bound_grows_while_the_reference_is_out_of_hearing";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        let leads = reference(&sim, &all(5));
        let far = if leads == 3 { 4 } else { 3 };
        sim.cut(leads, far);
        let mut before = 0;
        for _ in 0..10 {
            sim.run_for(secs(2));
            let (error, bound) = sim.clock_error(far).expect("it follows still");
            assert!(bound > before, "it grows");
            assert!(error <= bound, "{error} µs off, said {bound}");
            before = bound;
        }
    });
}

#[test]
fn delays_that_differ_by_direction_stay_within_the_bound() {
    let name = "delays_that_differ_by_direction_stay_within_the_bound";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        let leads = reference(&sim, &all(5));
        for node in all_but(5, leads) {
            let slow = Link {
                delay: ms(12),
                jitter: ms(15),
                ..Link::lan()
            };
            sim.set_link(leads, node, slow);
        }
        sim.run_for(secs(60));
        for _ in 0..50 {
            sim.run_for(ms(317));
            for node in all_but(5, leads) {
                let (error, bound) = sim.clock_error(node).expect("it follows");
                assert!(error <= bound && bound <= 20_000, "{error} of {bound}");
            }
        }
    });
}

#[test]
fn group_time_goes_on_when_its_reference_dies() {
    let name = "group_time_goes_on_when_its_reference_dies";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        sim.run_for(secs(90));
        let first = reference(&sim, &all(5));
        let (began, showed, ran) = (sim.now(), shows(&sim, first), pace(&sim, first));
        let expected = |now: Time| {
            let passed = i64::try_from(now.since(began).as_micros()).expect("short");
            showed.saturating_add_signed(passed + passed * (ran / 1_000) / 1_000_000)
        };
        let mut left = all(5);
        for _ in 0..3 {
            let leads = reference(&sim, &left);
            sim.crash(leads);
            left.retain(|node| *node != leads);
            for _ in 0..20 {
                sim.run_for(ms(100));
                for node in &left {
                    let off = shows(&sim, *node).abs_diff(expected(sim.now()));
                    assert!(off <= 1_500, "n{node} is off by {off} µs");
                }
            }
            settle(&mut sim, &left, secs(10));
            sim.run_for(secs(20));
            let next = reference(&sim, &left);
            let off = pace(&sim, next) - ran;
            assert!(off.abs() <= 30_000, "the pace changed by {off} ppb");
        }
    });
}

/// Each device is within the bound that it states: of the dead reference's line until it knows of
/// another reference, of that one's from then on. And its time goes on at its pace, give or take the
/// slew: it neither jumps nor stands still.
#[test]
fn stated_bounds_hold_over_changes_of_reference() {
    let name = "stated_bounds_hold_over_changes_of_reference";
    scenario(name, 6, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        // From soon after the start, when the rates are hardly known, to where they are.
        sim.run_for(secs(5 + 20 * (seed.0 % 4)));
        let mut left = all(5);
        let (mut by_old, mut by_new) = (0, 0);
        for _ in 0..3 {
            let dies = reference(&sim, &left);
            let (began, showed, ran) = (sim.now(), shows(&sim, dies), pace(&sim, dies));
            let line = |now: Time| {
                let passed = i64::try_from(now.since(began).as_micros()).expect("short");
                showed.saturating_add_signed(passed + passed * ran / 1_000_000_000)
            };
            sim.crash(dies);
            left.retain(|node| *node != dies);
            let mut before: Vec<u64> = left.iter().map(|node| shows(&sim, *node)).collect();
            for look in 1..=50 {
                sim.run_for(ms(100));
                for (node, before) in left.iter().zip(&mut before) {
                    let now = shows(&sim, *node);
                    let passed = now.checked_sub(*before).expect("it does not run back");
                    // 1000 ppm of slew and 450 ppm of drift, of 100 ms.
                    assert!(passed.abs_diff(100_000) <= 150, "n{node}: {passed} µs");
                    *before = now;
                    // Nobody claims so soon.
                    if look <= 4 {
                        let (off, bound) = (now.abs_diff(line(sim.now())), stated(&sim, *node));
                        assert!(off <= bound + 3, "n{node} is off by {off} of {bound} µs");
                        by_old += 1;
                    } else if let Some((error, bound)) = sim.clock_error(*node) {
                        assert!(
                            error <= bound + 3,
                            "n{node} is off by {error} of {bound} µs"
                        );
                        by_new += 1;
                    }
                }
            }
            settle(&mut sim, &left, secs(10));
        }
        assert_eq!(by_old, 4 * (4 + 3 + 2), "all stated a bound");
        // All but the reference, from a second or two after the death on.
        assert!(by_new >= 25 * (3 + 2 + 1), "{by_new} bounds were looked at");
    });
}

#[test]
fn a_device_that_booted_alone_in_another_time_joins_the_group_s_era() {
    let name = "a_device_that_booted_alone_in_another_time_joins_the_group_s_era";
    scenario(name, 5, |seed| {
        for offset in [TWELVE_YEARS, -TWELVE_YEARS] {
            let mut sim = group(name, seed, 4)
                .device(3, |config| config.wall_offset = offset)
                .build();
            sim.partition(&[&[3]]);
            sim.start_all(ms(500));
            settle(&mut sim, &all(3), secs(8));
            sim.run_for(secs(10));
            let before = shows(&sim, 0);
            let (_, synchronised) = sim.group_time(3).expect("it is up");
            assert!(synchronised, "it is its own reference");
            assert!(shows(&sim, 3).abs_diff(before) > TWELVE_YEARS.unsigned_abs() / 2);
            sim.heal();
            settle(&mut sim, &all(4), secs(20));
            sim.run_for(secs(10));
            let spread = sim.clock_spread(&all(4)).expect("all are synchronised");
            assert!(spread <= 500, "{spread} µs apart");
            assert!(
                shows(&sim, 0).abs_diff(before) < 60_000_000,
                "the group's era stays"
            );
            let set_back = |node| sim.set_backs(node);
            let late = u64::from(offset > 0);
            assert_eq!(set_back(3), late, "once where it was ahead");
        }
    });
}

#[test]
fn a_device_that_stood_still_or_slept_is_on_time_again() {
    let name = "a_device_that_stood_still_or_slept_is_on_time_again";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        let formed = set_backs(&sim);
        sim.run_for(secs(60));
        for (round, sleeps) in [(0, false), (1, true), (2, true)] {
            let leads = reference(&sim, &all(5));
            let away = if round == 2 { leads } else { (leads + 1) % 5 };
            if sleeps {
                sim.suspend(away);
            } else {
                sim.pause(away);
            }
            sim.run_for(secs(30));
            sim.resume(away);
            settle(&mut sim, &all(5), secs(20));
            sim.run_for(secs(15));
            let spread = widest(&mut sim, &all(5), 3);
            assert!(spread <= 400, "round {round}: {spread} µs apart");
        }
        assert_eq!(set_backs(&sim), formed, "nothing is set back");
    });
}

#[test]
fn wall_clocks_that_are_set_change_nothing() {
    let name = "wall_clocks_that_are_set_change_nothing";
    scenario(name, 5, |seed| {
        let mut sim = drifting(name, seed);
        form(&mut sim);
        let formed = set_backs(&sim);
        sim.run_for(secs(60));
        for node in all(5) {
            let by = if node % 2 == 0 { 1 } else { -1 };
            sim.jump_clock(node, by * 3_600_000_000);
            let spread = widest(&mut sim, &all(5), 2);
            assert!(spread <= 250, "{spread} µs apart");
        }
        let deltas = sim.app(0, &app()).view.peers.values();
        let largest = deltas.map(|peer| peer.clock_delta.abs()).max();
        assert!(
            largest > Some(7_000_000_000),
            "the wall clocks' distance shows: {largest:?}"
        );
        assert_eq!(set_backs(&sim), formed, "nothing is set back");
    });
}
