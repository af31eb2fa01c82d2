//! Misbehaves as its configuration (`setup`, `always`, `save`, `restore`) or a message tells it.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

use std::time::Duration;

use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{clock, config, log};
use exports::consort::plugin::{
    handover, lifecycle, message_events, peer_events, role, state_events, timers,
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
        "trap" => core::arch::wasm32::unreachable(),
        "panic" => panic!("this plugin\nis unwell"),
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
        _ => {}
    }
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

fn behave_as(key: &str) {
    if let Some(how) = config::get(key) {
        behave(&how);
    }
}

impl lifecycle::Guest for Hostile {
    fn setup() -> Result<(), String> {
        match config::get("setup").as_deref() {
            Some("error") => return Err("the amplifier is missing".into()),
            Some(how) => behave(how),
            None => {}
        }
        log::write(log::Level::Info, "hostile is set up");
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {
        behave_as("shutdown");
    }
}

impl role::Guest for Hostile {
    fn promote_leader(_: Leadership) {
        behave_as("always");
    }

    fn demote_leader() {
        behave_as("always");
    }

    fn promote_follower(_: Leadership) {
        behave_as("always");
    }

    fn demote_follower() {
        behave_as("always");
    }
}

impl peer_events::Guest for Hostile {
    fn on_peer_added(_: Peer) {
        behave_as("always");
    }

    fn on_peer_removed(_: Peer) {
        behave_as("always");
    }
}

impl message_events::Guest for Hostile {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {
        behave_as("always");
    }

    fn on_peer_message(payload: Vec<u8>, _: Peer) {
        behave_as("always");
        behave(&String::from_utf8_lossy(&payload));
        log::write(log::Level::Info, "still here");
    }
}

impl state_events::Guest for Hostile {
    fn on_state_changed(_: Vec<state_events::Change>) {
        behave_as("always");
    }

    fn on_writes_superseded(_: Vec<String>) {
        behave_as("always");
    }
}

impl timers::Guest for Hostile {
    fn on_timer(_: u64, _: u64) {
        behave_as("always");
    }
}

impl handover::Guest for Hostile {
    fn save() -> Vec<u8> {
        behave_as("save");
        Vec::new()
    }

    fn restore(_: Vec<u8>, _: String) -> Result<(), String> {
        if config::get("restore").as_deref() == Some("error") {
            return Err("cannot read the old state".into());
        }
        behave_as("restore");
        Ok(())
    }
}

export!(Hostile);
