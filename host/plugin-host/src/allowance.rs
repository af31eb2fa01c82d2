//! What a plugin may use, as plain numbers: what its manifest asks for, and what holds without one.

use std::time::Duration;

use consort_proto::SendQuota;

/// What a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all its memories and tables. 64 MiB.
    pub memory_bytes: usize,
    /// CPU time of one callback. 100 ms.
    pub cpu: Duration,
    /// CPU time of `setup` (with instantiation) and of `restore`. 5 s.
    pub setup_cpu: Duration,
    /// Virtual waiting in one callback. 5 s.
    pub waiting: Duration,
    /// Messages waiting for it; beyond, the oldest is dropped. 256.
    pub mailbox: usize,
    /// Messages it may send in the long run. 300.
    pub messages_per_second: u32,
    /// Messages it may send at once. 300.
    pub message_burst: u32,
    /// Bytes of payload it may send in the long run, each message counted once however many
    /// members it goes to. 1 MiB.
    pub payload_bytes_per_second: u32,
    /// Bytes of payload it may send at once; at least one message of the largest size. 1 MiB.
    pub payload_burst_bytes: u32,
    /// Bytes it may write to its log per second, and print as well. 64 KiB.
    pub log_bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let quota = SendQuota::default();
        Self {
            memory_bytes: 64 << 20,
            cpu: Duration::from_millis(100),
            setup_cpu: Duration::from_secs(5),
            waiting: Duration::from_secs(5),
            mailbox: 256,
            messages_per_second: quota.messages_per_second,
            message_burst: quota.message_burst,
            payload_bytes_per_second: quota.bytes_per_second,
            payload_burst_bytes: quota.byte_burst,
            log_bytes_per_second: 64 << 10,
        }
    }
}

impl Limits {
    /// What it may send.
    #[must_use]
    pub const fn quota(&self) -> SendQuota {
        SendQuota {
            messages_per_second: self.messages_per_second,
            message_burst: self.message_burst,
            bytes_per_second: self.payload_bytes_per_second,
            byte_burst: self.payload_burst_bytes,
        }
    }

    /// More than any plugin can ask for.
    #[must_use]
    pub const fn unbounded() -> Self {
        Self {
            memory_bytes: usize::MAX,
            cpu: Duration::MAX,
            setup_cpu: Duration::MAX,
            waiting: Duration::MAX,
            mailbox: usize::MAX,
            messages_per_second: u32::MAX,
            message_burst: u32::MAX,
            payload_bytes_per_second: u32::MAX,
            payload_burst_bytes: u32::MAX,
            log_bytes_per_second: u32::MAX,
        }
    }

    /// The smaller of each.
    #[must_use]
    pub fn at_most(&self, cap: &Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(cap.memory_bytes),
            cpu: self.cpu.min(cap.cpu),
            setup_cpu: self.setup_cpu.min(cap.setup_cpu),
            waiting: self.waiting.min(cap.waiting),
            mailbox: self.mailbox.min(cap.mailbox),
            messages_per_second: self.messages_per_second.min(cap.messages_per_second),
            message_burst: self.message_burst.min(cap.message_burst),
            payload_bytes_per_second: self
                .payload_bytes_per_second
                .min(cap.payload_bytes_per_second),
            payload_burst_bytes: self.payload_burst_bytes.min(cap.payload_burst_bytes),
            log_bytes_per_second: self.log_bytes_per_second.min(cap.log_bytes_per_second),
        }
    }

    /// All that can be set, by the keys and in the units of `[limits]`.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 9] {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        [
            ("memory_mib", (self.memory_bytes >> 20) as u64),
            ("cpu_ms", millis(self.cpu)),
            ("setup_cpu_ms", millis(self.setup_cpu)),
            ("mailbox", self.mailbox as u64),
            ("messages_per_second", u64::from(self.messages_per_second)),
            ("message_burst", u64::from(self.message_burst)),
            (
                "payload_kib_per_second",
                u64::from(self.payload_bytes_per_second >> 10),
            ),
            (
                "payload_burst_kib",
                u64::from(self.payload_burst_bytes >> 10),
            ),
            (
                "log_kib_per_second",
                u64::from(self.log_bytes_per_second >> 10),
            ),
        ]
    }
}
