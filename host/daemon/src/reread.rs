//! The thread that looks at the settings' file and gives the plugins what changed in it.
//!
//! It has a thread of its own because a folder on a network may let a look wait, and the daemon's
//! loop must not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use consort_plugin_host::PluginHost;

use crate::config::{Changes, ConfigError, Reread};

/// The settings' file is looked at until this is dropped.
#[derive(Debug)]
pub struct Rereading {
    _running: Sender<()>,
}

/// Begins to look at the file. Where there is no thread for it the log says so, and the settings hold
/// as they are.
#[must_use]
pub fn start(changes: Changes, plugins: Arc<PluginHost>) -> Rereading {
    let (running, ended) = channel();
    let thread = thread::Builder::new()
        .name("settings-file".to_owned())
        .spawn(move || follow(changes, &plugins, &ended));
    if let Err(error) = thread {
        tracing::warn!(cause = %error, "changes of the settings' file will not be noticed");
    }
    Rereading { _running: running }
}

fn follow(mut changes: Changes, plugins: &PluginHost, ended: &Receiver<()>) {
    loop {
        let rest = changes.rest(Instant::now());
        if ended.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        act_on(changes.look(Instant::now()), plugins);
    }
}

fn act_on(found: Result<Option<Reread>, ConfigError>, plugins: &PluginHost) {
    let reread = match found {
        Ok(Some(reread)) => reread,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(
                cause = %error,
                "the changed settings cannot be used; what was set before holds on"
            );
            return;
        }
    };
    if !reread.waiting.is_empty() {
        let keys: Vec<String> = reread.waiting.iter().map(ToString::to_string).collect();
        tracing::warn!(
            settings = keys.join(", "),
            "changed settings that hold from the next start of the daemon on"
        );
    }
    if let Some(overlays) = reread.plugins {
        plugins.set_overlays(overlays);
    }
}
