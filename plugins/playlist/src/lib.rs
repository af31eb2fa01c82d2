//! All devices play the same item at the same time.
//!
//! The leader decides what plays next and announces it ahead, with its start in group time; every
//! device, the leader too, switches when that time comes. `plan.rs` holds the decisions, this file
//! carries events and time to them and their results to the host.

mod items;
mod plan;

use std::time::Duration;

use consort_plugin::config::{self, ParseError};
use consort_plugin::{
    BoxError, GroupTime, Leadership, Peer, Plugin, clock, log, messages, payload,
};
use serde::{Deserialize, Serialize};

use crate::plan::{PERIOD, Plan, Playlist, Showing};

/// Fires when an item starts.
const SWITCH: u64 = 1;
/// On the leader: fires when it is time to decide and to announce.
const ANNOUNCE: u64 = 2;
/// Fires when this device is to ask for the next item.
const SKIP: u64 = 3;

#[derive(Default)]
struct Player {
    list: Playlist,
    leading: bool,
    /// When the item that shows here began.
    shown: Option<GroupTime>,
    /// How long this device lets an item play before it asks for the next one.
    skip_after: Option<Duration>,
}

/// What any device sends to the leader.
#[derive(Serialize, Deserialize)]
enum Request {
    /// To end the showing that began at `start`.
    Skip { start: GroupTime },
}

/// What a version of this plugin hands to the next.
#[derive(Serialize, Deserialize)]
struct Saved {
    plan: Option<Plan>,
    shown: Option<GroupTime>,
}

impl Plugin for Player {
    fn setup(&mut self) -> Result<(), BoxError> {
        self.list.items = config::parse("items")?.unwrap_or_default();
        self.skip_after = match config::parse("skip_after")? {
            Some(0) => return Err(ParseError::new("skip_after", "0", &"at least 1 second").into()),
            seconds => seconds.map(Duration::from_secs),
        };
        Ok(())
    }

    fn promote_leader(&mut self, _leadership: Leadership) {
        self.leading = true;
        clock::wake_every(PERIOD, ANNOUNCE);
        self.decide_and_announce();
    }

    fn demote_leader(&mut self) {
        self.leading = false;
        clock::cancel(ANNOUNCE);
    }

    fn promote_follower(&mut self, _leadership: Leadership) {
        self.list.follow_new_leader();
    }

    fn peer_added(&mut self, peer: Peer) {
        // The newcomer is to know at once what plays.
        if self.leading && !peer.is_self {
            self.decide_and_announce();
        }
    }

    fn leader_message(&mut self, payload: Vec<u8>, sender: Leadership) {
        match payload::decode(&payload) {
            Ok(plan) => {
                if self.list.adopt(plan) {
                    self.follow_plan();
                }
            }
            Err(error) => log::warn!("refused a plan of {}: {error}", sender.leader.device),
        }
    }

    fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
        if !self.leading {
            return;
        }
        match payload::decode(&payload) {
            Ok(Request::Skip { start }) => {
                if let Some(plan) = self.list.skip(start, clock::now()) {
                    log::info!("{} ({}) skips", sender.name, sender.device);
                    announce_new(&plan);
                }
            }
            Err(error) => log::warn!("refused a request of {}: {error}", sender.device),
        }
    }

    fn timer(&mut self, token: u64, _due: GroupTime) {
        match token {
            SWITCH => self.follow_plan(),
            ANNOUNCE if self.leading => self.decide_and_announce(),
            SKIP => self.ask_for_next(),
            _ => {}
        }
    }

    fn save(&mut self) -> Vec<u8> {
        let saved = Saved {
            plan: self.list.plan().cloned(),
            shown: self.shown,
        };
        payload::encode(&saved).unwrap_or_default()
    }

    fn restore(&mut self, saved: Vec<u8>, _from_version: &str) -> Result<(), BoxError> {
        let Saved { plan, shown } = payload::decode(&saved)?;
        self.list.restore(plan);
        self.shown = shown;
        self.follow_plan();
        self.arm_skip();
        Ok(())
    }
}

impl Player {
    /// Decides what has to be decided by now, and tells everyone, this device included, what holds.
    fn decide_and_announce(&self) {
        match (self.list.decide(clock::now()), self.list.plan()) {
            (Some(plan), _) => announce_new(&plan),
            (None, Some(plan)) => {
                announce(plan);
            }
            (None, None) => {}
        }
    }

    /// Shows what is to play at this moment, and wakes when that changes.
    fn follow_plan(&mut self) {
        let Some(plan) = self.list.plan() else { return };
        let now = clock::now();
        match plan.next_switch(now) {
            Some(start) => clock::wake_at(start, SWITCH),
            None => clock::cancel(SWITCH),
        }
        let Some(Showing {
            item, name, start, ..
        }) = plan.playing(now)
        else {
            return;
        };
        if self.shown != Some(*start) {
            log::info!("playing {name} item={item} start={start}");
            self.shown = Some(*start);
            self.arm_skip();
        }
    }

    fn arm_skip(&self) {
        if let (Some(start), Some(span)) = (self.shown, self.skip_after) {
            clock::wake_at(start + span, SKIP);
        }
    }

    fn ask_for_next(&self) {
        let Some(start) = self.shown else { return };
        if let Err(error) = messages::send_to_leader_value(&Request::Skip { start }) {
            log::warn!("cannot ask for the next item: {error}");
        }
    }
}

/// Announces a plan that was just made.
fn announce_new(plan: &Plan) {
    let Showing {
        item, name, start, ..
    } = plan.next.as_ref().unwrap_or(&plan.current);
    if announce(plan) {
        log::info!("announced {name} item={item} start={start}");
    }
}

/// Says whether the host took it. If not, the next look a second later tries again.
fn announce(plan: &Plan) -> bool {
    let sent = messages::broadcast_value(plan);
    if let Err(error) = &sent {
        log::warn!("plan {} not announced: {error}", plan.number);
    }
    sent.is_ok()
}

consort_plugin::plugin!(Player);
