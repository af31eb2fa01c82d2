//! What a plugin may use of this device, and the parts of it that wasmtime enforces.
//!
//! Memory is summed over all memories and tables of an instance. CPU time is counted by the
//! thread's own CPU clock: the engine's epochs only say when to look, since they count wall time
//! and a busy machine would make them strike too early. Reading that clock costs as much as a short
//! callback, so one that ends before the first look never pays for it, and a long one may use an epoch's
//! time more than its budget.

use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use crate::fault::HostFault;
use crate::guest::Guest;
use crate::priority::{self, Callback};

/// Bytes that a guest may pass to the host in one host call.
const HOSTCALL_FUEL: usize = 4 << 20;

/// Resource handles that a guest may hold.
pub(crate) const HANDLES_MAX: usize = 1024;

/// Core instances, memories and tables of one component; interpreters need more than eight.
const CORE_ITEMS_MAX: usize = 64;

/// What one table element is counted as.
const TABLE_ELEMENT_BYTES: usize = 8;

/// Says of wasmtime's error what the limit is, where it is one of those that count core items.
pub(crate) fn explained(error: String) -> String {
    if error.starts_with("resource limit exceeded: ") {
        let (max, items) = (CORE_ITEMS_MAX, "core instances, memories and tables");
        return format!("a component may have {max} each of {items}; {error}");
    }
    error
}

/// Puts the limits on a store; [`crate::metering::Metering::arm`] arms them for a call.
pub(crate) fn install(store: &mut Store<Guest>) {
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_callback(|mut context: StoreContextMut<'_, Guest>| {
        context.data_mut().cpu.check()?;
        Ok(UpdateDeadline::Continue(1))
    });
}

/// The CPU time of the call under way.
#[derive(Debug, Default)]
pub(crate) struct CpuBudget {
    /// What the thread had used at the first look.
    seen: Option<Duration>,
    budget: Duration,
    host_calls: u64,
    /// Calls to the host that use up the budget by themselves; none where they take CPU time like
    /// everything else.
    host_calls_max: Option<u64>,
}

impl CpuBudget {
    /// Begins to count.
    pub(crate) fn start(&mut self, budget: Duration, callback: Callback) {
        self.seen = None;
        priority::begin(callback, thread_cpu_time);
        self.budget = budget;
    }

    /// Begins to count calls to the host, of which `host_calls_max` use up the budget.
    pub(crate) fn start_counted(&mut self, budget: Duration, host_calls_max: u64) {
        self.budget = budget;
        self.host_calls = 0;
        self.host_calls_max = Some(host_calls_max);
    }

    /// Calls to the host since the count began.
    pub(crate) const fn host_calls(&self) -> u64 {
        self.host_calls
    }

    /// A call to the host that cannot be refused.
    pub(crate) fn note_host_call(&mut self) {
        self.host_calls = self.host_calls.saturating_add(1);
    }

    /// A call to the host; refused where the calls alone exceed the budget.
    pub(crate) fn host_call(&mut self) -> Result<(), HostFault> {
        self.note_host_call();
        if self.host_calls_max.is_some_and(|max| self.host_calls > max) {
            return Err(HostFault::OverCpu {
                budget: self.budget,
            });
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), HostFault> {
        let cpu = thread_cpu_time();
        priority::look(cpu);
        if cpu.saturating_sub(*self.seen.get_or_insert(cpu)) < self.budget {
            return Ok(());
        }
        Err(HostFault::OverCpu {
            budget: self.budget,
        })
    }
}

/// CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Duration::from(nix::time::clock_gettime(clock).expect("every Linux has this clock"))
}

/// Sums an instance's memories and tables.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    used: usize,
    limit: usize,
    /// Whether a growth was refused since the call began, which explains the trap that follows.
    refused: bool,
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: 0,
            limit,
            refused: false,
        }
    }

    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn start_call(&mut self) {
        self.refused = false;
    }

    /// The limit, if the call under way ran into it.
    pub(crate) fn refused_beyond(&self) -> Option<usize> {
        self.refused.then_some(self.limit)
    }

    fn grow(&mut self, bytes: usize) -> bool {
        match self.used.checked_add(bytes) {
            Some(sum) if sum <= self.limit => {
                self.used = sum;
                true
            }
            Some(_) | None => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // wasmtime asks even where the memory's own maximum forbids it; counting that would make
        // the sum drift.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = desired.saturating_sub(current);
        Ok(self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn tables(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn memories(&self) -> usize {
        CORE_ITEMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed_and_refusals_do_not_drift() {
        let mut budget = MemoryBudget::new(1000);
        assert!(budget.memory_growing(0, 600, None).expect("no error"));
        assert!(
            !budget.memory_growing(0, 600, None).expect("no error"),
            "600 + 600"
        );
        assert_eq!(budget.refused_beyond(), Some(1000));
        budget.start_call();
        assert!(
            !budget.memory_growing(0, 200, Some(100)).expect("no error"),
            "own maximum"
        );
        assert_eq!(budget.refused_beyond(), None);
        assert!(
            budget.table_growing(0, 50, None).expect("no error"),
            "400 bytes are left"
        );
        assert!(!budget.memory_growing(600, 601, None).expect("no error"));
    }
}
