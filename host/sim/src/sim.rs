//! The world: devices, network, time, and the loop that moves it on.

use core::fmt::Write;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::crypto::Crypto;
use consort_proto::{Address, DeviceId, PluginId, StoreRecord, Time};
use rand_chacha::ChaCha12Rng;

use crate::checker::{Brackets, Checker, Delivery, Forward, Membership, Observation, Place};
use crate::device::Device;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::queue::Queue;
use crate::seed::Seed;
use crate::timeline::{Recorder, Timeline};
use crate::trace::Trace;

mod build;
mod clocks;
mod devices;
mod drive;
mod faults;
mod hosted;
mod plugins;
mod rotation;
mod scripted;
mod slow;
mod state;
mod views;
mod wards;
mod watch;
mod writes;

pub use build::{SimBuilder, spec};
pub(crate) use hosted::{Ban, Banned, Hosting, Wanted};
pub use state::Edit;
pub use writes::{Kind, Workload};

/// A group of devices in virtual time.
#[derive(Debug)]
pub struct Sim {
    name: String,
    seed: Seed,
    now: Time,
    queue: Queue<Happening>,
    network: Network,
    devices: Vec<Device>,
    by_address: BTreeMap<Address, usize>,
    by_id: BTreeMap<DeviceId, usize>,
    crypto: Arc<dyn Crypto>,
    rng: ChaCha12Rng,
    brackets: Brackets,
    membership: Membership,
    delivery: Delivery,
    ledger: Ledger,
    forward: Forward,
    /// How many sessions of plugins there were.
    sessions: u64,
    next_message: u64,
    beats: Vec<Beat>,
    workloads: Vec<writes::Running>,
    recording: Vec<Recorded>,
    /// How many datagrams are kept at least; 0 for none.
    record_max: usize,
    /// Whether a broken property unwinds with a [`Broken`] instead of a panic.
    gentle: bool,
    recorder: Recorder,
    oracle: Oracle,
    wards: wards::Wards,
    /// The changes that the last look for heals knew.
    watched_changes: u64,
    /// When agreement is looked at again.
    next_look: Time,
    trace: Trace,
    log: Log,
    stats: Stats,
    /// Grows with everything that a plugin is told, and with every start and stop.
    changes: u64,
    /// The plugin whose own code runs, if there is one.
    hosting: Option<Box<Hosting>>,
}

/// Something planned.
#[derive(Debug)]
enum Happening {
    Start {
        node: usize,
    },
    Deliver {
        to: usize,
        from: Address,
        payload: Bytes,
    },
    Wake {
        node: usize,
        life: u32,
    },
    Stored {
        node: usize,
        life: u32,
        token: u64,
        record: StoreRecord,
        sync: bool,
    },
    Beat {
        index: usize,
    },
    HandOver {
        node: usize,
        life: u32,
        writes: Box<slow::Slow>,
    },
    Write {
        index: usize,
    },
    Turn {
        node: usize,
        life: u32,
    },
}

/// Steady traffic: whoever leads broadcasts.
#[derive(Debug)]
struct Beat {
    plugin: PluginId,
    every: Duration,
    len: usize,
    stopped: bool,
}

/// A datagram that was sent to one address.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When.
    pub at: Time,
    /// By whom.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// What.
    pub payload: Bytes,
}

/// What a gentle run unwinds with: the property that broke.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

/// Counts over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams handed to the network, once for each receiver.
    pub datagrams: u64,
    /// Their bytes of UDP payload.
    pub bytes: u64,
    /// Datagrams that reached a node.
    pub arrived: u64,
    /// Broadcasts of beats that were refused as busy.
    pub beats_busy: u64,
    /// Broadcasts of beats.
    pub beats: u64,
    /// Receivers of those broadcasts: devices of the group that were up, at the time of sending.
    pub deliveries_expected: u64,
    /// Members that devices held for gone, whatever the reason.
    pub removals: u64,
    /// Cookies that devices under load sent instead of an answer.
    pub cookies: u64,
    /// Datagrams that devices sent to addresses of nobody.
    pub astray: u64,
    /// Their bytes of UDP payload.
    pub astray_bytes: u64,
}

impl Sim {
    /// Begins a group for the scenario `name`, which is the test's name.
    #[must_use]
    pub fn builder(name: &str, seed: Seed) -> SimBuilder {
        SimBuilder::new(name, seed)
    }

    /// Virtual time since the start of the run.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The number that decided this run.
    #[must_use]
    pub const fn seed(&self) -> Seed {
        self.seed
    }

    /// Counts over the whole run.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// A hash over everything that happened so far.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Who was up and who led when, and what was broken.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.recorder.timeline(self.now)
    }

    /// The last notable lines of the trace.
    pub fn notable(&self) -> impl Iterator<Item = &str> {
        self.trace.notable()
    }

    /// What happened as text, if [`SimBuilder::keep_text`] asked for it.
    #[must_use]
    pub fn trace_text(&self) -> Option<&str> {
        self.trace.text()
    }

    /// Lets `duration` pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_to(self.now + duration);
    }

    /// Lets time pass until `end`; nothing happens if that is past.
    pub fn run_to(&mut self, end: Time) {
        let end = end.max(self.now);
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `holds`, at most `limit`; the time it took, or none.
    ///
    /// The condition is looked at after every change in what plugins know.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let end = start + limit;
        if holds(self) {
            return Some(Duration::ZERO);
        }
        let mut changes = self.changes;
        while self.step(end) {
            if changes != self.changes {
                changes = self.changes;
                if holds(self) {
                    return Some(self.now.since(start));
                }
            }
        }
        self.now = end;
        None
    }

    /// Lets time pass until `holds`, which must come within `limit`; the time it took.
    ///
    /// # Panics
    /// It did not come; the message shows what every device knows.
    pub fn expect_within(
        &mut self,
        limit: Duration,
        what: &str,
        holds: impl FnMut(&Self) -> bool,
    ) -> Duration {
        match self.run_until(limit, holds) {
            Some(took) => took,
            None => self.fail(&format!("not within {limit:?}: {what}")),
        }
    }

    /// Fails the scenario unless `holds`.
    ///
    /// # Panics
    /// It does not hold; the message shows what every device knows.
    pub fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    /// Ends the run with the reason, the seed, and what led there.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, reason: &str) -> ! {
        if self.gentle {
            std::panic::resume_unwind(Box::new(Broken(reason.to_owned())));
        }
        let mut text = format!("{reason}\n  at {} of scenario {}\n", self.now, self.name);
        for line in self.trace.notable() {
            writeln!(text, "  | {line}").expect("a string takes all text");
        }
        text.push_str(&self.describe());
        panic!("{text}")
    }

    /// Handles the next planned event, if one is due by `end`.
    fn step(&mut self, end: Time) -> bool {
        self.watch();
        let Some((at, happening)) = self.queue.pop_until(end) else {
            return false;
        };
        self.now = at;
        self.happen(happening);
        true
    }

    /// Shows an observation to every checker.
    fn observe(&mut self, node: usize, seen: &Observation<'_>) {
        let device = &self.devices[node];
        let place = Place {
            now: self.now,
            node,
            device: device.id,
            group: device
                .config
                .group
                .as_ref()
                .map(consort_proto::GroupSecret::group_id),
        };
        let checkers: [&mut dyn Checker; 4] = [
            &mut self.brackets,
            &mut self.membership,
            &mut self.delivery,
            &mut self.ledger,
        ];
        let problem = checkers
            .into_iter()
            .find_map(|checker| checker.observe(&place, seen).err());
        if let Some(problem) = problem {
            self.fail(&format!("n{node}: {problem}"));
        }
    }

    fn note(&mut self, line: &str) {
        self.trace.note(self.now, line);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: CONSORT_SEED={} cargo test -p consort-scenarios {}",
                self.seed, self.name
            );
        }
    }
}
