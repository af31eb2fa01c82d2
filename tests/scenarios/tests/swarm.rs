//! Many drawn plans: topologies, links and faults that no scenario names.
//!
//! `CONSORT_RUNS` says how many seeds are run, 2,000 unless given; `CONSORT_FIRST` the first of
//! them; `CONSORT_THREADS` on how many threads. `CONSORT_SEED` runs a single one.

use std::time::Instant;

use consort_sim::Seed;
use consort_sim::swarm::{SwarmOptions, swarm};

const RUNS: u64 = 2_000;

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[test]
fn no_drawn_plan_breaks_a_property() {
    let runs = number("CONSORT_RUNS").unwrap_or(RUNS);
    let first = number("CONSORT_FIRST").unwrap_or(Seed(1));
    let mut options = SwarmOptions::new(first, runs);
    if let Some(seed) = number("CONSORT_SEED") {
        options = SwarmOptions::new(seed, 1);
    }
    options.threads = number("CONSORT_THREADS").unwrap_or(options.threads);
    let began = Instant::now();
    let report = swarm(&options, |done| {
        if done % 1_000 == 0 {
            let rate = done as f64 / began.elapsed().as_secs_f64();
            eprintln!("{done} seeds, {rate:.1} a second");
        }
    });
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} seeds in {took:.1} s on {} threads: {:.1} seeds a second; {} simulated hours, {} \
         datagrams, {} leader changes, {} heals",
        report.runs,
        options.threads,
        report.runs as f64 / took,
        report.simulated.as_secs() / 3600,
        report.datagrams,
        report.leader_changes,
        report.heals,
    );
    for failure in &report.failures {
        println!("\n{failure}");
        println!(
            "replay: cargo xtask swarm --seeds 1 --seed {}",
            failure.seed
        );
    }
    let seeds: Vec<String> = report.failures.iter().map(|f| f.seed.to_string()).collect();
    assert!(
        seeds.is_empty(),
        "seeds that break a property: {}",
        seeds.join(", ")
    );
}
