//! Replicated state over narrow links: catching up takes the room that is there, and no more than
//! that. What tells the members that the others live comes through beside it.

use std::sync::Arc;
use std::time::Duration;

use consort_proto::{Scope, StateConfig};
use consort_scenarios::state::{QUIET_MAX, everywhere, put};
use consort_scenarios::{all, app, form, group, ms, secs, settle};
use consort_sim::{Link, Seed, Sim, Toy, scenario};

/// The time from one heartbeat of a leader to the next.
const BEAT: Duration = ms(250);
/// The devices, of which the last one joins.
const DEVICES: usize = 10;
const JOINER: usize = DEVICES - 1;

/// The longest silence, and the longest round trip of a probe, on any of these devices' way to the
/// leader.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    silence: Duration,
    round_trip: Duration,
}

impl Worst {
    fn look(&mut self, sim: &Sim, leader: usize, nodes: &[usize]) {
        for node in nodes {
            let status = sim.status(*node).expect("it is up");
            let way = status
                .peers
                .iter()
                .find(|peer| peer.device == sim.id(leader));
            let way = way.unwrap_or_else(|| sim.fail(&format!("n{node} knows n{leader}")));
            self.silence = self.silence.max(way.last_heard.unwrap_or(Duration::MAX));
            let round_trip = way.round_trip_us.map(u64::from).map(Duration::from_micros);
            self.round_trip = self.round_trip.max(round_trip.unwrap_or_default());
        }
    }
}

/// Nine devices have 1 MiB, in so many values; a tenth one joins over links of so many bytes a
/// second. How long it took from its membership on, and the worst that followers and it saw.
fn joins(
    name: &str,
    seed: Seed,
    values: (usize, usize),
    bandwidth: u64,
) -> (Duration, Worst, Worst) {
    let link = Link {
        bandwidth: Some(bandwidth),
        ..Link::lan()
    };
    let mut sim = group(name, seed, DEVICES).crypto(Arc::new(Toy)).build();
    sim.set_state_config(
        &app(),
        StateConfig {
            quota: 4 << 20,
            ..StateConfig::default()
        },
    );
    all(JOINER).into_iter().for_each(|node| sim.start(node));
    settle(&mut sim, &all(JOINER), secs(15));
    let (count, length) = values;
    for piece in 0..count {
        put(
            &mut sim,
            piece % JOINER,
            Scope::Shared,
            &format!("piece {piece}"),
            length,
        );
        sim.run_for(Duration::from_micros(10 * length as u64));
    }
    sim.expect_state(&app(), &all(JOINER), secs(60));
    sim.set_links(link);
    sim.run_for(secs(5));
    sim.reset_counts();
    let before = sim.agree(&app(), &all(JOINER)).expect("they agree");
    let lost: Vec<u64> = all(JOINER)
        .iter()
        .map(|node| sim.members_lost(*node))
        .collect();
    sim.start(JOINER);
    let (mut followers, mut joiner) = (Worst::default(), Worst::default());
    let others: Vec<usize> = all(JOINER)
        .into_iter()
        .filter(|node| *node != before.0)
        .collect();
    let mut member_at = None;
    let took = loop {
        sim.run_for(ms(10));
        followers.look(&sim, before.0, &others);
        if sim.all_see_all(&app(), &all(DEVICES)) {
            member_at.get_or_insert(sim.now());
        }
        let Some(since) = member_at else { continue };
        joiner.look(&sim, before.0, &[JOINER]);
        let took = sim.now().since(since);
        if sim.same_state(&app(), &all(DEVICES)) {
            break took;
        }
        sim.expect(took < secs(60), "the joiner has all");
    };
    assert_eq!(
        sim.agree(&app(), &all(DEVICES)),
        Some(before),
        "the leader stays"
    );
    assert_eq!((sim.promotions(&app()), sim.demotions(&app())), (0, 0));
    for node in all(JOINER) {
        assert_eq!(sim.members_lost(node), lost[node], "n{node} missed nobody");
    }
    assert_eq!(sim.members_lost(JOINER), 0);
    sim.expect_state(&app(), &all(DEVICES), QUIET_MAX);
    (took, followers, joiner)
}

#[test]
fn a_joiner_on_narrow_links_starves_no_heartbeat() {
    let name = "a_joiner_on_narrow_links_starves_no_heartbeat";
    scenario(name, 2, |seed| {
        for megabits in [100, 10, 2] {
            for values in [(16, 64_000), (1000, 1024)] {
                let bandwidth = megabits * 125_000;
                let (took, followers, joiner) = joins(name, seed, values, bandwidth);
                println!(
                    "{megabits} Mbit/s, {} values: 1 MiB in {took:?}; followers {followers:?}, \
                     the joiner {joiner:?} (seed {seed})",
                    values.0
                );
                // Suspicion begins after three beats that are missed.
                assert!(followers.silence <= BEAT + BEAT / 2, "{followers:?}");
                assert!(joiner.silence <= BEAT * 2, "{joiner:?}");
                // Four times what the bytes take, and two seconds.
                let most = secs(2) + Duration::from_micros(4 * (1 << 20) * 8 / megabits);
                assert!(took <= most, "{took:?}, more than {most:?}");
            }
        }
    });
}

/// A value of 64 kB is longer than the queue of the link: what comes last of it is lost, each time
/// that it is sent.
#[test]
fn a_value_as_long_as_the_queue_passes() {
    let name = "a_value_as_long_as_the_queue_passes";
    scenario(name, 3, |seed| {
        let link = Link {
            bandwidth: Some(1_250_000),
            ..Link::lan()
        };
        let mut sim = group(name, seed, 3)
            .crypto(Arc::new(Toy))
            .link(link)
            .build();
        form(&mut sim);
        for (turn, writer) in [0, 1, 2, 0].into_iter().enumerate() {
            let key = format!("long {turn}");
            let number = put(&mut sim, writer, Scope::Shared, &key, 64 << 10);
            let took = everywhere(&mut sim, &all(3), number, secs(10));
            println!("64 KiB over 10 Mbit/s: {took:?} (seed {seed})");
            assert!(took <= secs(2), "{took:?}");
            sim.run_for(secs(2));
        }
        assert_eq!((sim.promotions(&app()), sim.demotions(&app())), (0, 0));
        sim.expect_state(&app(), &all(3), QUIET_MAX);
    });
}
