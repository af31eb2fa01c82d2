//! Sessions in groups: how soon they open over a bad network, and that they are renewed without a
//! gap.

use std::cell::RefCell;
use std::time::Duration;

use consort_scenarios::{all, app, form, group, ms, secs, settle};
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

/// Sessions end at twenty minutes, so three hours of messages take nine renewals of each. The
/// network doubles and reorders, and whatever is sent arrives once.
#[test]
fn sessions_are_renewed_for_hours_without_a_gap() {
    let name = "sessions_are_renewed_for_hours_without_a_gap";
    scenario(name, 1, |seed| {
        let link = Link {
            duplicate: 0.2,
            reorder: 0.2,
            ..Link::lan()
        };
        let mut sim = group(name, seed, 3).link(link).build();
        form(&mut sim);
        sim.start_beat(&app(), ms(500), 64);
        sim.run_for(secs(3 * 3600));
        sim.stop_beats();
        sim.run_for(secs(1));
        let (got, expected) = (sim.messages(&app()), sim.stats().deliveries_expected);
        assert_eq!(got, expected, "sessions are renewed without a gap");
        assert_eq!(sim.promotions(&app()), 0);
    });
}

/// The same with a fifth of all datagrams lost: handshakes are lost as well, nobody is removed.
#[test]
fn sessions_are_renewed_over_a_bad_network() {
    let name = "sessions_are_renewed_over_a_bad_network";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 4)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(10));
        sim.reset_counts();
        sim.start_beat(&app(), secs(2), 64);
        for _ in 0..6 {
            sim.run_for(secs(1800));
            let before = sim.messages(&app());
            sim.run_for(secs(20));
            sim.expect(sim.messages(&app()) > before + 10, "messages flow");
        }
        settle(&mut sim, &all(4), secs(10));
    });
}
