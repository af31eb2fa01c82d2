//! What one simulated second of a large group costs in real time: while it forms, and when it is
//! quiet; what changes in it that nothing called for; and how soon two halves of it have one leader
//! again.
//!
//! `cargo bench --profile dev -p consort-sim --bench scale [-- NODES [SECONDS [HEALS]]]`; 1000
//! nodes, 60 s and no heals unless told otherwise. Sealing is the simulator's toy, so the figures
//! are those of the protocol alone.

use std::time::{Duration, Instant};

use consort_proto::Time;
use consort_sim::{Link, Seed, Sim, Toy, spec};

const STEP: Duration = Duration::from_secs(5);
/// From then on a group counts as formed: what changes is not called for.
const FORMED: Duration = Duration::from_secs(30);
/// For how long halves are apart.
const APART: Duration = Duration::from_secs(20);
/// How long they may take to come together.
const HEAL_MAX: Duration = Duration::from_secs(60);

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<u64>().ok());
    let nodes = numbers.next().unwrap_or(1000) as usize;
    let seconds = numbers.next().unwrap_or(60);
    let plugin = spec("app");
    let mut sim = Sim::builder("scale", Seed(1))
        .devices(nodes)
        .plugin(plugin.clone())
        .crypto(std::sync::Arc::new(Toy))
        .link(Link::lan())
        .build();
    sim.start_all(Duration::from_millis(500));
    let all: Vec<usize> = (0..nodes).collect();
    let heals = numbers.next().unwrap_or(0);
    let (started, mut datagrams, mut bytes, mut removals) = (Instant::now(), 0, 0, 0);
    for step in 1..=seconds / STEP.as_secs() {
        let before = Instant::now();
        sim.run_for(STEP);
        let wall = before.elapsed().as_secs_f64();
        if sim.now() == Time::ZERO + FORMED {
            sim.reset_counts();
            removals = sim.stats().removals;
        }
        let sent = sim.stats().datagrams - datagrams;
        datagrams += sent;
        let sent_bytes = sim.stats().bytes - bytes;
        bytes += sent_bytes;
        println!(
            "to {:>4} s: {wall:7.2} s of real time, {:5.2} simulated seconds per second, {:>8} datagrams of {sent_bytes:>10} bytes, {:5.2} µs each, {:?}",
            step * STEP.as_secs(),
            STEP.as_secs_f64() / wall,
            sent,
            wall * 1e6 / sent.max(1) as f64,
            sim.agree(&plugin, &all),
        );
    }
    let wall = started.elapsed().as_secs_f64();
    println!(
        "{nodes} nodes: {seconds} simulated seconds in {wall:.1} s, {:.2} per second",
        seconds as f64 / wall
    );
    println!(
        "after {FORMED:?}: {} promotions, {} demotions, {} removals",
        sim.promotions(&plugin),
        sim.demotions(&plugin),
        sim.stats().removals - removals,
    );
    let (left, right) = all.split_at(nodes / 2);
    for _ in 0..heals {
        let before = Instant::now();
        sim.partition(&[left, right]);
        sim.run_for(APART);
        sim.heal();
        let one = sim.expect_within(HEAL_MAX, "one leader after the heal", |sim| {
            sim.agree(&plugin, &all).is_some()
        });
        let rest = sim.expect_within(HEAL_MAX, "all see all", |sim| {
            sim.all_see_all(&plugin, &all)
        });
        println!(
            "apart for {APART:?}: one leader after {one:?}, all see all after {:?}; {:.1} s of real time",
            one + rest,
            before.elapsed().as_secs_f64()
        );
        sim.run_for(STEP);
    }
}
