//! A plugin's host accepts what its replica has room for, and nothing else.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::super::*;
use super::net::*;
use crate::quota::SendQuota;
use crate::state::{Scope, StateUpdate, StateView, StateWrite, WriteError};

fn random_write(rng: &mut ChaCha12Rng) -> StateWrite {
    let scope = [Scope::Device, Scope::Shared][rng.random_range(0..2)];
    let key = format!("k{}", rng.random_range(0..20));
    let any = format!("k{}", rng.random_range(0..100_000));
    match rng.random_range(0..10) {
        0..3 => {
            let mut put = put(scope, &key, &"v".repeat(rng.random_range(0..60)));
            if let (StateWrite::Put { ttl_ms, .. }, true) = (&mut put, rng.random_bool(0.3)) {
                *ttl_ms = Some(rng.random_range(1..100_000));
            }
            put
        }
        3 => delete(scope, &key),
        4..9 => delete(scope, &any),
        _ => add(&key, rng.random_range(-5..50)),
    }
}

#[test]
fn a_view_accepts_no_write_that_its_replica_has_no_room_for() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut setup = setup(0, 1);
        setup.config.quota = 4 << 10;
        setup.config.writes = SendQuota {
            messages_per_second: 1_000_000,
            message_burst: 1_000_000,
            bytes_per_second: 1 << 30,
            byte_burst: 1 << 30,
        };
        let mut view = StateView::new(setup.me, setup.config);
        let mut replica = Replica::new(setup);
        let (mut now, mut handled, mut full) = (START, 0, 0);
        for _ in 0..600 {
            view.apply(&StateUpdate {
                changes: replica.take_changes(),
                handled,
                room: replica.room(),
                whole: false,
            });
            let writes = (0..rng.random_range(1..40)).map(|_| random_write(&mut rng));
            let (mut accepted, quota) = (Vec::new(), view.bytes());
            for write in writes.collect::<Vec<_>>() {
                match view.write(&write, false, now) {
                    Ok(()) => accepted.push(write),
                    Err(error) => {
                        assert_eq!(error, WriteError::TooLarge(4 << 10));
                        full += u32::from(quota < 2 << 10);
                    }
                }
            }
            handled = u32::try_from(accepted.len()).expect("a few");
            for write in &accepted {
                assert_eq!(replica.write(now, write), Ok(()), "{write:?}");
                let told = replica.bound() - HEADROOM - SLACK;
                assert!(replica.footprint <= told, "{} of {told}", replica.footprint);
            }
            now += rng.random_range(0..60 * SECOND);
            replica.handle_timeout(now);
        }
        assert!(full > 100, "deletions left no room {full} times");
    }
}
