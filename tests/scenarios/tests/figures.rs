//! Measures how fast leadership moves, in virtual time, prints it, and holds it against what the
//! protocol is to reach. `CONSORT_RUNS` sets how many groups each figure comes from,
//! `CONSORT_HOURS` for how long the one on false changes runs.
//!
//! `cargo test -p consort-scenarios --test figures -- --nocapture --test-threads 1`

use std::sync::{Arc, Mutex};
use std::time::Duration;

use consort_proto::Scope;
use consort_scenarios::{agree, all, all_but, app, group, ms, secs, settle};
use consort_sim::{Edit, Link, Seed, Sim, Toy, scenario};

/// Durations, sorted when they are read.
#[derive(Default)]
struct Figures(Mutex<Vec<Duration>>);

impl Figures {
    fn add(&self, took: Duration) {
        self.0.lock().expect("no test panicked").push(took);
    }

    /// Prints the figures and returns the 99th percentile.
    fn report(&self, what: &str) -> Duration {
        let mut took = self.0.lock().expect("no test panicked").clone();
        took.sort_unstable();
        assert!(!took.is_empty(), "{what}: nothing was measured");
        let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
        let (p50, p99, count) = (at(50), at(99), took.len());
        println!(
            "{what}: p50 {p50:?}, p99 {p99:?}, most {:?}, of {count}",
            at(100)
        );
        p99
    }
}

fn formed(name: &str, seed: Seed, count: usize, loss: f64) -> Sim {
    let mut sim = group(name, seed, count)
        .crypto(Arc::new(Toy))
        .link(Link::lan().with_loss(loss))
        .build();
    sim.start_all(ms(500));
    settle(&mut sim, &all(count), secs(30));
    sim.run_for(secs(3));
    sim
}

fn leader(sim: &mut Sim, nodes: &[usize]) -> usize {
    agree(sim, nodes, secs(10));
    sim.agree(&app(), nodes).expect("they agree").0
}

#[test]
fn from_a_kill_to_the_next_promotion() {
    let name = "from_a_kill_to_the_next_promotion";
    for loss in [0.0, 0.2] {
        let figures = Figures::default();
        scenario(name, 2, |seed| {
            let mut sim = formed(name, seed, 10, loss);
            for _ in 0..10 {
                let gone = leader(&mut sim, &all(10));
                let rest = all_but(10, gone);
                // Anywhere between two heartbeats.
                sim.run_for(Duration::from_micros(seed.0 % 250_000));
                sim.crash(gone);
                let took = sim.expect_within(secs(3), "one of the others leads", |sim| {
                    rest.iter().any(|node| sim.leads(*node, &app()))
                });
                figures.add(took);
                agree(&mut sim, &rest, secs(5));
                sim.run_for(secs(2));
                sim.start(gone);
                settle(&mut sim, &all(10), secs(20));
                sim.run_for(secs(3));
            }
        });
        let p99 = figures.report(&format!("kill to promotion, 10 devices, loss {loss}"));
        assert!(p99 <= ms(1200), "{p99:?}");
    }
}

#[test]
fn from_an_orderly_stop_to_the_next_promotion() {
    let name = "from_an_orderly_stop_to_the_next_promotion";
    for loss in [0.0, 0.2] {
        let figures = Figures::default();
        scenario(name, 2, |seed| {
            let mut sim = formed(name, seed, 10, loss);
            for _ in 0..10 {
                let gone = leader(&mut sim, &all(10));
                let rest = all_but(10, gone);
                sim.leave(gone);
                figures.add(
                    sim.expect_within(secs(2), "one of the others leads", |sim| {
                        rest.iter().any(|node| sim.leads(*node, &app()))
                    }),
                );
                sim.run_for(secs(3));
                sim.start(gone);
                settle(&mut sim, &all(10), secs(20));
            }
        });
        let p99 = figures.report(&format!("stop to promotion, 10 devices, loss {loss}"));
        // Without loss the successor waits for nobody but those that answer at once.
        let limit = if loss == 0.0 { ms(20) } else { ms(250) };
        assert!(p99 <= limit, "{p99:?}");
    }
}

#[test]
fn from_a_heal_to_one_leader() {
    let name = "from_a_heal_to_one_leader";
    for (count, apart) in [(10, 10), (10, 60), (40, 20)] {
        let figures = Figures::default();
        scenario(name, 2, |seed| {
            let mut sim = formed(name, seed, count, 0.0);
            let (left, right): (Vec<usize>, Vec<usize>) =
                all(count).into_iter().partition(|node| node % 2 == 0);
            for _ in 0..3 {
                sim.partition(&[&left, &right]);
                sim.run_for(secs(apart));
                sim.heal();
                figures.add(agree(&mut sim, &all(count), secs(10)));
                settle(&mut sim, &all(count), secs(15));
                sim.run_for(secs(5));
            }
        });
        let p99 = figures.report(&format!("heal of {count} devices after {apart} s apart"));
        assert!(p99 <= secs(2), "{p99:?}");
    }
}

#[test]
fn from_cold_to_one_leader() {
    let name = "from_cold_to_one_leader";
    for (count, loss) in [(10, 0.0), (25, 0.0), (10, 0.2), (25, 0.2)] {
        let figures = Figures::default();
        scenario(name, 4, |seed| {
            let mut sim = group(name, seed, count)
                .crypto(Arc::new(Toy))
                .link(Link::lan().with_loss(loss))
                .build();
            sim.start_all(ms(20));
            figures.add(settle(&mut sim, &all(count), secs(20)));
        });
        let p99 = figures.report(&format!("cold start of {count} devices, loss {loss}"));
        assert!(loss > 0.0 || p99 <= secs(3), "{p99:?}");
    }
}

#[test]
fn false_changes_at_twenty_percent_loss() {
    let name = "false_changes_at_twenty_percent_loss";
    let hours = std::env::var("CONSORT_HOURS").ok();
    let hours = hours.map_or(1, |hours| hours.parse().expect("CONSORT_HOURS is a number"));
    let seed = Seed::of(name, 0);
    let mut sim = formed(name, seed, 10, 0.2);
    sim.run_for(secs(10));
    sim.reset_counts();
    sim.run_for(secs(3600 * hours));
    let changes = sim.promotions(&app());
    let followings: u64 = (0..10).map(|node| sim.app(node, &app()).followings).sum();
    println!(
        "10 devices at 20 % loss for {hours} h: {changes} false changes of leader, \
         {followings} times a follower lost and found it"
    );
    assert!(changes <= 1 + hours / 24, "{changes} in {hours} hours");
}

/// Bytes that each device sends in a second, on average over `lasting`.
fn rate(sim: &mut Sim, lasting: Duration, mut each_second: impl FnMut(&mut Sim)) -> u64 {
    let count = sim.device_count();
    let sent = |sim: &Sim| -> u64 { (0..count).map(|node| sim.sent(node).1).sum() };
    let before = sent(sim);
    for _ in 0..lasting.as_secs() {
        each_second(sim);
        sim.run_for(secs(1));
    }
    (sent(sim) - before) / count as u64 / lasting.as_secs()
}

#[test]
fn traffic_of_a_hundred_keys_that_change_each_second() {
    let name = "traffic_of_a_hundred_keys_that_change_each_second";
    let mut sim = formed(name, Seed::of(name, 0), 10, 0.0);
    sim.run_for(secs(5));
    let idle = rate(&mut sim, secs(30), |_| {});
    let busy = rate(&mut sim, secs(30), |sim| {
        for node in 0..10 {
            let edits = (0..10).map(|key| Edit::Put {
                scope: Scope::Shared,
                key: format!("{node}/{key}").into(),
                len: 32,
                ttl: None,
            });
            let results = sim.edit_all(node, &app(), edits.collect());
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
    });
    sim.expect_state(&app(), &all(10), secs(10));
    println!(
        "10 devices, 100 keys of 32 bytes change each second: {busy} bytes per device and second, \
         {idle} without"
    );
    assert!(busy <= 20_000, "{busy}");
}
