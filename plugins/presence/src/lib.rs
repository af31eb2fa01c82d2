//! Each device says how it is, and everyone lists all.
//!
//! What a device says is its own device state, so it is known to all, also to those that come
//! later, and stays when the device is away. `roster.rs` tells what changed in the list.

mod roster;

use consort_plugin::{BoxError, Peer, Plugin, config, device_state, group, log, state};

use crate::roster::{Roster, Status};

/// Under which key each device has its status.
const STATUS: &str = "status";
const STATUS_DEFAULT: &str = "ready";

#[derive(Default)]
struct Presence {
    roster: Roster,
}

impl Plugin for Presence {
    fn setup(&mut self) -> Result<(), BoxError> {
        let text = config::get(STATUS).unwrap_or_else(|| STATUS_DEFAULT.to_owned());
        let name = group::this_device().name;
        let status = Status::new(name, text)?;
        if device_state::own_value(STATUS).ok().flatten().as_ref() != Some(&status) {
            device_state::put_value(STATUS, &status)?;
        }
        Ok(())
    }

    fn peer_added(&mut self, _peer: Peer) {
        self.look();
    }

    fn peer_removed(&mut self, _peer: Peer) {
        self.look();
    }

    fn state_changed(&mut self, _changes: Vec<state::Change>) {
        self.look();
    }
}

impl Presence {
    /// Logs what changed since the last look.
    fn look(&mut self) {
        let statuses = device_state::collect(STATUS);
        let here = group::peers().into_iter().map(|peer| peer.device);
        for line in self.roster.update(&statuses, here.collect()) {
            log::info!("{line}");
        }
    }
}

consort_plugin::plugin!(Presence);
