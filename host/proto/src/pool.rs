//! Buffers for datagrams that are used again.
//!
//! Packets are written one after the other into a block and handed out as slices of it. Once all
//! slices of a block are dropped it is written from its beginning again; where some are still held,
//! a new block is begun. So a packet that is sent or read before the block is full costs no
//! allocation, and a burst costs one for each block.

use bytes::{Bytes, BytesMut};

/// Thirteen packets of the largest size.
const BLOCK: usize = 16 * 1024;

/// See the module's documentation. Holds no memory before its first use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Empty between uses; its capacity is what is left of the block.
    block: BytesMut,
}

impl Pool {
    /// Hands `write` a buffer of `len` bytes of any content, and returns as many of them as it says
    /// it has written.
    ///
    /// # Errors
    /// Those of `write`; then the buffer is used again.
    pub(crate) fn fill<E>(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Bytes, E> {
        if self.block.capacity() < len && !self.block.try_reclaim(len) {
            self.block = BytesMut::with_capacity(BLOCK.max(len));
        }
        self.block.resize(len, 0);
        let written = write(&mut self.block[..]);
        self.block.truncate(*written.as_ref().unwrap_or(&0));
        written.map(|_| self.block.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pool: &mut Pool, len: usize, byte: u8) -> Bytes {
        let written = pool.fill(len, |buffer| {
            buffer.fill(byte);
            Ok::<_, ()>(len)
        });
        written.expect("it says so")
    }

    #[test]
    fn a_block_is_written_again_once_all_its_slices_are_dropped() {
        let mut pool = Pool::default();
        let first = fill(&mut pool, 1000, 0).as_ptr();
        for round in 1..1000 {
            let again = fill(&mut pool, 1000, 1).as_ptr();
            assert_eq!(again == first, round % 16 == 0, "round {round}");
        }
    }

    #[test]
    fn slices_that_are_held_stay_as_they_were() {
        let mut pool = Pool::default();
        let held: Vec<Bytes> = (0..200).map(|n| fill(&mut pool, 1200, n)).collect();
        for (n, slice) in held.iter().enumerate() {
            assert_eq!(slice.len(), 1200);
            assert!(slice.iter().all(|byte| usize::from(*byte) == n));
        }
    }

    #[test]
    fn less_may_be_written_than_there_was_room_for_or_nothing() {
        let mut pool = Pool::default();
        let short = pool.fill(100, |buffer| {
            buffer[..3].copy_from_slice(b"abc");
            Ok::<_, ()>(3)
        });
        assert_eq!(short, Ok(Bytes::from_static(b"abc")));
        assert_eq!(pool.fill(100, |_| Err("no")), Err("no"));
        assert_eq!(fill(&mut pool, 20_000, 7).len(), 20_000, "above a block");
    }
}
