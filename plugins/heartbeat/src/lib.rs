//! The leader broadcasts its time every second and everyone logs it.
//!
//! The promotion sets the timer, the demotion cancels it. A timer that was already on its way when
//! the demotion came is ignored. The log lines are an interface: `README.md` lists them.

use std::time::Duration;

use consort_plugin::clock::{self, Timer};
use consort_plugin::{
    BoxError, GroupTime, Leadership, Peer, Plugin, group, log, messages, payload,
};
use serde::{Deserialize, Serialize};

const PERIOD: Duration = Duration::from_secs(1);
const BEAT: Timer = Timer::new(1);

#[derive(Default)]
struct Heartbeat {
    tenure: Option<Tenure>,
    /// What the version before this one had sent, until it is known whether its tenure goes on.
    handed_over: Option<Tenure>,
}

/// This device's leadership: its term, and how many beats were sent in it.
#[derive(Clone, Serialize, Deserialize)]
struct Tenure {
    term: u64,
    sent: u64,
}

/// What the leader broadcasts.
#[derive(Serialize, Deserialize)]
struct Beat {
    n: u64,
    time: GroupTime,
}

impl Plugin for Heartbeat {
    fn promote_leader(&mut self, leadership: Leadership) {
        let term = leadership.term;
        log::info!("promoted leader term={term}");
        let same_tenure = self.handed_over.take().filter(|tenure| tenure.term == term);
        self.tenure = Some(same_tenure.unwrap_or(Tenure { term, sent: 0 }));
        clock::every(PERIOD, BEAT);
    }

    fn demote_leader(&mut self) {
        BEAT.cancel();
        self.tenure = None;
        log::info!("demoted leader");
    }

    fn promote_follower(&mut self, leadership: Leadership) {
        self.handed_over = None;
        log::info!(
            "following {} term={}",
            leadership.leader.device,
            leadership.term
        );
    }

    fn demote_follower(&mut self) {
        log::info!("lost leader");
    }

    fn peer_added(&mut self, peer: Peer) {
        log::info!("peer added {} {}", peer.device, peer.name);
    }

    fn peer_removed(&mut self, peer: Peer) {
        log::info!("peer removed {} {}", peer.device, peer.name);
    }

    fn timer(&mut self, token: u64, _due: GroupTime) {
        let Some(tenure) = self.tenure.as_mut().filter(|_| BEAT == token.into()) else {
            return;
        };
        // A leader that re-affirms its leadership gets a larger term without a callback.
        tenure.term = group::leader().map_or(tenure.term, |leadership| leadership.term);
        let beat = Beat {
            n: tenure.sent + 1,
            time: clock::now(),
        };
        match messages::broadcast_value(&beat) {
            Ok(()) => {
                tenure.sent = beat.n;
                log::info!("broadcast n={} term={}", beat.n, tenure.term);
            }
            Err(error) => log::warn!("not broadcast: {error}"),
        }
    }

    fn leader_message(&mut self, payload: Vec<u8>, sender: Leadership) {
        let from = &sender.leader.device;
        match payload::decode::<Beat>(&payload) {
            Ok(Beat { n, time }) => {
                log::info!("heard n={n} term={} from={from} at={time}", sender.term);
            }
            Err(error) => log::warn!("refused a beat of {from}: {error}"),
        }
    }

    fn save(&mut self) -> Vec<u8> {
        payload::encode(&self.tenure).unwrap_or_default()
    }

    fn restore(&mut self, saved: Vec<u8>, _from_version: &str) -> Result<(), BoxError> {
        self.handed_over = payload::decode(&saved)?;
        Ok(())
    }
}

consort_plugin::plugin!(Heartbeat);
