//! Sealing and opening allocate nothing per packet.
//!
//! The whole program counts its allocations, so this file has one test: others beside it would be
//! counted too.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; this one only counts"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use consort_proto::bench::Pair;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sealing_and_opening_allocate_nothing_per_packet() {
    for aes_in_hardware in [true, false] {
        let mut pair = Pair::new(aes_in_hardware);
        pair.handshake();
        let payload = [7; 1100];
        // The first packets fill the pools and the outbox.
        for len in [0, 100, 1100] {
            assert_eq!(pair.seal_and_open(&payload[..len]), len);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for round in 0..10_000 {
            let len = round % 1100;
            assert_eq!(pair.seal_and_open(&payload[..len]), len);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "in 10,000 packets sealed and opened");
    }
}
