//! What the tests of the plugin host share: devices, a clock, a folder, and the log as it is seen
//! by an operator.

#![allow(dead_code, reason = "each test file uses a part of this one")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

pub(crate) mod told;
pub(crate) mod tour;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use consort_plugin_host::{
    Access, ClockReading, Compiler, FolderGrant, Granted, GroupClock, HostConfig, HostEvent,
    Overlay, PluginHost, PluginHostStatus,
};
use consort_proto::{Leadership, Peer, PluginEvent, PluginId, PublicKey};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Long enough for a loaded machine; no test waits this long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Group time at the start of a test, in microseconds.
pub(crate) const EPOCH_US: u64 = 1_700_000_000_000_000;

pub(crate) fn plugin_id(text: &str) -> PluginId {
    PluginId::new(text).unwrap()
}

/// The device that the tests run on.
pub(crate) fn this_device() -> Peer {
    Peer {
        name: "here".into(),
        address: "127.0.0.1".into(),
        is_self: true,
        ..device(1)
    }
}

/// Another device.
pub(crate) fn device(byte: u8) -> Peer {
    Peer {
        device: PublicKey::new([byte; 32]).unwrap().device_id(),
        name: format!("device-{byte}"),
        address: format!("10.0.0.{byte}"),
        is_self: false,
        clock_delta: 0,
        round_trip: 500,
    }
}

pub(crate) fn tenure(leader: Peer, term: u64) -> Leadership {
    Leadership { leader, term }
}

pub(crate) fn message(from: Peer, text: &str) -> PluginEvent {
    PluginEvent::PeerMessage {
        sender: from,
        payload: text.as_bytes().to_vec().into(),
    }
}

/// A folder for compiled code that test runs share.
pub(crate) fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what} did not happen within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A line of the host's log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: tracing::Level,
    pub(crate) target: String,
    pub(crate) plugin: String,
    pub(crate) text: String,
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Collects the log of the whole process; tests tell theirs by their plugins' ids.
pub(crate) fn capture_log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Capture);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

struct Capture;

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if !target.starts_with("consort") && target != "plugin" {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        LINES.lock().unwrap().push(Line {
            level: *event.metadata().level(),
            target: target.to_owned(),
            plugin: fields.plugin,
            text: fields.text,
        });
    }
}

#[derive(Default)]
struct Fields {
    plugin: String,
    text: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "plugin" => self.plugin = format!("{value:?}"),
            "message" => self.text = format!("{value:?} {}", self.text),
            name => write!(self.text, "{name}={value:?} ").unwrap(),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// The lines of one plugin's own log.
pub(crate) fn plugin_lines(id: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let own = lines
        .iter()
        .filter(|line| line.target == "plugin" && line.plugin == id);
    own.map(|line| line.text.trim_end().to_owned()).collect()
}

/// The host's warnings about one plugin.
pub(crate) fn warnings(id: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let about = lines
        .iter()
        .filter(|line| line.target != "plugin" && line.plugin == id);
    about
        .filter(|line| line.level == tracing::Level::WARN)
        .map(|line| line.text.clone())
        .collect()
}

/// All warnings of the host that hold `text`.
pub(crate) fn warnings_with(text: &str) -> usize {
    let lines = LINES.lock().unwrap();
    let warnings = lines
        .iter()
        .filter(|line| line.level == tracing::Level::WARN);
    warnings.filter(|line| line.text.contains(text)).count()
}

/// The host logs an ERROR for its own mistakes only, so there must be none.
#[track_caller]
pub(crate) fn assert_no_errors() {
    let lines = LINES.lock().unwrap();
    let errors: Vec<_> = lines
        .iter()
        .filter(|line| line.target != "plugin" && line.level == tracing::Level::ERROR)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Group time that runs with this machine's clock and can be moved.
pub(crate) struct TestClock {
    start: Instant,
    shift_us: AtomicI64,
    /// The thread that does not come back from reading it, as from a system call that blocks: its
    /// name, or the beginning of several names with a `*` behind.
    stalled: Mutex<Option<String>>,
    released: Condvar,
}

impl TestClock {
    pub(crate) fn shift(&self, by_us: i64) {
        self.shift_us.fetch_add(by_us, Ordering::SeqCst);
    }

    /// Blocks the threads of a plugin at their next reading; with a `*` behind, those of all plugins
    /// whose ids begin like this.
    pub(crate) fn stall(&self, id: &str) {
        *self.stalled.lock().unwrap() = Some(format!("plugin-{id}"));
    }

    /// Lets those go on that are blocked.
    pub(crate) fn release(&self) {
        *self.stalled.lock().unwrap() = None;
        self.released.notify_all();
    }
}

impl GroupClock for TestClock {
    fn reading(&self) -> ClockReading {
        let this = std::thread::current();
        let stalled = self.stalled.lock().unwrap();
        let is_stalled = |stalled: &mut Option<String>| {
            let Some((stalled, name)) = stalled.as_deref().zip(this.name()) else {
                return false;
            };
            match stalled.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == stalled,
            }
        };
        drop(self.released.wait_while(stalled, is_stalled).unwrap());
        let elapsed = i64::try_from(self.start.elapsed().as_micros()).unwrap();
        let shifted = elapsed + self.shift_us.load(Ordering::SeqCst);
        ClockReading {
            group_time_us: EPOCH_US.saturating_add_signed(shifted),
            synchronised: true,
            error_bound_us: 250,
        }
    }
}

/// A plugins folder with a host that runs it.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    events: Arc<Mutex<Vec<(Instant, HostEvent)>>>,
    overlays: BTreeMap<PluginId, Overlay>,
    /// Where cores are to be kept, if anywhere.
    pub(crate) cores_dir: Option<PathBuf>,
    host: Option<PluginHost>,
}

impl World {
    pub(crate) fn new() -> Self {
        capture_log();
        let clock = TestClock {
            start: Instant::now(),
            shift_us: AtomicI64::new(0),
            stalled: Mutex::new(None),
            released: Condvar::new(),
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(clock),
            events: Arc::default(),
            overlays: BTreeMap::new(),
            cores_dir: None,
            host: None,
        }
    }

    pub(crate) fn plugins_dir(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Puts a fixture into the folder, as `<id>/plugin.wasm` with a manifest.
    pub(crate) fn install(&self, id: &str, fixture: &str, manifest: &str) {
        let bytes = std::fs::read(consort_test_guests::fixture(fixture)).unwrap();
        self.install_bytes(id, &bytes, manifest);
    }

    /// Puts any bytes into the folder. The two files come at once, as by a careful installer.
    pub(crate) fn install_bytes(&self, id: &str, wasm: &[u8], manifest: &str) {
        let aside = self.folder.path().join(format!("{id}.new"));
        let place = self.plugins_dir().join(id);
        std::fs::create_dir_all(&aside).unwrap();
        std::fs::write(aside.join("plugin.wasm"), wasm).unwrap();
        std::fs::write(aside.join("plugin.toml"), manifest).unwrap();
        std::fs::create_dir_all(self.plugins_dir()).unwrap();
        if place.exists() {
            for file in ["plugin.toml", "plugin.wasm"] {
                std::fs::rename(aside.join(file), place.join(file)).unwrap();
            }
        } else {
            std::fs::rename(&aside, &place).unwrap();
        }
    }

    pub(crate) fn overlay(&mut self, id: &str, overlay: Overlay) {
        self.overlays.insert(plugin_id(id), overlay);
    }

    /// Sets something else for a plugin while the host runs.
    pub(crate) fn set(&mut self, id: &str, overlay: Overlay) {
        self.overlay(id, overlay);
        self.host().set_overlays(self.overlays.clone());
    }

    pub(crate) fn start(&mut self) {
        let config = HostConfig {
            plugins_dir: self.plugins_dir(),
            cache_dir: cache_dir(),
            compiler: Compiler::InProcess,
            cores_dir: self.cores_dir.clone(),
            this_device: this_device(),
            overlays: self.overlays.clone(),
            seed: [7; 32],
        };
        let events = Arc::clone(&self.events);
        let out = move |event| events.lock().unwrap().push((Instant::now(), event));
        let host = PluginHost::start(config, self.clock.clone(), Arc::new(out)).unwrap();
        self.host = Some(host);
    }

    pub(crate) fn host(&self) -> &PluginHost {
        self.host.as_ref().unwrap()
    }

    pub(crate) fn deliver(&self, id: &str, event: PluginEvent) {
        self.host().deliver(&plugin_id(id), event);
    }

    /// Makes this device the plugin's only member and its leader.
    pub(crate) fn lead(&self, id: &str, term: u64) {
        self.deliver(id, PluginEvent::PeerAdded(this_device()));
        self.deliver(id, PluginEvent::PromoteLeader(tenure(this_device(), term)));
    }

    pub(crate) fn status(&self, id: &str) -> Option<PluginHostStatus> {
        self.host()
            .status()
            .into_iter()
            .find(|status| status.id.as_str() == id)
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, id: &str, state: &str) {
        wait_for(&format!("{id} {state}"), || {
            self.status(id).is_some_and(|s| s.state == state)
        });
    }

    #[track_caller]
    pub(crate) fn wait_generation(&self, id: &str, generation: u64) {
        wait_for(&format!("{id}: generation {generation}"), || {
            self.status(id).is_some_and(|s| s.generation == generation)
        });
    }

    #[track_caller]
    pub(crate) fn wait_line(&self, id: &str, text: &str) {
        wait_for(&format!("{id}: {text:?}"), || {
            plugin_lines(id).iter().any(|l| l.contains(text))
        });
    }

    #[track_caller]
    pub(crate) fn wait_warning(&self, id: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !warnings(id).iter().any(|line| line.contains(text)) {
            assert!(
                Instant::now() < deadline,
                "no warning {text:?}, but {:?}",
                warnings(id)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that the daemon was told about a plugin.
    pub(crate) fn events(&self, id: &str) -> Vec<HostEvent> {
        let id = plugin_id(id);
        let events = self.events.lock().unwrap();
        let about = events.iter().filter(|(_, event)| *event.plugin() == id);
        about.map(|(_, event)| event.clone()).collect()
    }

    /// What the daemon was told about a plugin, without commands, in short.
    pub(crate) fn told(&self, id: &str) -> Vec<String> {
        self.told_at(id).into_iter().map(|(_, what)| what).collect()
    }

    pub(crate) fn told_at(&self, id: &str) -> Vec<(Instant, String)> {
        let id = plugin_id(id);
        let events = self.events.lock().unwrap();
        let about = events.iter().filter_map(|(at, event)| {
            let what = match event {
                HostEvent::Up(spec) if spec.id == id => format!("up {}", spec.version),
                HostEvent::Faulted(other) if *other == id => "faulted".to_owned(),
                HostEvent::Down(other) if *other == id => "down".to_owned(),
                HostEvent::Commands {
                    id: other,
                    commands,
                } if *other == id => {
                    format!("{commands:?}")
                }
                _ => return None,
            };
            Some((*at, what))
        });
        about.collect()
    }

    pub(crate) fn stop(&mut self) {
        self.stop_within(PATIENCE);
    }

    pub(crate) fn stop_within(&mut self, within: Duration) {
        if let Some(host) = self.host.take() {
            host.shutdown(within);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A world with a good plugin that takes messages all the while.
pub(crate) fn beside(good: &str, install: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.install(good, "recorder", "");
    install(&mut world);
    world.start();
    world.wait_state(good, "running");
    world
}

/// The good plugin answers within a time in which a person notices nothing.
#[track_caller]
pub(crate) fn answers(world: &World, good: &str, what: &str) {
    let start = Instant::now();
    world.deliver(good, message(device(2), what));
    world.wait_line(good, &format!("on-peer-message {what}"));
    assert!(start.elapsed() < Duration::from_secs(5), "{what}");
    assert!(warnings(good).is_empty(), "{:?}", warnings(good));
}

/// Asks the explorer to do something and gives what it says of it.
pub(crate) fn explore(world: &World, id: &str, order: &str) -> String {
    world.wait_state(id, "running");
    world.deliver(id, message(device(2), order));
    let beginning = format!("{order}: ");
    world.wait_line(id, &beginning);
    let lines = plugin_lines(id);
    let told = lines.iter().rev().find_map(|l| l.strip_prefix(&beginning));
    told.unwrap().to_owned()
}

/// An overlay that grants one folder.
pub(crate) fn grant(name: &str, path: &std::path::Path, access: Access) -> Overlay {
    let path = path.to_owned();
    let files = BTreeMap::from([(name.to_owned(), FolderGrant { path, access })]);
    Overlay {
        capabilities: Granted {
            files,
            ..Granted::default()
        },
        ..Overlay::default()
    }
}
