//! Time per sealed and opened packet and per handshake, for both suites.
//!
//! A plain loop: the median of some rounds on one thread, without a statistics library to compile.
//! Run it with `cargo bench -p consort-proto --bench seal`.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock; the protocol does not"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use consort_proto::bench::Pair;

const ROUNDS: usize = 15;
const KILOBYTE: [u8; 1024] = [0x5a; 1024];

fn main() {
    for (suite, aes_in_hardware) in [("AESGCM_SHA256", true), ("ChaChaPoly_BLAKE2s", false)] {
        let mut pair = Pair::new(aes_in_hardware);
        let handshake = median(200, || pair.handshake());
        println!(
            "{suite:20} handshake, both sides   {:9.1} µs",
            micros(handshake)
        );

        assert_eq!(
            pair.seal_and_open(&KILOBYTE),
            KILOBYTE.len(),
            "there is a session"
        );
        let packet = median(20_000, || {
            black_box(pair.seal_and_open(black_box(&KILOBYTE)));
        });
        println!(
            "{suite:20} seal and open 1 KB      {:9.3} µs",
            micros(packet)
        );
    }
}

/// The time of one call, as the median over rounds of `calls` each.
fn median(calls: u32, mut call: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                call();
            }
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2] / calls
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
