//! The tour, one plugin written in every language: the same events give the same lines and the
//! same messages. The Rust one is always there; the folder that `CONSORT_TOURS` names, which
//! `cargo xtask test --guests` builds, holds those in other languages.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::tour::{
    Tour, at, change, from_leader, hello, message, op, plugins, put, text, update, values,
};
use common::{World, assert_no_errors, cache_dir, device, plugin_lines, tenure, this_device};
use consort_plugin_host::{
    Code, Fault, LocalMessage, LocalRequestError, Runtime, ShutdownReason, StartError,
};
use consort_proto::{Origin, PluginCommand, PluginEvent, Scope, StateOutcome, StateWrite, Version};

/// The tours to test, by language.
fn tours() -> Vec<(String, PathBuf)> {
    let rust = consort_test_guests::fixture("tour");
    let mut tours = vec![("rust-here".to_owned(), rust)];
    tours.extend(plugins("CONSORT_TOURS").unwrap_or_default());
    tours
}

fn each_tour(run: impl Fn(&str, &Code)) {
    let runtime = Runtime::new(&cache_dir()).unwrap();
    for (language, path) in tours() {
        println!("{language}");
        let code = Code::new(&runtime, &std::fs::read(path).unwrap())
            .unwrap_or_else(|error| panic!("{language}: {error}"));
        run(&language, &code);
    }
}

const SETUP: [&str; 3] = [
    "Trace: a trace",
    "Debug: a detail",
    "setup: 1 settings, greeting hi",
];

/// The greeting that this device's tour puts.
fn greets_in(scope: Scope) -> PluginCommand {
    PluginCommand::Write(StateWrite::Put {
        scope,
        key: "hello".into(),
        value: hello("here").into(),
        ttl_ms: None,
    })
}

#[test]
fn callbacks_come_with_their_arguments() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        tour.expect(&SETUP);
        let written = tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.expect(&["peer-added: here of 1", "device-state: hello ok"]);
        assert_eq!(written, [greets_in(Scope::Device)]);
        let sent = tour.deliver(PluginEvent::PeerAdded(device(2)));
        tour.expect(&["peer-added: device-2 of 2", "send: ok"]);
        let (to, payload) = (device(2).device, hello("here").into());
        assert_eq!(sent, [PluginCommand::Send { to, payload }]);

        let sent = tour.deliver(PluginEvent::PromoteFollower(tenure(device(2), 3)));
        tour.expect(&[
            "promote-follower: device-2 in term 3",
            "send-to-leader: ok",
            "device-state: hello from here",
        ]);
        assert_eq!(sent, [PluginCommand::SendToLeader(hello("here").into())]);
        tour.deliver(from_leader(hello("device-2")));
        tour.deliver(from_leader(vec![0xc1]));
        tour.ask(hello("device-2"));
        tour.ask(op("what"));
        tour.expect(&[
            "leader-message: hello from device-2 in term 3",
            "leader-message: no MessagePack in term 3",
            "peer-message: hello from device-2",
            "Warn: peer-message: unknown",
        ]);
        tour.deliver(PluginEvent::DemoteFollower);
        let sent = tour.deliver(PluginEvent::PromoteLeader(tenure(this_device(), 5)));
        let tenure_counted = StateWrite::Add {
            name: "tenures".into(),
            delta: 1,
        };
        let expected = [
            PluginCommand::Broadcast(hello("here").into()),
            greets_in(Scope::Leader),
            greets_in(Scope::Shared),
            PluginCommand::Write(tenure_counted),
        ];
        assert_eq!(sent, expected);
        tour.deliver(PluginEvent::DemoteLeader);
        tour.deliver(PluginEvent::PeerRemoved(device(2)));
        tour.expect(&[
            "demote-follower",
            "promote-leader: here in term 5",
            "broadcast: ok",
            "leader-state: hello ok",
            "shared-state: hello ok",
            "counters: tenures 1",
            "demote-leader: leading no",
            "peer-removed: device-2 of 1",
        ]);
        let lines = tour.lines.clone();
        tour.instance
            .shutdown(ShutdownReason::Remove, at(3_000))
            .unwrap();
        assert_eq!(*lines.0.lock().unwrap(), ["shutdown: remove"]);
    });
}

#[test]
fn the_group_and_errors_of_sending_are_seen() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.ask(op("group"));
        tour.expect(
            &[
                &SETUP[..],
                &[
                    "peer-added: here of 1",
                    "device-state: hello ok",
                    "group: leader none, leading no",
                    "group: here at 127.0.0.1, self yes, delta 0, round trip 500",
                ],
            ]
            .concat(),
        );
        let other = consort_proto::Peer {
            clock_delta: -7,
            ..device(2)
        };
        tour.deliver(PluginEvent::PeerAdded(other.clone()));
        tour.deliver(PluginEvent::PromoteFollower(tenure(other, 3)));
        tour.take_lines();
        tour.ask(op("group"));
        let mut peers = [
            (
                this_device().device,
                "group: here at 127.0.0.1, self yes, delta 0, round trip 500",
            ),
            (
                device(2).device,
                "group: device-2 at 10.0.0.2, self no, delta -7, round trip 500",
            ),
        ];
        peers.sort();
        tour.expect(&[
            "group: leader device-2 in term 3, leading no",
            peers[0].1,
            peers[1].1,
        ]);
        tour.ask(op("errors"));
        tour.expect(&[
            "Error: broadcast: not-leader",
            "Error: send: unknown-peer",
            "Error: send-to-all: too-large 65536",
            "Error: put: invalid-key",
        ]);
    });
}

#[test]
fn state_is_written_and_read() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.deliver(PluginEvent::PromoteLeader(tenure(this_device(), 1)));
        tour.take_lines();
        tour.ask(op("state"));
        tour.expect(&[
            "leader-state: put ok",
            "leader-state: onward motto motto=onward",
            "leader-state: delete ok",
            "device-state: put ok",
            "device-state: calm mood calm",
            "device-state: delete ok",
            "shared-state: put ok",
            "shared-state: red colour colour=red",
            "shared-state: delete ok",
            "counters: add 2",
            "counters: 2",
        ]);
        tour.deliver(PluginEvent::DemoteLeader);
        tour.deliver(PluginEvent::PromoteFollower(tenure(device(2), 2)));
        tour.take_lines();
        tour.ask(op("state"));
        let lines = tour.lines.0.lock().unwrap();
        assert_eq!(
            lines[..3],
            [
                "leader-state: put not-leader",
                "leader-state: none  ",
                "leader-state: delete not-leader",
            ]
        );
    });
}

#[test]
fn what_others_change_is_told_and_read() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        let other = || Origin::Device(device(2).device);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.deliver(PluginEvent::PeerAdded(device(2)));
        tour.take_lines();
        let changes = [
            put(other(), "hello", hello("device-2")),
            put(other(), "mood", b"calm".to_vec()),
            change(other(), "mood", StateOutcome::Deleted),
            put(Origin::Leader, "hello", hello("device-2")),
            put(Origin::Leader, "motto", b"onward".to_vec()),
            put(Origin::Shared, "colour", b"red".to_vec()),
            put(Origin::Shared, "hello", vec![0xc1]),
            change(Origin::Shared, "fading", StateOutcome::Expired),
            change(
                Origin::Counter,
                "visits",
                StateOutcome::Counted(i64::MIN >> 11),
            ),
            change(Origin::Counter, "tenures", StateOutcome::Counted(3)),
        ];
        tour.deliver(update(changes, 0));
        let whose = format!("state-changed: device {}", device(2).device);
        tour.expect(&[
            &format!("{whose} hello put hello from device-2"),
            &format!("{whose} mood put calm"),
            &format!("{whose} mood deleted"),
            "state-changed: leader hello put hello from device-2",
            "state-changed: leader motto put onward",
            "state-changed: shared colour put red",
            "state-changed: shared hello put no MessagePack",
            "state-changed: shared fading expired",
            "state-changed: counter visits counted -4503599627370496",
            "state-changed: counter tenures counted 3",
        ]);
        tour.deliver(PluginEvent::PromoteFollower(tenure(device(2), 3)));
        let mut names = [
            (this_device().device, "here"),
            (device(2).device, "device-2"),
        ];
        names.sort();
        let read = format!("device-state: hello from {},{}", names[0].1, names[1].1);
        tour.expect(&[
            "promote-follower: device-2 in term 3",
            "send-to-leader: ok",
            &read,
        ]);
    });
}

#[test]
fn what_the_group_did_not_adopt_is_told() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.deliver(PluginEvent::PromoteLeader(tenure(this_device(), 1)));
        tour.deliver(PluginEvent::DemoteLeader);
        tour.take_lines();
        let keys = ["hello", "motto", "l\u{e4}nge"].map(Into::into);
        tour.deliver(PluginEvent::WritesSuperseded(keys.to_vec()));
        tour.expect(&["writes-superseded: hello,motto,l\u{e4}nge"]);
    });
}

#[test]
fn programs_on_the_device_are_told_and_answered() {
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        tour.take_lines();
        let ask = message(op("local"));
        let outcome = tour.instance.deliver(&ask, at(1_000)).unwrap();
        tour.expect(&["local: published yes"]);
        let published = |topic: &str, payload: Vec<u8>, retain| LocalMessage {
            topic: topic.to_owned(),
            payload: payload.into(),
            retain,
        };
        let expected = [
            published("moment", b"now".to_vec(), false),
            published("hello", hello("here"), true),
        ];
        assert_eq!(outcome.published, expected, "{language}");
        for payload in [vec![], vec![0, 0xff, 7], vec![7; 0x10000]] {
            let mut request = |topic| {
                tour.instance
                    .local_request(topic, &payload, at(1_000))
                    .unwrap()
                    .0
            };
            assert_eq!(request("echo"), Ok(payload.clone().into()), "{language}");
            let refusal = LocalRequestError::Failed("refused: d\u{fc}n".to_owned());
            assert_eq!(request("d\u{fc}n"), Err(refusal), "{language}");
            let bytes = payload.len();
            let mut lines = tour.take_lines();
            // Where an exception comes from is in some languages' logs besides.
            lines.retain(|line| !line.starts_with("Debug: "));
            let expected = ["echo", "d\u{fc}n"];
            let expected =
                expected.map(|topic| format!("local-request: {topic} with {bytes} bytes"));
            assert_eq!(lines, expected, "{language}");
        }
    });
}

#[test]
fn many_requests_leave_no_memory_behind() {
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        for _ in 0..rounds(language) {
            let payload = [7; 0x8000];
            let (answer, _) = tour
                .instance
                .local_request("echo", &payload, at(1_000))
                .unwrap();
            assert_eq!(answer.as_deref(), Ok(&payload[..]), "{language}");
            tour.take_lines();
        }
    });
}

#[test]
fn timers_fire_and_cancelled_ones_do_not() {
    each_tour(|_, code| {
        let mut tour = Tour::new(code);
        tour.ask(op("time"));
        tour.expect(
            &[
                &SETUP[..],
                &["time: synchronised yes, bound 250", "time: yes"],
            ]
            .concat(),
        );
        tour.fire(900_000);
        tour.expect(&[]);
        tour.fire(1_100_000);
        tour.expect(&["timer: 1 due yes"]);
        tour.fire(10_000_000);
        tour.fire(20_000_000);
        tour.expect(&["timer: 2 due yes", "timer: 2 due yes"]);
    });
}

#[test]
fn every_value_survives_the_way_in_and_out() {
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.deliver(PluginEvent::PeerAdded(device(2)));
        let all = values();
        let mut together = vec![0xdc, 0, u8::try_from(all.len()).unwrap()];
        together.extend(all.concat());
        for value in all.iter().chain([&together]) {
            let head = [vec![0x82], text("op"), text("echo"), text("value")].concat();
            let sent = tour.ask([head, value.clone()].concat());
            let head = [vec![0x82], text("op"), text("echoed"), text("value")].concat();
            let payload = [head, value.clone()].concat().into();
            let to = device(2).device;
            assert_eq!(
                sent,
                [PluginCommand::Send { to, payload }],
                "{language}: {value:02x?}"
            );
        }
    });
}

#[test]
fn hostile_payloads_are_refused_and_survived() {
    let deep = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
    let hostile = [
        vec![],
        vec![0xc1],
        vec![0xc7, 1, 1, 1],
        [op("group"), vec![0]].concat(),
        op("group")[..5].to_vec(),
        deep(17),
        deep(60_000),
        vec![0xc6, 0xff, 0xff, 0xff, 0xff],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xdf, 0x7f, 0xff, 0xff, 0xff, 1],
        vec![0xdb, 0x80, 0, 0, 0],
        vec![0xcf, 1],
        vec![0xa2, 0xff, 0xfe],
    ];
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        tour.expect(&SETUP);
        for payload in &hostile {
            let shown = &payload[..payload.len().min(8)];
            assert_eq!(tour.ask(payload.clone()), [], "{language}: {shown:02x?}");
            let lines = tour.take_lines();
            assert_eq!(
                lines,
                ["Warn: peer-message: no MessagePack"],
                "{language}: {shown:02x?}"
            );
        }
        tour.ask(deep(16));
        tour.expect(&["Warn: peer-message: unknown"]);
    });
}

#[test]
fn what_is_saved_is_restored() {
    each_tour(|language, code| {
        let mut old = Tour::new(code);
        old.ask(hello("device-2"));
        old.ask(hello("device-2"));
        let (saved, _) = old.instance.save(at(2_000)).unwrap().unwrap();
        assert_eq!(*saved, [vec![0x81], text("heard"), vec![2]].concat());
        let version: Version = "1.2.3".parse().unwrap();
        let mut new = Tour::new(code);
        new.expect(&SETUP);
        new.instance.restore(&saved, version, at(2_000)).unwrap();
        new.expect(&["restore: 2 from 1.2.3"]);
        new.ask(hello("device-2"));
        new.instance.save(at(3_000)).unwrap();
        new.expect(&["peer-message: hello from device-2", "save: 3"]);

        let mut third = Tour::new(code);
        match third.instance.restore(&[0xc1], version, at(4_000)) {
            Err(StartError::Refused { callback, text }) => {
                assert_eq!(
                    (callback, text.as_str()),
                    ("restore", "restore: no MessagePack")
                );
            }
            other => panic!("{language}: {other:?}"),
        }
    });
}

#[test]
fn a_refusal_has_its_text_and_a_fault_ends_the_instance() {
    each_tour(|language, code| {
        let (_, setup) = Tour::make(code, &[("refuse", "no screen")]);
        match setup {
            Err(StartError::Refused { callback, text }) => {
                assert_eq!((callback, text.as_str()), ("setup", "refused: no screen"));
            }
            other => panic!("{language}: {other:?}"),
        }
        let mut tour = Tour::new(code);
        tour.expect(&SETUP);
        let fault: Result<_, Fault> = tour.instance.deliver(&message(op("fault")), at(1_000));
        assert!(fault.is_err(), "{language}");
        let lines = tour.lines.0.lock().unwrap();
        assert!(
            lines.iter().any(|line| line.contains("asked to fail")),
            "{language}: {lines:?}"
        );
    });
}

/// Where an author reads in which function of the source a plugin was lost.
enum Named {
    /// In a frame of the fault's backtrace.
    Frame(&'static str),
    /// In the log, as the frames are those of the language's interpreter.
    Log(&'static str),
}

/// The function of the tour's source that handles messages of peers, as each language spells it.
fn named(language: &str) -> Named {
    match language {
        "rust" | "rust-here" => Named::Frame("::Plugin>::peer_message"),
        "c" => Named::Frame("!consort_peer_message"),
        "zig" => Named::Frame("!plugin.peerMessage"),
        "go" => Named::Frame("!main.__tour_.PeerMessage"),
        "assemblyscript" => Named::Frame("!plugin/Tour#peerMessage"),
        "js" | "ts" => Named::Log("at peerMessage ("),
        "python" => Named::Log("in peer_message"),
        other => panic!("who names the functions of {other}?"),
    }
}

#[test]
fn a_fault_tells_the_function_by_its_name_in_the_source() {
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        let result = tour.instance.deliver(&message(op("fault")), at(1_000));
        let frames = result.expect_err("it fails").backtrace;
        let lines = tour.take_lines();
        let (told, name) = match named(language) {
            Named::Frame(name) => (&frames, name),
            Named::Log(name) => (&lines, name),
        };
        assert!(
            told.iter().any(|line| line.contains(name)),
            "{language}: no {name} in {frames:#?} or {lines:#?}"
        );
    });
}

/// So many that 32 KiB each way are four times the 64 MiB that an instance may have.
fn rounds(language: &str) -> u32 {
    // componentize-py 0.25.1 keeps the bytes that a plugin passes to the host; see the guide.
    if language == "python" { 1_000 } else { 4_000 }
}

#[test]
fn many_messages_leave_no_memory_behind() {
    let head = [vec![0x82], text("op"), text("echo"), text("value")].concat();
    let large = [head, vec![0xc5, 0x80, 0], vec![7; 0x8000]].concat();
    each_tour(|language, code| {
        let mut tour = Tour::new(code);
        tour.deliver(PluginEvent::PeerAdded(this_device()));
        tour.deliver(PluginEvent::PeerAdded(device(2)));
        for round in 0..rounds(language) {
            tour.ask(large.clone());
            if round % 4 == 0 {
                tour.ask(hello("device-2"));
            }
            tour.take_lines();
        }
    });
}

#[test]
fn a_file_runs_on_the_host_until_it_stops() {
    // Compiled ahead: all at once may take longer than the patience of a test.
    each_tour(|_, _| ());
    let tours = tours();
    let mut world = World::new();
    for (language, path) in &tours {
        let manifest = format!("id = \"{language}\"\n[config]\ngreeting = \"hi\"\n");
        world.install_bytes(language, &std::fs::read(path).unwrap(), &manifest);
    }
    world.start();
    for (language, path) in &tours {
        world.wait_state(language, "running");
        world.lead(language, 1);
        world.wait_line(language, "broadcast: ok");
        world.deliver(language, message(hello("device-2")));
        world.wait_line(language, "peer-message: hello from device-2");
        world.wait_line(language, "timer: 1 due yes");
        // A copy of the file with another version takes over what the first one knew.
        let manifest =
            format!("id = \"{language}\"\nversion = \"0.1.1\"\n[config]\ngreeting = \"ho\"\n");
        world.install_bytes(language, &std::fs::read(path).unwrap(), &manifest);
        world.wait_line(language, "restore: 1 from 0.1.0");
        world.wait_line(language, "shutdown: reload");
        world.wait_generation(language, 2);
    }
    world.stop();
    for (language, _) in &tours {
        let lines = plugin_lines(language);
        let last = &lines[lines.len() - 2..];
        assert_eq!(
            last,
            ["demote-leader: leading no", "shutdown: stop"],
            "{language}"
        );
        assert!(
            lines.contains(&"setup: 1 settings, greeting ho".to_owned()),
            "{lines:?}"
        );
    }
    assert_no_errors();
}
