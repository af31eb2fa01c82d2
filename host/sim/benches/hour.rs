//! What one simulated hour of a group costs in real time, and what the group sends in it.
//!
//! `cargo bench -p consort-sim --bench hour [-- NODES]`; 25 nodes unless told otherwise.

use std::time::{Duration, Instant};

use consort_sim::{Link, Seed, Sim, spec};

const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let nodes = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(25);
    let plugin = spec("app");
    let mut sim = Sim::builder("hour", Seed(1))
        .devices(nodes)
        .plugin(plugin.clone())
        .link(Link::lan())
        .build();
    sim.start_all(Duration::from_millis(500));
    sim.start_beat(&plugin, Duration::from_secs(1), 64);
    let started = Instant::now();
    sim.run_for(HOUR);
    let wall = started.elapsed().as_secs_f64();
    let all: Vec<usize> = (0..nodes).collect();
    let leader = sim.agree(&plugin, &all);
    let stats = sim.stats();
    let bytes: Vec<u64> = all
        .iter()
        .map(|node| sim.sent(*node).1 / HOUR.as_secs())
        .collect();
    let mean = bytes.iter().sum::<u64>() / bytes.len().max(1) as u64;
    println!("{nodes} nodes, one simulated hour: {wall:.2} s");
    println!(
        "datagrams {}, {:.1} MB",
        stats.datagrams,
        stats.bytes as f64 / 1e6
    );
    println!(
        "bytes per node and second: mean {mean}, least {}, most {}",
        bytes.iter().min().unwrap_or(&0),
        bytes.iter().max().unwrap_or(&0)
    );
    println!(
        "leader {leader:?}, promotions {}, messages {} of {}",
        sim.promotions(&plugin),
        sim.messages(&plugin),
        stats.deliveries_expected
    );
}
