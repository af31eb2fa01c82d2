//! A count that all devices add to.
//!
//! Each device adds 1 from time to time and logs what the count is, whoever changed it. Additions
//! made while a device is cut off count when it is back. `pace.rs` decides how often it adds.

mod pace;

use consort_plugin::clock::{self, Timer};
use consort_plugin::counters::Counter;
use consort_plugin::{BoxError, GroupTime, Plugin, config, log, state};

use crate::pace::Pace;

const COUNT: Counter = Counter::new("count");
const ADD: Timer = Timer::new(1);

#[derive(Default)]
struct Adder {
    pace: Pace,
}

impl Plugin for Adder {
    fn setup(&mut self) -> Result<(), BoxError> {
        self.pace = Pace::new(config::parse("every_ms")?, config::parse("additions")?)?;
        clock::every(self.pace.period(), ADD);
        Ok(())
    }

    fn timer(&mut self, token: u64, _due: GroupTime) {
        if ADD != token.into() {
            return;
        }
        if self.pace.is_done() {
            return ADD.cancel();
        }
        match COUNT.add(1) {
            Ok(count) => {
                self.pace.added();
                log::info!("added 1 count={count}");
            }
            Err(error) => log::warn!("not added: {error}"),
        }
    }

    fn state_changed(&mut self, changes: Vec<state::Change>) {
        for count in changes.iter().filter_map(|change| COUNT.sum_in(change)) {
            log::info!("count={count}");
        }
    }
}

consort_plugin::plugin!(Adder);
