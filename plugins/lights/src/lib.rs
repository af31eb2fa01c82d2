//! All devices change colour on the same beat.
//!
//! The leader writes the programme into leader state, where the next leader finds it; every device
//! derives from the programme and group time which colour shows and when the next one is due. No
//! message is sent for a change. `programme.rs` holds the decisions.

mod programme;

use std::time::Duration;

use consort_plugin::clock::{self, Timer};
use consort_plugin::config;
use consort_plugin::{BoxError, GroupTime, Leadership, Peer, Plugin, leader_state, log, state};

use crate::programme::{Programme, Stage};

/// Under which key the programme is.
const PROGRAMME: &str = "programme";
/// Fires when the colour changes.
const BEAT: Timer = Timer::new(1);

#[derive(Default)]
struct Lights {
    stage: Stage,
    /// What this device would write as leader, if its operator asked for anything.
    wanted: Option<(Vec<String>, Duration)>,
    /// The beat that shows, by its time.
    shown: Option<GroupTime>,
    /// Whether each change is logged with the time at which it was made.
    measure: bool,
}

impl Plugin for Lights {
    fn setup(&mut self) -> Result<(), BoxError> {
        self.wanted =
            programme::settings(config::get("colours").as_deref(), config::parse("beat_ms")?)?;
        self.measure = config::parse("measure")?.unwrap_or(false);
        self.follow();
        Ok(())
    }

    fn promote_leader(&mut self, _leadership: Leadership) {
        let known = leader_state::get_value::<Programme>(PROGRAMME);
        let known = known.ok().flatten().filter(Programme::is_sound);
        let Some(programme) = programme::of_new_leader(known, self.wanted.as_ref(), clock::now())
        else {
            return;
        };
        match leader_state::put_value(PROGRAMME, &programme) {
            Ok(()) => log::info!("programme from={}", programme.from),
            Err(error) => log::warn!("programme not written: {error}"),
        }
        self.follow();
    }

    fn peer_added(&mut self, peer: Peer) {
        // What the group's state was when this device joined comes without a call of its own.
        if peer.is_self {
            self.follow();
        }
    }

    fn state_changed(&mut self, _changes: Vec<state::Change>) {
        self.follow();
    }

    fn timer(&mut self, token: u64, _due: GroupTime) {
        if BEAT == token.into() {
            self.show();
        }
    }
}

impl Lights {
    /// Takes the programme that holds.
    fn follow(&mut self) {
        match leader_state::get_value::<Programme>(PROGRAMME) {
            Ok(Some(programme)) if programme.is_sound() => {
                self.stage.take(programme, clock::now());
                self.show();
            }
            Ok(None) => {}
            Ok(Some(_)) => log::warn!("refused a programme that no light can follow"),
            Err(error) => log::warn!("refused a programme: {error}"),
        }
    }

    /// Shows what is due, and wakes at the next beat.
    fn show(&mut self) {
        let now = clock::now();
        if let Some(beat) = self
            .stage
            .beat_at(now)
            .filter(|b| self.shown != Some(b.due))
        {
            self.shown = Some(beat.due);
            let (colour, number, due) = (beat.colour, beat.number, beat.due);
            if self.measure {
                log::info!("light {colour} beat={number} due={due} at={now}");
            } else {
                log::info!("light {colour} beat={number} due={due}");
            }
        }
        if let Some(next) = self.stage.next_after(now) {
            clock::at(next, BEAT);
        }
    }
}

consort_plugin::plugin!(Lights);
