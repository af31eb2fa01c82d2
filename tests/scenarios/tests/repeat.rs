//! One seed, one run: the whole trace repeats to the byte, and another seed gives another one.

use std::sync::Arc;

use consort_scenarios::{all_but, app, form, group, ms, secs};
use consort_sim::{Link, Seed, Sim, Toy};

/// A run with a little of everything.
fn run(seed: Seed, toy: bool) -> Sim {
    let mut builder = group("seed_gives", seed, 5)
        .link(Link::wireless())
        .keep_text();
    if toy {
        builder = builder.crypto(Arc::new(Toy));
    }
    let mut sim = builder.build();
    sim.start_beat(&app(), ms(300), 80);
    let (leader, _) = form(&mut sim);
    sim.run_for(secs(3));
    sim.partition(&[&[leader]]);
    sim.run_for(secs(10));
    sim.heal();
    sim.run_for(secs(5));
    sim.restart(all_but(5, leader)[0], ms(400));
    sim.run_for(secs(10));
    sim
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for toy in [false, true] {
        let (first, second) = (run(Seed(11), toy), run(Seed(11), toy));
        let texts = (
            first.trace_text().expect("kept"),
            second.trace_text().expect("kept"),
        );
        let different = texts.0.lines().zip(texts.1.lines()).find(|(a, b)| a != b);
        assert_eq!(different, None, "the first line that differs");
        assert_eq!(texts.0.len(), texts.1.len());
        assert_eq!(first.trace_hash(), second.trace_hash());
        assert_eq!(first.stats(), second.stats());
        assert!(first.stats().arrived > 1_000, "{:?}", first.stats());
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(
        run(Seed(11), true).trace_hash(),
        run(Seed(12), true).trace_hash()
    );
}
