//! An input as a series of small choices.

/// Reads an input from its front. After its end all is zero.
#[derive(Debug)]
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// One of `count`, which is at most 256.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next bytes, as many as the one before them says; twice as many with `long`.
    pub(crate) fn slice(&mut self, long: bool) -> &'a [u8] {
        let wanted = usize::from(self.byte()) << u32::from(long);
        let (slice, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        slice
    }
}
