//! Leadership when nothing but devices and plugins fail: deaths, stops, faults, joiners, pauses.

use std::time::Duration;

use consort_scenarios::{
    FORM_MAX, agree, all, all_but, app, form, group, ms, mutate, secs, settle,
};
use consort_sim::{AppRole, Link, Plan, RunOptions, Seed, Sim, run_plan, scenario};

/// Fails unless exactly this many promotions to leader happened since the group formed.
fn expect_promotions(sim: &Sim, count: u64, what: &str) {
    sim.expect(
        sim.promotions(&app()) == count,
        &format!("{what}: {count} promotions in all"),
    );
}

#[test]
fn a_dead_leader_is_replaced() {
    let name = "a_dead_leader_is_replaced";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 5).build();
        sim.start_beat(&app(), secs(1), 64);
        let (leader, term) = form(&mut sim);
        sim.run_for(secs(10));
        sim.crash(leader);
        let rest = all_but(5, leader);
        agree(&mut sim, &rest, secs(2));
        let (_, after) = sim.agree(&app(), &rest).expect("they agree");
        sim.expect(after > term, "the term grew");
        expect_promotions(&sim, 1, "one death, one promotion");
        settle(&mut sim, &rest, secs(12));
    });
}

#[test]
fn a_dead_leader_is_replaced_over_a_bad_network() {
    let name = "a_dead_leader_is_replaced_over_a_bad_network";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 10)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(10), secs(20));
        let (leader, _) = sim.agree(&app(), &all(10)).expect("they agree");
        sim.run_for(secs(10));
        sim.crash(leader);
        sim.expect_within(secs(2), "one of the others leads", |sim| {
            all_but(10, leader)
                .iter()
                .any(|node| sim.leads(*node, &app()))
        });
        agree(&mut sim, &all_but(10, leader), secs(3));
    });
}

#[test]
fn deaths_of_followers_change_nothing() {
    let name = "deaths_of_followers_change_nothing";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let followers = all_but(5, before.0);
        sim.crash(followers[0]);
        let rest: Vec<usize> = all(5)
            .into_iter()
            .filter(|node| *node != followers[0])
            .collect();
        settle(&mut sim, &rest, secs(12));
        sim.crash(followers[1]);
        let rest: Vec<usize> = rest
            .into_iter()
            .filter(|node| *node != followers[1])
            .collect();
        settle(&mut sim, &rest, secs(12));
        assert_eq!(sim.agree(&app(), &rest), Some(before));
        expect_promotions(&sim, 0, "followers died");
    });
}

#[test]
fn the_last_one_leads() {
    let name = "the_last_one_leads";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 2).build();
        let (leader, _) = form(&mut sim);
        sim.crash(leader);
        let last = 1 - leader;
        sim.expect_within(secs(2), "the other leads", |sim| sim.leads(last, &app()));
        settle(&mut sim, &[last], secs(12));
    });
}

#[test]
fn an_orderly_stop_hands_over() {
    let name = "an_orderly_stop_hands_over";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(5));
        let asked = sim.now();
        sim.leave(leader);
        let rest = all_but(5, leader);
        agree(&mut sim, &rest, ms(500));
        let took = sim.now().since(asked);
        assert!(took < ms(500), "{took:?}");
        settle(&mut sim, &rest, secs(1));
        sim.expect_within(secs(2), "the leader is gone", |sim| !sim.is_up(leader));
        expect_promotions(&sim, 1, "one stop");
        sim.run_for(secs(30));
        expect_promotions(&sim, 1, "nothing follows");
    });
}

#[test]
fn an_orderly_stop_of_a_follower_is_quick_and_quiet() {
    let name = "an_orderly_stop_of_a_follower_is_quick_and_quiet";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        let leaver = all_but(4, before.0)[0];
        sim.leave(leaver);
        let rest = all_but(4, leaver);
        settle(&mut sim, &rest, ms(500));
        assert_eq!(sim.agree(&app(), &rest), Some(before));
        sim.run_for(secs(10));
        expect_promotions(&sim, 0, "a follower left");
    });
}

#[test]
fn all_stop_at_once() {
    let name = "all_stop_at_once";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        for node in 0..4 {
            sim.leave(node);
        }
        sim.expect_within(secs(2), "all are down", |sim| {
            (0..4).all(|node| !sim.is_up(node))
        });
    });
}

/// The leader's plugin faults and is back after `down`.
fn fault(sim: &mut Sim, leader: usize, down: Duration) {
    sim.plugin_fault(leader, &app());
    sim.run_for(down);
    sim.plugin_up(leader, app());
}

#[test]
fn a_short_fault_keeps_leadership_a_second_hands_over() {
    let name = "a_short_fault_keeps_leadership_a_second_hands_over";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        sim.run_for(secs(5));
        fault(&mut sim, before.0, ms(200));
        sim.run_for(secs(10));
        assert_eq!(
            sim.agree(&app(), &all(4)),
            Some(before),
            "200 ms keep leadership"
        );
        expect_promotions(&sim, 0, "a short fault");
        fault(&mut sim, before.0, ms(200));
        sim.expect_within(secs(2), "another leads", |sim| {
            sim.agree(&app(), &all(4))
                .is_some_and(|(leader, _)| leader != before.0)
        });
        sim.run_for(secs(10));
        expect_promotions(&sim, 1, "the second fault within a minute");
    });
}

#[test]
fn a_long_fault_hands_over() {
    let name = "a_long_fault_hands_over";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        let before = form(&mut sim);
        sim.run_for(secs(5));
        sim.plugin_fault(before.0, &app());
        agree(&mut sim, &all_but(4, before.0), secs(1));
        sim.run_for(secs(2));
        sim.plugin_up(before.0, app());
        settle(&mut sim, &all(4), secs(3));
        sim.run_for(secs(10));
        expect_promotions(&sim, 1, "one long fault");
    });
}

#[test]
fn a_plugin_that_goes_down_hands_over_and_leaves_its_group() {
    let name = "a_plugin_that_goes_down_hands_over_and_leaves_its_group";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(5));
        sim.plugin_down(leader, &app());
        let rest = all_but(4, leader);
        agree(&mut sim, &rest, ms(500));
        settle(&mut sim, &rest, secs(2));
        sim.expect(
            sim.members_seen(rest[0]).contains(&leader),
            "its device stays a member",
        );
        let by_then = sim.agree(&app(), &rest);
        sim.plugin_up(leader, app());
        settle(&mut sim, &all(4), secs(3));
        assert_eq!(
            sim.agree(&app(), &all(4)),
            by_then,
            "coming back changes nothing"
        );
    });
}

#[test]
fn a_restarted_device_comes_back() {
    let name = "a_restarted_device_comes_back";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(10));
        for (node, down) in [
            (leader, ms(300)),
            (all_but(5, leader)[0], ms(50)),
            (leader, secs(20)),
        ] {
            sim.restart(node, down);
            settle(&mut sim, &all(5), secs(10));
            sim.run_for(secs(5));
            sim.expect(sim.agree(&app(), &all(5)).is_some(), "it lasts");
        }
    });
}

#[test]
fn all_restart_at_once_in_higher_terms() {
    let name = "all_restart_at_once_in_higher_terms";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).build();
        let (_, mut term) = form(&mut sim);
        for _ in 0..3 {
            sim.run_for(secs(10));
            for node in 0..4 {
                sim.crash(node);
            }
            sim.start_all(ms(200));
            sim.run_for(ms(300));
            settle(&mut sim, &all(4), FORM_MAX);
            let (_, after) = sim.agree(&app(), &all(4)).expect("they agree");
            sim.expect(after > term, "terms grow over restarts of all");
            term = after;
        }
    });
}

#[test]
fn a_joiner_with_a_larger_epoch_raises_the_term_only() {
    let name = "a_joiner_with_a_larger_epoch_raises_the_term_only";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5).build();
        // Device 4 leads alone through many restarts, so its epochs run ahead of the others'.
        sim.partition(&[&[4]]);
        for _ in 0..4 {
            sim.start(4);
            sim.expect_within(secs(4), "it leads alone", |sim| sim.leads(4, &app()));
            sim.run_for(secs(2));
            sim.leave_and_wait(4);
        }
        for node in 0..4 {
            sim.start(node);
        }
        settle(&mut sim, &all(4), FORM_MAX);
        let (leader, term) = sim.agree(&app(), &all(4)).expect("they agree");
        let (promotions, demotions) = (
            sim.app(leader, &app()).promotions,
            sim.app(leader, &app()).demotions,
        );
        sim.start(4);
        sim.expect_within(secs(4), "it leads alone again", |sim| sim.leads(4, &app()));
        let (_, ahead) = sim.leader_seen(4, &app()).expect("it leads");
        sim.expect(ahead > term, "the joiner's epoch is larger");
        sim.heal();
        settle(&mut sim, &all(5), secs(8));
        sim.run_for(secs(3));
        let (after, raised) = sim.agree(&app(), &all(5)).expect("they agree");
        assert_eq!(after, leader, "the one with more followers wins");
        sim.expect(raised > ahead, "it re-affirms above the joiner's epoch");
        let app_seen = sim.app(leader, &app());
        assert_eq!(
            (app_seen.promotions, app_seen.demotions),
            (promotions, demotions)
        );
    });
}

#[test]
fn a_leader_stopped_for_five_seconds_ends_as_one_of_one() {
    let name = "a_leader_stopped_for_five_seconds_ends_as_one_of_one";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 5).build();
        sim.start_beat(&app(), ms(500), 64);
        let (leader, _) = form(&mut sim);
        sim.run_for(secs(5));
        sim.pause(leader);
        agree(&mut sim, &all_but(5, leader), secs(2));
        sim.run_for(secs(3));
        sim.resume(leader);
        settle(&mut sim, &all(5), secs(5));
        sim.run_for(secs(10));
        sim.expect(sim.agree(&app(), &all(5)).is_some(), "it lasts");
    });
}

#[test]
fn a_follower_stopped_for_five_seconds_changes_nothing() {
    let name = "a_follower_stopped_for_five_seconds_changes_nothing";
    scenario(name, 20, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        sim.run_for(secs(5));
        let stopped = all_but(5, before.0)[0];
        sim.pause(stopped);
        sim.run_for(secs(5));
        sim.resume(stopped);
        settle(&mut sim, &all(5), secs(5));
        sim.run_for(secs(10));
        let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
        assert_eq!(leader, Some(before.0));
        let led = sim.app(before.0, &app()).demotions;
        assert_eq!(led, 0, "the leader was never demoted");
    });
}

#[test]
fn priority_decides_a_vacancy_and_nothing_else() {
    let name = "priority_decides_a_vacancy_and_nothing_else";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5).build();
        let before = form(&mut sim);
        let preferred = all_but(5, before.0)[2];
        let mut better = app();
        better.priority = 10;
        sim.plugin_up(preferred, better);
        sim.run_for(secs(30));
        assert_eq!(
            sim.agree(&app(), &all(5)),
            Some(before),
            "priority does not preempt"
        );
        sim.crash(before.0);
        agree(&mut sim, &all_but(5, before.0), secs(2));
        let role = &sim.app(preferred, &app()).view.role;
        sim.expect(
            matches!(role, AppRole::Leader(_)),
            "the highest priority takes the vacancy",
        );
    });
}

#[test]
fn a_full_disk_stops_no_election() {
    let name = "a_full_disk_stops_no_election";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4).build();
        let (leader, _) = form(&mut sim);
        for node in 0..4 {
            sim.set_disk_full(node, true);
        }
        sim.crash(leader);
        agree(&mut sim, &all_but(4, leader), secs(2));
    });
}

/// How a device is away for a minute.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// Its process is stopped, and its socket keeps what comes, as far as it has room.
    Stopped,
    /// The same, but nothing is left in the socket.
    StoppedAndUnplugged,
    /// The whole device sleeps.
    Suspended,
}

/// The leader is away for a minute: another one leads meanwhile, and it goes on with no more than a
/// look around. How long it holds itself for the leader then.
fn leader_away_for_a_minute(sim: &mut Sim, away: Away) -> Duration {
    sim.start_beat(&app(), ms(200), 64);
    let (former, term) = form(sim);
    let rest = all_but(5, former);
    match away {
        Away::Stopped => sim.pause(former),
        Away::StoppedAndUnplugged => {
            sim.pause(former);
            sim.partition(&[&[former]]);
        }
        Away::Suspended => sim.suspend(former),
    }
    sim.run_for(secs(60));
    let new = sim.agree(&app(), &rest).expect("another one leads");
    sim.expect(new.1 > term, "in a later term");
    sim.reset_counts();
    sim.heal();
    sim.resume(former);
    let refused = sim.broadcast(former, &app(), 64).is_err();
    sim.expect(
        refused || !sim.leads(former, &app()),
        "it broadcasts nothing",
    );
    let took = sim.expect_within(secs(5), "it leads no longer", |sim| {
        !sim.leads(former, &app())
    });
    settle(sim, &all(5), secs(12));
    sim.run_for(secs(5));
    let leader = sim.agree(&app(), &all(5)).map(|(leader, _)| leader);
    sim.expect(leader == Some(new.0), "the new one leads on");
    sim.expect(sim.app(new.0, &app()).demotions == 0, "all the while");
    took
}

#[test]
fn a_leader_away_for_a_minute_comes_back_as_a_follower() {
    let name = "a_leader_away_for_a_minute_comes_back_as_a_follower";
    scenario(name, 6, |seed| {
        for away in [Away::Stopped, Away::StoppedAndUnplugged, Away::Suspended] {
            for loss in [0.0, 0.2] {
                let link = Link::lan().with_loss(loss);
                let mut sim = group(name, seed, 5).link(link).build();
                let took = leader_away_for_a_minute(&mut sim, away);
                println!("{away:?}, loss {loss}: {took:?} (seed {seed})");
                // One packet of the new leader, after a handshake with it: 0.5 ms each way.
                let limit = if loss == 0.0 { ms(60) } else { secs(1) };
                sim.expect(took <= limit, &format!("two leaders for {took:?}"));
            }
        }
    });
}

/// Device 0 hears device 2 alone, which follows device 1 in one plugin and leads in the other.
/// Apart from both it led in an epoch that device 1 led in too.
const EQUAL_EPOCHS: &str = r#"
v = 1
nodes = 4
for = "60s"

[[plugin]]
id = "app"

[[plugin]]
id = "lamp"

[[device]]
index = 1
plugin = [{ id = "app", priority = 5 }, { id = "lamp" }]

[[device]]
index = 2
plugin = [{ id = "app" }, { id = "lamp", priority = 5 }]

[[device]]
index = 3
plugin = [{ id = "app", priority = 9 }, { id = "lamp" }]

[[step]]
at = "15s"
crash = 3

[[step]]
at = "15s"
cut = { from = 0, to = "all", both = true }

[[step]]
at = "20s"
mend = { from = 0, to = 2, both = true }

[[expect]]
at = "20s"
within = "5s"
one_leader = [0, 1, 2]
"#;

#[test]
fn a_leader_that_is_heard_through_others_learns_what_is_in_the_way_of_following_it() {
    mutate();
    let plan = Plan::from_toml(EQUAL_EPOCHS).expect("it is well formed");
    for number in 0..20 {
        let seed = Seed::of("equal epochs", number);
        let outcome = run_plan(&plan, seed, RunOptions::default());
        assert_eq!(outcome.violations, [], "{seed}: {}", outcome.state);
    }
}
