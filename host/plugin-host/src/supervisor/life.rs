//! The life of a plugin: discovered → compiling → setup → running ⇄ reloading; a fault → back-off
//! → running again, or quarantined; a file that never worked is rejected.

use std::time::Instant;

use consort_proto::PluginSpec;

use crate::Instance;

/// Where a plugin is in its life.
#[derive(Debug)]
pub(super) enum Life {
    /// Its file was seen.
    Discovered,
    /// Its first usable content is being compiled.
    Compiling,
    /// An instance is being made.
    Setup,
    /// An instance takes events.
    Running(Running),
    /// A new generation is taking over; events wait.
    Reloading,
    /// The instance was lost; another one follows.
    BackOff {
        /// When.
        until: Instant,
    },
    /// Too many faults: nothing happens until the file changes.
    Quarantined,
    /// The file is no plugin: nothing happens until it changes.
    Rejected,
    /// Unloaded; the thread ends.
    Stopped,
}

/// A running instance.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) instance: Box<Instance>,
    pub(super) since: Instant,
}

impl Life {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Compiling => "compiling",
            Self::Setup => "setup",
            Self::Running(_) => "running",
            Self::Reloading => "reloading",
            Self::BackOff { .. } => "back-off",
            Self::Quarantined => "quarantined",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
        }
    }
}

/// What the daemon was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// There is no instance, or never was one.
    Down,
    /// An instance runs.
    Up(PluginSpec),
    /// The instance was lost.
    Faulted,
}
