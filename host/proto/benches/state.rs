//! Time to read, write, digest and merge one key of replicated state, at several sizes.
//!
//! A plain loop, as in `seal.rs`. Run it with `cargo bench -p consort-proto --bench state`.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock; the protocol does not"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use consort_proto::bench::Replicas;

const ROUNDS: usize = 101;
const CALLS: u32 = 100;

fn main() {
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>9}  µs",
        "keys", "get", "put", "digest", "merge"
    );
    for keys in [10, 1_000, 10_000] {
        let mut replicas = Replicas::new(keys);
        let names: Vec<String> = (0..keys).map(|key| format!("key {key:08}")).collect();
        let mut next = 0;
        let mut turn = move || {
            next = (next + 7_919) % keys;
            next
        };
        let get = median(|| {
            let name = &names[usize::try_from(turn()).unwrap_or(0)];
            assert!(replicas.get(black_box(name)));
        });
        let put = median(|| replicas.put(black_box(turn())));
        replicas.merge();
        let with_digest = median(|| {
            replicas.put(turn());
            black_box(replicas.digest());
        });
        replicas.merge();
        let with_merge = median(|| {
            replicas.put(turn());
            assert!(replicas.merge(), "both are equal");
        });
        // The last two contain a put, the last one both replicas' digests besides.
        let digest = with_digest.saturating_sub(put);
        let merge = with_merge.saturating_sub(with_digest + digest);
        println!(
            "{keys:>8} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
            micros(get),
            micros(put),
            micros(digest),
            micros(merge)
        );
    }
}

/// The time of one call, as the median over rounds.
fn median(mut call: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                call();
            }
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2] / CALLS
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
