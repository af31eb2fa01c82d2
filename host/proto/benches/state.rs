//! What it takes to read, write, digest and merge replicated state, by the number of keys that are
//! held, and to digest and merge by the number of keys that changed.
//!
//! `cargo bench -p consort-proto --bench state [-- FILTER]`. A digest or a merge is measured after a
//! write, which is not part of its time: without one there would be nothing to do.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock; the protocol does not"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use consort_proto::bench::Replicas;
use criterion::{BenchmarkId, Criterion, Throughput};

/// Keys held.
const HELD: [u64; 3] = [10, 1_000, 10_000];
/// Keys changed of the most that are held.
const CHANGED: [u64; 4] = [1, 10, 100, 1_000];

/// Goes round all keys, each time far from the last.
fn turns(keys: u64) -> impl FnMut() -> u64 {
    let mut next = 0;
    move || {
        next = (next + 7_919) % keys;
        next
    }
}

/// The time that `measured` takes in so many rounds, each after `changed` writes.
fn after_writes(
    replicas: &mut Replicas,
    turn: &mut impl FnMut() -> u64,
    (rounds, changed): (u64, u64),
    measured: impl Fn(&mut Replicas),
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        for _ in 0..changed {
            replicas.put(turn());
        }
        let start = Instant::now();
        measured(replicas);
        spent += start.elapsed();
    }
    spent
}

fn digest(replicas: &mut Replicas) {
    black_box(replicas.digest());
}

fn merge(replicas: &mut Replicas) {
    assert!(replicas.merge(), "there was something new");
}

fn by_keys_held(c: &mut Criterion) {
    for keys in HELD {
        let mut replicas = Replicas::new(keys);
        let mut turn = turns(keys);
        let names: Vec<String> = (0..keys).map(|key| format!("key {key:08}")).collect();
        c.bench_function(&format!("get/{keys}"), |b| {
            b.iter(|| {
                let name = &names[usize::try_from(turn()).unwrap_or(0)];
                assert!(replicas.get(black_box(name)));
            });
        });
        c.bench_function(&format!("put/{keys}"), |b| {
            b.iter(|| replicas.put(black_box(turn())));
        });
        replicas.merge();
        c.bench_function(&format!("digest/{keys}"), |b| {
            b.iter_custom(|rounds| after_writes(&mut replicas, &mut turn, (rounds, 1), digest));
        });
        replicas.merge();
        c.bench_function(&format!("merge/{keys}"), |b| {
            b.iter_custom(|rounds| after_writes(&mut replicas, &mut turn, (rounds, 1), merge));
        });
        assert!(replicas.are_equal());
    }
}

fn by_keys_changed(c: &mut Criterion) {
    let keys = HELD[HELD.len() - 1];
    let mut replicas = Replicas::new(keys);
    let mut turn = turns(keys);
    let mut group = c.benchmark_group("changed");
    for changed in CHANGED {
        group.throughput(Throughput::Elements(changed));
        group.bench_function(BenchmarkId::new("digest", changed), |b| {
            b.iter_custom(|rounds| {
                after_writes(&mut replicas, &mut turn, (rounds, changed), digest)
            });
        });
        replicas.merge();
        group.bench_function(BenchmarkId::new("merge", changed), |b| {
            b.iter_custom(|rounds| {
                after_writes(&mut replicas, &mut turn, (rounds, changed), merge)
            });
        });
    }
    group.finish();
    assert!(replicas.are_equal());
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    by_keys_held(&mut criterion);
    by_keys_changed(&mut criterion);
    criterion.final_summary();
}
