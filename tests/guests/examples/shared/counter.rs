// Counts messages, and hands the count to its successor. Each version names itself in its log.

wit_bindgen::generate!({ path: "../../wit", world: "plugin" });

use std::sync::atomic::{AtomicU64, Ordering};

use consort::plugin::types::{Leadership, Peer};
use consort::plugin::{config, log, messages};
use exports::consort::plugin::{
    handover, lifecycle, local_events, message_events, peer_events, role, state_events, timers,
};

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counter;

fn say(text: &str) {
    log::write(log::Level::Info, &format!("{NAME}: {text}"));
}

impl lifecycle::Guest for Counter {
    fn setup() -> Result<(), String> {
        say("setup");
        let _ = messages::send_to_all(NAME.as_bytes());
        // Work, for whoever wants to see what happens meanwhile.
        if let Some(millions) = config::get("work").and_then(|text| text.parse::<u64>().ok()) {
            (0..millions * 1_000_000).for_each(|step| {
                std::hint::black_box(step);
            });
            say("setup done");
        }
        Ok(())
    }

    fn shutdown(reason: lifecycle::Reason) {
        say(&format!("shutdown {reason:?}"));
    }
}

impl role::Guest for Counter {
    fn promote_leader(leadership: Leadership) {
        say(&format!("promote-leader {}", leadership.term));
    }

    fn demote_leader() {
        say("demote-leader");
    }

    fn promote_follower(leadership: Leadership) {
        say(&format!("promote-follower {}", leadership.term));
    }

    fn demote_follower() {
        say("demote-follower");
    }
}

impl peer_events::Guest for Counter {
    fn on_peer_added(peer: Peer) {
        say(&format!("on-peer-added {}", peer.name));
    }

    fn on_peer_removed(_: Peer) {}
}

impl message_events::Guest for Counter {
    fn on_leader_message(_: Vec<u8>, _: Leadership) {}

    fn on_peer_message(_: Vec<u8>, _: Peer) {
        say(&format!("count {}", COUNT.fetch_add(1, Ordering::Relaxed) + 1));
    }
}

impl state_events::Guest for Counter {
    fn on_state_changed(_: Vec<state_events::Change>) {}

    fn on_writes_superseded(_: Vec<String>) {}
}

impl timers::Guest for Counter {
    fn on_timer(_: u64, _: u64) {}
}

impl local_events::Guest for Counter {
    fn on_local_request(topic: String, _: Vec<u8>) -> Result<Vec<u8>, String> {
        Err(format!("nothing is known of {topic}"))
    }
}

impl handover::Guest for Counter {
    fn save() -> Vec<u8> {
        say("save");
        COUNT.load(Ordering::Relaxed).to_le_bytes().to_vec()
    }

    fn restore(saved: Vec<u8>, from_version: String) -> Result<(), String> {
        let bytes = saved.try_into().map_err(|_| "a count has eight bytes".to_owned())?;
        COUNT.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        say(&format!("restore from {from_version}"));
        Ok(())
    }
}

export!(Counter);
