//! What one simulated second of a large group costs in real time: while it forms, and when it is
//! quiet.
//!
//! `cargo bench --profile dev -p consort-sim --bench scale [-- NODES [SECONDS]]`; 1000 nodes and
//! 60 s unless told otherwise. Sealing is the simulator's toy, so the figure is that of the
//! protocol alone.

use std::time::{Duration, Instant};

use consort_sim::{Link, Seed, Sim, Toy, spec};

const STEP: Duration = Duration::from_secs(5);

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
    let (started, mut datagrams) = (Instant::now(), 0);
    for step in 1..=seconds / STEP.as_secs() {
        let before = Instant::now();
        sim.run_for(STEP);
        let wall = before.elapsed().as_secs_f64();
        let sent = sim.stats().datagrams - datagrams;
        datagrams += sent;
        println!(
            "to {:>4} s: {wall:7.2} s of real time, {:5.2} simulated seconds per second, {:>8} datagrams, {:5.2} µs each, {:?}",
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
}
