//! What stands between a plugin's thread and everything outside it.
//!
//! A thread can be blocked in a system call for as long as the system likes, and cannot be ended from
//! outside. Who has waited long enough closes the fence: from then on nothing that the thread says
//! gets out, so that another one may speak for the plugin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The fence of one plugin's thread, and of those that set up its next generations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closed: Mutex<bool>,
    ending: AtomicBool,
    ended: AtomicBool,
}

impl Fence {
    /// Says something outside, unless the fence is closed. What is being said when it is closed is
    /// finished before [`Fence::close`] returns.
    pub(crate) fn pass(&self, say: impl FnOnce()) {
        let closed = self.0.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*closed {
            say();
        }
    }

    /// Lets nothing out any more.
    pub(crate) fn close(&self) {
        *self.0.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.0.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin is to end: events that were taken already need not be handled.
    pub(crate) fn begin_end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    /// Whether the plugin is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Acquire)
    }

    /// The thread has done everything it does.
    pub(crate) fn note_end(&self) {
        self.0.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }
}
