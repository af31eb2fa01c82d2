//! Uses files as a message tells it: `read PATH`, `write PATH`, `list PATH`, `remove PATH`,
//! `hoard PATH`; and handles of WASI's resources by their numbers, beneath all bindings: `ready N`,
//! `drop N`, `drop-twice`, `drop-as-another`. It says in its log what came of it.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package consort:explorer;
        world explorer {
            include consort:plugin/minimal@0.1.0;
            export consort:plugin/message-events@0.1.0;
        }
    ",
    world: "consort:explorer/explorer",
    generate_all,
});

#[path = "shared/handles.rs"]
mod handles;

use std::fs;
use std::io;

use consort::plugin::log;
use consort::plugin::types::{Leadership, Peer};
use exports::consort::plugin::{lifecycle, message_events};

struct Explorer;

impl lifecycle::Guest for Explorer {
    fn setup() -> Result<(), String> {
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {}
}

impl message_events::Guest for Explorer {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {}

    fn on_peer_message(payload: Vec<u8>, _: Peer) {
        let order = String::from_utf8_lossy(&payload);
        let outcome = follow(&order).unwrap_or_else(|error| format!("{:?}", error.kind()));
        log::write(log::Level::Info, &format!("{order}: {outcome}"));
    }
}

fn follow(order: &str) -> io::Result<String> {
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["read", path] => fs::read_to_string(path),
        ["write", path] => fs::write(path, "written by a plugin").map(|()| "done".into()),
        ["remove", path] => fs::remove_file(path).map(|()| "done".into()),
        ["list", path] => {
            let entries = fs::read_dir(path)?;
            let mut names = entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names.join(","))
        }
        // Opens a file again and again and closes none of them.
        ["hoard", path] => loop {
            std::mem::forget(fs::File::open(path)?);
        },
        _ => Ok(handles::follow(&words).unwrap_or("not understood").into()),
    }
}

export!(Explorer);
