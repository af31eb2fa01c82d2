//! Groups that come into being: by multicast, by seeds, alone, beside another group.

use consort_proto::PeerState;
use consort_scenarios::{FORM_MAX, agree, all, app, form, group, ms, secs, settle};
use consort_sim::{Link, Seed, SimBuilder, scenario};

fn group_forms(name: &str, seed: Seed, count: usize) {
    let mut sim = group(name, seed, count).build();
    let (leader, _) = form(&mut sim);
    sim.run_for(secs(20));
    let after = sim.agree(&app(), &all(count)).map(|(leader, _)| leader);
    sim.expect(after == Some(leader), "the first common leader stays");
    for node in 0..count {
        let others = (0..count).filter(|other| *other != node).collect();
        sim.expect(sim.members_seen(node) == others, "all are members of all");
        let status = sim.status(node).expect("it runs");
        assert_eq!(status.device, sim.id(node));
        assert!(
            status
                .peers
                .iter()
                .all(|peer| peer.state == PeerState::Member),
            "{status:?}"
        );
    }
}

#[test]
fn two_form_a_group() {
    scenario("two_form_a_group", 20, |seed| {
        group_forms("two_form_a_group", seed, 2)
    });
}

#[test]
fn five_form_a_group() {
    scenario("five_form_a_group", 10, |seed| {
        group_forms("five_form_a_group", seed, 5)
    });
}

#[test]
fn twenty_five_form_a_group() {
    let name = "twenty_five_form_a_group";
    scenario(name, 2, |seed| group_forms(name, seed, 25));
}

#[test]
fn forty_form_a_group_on_toy_primitives() {
    let name = "forty_form_a_group_on_toy_primitives";
    scenario(name, 1, |seed| group_forms(name, seed, 40));
}

#[test]
fn five_form_a_group_over_a_bad_network() {
    let name = "five_form_a_group_over_a_bad_network";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 5)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(5), secs(20));
    });
}

#[test]
fn seeds_join_what_multicast_does_not_reach() {
    let name = "seeds_join_what_multicast_does_not_reach";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 3)
            .device(1, |device| {
                device.segment = 1;
                device.seeds = vec![SimBuilder::address(0)];
            })
            .device(2, |device| {
                device.segment = 2;
                device.seeds = vec![SimBuilder::address(0)];
            })
            .build();
        form(&mut sim);
    });
}

#[test]
fn one_without_a_secret_leads_at_once() {
    let name = "one_without_a_secret_leads_at_once";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 1)
            .device(0, |device| device.group = None)
            .build();
        sim.start(0);
        sim.expect(sim.leads(0, &app()), "it leads without waiting");
        let numbers = [
            sim.broadcast(0, &app(), 100).expect("it leads"),
            sim.send_to_leader(0, &app(), 100).expect("it leads"),
            sim.send(0, &app(), 0, 100).expect("it is its own peer"),
            sim.send_to_all(0, &app(), 100).expect("it is up"),
        ];
        sim.run_for(ms(10));
        for number in numbers {
            assert_eq!(
                sim.receivers(number),
                [0],
                "message {number} of {numbers:?}"
            );
        }
        sim.run_for(secs(60));
        assert_eq!(sim.promotions(&app()), 1);
        assert_eq!(sim.stats().datagrams, 0, "a group of one sends nothing");
    });
}

#[test]
fn one_with_a_secret_leads_after_discovery() {
    let name = "one_with_a_secret_leads_after_discovery";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 1).build();
        sim.start(0);
        let took = sim.expect_within(secs(4), "it leads alone", |sim| sim.leads(0, &app()));
        assert!(
            took >= ms(1900),
            "it waits one discovery round, not {took:?}"
        );
        let number = sim.broadcast(0, &app(), 50).expect("it leads");
        sim.run_for(secs(30));
        assert_eq!(sim.receivers(number), [0]);
        assert_eq!(sim.promotions(&app()), 1);
    });
}

#[test]
fn groups_with_different_secrets_never_meet() {
    let name = "groups_with_different_secrets_never_meet";
    scenario(name, 5, |seed| {
        let builder = group(name, seed, 6);
        let other = builder.secret(1);
        let mut sim = (3..6)
            .fold(builder, |builder, node| {
                builder.device(node, |device| {
                    device.group = Some(other.clone());
                    // Being told where the strangers are must not help.
                    device.seeds = vec![SimBuilder::address(0), SimBuilder::address(1)];
                })
            })
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &[0, 1, 2], FORM_MAX);
        settle(&mut sim, &[3, 4, 5], FORM_MAX);
        sim.run_for(secs(1));
        sim.reset_counts();
        sim.start_beat(&app(), secs(1), 100);
        sim.run_for(secs(120));
        for (nodes, strangers) in [([0, 1, 2], [3, 4, 5]), ([3, 4, 5], [0, 1, 2])] {
            sim.expect(
                sim.all_see_all(&app(), &nodes),
                "each group sees itself only",
            );
            for node in nodes {
                let status = sim.status(node).expect("it runs");
                let met = status.peers.iter().filter(|peer| {
                    strangers
                        .iter()
                        .any(|stranger| sim.id(*stranger) == peer.device)
                });
                assert_eq!(met.count(), 0, "n{node} knows a stranger: {status:?}");
            }
        }
        assert_eq!(sim.promotions(&app()), 0);
    });
}

#[test]
fn a_late_joiner_follows() {
    let name = "a_late_joiner_follows";
    scenario(name, 10, |seed| {
        let mut sim = group(name, seed, 4).build();
        for node in 0..3 {
            sim.start(node);
        }
        settle(&mut sim, &[0, 1, 2], FORM_MAX);
        sim.run_for(secs(30));
        let before = sim.agree(&app(), &[0, 1, 2]);
        sim.reset_counts();
        sim.start(3);
        settle(&mut sim, &all(4), secs(6));
        assert_eq!(
            sim.agree(&app(), &all(4)),
            before,
            "a joiner changes nothing"
        );
        assert_eq!(sim.promotions(&app()), 0);
    });
}

#[test]
fn different_plugins_have_leaders_of_their_own() {
    let name = "different_plugins_have_leaders_of_their_own";
    scenario(name, 5, |seed| {
        let other = consort_sim::spec("other");
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        for node in [1, 2] {
            sim.plugin_up(node, other.clone());
        }
        sim.expect_within(secs(4), "the second plugin has its leader", |sim| {
            sim.all_see_all(&other, &[1, 2]) && sim.agree(&other, &[1, 2]).is_some()
        });
        let mut apart = other.clone();
        apart.version.minor += 1;
        sim.plugin_up(3, apart.clone());
        sim.expect_within(
            secs(4),
            "an incompatible version is a group of its own",
            |sim| sim.all_see_all(&apart, &[3]) && sim.agree(&apart, &[3]).is_some(),
        );
        sim.expect(sim.all_see_all(&other, &[1, 2]), "the others do not see it");
        agree(&mut sim, &all(4), secs(1));
    });
}

#[test]
fn the_group_has_one_clock() {
    let name = "the_group_has_one_clock";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        form(&mut sim);
        sim.run_for(secs(60));
        let spread = sim.clock_spread(&all(5)).expect("all follow the reference");
        assert!(
            spread <= 1_000,
            "clocks lie {spread} µs apart on a link with 0.3 ms of jitter"
        );
    });
}

/// Devices of a later minor version, with messages and fields that the others do not know, are
/// members like all: they follow, lead and are followed.
#[test]
fn minor_versions_mix() {
    let name = "minor_versions_mix";
    scenario(name, 5, |seed| {
        let mut builder = group(name, seed, 5);
        for later in [1, 3, 4] {
            builder = builder.device(later, |device| device.later = true);
        }
        let mut sim = builder.build();
        sim.start_beat(&app(), ms(500), 64);
        form(&mut sim);
        let mut rest = all(5);
        while rest.len() > 2 {
            let (leader, _) = sim.agree(&app(), &rest).expect("they agree");
            sim.crash(leader);
            rest.retain(|node| *node != leader);
            agree(&mut sim, &rest, secs(3));
            settle(&mut sim, &rest, secs(15));
        }
        for node in rest {
            let counters = sim.status(node).expect("it runs").counters;
            sim.expect(counters.messages_unknown > 0, "what it did not know counts");
            sim.expect(counters.datagrams_refused == 0, "nothing is refused");
        }
    });
}

/// A device of another major version is no member, disturbs nobody, and is shown with the versions
/// that it speaks.
#[test]
fn a_device_of_another_version_is_named() {
    let name = "a_device_of_another_version_is_named";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 4)
            .device(3, |device| device.protocol = 2)
            .keep_text()
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(3), FORM_MAX);
        sim.run_for(secs(30));
        let foreign = sim.id(3);
        let wanted = PeerState::Incompatible {
            lowest: 2,
            highest: 2,
        };
        for node in all(3) {
            let status = sim.status(node).expect("it runs");
            let seen = status.peers.iter().find(|peer| peer.device == foreign);
            sim.expect(seen.map(|peer| peer.state) == Some(wanted), "it is shown");
        }
        let words = "speaks another version of the protocol";
        let text = sim.trace_text().unwrap_or_default();
        let told = text.lines().filter(|line| line.contains(words)).count();
        assert_eq!(told, 3, "each says so, once a minute");
        sim.expect(
            sim.promotions(&app()) == 2,
            "one leads the three, one itself",
        );
    });
}
