//! Uses the group's state in every way: logs what it is told of it, and does what messages say.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package consort:stateful;
        world stateful {
            include consort:plugin/minimal@0.1.0;
            export consort:plugin/message-events@0.1.0;
            export consort:plugin/state-events@0.1.0;
            export consort:plugin/timers@0.1.0;
            export consort:plugin/handover@0.1.0;
        }
    ",
    world: "consort:stateful/stateful",
    generate_all,
});

use std::sync::atomic::{AtomicU64, Ordering};

use consort::plugin::state_types::WriteError;
use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{
    clock, config, counters, device_state, group, leader_state, log, messages, shared_state,
};
use exports::consort::plugin::{handover, lifecycle, message_events, state_events, timers};

struct Stateful;

/// Messages sent by the verb `tell`, which are numbered.
static TOLD: AtomicU64 = AtomicU64::new(0);

fn say(text: &str) {
    log::write(log::Level::Info, text);
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| String::from_utf8_lossy(&value).into_owned(),
    )
}

fn pairs(entries: Vec<(String, Vec<u8>)>) -> String {
    let entries = entries.into_iter();
    let pairs = entries.map(|(key, value)| format!("{key}={}", text(Some(value))));
    pairs.collect::<Vec<_>>().join(" ")
}

impl lifecycle::Guest for Stateful {
    fn setup() -> Result<(), String> {
        let sum = counters::get("n");
        let value = text(shared_state::get("s"));
        say(&format!("setup n={sum} s={value}"));
        if let Some(verbs) = config::get("setup") {
            verbs.split(';').for_each(act);
        }
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {
        if let Some(verbs) = config::get("shutdown") {
            verbs.split(';').for_each(act);
        }
    }
}

impl message_events::Guest for Stateful {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {}

    fn on_peer_message(payload: Vec<u8>, _: Peer) {
        String::from_utf8_lossy(&payload).split(';').for_each(act);
    }
}

/// The verbs that messages may use.
fn act(verb: &str) {
    let words: Vec<&str> = verb.split(' ').collect();
    match words.as_slice() {
        ["leader", rest @ ..] => leader(rest),
        ["device", rest @ ..] => device(rest),
        ["shared", rest @ ..] => shared(rest),
        ["add", name, delta] => {
            let sum = counters::add(name, delta.parse().expect("a number"));
            say(&format!("add {sum:?}"));
        }
        ["sum", name] => say(&format!("sum {}", counters::get(name))),
        ["tell"] => {
            let number = TOLD.fetch_add(1, Ordering::Relaxed);
            let text = format!("heard {} {number}", group::this_device().device);
            if let Err(error) = messages::send_to_all(text.as_bytes()) {
                say(&format!("not told {error:?}"));
            }
        }
        ["heard", device, number] => say(&format!("heard {device} {number}")),
        ["flood"] => {
            let writes = (0..5000).map(|n| counters::add("n", n));
            say(&format!(
                "flood {}",
                writes.take_while(Result::is_ok).count()
            ));
        }
        ["large", bytes] => {
            let value = vec![0; bytes.parse().expect("a number")];
            result(shared_state::put("large", &value, None));
        }
        ["long-key", bytes] => {
            let key = "k".repeat(bytes.parse().expect("a number"));
            result(shared_state::put(&key, b"", None));
        }
        ["wake", token, after_us] => {
            let after: u64 = after_us.parse().expect("a number");
            clock::wake_at(clock::now() + after, token.parse().expect("a number"));
        }
        ["every", token, period_us] => {
            let period = period_us.parse().expect("a number");
            clock::wake_every(period, token.parse().expect("a number"));
        }
        ["trap"] => panic!("as it was told"),
        other => panic!("no verb: {other:?}"),
    }
}

fn leader(words: &[&str]) {
    match words {
        ["put", key, value] => result(leader_state::put(key, value.as_bytes(), None)),
        ["put-for", key, value, ttl] => {
            result(leader_state::put(key, value.as_bytes(), ttl.parse().ok()));
        }
        ["delete", key] => result(leader_state::delete(key)),
        ["get", key] => say(&format!("leader {key}={}", text(leader_state::get(key)))),
        ["keys", prefix @ ..] => say(&format!(
            "leader {:?}",
            leader_state::keys(&prefix.concat())
        )),
        ["entries"] => say(&format!("leader {}", pairs(leader_state::entries("")))),
        other => panic!("no verb: {other:?}"),
    }
}

fn device(words: &[&str]) {
    match words {
        ["put", key, value] => result(device_state::put(key, value.as_bytes(), None)),
        ["put-for", key, value, ttl] => {
            result(device_state::put(key, value.as_bytes(), ttl.parse().ok()));
        }
        ["delete", key] => result(device_state::delete(key)),
        ["own", key] => {
            let own = device_state::get(&group::this_device().device, key);
            say(&format!("device {key}={}", text(own)));
        }
        ["of", device, key] => {
            say(&format!(
                "device {key}={}",
                text(device_state::get(device, key))
            ));
        }
        ["keys", device] => say(&format!("device {:?}", device_state::keys(device, ""))),
        ["collect", key] => say(&format!("device {}", pairs(device_state::collect(key)))),
        other => panic!("no verb: {other:?}"),
    }
}

fn shared(words: &[&str]) {
    match words {
        ["put", key, value] => result(shared_state::put(key, value.as_bytes(), None)),
        ["put-for", key, value, ttl] => {
            result(shared_state::put(key, value.as_bytes(), ttl.parse().ok()));
        }
        ["delete", key] => result(shared_state::delete(key)),
        ["get", key] => say(&format!("shared {key}={}", text(shared_state::get(key)))),
        ["keys", prefix @ ..] => say(&format!(
            "shared {:?}",
            shared_state::keys(&prefix.concat())
        )),
        ["entries"] => say(&format!("shared {}", pairs(shared_state::entries("")))),
        other => panic!("no verb: {other:?}"),
    }
}

fn result(result: Result<(), WriteError>) {
    say(&format!("result {result:?}"));
}

impl state_events::Guest for Stateful {
    fn on_state_changed(changes: Vec<state_events::Change>) {
        let changes: Vec<String> = changes.iter().map(describe).collect();
        say(&format!("changed {}", changes.join(", ")));
    }

    fn on_writes_superseded(keys: Vec<String>) {
        say(&format!("superseded {}", keys.join(" ")));
    }
}

fn describe(change: &state_events::Change) -> String {
    let origin = match &change.origin {
        state_events::Origin::Leader => "leader".to_owned(),
        state_events::Origin::Device(device) => device.clone(),
        state_events::Origin::Shared => "shared".to_owned(),
        state_events::Origin::Counter => "counter".to_owned(),
    };
    let outcome = match &change.outcome {
        state_events::Outcome::Put(value) => format!("={}", text(Some(value.clone()))),
        state_events::Outcome::Counted(sum) => format!("={sum}"),
        state_events::Outcome::Deleted => " deleted".to_owned(),
        state_events::Outcome::Expired => " expired".to_owned(),
    };
    format!("{origin} {}{outcome}", change.key)
}

impl timers::Guest for Stateful {
    fn on_timer(token: u64, _: u64) {
        say(&format!("on-timer {token}"));
        if let Some(verbs) = config::get(&format!("timer {token}")) {
            verbs.split(';').for_each(act);
        }
    }
}

impl handover::Guest for Stateful {
    fn save() -> Vec<u8> {
        if let Some(verbs) = config::get("save") {
            verbs.split(';').for_each(act);
        }
        Vec::new()
    }

    fn restore(_: Vec<u8>, _: String) -> Result<(), String> {
        say(&format!("restore n={}", counters::get("n")));
        match config::get("refuse") {
            Some(text) => Err(text),
            None => Ok(()),
        }
    }
}

export!(Stateful);
