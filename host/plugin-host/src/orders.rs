//! What an operator asks of one plugin at run time, and sets for all of them. The folder's thread
//! carries it out, so that it never meets a change of the same plugin's file half-way.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use consort_proto::PluginId;
use thiserror::Error;

use crate::manifest::Overlay;

/// Orders that wait at most.
const ORDERS_MAX: usize = 64;

/// What is asked of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take its files again, changed or not; ends a quarantine.
    Reload,
    /// Unload it and leave it unloaded until the host ends or it is enabled.
    Disable,
    /// Load it, whatever the settings say.
    Enable,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// There is no such plugin.
    #[error(
        "there is no plugin {0} in the plugins folder; `consort plugin list` shows those there are"
    )]
    Unknown(PluginId),
    /// It is disabled, so there is nothing to reload.
    #[error("the plugin {0} is disabled; `consort plugin enable {0}` loads it")]
    Disabled(PluginId),
    /// The host is busy or stopping.
    #[error("the plugin host is busy or stopping; try again")]
    Busy,
}

pub(crate) type Answer = Result<(), OrderError>;

/// An order on its way.
pub(crate) struct Asked {
    pub(crate) id: PluginId,
    pub(crate) order: Order,
    pub(crate) answer: SyncSender<Answer>,
}

/// What the operator says about plugins, by id.
pub(crate) type Overlays = BTreeMap<PluginId, Overlay>;

/// The orders that wait for the folder's thread.
#[derive(Clone, Default)]
pub(crate) struct Orders(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    asked: Vec<Asked>,
    /// The settings that are to hold; of several the last.
    overlays: Option<Overlays>,
}

impl Orders {
    /// Queues an order; the answer comes when it was carried out.
    pub(crate) fn ask(&self, id: PluginId, order: Order) -> Result<Receiver<Answer>, OrderError> {
        let (answer, answered) = sync_channel(1);
        let mut waiting = self.lock();
        if waiting.asked.len() >= ORDERS_MAX {
            return Err(OrderError::Busy);
        }
        waiting.asked.push(Asked { id, order, answer });
        Ok(answered)
    }

    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// Has these settings take the place of all that were set before.
    pub(crate) fn set_overlays(&self, overlays: Overlays) {
        self.lock().overlays = Some(overlays);
    }

    pub(crate) fn take_overlays(&self) -> Option<Overlays> {
        self.lock().overlays.take()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
