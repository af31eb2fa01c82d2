//! Writes state as its settings say and logs what it finds, for tests and figures of whole groups.
//!
//! The log's own time, which devices on one machine have in common, says when. Settings, all
//! optional:
//!
//! | key | meaning |
//! |---|---|
//! | `once` | verbs, separated by `;`, at the first tick: `leader KEY VALUE`, `device …`, `shared …`, `add NAME DELTA` |
//! | `write_us` | puts a shared value each so many microseconds of group time |
//! | `bytes` | how long the values are, else 1024 |
//! | `fill` | puts so many shared keys, as fast as the quota lets it |
//! | `churn` | changes so many of its own keys each second |
//! | `adds` | adds 1 to a counter, so many times, 50 times a second |
//! | `talk` | as leader, broadcasts so many messages of 1 KiB each 20 ms |
//! | `dump` | logs all of the state each second |

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package consort:measured;
        world measured {
            include consort:plugin/minimal@0.1.0;
            export consort:plugin/role@0.1.0;
            export consort:plugin/peer-events@0.1.0;
            export consort:plugin/state-events@0.1.0;
            export consort:plugin/timers@0.1.0;
        }
    ",
    world: "consort:measured/measured",
    generate_all,
});

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use consort::plugin::state_types::WriteError;
use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{
    clock, config, counters, device_state, group, leader_state, log, messages, shared_state,
};
use exports::consort::plugin::{lifecycle, peer_events, role, state_events, timers};

const TICK_US: u64 = 20_000;
const SECOND_US: u64 = 1_000_000;

/// What the timers are for.
const TICK: u64 = 1;
const WRITE: u64 = 2;
const SECOND: u64 = 3;

static TICKS: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static FILLED: AtomicU64 = AtomicU64::new(0);
static ADDED: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);

struct Measured;

fn say(text: &str) {
    log::write(log::Level::Info, text);
}

fn setting<T: FromStr>(key: &str) -> Option<T> {
    config::get(key).and_then(|text| text.parse().ok())
}

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number} ").into_bytes();
    value.resize(setting("bytes").unwrap_or(1024), b'.');
    value
}

impl lifecycle::Guest for Measured {
    fn setup() -> Result<(), String> {
        clock::wake_every(TICK_US, TICK);
        clock::wake_every(SECOND_US, SECOND);
        if let Some(period) = setting("write_us") {
            clock::wake_every(period, WRITE);
        }
        Ok(())
    }

    fn shutdown(_: lifecycle::Reason) {}
}

impl timers::Guest for Measured {
    fn on_timer(token: u64, _: u64) {
        match token {
            TICK => tick(),
            WRITE => write(),
            _ => each_second(),
        }
    }
}

fn tick() {
    if TICKS.fetch_add(1, Ordering::Relaxed) == 0 {
        let verbs = config::get("once").unwrap_or_default();
        verbs
            .split(';')
            .filter(|verb| !verb.is_empty())
            .for_each(once);
    }
    let fill = setting("fill").unwrap_or(0);
    while FILLED.load(Ordering::Relaxed) < fill {
        let number = FILLED.load(Ordering::Relaxed);
        if shared_state::put(&format!("fill/{number}"), &value(number), None).is_err() {
            break;
        }
        if FILLED.fetch_add(1, Ordering::Relaxed) + 1 == fill {
            say(&format!("filled {fill}"));
        }
    }
    if group::is_leader() {
        for _ in 0..setting("talk").unwrap_or(0_u32) {
            messages::broadcast(&[b'.'; 1024]).ok();
        }
    }
    let adds = setting("adds").unwrap_or(0);
    if ADDED.load(Ordering::Relaxed) < adds && counters::add("n", 1).is_ok() {
        let added = ADDED.fetch_add(1, Ordering::Relaxed) + 1;
        if added == adds {
            say(&format!("added {added}"));
        }
    }
}

fn write() {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    say(&format!("writes {number}"));
    if let Err(error) = shared_state::put("w", &value(number), None) {
        say(&format!("refused {error:?}"));
    }
}

fn each_second() {
    let churn = setting("churn").unwrap_or(0_u64);
    let round = ROUNDS.fetch_add(1, Ordering::Relaxed);
    for key in 0..churn {
        if device_state::put(&format!("churn/{key}"), &value(round), None).is_err() {
            say("churn refused");
        }
    }
    if config::get("dump").is_some() {
        dump();
    }
}

/// The verbs of the setting `once`.
fn once(verb: &str) {
    let words: Vec<&str> = verb.split(' ').collect();
    let result = match words.as_slice() {
        ["leader", key, value] => leader_state::put(key, value.as_bytes(), None),
        ["device", key, value] => device_state::put(key, value.as_bytes(), None),
        ["shared", key, value] => shared_state::put(key, value.as_bytes(), None),
        ["add", name, delta] => add(name, delta),
        other => panic!("no verb: {other:?}"),
    };
    say(&format!("once {verb}: {result:?}"));
}

fn add(name: &str, delta: &str) -> Result<(), WriteError> {
    counters::add(name, delta.parse().expect("a number")).map(|_| ())
}

fn dump() {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut all = Vec::new();
    for (key, value) in leader_state::entries("") {
        all.push(format!("leader {key}={}", text(&value)));
    }
    for (key, value) in shared_state::entries("") {
        all.push(format!("shared {key}={}", text(&value)));
    }
    for peer in group::peers() {
        for key in device_state::keys(&peer.device, "") {
            let value = device_state::get(&peer.device, &key).unwrap_or_default();
            all.push(format!("{} {key}={}", peer.name, text(&value)));
        }
    }
    say(&format!(
        "state {}; n={}",
        all.join(", "),
        counters::get("n")
    ));
}

impl state_events::Guest for Measured {
    fn on_state_changed(changes: Vec<state_events::Change>) {
        let mut filled = false;
        for change in changes {
            filled |= change.key.starts_with("fill/");
            match change.outcome {
                state_events::Outcome::Put(value) if change.key == "w" => {
                    let text = String::from_utf8_lossy(&value);
                    say(&format!(
                        "sees {}",
                        text.split(' ').next().unwrap_or_default()
                    ));
                }
                state_events::Outcome::Counted(sum) => say(&format!("sum {sum}")),
                _ => {}
            }
        }
        if filled {
            holds();
        }
    }

    fn on_writes_superseded(keys: Vec<String>) {
        say(&format!("superseded {}", keys.join(" ")));
    }
}

fn holds() {
    say(&format!("holds {}", shared_state::keys("fill/").len()));
}

impl role::Guest for Measured {
    fn promote_leader(_: Leadership) {
        say("leads");
    }

    fn demote_leader() {}

    fn promote_follower(_: Leadership) {
        say("follows");
    }

    fn demote_follower() {}
}

impl peer_events::Guest for Measured {
    fn on_peer_added(peer: Peer) {
        if peer.is_self {
            say("joined");
            holds();
        }
    }

    fn on_peer_removed(_: Peer) {}
}

export!(Measured);
