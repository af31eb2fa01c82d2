//! A token bucket on group time: the quota of log bytes.

/// Grants up to `burst` at once and `per_second` in the long run.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// In millionths, so that a refill per microsecond is exact.
    burst_millionths: u64,
    level_millionths: u64,
    refilled_at_us: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let burst_millionths = u64::from(burst) * 1_000_000;
        Self {
            per_second: u64::from(per_second),
            burst_millionths,
            level_millionths: burst_millionths,
            refilled_at_us: 0,
        }
    }

    /// Takes `amount` at `now_us` if there is that much.
    pub(crate) fn take(&mut self, now_us: u64, amount: u64) -> bool {
        let elapsed = now_us.saturating_sub(self.refilled_at_us);
        let refill = elapsed.saturating_mul(self.per_second);
        self.refilled_at_us = self.refilled_at_us.max(now_us);
        self.level_millionths = self
            .level_millionths
            .saturating_add(refill)
            .min(self.burst_millionths);
        match self
            .level_millionths
            .checked_sub(amount.saturating_mul(1_000_000))
        {
            Some(rest) => {
                self.level_millionths = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(300, 300);
        let start = 1_000_000;
        let taken = |bucket: &mut Bucket, now| (0..1000).filter(|_| bucket.take(now, 1)).count();
        assert_eq!(taken(&mut bucket, start), 300);
        assert_eq!(taken(&mut bucket, start + 1_000_000), 300);
        assert_eq!(taken(&mut bucket, start + 1_010_000), 3);
        assert_eq!(taken(&mut bucket, start + 3_600_000_000), 300);
    }
}
