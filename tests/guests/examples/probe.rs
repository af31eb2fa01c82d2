//! Asks each other device for an echo, 20 times a second, and logs how long each took: what a good
//! plugin notices of what goes on beside it.

use std::time::Duration;

use consort_plugin::clock::{self, Timer};
use consort_plugin::{BoxError, GroupTime, Peer, Plugin, group, log, messages, payload};

const PERIOD: Duration = Duration::from_millis(50);
const ASK: Timer = Timer::new(1);

#[derive(Default)]
struct Probe;

impl Plugin for Probe {
    fn setup(&mut self) -> Result<(), BoxError> {
        clock::every(PERIOD, ASK);
        Ok(())
    }

    fn timer(&mut self, _: u64, _: GroupTime) {
        for peer in group::peers().iter().filter(|peer| !peer.is_self) {
            // Who is not there any more, or too busy, gives no sample.
            let _ = messages::send_value(&peer.device, &("ask", clock::now()));
        }
    }

    fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
        let Ok((what, asked)) = payload::decode::<(String, GroupTime)>(&payload) else {
            return;
        };
        if what == "ask" {
            let _ = messages::send_value(&sender.device, &("echo", asked));
        } else {
            let took: Duration = clock::now() - asked;
            log::info!("round trip {}", took.as_micros());
        }
    }
}

consort_plugin::plugin!(Probe);
