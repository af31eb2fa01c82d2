//! Group time between its machine and the outside.

use super::Node;
use crate::clock;
use crate::event::Event;
use crate::id::DeviceId;
use crate::replication::Replica;
use crate::time::Time;

impl Node {
    /// The device whose clock group time goes by here: this one, or the one that it follows or has
    /// lost, and has samples of.
    #[must_use]
    pub fn clock_reference(&self) -> Option<DeviceId> {
        let node = self.clock.reference(self.identity.node)?;
        if node == self.identity.node {
            return Some(self.identity.device);
        }
        self.roster.get(node).map(|entry| entry.device)
    }

    /// The era of group time here, and since when [`Node::clock_reference`] is what it is: this
    /// device leads, or goes by samples of another one. For checks of a simulated group.
    #[doc(hidden)]
    #[must_use]
    pub fn clock_since(&self) -> (u64, Option<Time>) {
        (self.clock.reading(self.now).0, self.clock.since())
    }

    pub(super) fn settle_clock(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.clock.poll() {
            moved = true;
            match output {
                clock::Output::Changed(view) => self.events.push_back(Event::Clock(view)),
                clock::Output::SetBack(by) => {
                    self.each_replica(Replica::set_back);
                    self.events.push_back(Event::ClockSetBack { by });
                }
                clock::Output::SetForward => self.each_replica(Replica::set_forward),
            }
        }
        moved
    }
}
