//! Devices of the group that speak no version of the protocol that this program does: each is
//! named in the log and shown in the status, for nothing else will ever be heard of it.

use core::time::Duration;

use super::Node;
use crate::discovery::beacon::Beacon;
use crate::event::Address;
use crate::wire::header::VERSION;

/// How often one device is mentioned in the log.
const MENTION_PERIOD: Duration = Duration::from_secs(60);
/// Devices whose mention is remembered; further ones wait.
const MENTIONED_MAX: usize = 64;
/// A device whose session was heard so lately runs another program than a beacon of it says,
/// which somebody recorded.
const ALIVE: Duration = Duration::from_secs(15);

impl Node {
    /// A device that holds the group's secret says which other versions it speaks.
    pub(super) fn meet_foreign(&mut self, from: Address, beacon: &Beacon) {
        let now = self.now;
        let sessions = self.sessions.iter();
        let heard = sessions.filter_map(|s| s.last_heard(&beacon.key)).next();
        if heard.is_some_and(|heard| now.since(heard) < ALIVE) {
            return;
        }
        let Some(entry) = self.roster.learn(beacon.key, beacon.boot, beacon.flags) else {
            return;
        };
        entry.add_candidate(from);
        entry.flags = beacon.flags;
        let device = entry.device;
        let told = &mut self.foreign_told;
        told.retain(|_, at| now.since(*at) < MENTION_PERIOD);
        if told.len() >= MENTIONED_MAX || told.contains_key(&device.node()) {
            return;
        }
        told.insert(device.node(), now);
        let (lowest, highest) = beacon.flags.versions();
        tracing::warn!(
            %device,
            %from,
            lowest,
            highest,
            ours = VERSION,
            "a device of this group speaks another version of the protocol and cannot take part: \
             update the older of the two programs"
        );
    }
}
