//! One instance, driven by hand: what it is told, what it sees, and where its limits are.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{EPOCH_US, cache_dir, device, message, plugin_id, tenure, this_device};
use consort_plugin_host::{
    ClockReading, Code, Fault, Instance, InstanceSettings, Level, Limits, LogSink, Outcome,
    Runtime, ShutdownReason, StartError,
};
use consort_proto::{
    Origin, PluginCommand, PluginEvent, StateChange, StateOutcome, StateUpdate, Version,
};
use consort_test_guests::{fixture, fixture_module};

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(&cache_dir()).unwrap())
}

fn code(name: &str) -> Code {
    Code::new(runtime(), &std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn at(offset_us: u64) -> ClockReading {
    ClockReading {
        group_time_us: EPOCH_US + offset_us,
        synchronised: true,
        error_bound_us: 250,
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&mut self, level: Level, text: &str) {
        let mark = if level == Level::Info {
            String::new()
        } else {
            format!("{level:?}: ")
        };
        self.0.lock().unwrap().push(format!("{mark}{text}"));
    }
}

/// An instance and its log.
struct Plugin {
    instance: Instance,
    lines: Lines,
}

impl Plugin {
    fn make(code: &Code, config: &[(&str, &str)], seed: u8) -> (Self, Result<Outcome, StartError>) {
        Self::limited(code, config, seed, Limits::default())
    }

    fn limited(
        code: &Code,
        config: &[(&str, &str)],
        seed: u8,
        limits: Limits,
    ) -> (Self, Result<Outcome, StartError>) {
        let lines = Lines::default();
        let config = config
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let settings = InstanceSettings {
            plugin: plugin_id("under-test"),
            this_device: this_device(),
            config: Arc::new(config.collect::<BTreeMap<String, String>>()),
            limits,
            files: BTreeMap::new(),
            local: true,
            seed: [seed; 32],
            run: 0,
            log: Box::new(lines.clone()),
        };
        let mut instance = Instance::new(code, settings, at(0)).unwrap();
        let setup = instance.setup(at(0));
        (Self { instance, lines }, setup)
    }

    fn new(fixture: &str, config: &[(&str, &str)]) -> Self {
        let (plugin, setup) = Self::make(&code(fixture), config, 7);
        setup.unwrap();
        plugin
    }

    fn take_lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().drain(..).collect()
    }

    fn deliver(&mut self, event: &PluginEvent) -> Outcome {
        self.instance.deliver(event, at(1_000)).unwrap()
    }

    /// Has the recorder carry out a verb, and gives what it logs and what it commands.
    fn act(&mut self, verb: &str) -> (Vec<String>, Vec<PluginCommand>) {
        self.take_lines();
        let outcome = self.deliver(&message(device(2), verb));
        (self.take_lines().split_off(1), outcome.commands)
    }

    /// Has the hostile fixture misbehave.
    fn misbehave(&mut self, how: &str) -> Result<Outcome, Fault> {
        self.instance.deliver(&message(device(2), how), at(1_000))
    }
}

#[test]
fn every_callback_in_order() {
    let mut plugin = Plugin::new("recorder", &[("b", "2"), ("a", "1")]);
    for event in [
        PluginEvent::PeerAdded(this_device()),
        PluginEvent::PeerAdded(device(2)),
        PluginEvent::PeerUpdated(device(2)),
        PluginEvent::PromoteFollower(tenure(device(2), 3)),
        PluginEvent::TermChanged { term: 4 },
        PluginEvent::LeaderMessage {
            sender: tenure(device(2), 4),
            payload: "lm".into(),
        },
        message(device(2), "pm"),
        PluginEvent::DemoteFollower,
        PluginEvent::PeerRemoved(device(2)),
        PluginEvent::PromoteLeader(tenure(this_device(), 5)),
        PluginEvent::BroadcastsHeld(true),
    ] {
        plugin.deliver(&event);
    }
    plugin.instance.demote(at(2_000)).unwrap();
    plugin.instance.demote(at(2_000)).unwrap();
    let lines = plugin.lines.clone();
    plugin
        .instance
        .shutdown(ShutdownReason::Remove, at(3_000))
        .unwrap();
    let expected = [
        "setup [a=1,b=2] 0 peers",
        "on-peer-added here of 1",
        "on-peer-added device-2 of 2",
        "promote-follower 3 of device-2",
        "on-leader-message lm in 4",
        "on-peer-message pm from device-2",
        "demote-follower",
        "on-peer-removed device-2 of 1",
        "promote-leader 5 is-leader true",
        "demote-leader, leader known: false",
        "shutdown Reason::Remove",
    ];
    assert_eq!(*lines.0.lock().unwrap(), expected);
}

#[test]
fn every_export_but_lifecycle_is_optional() {
    for fixture in ["minimal", "listener"] {
        hear_everything(fixture);
    }
}

fn hear_everything(fixture: &str) {
    let mut plugin = Plugin::new(fixture, &[]);
    plugin.take_lines();
    for event in [
        PluginEvent::PeerAdded(this_device()),
        PluginEvent::PromoteLeader(tenure(this_device(), 1)),
        PluginEvent::LeaderMessage {
            sender: tenure(this_device(), 1),
            payload: "x".into(),
        },
        message(this_device(), "x"),
        PluginEvent::DemoteLeader,
        PluginEvent::PeerRemoved(this_device()),
    ] {
        assert_eq!(plugin.deliver(&event), Outcome::default());
    }
    assert!(!plugin.instance.has_handover());
    assert_eq!(plugin.instance.save(at(0)).unwrap(), None);
    let lines = plugin.lines.clone();
    plugin
        .instance
        .shutdown(ShutdownReason::Stop, at(0))
        .unwrap();
    assert!(lines.0.lock().unwrap().is_empty());
}

#[test]
fn sends_are_checked_against_the_view() {
    let mut plugin = Plugin::new("recorder", &[]);
    let not_leader = "result Err(SendError::NotLeader)";
    assert_eq!(plugin.act("broadcast x").0, [not_leader]);
    assert_eq!(
        plugin.act("to-leader x").0,
        ["result Err(SendError::NoLeader)"]
    );
    let to = device(2).device;
    let unknown = "result Err(SendError::UnknownPeer)";
    assert_eq!(plugin.act(&format!("send {to} x")).0, [unknown]);
    assert_eq!(plugin.act("send nobody x").0, [unknown]);

    plugin.deliver(&PluginEvent::PeerAdded(this_device()));
    plugin.deliver(&PluginEvent::PeerAdded(device(2)));
    let (lines, commands) = plugin.act(&format!("send {to} x"));
    assert_eq!(lines, ["result Ok(())"]);
    assert_eq!(
        commands,
        [PluginCommand::Send {
            to,
            payload: "x".into()
        }]
    );
    assert_eq!(
        plugin.act("to-all y").1,
        [PluginCommand::SendToAll("y".into())]
    );

    plugin.deliver(&PluginEvent::PromoteFollower(tenure(device(2), 3)));
    plugin.deliver(&PluginEvent::TermChanged { term: 9 });
    assert_eq!(plugin.act("leader").0, ["leader Some(\"10.0.0.2 9\")"]);
    assert_eq!(plugin.act("broadcast x").0, [not_leader]);
    assert_eq!(
        plugin.act("to-leader z").1,
        [PluginCommand::SendToLeader("z".into())]
    );
    plugin.deliver(&PluginEvent::DemoteFollower);

    plugin.deliver(&PluginEvent::PromoteLeader(tenure(this_device(), 10)));
    assert_eq!(
        plugin.act("broadcast x").1,
        [PluginCommand::Broadcast("x".into())]
    );
    plugin.deliver(&PluginEvent::BroadcastsHeld(true));
    assert_eq!(plugin.act("broadcast x").0, ["result Err(SendError::Busy)"]);
    assert_eq!(plugin.act("to-all x").0, ["result Ok(())"]);
    plugin.deliver(&PluginEvent::BroadcastsHeld(false));
    assert_eq!(plugin.act("broadcast x").0, ["result Ok(())"]);
}

#[test]
fn sends_are_bounded_in_size_and_rate() {
    let mut plugin = Plugin::new("recorder", &[]);
    let (lines, commands) = plugin.act("large");
    assert!(
        lines[0].contains("TooLarge") && commands.is_empty(),
        "{lines:?} {}",
        commands.len()
    );
    let (lines, commands) = plugin.act("flood");
    assert_eq!(lines, ["sent 300"]);
    assert_eq!(commands.len(), 300);
    assert_eq!(plugin.act("flood").0, ["sent 0"]);
    plugin.take_lines();
    plugin
        .instance
        .deliver(&message(device(2), "flood"), at(101_000))
        .unwrap();
    assert_eq!(
        plugin.take_lines().pop().unwrap(),
        "sent 30",
        "a tenth of a second later"
    );
}

#[test]
fn group_time_follows_the_readings() {
    let mut plugin = Plugin::new("recorder", &[]);
    let (first, second) = (EPOCH_US + 1_001, 1);
    assert_eq!(
        plugin.act("time").0,
        [format!("time {first} then {second} more, true 250")]
    );
    plugin
        .instance
        .deliver(&message(device(2), "time"), at(10))
        .unwrap();
    let after = EPOCH_US + 1_003;
    let last = plugin.take_lines().pop().unwrap();
    assert_eq!(
        last,
        format!("time {after} then 1 more, true 250"),
        "it never runs back"
    );
}

#[test]
fn timers_fire_in_order_and_at_multiples() {
    let mut plugin = Plugin::new("recorder", &[("every_us", "10000")]);
    plugin.take_lines();
    assert_eq!(plugin.instance.next_timer(), Some(EPOCH_US + 10_000));
    plugin.deliver(&message(device(2), "wake 1 5000"));
    plugin.deliver(&message(device(2), "wake 2 2000"));
    plugin.deliver(&message(device(2), "wake 3 3000"));
    plugin.deliver(&message(device(2), "cancel 3"));
    plugin.take_lines();
    plugin.instance.fire_timers(at(1_500)).1.unwrap();
    assert!(plugin.take_lines().is_empty(), "nothing is due");
    plugin.instance.fire_timers(at(38_000)).1.unwrap();
    let fired: Vec<_> = plugin.take_lines();
    let due = |offset: u64| EPOCH_US + offset;
    assert_eq!(
        fired,
        [
            format!("on-timer 2 due {} late true", due(3_002)),
            format!("on-timer 1 due {} late true", due(6_001)),
            format!("on-timer 7 due {} late true", due(30_000)),
        ],
        "missed multiples are fired once"
    );
    assert_eq!(plugin.instance.next_timer(), Some(due(40_000)));
}

#[test]
fn state_is_handed_over() {
    let mut old = Plugin::new("counter_v1", &[]);
    old.deliver(&message(device(2), "x"));
    old.deliver(&message(device(2), "x"));
    let (saved, _) = old.instance.save(at(0)).unwrap().unwrap();
    let mut new = Plugin::new("counter_v2", &[]);
    new.instance
        .restore(
            &saved,
            Version {
                major: 1,
                minor: 2,
                patch: 3,
            },
            at(0),
        )
        .unwrap();
    new.deliver(&message(device(2), "x"));
    assert_eq!(
        new.take_lines(),
        ["v2: setup", "v2: restore from 1.2.3", "v2: count 3"]
    );
    let error = new
        .instance
        .restore(b"x", Version::default(), at(0))
        .unwrap_err();
    assert_eq!(error.to_string(), "restore failed: a count has eight bytes");
}

#[test]
fn a_setup_that_fails_says_so() {
    let (_, setup) = Plugin::make(&code("hostile"), &[("setup", "error")], 7);
    assert_eq!(
        setup.unwrap_err().to_string(),
        "setup failed: the amplifier is missing"
    );
}

#[test]
fn each_way_to_misbehave_is_a_fault_with_its_cause() {
    for (how, cause) in [
        ("loop", "used more than 100 ms of CPU"),
        ("log-loop", "used more than 100 ms of CPU"),
        ("print-loop", "used more than 100 ms of CPU"),
        ("alloc", "ran out of memory: its limit is 64 MiB"),
        ("trap", "a panic or an abort"),
        ("panic", "a panic or an abort"),
        (
            "sleep",
            "waited for more than 5 s in one callback; use clock.wake-at",
        ),
        ("recurse", "probably a stack overflow"),
        ("exit", "it called exit(1)"),
        ("timers", "more than 1024 timers"),
        ("short-period", "period of 1 us"),
        ("huge-log", "fuel"),
    ] {
        let mut plugin = Plugin::new("hostile", &[]);
        let fault = plugin.misbehave(how).expect_err(how);
        assert_eq!(fault.callback, "on-peer-message", "{how}");
        assert!(fault.cause.contains(cause), "{how}: {}", fault.cause);
        let again = plugin
            .misbehave("")
            .expect_err("a dead instance stays dead");
        assert!(
            again.cause.contains("an earlier call had failed"),
            "{how}: {}",
            again.cause
        );
    }
}

#[test]
fn a_guest_that_prints_too_much_can_still_log() {
    let mut plugin = Plugin::new("hostile", &[]);
    plugin.take_lines();
    plugin.misbehave("print-flood").unwrap();
    let lines = plugin.take_lines();
    let printed = lines.iter().filter(|line| line.starts_with("printed "));
    let printed = printed.count();
    assert!((300..320).contains(&printed), "{printed} lines in 64 KiB");
    assert_eq!(lines.last().unwrap(), "still here");
}

#[test]
fn what_a_guest_prints_and_panics_is_in_its_log() {
    let mut plugin = Plugin::new("hostile", &[]);
    plugin.take_lines();
    plugin.misbehave("panic").unwrap_err();
    let lines = plugin.take_lines().join("|");
    assert!(
        lines.contains("Warn: ") && lines.contains("this plugin"),
        "{lines}"
    );
    let mut plugin = Plugin::new("hostile", &[]);
    plugin.take_lines();
    plugin.misbehave("print-loop").unwrap_err();
    let lines = plugin.take_lines();
    assert!(
        lines.len() < 80 && lines.last().unwrap().contains("suppressed"),
        "{}",
        lines.len()
    );
    let mut plugin = Plugin::new("hostile", &[]);
    plugin.take_lines();
    plugin.misbehave("escape").unwrap();
    assert_eq!(
        plugin.take_lines(),
        ["red \\u{1b}[31m\\nnext", "still here"]
    );
}

#[test]
fn a_short_wait_costs_no_time_and_nothing_is_reachable() {
    let mut plugin = Plugin::new("hostile", &[]);
    let start = std::time::Instant::now();
    plugin.misbehave("nap").unwrap();
    assert!(
        start.elapsed() < std::time::Duration::from_secs(3),
        "four seconds took none"
    );
    plugin.take_lines();
    plugin.misbehave("files").unwrap();
    let line = plugin.take_lines().remove(0);
    assert_eq!(line, "files Err(NotFound) Err(PermissionDenied) 0");
}

#[test]
fn a_run_is_decided_by_its_seed() {
    let code = code("hostile");
    let run = |seed: u8| {
        let (mut plugin, setup) = Plugin::make(&code, &[], seed);
        setup.unwrap();
        plugin.misbehave("random").unwrap();
        plugin.take_lines()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn core_modules_become_components() {
    let module = std::fs::read(fixture_module("recorder")).unwrap();
    let bare = without_component_type(&module);
    assert!(bare.len() < module.len(), "the component type was there");
    for bytes in [&module, &bare] {
        let code = Code::new(runtime(), bytes).unwrap();
        let (mut plugin, setup) = Plugin::make(&code, &[], 7);
        setup.unwrap();
        plugin.deliver(&PluginEvent::PeerAdded(this_device()));
        assert_eq!(
            plugin.take_lines(),
            ["setup [] 0 peers", "on-peer-added here of 1"]
        );
    }
    let minimal = without_component_type(&std::fs::read(fixture_module("minimal")).unwrap());
    Code::new(runtime(), &minimal).expect("its exports say that it has a lifecycle alone");
}

/// A core module without the custom sections that say what component it makes.
fn without_component_type(module: &[u8]) -> Vec<u8> {
    let (header, mut rest) = module.split_at(8);
    let mut kept = header.to_vec();
    while let Some((&id, after_id)) = rest.split_first() {
        let (size, after_size) = leb128(after_id);
        let section_end = rest.len() - after_size.len() + size;
        let (section, next) = rest.split_at(section_end);
        let is_custom = id == 0;
        let dropped = is_custom && leb128(after_size).1.starts_with(b"component-type");
        if !dropped {
            kept.extend_from_slice(section);
        }
        rest = next;
    }
    kept
}

fn leb128(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut shift) = (0_usize, 0);
    for (index, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value, &bytes[index + 1..]);
        }
    }
    (0, &[])
}

/// `restore` has the time of `setup`, for which there is less here than by default.
fn restore_loops(hostile: &Code) {
    let limits = Limits {
        setup_cpu: Duration::from_millis(300),
        ..Limits::default()
    };
    let (mut plugin, setup) = Plugin::limited(hostile, &[("restore", "loop")], 7, limits);
    setup.unwrap();
    let restored = plugin.instance.restore(b"saved", Version::default(), at(0));
    let Err(StartError::Fault(fault)) = restored else {
        panic!("it loops: {restored:?}");
    };
    assert_eq!(fault.callback, "restore");
    let over = fault.cause.contains("more than 300 ms of CPU");
    assert!(over, "{fault}");
}

#[test]
fn an_endless_loop_in_any_callback_is_ended_and_named() {
    let hostile = code("hostile");
    let followed = || tenure(device(2), 1);
    let follow = PluginEvent::PromoteFollower(followed());
    let lead = PluginEvent::PromoteLeader(tenure(this_device(), 1));
    let change = StateUpdate {
        changes: vec![StateChange {
            origin: Origin::Shared,
            key: "k".into(),
            outcome: StateOutcome::Deleted,
            own: false,
        }],
        handled: 0,
        room: u64::MAX,
        whole: false,
    };
    let leader_message = PluginEvent::LeaderMessage {
        sender: followed(),
        payload: b"x".to_vec().into(),
    };
    let added = PluginEvent::PeerAdded(device(2));
    let removed = PluginEvent::PeerRemoved(device(2));
    // Each callback, and what comes before it.
    let events = [
        ("on-peer-added", vec![added.clone()]),
        ("on-peer-removed", vec![added, removed]),
        ("promote-leader", vec![lead.clone()]),
        ("demote-leader", vec![lead, PluginEvent::DemoteLeader]),
        ("promote-follower", vec![follow.clone()]),
        ("demote-follower", vec![follow, PluginEvent::DemoteFollower]),
        ("on-peer-message", vec![message(device(2), "")]),
        ("on-leader-message", vec![leader_message]),
        ("on-state-changed", vec![PluginEvent::State(change)]),
        (
            "on-writes-superseded",
            vec![PluginEvent::WritesSuperseded(vec!["k".into()])],
        ),
    ];
    let looping = |callback: &'static str| {
        let (plugin, setup) = Plugin::make(&hostile, &[(callback, "loop")], 7);
        setup.unwrap();
        plugin.instance
    };
    let ended = |callback: &'static str, fault: Fault| {
        assert_eq!(fault.callback, callback);
        let over = fault.cause.contains("more than 100 ms of CPU");
        assert!(over, "{callback}: {fault}");
    };
    for (callback, mut events) in events {
        let mut instance = looping(callback);
        let last = events.pop().unwrap();
        for event in events {
            instance.deliver(&event, at(1_000)).unwrap();
        }
        let fault = instance.deliver(&last, at(1_000));
        ended(callback, fault.expect_err(callback));
    }
    let (_, fired) = looping("on-timer").fire_timers(at(1_000));
    ended("on-timer", fired.expect_err("it loops"));
    let asked = looping("on-local-request").local_request("topic", b"", at(0));
    ended("on-local-request", asked.expect_err("it loops"));
    let saved = looping("save").save(at(0));
    ended("save", saved.expect_err("it loops"));
    restore_loops(&hostile);
    let stopped = looping("shutdown").shutdown(ShutdownReason::Stop, at(0));
    ended("shutdown", stopped.expect_err("it loops"));
}
