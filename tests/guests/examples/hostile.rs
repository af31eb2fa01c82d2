//! Misbehaves as its configuration (`setup`, `always`, or a callback's name) or a message tells it. With
//! `every-ms` it gets a callback that often.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

#[path = "shared/handles.rs"]
mod handles;

use std::time::Duration;

use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{clock, config, local, log};
use exports::consort::plugin::{
    handover, lifecycle, local_events, message_events, peer_events, role, state_events, timers,
};

struct Hostile;

/// Misbehaves. What is no way to misbehave does nothing.
fn behave(how: &str) {
    match how {
        "loop" => loop {
            std::hint::black_box(0);
        },
        "log-loop" => loop {
            log::write(log::Level::Info, &"x".repeat(1000));
        },
        "print-loop" => loop {
            println!("{}", "x".repeat(1000));
        },
        "alloc" => {
            let mut kept = Vec::new();
            loop {
                kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        "alloc-once" => {
            let mib: usize = config::get("mib")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            std::mem::forget(std::hint::black_box(vec![1_u8; mib << 20]));
        }
        "trap" => core::arch::wasm32::unreachable(),
        "panic" => panic!("this plugin\nis unwell"),
        "panic-long" => panic!("{}", "\u{1b}[2J\u{7}\r\n".repeat(200_000)),
        "huge-key" => drop(config::get(&"k".repeat(5 << 20))),
        "huge-send" => {
            let sent = consort::plugin::messages::send_to_all(&vec![7; 3 << 20]);
            log::write(log::Level::Info, &format!("huge-send {sent:?}"));
        }
        "huge-calls" => huge_calls(),
        "forge-handle" => drop(handles::follow(&["ready", "12345"])),
        "hoard-handles" => drop(handles::follow(&["hoard"])),
        "long-lines" => (0..100).for_each(|_| {
            log::write(log::Level::Info, &"\u{1b}]0;owned\u{7}".repeat(1000));
        }),
        "reach" => log::write(log::Level::Info, &format!("reach {}", reach().join(" "))),
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "nap" => std::thread::sleep(Duration::from_secs(4)),
        "recurse" => {
            std::hint::black_box(recurse(std::hint::black_box(u64::MAX)));
        }
        "exit" => std::process::exit(1),
        "timers" => (0..2000).for_each(|token| clock::wake_at(u64::MAX, token)),
        "short-period" => clock::wake_every(1, 1),
        "huge-log" => log::write(log::Level::Info, &"x".repeat(5 << 20)),
        "escape" => log::write(log::Level::Info, "red \u{1b}[31m\nnext"),
        "random" => {
            let mut hashed = std::collections::HashMap::new();
            hashed.insert(1, 2);
            log::write(log::Level::Info, &format!("random {:?}", hash_of_nothing()));
        }
        "files" => {
            let read = std::fs::read_dir("/").map(|_| ()).map_err(|e| e.kind());
            let connect = std::net::TcpStream::connect("127.0.0.1:1").map(|_| ());
            let connect = connect.map_err(|e| e.kind());
            let env = std::env::vars().count();
            log::write(
                log::Level::Info,
                &format!("files {read:?} {connect:?} {env}"),
            );
        }
        other => flood(other),
    }
}

/// More than anybody can take.
fn flood(how: &str) {
    match how {
        "timer-flood" => loop {
            clock::wake_at(u64::MAX, 1);
            clock::cancel(1);
        },
        "print-flood" => {
            (0..600).for_each(|number| println!("printed {number} {}", "x".repeat(200)));
            // What is left of a budget when a long line does not fit.
            (0..200).for_each(|_| println!("x"));
        }
        "message-flood" => {
            let refused = (0..100_000)
                .filter(|_| consort::plugin::messages::send_to_all(b"flood").is_err())
                .count();
            log::write(
                log::Level::Info,
                &format!("message-flood {refused} refused"),
            );
        }
        "state-flood" => {
            use consort::plugin::{counters, device_state, shared_state};
            let refused = (0..1_500)
                .filter(|number| {
                    let key = format!("key {number}");
                    let value = [*number as u8; 200];
                    let shared = shared_state::put(&key, &value, None).is_err();
                    let own = device_state::put(&key, &value, None).is_err();
                    shared | own | counters::add("flood", 1).is_err()
                })
                .count();
            log::write(log::Level::Info, &format!("state-flood {refused} refused"));
        }
        "publish-flood" => (0..100_000).for_each(|_| local::publish("flood", b"flood", true)),
        "publish-topics" => {
            for number in 0..1000 {
                local::publish(&format!("topic {number}"), &[7; 8 << 10], true);
            }
        }
        "publish-huge" => local::publish("huge", &vec![7; 3 << 20], false),
        _ => {}
    }
}

/// As long as the host copies at all.
fn huge_calls() {
    let bytes = vec![7; 3 << 20];
    let text = "k".repeat(3 << 20);
    for _ in 0..2 {
        let _ = consort::plugin::messages::send_to_all(&bytes);
        let _ = consort::plugin::shared_state::put("huge", &bytes, None);
        let _ = config::get(&text);
        local::publish("huge", &bytes, true);
        log::write(log::Level::Info, &text);
    }
}

/// What of the device can be reached by way of WASI: nothing, if all is well.
fn reach() -> Vec<String> {
    use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
    let mut reached = Vec::new();
    let mut note = |what: &str, worked: bool| {
        if worked {
            reached.push(what.to_owned());
        }
    };
    for path in ["/", ".", "/etc", "/proc", "..", "../..", "/tmp"] {
        note(path, std::fs::read_dir(path).is_ok());
    }
    for path in [
        "/etc/passwd",
        "etc/passwd",
        "/proc/self/environ",
        "plugin.toml",
        "/dev/stdin",
    ] {
        note(path, std::fs::File::open(path).is_ok());
    }
    note(
        "create",
        std::fs::File::create("/tmp/consort-plugin-was-here").is_ok(),
    );
    note(
        "create here",
        std::fs::File::create("consort-plugin-was-here").is_ok(),
    );
    note("connect", TcpStream::connect(("127.0.0.1", port())).is_ok());
    note("listen", TcpListener::bind("127.0.0.1:0").is_ok());
    note("listen v6", TcpListener::bind("[::1]:0").is_ok());
    let datagram = UdpSocket::bind("127.0.0.1:0");
    note(
        "udp",
        datagram.is_ok_and(|socket| socket.send_to(b"x", ("127.0.0.1", port())).is_ok()),
    );
    note(
        "name",
        ("localhost", 80)
            .to_socket_addrs()
            .is_ok_and(|mut found| found.next().is_some()),
    );
    note("environment", std::env::vars().next().is_some());
    note("arguments", std::env::args().len() > 0);
    note(
        "folder",
        std::env::current_dir().is_ok_and(|here| std::fs::read_dir(here).is_ok()),
    );
    let mut line = String::new();
    note(
        "stdin",
        std::io::stdin()
            .read_line(&mut line)
            .is_ok_and(|bytes| bytes > 0),
    );
    note("thread", std::thread::Builder::new().spawn(|| {}).is_ok());
    note(
        "process",
        std::process::Command::new("/bin/true").spawn().is_ok(),
    );
    reached
}

/// Where the test listens.
fn port() -> u16 {
    config::get("port")
        .and_then(|port| port.parse().ok())
        .unwrap_or(9)
}

fn hash_of_nothing() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == 0 {
        0
    } else {
        recurse(depth - 1) + frame[3]
    }
}

/// What it does in this callback and in all others.
fn behave_in(callback: &str) {
    behave_as("always");
    behave_as(callback);
}

fn behave_as(key: &str) {
    if let Some(how) = config::get(key) {
        behave(&how);
    }
}

impl lifecycle::Guest for Hostile {
    fn setup() -> Result<(), String> {
        match config::get("setup").as_deref() {
            Some("error") => return Err("the amplifier is missing".into()),
            Some("error-long") => return Err("\u{1b}[31mno\u{7}\n".repeat(200_000)),
            Some(how) => behave(how),
            None => {}
        }
        log::write(log::Level::Info, "hostile is set up");
        if config::get("on-timer").is_some() {
            clock::wake_at(0, 1);
        }
        if let Some(ms) = config::get("every-ms").and_then(|text| text.parse::<u64>().ok()) {
            clock::wake_every(ms * 1000, 2);
        }
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {
        behave_as("shutdown");
    }
}

impl role::Guest for Hostile {
    fn promote_leader(_: Leadership) {
        behave_in("promote-leader");
    }

    fn demote_leader() {
        behave_in("demote-leader");
    }

    fn promote_follower(_: Leadership) {
        behave_in("promote-follower");
    }

    fn demote_follower() {
        behave_in("demote-follower");
    }
}

impl peer_events::Guest for Hostile {
    fn on_peer_added(_: Peer) {
        behave_in("on-peer-added");
    }

    fn on_peer_removed(_: Peer) {
        behave_in("on-peer-removed");
    }
}

impl message_events::Guest for Hostile {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {
        behave_in("on-leader-message");
    }

    fn on_peer_message(payload: Vec<u8>, _: Peer) {
        behave_in("on-peer-message");
        behave(&String::from_utf8_lossy(&payload));
        log::write(log::Level::Info, "still here");
    }
}

impl state_events::Guest for Hostile {
    fn on_state_changed(_: Vec<state_events::Change>) {
        behave_in("on-state-changed");
    }

    fn on_writes_superseded(_: Vec<String>) {
        behave_in("on-writes-superseded");
    }
}

impl timers::Guest for Hostile {
    fn on_timer(_: u64, _: u64) {
        behave_in("on-timer");
    }
}

impl local_events::Guest for Hostile {
    fn on_local_request(_: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        behave_in("on-local-request");
        behave(&String::from_utf8_lossy(&payload));
        Err("\u{1b}[31mno\u{7}\n".repeat(1000))
    }
}

impl handover::Guest for Hostile {
    fn save() -> Vec<u8> {
        behave_as("save");
        let bytes = config::get("save-bytes").and_then(|text| text.parse().ok());
        vec![7; bytes.unwrap_or(0)]
    }

    fn restore(saved: Vec<u8>, _: String) -> Result<(), String> {
        log::write(
            log::Level::Info,
            &format!("restore of {} bytes", saved.len()),
        );
        if config::get("restore").as_deref() == Some("error") {
            return Err("cannot read the old state".into());
        }
        behave_as("restore");
        Ok(())
    }
}

export!(Hostile);
