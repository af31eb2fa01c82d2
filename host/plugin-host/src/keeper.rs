//! The thread that looks after the plugins folder: it reads what changed, compiles it, and hands it
//! to the plugin's own thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use consort_proto::PluginId;
use tracing::{debug, error, info, warn};

use crate::allowance::Limits;
use crate::folder::{self, Content, ContentHash, Found, ReadError, Scan};
use crate::mailbox::Mailbox;
use crate::manifest::{Overlay, Settings};
use crate::status::{Board, HostEvent};
use crate::supervisor::{Candidate, Control, Supervisor, Surroundings};
use crate::watch::{Change, FolderWatch, Settler};
use crate::{Code, ShutdownReason};

/// The plugins that have a thread, or are known not to get one.
#[derive(Default)]
pub(crate) struct Plugins {
    pub(crate) by_id: Mutex<BTreeMap<PluginId, Entry>>,
}

/// One plugin.
pub(crate) struct Entry {
    pub(crate) board: Board,
    /// None if the operator disabled it.
    pub(crate) actor: Option<Actor>,
}

/// A plugin's thread.
pub(crate) struct Actor {
    pub(crate) mailbox: Arc<Mailbox<Control>>,
    pub(crate) thread: JoinHandle<()>,
}

impl Plugins {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginId, Entry>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self, id: &PluginId, control: Control) {
        if let Some(actor) = self.lock().get(id).and_then(|entry| entry.actor.as_ref()) {
            actor.mailbox.control(control);
        }
    }
}

/// Looks after the folder; [`Keeper::run`] is the thread's body.
pub(crate) struct Keeper {
    pub(crate) folder: PathBuf,
    pub(crate) overlays: BTreeMap<PluginId, Overlay>,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) watch: FolderWatch,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) settler: Settler,
    /// What was handed over last, usable or not.
    pub(crate) hashes: BTreeMap<PluginId, ContentHash>,
    /// What the log has said already.
    pub(crate) said: BTreeSet<String>,
}

impl Keeper {
    pub(crate) fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.look();
            self.watch.wait(self.settler.next_look());
        }
    }

    fn look(&mut self) {
        // The watch comes before the scan: what is written in between is noticed by one of them.
        self.watch.set_present(self.folder.is_dir());
        let scan = match folder::scan(&self.folder) {
            Ok(scan) => scan,
            Err(error) => {
                self.say_unreadable(&error);
                if error.kind() != io::ErrorKind::NotFound {
                    // Nothing is known to be gone.
                    return;
                }
                Scan::default()
            }
        };
        for (path, why) in &scan.ignored {
            if self.said.insert(format!("{} {why}", path.display())) {
                warn!(file = %path.display(), cause = %why, "not taken for a plugin");
            }
        }
        for change in self.settler.observe(&scan, Instant::now()) {
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match change {
                Change::Written(id, found) => self.handle_written(&id, &found),
                Change::Removed(id) => self.handle_removed(&id),
            }
        }
    }

    fn say_unreadable(&mut self, error: &io::Error) {
        if self.said.insert(format!("folder {}", error.kind())) {
            warn!(
                folder = %self.folder.display(), cause = %error,
                "there is no readable plugins folder; plugins run as soon as there is one"
            );
        }
    }

    fn handle_written(&mut self, id: &PluginId, found: &Found) {
        if self.overlays.get(id).and_then(|overlay| overlay.enabled) == Some(false) {
            return self.disable(id);
        }
        let content = match found.read() {
            Ok(content) => content,
            Err(ReadError::Changed(file)) => {
                debug!(plugin = %id, file = %file.display(), "file still changes");
                return self.settler.unsettle(id, Instant::now());
            }
            Err(error) => {
                if !self.ensure_actor(id) {
                    return;
                }
                let (file, hash) = (found.wasm.clone(), String::new());
                return self.plugins.control(
                    id,
                    Control::Refused {
                        file,
                        hash,
                        cause: error.to_string(),
                    },
                );
            }
        };
        if self.hashes.insert(id.clone(), content.hash) == Some(content.hash) {
            debug!(plugin = %id, hash = %content.hash.short(), "file touched, content unchanged");
            return;
        }
        if self.ensure_actor(id) {
            self.plugins.control(id, Control::Compiling);
            let control = self.compile(id, found, content);
            self.plugins.control(id, control);
        }
    }

    fn compile(&self, id: &PluginId, found: &Found, content: Content) -> Control {
        let hash = content.hash.short();
        let manifest = found.manifest.as_deref().zip(content.manifest.as_deref());
        let settings = match Settings::new(id, manifest, self.overlays.get(id)) {
            Ok(settings) => settings,
            Err(error) => {
                return Control::Refused {
                    file: error.file.clone(),
                    hash,
                    cause: error.to_string(),
                };
            }
        };
        // A compiler that panics on a stranger's file must not take the folder's thread along.
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            Code::new(&self.surroundings.runtime, &content.wasm)
        }));
        let file = found.wasm.clone();
        match compiled {
            Ok(Ok(code)) => Control::Load(Box::new(Candidate {
                settings,
                code,
                file,
                hash: content.hash,
            })),
            Ok(Err(error)) => Control::Refused {
                file,
                hash,
                cause: error.to_string(),
            },
            Err(_) => {
                let cause = "the compiler panicked on it".to_owned();
                Control::Refused { file, hash, cause }
            }
        }
    }

    fn handle_removed(&mut self, id: &PluginId) {
        self.hashes.remove(id);
        let Some(entry) = self.plugins.lock().remove(id) else {
            return;
        };
        if let Some(actor) = entry.actor {
            info!(plugin = %id, "plugin file removed");
            actor.mailbox.control(Control::Stop(ShutdownReason::Remove));
            // A file of the same name may come soon; two threads must not speak for one plugin.
            if actor.thread.join().is_err() {
                error!(plugin = %id, "a plugin's thread ended by a panic");
            }
        }
    }

    fn disable(&self, id: &PluginId) {
        let mut plugins = self.plugins.lock();
        plugins.entry(id.clone()).or_insert_with(|| {
            info!(plugin = %id, "plugin disabled by the configuration");
            Entry {
                board: Board::new(id.clone(), "disabled"),
                actor: None,
            }
        });
    }

    /// Gives a plugin its thread; says whether it has one.
    fn ensure_actor(&mut self, id: &PluginId) -> bool {
        let mut plugins = self.plugins.lock();
        if plugins.contains_key(id) {
            return true;
        }
        // A stopping host has emptied the table, or will.
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        match start_actor(id, &self.surroundings) {
            Ok(entry) => {
                plugins.insert(id.clone(), entry);
                true
            }
            Err(error) => {
                warn!(plugin = %id, cause = %error, "no thread can be started for the plugin");
                drop(plugins);
                self.hashes.remove(id);
                self.settler.unsettle(id, Instant::now());
                false
            }
        }
    }
}

fn start_actor(id: &PluginId, surroundings: &Arc<Surroundings>) -> io::Result<Entry> {
    let mailbox = Arc::new(Mailbox::new(Limits::default().mailbox));
    let board = Board::new(id.clone(), "discovered");
    let surroundings = Arc::clone(surroundings);
    let out = Arc::clone(&surroundings.out);
    let supervisor = Supervisor::new(
        id.clone(),
        surroundings,
        Arc::clone(&mailbox),
        board.clone(),
    );
    let (own_id, own_board) = (id.clone(), board.clone());
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| supervisor.run())).is_err() {
            error!(plugin = %own_id, "the host panicked while it served the plugin; it is unloaded");
            own_board.lock().state = "stopped";
            out(HostEvent::Down(own_id));
        }
    };
    let thread = thread::Builder::new()
        .name(format!("plugin-{id}"))
        .spawn(body)?;
    Ok(Entry {
        board,
        actor: Some(Actor { mailbox, thread }),
    })
}
