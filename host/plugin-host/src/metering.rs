//! How the CPU budget of a callback is measured.
//!
//! A host in real time reads the thread's CPU clock whenever an epoch ends, so where a callback that
//! overruns its budget is stopped depends on the machine. A simulator needs the same place in every
//! run: it counts fuel, which is what wasmtime calls executed WebAssembly instructions. Both bounds
//! mean the same budget and end in the same fault.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::{Config, Store, Trap};

use crate::fault::HostFault;
use crate::guest::Guest;
use crate::priority::Callback;

/// Fuel that stands for a microsecond of CPU time: a billion instructions a second, which a small
/// single-board computer reaches with compiled WebAssembly and a desktop machine exceeds.
const FUEL_PER_MICROSECOND: u64 = 1_000;

/// Fuel that a call to the host stands for, besides the instructions around it: a microsecond. It
/// is counted apart, since the host's functions do not reach the store's fuel: a callback ends when
/// its instructions, its calls, or at its end both together, exceed the budget.
const FUEL_PER_HOST_CALL: u64 = 1_000;

/// What measures the CPU time of callbacks.
#[derive(Clone)]
pub(crate) enum Metering {
    /// The thread's CPU clock, looked at when an epoch ends.
    CpuClock,
    /// Fuel. What was used is added up here.
    Fuel(Work),
}

/// Fuel that the instances of one plugin on one device have used since it was last asked for.
#[derive(Clone, Default)]
pub(crate) struct Work(Arc<AtomicU64>);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.0.load(Ordering::Relaxed))
    }
}

impl Work {
    /// The CPU time that it stands for, rounded up; counts anew from here.
    pub(crate) fn take(&self) -> Duration {
        let fuel = self.0.swap(0, Ordering::Relaxed);
        Duration::from_micros(fuel.div_ceil(FUEL_PER_MICROSECOND))
    }
}

impl Metering {
    /// What compiled code must have in it to be measured.
    pub(crate) fn configure(&self, config: &mut Config) {
        match self {
            Self::CpuClock => config.epoch_interruption(true),
            Self::Fuel(_) => config.consume_fuel(true),
        };
    }

    /// Begins to measure a call that may use `budget`.
    pub(crate) fn arm(&self, store: &mut Store<Guest>, budget: Duration, callback: Callback) {
        match self {
            Self::CpuClock => {
                store.data_mut().cpu.start(budget, callback);
                store.set_epoch_deadline(1);
            }
            Self::Fuel(_) => {
                let fuel = fuel_of(budget);
                let calls_max = fuel / FUEL_PER_HOST_CALL;
                store.data_mut().cpu.start_counted(budget, calls_max);
                store
                    .set_fuel(fuel)
                    .expect("an engine that meters by fuel is configured for it");
            }
        }
    }

    /// Adds up what a call used that had `budget`. Where instructions and host calls together exceed
    /// it, gives the fault that this is.
    pub(crate) fn settle(&self, store: &Store<Guest>, budget: Duration) -> Option<HostFault> {
        let Self::Fuel(work) = self else {
            return None;
        };
        let (rest, allowed) = (store.get_fuel().unwrap_or(0), fuel_of(budget));
        let calls = store.data().cpu.host_calls();
        let used = allowed
            .saturating_sub(rest)
            .saturating_add(calls.saturating_mul(FUEL_PER_HOST_CALL));
        work.0.fetch_add(used.min(allowed), Ordering::Relaxed);
        (used > allowed).then_some(HostFault::OverCpu { budget })
    }

    /// The fault that an error stands for, where the call ended for want of fuel.
    pub(crate) fn over_budget(
        &self,
        error: &wasmtime::Error,
        budget: Duration,
    ) -> Option<HostFault> {
        let empty = matches!(self, Self::Fuel(_))
            && matches!(error.downcast_ref::<Trap>(), Some(Trap::OutOfFuel));
        empty.then_some(HostFault::OverCpu { budget })
    }
}

/// The fuel of a budget; without a bound where it exceeds what can be counted.
fn fuel_of(budget: Duration) -> u64 {
    u64::try_from(budget.as_micros())
        .unwrap_or(u64::MAX)
        .saturating_mul(FUEL_PER_MICROSECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_and_its_fuel_mean_the_same_time() {
        let budget = Duration::from_millis(100);
        let work = Work::default();
        work.0.store(fuel_of(budget), Ordering::Relaxed);
        assert_eq!(work.take(), budget);
        assert_eq!(work.take(), Duration::ZERO, "taken");
        work.0.store(1, Ordering::Relaxed);
        assert_eq!(work.take(), Duration::from_micros(1), "rounded up");
        assert_eq!(fuel_of(Duration::MAX), u64::MAX);
    }

    #[test]
    fn code_of_another_metering_has_another_name_in_the_cache() {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let hash = |metering: &Metering| {
            let engine =
                wasmtime::Engine::new(&crate::engine::config(metering)).expect("an engine");
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let fuel = Metering::Fuel(Work::default());
        assert_eq!(hash(&fuel), hash(&fuel));
        assert_ne!(hash(&fuel), hash(&Metering::CpuClock));
    }
}
