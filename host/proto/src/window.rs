//! Which numbers of a growing sequence were seen before: the sliding bitmap of RFC 6479.
//!
//! The bitmap is a ring of 64-bit blocks. A number newer than all before clears the blocks it
//! skips; one older than the ring covers is refused. Testing and marking are separate, so that a
//! forged datagram never marks anything.

/// Blocks in the ring. One of them is being overwritten, so the window covers
/// 31 × 64 = 1984 numbers.
const BLOCKS: u64 = 32;
const BLOCK_BITS: u64 = 64;
/// How far behind the newest number another may lie.
pub(crate) const WINDOW: u64 = (BLOCKS - 1) * BLOCK_BITS;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    newest: u64,
    ring: [u64; BLOCKS as usize],
    empty: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            newest: 0,
            ring: [0; BLOCKS as usize],
            empty: true,
        }
    }
}

impl Window {
    /// Whether `number` was neither seen nor lies too far behind.
    pub(crate) fn is_fresh(&self, number: u64) -> bool {
        if self.empty || number > self.newest {
            return true;
        }
        if self.newest - number >= WINDOW {
            return false;
        }
        self.ring[Self::block(number)] & Self::bit(number) == 0
    }

    /// Marks `number` as seen. Only for numbers that are fresh. Returns whether it is the newest.
    pub(crate) fn commit(&mut self, number: u64) -> bool {
        let (block, newest_block) = (number / BLOCK_BITS, self.newest / BLOCK_BITS);
        let newest = self.empty || number > self.newest;
        if newest {
            let skipped = if self.empty {
                0
            } else {
                (block - newest_block).min(BLOCKS)
            };
            for step in 1..=skipped {
                self.ring[((newest_block + step) % BLOCKS) as usize] = 0;
            }
            self.newest = number;
            self.empty = false;
        }
        self.ring[Self::block(number)] |= Self::bit(number);
        newest
    }

    fn block(number: u64) -> usize {
        (number / BLOCK_BITS % BLOCKS) as usize
    }

    fn bit(number: u64) -> u64 {
        1 << (number % BLOCK_BITS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_a_plain_set_over_random_numbers() {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        let (mut window, mut seen, mut newest) = (Window::default(), BTreeSet::new(), 0u64);
        for _ in 0..300_000 {
            let number = match rng.random_range(0..10) {
                0 => newest.saturating_add(rng.random_range(0..4000)),
                _ => newest.saturating_sub(rng.random_range(0..2200)),
            };
            let in_window = seen.is_empty() || number > newest || newest - number < WINDOW;
            assert_eq!(
                window.is_fresh(number),
                in_window && !seen.contains(&number)
            );
            if window.is_fresh(number) {
                window.commit(number);
                seen.insert(number);
                newest = newest.max(number);
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut window = Window::default();
        for number in [u64::MAX - 1, u64::MAX] {
            assert!(window.is_fresh(number));
            window.commit(number);
            assert!(!window.is_fresh(number));
        }
        assert!(!window.is_fresh(0));
    }
}
