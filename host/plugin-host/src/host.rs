//! All plugins of one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use consort_proto::{Peer, PluginEvent, PluginId};
use thiserror::Error;
use tracing::warn;

use crate::compiler::Compiler;
use crate::cores::Cores;
use crate::engine::{Runtime, RuntimeError};
use crate::fence::Fence;
use crate::jobs::Jobs;
use crate::keeper::{Actor, Keeper, Plugins};
use crate::log_ring::LogLine;
use crate::manifest::Overlay;
use crate::orders::{Order, OrderError, Orders};
use crate::priority;
use crate::status::{GroupClock, HostEvent, PluginDetails, PluginHostStatus};
use crate::supervisor::{Control, Surroundings};
use crate::watch::{Bell, FolderWatch, Settler};
use crate::{LocalRequest, LocalRequestError, ShutdownReason};

/// How often a stopping host looks whether its threads have ended.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// How long an order may take.
const ORDER_MAX: Duration = Duration::from_secs(15);

/// What a host is made with.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The folder that holds the plugins. It may be missing, and come later.
    pub plugins_dir: PathBuf,
    /// Where compiled code is kept; made private to this user.
    pub cache_dir: PathBuf,
    /// What compiles the plugins' files.
    pub compiler: Compiler,
    /// Where the cores of plugins that trap are kept; made if it is missing.
    pub cores_dir: Option<PathBuf>,
    /// This device, as plugins see it.
    pub this_device: Peer,
    /// What the operator says about plugins, by id.
    pub overlays: BTreeMap<PluginId, Overlay>,
    /// From a cryptographic generator, new at every start: plugins draw from it.
    pub seed: [u8; 32],
}

/// Why no host was started. Nothing is left running.
#[derive(Debug, Error)]
pub enum StartHostError {
    /// The machine lacks what plugins need.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The folder for cores cannot be made.
    #[error("the folder for cores {} cannot be made: {source}", .path.display())]
    Cores {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system gives no thread.
    #[error("no thread can be started for the plugins folder: {0}")]
    Thread(io::Error),
}

/// Runs the plugins of a folder, each on a thread of its own.
pub struct PluginHost {
    plugins: Arc<Plugins>,
    stopping: Arc<AtomicBool>,
    bell: Bell,
    orders: Orders,
    /// Taken by the first shutdown.
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// A plugin that is to end.
type Ending = (PluginId, JoinHandle<()>, Fence);

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost")
            .field("plugins", &self.status())
            .finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Starts all plugins of the folder and watches it. `out` is called from the plugins' threads,
    /// in order for each plugin; it must not wait for this host.
    ///
    /// # Errors
    /// The cache folder or the machine cannot be used. A missing plugins folder is no error.
    pub fn start(
        config: HostConfig,
        clock: Arc<dyn GroupClock>,
        out: Arc<dyn Fn(HostEvent) + Send + Sync>,
    ) -> Result<Self, StartHostError> {
        let cores = config.cores_dir.map(open_cores).transpose()?;
        let surroundings = Arc::new(Surroundings {
            runtime: Runtime::with_compiler(&config.cache_dir, config.compiler, cores)?,
            clock,
            out,
            this_device: config.this_device,
            seed: config.seed,
            runs: AtomicU64::new(0),
        });
        let plugins = Arc::new(Plugins::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let watch = FolderWatch::new(config.plugins_dir.clone());
        let bell = watch.bell();
        let orders = Orders::default();
        let keeper = Keeper {
            folder: config.plugins_dir,
            overlays: config.overlays,
            surroundings,
            plugins: Arc::clone(&plugins),
            watch,
            stopping: Arc::clone(&stopping),
            settler: Settler::default(),
            jobs: Jobs::default(),
            orders: orders.clone(),
            switched: BTreeMap::new(),
            hashes: BTreeMap::new(),
            said: BTreeSet::new(),
            threadless: BTreeMap::new(),
            unreadable: None,
            lines_written: 0,
        };
        let keeper = thread::Builder::new()
            .name("plugins-folder".into())
            .spawn(move || {
                priority::come_as_usual();
                keeper.run();
            })
            .map_err(StartHostError::Thread)?;
        Ok(Self {
            plugins,
            stopping,
            bell,
            orders,
            keeper: Mutex::new(Some(keeper)),
        })
    }

    /// Hands an event to a plugin. Never waits for the plugin; an unknown plugin's event is lost.
    pub fn deliver(&self, id: &PluginId, event: PluginEvent) {
        if let Some(actor) = self
            .plugins
            .lock()
            .get(id)
            .and_then(|entry| entry.actor.as_ref())
        {
            actor.mailbox.push(event);
        }
    }

    /// Hands a request of a local program to a plugin. Never waits for the plugin.
    ///
    /// # Errors
    /// There is no such plugin, or too many requests wait for it; the request's answer is not called
    /// then.
    pub fn local_request(
        &self,
        id: &PluginId,
        request: LocalRequest,
    ) -> Result<(), LocalRequestError> {
        let plugins = self.plugins.lock();
        let actor = plugins.get(id).and_then(|entry| entry.actor.as_ref());
        let actor = actor.ok_or(LocalRequestError::Unknown)?;
        let queued = actor.mailbox.request(request);
        queued.map_err(|_| LocalRequestError::Busy)
    }

    /// Group time was set back: every plugin gets a new instance and what it ought to know.
    pub fn clock_set_back(&self) {
        self.each_actor(|actor| actor.mailbox.control(Control::SetBack));
    }

    /// Group time runs differently: timers are to be looked at again.
    pub fn clock_changed(&self) {
        self.each_actor(|actor| actor.mailbox.poke());
    }

    /// All plugins, ordered by id.
    #[must_use]
    pub fn status(&self) -> Vec<PluginHostStatus> {
        let plugins = self.plugins.lock();
        let status = plugins.values().map(|entry| {
            let mut status = entry.board.lock().clone();
            if let Some(actor) = &entry.actor {
                status.dropped_messages = actor.mailbox.messages_dropped();
            }
            status
        });
        status.collect()
    }

    /// What holds for a plugin, once one of its contents was taken.
    #[must_use]
    pub fn details(&self, id: &PluginId) -> Option<Arc<PluginDetails>> {
        let plugins = self.plugins.lock();
        plugins.get(id)?.board.details().clone()
    }

    /// The last lines of a plugin with a number above `after`, oldest first; none if there is no
    /// such plugin.
    #[must_use]
    pub fn log_lines(&self, id: &PluginId, after: u64) -> Option<Vec<LogLine>> {
        let plugins = self.plugins.lock();
        Some(plugins.get(id)?.board.log().after(after))
    }

    /// Carries out an order and waits for it, which may take as long as a plugin's last callbacks.
    ///
    /// # Errors
    /// There is no such plugin, or the host is busy or stopping.
    pub fn order(&self, id: &PluginId, order: Order) -> Result<(), OrderError> {
        let answered = self.orders.ask(id.clone(), order)?;
        self.bell.ring();
        answered
            .recv_timeout(ORDER_MAX)
            .unwrap_or(Err(OrderError::Busy))
    }

    /// Has `overlays` take the place of what the operator said about plugins before. Soon after, those
    /// for which something else holds are reloaded, loaded or unloaded; the others go on. Never waits.
    pub fn set_overlays(&self, overlays: BTreeMap<PluginId, Overlay>) {
        self.orders.set_overlays(overlays);
        self.bell.ring();
    }

    /// Unloads all plugins: demotion, `shutdown(stop)`, [`HostEvent::Down`]. What takes longer than
    /// `within` is left behind with a warning. A second call finds nothing to do.
    pub fn shutdown(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.stopping.store(true, Ordering::Release);
        self.bell.ring();
        self.each_actor(|actor| actor.stop(ShutdownReason::Stop));
        let mut departures = self.plugins.departures();
        let entries = std::mem::take(&mut *self.plugins.lock());
        let running = entries
            .into_iter()
            .filter_map(|(id, entry)| entry.actor.map(|actor| (id, actor.thread, actor.fence)));
        let mut actors: Vec<_> = running.chain(departures.take_all()).collect();
        drop(departures);
        let waits = |actors: &[Ending]| actors.iter().any(|(_, thread, _)| !thread.is_finished());
        let keeper = self
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let keeper_runs = || keeper.as_ref().is_some_and(|keeper| !keeper.is_finished());
        while (waits(&actors) || keeper_runs()) && Instant::now() < deadline {
            thread::sleep(STOP_LOOK);
        }
        actors.retain(|(_, thread, _)| !thread.is_finished());
        for (id, _, fence) in &actors {
            fence.close();
            warn!(plugin = %id, "did not stop in time; left behind");
        }
        if keeper_runs() {
            warn!("the plugins folder's thread did not stop in time; left behind");
        }
    }

    fn each_actor(&self, act: impl Fn(&Actor)) {
        self.plugins
            .lock()
            .values()
            .filter_map(|entry| entry.actor.as_ref())
            .for_each(act);
    }
}

fn open_cores(path: PathBuf) -> Result<Cores, StartHostError> {
    Cores::open(&path).map_err(|source| StartHostError::Cores { path, source })
}
