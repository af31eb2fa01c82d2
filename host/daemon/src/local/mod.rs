//! The bridge between plugins and the programs on their device.
//!
//! Each plugin that holds the capability `local` has a Unix socket of its own; whoever may open it
//! may use it. On it goes one JSON object per line, both ways ([`line`]), so that a shell script needs
//! no library. A [`Hub`] per plugin passes on what is published and keeps what is retained; a task per
//! client reads its lines and writes what is queued for it.
//!
//! Invariants: a plugin's thread never waits for a client, and no client for another; clients, their
//! queues, topics and retained messages are bounded; who does not read is dropped and told why.

mod connection;
mod hub;
pub mod line;
mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consort_plugin_host::{HostEvent, LocalMessage, LocalRequest, LocalRequestError};
use consort_proto::PluginId;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::hub::Hub;
use self::line::Said;
pub use self::place::Places;

/// How long to pause where a client cannot be accepted, as when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What hands a request to a plugin without waiting for it.
pub type Ask = dyn Fn(&PluginId, LocalRequest) -> Result<(), LocalRequestError> + Send + Sync;

/// The sockets of all plugins that hold the capability.
pub struct Bridge {
    places: Places,
    ask: Arc<Ask>,
    runtime: Handle,
    open: Mutex<BTreeMap<PluginId, Open>>,
}

/// One plugin's socket.
struct Open {
    hub: Arc<Hub>,
    path: PathBuf,
    accepting: AbortHandle,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge whose clients are served by `runtime`.
    #[must_use]
    pub fn new(places: Places, ask: Arc<Ask>, runtime: Handle) -> Self {
        Self {
            places,
            ask,
            runtime,
            open: Mutex::default(),
        }
    }

    /// Takes what concerns local programs, and gives back what else the driver is to know. Called by
    /// plugins' threads; it waits for nobody.
    pub fn take(&self, event: HostEvent) -> Option<HostEvent> {
        match event {
            HostEvent::Local { id, held: true } => self.open(&id),
            HostEvent::Local { id, held: false } => self.close(&id),
            HostEvent::Published { id, messages } => self.publish(&id, messages),
            HostEvent::Down(id) => {
                self.close(&id);
                return Some(HostEvent::Down(id));
            }
            other => return Some(other),
        }
        None
    }

    /// Where a plugin's socket is, if it has one.
    #[must_use]
    pub fn path(&self, id: &PluginId) -> Option<PathBuf> {
        self.lock().get(id).map(|open| open.path.clone())
    }

    /// Closes every socket and sends all clients away.
    pub fn close_all(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn open(&self, id: &PluginId) {
        let listening = self.places.listen(id).and_then(|(listener, path)| {
            let _entered = self.runtime.enter();
            Ok((UnixListener::from_std(listener)?, path))
        });
        let (listener, path) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                tracing::warn!(
                    plugin = %id, cause = %error,
                    "there is no socket for local programs; the plugin runs without them"
                );
                return;
            }
        };
        tracing::info!(plugin = %id, path = %path.display(), "local programs can talk to the plugin");
        let hub = Arc::new(Hub::new(id.clone()));
        let accept = accept(listener, Arc::clone(&hub), Arc::clone(&self.ask));
        let accepting = self.runtime.spawn(accept).abort_handle();
        let open = Open {
            hub,
            path,
            accepting,
        };
        let before = self.lock().insert(id.clone(), open);
        drop(before);
    }

    fn close(&self, id: &PluginId) {
        let closed = self.lock().remove(id);
        drop(closed);
    }

    fn publish(&self, id: &PluginId, messages: Vec<LocalMessage>) {
        let hub = self.lock().get(id).map(|open| Arc::clone(&open.hub));
        if let Some(hub) = hub {
            messages.iter().for_each(|message| hub.publish(message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
        self.hub.close();
        place::remove(&self.path);
    }
}

/// Serves a plugin's clients until it is aborted.
async fn accept(listener: UnixListener, hub: Arc<Hub>, ask: Arc<Ask>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(plugin = %hub.id(), cause = %error, "a local program cannot connect");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match hub.join() {
            Some(client) => {
                let (hub, ask) = (Arc::clone(&hub), Arc::clone(&ask));
                tokio::spawn(connection::serve(stream, client, hub, ask));
            }
            None => {
                tokio::spawn(turn_away(stream));
            }
        }
    }
}

async fn turn_away(mut stream: UnixStream) {
    let text = format!("the plugin has {} clients already", hub::CLIENTS_MAX);
    let line = Said::error("too-many-clients", &text, None).encode();
    // It fits into an empty socket, so it never waits; a client that has gone is none to tell.
    let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(&line)).await;
}

#[cfg(test)]
mod tests;
