//! The tour: every callback and every call of the host, once, in the same words in every language.
//!
//! It greets its peers, tells what it hears, and does what messages of the form `{"op": ...}` ask
//! for.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use consort_plugin::clock::{self, Timer};
use consort_plugin::counters::Counter;
use consort_plugin::payload::{self, Value};
use consort_plugin::{
    BoxError, GroupTime, Leadership, Peer, Plugin, Reason, config, device_state, group,
    leader_state, local, log, messages, shared_state, state,
};
use serde::{Deserialize, Serialize};

const ONCE: Timer = Timer::new(1);
const ALWAYS: Timer = Timer::new(2);
const NEVER: Timer = Timer::new(3);

const VISITS: Counter = Counter::new("visits");
const TENURES: Counter = Counter::new("tenures");

#[derive(Default)]
struct Tour {
    heard: u64,
}

#[derive(Serialize)]
struct Hello {
    op: &'static str,
    from: String,
}

#[derive(Serialize)]
struct Echoed<'a> {
    op: &'static str,
    value: &'a Value,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    heard: u64,
}

impl Plugin for Tour {
    fn setup(&mut self) -> Result<(), BoxError> {
        if let Some(refusal) = config::get("refuse") {
            return Err(format!("refused: {refusal}").into());
        }
        log::trace!("a trace");
        log::debug!("a detail");
        let settings = config::entries().len();
        let greeting = config::get("greeting").unwrap_or_default();
        log::info!("setup: {settings} settings, greeting {greeting}");
        clock::at(clock::now() + Duration::from_secs(1), ONCE);
        clock::every(Duration::from_secs(10), ALWAYS);
        clock::at(clock::now() + Duration::from_secs(1), NEVER).cancel();
        tell_chance();
        Ok(())
    }

    fn shutdown(&mut self, reason: Reason) {
        let word = match reason {
            Reason::Stop => "stop",
            Reason::Reload => "reload",
            Reason::Remove => "remove",
        };
        log::info!("shutdown: {word}");
    }

    fn promote_leader(&mut self, Leadership { leader, term }: Leadership) {
        log::info!("promote-leader: {} in term {term}", leader.name);
        let hello = hello();
        log::info!("broadcast: {}", sent(messages::broadcast_value(&hello)));
        let put = leader_state::put_value("hello", &hello);
        log::info!("leader-state: hello {}", written(put));
        let put = shared_state::put_value("hello", &hello);
        log::info!("shared-state: hello {}", written(put));
        log::info!("counters: tenures {}", TENURES.add(1).unwrap_or_default());
    }

    fn demote_leader(&mut self) {
        log::info!("demote-leader: leading {}", yes(group::is_leader()));
    }

    fn promote_follower(&mut self, Leadership { leader, term }: Leadership) {
        log::info!("promote-follower: {} in term {term}", leader.name);
        let result = messages::send_to_leader_value(&hello());
        log::info!("send-to-leader: {}", sent(result));
        let hellos = device_state::collect("hello").into_iter();
        let names: Vec<String> = hellos.map(|(_, hello)| from(&hello)).collect();
        log::info!("device-state: hello from {}", names.join(","));
    }

    fn demote_follower(&mut self) {
        log::info!("demote-follower");
    }

    fn peer_added(&mut self, peer: Peer) {
        log::info!("peer-added: {} of {}", peer.name, group::peers().len());
        if peer.is_self {
            let put = device_state::put_value("hello", &hello());
            log::info!("device-state: hello {}", written(put));
        } else {
            let result = messages::send_value(&peer.device, &hello());
            log::info!("send: {}", sent(result));
        }
    }

    fn peer_removed(&mut self, peer: Peer) {
        log::info!("peer-removed: {} of {}", peer.name, group::peers().len());
    }

    fn leader_message(&mut self, payload: Vec<u8>, sender: Leadership) {
        self.heard += 1;
        log::info!("leader-message: {} in term {}", told(&payload), sender.term);
    }

    fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
        self.heard += 1;
        let Ok(request) = Value::decode(&payload) else {
            log::warn!("peer-message: no MessagePack");
            return;
        };
        match text_of(&request, "op") {
            "hello" => log::info!("peer-message: hello from {}", text_of(&request, "from")),
            "echo" => {
                let op = "echoed";
                let value = request.get("value").unwrap_or(&Value::Nil);
                let result = messages::send_value(&sender.device, &Echoed { op, value });
                log::info!("echo: {}", sent(result));
            }
            "group" => tell_group(),
            "time" => tell_time(),
            "errors" => tell_errors(),
            "state" => use_state(),
            "local" => use_local(),
            "fault" => panic!("asked to fail"),
            _ => log::warn!("peer-message: unknown"),
        }
    }

    fn state_changed(&mut self, changes: Vec<state::Change>) {
        for change in changes {
            let origin = match change.origin {
                state::Origin::Leader => "leader".to_owned(),
                state::Origin::Device(device) => format!("device {device}"),
                state::Origin::Shared => "shared".to_owned(),
                state::Origin::Counter => "counter".to_owned(),
            };
            let outcome = match change.outcome {
                state::Outcome::Put(value) if change.key == "hello" => {
                    format!("put {}", told(&value))
                }
                state::Outcome::Put(value) => format!("put {}", text(Some(value))),
                state::Outcome::Counted(sum) => format!("counted {sum}"),
                state::Outcome::Deleted => "deleted".to_owned(),
                state::Outcome::Expired => "expired".to_owned(),
            };
            log::info!("state-changed: {origin} {} {outcome}", change.key);
        }
    }

    fn writes_superseded(&mut self, keys: Vec<String>) {
        log::info!("writes-superseded: {}", keys.join(","));
    }

    fn timer(&mut self, token: u64, due: GroupTime) {
        log::info!("timer: {token} due {}", yes(due <= clock::now()));
        tell_chance();
    }

    fn local_request(&mut self, topic: &str, payload: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        log::info!("local-request: {topic} with {} bytes", payload.len());
        match topic {
            "echo" => Ok(payload),
            _ => Err(format!("refused: {topic}").into()),
        }
    }

    fn save(&mut self) -> Vec<u8> {
        log::info!("save: {}", self.heard);
        payload::encode(&Saved { heard: self.heard }).unwrap_or_default()
    }

    fn restore(&mut self, saved: Vec<u8>, from_version: &str) -> Result<(), BoxError> {
        let saved: Saved =
            payload::decode(&saved).map_err(|_| "restore: no MessagePack".to_owned())?;
        self.heard = saved.heard;
        log::info!("restore: {} from {from_version}", self.heard);
        Ok(())
    }
}

fn hello() -> Hello {
    Hello {
        op: "hello",
        from: group::this_device().name,
    }
}

fn told(message: &[u8]) -> String {
    match from(message).as_str() {
        "" => "no MessagePack".to_owned(),
        name => format!("hello from {name}"),
    }
}

/// Who says hello; empty if it is none.
fn from(message: &[u8]) -> String {
    let value = Value::decode(message).unwrap_or(Value::Nil);
    text_of(&value, "from").to_owned()
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_text).unwrap_or_default()
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

/// The contract's words for what came of a message.
fn sent(result: Result<(), messages::Error>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(messages::Error::TooLarge { limit }) => format!("too-large {limit}"),
        Err(error) => error.reason().to_owned(),
    }
}

/// The contract's words for what came of a write.
fn written(result: Result<(), state::Error>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(state::Error::TooLarge { limit }) => format!("too-large {limit}"),
        Err(error) => error.reason().to_owned(),
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| String::from_utf8_lossy(&value).into_owned(),
    )
}

fn listed(entries: Vec<(String, Vec<u8>)>) -> String {
    let entries = entries.into_iter();
    let parts: Vec<String> = entries
        .map(|(key, value)| format!("{key}={}", text(Some(value))))
        .collect();
    parts.join(",")
}

fn tell_group() {
    let led = group::leader().map_or_else(
        || "none".to_owned(),
        |Leadership { leader, term }| format!("{} in term {term}", leader.name),
    );
    log::info!("group: leader {led}, leading {}", yes(group::is_leader()));
    for peer in group::peers() {
        log::info!(
            "group: {} at {}, self {}, delta {}, round trip {}",
            peer.name,
            peer.address,
            yes(peer.is_self),
            peer.clock_delta_us,
            peer.round_trip.as_micros()
        );
    }
}

fn tell_time() {
    let quality = clock::quality();
    log::info!(
        "time: synchronised {}, bound {}",
        yes(quality.synchronised),
        quality.error_bound.as_micros()
    );
    let year_2020 = GroupTime::from_micros(1_600_000_000_000_000);
    log::info!("time: {}", yes(clock::now() > year_2020));
}

/// With the setting `chance`: the clock and the randomness that the language has by itself.
fn tell_chance() {
    if config::get("chance").is_none() {
        return;
    }
    let epoch = SystemTime::UNIX_EPOCH;
    let now = SystemTime::now().duration_since(epoch).unwrap_or_default();
    // A hash map's order follows from random keys.
    let order: Vec<String> = HashSet::from([1, 2, 3, 4, 5, 6, 7, 8, 9])
        .into_iter()
        .map(|number: u8| number.to_string())
        .collect();
    log::info!("chance: {} at {}", order.join(","), now.as_nanos());
}

fn tell_errors() {
    let nobody = consort_plugin::DeviceId::new("nobody");
    log::error!("broadcast: {}", sent(messages::broadcast_value(&hello())));
    log::error!("send: {}", sent(messages::send_value(&nobody, &hello())));
    log::error!("send-to-all: {}", sent(messages::send_to_all(&[0; 70_000])));
    log::error!("put: {}", written(shared_state::put("", b"")));
}

fn use_state() {
    let put = leader_state::put("motto", b"onward");
    log::info!("leader-state: put {}", written(put));
    log::info!(
        "leader-state: {} {} {}",
        text(leader_state::get("motto")),
        leader_state::keys("mo").join(","),
        listed(leader_state::entries("mo"))
    );
    let deleted = leader_state::delete("motto");
    log::info!("leader-state: delete {}", written(deleted));

    let this = group::this_device().device;
    let put = device_state::put_for("mood", b"calm", Duration::from_secs(60));
    log::info!("device-state: put {}", written(put));
    let moods = device_state::collect("mood").into_iter();
    let moods: Vec<String> = moods.map(|(_, mood)| text(Some(mood))).collect();
    log::info!(
        "device-state: {} {} {}",
        text(device_state::get(&this, "mood")),
        device_state::keys(&this, "mo").join(","),
        moods.join(",")
    );
    let deleted = device_state::delete("mood");
    log::info!("device-state: delete {}", written(deleted));

    let put = shared_state::put("colour", b"red");
    log::info!("shared-state: put {}", written(put));
    log::info!(
        "shared-state: {} {} {}",
        text(shared_state::get("colour")),
        shared_state::keys("co").join(","),
        listed(shared_state::entries("co"))
    );
    let deleted = shared_state::delete("colour");
    log::info!("shared-state: delete {}", written(deleted));

    log::info!("counters: add {}", VISITS.add(2).unwrap_or_default());
    log::info!("counters: {}", VISITS.get());
}

fn use_local() {
    local::publish("moment", "now");
    local::publish_retained("hello", payload::encode(&hello()).unwrap_or_default());
    log::info!("local: published yes");
}

consort_plugin::plugin!(Tour);
