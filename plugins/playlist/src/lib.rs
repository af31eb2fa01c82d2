//! All devices play the same item at the same time.
//!
//! The leader decides what plays next and writes that into leader state, with its start in group
//! time; every device, the leader too, switches when that time comes. A device that joins reads
//! what plays and since when, and joins in at the right place; a new leader finds the plan and goes
//! on. `plan.rs` holds the decisions, this file carries state and time to them and their results to
//! the host.

mod items;
mod plan;

use std::time::Duration;

use consort_plugin::clock::{self, Timer};
use consort_plugin::config::{self, ParseError};
use consort_plugin::{
    BoxError, GroupTime, Leadership, Peer, Plugin, leader_state, log, messages, payload, state,
};
use serde::{Deserialize, Serialize};

use crate::items::Items;
use crate::plan::{PERIOD, Plan, Showing};

/// Under which key of leader state the plan is.
const PLAN: &str = "plan";

/// Fires when an item starts.
const SWITCH: Timer = Timer::new(1);
/// On the leader: fires when it is time to look whether to decide.
const LOOK: Timer = Timer::new(2);
/// Fires when this device is to ask for the next item.
const SKIP: Timer = Timer::new(3);

#[derive(Default)]
struct Player {
    items: Items,
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

/// What a version of this plugin hands to the next. The plan itself is the group's.
#[derive(Serialize, Deserialize)]
struct Saved {
    shown: Option<GroupTime>,
}

impl Plugin for Player {
    fn setup(&mut self) -> Result<(), BoxError> {
        self.items = config::parse("items")?.unwrap_or_default();
        self.skip_after = match config::parse("skip_after")? {
            Some(0) => return Err(ParseError::new("skip_after", "0", &"at least 1 second").into()),
            seconds => seconds.map(Duration::from_secs),
        };
        Ok(())
    }

    fn promote_leader(&mut self, _leadership: Leadership) {
        self.leading = true;
        clock::every(PERIOD, LOOK);
        self.decide();
    }

    fn demote_leader(&mut self) {
        self.leading = false;
        LOOK.cancel();
    }

    fn peer_added(&mut self, peer: Peer) {
        // What the group's state was when this device joined comes without a call of its own.
        if peer.is_self {
            self.follow_plan();
        }
    }

    fn state_changed(&mut self, _changes: Vec<state::Change>) {
        self.follow_plan();
    }

    fn writes_superseded(&mut self, _keys: Vec<String>) {
        self.follow_plan();
    }

    fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
        if !self.leading {
            return;
        }
        match payload::decode(&payload) {
            Ok(Request::Skip { start }) => {
                let plan = plan().and_then(|p| plan::skip(&self.items, &p, start, clock::now()));
                if let Some(plan) = plan {
                    log::info!("{} ({}) skips", sender.name, sender.device);
                    self.write(&plan);
                }
            }
            Err(error) => log::warn!("refused a request of {}: {error}", sender.device),
        }
    }

    fn timer(&mut self, token: u64, _due: GroupTime) {
        match Timer::new(token) {
            SWITCH => self.follow_plan(),
            LOOK if self.leading => self.decide(),
            SKIP => self.ask_for_next(),
            _ => {}
        }
    }

    fn save(&mut self) -> Vec<u8> {
        payload::encode(&Saved { shown: self.shown }).unwrap_or_default()
    }

    fn restore(&mut self, saved: Vec<u8>, _from_version: &str) -> Result<(), BoxError> {
        let Saved { shown } = payload::decode(&saved)?;
        self.shown = shown;
        self.follow_plan();
        self.arm_skip();
        Ok(())
    }
}

impl Player {
    /// Decides what has to be decided by now.
    fn decide(&mut self) {
        if let Some(plan) = plan::decide(&self.items, plan().as_ref(), clock::now()) {
            self.write(&plan);
        }
    }

    /// Makes a plan the group's. If the host refuses, the next look a second later tries again.
    fn write(&mut self, plan: &Plan) {
        match leader_state::put_value(PLAN, plan) {
            Ok(()) => {
                let Showing {
                    item, name, start, ..
                } = plan.next.as_ref().unwrap_or(&plan.current);
                log::info!("announced {name} item={item} start={start}");
                self.follow_plan();
            }
            Err(error) => log::warn!("plan not written: {error}"),
        }
    }

    /// Shows what is to play at this moment, and wakes when that changes.
    fn follow_plan(&mut self) {
        let Some(plan) = plan() else { return };
        let now = clock::now();
        match plan.next_switch(now) {
            Some(start) => {
                clock::at(start, SWITCH);
            }
            None => SWITCH.cancel(),
        }
        let Some(showing) = plan.playing(now) else {
            return;
        };
        if self.shown != Some(showing.start) {
            let position = showing.position(now).as_millis();
            let Showing {
                item, name, start, ..
            } = showing;
            log::info!("playing {name} item={item} start={start} position_ms={position}");
            self.shown = Some(*start);
            self.arm_skip();
        }
    }

    fn arm_skip(&self) {
        if let (Some(start), Some(span)) = (self.shown, self.skip_after) {
            clock::at(start + span, SKIP);
        }
    }

    fn ask_for_next(&self) {
        let Some(start) = self.shown else { return };
        if let Err(error) = messages::send_to_leader_value(&Request::Skip { start }) {
            log::warn!("cannot ask for the next item: {error}");
        }
    }
}

/// The plan that holds.
fn plan() -> Option<Plan> {
    leader_state::get_value(PLAN).unwrap_or_else(|error| {
        log::warn!("refused the plan: {error}");
        None
    })
}

consort_plugin::plugin!(Player);
