//! Sessions in groups: how soon they open over a bad network, and that they are renewed without a
//! gap.

use std::cell::RefCell;
use std::time::Duration;

use consort_scenarios::{all, group, ms, secs, settle};
use consort_sim::{Link, scenario};

/// Prints the quantiles of what was measured, for the documents.
fn print_quantiles(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "{what}: {} runs, p50 {:?}, p90 {:?}, p99 {:?}, largest {:?}",
        took.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

/// At a fifth of all datagrams lost, a handshake's round fails with probability 0.36 and 45 pairs
/// must succeed.
#[test]
fn ten_devices_start_cold_over_a_bad_network() {
    let name = "ten_devices_start_cold_over_a_bad_network";
    let took = RefCell::new(Vec::new());
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 10)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        took.borrow_mut().push(settle(&mut sim, &all(10), secs(15)));
    });
    print_quantiles("cold start of 10 at 20 % loss", took.into_inner());
}
