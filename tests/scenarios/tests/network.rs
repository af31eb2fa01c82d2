//! Leadership on networks that lose, cut and divide.

use std::cell::Cell;
use std::sync::Arc;

use consort_proto::PluginEvent;
use consort_scenarios::{agree, all, all_but, app, form, group, ms, secs, settle};
use consort_sim::{Burst, Link, Sim, Toy, scenario};

#[test]
fn a_partition_has_two_leaders_and_heals_to_one() {
    let name = "a_partition_has_two_leaders_and_heals_to_one";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 5).build();
        sim.start_beat(&app(), ms(500), 64);
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(5));
        let others = all_but(5, leader);
        let (left, right) = (vec![leader, others[0]], others[1..].to_vec());
        sim.partition(&[&left, &right]);
        agree(&mut sim, &right, secs(2));
        settle(&mut sim, &right, secs(12));
        settle(&mut sim, &left, secs(12));
        assert_eq!(sim.leaders(&app()).len(), 2, "each side has its leader");
        let healed = sim.now();
        sim.heal();
        settle(&mut sim, &all(5), secs(5));
        let (winner, _) = sim.agree(&app(), &all(5)).expect("they agree");
        assert!(right.contains(&winner), "the side with more followers wins");
        loser_demotes_first(&sim, leader, healed);
        sim.run_for(secs(10));
        sim.expect(sim.agree(&app(), &all(5)).is_some(), "it lasts");
    });
}

#[test]
fn a_partition_that_outlasts_its_sessions_heals_too() {
    let name = "a_partition_that_outlasts_its_sessions_heals_too";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 6).build();
        form(&mut sim);
        let (left, right) = (vec![0, 1, 2], vec![3, 4, 5]);
        sim.partition(&[&left, &right]);
        settle(&mut sim, &left, secs(15));
        settle(&mut sim, &right, secs(15));
        sim.run_for(secs(60));
        let before = sim.sent(0).0;
        sim.run_for(secs(60));
        let each_second = (sim.sent(0).0 - before) / 60;
        sim.expect(each_second < 60, "no heartbeats go to those who are gone");
        sim.heal();
        settle(&mut sim, &all(6), secs(8));
    });
}

/// What the loser's plugin hears of leadership after the heal begins with its demotion.
fn loser_demotes_first(sim: &Sim, loser: usize, healed: consort_proto::Time) {
    let is_role = |event: &&PluginEvent| {
        matches!(
            event,
            PluginEvent::PromoteLeader(_)
                | PluginEvent::PromoteFollower(_)
                | PluginEvent::DemoteLeader
                | PluginEvent::DemoteFollower
        )
    };
    let since = sim
        .app(loser, &app())
        .events()
        .filter(|(at, _)| *at >= healed);
    let roles: Vec<&PluginEvent> = since.map(|(_, event)| event).filter(is_role).collect();
    let in_order = matches!(
        roles[..],
        [
            PluginEvent::DemoteLeader,
            PluginEvent::PromoteFollower(_),
            ..
        ]
    );
    assert!(in_order, "{roles:#?}");
}

#[test]
fn a_device_cut_off_for_a_while_comes_back() {
    let name = "a_device_cut_off_for_a_while_comes_back";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        let apart = all_but(4, before.0)[0];
        sim.partition(&[&[apart]]);
        sim.expect_within(secs(3), "it leads alone", |sim| sim.leads(apart, &app()));
        sim.run_for(secs(60));
        sim.heal();
        settle(&mut sim, &all(4), secs(5));
        let leader = sim.agree(&app(), &all(4)).map(|(leader, _)| leader);
        assert_eq!(leader, Some(before.0), "more followers win");
        assert_eq!(
            sim.app(before.0, &app()).demotions,
            0,
            "the winner is never demoted"
        );
    });
}

#[test]
fn repeated_partitions_of_two_always_heal() {
    let name = "repeated_partitions_of_two_always_heal";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 2).build();
        form(&mut sim);
        for _ in 0..10 {
            sim.partition(&[&[0], &[1]]);
            sim.run_for(secs(15));
            assert_eq!(sim.leaders(&app()), [0, 1]);
            sim.heal();
            settle(&mut sim, &all(2), secs(5));
        }
    });
}

#[test]
fn an_hour_at_twenty_percent_loss_changes_no_leader() {
    let name = "an_hour_at_twenty_percent_loss_changes_no_leader";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 5)
            .link(Link::lan().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(5), secs(20));
        sim.run_for(secs(10));
        let before = sim.agree(&app(), &all(5)).expect("they agree");
        let (promotions, followings) = roles(&sim);
        let messages = sim.messages(&app());
        sim.start_beat(&app(), secs(1), 64);
        sim.run_for(secs(3600));
        sim.expect(
            roles(&sim) == (promotions, followings),
            "no plugin was told of any change",
        );
        assert_eq!(sim.agree(&app(), &all(5)), Some(before));
        let share = (sim.messages(&app()) - messages) as f64 / (5.0 * 3600.0);
        assert!(
            (0.78..=1.0).contains(&share),
            "{share} of the broadcasts arrived"
        );
    });
}

fn roles(sim: &Sim) -> (u64, u64) {
    let followings = (0..sim.device_count())
        .map(|node| sim.app(node, &app()).followings)
        .sum::<u64>();
    (sim.promotions(&app()), followings)
}

#[test]
fn bursts_of_loss_change_no_leader() {
    let name = "bursts_of_loss_change_no_leader";
    scenario(name, 3, |seed| {
        // Every link is all but dead for 0.15 s every 2 s: 7 % of all is lost, in a row.
        let burst = Some(Burst {
            gap: secs(2),
            length: ms(150),
            loss: 0.95,
        });
        let mut sim = group(name, seed, 5)
            .link(Link {
                burst,
                ..Link::lan()
            })
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(5), secs(20));
        sim.run_for(secs(10));
        let before = roles(&sim);
        sim.start_beat(&app(), secs(1), 64);
        sim.run_for(secs(600));
        sim.expect(roles(&sim) == before, "no plugin was told of any change");
    });
}

/// Longer bursts, in which each link of ten devices is all but dead for 0.3 s every 3 s, each by
/// itself: a follower's leader may be silent for longer than it waits, and the probes lost besides.
/// Others hear the leader meanwhile, so nobody takes it from the group. `CONSORT_RUNS` for more.
#[test]
fn bursts_of_a_third_of_a_second_leave_the_leader_where_it_is() {
    let name = "bursts_of_a_third_of_a_second_leave_the_leader_where_it_is";
    let (changes, hours) = (Cell::new(0), Cell::new(0.0));
    scenario(name, 2, |seed| {
        let burst = Some(Burst {
            gap: secs(3),
            length: ms(300),
            loss: 0.95,
        });
        let link = Link {
            burst,
            ..Link::lan()
        };
        let mut sim = group(name, seed, 10)
            .crypto(Arc::new(Toy))
            .link(link)
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(10), secs(30));
        sim.run_for(secs(10));
        let (leader, _) = sim.agree(&app(), &all(10)).expect("they agree");
        sim.reset_counts();
        sim.run_for(secs(300));
        hours.set(hours.get() + 300.0 / 3600.0);
        let seen = sim.promotions(&app());
        if seen > 0 {
            println!("{seen} promotions beside a leader that lives (seed {seed})");
            changes.set(changes.get() + seen);
        }
        sim.expect(
            sim.app(leader, &app()).demotions == 0,
            "the leader is not demoted",
        );
    });
    let (changes, hours) = (changes.get(), hours.get());
    println!("{changes} false elections in {hours:.1} hours of bursts");
    assert_eq!(changes, 0, "nobody claims beside a leader that lives");
}

#[test]
fn a_dead_link_to_the_leader_changes_nothing_and_broadcasts_arrive() {
    let name = "a_dead_link_to_the_leader_changes_nothing_and_broadcasts_arrive";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        sim.run_for(secs(5));
        let cut_off = all_but(5, before.0)[0];
        sim.cut(before.0, cut_off);
        sim.run_for(secs(10));
        let numbers: Vec<u64> = (0..180)
            .filter_map(|_| {
                sim.run_for(secs(1));
                sim.broadcast(before.0, &app(), 64).ok()
            })
            .collect();
        sim.run_for(secs(1));
        let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
        assert_eq!(leader, Some(before.0), "{}", sim.describe());
        assert_eq!(sim.app(before.0, &app()).demotions, 0);
        assert_eq!(sim.app(cut_off, &app()).promotions, 0, "it never leads");
        let got = numbers
            .iter()
            .filter(|n| sim.receivers(**n).contains(&cut_off))
            .count();
        assert!(
            numbers.len() >= 178,
            "the leader was held {} times",
            180 - numbers.len()
        );
        assert!(
            got * 100 >= numbers.len() * 95,
            "{got} of {} relayed",
            numbers.len()
        );
    });
}

#[test]
fn a_one_way_link_to_the_leader_changes_nothing() {
    let name = "a_one_way_link_to_the_leader_changes_nothing";
    scenario(name, 5, |seed| {
        for to_leader in [true, false] {
            let mut sim = group(name, seed, 5).build();
            let before = form(&mut sim);
            sim.run_for(secs(5));
            let deaf = all_but(5, before.0)[0];
            let (from, to) = if to_leader {
                (deaf, before.0)
            } else {
                (before.0, deaf)
            };
            sim.cut_one_way(from, to);
            sim.run_for(secs(180));
            let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
            assert_eq!(
                leader,
                Some(before.0),
                "to the leader: {to_leader}\n{}",
                sim.describe()
            );
            assert_eq!(sim.app(before.0, &app()).demotions, 0);
        }
    });
}

#[test]
fn a_device_that_hears_nothing_does_not_disturb() {
    let name = "a_device_that_hears_nothing_does_not_disturb";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        let deaf = all_but(4, before.0)[0];
        for other in all_but(4, deaf) {
            sim.cut_one_way(other, deaf);
        }
        sim.run_for(secs(60));
        let rest = all_but(4, deaf);
        let leader = sim.agree(&app(), &rest).map(|(leader, _)| leader);
        assert_eq!(leader, Some(before.0), "{}", sim.describe());
        assert_eq!(sim.app(before.0, &app()).demotions, 0);
        sim.heal();
        settle(&mut sim, &all(4), secs(8));
    });
}

#[test]
fn a_follower_cut_off_five_seconds_of_every_minute_changes_no_leader() {
    let name = "a_follower_cut_off_five_seconds_of_every_minute_changes_no_leader";
    scenario(name, 2, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let apart = all_but(5, before.0)[0];
        for _ in 0..10 {
            sim.run_for(secs(55));
            sim.partition(&[&[apart]]);
            sim.run_for(secs(5));
            sim.heal();
            settle(&mut sim, &all(5), secs(5));
        }
        let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
        assert_eq!(leader, Some(before.0));
        assert_eq!(sim.app(before.0, &app()).demotions, 0);
    });
}

#[test]
fn a_divided_group_of_twenty_heals() {
    let name = "a_divided_group_of_twenty_heals";
    scenario(name, 2, |seed| {
        let mut sim = group(name, seed, 20).build();
        form(&mut sim);
        let parts: Vec<Vec<usize>> = (0..4)
            .map(|part| (0..20).filter(|node| node % 4 == part).collect())
            .collect();
        sim.partition(&[&parts[0], &parts[1], &parts[2], &parts[3]]);
        for part in &parts {
            settle(&mut sim, part, secs(15));
        }
        sim.heal();
        agree(&mut sim, &all(20), secs(5));
        settle(&mut sim, &all(20), secs(10));
    });
}

#[test]
fn random_faults_end_in_one_group() {
    let name = "random_faults_end_in_one_group";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 6).link(Link::wireless()).build();
        sim.start_beat(&app(), ms(500), 64);
        sim.start_all(ms(500));
        sim.run_for(secs(10));
        let mut rng = seed.stream("faults", 0);
        for _ in 0..40 {
            random_fault(&mut sim, &mut rng);
        }
        sim.heal();
        for node in 0..6 {
            sim.resume(node);
        }
        // Whoever was told to leave while it was paused leaves now.
        sim.run_for(secs(2));
        for node in 0..6 {
            if !sim.is_up(node) {
                sim.start(node);
            }
        }
        settle(&mut sim, &all(6), secs(20));
    });
}

fn random_fault(sim: &mut Sim, rng: &mut impl rand::RngExt) {
    let (node, other) = (rng.random_range(0..6), rng.random_range(0..6));
    match rng.random_range(0..8) {
        0 if sim.is_up(node) => sim.crash(node),
        1 if sim.is_up(node) => sim.leave(node),
        0..=2 if !sim.is_up(node) => sim.start(node),
        2 if sim.is_up(node) => sim.pause(node),
        3 => sim.cut_one_way(node, other),
        4 => sim.partition(&[&[node, other]]),
        5 => sim.heal(),
        6 if sim.is_up(node) => sim.resume(node),
        _ if sim.is_up(node) && !sim.is_paused(node) => {
            sim.plugin_fault(node, &app());
            sim.run_for(ms(rng.random_range(0..600)));
            if sim.is_up(node) {
                sim.plugin_up(node, app());
            }
        }
        _ => {}
    }
    sim.run_for(ms(rng.random_range(0..4_000)));
}

/// A device that claims and whom nobody hears, or that hears nobody, beats for those it misses for
/// half a minute after it has lost them; then it looks for them, and that is all that it sends.
#[test]
fn a_claimant_that_nobody_answers_falls_nearly_silent() {
    let name = "a_claimant_that_nobody_answers_falls_nearly_silent";
    scenario(name, 3, |seed| {
        for (deaf, mute) in [(true, false), (false, true), (true, true)] {
            let mut sim = group(name, seed, 10).build();
            let (alone, _) = form(&mut sim);
            for other in all_but(10, alone) {
                if deaf {
                    sim.cut_one_way(other, alone);
                }
                if mute {
                    sim.cut_one_way(alone, other);
                }
            }
            sim.run_for(secs(60));
            let sent = sim.sent(alone);
            sim.run_for(secs(300));
            let (datagrams, bytes) = sim.sent(alone);
            let rates = (
                (datagrams - sent.0) as f64 / 300.0,
                (bytes - sent.1) as f64 / 300.0,
            );
            println!("deaf {deaf}, mute {mute}: {rates:.1?} datagrams and bytes a second");
            sim.expect(rates.0 <= 12.0, &format!("{rates:?} a second"));
            sim.heal();
            settle(&mut sim, &all(10), secs(12));
        }
    });
}

#[test]
fn members_of_two_segments_that_move_while_apart_join_again() {
    let name = "members_of_two_segments_that_move_while_apart_join_again";
    scenario(name, 20, |seed| {
        let builder = group(name, seed, 2)
            .device(0, |device| device.names = vec![1])
            .device(1, |device| {
                device.names = vec![0];
                device.segment = 1;
            });
        let mut sim = builder.build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(2), secs(15));
        sim.run_for(secs(5));
        sim.partition(&[&[0], &[1]]);
        sim.run_for(secs(1));
        sim.readdress(0);
        sim.readdress(1);
        // Each misses the other, and keeps its session for half a minute.
        sim.run_for(secs(11));
        sim.heal();
        settle(&mut sim, &all(2), secs(12));
    });
}
