//! Token buckets: what a plugin may send, and what a device puts on the network for plugins.

use crate::MAX_PAYLOAD;
use crate::mutant::{self, Mutant};

/// What one plugin on one device may send. Beyond it a call is refused as busy.
///
/// A message counts once, however many members it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQuota {
    /// Messages in the long run. 300.
    pub messages_per_second: u32,
    /// Messages at once. 300.
    pub message_burst: u32,
    /// Bytes of payload in the long run. 1 MiB.
    pub bytes_per_second: u32,
    /// Bytes of payload at once; at least the longest message counts. 1 MiB.
    pub byte_burst: u32,
}

impl Default for SendQuota {
    fn default() -> Self {
        Self {
            messages_per_second: 300,
            message_burst: 300,
            bytes_per_second: 1 << 20,
            byte_burst: 1 << 20,
        }
    }
}

/// How much of a [`SendQuota`] is used up. A function of the times and lengths it was given.
#[derive(Clone, Debug)]
pub struct QuotaMeter {
    messages: Bucket,
    bytes: Bucket,
}

impl QuotaMeter {
    /// Nothing is used up.
    #[must_use]
    pub fn new(quota: &SendQuota) -> Self {
        let longest = u64::try_from(MAX_PAYLOAD).unwrap_or(u64::MAX);
        Self {
            messages: Bucket::new(quota.messages_per_second.into(), quota.message_burst.into()),
            bytes: Bucket::new(
                quota.bytes_per_second.into(),
                u64::from(quota.byte_burst).max(longest),
            ),
        }
    }

    /// Takes one message of `len` bytes at `now_us`, in microseconds of any clock that does not run
    /// back. False if the quota does not allow it; then nothing is taken.
    pub fn take(&mut self, now_us: u64, len: usize) -> bool {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.messages.refill(now_us);
        self.bytes.refill(now_us);
        let endless = mutant::is(Mutant::QuotaEndless);
        let allowed = endless || self.messages.has(1) && self.bytes.has(len);
        if allowed {
            self.messages.spend(1);
            self.bytes.spend(len);
        }
        allowed
    }
}

/// Grants up to `burst` at once and `per_second` in the long run.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// In millionths, so that a refill per microsecond is exact.
    burst_millionths: u64,
    level_millionths: u64,
    refilled_at_us: u64,
}

const MILLION: u64 = 1_000_000;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        let burst_millionths = burst.saturating_mul(MILLION);
        Self {
            per_second,
            burst_millionths,
            level_millionths: burst_millionths,
            refilled_at_us: 0,
        }
    }

    /// Adds what has accrued up to `now_us`.
    pub(crate) fn refill(&mut self, now_us: u64) {
        let elapsed = now_us.saturating_sub(self.refilled_at_us);
        self.refilled_at_us = self.refilled_at_us.max(now_us);
        let refill = elapsed.saturating_mul(self.per_second);
        let level = self.level_millionths.saturating_add(refill);
        self.level_millionths = level.min(self.burst_millionths);
    }

    /// Whether there is `amount`.
    pub(crate) fn has(&self, amount: u64) -> bool {
        self.level_millionths >= amount.saturating_mul(MILLION)
    }

    /// How much there is.
    pub(crate) fn level(&self) -> u64 {
        self.level_millionths / MILLION
    }

    /// Takes `amount`, as far as it is there.
    pub(crate) fn spend(&mut self, amount: u64) {
        let amount = amount.saturating_mul(MILLION);
        self.level_millionths = self.level_millionths.saturating_sub(amount);
    }

    /// Microseconds after the last refill until there is `amount`.
    pub(crate) fn wait_us(&self, amount: u64) -> u64 {
        let missing = amount.saturating_mul(MILLION);
        let missing = missing.saturating_sub(self.level_millionths);
        missing.div_ceil(self.per_second.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(meter: &mut QuotaMeter, now: u64, len: usize) -> usize {
        (0..1000).filter(|_| meter.take(now, len)).count()
    }

    #[test]
    fn a_burst_of_messages_then_the_rate() {
        let mut meter = QuotaMeter::new(&SendQuota::default());
        let start = 1_000_000;
        assert_eq!(taken(&mut meter, start, 10), 300);
        assert_eq!(taken(&mut meter, start + 1_000_000, 10), 300);
        assert_eq!(taken(&mut meter, start + 1_010_000, 10), 3);
        assert_eq!(taken(&mut meter, start + 3_600_000_000, 10), 300);
    }

    #[test]
    fn bytes_count_besides_messages_and_a_refusal_takes_neither() {
        let quota = SendQuota {
            bytes_per_second: 100_000,
            byte_burst: 0,
            ..SendQuota::default()
        };
        let mut meter = QuotaMeter::new(&quota);
        assert!(
            meter.take(0, MAX_PAYLOAD),
            "the longest message always fits"
        );
        assert!(!meter.take(0, 1));
        assert_eq!(taken(&mut meter, 100_000, 1_000), 10);
        assert_eq!(
            taken(&mut meter, 100_000, 0),
            300 - 10,
            "refusals took no message"
        );
    }

    #[test]
    fn a_bucket_says_how_long_to_wait() {
        let mut bucket = Bucket::new(1_000, 10);
        bucket.refill(5_000_000);
        bucket.spend(10);
        assert_eq!(bucket.wait_us(3), 3_000);
        bucket.refill(5_002_999);
        assert!(!bucket.has(3));
        bucket.refill(5_003_000);
        assert!(bucket.has(3));
    }
}
