//! The leader broadcasts 1000 bytes, 250 times a second: the load that clocks are measured under.

use std::time::Duration;

use consort_plugin::clock::Timer;
use consort_plugin::{GroupTime, Leadership, Plugin, clock, messages};

const PERIOD: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 5;
const LENGTH: usize = 1000;
const TALK: u64 = 1;

#[derive(Default)]
struct Talker;

impl Plugin for Talker {
    fn promote_leader(&mut self, _: Leadership) {
        clock::every(PERIOD, TALK);
    }

    fn demote_leader(&mut self) {
        Timer::from(TALK).cancel();
    }

    fn timer(&mut self, _: u64, _: GroupTime) {
        for _ in 0..AT_ONCE {
            // What is too much at the moment is left out.
            let _ = messages::broadcast(&[0; LENGTH]);
        }
    }
}

consort_plugin::plugin!(Talker);
