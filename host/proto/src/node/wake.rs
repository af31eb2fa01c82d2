//! The driver's loop as the node sees it: in time, late, or back after it was away.

use core::time::Duration;

use super::{Life, Node};
use crate::election::Input;
use crate::liveness::LAG;
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::Time;

/// A device that was away for longer opens its sessions anew.
const SESSIONS_DOUBTED: Duration = Duration::from_secs(15);

impl Node {
    /// Takes the time of an input, and notices when the driver's loop comes late: a little, so that
    /// this device hears late, or so much that others may hold it for dead.
    pub(super) fn begin(&mut self, now: Time) {
        self.now = self.now.max(now);
        if self.life != Life::Running {
            return;
        }
        let late = self.now.since(self.deadline.0);
        self.health.served(self.now, late);
        self.liveness.set_patience(self.health.factor());
        if late < LAG {
            return;
        }
        if !mutant::is(Mutant::TimersNotPutOff) {
            self.membership.delay(late);
        }
        if late > silence(self.interval()) && !mutant::is(Mutant::StallCounts) {
            self.come_back(late);
        }
    }

    /// This device's own loop was away: nobody's silence of that time counts, and it finds out who
    /// leads before it acts as a leader.
    fn come_back(&mut self, late: Duration) {
        tracing::warn!(
            late_ms = late.as_millis() as u64,
            "this device's own loop was away"
        );
        self.liveness.forgive(self.now);
        for election in self.elections.values_mut() {
            election.handle(self.now, Input::Stall);
        }
        // Others part with a device that they have not heard for this long, so its sessions may
        // be of no use: beacons reach them at once.
        if late >= SESSIONS_DOUBTED {
            self.woke_at = Some(self.now);
            self.discovery.restart(self.now);
        }
    }
}
