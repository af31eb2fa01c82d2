//! Logs every callback, and does what messages tell it to do.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{clock, config, group, local, log, messages};
use exports::consort::plugin::{
    handover, lifecycle, local_events, message_events, peer_events, role, state_events, timers,
};

struct Recorder;

/// Keeps the thread busy for about this long: a bit of work takes a millisecond of CPU or less.
fn spin(for_ms: u64) {
    let mut sum: u64 = 0;
    for number in 0..for_ms * 1_000_000 {
        sum = std::hint::black_box(sum.wrapping_add(number));
    }
}

fn say(text: &str) {
    log::write(log::Level::Info, text);
}

impl lifecycle::Guest for Recorder {
    fn setup() -> Result<(), String> {
        let entries: Vec<_> = config::entries()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        say(&format!(
            "setup [{}] {} peers",
            entries.join(","),
            group::peers().len()
        ));
        if let Some(period) = config::get("every_us").and_then(|text| text.parse().ok()) {
            clock::wake_every(period, 7);
        }
        if let Some(for_ms) = config::get("spin_ms").and_then(|text| text.parse().ok()) {
            spin(for_ms);
        }
        if config::get("greet").is_some() {
            let _ = messages::send_to_all(b"hello from setup");
        }
        Ok(())
    }

    fn shutdown(reason: lifecycle::Reason) {
        say(&format!("shutdown {reason:?}"));
    }
}

impl role::Guest for Recorder {
    fn promote_leader(leadership: Leadership) {
        say(&format!(
            "promote-leader {} is-leader {}",
            leadership.term,
            group::is_leader()
        ));
    }

    fn demote_leader() {
        say(&format!(
            "demote-leader, leader known: {}",
            group::leader().is_some()
        ));
    }

    fn promote_follower(leadership: Leadership) {
        say(&format!(
            "promote-follower {} of {}",
            leadership.term, leadership.leader.name
        ));
    }

    fn demote_follower() {
        say("demote-follower");
    }
}

impl peer_events::Guest for Recorder {
    fn on_peer_added(peer: Peer) {
        say(&format!(
            "on-peer-added {} of {}",
            peer.name,
            group::peers().len()
        ));
    }

    fn on_peer_removed(peer: Peer) {
        say(&format!(
            "on-peer-removed {} of {}",
            peer.name,
            group::peers().len()
        ));
    }
}

impl message_events::Guest for Recorder {
    fn on_leader_message(payload: Vec<u8>, sender: Leadership) {
        let text = String::from_utf8_lossy(&payload);
        say(&format!("on-leader-message {text} in {}", sender.term));
    }

    fn on_peer_message(payload: Vec<u8>, sender: Peer) {
        let text = String::from_utf8_lossy(&payload).into_owned();
        say(&format!("on-peer-message {text} from {}", sender.name));
        act(&text);
    }
}

/// The verbs that messages may use.
fn act(text: &str) {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["broadcast", text] => result(messages::broadcast(text.as_bytes())),
        ["to-leader", text] => result(messages::send_to_leader(text.as_bytes())),
        ["to-all", text] => result(messages::send_to_all(text.as_bytes())),
        ["send", to, text] => result(messages::send(to, text.as_bytes())),
        ["large"] => result(messages::send_to_all(&[0; 65_537])),
        ["flood"] => {
            let sent = (0..1000)
                .take_while(|_| messages::send_to_all(b"x").is_ok())
                .count();
            say(&format!("sent {sent}"));
        }
        ["wake", token, after_us] => {
            let after: u64 = after_us.parse().expect("a number");
            clock::wake_at(clock::now() + after, token.parse().expect("a number"));
        }
        ["cancel", token] => clock::cancel(token.parse().expect("a number")),
        ["time"] => {
            let quality = clock::quality();
            let (first, second) = (clock::now(), clock::now());
            let (bound, ok) = (quality.error_bound, quality.synchronised);
            say(&format!(
                "time {first} then {} more, {ok} {bound}",
                second - first
            ));
        }
        ["publish", topic, text] => local::publish(topic, text.as_bytes(), false),
        ["retain", topic, text] => local::publish(topic, text.as_bytes(), true),
        ["publish-many", count, bytes] => {
            let text = vec![b'x'; bytes.parse().expect("a number")];
            (0..count.parse::<u32>().expect("a number"))
                .for_each(|_| local::publish("many", &text, false));
        }
        ["leader"] => {
            let leader = group::leader().map(|l| format!("{} {}", l.leader.address, l.term));
            say(&format!("leader {leader:?}"));
        }
        _ => {}
    }
}

fn result(result: Result<(), messages::SendError>) {
    say(&format!("result {result:?}"));
}

impl state_events::Guest for Recorder {
    fn on_state_changed(changes: Vec<state_events::Change>) {
        say(&format!("on-state-changed {changes:?}"));
    }

    fn on_writes_superseded(keys: Vec<String>) {
        say(&format!("on-writes-superseded {keys:?}"));
    }
}

impl timers::Guest for Recorder {
    fn on_timer(token: u64, due: u64) {
        say(&format!(
            "on-timer {token} due {due} late {}",
            clock::now() >= due
        ));
    }
}

impl local_events::Guest for Recorder {
    fn on_local_request(topic: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let text = String::from_utf8_lossy(&payload).into_owned();
        say(&format!("on-local-request {topic} {text}"));
        match topic.as_str() {
            "echo" => Ok(payload),
            "act" => {
                act(&text);
                Ok(b"done".to_vec())
            }
            "large" => Ok(vec![0; text.parse().expect("a number")]),
            "refuse" => Err("the \u{1b}[31mplayer\nis off".to_owned()),
            "trap" => panic!("told to"),
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => Err(format!("there is no {topic}")),
        }
    }
}

impl handover::Guest for Recorder {
    fn save() -> Vec<u8> {
        say("save");
        b"saved".to_vec()
    }

    fn restore(saved: Vec<u8>, from_version: String) -> Result<(), String> {
        say(&format!(
            "restore {} from {from_version}",
            String::from_utf8_lossy(&saved)
        ));
        Ok(())
    }
}

export!(Recorder);
