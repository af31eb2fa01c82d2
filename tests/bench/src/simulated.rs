//! Groups in virtual time: the daemon's protocol, without processes and sockets.

use std::time::{Duration, Instant};

use consort_proto::Time;
use consort_sim::{Link, Recorded, Seed, Sim, spec};

use crate::Simulated;
use crate::samples::Samples;

const SECOND: Duration = Duration::from_secs(1);
/// For how long halves are apart, and how long they may take to come together.
const APART: Duration = Duration::from_secs(20);
const HEAL_MAX: Duration = Duration::from_secs(60);
/// How long a group may take to form.
const FORM_MAX: Duration = Duration::from_secs(120);

fn group(setting: &Simulated, name: &str, seed: Seed) -> Sim {
    let mut sim = Sim::builder(name, seed)
        .devices(setting.nodes)
        .plugin(spec("app"))
        .link(Link::lan().with_loss(f64::from(setting.loss) / 100.0))
        .build();
    sim.start_all(Duration::from_millis(500));
    let all: Vec<usize> = (0..setting.nodes).collect();
    sim.expect_within(FORM_MAX, "one group", |sim| {
        sim.agree(&spec("app"), &all).is_some() && sim.all_see_all(&spec("app"), &all)
    });
    sim.run_for(SECOND * 10);
    sim
}

fn title(setting: &Simulated, what: &str) -> String {
    format!(
        "{what}, {} devices, {} % loss (simulated)",
        setting.nodes, setting.loss
    )
}

pub(crate) fn heal(setting: &Simulated) -> Option<()> {
    let plugin = spec("app");
    let all: Vec<usize> = (0..setting.nodes).collect();
    let (left, right) = all.split_at(setting.nodes / 2);
    let mut samples = Samples::default();
    let mut sim = group(setting, "heal", Seed(1));
    let started = Instant::now();
    for _ in 0..setting.times {
        sim.partition(&[left, right]);
        sim.run_for(APART);
        sim.heal();
        let took = sim.expect_within(HEAL_MAX, "one leader after the heal", |sim| {
            sim.agree(&plugin, &all).is_some()
        });
        samples.add(took);
        sim.expect_within(HEAL_MAX, "all see all", |sim| {
            sim.all_see_all(&plugin, &all)
        });
        sim.run_for(SECOND * 5);
    }
    samples.print(&title(setting, "two halves -> one leader"));
    pace(&sim, started);
    Some(())
}

pub(crate) fn false_alarms(setting: &Simulated) -> Option<()> {
    let plugin = spec("app");
    let mut sim = group(setting, "false", Seed(2));
    sim.reset_counts();
    let (before, started) = (sim.stats().removals, Instant::now());
    sim.run_for(SECOND * 3600 * setting.times);
    println!(
        "{}: {} promotions, {} demotions, {} removals in {} h",
        title(setting, "nothing happens"),
        sim.promotions(&plugin),
        sim.demotions(&plugin),
        sim.stats().removals - before,
        setting.times
    );
    pace(&sim, started);
    Some(())
}

pub(crate) fn replay(setting: &Simulated) -> Option<()> {
    let (mut offered, mut accepted) = (0_u64, 0_u64);
    for round in 0..setting.times {
        let mut sim = Sim::builder("replay", Seed(u64::from(round)))
            .devices(setting.nodes)
            .plugin(spec("app"))
            .record()
            .build();
        sim.start_all(Duration::from_millis(500));
        sim.start_beat(&spec("app"), SECOND / 10, 200);
        sim.run_for(SECOND * 20);
        // What is still under way is not yet a copy of anything.
        let arrived = |copy: &&Recorded| sim.now().since(copy.at) > SECOND && !is_beacon(copy);
        let kept: Vec<Recorded> = sim.recorded().iter().filter(arrived).cloned().collect();
        // Within one instant nothing but the copies arrives.
        let before = turned_away(&sim, setting.nodes);
        for copy in &kept {
            sim.inject(copy.to, sim.address(copy.from), copy.payload.clone());
        }
        let refused = turned_away(&sim, setting.nodes) - before;
        offered += kept.len() as u64;
        accepted += (kept.len() as u64).saturating_sub(refused);
    }
    println!(
        "{}: {accepted} of {offered} recorded datagrams accepted again",
        title(setting, "replay")
    );
    Some(())
}

/// A beacon is a hint to anyone who hears it, however often.
fn is_beacon(datagram: &Recorded) -> bool {
    datagram
        .payload
        .first()
        .is_some_and(|first| first & 15 == 1)
}

/// Datagrams that the devices refused or knew for copies.
fn turned_away(sim: &Sim, nodes: usize) -> u64 {
    let counters = (0..nodes).filter_map(|node| Some(sim.status(node)?.counters));
    counters
        .map(|counters| counters.datagrams_refused + counters.datagrams_replayed)
        .sum()
}

fn pace(sim: &Sim, started: Instant) {
    let wall = started.elapsed().as_secs_f64();
    let simulated = sim.now().since(Time::ZERO).as_secs_f64();
    println!("  {simulated:.0} simulated seconds, the measured part took {wall:.1} s");
}
