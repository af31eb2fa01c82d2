//! The thread that looks after the plugins folder: it reads what changed, has it compiled, and lets
//! the plugin's own thread have it. It never waits for a compiler, nor for a plugin.

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
use crate::departures::{Departures, Gone, LEFT_BEHIND_MAX, longest_end};
use crate::fence::Fence;
use crate::folder::{self, Content, ContentHash, Found, ReadError, Scan};
use crate::jobs::Jobs;
use crate::mailbox::Mailbox;
use crate::manifest::{Overlay, Settings};
use crate::orders::{Order, OrderError, Orders, Overlays};
use crate::plugin_log::printable;
use crate::repeats::Repeats;
use crate::status::{Board, HostEvent};
use crate::supervisor::{Candidate, Control, PluginMailbox, Supervisor, Surroundings};
use crate::watch::{Bell, Change, FolderWatch, Settler};
use crate::{Code, CodeError, CompileError, ShutdownReason};

/// The plugins that have a thread, or are known not to get one.
#[derive(Default)]
pub(crate) struct Plugins {
    pub(crate) by_id: Mutex<BTreeMap<PluginId, Entry>>,
    /// Those of them that were told to end. Who locks both locks this one first.
    pub(crate) departures: Mutex<Departures>,
}

/// One plugin.
pub(crate) struct Entry {
    pub(crate) board: Board,
    /// None if the operator disabled it, or if it is on its way out.
    pub(crate) actor: Option<Actor>,
}

/// A plugin's thread.
pub(crate) struct Actor {
    pub(crate) mailbox: Arc<PluginMailbox>,
    pub(crate) thread: JoinHandle<()>,
    pub(crate) fence: Fence,
}

impl Actor {
    /// Tells the plugin to end.
    pub(crate) fn stop(&self, reason: ShutdownReason) {
        self.fence.begin_end();
        self.mailbox.control(Control::Stop(reason));
    }
}

impl Plugins {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginId, Entry>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn departures(&self) -> MutexGuard<'_, Departures> {
        self.departures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) overlays: Overlays,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) watch: FolderWatch,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) settler: Settler,
    pub(crate) jobs: Jobs,
    pub(crate) orders: Orders,
    /// What was enabled or disabled at run time, over the settings.
    pub(crate) switched: BTreeMap<PluginId, bool>,
    /// What was handed over last, usable or not.
    pub(crate) hashes: BTreeMap<PluginId, ContentHash>,
    /// What the log has said of files that are not taken for plugins, as long as they are there.
    pub(crate) said: BTreeSet<String>,
    /// What the log says of plugins that get no thread, which is tried again several times a second.
    pub(crate) threadless: BTreeMap<PluginId, Repeats>,
    /// Why the folder could not be read the last time.
    pub(crate) unreadable: Option<io::ErrorKind>,
    /// The highest number of a line that an unloaded plugin has logged: the numbers of one that comes
    /// back are larger, so that whoever follows its log misses nothing.
    pub(crate) lines_written: u64,
}

impl Keeper {
    pub(crate) fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.look();
            self.take_orders();
            self.take_overlays();
            self.see_off();
            let overdue = self.plugins.departures().next_deadline();
            let next = [self.settler.next_look(), overdue];
            self.watch.wait(next.into_iter().flatten().min());
        }
        self.jobs.stop();
    }

    fn look(&mut self) {
        // The watch comes before the scan: what is written in between is noticed by one of them.
        self.watch.set_present(self.folder.is_dir());
        let scan = match folder::scan(&self.folder) {
            Ok(scan) => {
                self.unreadable = None;
                scan
            }
            Err(error) => {
                self.say_unreadable(&error);
                if error.kind() != io::ErrorKind::NotFound {
                    // Nothing is known to be gone.
                    return;
                }
                Scan::default()
            }
        };
        self.say_ignored(&scan);
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

    /// Names what is not taken for a plugin, once for as long as it is there.
    fn say_ignored(&mut self, scan: &Scan) {
        let mut ignored = BTreeSet::new();
        for (path, why) in &scan.ignored {
            let line = format!("{} {why}", path.display());
            if !self.said.contains(&line) && !ignored.contains(&line) {
                warn!(file = %path.display(), cause = %why, "not taken for a plugin");
            }
            ignored.insert(line);
        }
        self.said = ignored;
    }

    fn say_unreadable(&mut self, error: &io::Error) {
        if self.unreadable.replace(error.kind()) != Some(error.kind()) {
            warn!(
                folder = %self.folder.display(), cause = %error,
                "there is no readable plugins folder; plugins run as soon as there is one"
            );
        }
    }

    fn handle_written(&mut self, id: &PluginId, found: &Found) {
        if self.plugins.departures().has(id) {
            // Once it is gone its files are new.
            return;
        }
        if self.is_disabled(id) {
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
            self.compile(id, found.clone(), content);
        }
    }

    /// Has a content compiled; an older one of the same plugin that still is, is given up.
    fn compile(&mut self, id: &PluginId, found: Found, content: Content) {
        let surroundings = Arc::clone(&self.surroundings);
        let (plugin, overlay) = (id.clone(), self.overlays.get(id).cloned());
        let work = move |cancelled: &AtomicBool| {
            prepare(&plugin, &found, &content, overlay.as_ref(), |bytes| {
                Code::unless(cancelled, &surroundings.runtime, bytes)
            })
        };
        let (plugin, plugins) = (id.clone(), Arc::clone(&self.plugins));
        let hand_over = move |control| plugins.control(&plugin, control);
        match self.jobs.start(id, work, hand_over) {
            Ok(()) => drop(self.threadless.remove(id)),
            Err(error) => self.put_off(id, "to compile the plugin", &error),
        }
    }

    /// There is no thread for a plugin; its files are taken for new a little later.
    fn put_off(&mut self, id: &PluginId, purpose: &str, error: &io::Error) {
        let now = Instant::now();
        if let Some(times) = self.threadless.entry(id.clone()).or_default().note(now) {
            warn!(plugin = %id, cause = %error, times, "no thread can be started {purpose}");
        }
        self.hashes.remove(id);
        self.settler.unsettle(id, now);
    }

    fn handle_removed(&mut self, id: &PluginId) {
        info!(plugin = %id, "plugin file removed");
        self.threadless.remove(id);
        self.unload(id, ShutdownReason::Remove);
    }

    /// Tells a plugin to end; [`Keeper::see_off`] forgets it.
    fn unload(&mut self, id: &PluginId, reason: ShutdownReason) {
        self.hashes.remove(id);
        self.jobs.cancel(id);
        let mut departures = self.plugins.departures();
        let mut plugins = self.plugins.lock();
        let Some(entry) = plugins.get_mut(id) else {
            return;
        };
        let Some(actor) = entry.actor.take() else {
            if !departures.has(id) {
                plugins.remove(id);
            }
            return;
        };
        actor.stop(reason);
        let details = entry.board.details();
        let longest = longest_end(details.as_ref().map(|details| &details.limits));
        departures.add(id, actor, Instant::now() + longest);
    }

    /// Forgets the plugins that are gone. The files of one that was asked for again meanwhile are
    /// taken for new: two threads must not speak for one plugin.
    fn see_off(&mut self) {
        let gone = self.plugins.departures().take_gone(Instant::now());
        for Gone {
            id,
            overdue,
            answers,
        } in gone
        {
            if let Some(entry) = self.plugins.lock().remove(&id) {
                self.lines_written = self.lines_written.max(entry.board.log().written());
            }
            if overdue {
                (self.surroundings.out)(HostEvent::Down(id.clone()));
            }
            self.hashes.remove(&id);
            let is_there = self.settler.renew(&id, Instant::now());
            if is_there && self.is_disabled(&id) {
                self.disable(&id);
            }
            for answer in answers {
                // Whoever asked may have given up.
                let _ = answer.try_send(Ok(()));
            }
        }
    }

    fn take_orders(&mut self) {
        for asked in self.orders.take() {
            let result = self.carry_out(&asked.id, asked.order);
            let answer = match asked.order {
                // It is carried out once the plugin is gone.
                Order::Disable if result.is_ok() => {
                    let mut departures = self.plugins.departures();
                    departures.wait_for(&asked.id, asked.answer)
                }
                Order::Disable | Order::Enable | Order::Reload => Some(asked.answer),
            };
            if let Some(answer) = answer {
                // Whoever asked may have given up.
                let _ = answer.try_send(result);
            }
        }
    }

    fn carry_out(&mut self, id: &PluginId, order: Order) -> Result<(), OrderError> {
        if order == Order::Reload && self.is_disabled(id) {
            return Err(OrderError::Disabled(id.clone()));
        }
        if !self.settler.renew(id, Instant::now()) {
            return Err(OrderError::Unknown(id.clone()));
        }
        info!(plugin = %id, ?order, "the operator gives an order");
        match order {
            Order::Reload => {}
            Order::Disable => {
                self.switched.insert(id.clone(), false);
                self.switch_off(id);
            }
            Order::Enable => {
                self.switched.insert(id.clone(), true);
                if !self.switch_on(id) {
                    return Ok(());
                }
            }
        }
        // The next look takes the files for new.
        self.hashes.remove(id);
        Ok(())
    }

    fn switch_off(&mut self, id: &PluginId) {
        self.unload(id, ShutdownReason::Stop);
        if !self.plugins.departures().has(id) {
            self.disable(id);
        }
    }

    /// Lets a plugin that was disabled be loaded; says whether its files are to be taken for new, and
    /// not whether it runs.
    fn switch_on(&self, id: &PluginId) -> bool {
        if self.plugins.departures().has(id) {
            return false;
        }
        let mut plugins = self.plugins.lock();
        if plugins.get(id).is_some_and(|entry| entry.actor.is_some()) {
            return false;
        }
        plugins.remove(id);
        true
    }

    /// Takes what the operator sets from here on. Whoever has other settings than before is taken
    /// for new, as if its files had changed.
    fn take_overlays(&mut self) {
        let Some(mut overlays) = self.orders.take_overlays() else {
            return;
        };
        let ids: BTreeSet<PluginId> = self
            .overlays
            .keys()
            .chain(overlays.keys())
            .cloned()
            .collect();
        for id in ids {
            let before = self.overlays.get(&id).cloned().unwrap_or_default();
            let overlay = overlays.remove(&id).unwrap_or_default();
            if overlay == before {
                continue;
            }
            let was_disabled = self.is_disabled(&id);
            if overlay.enabled != before.enabled {
                // Of an order and a setting the later one counts.
                self.switched.remove(&id);
            }
            self.overlays.insert(id.clone(), overlay);
            self.retake(&id, was_disabled);
        }
    }

    /// Takes the files of a plugin for new, if it has any: its settings are others.
    fn retake(&mut self, id: &PluginId, was_disabled: bool) {
        if !self.settler.renew(id, Instant::now()) {
            return;
        }
        info!(plugin = %id, "the operator's settings of the plugin changed");
        match (was_disabled, self.is_disabled(id)) {
            (false, true) => self.switch_off(id),
            (true, false) => {
                self.switch_on(id);
            }
            (true, true) | (false, false) => {}
        }
        self.hashes.remove(id);
    }

    fn is_disabled(&self, id: &PluginId) -> bool {
        let set = self.overlays.get(id).and_then(|overlay| overlay.enabled);
        self.switched.get(id).copied().or(set) == Some(false)
    }

    fn disable(&self, id: &PluginId) {
        let mut plugins = self.plugins.lock();
        plugins.entry(id.clone()).or_insert_with(|| {
            info!(plugin = %id, "plugin disabled");
            Entry {
                board: Board::new(id.clone(), "disabled", self.lines_written),
                actor: None,
            }
        });
    }

    /// Gives a plugin its thread; says whether it has one.
    fn ensure_actor(&mut self, id: &PluginId) -> bool {
        let is_full = self.plugins.departures().are_full();
        let mut plugins = self.plugins.lock();
        if plugins.contains_key(id) {
            return true;
        }
        // A stopping host has emptied the table, or will.
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        let started = if is_full {
            let many = format!("{LEFT_BEHIND_MAX} threads of removed plugins are blocked");
            Err(io::Error::other(many))
        } else {
            let bell = self.watch.bell();
            start_actor(id, &self.surroundings, self.lines_written, bell)
        };
        match started {
            Ok(entry) => {
                plugins.insert(id.clone(), entry);
                true
            }
            Err(error) => {
                drop(plugins);
                self.put_off(id, "for the plugin", &error);
                false
            }
        }
    }
}

/// Makes of a content what the plugin's thread is told. None if it was given up.
fn prepare(
    id: &PluginId,
    found: &Found,
    content: &Content,
    overlay: Option<&Overlay>,
    compile: impl FnOnce(&[u8]) -> Result<Code, CodeError>,
) -> Option<Control> {
    let hash = content.hash.short();
    let refused = |file: PathBuf, cause: String| {
        let hash = hash.clone();
        Some(Control::Refused { file, hash, cause })
    };
    let manifest = found.manifest.as_deref().zip(content.manifest.as_deref());
    let settings = match Settings::new(id, manifest, overlay) {
        Ok(settings) => settings,
        Err(error) => return refused(error.file.clone(), error.to_string()),
    };
    let file = found.wasm.clone();
    // A host that panics on a stranger's file must say so.
    match catch_unwind(AssertUnwindSafe(|| compile(&content.wasm))) {
        Ok(Ok(code)) => Some(Control::Load(Box::new(Candidate {
            settings,
            code,
            file,
            hash: content.hash,
        }))),
        Ok(Err(CodeError::Compile(CompileError::Cancelled))) => None,
        Ok(Err(error)) => refused(file, printable(&error.to_string())),
        Err(_) => refused(file, "the host panicked on it".to_owned()),
    }
}

fn start_actor(
    id: &PluginId,
    surroundings: &Arc<Surroundings>,
    lines_written: u64,
    bell: Bell,
) -> io::Result<Entry> {
    let mailbox = Arc::new(Mailbox::new(Limits::default().mailbox));
    let board = Board::new(id.clone(), "discovered", lines_written);
    let surroundings = Arc::clone(surroundings);
    let out = Arc::clone(&surroundings.out);
    let fence = Fence::default();
    let supervisor = Supervisor::new(
        id.clone(),
        surroundings,
        Arc::clone(&mailbox),
        board.clone(),
        fence.clone(),
    );
    let (own_id, own_board, own_fence) = (id.clone(), board.clone(), fence.clone());
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| supervisor.run())).is_err() {
            error!(plugin = %own_id, "the host panicked while it served the plugin; it is unloaded");
            own_board.lock().state = "stopped";
            own_fence.pass(|| out(HostEvent::Down(own_id)));
        }
        own_fence.note_end();
        bell.ring();
    };
    let thread = thread::Builder::new()
        .name(format!("plugin-{id}"))
        .spawn(body)?;
    Ok(Entry {
        board,
        actor: Some(Actor {
            mailbox,
            thread,
            fence,
        }),
    })
}
