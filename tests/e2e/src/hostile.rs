//! Plugins that do their worst, and a good one beside them that tells what it notices.
//!
//! [`ALL`] says what they are, [`Nuisance`] has them at work on a group's devices, and what is noticed
//! of it is in [`Noticed`] and [`Memory`].

mod notice;
mod nuisance;

use consort_test_guests::bombs;

pub use self::notice::{MEDIAN_MAX, Memory, Noticed, no_role_changed, round_trips};
pub use self::nuisance::Nuisance;
use crate::log::Log;
use crate::{Group, programs};

/// The good plugin's id.
pub const PROBE: &str = "probe";

/// Settings of a device by which the bad plugins have all that an operator would grant.
pub const GRANTS: &str = "[plugins.bad-publish-topics.capabilities]\nlocal = true\n\
                          [plugins.bad-huge-calls.capabilities]\nlocal = true\n";

/// A plugin that misbehaves, or a file that does.
#[derive(Clone, Copy, Debug)]
pub struct Hostile {
    /// How it misbehaves; its id is this after `bad-`.
    pub how: &'static str,
    /// Its limit of memory.
    pub memory_mib: u32,
    /// What the daemon itself may hold for it, in MiB.
    held_mib: u32,
    /// What tells in the log that it had its way, as far as it gets it.
    pub named: Named,
    asks: Asks,
    file: File,
    again: Again,
}

/// What the log has of it.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// A warning of the host with these words: of its end, or, of a flood, which goes on, of what it
    /// does not get.
    Warning([&'static str; 2]),
    /// It runs within its limits, and says this.
    Line(&'static str),
    /// Nothing for minutes: its compiler is still at work.
    Nothing,
}

/// What is in its manifest beside how it behaves and its limit of memory.
#[derive(Clone, Copy, Debug)]
struct Asks {
    /// Lines of `[config]`.
    config: &'static str,
    /// Lines of `[limits]`.
    limits: &'static str,
    /// A table of its own.
    capabilities: &'static str,
}

impl Asks {
    const NOTHING: Self = Self {
        config: "",
        limits: "",
        capabilities: "",
    };
}

/// What its file is.
#[derive(Clone, Copy, Debug)]
enum File {
    /// The fixture `hostile`, which behaves like that in each of its callbacks.
    Hostile,
    /// Made for the purpose.
    Made(fn() -> Vec<u8>),
    /// One of two versions of the fixture `counter`, or a part of one.
    Torn,
}

/// What keeps it going.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// What happens in the group, and the host, which begins it anew after a fault.
    ByItself,
    /// It is dropped in again, with a new content, once the log has named it.
    OnceNamed,
    /// It is dropped in again every second, with a new content, whatever became of it.
    EverySecond,
    /// It is saved many times a second, mostly in part.
    Saves,
}

/// What the daemon holds for a plugin beside its memory, all of it bounded: what waits for it and what it
/// sent, its state and the last lines of its log, threads, and its code. A whole run of tests leaves 4 to 6 of
/// state and of what the allocator keeps.
const HELD_MIB: u32 = 8;

const FAULTED: &str = "plugin faulted";
const REFUSED: &str = "are refused";
const NO_FILE: &str = "plugin file refused";
const DAMAGED: &str = "truncated or damaged";

/// All of them.
pub const ALL: [Hostile; 25] = [
    hostile("loop", [FAULTED, "ms of CPU"], 4),
    hostile("timer-flood", [FAULTED, "ms of CPU"], 4),
    hostile("log-loop", [FAULTED, "ms of CPU"], 4),
    hostile("alloc", [FAULTED, "it ran out of memory"], 32),
    hostile("recurse", [FAULTED, "it trapped"], 4),
    hostile("trap", [FAULTED, "it trapped"], 4),
    hostile("panic-long", [FAULTED, "it trapped"], 8),
    hostile("sleep", [FAULTED, "it waited for more than 5 s"], 4),
    hostile("message-flood", [REFUSED, "messages are"], 4),
    hostile("publish-flood", [REFUSED, "local programs"], 4),
    hostile("state-flood", [REFUSED, "writes of state"], 4),
    hostile("publish-topics", [REFUSED, "local programs"], 4)
        .every("every-ms = 50\n")
        .asks("[capabilities]\nlocal = true\n"),
    hostile("huge-calls", [REFUSED, "messages are"], 12)
        .every("every-ms = 100\n")
        .asks("[capabilities]\nlocal = true\n"),
    hostile("huge-key", [FAULTED, "fuel"], 12).again(Again::OnceNamed),
    hostile("reach", ["capability files.music", "not granted"], 4)
        .every("every-ms = 50\n")
        .asks("[capabilities.files]\nmusic = \"read-write\"\n"),
    hostile("hoard-handles", [FAULTED, "handle"], 4).again(Again::OnceNamed),
    hostile("forge-handle", [FAULTED, "handle"], 4).again(Again::OnceNamed),
    made("wild-number", || bombs::raw_log(2, u32::MAX - 15, 100)).says(["setup: ", "memory"]),
    Hostile {
        memory_mib: 16,
        ..made("table-hog", || bombs::table_hog(1)).says(["setup: it ran out of memory", "16 MiB"])
    },
    made("endless-start", bombs::endless_start)
        .says(["start: it used more than 1000 ms", "of CPU"])
        .within("setup_cpu_ms = 1000\n"),
    made("crowd", || bombs::busy_crowd(20_000))
        .runs(bombs::ALL_WERE_CALLED)
        .held(24),
    made("overcrowded", || bombs::busy_crowd(1_000_001))
        .says([NO_FILE, "functions"])
        .held(2 * 13),
    made("long", || bombs::long(31))
        .again(Again::EverySecond)
        .held(3 * 32),
    made("tangled", bombs::tangled).again(Again::ByItself),
    Hostile {
        file: File::Torn,
        again: Again::Saves,
        ..made("torn", Vec::new).says([NO_FILE, DAMAGED])
    },
];

/// The fixture, which goes on by itself.
const fn hostile(how: &'static str, said: [&'static str; 2], memory_mib: u32) -> Hostile {
    Hostile {
        how,
        memory_mib,
        held_mib: HELD_MIB,
        named: Named::Warning(said),
        asks: Asks::NOTHING,
        file: File::Hostile,
        again: Again::ByItself,
    }
}

/// A file of its own, which is dropped in again once it was named.
const fn made(how: &'static str, file: fn() -> Vec<u8>) -> Hostile {
    Hostile {
        how,
        memory_mib: 4,
        held_mib: HELD_MIB,
        named: Named::Nothing,
        asks: Asks::NOTHING,
        file: File::Made(file),
        again: Again::OnceNamed,
    }
}

impl Hostile {
    const fn every(mut self, config: &'static str) -> Self {
        self.asks.config = config;
        self
    }

    const fn within(mut self, limits: &'static str) -> Self {
        self.asks.limits = limits;
        self
    }

    const fn asks(mut self, capabilities: &'static str) -> Self {
        self.asks.capabilities = capabilities;
        self
    }

    const fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    const fn says(mut self, words: [&'static str; 2]) -> Self {
        self.named = Named::Warning(words);
        self
    }

    /// The daemon holds its code, as the compiler gives it and as it runs, or its file, the next one
    /// while that is read, and one that is being given up.
    const fn held(mut self, mib: u32) -> Self {
        self.held_mib = mib;
        self
    }

    const fn runs(mut self, line: &'static str) -> Self {
        self.named = Named::Line(line);
        self
    }

    /// The id it is installed under.
    #[must_use]
    pub fn id(self) -> String {
        format!("bad-{}", self.how)
    }

    /// Whether it is the file that does harm, or what runs before the first callback.
    #[must_use]
    pub const fn is_file(self) -> bool {
        !matches!(self.file, File::Hostile)
    }

    /// By how many MiB a daemon may grow that has it: what its limit allows and a tenth, and what the
    /// daemon itself holds for it.
    #[must_use]
    pub fn grows_by_mib(self) -> u64 {
        (u64::from(self.memory_mib) * 11).div_ceil(10) + u64::from(self.held_mib)
    }

    /// Whether a log has named it from a mark on. What has nothing to be named for is.
    #[must_use]
    pub fn is_named(self, log: &Log, mark: usize) -> bool {
        let id = self.id();
        let found = match self.named {
            Named::Warning(words) => log.find(mark, |line| {
                line.field("plugin") == id && line.warns_of(&words)
            }),
            Named::Line(text) => {
                log.find(mark, |line| line.is_by_plugin(&id) && line.message == text)
            }
            Named::Nothing => return true,
        };
        found.is_some()
    }

    /// Its manifest. Each round's is another content.
    fn manifest(self, round: u32) -> String {
        let Self {
            how,
            memory_mib,
            asks,
            ..
        } = self;
        let Asks {
            config,
            limits,
            capabilities,
        } = asks;
        format!(
            "[config]\nalways = \"{how}\"\nround = {round}\n{config}\
             [limits]\nmemory_mib = {memory_mib}\n{limits}{capabilities}"
        )
    }
}

/// Has every device compile the code of those that misbehave in callbacks, by one that does nothing: a
/// compiler yields to all that runs, and beside floods it would take its time.
///
/// # Panics
/// It does not run.
#[track_caller]
pub fn compile(group: &Group) {
    let idle = hostile("nothing", [""; 2], 4);
    // It needs nothing to keep it going.
    drop(Nuisance::begin(group, &[idle]));
    for device in &group.devices {
        device.wait_plugin(&idle.id(), 1, "running");
    }
}

/// Puts the good plugin into every device's plugins folder.
pub fn install_probe(group: &Group) {
    group.install(&programs::guest(PROBE), "probe.wasm");
}
