//! Replicated state of devices that were away, for long or with clocks of their own.

use std::sync::Arc;

use consort_proto::{Origin, Scope, StateConfig};
use consort_scenarios::state::{
    QUIET_MAX, busy, common, everywhere, formed, put, quiet, superseded,
};
use consort_scenarios::{all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Edit, Kind, Sim, Toy, Workload, scenario};

/// Twelve years, in microseconds: to 2038.
const TWELVE_YEARS: i64 = 12 * 365 * 86_400_000_000;

/// Tombstones that live for a minute.
fn minute() -> StateConfig {
    StateConfig {
        keep_absent: secs(60),
        ..StateConfig::default()
    }
}

#[test]
fn a_deleted_key_does_not_return_with_a_replica_that_was_away_past_the_floor() {
    let name = "a_deleted_key_does_not_return_with_a_replica_that_was_away_past_the_floor";
    scenario(name, 4, |seed| {
        let (mut sim, leader) = formed(name, seed, 5, minute());
        let away = (leader + 1) % 5;
        let rest = all_but(5, away);
        let old = put(&mut sim, away, Scope::Shared, "old", 40);
        let led = put(&mut sim, leader, Scope::Leader, "led", 40);
        everywhere(&mut sim, &all(5), old, secs(3));
        everywhere(&mut sim, &all(5), led, secs(3));
        sim.run_for(secs(70));
        sim.partition(&[&[away]]);
        sim.run_for(secs(10));
        sim.delete(rest[0], &app(), Scope::Shared, "old")
            .expect("it is there");
        sim.delete(leader, &app(), Scope::Leader, "led")
            .expect("it leads");
        let mine = put(&mut sim, away, Scope::Shared, "mine", 40);
        let own = put(&mut sim, away, Scope::Device, "own", 40);
        sim.add_to(away, &app(), "count", 4).expect("within quotas");
        sim.run_for(secs(240));
        sim.heal();
        settle(&mut sim, &all(5), secs(30));
        sim.run_for(secs(5));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        assert_eq!(
            common(&sim, &all(5), Origin::Shared, "old"),
            None,
            "it stays deleted"
        );
        assert_eq!(
            common(&sim, &all(5), Origin::Leader, "led"),
            None,
            "it stays deleted"
        );
        assert_eq!(common(&sim, &all(5), Origin::Shared, "mine"), Some(mine));
        let origin = Origin::Device(sim.id(away));
        assert_eq!(common(&sim, &all(5), origin, "own"), Some(own));
        for node in 0..5 {
            assert_eq!(sim.counter(node, &app(), "count"), 4, "n{node}");
        }
    });
}

#[test]
fn halves_apart_for_longer_than_tombstones_live_end_in_one_state() {
    let name = "halves_apart_for_longer_than_tombstones_live_end_in_one_state";
    scenario(name, 4, |seed| {
        let (mut sim, _) = formed(name, seed, 6, minute());
        for key in ["left", "right", "both"] {
            put(&mut sim, 0, Scope::Shared, key, 40);
        }
        sim.run_for(secs(70));
        sim.partition(&[&[0, 1, 2], &[3, 4, 5]]);
        sim.run_for(secs(10));
        for (node, key) in [(1, "left"), (4, "right"), (1, "both"), (4, "both")] {
            sim.delete(node, &app(), Scope::Shared, key)
                .expect("it is there");
        }
        sim.start_writes(
            &app(),
            Workload {
                large: 0,
                ..busy(ms(200))
            },
        );
        sim.run_for(secs(240));
        sim.stop_writes();
        sim.run_for(secs(3));
        sim.heal();
        settle(&mut sim, &all(6), secs(30));
        sim.run_for(secs(5));
        quiet(&mut sim, &all(6));
        let (leader, _) = sim.agree(&app(), &all(6)).expect("they agree");
        let won = if leader < 3 { "left" } else { "right" };
        assert_eq!(
            common(&sim, &all(6), Origin::Shared, won),
            None,
            "the winners' deletion"
        );
        assert_eq!(common(&sim, &all(6), Origin::Shared, "both"), None);
    });
}

#[test]
fn a_device_that_booted_alone_in_2038_poisons_nobody() {
    let name = "a_device_that_booted_alone_in_2038_poisons_nobody";
    scenario(name, 4, |seed| {
        let mut sim = group(name, seed, 5)
            .crypto(Arc::new(Toy))
            .device(4, |config| config.wall_offset = TWELVE_YEARS)
            .build();
        sim.partition(&[&[4]]);
        sim.start_all(ms(300));
        settle(&mut sim, &all(4), secs(10));
        sim.run_for(secs(5));
        let mine = put(&mut sim, 4, Scope::Shared, "mine", 40);
        put(&mut sim, 4, Scope::Shared, "both", 40);
        put(&mut sim, 0, Scope::Shared, "both", 50);
        sim.add_to(4, &app(), "count", 1).expect("within quotas");
        sim.run_for(secs(3));
        sim.heal();
        settle(&mut sim, &all(5), secs(30));
        sim.run_for(secs(10));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        assert_eq!(common(&sim, &all(5), Origin::Shared, "mine"), Some(mine));
        for (node, key) in [(0, "mine"), (1, "both"), (4, "late")] {
            let number = put(&mut sim, node, Scope::Shared, key, 60);
            everywhere(&mut sim, &all(5), number, secs(5));
            sim.expect_state(&app(), &all(5), QUIET_MAX);
            assert_eq!(
                common(&sim, &all(5), Origin::Shared, key),
                Some(number),
                "{key}"
            );
        }
        for node in 0..5 {
            assert_eq!(sim.counter(node, &app(), "count"), 1, "n{node}");
        }
    });
}

/// Nobody is left who could write it anew, in the group's time.
#[test]
fn what_a_lost_device_wrote_in_2038_is_not_seen() {
    let name = "what_a_lost_device_wrote_in_2038_is_not_seen";
    scenario(name, 4, |seed| {
        let ahead = |config: &mut consort_sim::DeviceConfig| config.wall_offset = TWELVE_YEARS;
        let builder = group(name, seed, 5).crypto(Arc::new(Toy));
        let mut sim = builder.device(3, ahead).device(4, ahead).build();
        sim.partition(&[&[0, 1, 2], &[3, 4]]);
        sim.start_all(ms(300));
        settle(&mut sim, &all(3), secs(10));
        settle(&mut sim, &[3, 4], secs(10));
        put(&mut sim, 4, Scope::Shared, "both", 40);
        let held = put(&mut sim, 0, Scope::Shared, "both", 50);
        sim.run_for(secs(3));
        sim.crash(4);
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(10));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), Origin::Shared, "both"), Some(held));
    });
}

#[test]
fn what_a_clock_four_minutes_ahead_wrote_is_overwritten() {
    let name = "what_a_clock_four_minutes_ahead_wrote_is_overwritten";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4)
            .crypto(Arc::new(Toy))
            .device(3, |config| config.wall_offset = 240_000_000)
            .build();
        sim.partition(&[&[3]]);
        sim.start_all(ms(300));
        settle(&mut sim, &all(3), secs(10));
        sim.run_for(secs(5));
        let ahead = put(&mut sim, 3, Scope::Shared, "colour", 40);
        sim.run_for(secs(3));
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        everywhere(&mut sim, &all(4), ahead, secs(10));
        for node in [0, 1, 3] {
            let number = put(&mut sim, node, Scope::Shared, "colour", 60);
            everywhere(&mut sim, &all(4), number, secs(5));
        }
        sim.expect_state(&app(), &all(4), QUIET_MAX);
    });
}

#[test]
fn a_deletion_reaches_who_was_apart() {
    let name = "a_deletion_reaches_who_was_apart";
    scenario(name, 3, |seed| {
        let (mut sim, leader) = formed(name, seed, 4, StateConfig::default());
        let apart = (leader + 1) % 4;
        let rest = all_but(4, apart);
        for key in ["once", "twice"] {
            let number = put(&mut sim, apart, Scope::Shared, key, 40);
            everywhere(&mut sim, &all(4), number, secs(3));
        }
        sim.partition(&[&[apart]]);
        sim.run_for(secs(10));
        sim.delete(rest[0], &app(), Scope::Shared, "once")
            .expect("it is there");
        sim.delete(rest[1], &app(), Scope::Shared, "twice")
            .expect("it is there");
        sim.run_for(secs(20));
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        for key in ["once", "twice"] {
            assert_eq!(common(&sim, &all(4), Origin::Shared, key), None, "{key}");
        }
    });
}

#[test]
fn clocks_that_drift_by_200_ppm_change_nothing() {
    let name = "clocks_that_drift_by_200_ppm_change_nothing";
    scenario(name, 3, |seed| {
        let mut builder = group(name, seed, 5).crypto(Arc::new(Toy));
        for (node, ppm) in [(0, 200), (1, -200), (2, 100), (3, -100)] {
            builder = builder.device(node, |config| config.drift_ppm = ppm);
        }
        let mut sim = builder.build();
        form(&mut sim);
        sim.start_writes(
            &app(),
            Workload {
                expiring: 40,
                ..busy(ms(100))
            },
        );
        sim.run_for(secs(180));
        quiet(&mut sim, &all(5));
    });
}

/// A leader is apart for longer than deletions are remembered, and starts over: what the others took
/// over of its tenure comes back, and only what it wrote alone is reported as superseded.
#[test]
fn a_former_leader_that_starts_over_is_told_of_what_is_lost_and_no_more() {
    let name = "a_former_leader_that_starts_over_is_told_of_what_is_lost_and_no_more";
    scenario(name, 4, |seed| {
        let (mut sim, former) = formed(name, seed, 5, minute());
        let kept = put(&mut sim, former, Scope::Leader, "kept", 40);
        everywhere(&mut sim, &all(5), kept, secs(3));
        sim.run_for(secs(70));
        sim.partition(&[&[former]]);
        sim.run_for(secs(10));
        put(&mut sim, former, Scope::Leader, "alone", 40);
        sim.run_for(secs(240));
        sim.heal();
        settle(&mut sim, &all(5), secs(30));
        sim.run_for(secs(5));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        assert_eq!(common(&sim, &all(5), Origin::Leader, "kept"), Some(kept));
        assert_eq!(common(&sim, &all(5), Origin::Leader, "alone"), None);
        assert_eq!(superseded(&sim, former), ["alone"]);
    });
}

/// A device passes from the part that keeps what it wrote as the leader to one that never heard of
/// it, and is told so; then the parts meet. What it was told holds only if that part's leader stays.
#[test]
fn what_one_part_does_not_adopt_holds_if_the_other_part_stays() {
    let name = "what_one_part_does_not_adopt_holds_if_the_other_part_stays";
    scenario(name, 4, |seed| {
        let (mut sim, writer) = formed(name, seed, 5, StateConfig::default());
        let alone = (writer + 1) % 5;
        let rest = all_but(5, alone);
        sim.partition(&[&[alone]]);
        settle(&mut sim, &rest, secs(10));
        sim.run_for(secs(5));
        let led = put(&mut sim, writer, Scope::Leader, "led", 40);
        everywhere(&mut sim, &rest, led, secs(3));
        sim.plugin_fault(writer, &app());
        sim.run_for(secs(1));
        sim.plugin_up(writer, app());
        settle(&mut sim, &rest, secs(10));
        sim.partition(&[&[alone, writer]]);
        settle(&mut sim, &[alone, writer], secs(30));
        sim.run_for(secs(5));
        assert_eq!(superseded(&sim, writer), ["led"]);
        assert_eq!(sim.shown(writer, &app(), Origin::Leader, "led"), None);
        sim.heal();
        settle(&mut sim, &all(5), secs(30));
        sim.run_for(secs(5));
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        let (leader, _) = sim.agree(&app(), &all(5)).expect("they agree");
        let holds = (leader != alone && leader != writer).then_some(led);
        assert_eq!(common(&sim, &all(5), Origin::Leader, "led"), holds);
        assert!(holds.is_some(), "the larger part's leader stays");
    });
}

/// Device 3 is alone from the start, leads, writes `key` and deletes it; the leader of the other three
/// writes it too. Returns the number of that write.
fn delete_alone(sim: &mut Sim) -> u64 {
    sim.partition(&[&[3]]);
    sim.start_all(ms(300));
    settle(sim, &all(3), secs(10));
    settle(sim, &[3], secs(10));
    let (leader, _) = sim.agree(&app(), &all(3)).expect("they agree");
    let kept = put(sim, leader, Scope::Leader, "key", 40);
    put(sim, 3, Scope::Leader, "key", 40);
    sim.delete(3, &app(), Scope::Leader, "key")
        .expect("it leads");
    kept
}

/// A device deletes as the leader, alone and by a clock that is thirty hours behind. The time of those
/// that it meets has it forget the deletion before their table says that it does not hold.
#[test]
fn a_leaders_deletion_that_a_leap_of_time_ended_is_reported() {
    let name = "a_leaders_deletion_that_a_leap_of_time_ended_is_reported";
    scenario(name, 4, |seed| {
        let mut sim = group(name, seed, 4)
            .crypto(Arc::new(Toy))
            .device(3, |config| config.wall_offset = -30 * 3_600_000_000)
            .build();
        // A leader that has just sent news sends its table after this only, and the clock is set before.
        let seldom = StateConfig {
            interval: secs(3),
            ..StateConfig::default()
        };
        sim.set_state_config(&app(), seldom);
        let kept = delete_alone(&mut sim);
        sim.run_for(secs(5));
        sim.start_writes(
            &app(),
            Workload {
                kinds: vec![Kind::Shared],
                ..busy(ms(100))
            },
        );
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(5));
        quiet(&mut sim, &all(4));
        assert_eq!(common(&sim, &all(4), Origin::Leader, "key"), Some(kept));
        assert_eq!(superseded(&sim, 3), ["key"]);
    });
}

/// A device deletes as the leader, alone, and is alone until the deletion is forgotten. The table of the
/// group that it comes back to says that it does not hold.
#[test]
fn a_leaders_deletion_that_is_over_is_reported() {
    let name = "a_leaders_deletion_that_is_over_is_reported";
    scenario(name, 4, |seed| {
        let mut sim = group(name, seed, 4).crypto(Arc::new(Toy)).build();
        sim.set_state_config(&app(), minute());
        let kept = delete_alone(&mut sim);
        sim.run_for(secs(65));
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(5));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), Origin::Leader, "key"), Some(kept));
        assert_eq!(superseded(&sim, 3), ["key"]);
    });
}

/// What is to last for a minute lasts for about a minute, also where it was written by a clock that
/// was twelve years ahead.
#[test]
fn what_a_clock_in_2038_gave_a_minute_ends_after_a_minute() {
    let name = "what_a_clock_in_2038_gave_a_minute_ends_after_a_minute";
    scenario(name, 4, |seed| {
        let mut sim = group(name, seed, 4)
            .crypto(Arc::new(Toy))
            .device(3, |config| config.wall_offset = TWELVE_YEARS)
            .build();
        sim.partition(&[&[3]]);
        sim.start_all(ms(300));
        settle(&mut sim, &all(3), secs(10));
        sim.run_for(secs(5));
        let brief = Edit::Put {
            scope: Scope::Device,
            key: "brief".into(),
            len: 40,
            ttl: Some(secs(60)),
        };
        let brief = sim.edit(3, &app(), brief).expect("within quotas");
        put(&mut sim, 3, Scope::Device, "lasting", 40);
        sim.run_for(secs(3));
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(5));
        sim.expect(sim.set_backs(3) > 0, "its time was set back");
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        let origin = Origin::Device(sim.id(3));
        assert_eq!(common(&sim, &all(4), origin, "brief"), Some(brief));
        sim.run_for(secs(75));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), origin, "brief"), None);
        assert!(common(&sim, &all(4), origin, "lasting").is_some());
    });
}

/// A device whose clock is thirty hours behind deletes its own state while the others are down. They
/// start again by their own clocks, and their time, which it takes over, ends the deletion at once; it
/// is passed on all the same.
#[test]
fn a_deletion_that_a_leap_of_time_ends_reaches_the_others() {
    let name = "a_deletion_that_a_leap_of_time_ends_reaches_the_others";
    scenario(name, 4, |seed| {
        let mut sim = group(name, seed, 4)
            .crypto(Arc::new(Toy))
            .device(3, |config| config.wall_offset = -30 * 3_600_000_000)
            .build();
        let kept = StateConfig {
            persist: true,
            ..StateConfig::default()
        };
        sim.set_state_config(&app(), kept);
        sim.start(3);
        settle(&mut sim, &[3], secs(10));
        for node in all(3) {
            sim.start(node);
        }
        settle(&mut sim, &all(4), secs(30));
        let gone = put(&mut sim, 3, Scope::Device, "gone", 40);
        let stays = put(&mut sim, 3, Scope::Device, "stays", 40);
        everywhere(&mut sim, &all(4), gone, secs(3));
        everywhere(&mut sim, &all(4), stays, secs(3));
        sim.run_for(secs(3));
        for node in all(3) {
            sim.crash(node);
        }
        sim.partition(&[&[3]]);
        // What it deletes lies in a stream of its own.
        sim.restart(3, secs(1));
        sim.run_for(secs(5));
        sim.delete(3, &app(), Scope::Device, "gone")
            .expect("it is there");
        for node in all(3) {
            sim.start(node);
        }
        settle(&mut sim, &all(3), secs(10));
        sim.run_for(secs(5));
        sim.heal();
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(5));
        sim.expect(sim.set_backs(3) == 0, "its time was set forward");
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        let origin = Origin::Device(sim.id(3));
        assert_eq!(common(&sim, &all(4), origin, "gone"), None);
        assert_eq!(common(&sim, &all(4), origin, "stays"), Some(stays));
        // Nobody passes it on any longer, and all are still equal.
        sim.run_for(secs(130));
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), origin, "gone"), None);
    });
}
