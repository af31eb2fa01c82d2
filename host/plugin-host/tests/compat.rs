//! Plugins built against an earlier 0.1 of the contract go on running. They are kept in
//! `tests/guests/compat`, a folder per state of the contract; its README says how they came about.
//!
//! Every kept plugin goes through the whole sequence of callbacks and calls, and must say and do
//! what it did when it was kept: `expected.txt` beside it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::tour::{Tour, at, change, from_leader, hello, message, op, put, text, update};
use common::{World, assert_no_errors, cache_dir, device, tenure, this_device};
use consort_plugin_host::{Code, LocalRequestError, Runtime, ShutdownReason, StartError};
use consort_proto::{Origin, PluginCommand, PluginEvent, Scope, StateOutcome, StateWrite, Version};

/// The kept plugins, by the name of their folder and their own.
fn kept() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/compat");
    let mut kept = Vec::new();
    for state in std::fs::read_dir(folder).unwrap() {
        let state = state.unwrap().path();
        if !state.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&state).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|end| end == "wasm") {
                let [of, name] = [state.file_name(), file.file_stem()]
                    .map(|part| part.unwrap().to_str().unwrap().to_owned());
                kept.push((format!("{of}-{name}"), file));
            }
        }
    }
    assert!(kept.len() >= 3, "{kept:?}");
    kept
}

/// A plugin and what it has said and done so far.
struct Witness {
    tour: Tour,
    said: Vec<String>,
}

impl Witness {
    fn new(code: &Code) -> Self {
        let mut witness = Self {
            tour: Tour::new(code),
            said: Vec::new(),
        };
        witness.note(&[]);
        witness
    }

    fn note(&mut self, commands: &[PluginCommand]) {
        self.said.extend(self.tour.take_lines());
        self.said.extend(commands.iter().map(shown));
    }

    fn tell(&mut self, event: PluginEvent) {
        let commands = self.tour.deliver(event);
        self.note(&commands);
    }

    fn ask(&mut self, payload: Vec<u8>) {
        let commands = self.tour.ask(payload);
        self.note(&commands);
    }
}

/// A command, in words that stay when the host's own types change.
fn shown(command: &PluginCommand) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let place = |scope: &Scope| match scope {
        Scope::Leader => "leader",
        Scope::Device => "device",
        Scope::Shared => "shared",
    };
    match command {
        PluginCommand::Broadcast(payload) => format!("> broadcast {}", hex(payload)),
        PluginCommand::SendToLeader(payload) => format!("> to the leader {}", hex(payload)),
        PluginCommand::Send { to, payload } => format!("> to {to} {}", hex(payload)),
        PluginCommand::SendToAll(payload) => format!("> to all {}", hex(payload)),
        PluginCommand::Write(write) => match write {
            StateWrite::Put {
                scope,
                key,
                value,
                ttl_ms,
            } => {
                let (place, value) = (place(scope), hex(value));
                format!("> put {place} {key} {value} {ttl_ms:?}")
            }
            StateWrite::Delete { scope, key } => format!("> delete {} {key}", place(scope)),
            StateWrite::Add { name, delta } => format!("> add {name} {delta}"),
        },
    }
}

/// Every callback, and every call that the tour makes.
fn whole_life(code: &Code) -> Vec<String> {
    let mut plugin = Witness::new(code);
    plugin.tell(PluginEvent::PeerAdded(this_device()));
    plugin.tell(PluginEvent::PeerAdded(device(2)));
    plugin.tell(PluginEvent::PromoteFollower(tenure(device(2), 3)));
    plugin.tell(from_leader(hello("device-2")));
    plugin.ask(hello("device-2"));
    let value = [
        vec![0x82],
        text("a"),
        vec![0xc0],
        text("b"),
        vec![0xd0, 0xdf],
    ]
    .concat();
    plugin.ask([vec![0x82], text("op"), text("echo"), text("value"), value].concat());
    let other = || Origin::Device(device(2).device);
    plugin.tell(update(
        [
            put(other(), "hello", hello("device-2")),
            put(Origin::Leader, "motto", b"onward".to_vec()),
            change(Origin::Shared, "colour", StateOutcome::Deleted),
            change(Origin::Shared, "fading", StateOutcome::Expired),
            change(Origin::Counter, "visits", StateOutcome::Counted(-7)),
        ],
        0,
    ));
    for ask in ["group", "time", "errors", "state", "what"] {
        plugin.ask(op(ask));
    }
    for offset_us in [1_000_000, 10_000_000, 20_000_000] {
        let (outcome, result) = plugin.tour.instance.fire_timers(at(offset_us));
        result.unwrap();
        plugin.note(&outcome.commands);
    }
    plugin.tell(PluginEvent::DemoteFollower);
    plugin.tell(PluginEvent::PromoteLeader(tenure(this_device(), 4)));
    plugin.ask(op("state"));
    plugin.tell(PluginEvent::DemoteLeader);
    plugin.tell(PluginEvent::WritesSuperseded(vec![
        "hello".into(),
        "motto".into(),
    ]));
    plugin.tell(PluginEvent::PeerRemoved(device(2)));
    let (saved, outcome) = plugin.tour.instance.save(at(21_000_000)).unwrap().unwrap();
    plugin.note(&outcome.commands);
    let mut next = Witness::new(code);
    let version: Version = "1.2.3".parse().unwrap();
    next.tour
        .instance
        .restore(&saved, version, at(21_000_000))
        .unwrap();
    next.note(&[]);
    let lines = plugin.tour.lines.clone();
    plugin
        .tour
        .instance
        .shutdown(ShutdownReason::Reload, at(21_000_000))
        .unwrap();
    let mut said = plugin.said;
    said.append(&mut lines.0.lock().unwrap());
    said.append(&mut next.said);
    said
}

#[test]
fn kept_plugins_say_and_do_what_they_did() {
    let runtime = Runtime::new(&cache_dir()).unwrap();
    for (name, path) in kept() {
        println!("{name}");
        let code = Code::new(&runtime, &std::fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = whole_life(&code);
        let expected = std::fs::read_to_string(path.with_file_name("expected.txt")).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(said, expected, "{name} said:\n{}", said.join("\n"));

        let contract = path.with_file_name("wit/world.wit");
        let contract = std::fs::read_to_string(contract).unwrap();
        let mut tour = Tour::new(&code);
        let answer = tour.instance.local_request("echo", b"hi", at(0)).unwrap().0;
        if contract.contains("local-events") {
            assert_eq!(answer.as_deref(), Ok(&b"hi"[..]), "{name}");
            let asked = tour.instance.deliver(&message(op("local")), at(0)).unwrap();
            assert_eq!(asked.published.len(), 2, "{name}");
        } else {
            // The contract has grown since.
            assert_eq!(answer, Err(LocalRequestError::NotOffered), "{name}");
        }

        let (_, setup) = Tour::make(&code, &[("refuse", "no screen")]);
        let refused =
            matches!(setup, Err(StartError::Refused { text, .. }) if text == "refused: no screen");
        assert!(refused, "{name}");
        assert!(
            Tour::new(&code)
                .instance
                .deliver(&message(op("fault")), at(0))
                .is_err(),
            "{name}"
        );
    }
}

#[test]
fn kept_plugins_hand_over_to_one_of_today() {
    let mut world = World::new();
    let kept = kept();
    for (name, path) in &kept {
        let manifest = format!("id = \"{name}\"\napi = \"0.1\"\n");
        world.install_bytes(name, &std::fs::read(path).unwrap(), &manifest);
    }
    world.start();
    for (name, _) in &kept {
        world.wait_state(name, "running");
        world.lead(name, 1);
        world.wait_line(name, "counters: tenures 1");
        world.deliver(name, message(hello("device-2")));
        world.wait_line(name, "peer-message: hello from device-2");
        let manifest = format!("id = \"{name}\"\nversion = \"0.1.1\"\n");
        world.install(name, "tour", &manifest);
        world.wait_line(name, "restore: 1 from 0.1.0");
        world.wait_generation(name, 2);
    }
    world.stop();
    assert_no_errors();
}
