//! The table `[limits]`: in a manifest what a plugin asks for, in the operator's settings what it
//! gets at most.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::allowance::Limits;

/// The most CPU time that may be asked for, of `setup` and `restore`, in milliseconds.
pub(crate) const SETUP_CPU_MS_MAX: i64 = 60_000;

/// `[limits]`; what is not in it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table of limits")]
pub struct LimitTable {
    memory_mib: Option<Within<1, 1024>>,
    cpu_ms: Option<Within<1, 10_000>>,
    setup_cpu_ms: Option<Within<1, SETUP_CPU_MS_MAX>>,
    mailbox: Option<Within<1, 65_536>>,
    messages_per_second: Option<Within<1, 100_000>>,
    message_burst: Option<Within<1, 100_000>>,
    payload_kib_per_second: Option<Within<1, 1_048_576>>,
    payload_burst_kib: Option<Within<64, 1_048_576>>,
    log_kib_per_second: Option<Within<1, 65_536>>,
}

impl LimitTable {
    /// `limits` with this table's values in their place.
    #[must_use]
    pub fn over(&self, limits: Limits) -> Limits {
        let millis = |asked: u32| Duration::from_millis(u64::from(asked));
        let number = |value: Option<u32>, otherwise: u32| value.unwrap_or(otherwise);
        let kib = |value: Option<u32>, otherwise: u32| value.map_or(otherwise, |kib| kib << 10);
        Limits {
            memory_bytes: self
                .memory_mib
                .map_or(limits.memory_bytes, |mib| (mib.0 as usize) << 20),
            cpu: self.cpu_ms.map_or(limits.cpu, |ms| millis(ms.0)),
            setup_cpu: self
                .setup_cpu_ms
                .map_or(limits.setup_cpu, |ms| millis(ms.0)),
            waiting: limits.waiting,
            mailbox: self
                .mailbox
                .map_or(limits.mailbox, |count| count.0 as usize),
            messages_per_second: number(
                self.messages_per_second.map(|n| n.0),
                limits.messages_per_second,
            ),
            message_burst: number(self.message_burst.map(|n| n.0), limits.message_burst),
            payload_bytes_per_second: kib(
                self.payload_kib_per_second.map(|n| n.0),
                limits.payload_bytes_per_second,
            ),
            payload_burst_bytes: kib(
                self.payload_burst_kib.map(|n| n.0),
                limits.payload_burst_bytes,
            ),
            log_bytes_per_second: kib(
                self.log_kib_per_second.map(|n| n.0),
                limits.log_bytes_per_second,
            ),
        }
    }
}

/// A number between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within<const MIN: i64, const MAX: i64, T = u32>(pub(crate) T);

impl<'de, const MIN: i64, const MAX: i64, T: TryFrom<i64>> Deserialize<'de>
    for Within<MIN, MAX, T>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_i64(WithinVisitor::<MIN, MAX, T>(PhantomData))
            .map(Self)
    }
}

struct WithinVisitor<const MIN: i64, const MAX: i64, T>(PhantomData<T>);

impl<const MIN: i64, const MAX: i64, T: TryFrom<i64>> Visitor<'_> for WithinVisitor<MIN, MAX, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match T::try_from(number) {
            Ok(value) if (MIN..=MAX).contains(&number) => Ok(value),
            Ok(_) | Err(_) => Err(E::custom(format_args!(
                "{number} is not allowed; use {MIN} to {MAX}"
            ))),
        }
    }
}
