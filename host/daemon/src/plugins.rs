//! What the driver needs of the plugin host, as one small interface.
//!
//! The driver talks to [`Plugins`]: the daemon puts the plugin host behind it, tests a recorder.
//! In the other direction the host's threads hand their [`HostEvent`]s to a bounded queue and wait
//! where it is full: a plugin that acts faster than the node takes it is slowed down, and nothing
//! it was promised is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use consort_plugin_host::{
    ChildCompiler, CompileLimits, Compiler, HostConfig, PluginHost, StartHostError,
};
pub use consort_plugin_host::{ClockReading, GroupClock, HostEvent, PluginHostStatus};
use consort_proto::{Peer, PluginEvent, PluginId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::Config;
use crate::local::Bridge;

/// Events of the host that wait at most.
pub const HOST_EVENTS_MAX: usize = 1024;

/// The hidden command by which this program compiles one plugin.
pub const COMPILE_COMMAND: &str = "compile-plugin";

/// The running plugins, as the driver sees them. No call waits for a plugin but
/// [`Plugins::shutdown`].
pub trait Plugins: Send + Sync {
    /// Puts an event into a plugin's mailbox.
    fn deliver(&self, id: &PluginId, event: PluginEvent);
    /// Group time was set back: every plugin starts anew.
    fn clock_set_back(&self);
    /// Group time moved against the monotonic clock: alarms are computed anew.
    fn clock_changed(&self);
    /// Every plugin's state, for observers.
    fn status(&self) -> Vec<PluginHostStatus>;
    /// Ends all plugins in order; waits for them up to `within`.
    fn shutdown(&self, within: Duration);
}

impl Plugins for PluginHost {
    fn deliver(&self, id: &PluginId, event: PluginEvent) {
        Self::deliver(self, id, event);
    }

    fn clock_set_back(&self) {
        Self::clock_set_back(self);
    }

    fn clock_changed(&self) {
        Self::clock_changed(self);
    }

    fn status(&self) -> Vec<PluginHostStatus> {
        Self::status(self)
    }

    fn shutdown(&self, within: Duration) {
        Self::shutdown(self, within);
    }
}

/// Where compiled code is kept in a device's data folder.
pub const CACHE_FOLDER: &str = "cache";

/// Starts the plugin host on the folders of `config`; its events go to `bridge` where they concern
/// local programs, else to `out`. Reads files and may compile, so it belongs on a thread that may
/// block.
///
/// # Errors
/// The host's folders or its engine are unusable.
pub fn start(
    config: &Config,
    this_device: Peer,
    seed: [u8; 32],
    clock: Arc<dyn GroupClock>,
    out: mpsc::Sender<HostEvent>,
    bridge: Arc<Bridge>,
) -> Result<Arc<PluginHost>, StartHostError> {
    let host_config = HostConfig {
        plugins_dir: config.plugins_dir.clone(),
        cache_dir: config.data_dir.join(CACHE_FOLDER),
        compiler: compiler(),
        cores_dir: config.cores_dir.clone(),
        this_device,
        overlays: config.plugins.clone(),
        seed,
    };
    let host = PluginHost::start(
        host_config,
        clock,
        Arc::new(move |event| {
            if let Some(event) = bridge.take(event) {
                hand_over(&out, event);
            }
        }),
    )?;
    Ok(Arc::new(host))
}

/// Plugins are compiled by children that run this program. The path stays right when an upgrade
/// replaces the file, so that compiled code always fits this process.
pub(crate) fn compiler() -> Compiler {
    #[cfg(target_os = "linux")]
    let program = PathBuf::from("/proc/self/exe");
    #[cfg(not(target_os = "linux"))]
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("consort"));
    Compiler::Child(ChildCompiler {
        program,
        arguments: vec![COMPILE_COMMAND.into()],
        limits: CompileLimits::default(),
    })
}

/// Queues an event, waiting where the queue is full. After the driver's end events go nowhere.
fn hand_over(out: &mpsc::Sender<HostEvent>, event: HostEvent) {
    match out.try_send(event) {
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(event)) => {
            // Fails only when the driver has ended.
            let _ = out.blocking_send(event);
        }
    }
}
