//! Assembly: builds every part from the settings, in an order in which each failure leaves
//! nothing behind, and runs the driver until the daemon is told to stop.
//!
//! The order: lock the data folder; open the sockets; raise the boot counter, which must have
//! reached the disk before the node is made; make the node; open the control socket; start the
//! plugins; drive.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use consort_plugin_host::{LocalRequestError, PluginHost};
use consort_proto::crypto::Ring;
use consort_proto::{
    Keyring, Node, NodeConfig, NodeStatus, Peer, PluginId, StaticSecret, Stored, Version,
};
use ring::rand::SecureRandom as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{self, SharedClock, WallWatch};
use crate::config::{Changes, Config};
use crate::control::plugins::Hosted;
use crate::control::rotate::{Asked, REQUESTS_MAX};
use crate::control::server::ControlSocket;
use crate::driver::{Driver, Inputs, Parts};
use crate::local::{Bridge, Places};
use crate::net::{Net, OpenNetError, resolve};
use crate::plugins;
use crate::reread;
use crate::snapshot::{Origin, Publisher};
use crate::storage::{DataLock, LockError, Remembered, Storage, StorageError};

/// Outcomes of the store that wait at most.
const STORED_MAX: usize = 256;

/// Why the daemon could not run. Nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another program has the UDP port.
    #[error("{0} is in use by another program: stop it, or choose another port with network.port")]
    AddressInUse(SocketAddr),
    /// Another daemon runs on the data folder.
    #[error(
        "another daemon uses the data folder {}: stop it, or name another with data_dir",
        .0.display()
    )]
    DataFolderLocked(PathBuf),
    /// The store is not usable.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<LockError> for RunError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held(path) => Self::DataFolderLocked(path),
            error @ LockError::Io { .. } => Self::Other(error.into()),
        }
    }
}

impl From<OpenNetError> for RunError {
    fn from(error: OpenNetError) -> Self {
        match error {
            OpenNetError::AddressInUse(address) => Self::AddressInUse(address),
            error @ (OpenNetError::Listen { .. } | OpenNetError::Nothing) => {
                Self::Other(error.into())
            }
        }
    }
}

/// Runs the daemon until SIGTERM or SIGINT, then stops it in order within two seconds; what `changes`
/// finds meanwhile is given to the plugins. Needs a runtime with input, output and time; one thread
/// is enough.
///
/// # Errors
/// A part could not be started.
pub async fn run(
    config: Config,
    changes: Changes,
    identity: StaticSecret,
    group: Option<Keyring>,
) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(anyhow::Error::from)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(anyhow::Error::from)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run_until(config, Some(changes), identity, group, stop).await
}

/// Runs the daemon until `stop` ends, then stops it in order. Without `changes` the settings hold as
/// they are.
///
/// # Errors
/// A part could not be started.
pub async fn run_until(
    config: Config,
    changes: Option<Changes>,
    identity: StaticSecret,
    group: Option<Keyring>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let _lock = DataLock::take(&config.data_dir)?;
    let started = clock::now();
    let net = match &group {
        Some(_) => Net::open(&config.network, started)?,
        None => Net::closed(),
    };
    let (storage, remembered) = Storage::open(&config.data_dir)?;
    let origin = Origin {
        started,
        boot_counter: remembered.boot_counter,
    };
    let seeds = resolve::seeds(&config.network.seeds);

    let (now, wall_us) = (clock::now(), clock::wall_us());
    let node_config = node_config(&config, group, &net, resolve::literal(&seeds));
    let stored = stored(identity, remembered);
    let node =
        Node::new(node_config, stored, now, wall_us, random()?).map_err(anyhow::Error::from)?;
    let clock = Arc::new(SharedClock::new(now, wall_us));

    let (stored_out, stored) = mpsc::channel(STORED_MAX);
    // Without a listener the driver has ended, and nobody asks for the outcome.
    let store = storage.start(Arc::new(move |done| drop(stored_out.blocking_send(done))))?;
    let publisher = Publisher::new();
    let mut tasks = JoinSet::new();
    let (asked_out, control) = mpsc::channel(REQUESTS_MAX);
    let hosted = Hosted::default();
    serve_control(&config, &publisher, asked_out, &hosted, &mut tasks);
    let (seeds_out, seeds) = watch::channel(seeds);
    let network_changed = Arc::new(Notify::new());
    if net.port() != 0 {
        tasks.spawn(resolve::resolve(seeds_out, Arc::clone(&network_changed)));
    }

    let status = node.status(now);
    let (host_out, host_events) = mpsc::channel(plugins::HOST_EVENTS_MAX);
    let plugins = start_plugins(&config, &status, Arc::clone(&clock), host_out, &hosted).await?;
    log_start(&config, &status, &net);
    let _reread = changes.map(|changes| reread::start(changes, Arc::clone(&plugins)));
    let driver = Driver::new(Parts {
        node,
        net,
        plugins,
        store,
        clock,
        publisher,
        origin,
        wall: WallWatch::new(now, wall_us),
    });
    driver
        .run(Inputs {
            host_events,
            stored,
            seeds,
            network_changed,
            control,
            stop: Box::pin(stop),
        })
        .await;
    hosted.close_sockets();
    tasks.shutdown().await;
    Ok(())
}

fn node_config(
    config: &Config,
    group: Option<Keyring>,
    net: &Net,
    seeds: Vec<consort_proto::Address>,
) -> NodeConfig {
    NodeConfig {
        name: config.name.clone(),
        group,
        version: env!("CARGO_PKG_VERSION")
            .parse::<Version>()
            .expect("the manifest's version has three numbers"),
        port: net.port(),
        aes_in_hardware: aes_in_hardware(),
        seeds,
        access: config.access.clone(),
        crypto: Arc::new(Ring),
        send_rate: config.network.send_rate,
    }
}

fn stored(secret: StaticSecret, remembered: Remembered) -> Stored {
    Stored {
        state: remembered.state,
        secret,
        boot_counter: remembered.boot_counter,
        epoch_ceilings: remembered.epoch_ceilings,
        addresses: remembered.addresses,
    }
}

/// Without the control socket the daemon does its work all the same, but nobody can ask it.
fn serve_control(
    config: &Config,
    publisher: &Publisher,
    driver: mpsc::Sender<Asked>,
    hosted: &Hosted,
    tasks: &mut JoinSet<()>,
) {
    match ControlSocket::open(&config.data_dir) {
        Ok(socket) => {
            tracing::debug!(path = %socket.path().display(), "control socket");
            tasks.spawn(socket.serve(publisher.subscribe(), driver, hosted.clone()));
        }
        Err(error) => {
            tracing::error!(%error, "`consort status` will not reach this daemon");
        }
    }
}

async fn start_plugins(
    config: &Config,
    status: &NodeStatus,
    clock: Arc<SharedClock>,
    out: mpsc::Sender<plugins::HostEvent>,
    hosted: &Hosted,
) -> Result<Arc<PluginHost>, RunError> {
    let this_device = Peer {
        device: status.device,
        name: status.name.clone(),
        address: "127.0.0.1".to_owned(),
        is_self: true,
        clock_delta: 0,
        round_trip: 0,
    };
    let (config, seed) = (config.clone(), random()?);
    let bridge = bridge(&config, hosted);
    let start = move || plugins::start(&config, this_device, seed, clock, out, bridge);
    let started = tokio::task::spawn_blocking(start)
        .await
        .map_err(anyhow::Error::from)?;
    let plugins = started.map_err(anyhow::Error::from)?;
    // There is one host for the life of this daemon.
    let _ = hosted.host.set(Arc::clone(&plugins));
    Ok(plugins)
}

/// What plugins and local programs talk to each other by. It is there before the plugins are, and
/// has none to ask until then.
fn bridge(config: &Config, hosted: &Hosted) -> Arc<Bridge> {
    let host = Arc::clone(&hosted.host);
    let ask = move |id: &PluginId, request| match host.get() {
        Some(host) => host.local_request(id, request),
        None => Err(LocalRequestError::NotRunning { state: "starting" }),
    };
    let places = Places::new(&config.data_dir, &config.local);
    let bridge = Arc::new(Bridge::new(places, Arc::new(ask), Handle::current()));
    // There is one bridge too.
    let _ = hosted.bridge.set(Arc::clone(&bridge));
    bridge
}

fn log_start(config: &Config, status: &NodeStatus, net: &Net) {
    let listen: Vec<String> = net.local_addresses().map(|a| a.to_string()).collect();
    tracing::info!(
        device = %status.device,
        name = status.name,
        version = env!("CARGO_PKG_VERSION"),
        listen = listen.join(" "),
        data_dir = %config.data_dir.display(),
        plugins_dir = %config.plugins_dir.display(),
        "running"
    );
    if !status.has_group {
        tracing::info!(
            "no group secret: this device is a group of one and sends nothing; \
             make a secret with `consort group new`, or join with `consort group join`"
        );
    }
}

/// 32 bytes from the system's generator.
fn random() -> Result<[u8; 32], RunError> {
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes)
}

/// Whether AES-GCM is the faster cipher here: both its parts must be in hardware.
fn aes_in_hardware() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests;
