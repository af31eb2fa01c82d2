//! The group's state as plugins see it: reads, writes, and what they are told. The events of the
//! node are handed over by hand.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::told::{change, counted, own, put, update, whole};
use common::{
    EPOCH_US, World, assert_no_errors, cache_dir, device, message, plugin_id, plugin_lines, tenure,
    this_device, warnings,
};
use consort_plugin_host::{
    ClockReading, Code, Instance, InstanceSettings, Level, Limits, LogSink, Runtime,
};
use consort_proto::{
    GroupKey, Origin, PluginCommand, PluginEvent, Scope, StateConfig, StateOutcome, StateView,
    StateWrite,
};

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| {
        let runtime = Runtime::new(&cache_dir()).unwrap();
        let file = consort_test_guests::fixture("stateful");
        Code::new(&runtime, &std::fs::read(file).unwrap()).unwrap()
    })
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
    fn line(&mut self, _: Level, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// An instance of the fixture that was set up, and its log.
struct Plugin {
    instance: Instance,
    lines: Lines,
}

impl Plugin {
    fn new(state: StateView, setup: &str) -> Self {
        let lines = Lines::default();
        let settings = InstanceSettings {
            files: std::collections::BTreeMap::new(),
            local: true,
            plugin: plugin_id("under-test"),
            this_device: this_device(),
            config: Arc::new(BTreeMap::from([("setup".to_owned(), setup.to_owned())])),
            limits: Limits::default(),
            seed: [7; 32],
            run: 0,
            log: Box::new(lines.clone()),
        };
        let mut instance = Instance::new(code(), settings, at(0)).unwrap();
        instance.set_state(state);
        instance.setup(at(0)).unwrap();
        Self { instance, lines }
    }

    fn started() -> Self {
        let plugin = Self::new(view(), "sum n");
        plugin.take_lines();
        plugin
    }

    fn leading() -> Self {
        let mut plugin = Self::started();
        plugin.tell(&PluginEvent::PeerAdded(this_device()));
        plugin.tell(&PluginEvent::PromoteLeader(tenure(this_device(), 1)));
        plugin
    }

    fn take_lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().drain(..).collect()
    }

    /// What the plugin logs when it is told of an event.
    fn tell(&mut self, event: &PluginEvent) -> Vec<String> {
        self.instance.deliver(event, at(1_000)).unwrap();
        self.take_lines()
    }

    /// Has it carry out verbs: what it logs, and what it writes.
    fn act(&mut self, verbs: &str) -> (Vec<String>, Vec<StateWrite>) {
        self.act_at(verbs, 1_000)
    }

    fn act_at(&mut self, verbs: &str, offset_us: u64) -> (Vec<String>, Vec<StateWrite>) {
        let event = message(device(2), verbs);
        let outcome = self.instance.deliver(&event, at(offset_us)).unwrap();
        let writes = outcome.commands.into_iter().map(|command| match command {
            PluginCommand::Write(write) => write,
            other => panic!("{other:?} is no write"),
        });
        (self.take_lines(), writes.collect())
    }
}

fn view() -> StateView {
    StateView::new(this_device().device, StateConfig::default())
}

fn write_put(scope: Scope, key: &str, value: &str, ttl_ms: Option<u64>) -> StateWrite {
    StateWrite::Put {
        scope,
        key: key.into(),
        value: value.as_bytes().to_vec().into(),
        ttl_ms,
    }
}

#[test]
fn each_kind_reads_its_own_writes_in_the_same_callback() {
    let mut plugin = Plugin::leading();
    for (kind, scope, own) in [
        ("leader", Scope::Leader, "get"),
        ("device", Scope::Device, "own"),
        ("shared", Scope::Shared, "get"),
    ] {
        let verbs = format!("{kind} put k v;{kind} {own} k;{kind} delete k;{kind} {own} k");
        let (lines, writes) = plugin.act(&verbs);
        let [read, gone] = [format!("{kind} k=v"), format!("{kind} k=nothing")];
        assert_eq!(lines, ["result Ok(())", &read, "result Ok(())", &gone]);
        let delete = StateWrite::Delete {
            scope,
            key: "k".into(),
        };
        assert_eq!(writes, [write_put(scope, "k", "v", None), delete]);
    }
    let (lines, writes) = plugin.act("add n 5;add n -2;sum n;sum other");
    assert_eq!(lines, ["add Ok(5)", "add Ok(3)", "sum 3", "sum 0"]);
    let add = |delta| StateWrite::Add {
        name: "n".into(),
        delta,
    };
    assert_eq!(writes, [add(5), add(-2)]);
}

#[test]
fn keys_and_entries_are_listed_by_prefix_and_device() {
    let mut plugin = Plugin::leading();
    let (here, there) = (this_device().device, device(2).device);
    plugin.tell(&update(
        [
            put(Origin::Device(there), "room", "hall"),
            put(Origin::Shared, "a1", "x"),
            put(Origin::Leader, "plan", "p"),
        ],
        0,
    ));
    let verbs = "shared put a2 y;shared put b z;shared keys a;shared entries";
    let (lines, _) = plugin.act(verbs);
    assert_eq!(
        lines[2..],
        ["shared [\"a1\", \"a2\"]", "shared a1=x a2=y b=z"]
    );
    let (lines, _) = plugin.act("leader keys;leader entries");
    assert_eq!(lines, ["leader [\"plan\"]", "leader plan=p"]);
    let (lines, _) = plugin.act(&format!(
        "device put room stage;device collect room;device keys {there};device of {there} room"
    ));
    let mut rooms = [(here, "stage"), (there, "hall")];
    rooms.sort();
    let rooms = rooms.map(|(device, room)| format!("{device}={room}"));
    let expected = [
        &format!("device {}", rooms.join(" ")),
        "device [\"room\"]",
        "device room=hall",
    ];
    assert_eq!(lines[1..], expected);
    let (lines, _) = plugin.act("device of nobody room;device keys nobody");
    assert_eq!(lines, ["device room=nothing", "device []"]);
}

#[test]
fn changes_of_others_come_in_one_call_and_own_ones_not_at_all() {
    let mut plugin = Plugin::started();
    let there = Origin::Device(device(2).device);
    let lines = plugin.tell(&update(
        [
            put(Origin::Leader, "l", "1"),
            put(there, "d", "2"),
            own(put(Origin::Shared, "mine", "3")),
            change(Origin::Shared, "s", StateOutcome::Deleted),
            change(Origin::Shared, "t", StateOutcome::Expired),
            counted("n", -4),
        ],
        0,
    ));
    let expected = format!(
        "changed leader l=1, {} d=2, shared s deleted, shared t expired, counter n=-4",
        device(2).device
    );
    assert_eq!(lines, [expected]);
    let (lines, _) = plugin.act("shared get mine;leader get l;sum n");
    assert_eq!(lines, ["shared mine=3", "leader l=1", "sum -4"]);
    assert!(plugin.tell(&update([own(counted("n", 1))], 0)).is_empty());
    assert!(plugin.tell(&update([], 0)).is_empty());
}

#[test]
fn a_whole_state_is_read_and_not_told() {
    let mut plugin = Plugin::started();
    plugin.tell(&update([put(Origin::Shared, "old", "1")], 0));
    let whole = whole([put(Origin::Shared, "fresh", "2")]);
    assert!(plugin.tell(&whole).is_empty());
    let (lines, _) = plugin.act("shared entries");
    assert_eq!(lines, ["shared fresh=2"]);
}

#[test]
fn what_the_group_did_not_adopt_is_told() {
    let mut plugin = Plugin::leading();
    plugin.act("leader put a 1;leader put b 2");
    plugin.tell(&PluginEvent::DemoteLeader);
    let lines = plugin.tell(&update([put(Origin::Leader, "a", "theirs")], 2));
    assert_eq!(lines, ["changed leader a=theirs"]);
    let superseded = PluginEvent::WritesSuperseded(vec!["a".into(), "b".into()]);
    assert_eq!(plugin.tell(&superseded), ["superseded a b"]);
    let (lines, _) = plugin.act("leader entries");
    assert_eq!(lines, ["leader a=theirs"]);
    let nothing = PluginEvent::WritesSuperseded(Vec::new());
    assert!(plugin.tell(&nothing).is_empty());
}

#[test]
fn refused_writes_change_nothing() {
    let mut plugin = Plugin::started();
    let (lines, writes) = plugin
        .act("leader put k v;leader delete k;leader get k;long-key 0;long-key 257;large 65537");
    let expected = [
        "result Err(WriteError::NotLeader)",
        "result Err(WriteError::NotLeader)",
        "leader k=nothing",
        "result Err(WriteError::InvalidKey)",
        "result Err(WriteError::InvalidKey)",
        "result Err(WriteError::TooLarge(65536))",
    ];
    assert_eq!(lines, expected);
    assert!(writes.is_empty(), "{writes:?}");
    let (lines, writes) = plugin.act("long-key 256;large 65536");
    assert_eq!(lines, ["result Ok(())", "result Ok(())"]);
    assert_eq!(writes.len(), 2);
    let (lines, writes) = plugin.act("flood");
    let left = StateConfig::default().writes.message_burst - 2;
    assert_eq!(lines, [format!("flood {left}")]);
    assert_eq!(writes.len(), left as usize);
    let (lines, _) = plugin.act("add n 1");
    assert_eq!(lines, ["add Err(WriteError::Busy)"]);
    let (lines, _) = plugin.act_at("add n 1", 1_000_000);
    assert!(lines[0].starts_with("add Ok"), "{lines:?}");
}

#[test]
fn the_quota_holds_over_all_kinds() {
    let mut state = view();
    state.set_config(StateConfig {
        quota: 10,
        ..StateConfig::default()
    });
    let mut plugin = Plugin::new(state, "sum n");
    plugin.take_lines();
    plugin.tell(&update([put(Origin::Leader, "l", "1234")], 0));
    let (lines, writes) = plugin.act("shared put k 12345;shared put k 1234;add n 1");
    let expected = [
        "result Err(WriteError::TooLarge(10))",
        "result Ok(())",
        "add Err(WriteError::TooLarge(10))",
    ];
    assert_eq!(lines, expected);
    assert_eq!(writes, [write_put(Scope::Shared, "k", "1234", None)]);
}

#[test]
fn an_entry_is_hidden_when_its_time_has_come() {
    let mut plugin = Plugin::leading();
    let verbs = "leader put-for k v 5;device put-for k v 5;shared put-for k v 5";
    let (_, writes) = plugin.act_at(verbs, 2_000);
    let expected = [Scope::Leader, Scope::Device, Scope::Shared]
        .map(|scope| write_put(scope, "k", "v", Some(5)));
    assert_eq!(writes, expected);
    let read = "leader get k;device own k;shared get k;shared keys";
    let (lines, _) = plugin.act_at(read, 6_000);
    assert_eq!(
        lines,
        ["leader k=v", "device k=v", "shared k=v", "shared [\"k\"]"]
    );
    let (lines, _) = plugin.act_at(read, 8_000);
    let gone = [
        "leader k=nothing",
        "device k=nothing",
        "shared k=nothing",
        "shared []",
    ];
    assert_eq!(lines, gone);
}

#[test]
fn setup_reads_and_writes() {
    let mut state = view();
    let PluginEvent::State(known) = whole([counted("n", 7), put(Origin::Shared, "s", "v")]) else {
        unreachable!("it is one");
    };
    state.apply(&known);
    let plugin = Plugin::new(state, "add n 1;shared delete s;shared get s");
    let expected = [
        "setup n=7 s=v",
        "add Ok(8)",
        "result Ok(())",
        "shared s=nothing",
    ];
    assert_eq!(plugin.take_lines(), expected);
}

/// The fixture, running in a host as the only member of its group, which it leads.
fn running(id: &str, config: &str) -> World {
    let mut world = World::new();
    world.install(id, "stateful", &format!("[config]\n{config}\n"));
    world.start();
    world.wait_state(id, "running");
    world.deliver(id, whole([]));
    world.lead(id, 1);
    world
}

fn act(world: &World, id: &str, verbs: &str) {
    world.deliver(id, message(device(2), verbs));
}

/// The writes that the daemon was handed.
fn writes(world: &World, id: &str) -> usize {
    let told = world.told(id);
    told.iter().map(|what| what.matches("Write(").count()).sum()
}

#[test]
fn a_fault_withdraws_its_callback_s_writes_and_no_others() {
    let world = running("state-fault", "");
    act(&world, "state-fault", "add n 1;shared put s kept");
    act(&world, "state-fault", "add n 10;shared put s lost;trap");
    world.wait_line("state-fault", "setup n=1 s=kept");
    assert_eq!(writes(&world, "state-fault"), 2);
    // What comes in while it is away is there when it is back.
    act(&world, "state-fault", "trap");
    world.wait_state("state-fault", "back-off");
    world.deliver("state-fault", update([own(counted("n", 101))], 1));
    world.wait_line("state-fault", "setup n=101 s=kept");
    world.deliver("state-fault", update([counted("n", 201)], 1));
    act(&world, "state-fault", "shared get s;sum n");
    world.wait_line("state-fault", "sum 201");
    let lines = plugin_lines("state-fault");
    assert!(
        lines.iter().any(|line| line == "shared s=nothing"),
        "the node accounted for it and did not keep it: {lines:?}"
    );
    assert_no_errors();
}

#[test]
fn a_timer_that_faults_takes_nothing_from_the_one_before() {
    let config = "\"timer 1\" = \"add n 1\"\n\"timer 2\" = \"add n 10;trap\"";
    let world = running("state-batch", config);
    // Set in one callback, both are due when it has returned.
    act(&world, "state-batch", "wake 1 0;wake 2 0");
    world.wait_line("state-batch", "setup n=1 s=nothing");
    assert_eq!(writes(&world, "state-batch"), 1);
}

#[test]
fn a_reload_keeps_the_state_and_orders_the_writes() {
    let world = running(
        "state-swap",
        "save = \"add n 10\"\nshutdown = \"add n 100\"",
    );
    act(&world, "state-swap", "add n 1;shared put s kept");
    world.wait_line("state-swap", "result Ok");
    world.install(
        "state-swap",
        "stateful",
        "[config]\nsetup = \"add n 1000\"\n",
    );
    world.wait_generation("state-swap", 2);
    act(&world, "state-swap", "sum n;shared get s");
    world.wait_line("state-swap", "shared s=kept");
    let lines = plugin_lines("state-swap");
    let expected = [
        "setup n=1 s=kept",
        "add Ok(1001)",
        "add Ok(11)",
        "restore n=1011",
        "add Ok(111)",
        "sum 1111",
        "shared s=kept",
    ];
    assert_eq!(lines[lines.len() - 7..], expected);
    let told = world.told("state-swap").concat();
    let place = |delta: &str| told.find(&format!("delta: {delta} ")).unwrap();
    assert!(place("1") < place("10") && place("10") < place("100"));
    assert!(place("100") < place("1000"), "{told}");
    // All that was sent is accounted for, so nothing is laid over what the node says.
    world.deliver("state-swap", update([own(counted("n", 1111))], 5));
    act(&world, "state-swap", "shared get s;sum n");
    world.wait_line("state-swap", "shared s=nothing");
    assert_eq!(plugin_lines("state-swap").last().unwrap(), "sum 1111");
}

#[test]
fn a_reload_that_fails_leaves_no_trace_of_its_writes() {
    let world = running("state-refused", "");
    act(&world, "state-refused", "add n 1");
    world.wait_line("state-refused", "add Ok(1)");
    let refuses = "[config]\nsetup = \"add n 1000\"\nrefuse = \"not yet\"\n";
    world.install("state-refused", "stateful", refuses);
    world.wait_warning("state-refused", "not yet");
    act(&world, "state-refused", "sum n");
    world.wait_line("state-refused", "sum 1");
    assert_eq!(plugin_lines("state-refused").last().unwrap(), "sum 1");
    assert_eq!(writes(&world, "state-refused"), 1);
}

#[test]
fn timers_end_with_their_instance() {
    let world = running("state-timers", "setup = \"every 1 5000\"");
    world.wait_line("state-timers", "on-timer 1");
    act(&world, "state-timers", "every 2 5000;sum n");
    world.wait_line("state-timers", "on-timer 2");
    let fired = |since: usize, token: &str| {
        let lines = plugin_lines("state-timers").split_off(since);
        lines
            .iter()
            .any(|line| line == &format!("on-timer {token}"))
    };
    // After a fault: what setup sets again fires, what a message had set does not.
    act(&world, "state-timers", "trap");
    world.wait_state("state-timers", "back-off");
    let since = plugin_lines("state-timers").len();
    world.wait_state("state-timers", "running");
    common::wait_for("the timer that setup sets", || fired(since, "1"));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!fired(since, "2"));
    // After a reload to a version that sets none: none.
    act(&world, "state-timers", "every 2 5000");
    world.wait_line("state-timers", "on-timer 2");
    world.install("state-timers", "stateful", "");
    world.wait_generation("state-timers", 2);
    let since = plugin_lines("state-timers").len();
    act(&world, "state-timers", "wake 3 20000");
    common::wait_for("a timer of the new generation", || fired(since, "3"));
    assert!(!fired(since, "1") && !fired(since, "2"));
}

#[test]
fn superseded_writes_are_in_the_host_s_log_too() {
    let world = running("state-lost", "");
    let keys = vec!["plan".into()];
    world.deliver("state-lost", PluginEvent::WritesSuperseded(keys));
    world.wait_line("state-lost", "superseded plan");
    let warnings = warnings("state-lost");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("not adopted") && warnings[0].contains("plan"),
        "{warnings:?}"
    );
}

#[test]
fn writes_superseded_in_a_back_off_are_told_to_the_next_instance() {
    let world = running("state-late", "");
    act(&world, "state-late", "trap");
    world.wait_state("state-late", "back-off");
    let superseded = |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).into()).collect();
        world.deliver("state-late", PluginEvent::WritesSuperseded(keys));
    };
    superseded(&["plan", "next"]);
    superseded(&["plan"]);
    world.wait_line("state-late", "superseded next plan");
    let lines = plugin_lines("state-late");
    let setups = lines.iter().filter(|line| line.starts_with("setup "));
    assert_eq!(setups.count(), 2, "the instance after the fault: {lines:?}");
    // Once: the instance after the next fault is told nothing.
    act(&world, "state-late", "trap");
    world.wait_state("state-late", "back-off");
    world.wait_state("state-late", "running");
    act(&world, "state-late", "sum n");
    world.wait_line("state-late", "sum 0");
    let told = plugin_lines("state-late");
    let told = told.iter().filter(|line| line.starts_with("superseded"));
    assert_eq!(told.count(), 1);
    assert_no_errors();
}

/// The group of a plugin at a version.
fn group(id: &str, version: &str) -> GroupKey {
    GroupKey::new(&plugin_id(id), version.parse().unwrap())
}

#[test]
fn an_incompatible_version_begins_with_nothing_of_the_former_group() {
    let id = "state-apart";
    let world = running(id, "shutdown = \"add n 100\"");
    act(&world, id, "add n 1;shared put s kept");
    world.wait_line(id, "result Ok");
    let next = "version = \"0.2.0\"\n[config]\nsetup = \"sum n;add n 1000\"\n";
    world.install(id, "stateful", next);
    world.wait_generation(id, 2);
    world.wait_state(id, "running");
    let lines = plugin_lines(id);
    let expected = [
        "setup n=0 s=nothing",
        "sum 0",
        "add Ok(1000)",
        "restore n=1000",
        "add Ok(101)",
    ];
    assert_eq!(lines[lines.len() - 5..], expected);
    let told = world.told(id).concat();
    let place = |what: &str| {
        told.find(what)
            .unwrap_or_else(|| panic!("{what} in {told}"))
    };
    // The daemon hears of the old version's last writes first, then of the new version, then of what
    // that one writes: each goes to its own group.
    assert!(place("delta: 100 ") < place("up 0.2.0"), "{told}");
    assert!(place("up 0.2.0") < place("delta: 1000 "), "{told}");
    assert!(
        !told.contains("down") && !told.contains("faulted"),
        "{told}"
    );

    // What the node said before it knew of the new version is of the former group.
    world.deliver(
        id,
        update([counted("n", 7), put(Origin::Shared, "s", "old")], 2),
    );
    world.deliver(id, PluginEvent::WritesSuperseded(vec!["plan".into()]));
    act(&world, id, "sum n");
    world.deliver(id, PluginEvent::Joined(group(id, "0.1.7")));
    act(&world, id, "sum n");
    world.deliver(id, PluginEvent::Joined(group(id, "0.2.9")));
    world.deliver(id, whole([counted("n", 30)]));
    world.deliver(id, PluginEvent::PeerAdded(this_device()));
    act(&world, id, "sum n;shared get s");
    world.wait_line(id, "shared s=");
    let lines = plugin_lines(id);
    assert_eq!(lines[lines.len() - 2..], ["sum 1030", "shared s=nothing"]);
    assert!(!lines.iter().any(|line| line.starts_with("superseded")));
    assert_eq!(world.status(id).unwrap().dropped_messages, 2);

    // A compatible version keeps what there is.
    world.install(id, "stateful", "version = \"0.2.1\"\n");
    world.wait_generation(id, 3);
    act(&world, id, "sum n;shared get s");
    world.wait_line(id, "setup n=1030 s=nothing");
    assert_no_errors();
}
