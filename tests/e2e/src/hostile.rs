//! Plugins that do their worst, and a good one beside them that tells what it notices.

use std::time::Duration;

use crate::log::Log;
use crate::{Device, Group, programs};

/// The good plugin's id.
pub const PROBE: &str = "probe";

/// A plugin that misbehaves in each of its callbacks.
#[derive(Clone, Copy, Debug)]
pub struct Hostile {
    /// How it misbehaves; its id is this after `bad-`.
    pub how: &'static str,
    /// What a warning of the host says of its end, or, of a flood, which goes on, of what it does
    /// not get.
    pub said: [&'static str; 2],
    /// Its limit of memory.
    pub memory_mib: u32,
}

const fn hostile(how: &'static str, said: [&'static str; 2], memory_mib: u32) -> Hostile {
    Hostile {
        how,
        said,
        memory_mib,
    }
}

const FAULTED: &str = "plugin faulted";
const REFUSED: &str = "are refused";

/// All of them.
pub const ALL: [Hostile; 11] = [
    hostile("loop", [FAULTED, "ms of CPU"], 4),
    hostile("timer-flood", [FAULTED, "ms of CPU"], 4),
    hostile("log-loop", [FAULTED, "ms of CPU"], 4),
    hostile("alloc", [FAULTED, "it ran out of memory"], 32),
    hostile("recurse", [FAULTED, "it trapped"], 4),
    hostile("trap", [FAULTED, "it trapped"], 4),
    hostile("panic-long", [FAULTED, "it trapped"], 16),
    hostile("sleep", [FAULTED, "it waited for more than 5 s"], 4),
    hostile("message-flood", [REFUSED, "messages are"], 4),
    hostile("publish-flood", [REFUSED, "local programs"], 4),
    hostile("state-flood", [REFUSED, "writes of state"], 4),
];

impl Hostile {
    /// The id it is installed under.
    #[must_use]
    pub fn id(self) -> String {
        format!("bad-{}", self.how)
    }

    /// Puts it into a device's plugins folder.
    pub fn install(self, device: &Device) {
        let Self {
            how, memory_mib, ..
        } = self;
        let manifest =
            format!("[config]\nalways = \"{how}\"\n[limits]\nmemory_mib = {memory_mib}\n");
        device.install_with(&programs::guest("hostile"), &self.id(), &manifest);
    }
}

/// Has every device compile their code, by one that does nothing: a compiler yields to all that runs,
/// and beside floods it would take its time.
///
/// # Panics
/// It does not run.
#[track_caller]
pub fn compile(group: &Group) {
    let idle = hostile("nothing", [""; 2], 4);
    for device in &group.devices {
        idle.install(device);
    }
    for device in &group.devices {
        device.wait_plugin(&idle.id(), 1, "running");
    }
}

/// What they may all take of a device's memory, in MiB.
#[must_use]
pub fn memory_mib() -> u32 {
    ALL.iter().map(|hostile| hostile.memory_mib).sum()
}

/// Puts the good plugin into every device's plugins folder.
pub fn install_probe(group: &Group) {
    group.install(&programs::guest(PROBE), "probe.wasm");
}

/// How long each of the good plugin's round trips took that ended after a mark.
#[must_use]
pub fn round_trips(log: &Log, mark: usize) -> Vec<Duration> {
    let lines = log.since(mark).into_iter();
    let own = lines.filter(|line| line.is_by_plugin(PROBE));
    own.filter_map(|line| {
        let micros = line.message.strip_prefix("round trip ")?;
        micros.parse().ok().map(Duration::from_micros)
    })
    .collect()
}
