//! What an operator asks of one plugin at run time. The folder's thread carries orders out, so that
//! they never meet a change of the same plugin's file half-way.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use consort_proto::PluginId;
use thiserror::Error;

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

/// The orders that wait for the folder's thread.
#[derive(Clone, Default)]
pub(crate) struct Orders(Arc<Mutex<Vec<Asked>>>);

impl Orders {
    /// Queues an order; the answer comes when it was carried out.
    pub(crate) fn ask(&self, id: PluginId, order: Order) -> Result<Receiver<Answer>, OrderError> {
        let (answer, answered) = sync_channel(1);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= ORDERS_MAX {
            return Err(OrderError::Busy);
        }
        waiting.push(Asked { id, order, answer });
        Ok(answered)
    }

    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
