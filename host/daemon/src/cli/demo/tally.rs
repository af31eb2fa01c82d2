//! The demonstration's bookkeeping: a fold over what the devices report, without clock or process.
//!
//! Times are the parent's, as the time since the first device was started. Two pipes are read
//! independently, so a delivery may be seen before the broadcast it belongs to; both make the same
//! entry, at the earlier of the two times. The figures are honest by these rules:
//! - A broadcast is expected at every device that had known a leader by then and was not killed
//!   before, its sender included, and at every device that heard it all the same.
//! - What a killed device had logged before its end counts as sent before its end.
//! - Broadcasts of the last 500 ms count neither as sent nor as delivered: their deliveries may
//!   still be on the way.
//! - Promotions, duplicates and the leader are those up to the end; what the devices do while they
//!   are being stopped is no part of it.

use std::collections::BTreeMap;
use std::time::Duration;

use consort_proto::DeviceId;
use serde::Serialize;

use super::log_line::Heartbeat;

/// Broadcasts later than this before the end are left out.
pub(super) const UNSETTLED: Duration = Duration::from_millis(500);

/// All that is known of the devices and their messages.
#[derive(Debug)]
pub(super) struct Tally {
    devices: Vec<Device>,
    indices: BTreeMap<DeviceId, usize>,
    broadcasts: BTreeMap<BroadcastKey, Broadcast>,
    /// Broadcasts that were not yet told of.
    open: Vec<BroadcastKey>,
    promotions: u64,
    cold_start: Option<Duration>,
    killed: Option<(usize, Duration)>,
    failover: Option<Duration>,
    agreed: Option<(usize, u64)>,
    /// Whether the present vacancy was told of.
    vacancy_told: bool,
}

/// A change worth telling people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A device leads; after a kill, how long that took.
    Promoted {
        device: usize,
        term: u64,
        failover: Option<Duration>,
    },
    /// A device leads no longer.
    Demoted { device: usize },
    /// The first device noticed that the leader is gone.
    Vacant {
        device: usize,
        after_kill: Option<Duration>,
    },
    /// All running devices know one leader; the first time, since the start.
    Agreed {
        leader: usize,
        term: u64,
        followers: usize,
        cold_start: Option<Duration>,
    },
    /// How far a broadcast has got.
    Delivered {
        from: usize,
        n: u64,
        heard: usize,
        expected: usize,
    },
}

/// The result, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) v: u32,
    pub(super) nodes: usize,
    pub(super) leader: Option<String>,
    pub(super) term: Option<u64>,
    pub(super) promotions: u64,
    pub(super) broadcasts: u64,
    pub(super) deliveries_expected: u64,
    pub(super) deliveries: u64,
    pub(super) duplicates: u64,
    pub(super) failover_ms: Option<u64>,
    pub(super) cold_start_ms: Option<u64>,
}

/// A leader counts its broadcasts anew in each tenure, and within one when its plugin was started
/// anew and told again that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BroadcastKey {
    leader: usize,
    term: u64,
    restarts: u64,
    n: u64,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    view: View,
    /// When it first knew a leader.
    joined: Option<Duration>,
    killed: Option<Duration>,
    /// The term it was last promoted in.
    led: Option<u64>,
    /// How often it was promoted again in the same term.
    restarts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    NoLeader,
    Leads { term: u64 },
    Follows { leader: usize },
}

#[derive(Debug)]
struct Broadcast {
    at: Duration,
    /// How often each device heard it.
    heard: Vec<u64>,
}

impl Tally {
    /// Begins with devices that know nothing yet.
    pub(super) fn new(ids: &[DeviceId]) -> Self {
        let device = |id: &DeviceId| Device {
            id: *id,
            view: View::NoLeader,
            joined: None,
            killed: None,
            led: None,
            restarts: 0,
        };
        Self {
            devices: ids.iter().map(device).collect(),
            indices: ids
                .iter()
                .enumerate()
                .map(|(index, id)| (*id, index))
                .collect(),
            broadcasts: BTreeMap::new(),
            open: Vec::new(),
            promotions: 0,
            cold_start: None,
            killed: None,
            failover: None,
            agreed: None,
            vacancy_told: false,
        }
    }

    /// The running device that leads, by the larger term if two say so, and its term.
    pub(super) fn leader(&self) -> Option<(usize, u64)> {
        let leads = |(index, device): (usize, &Device)| match device.view {
            View::Leads { term } if device.killed.is_none() => Some((index, term)),
            View::Leads { .. } | View::NoLeader | View::Follows { .. } => None,
        };
        self.devices
            .iter()
            .enumerate()
            .filter_map(leads)
            .max_by_key(|(_, term)| *term)
    }

    /// The device is about to be killed.
    pub(super) fn kill(&mut self, at: Duration, device: usize) {
        self.devices[device].killed = Some(at);
        self.killed = Some((device, at));
        self.agreed = None;
    }

    /// A device reported something.
    pub(super) fn apply(&mut self, at: Duration, device: usize, said: &Heartbeat) -> Vec<Note> {
        let mut notes = Vec::new();
        match *said {
            Heartbeat::Promoted { term } => self.promoted(at, device, term, &mut notes),
            Heartbeat::Demoted => {
                self.devices[device].view = View::NoLeader;
                notes.push(Note::Demoted { device });
            }
            Heartbeat::Following { leader, .. } => {
                if let Some(&leader) = self.indices.get(&leader) {
                    self.view(at, device, View::Follows { leader });
                }
            }
            Heartbeat::LostLeader => self.lost_leader(at, device, &mut notes),
            Heartbeat::Broadcast { n, term } => {
                self.broadcast(at, device, term, n);
                // A leadership that is re-affirmed gets a larger term without a callback.
                if let View::Leads { term: known } = &mut self.devices[device].view {
                    *known = term.max(*known);
                }
            }
            Heartbeat::Heard { n, term, from } => {
                if let Some(&from) = self.indices.get(&from) {
                    self.broadcast(at, from, term, n).heard[device] += 1;
                }
            }
        }
        self.agreement(at, &mut notes);
        self.settle(at, &mut notes);
        notes
    }

    /// The figures at the end.
    pub(super) fn summary(&self, end: Duration) -> Summary {
        let leader = self.leader();
        let settled_until = end.saturating_sub(UNSETTLED);
        let mut summary = Summary {
            v: 1,
            nodes: self.devices.len(),
            leader: leader.map(|(device, _)| self.devices[device].id.to_string()),
            term: leader.map(|(_, term)| term),
            promotions: self.promotions,
            broadcasts: 0,
            deliveries_expected: 0,
            deliveries: 0,
            duplicates: 0,
            failover_ms: self.failover.map(millis),
            cold_start_ms: self.cold_start.map(millis),
        };
        for broadcast in self.broadcasts.values() {
            let again = broadcast.heard.iter().map(|times| times.saturating_sub(1));
            summary.duplicates += again.sum::<u64>();
            if broadcast.at <= settled_until {
                summary.broadcasts += 1;
                summary.deliveries_expected += self.expected(broadcast) as u64;
                summary.deliveries += broadcast.reached() as u64;
            }
        }
        summary
    }

    fn promoted(&mut self, at: Duration, device: usize, term: u64, notes: &mut Vec<Note>) {
        self.promotions += 1;
        self.vacancy_told = false;
        self.view(at, device, View::Leads { term });
        let leader = &mut self.devices[device];
        leader.restarts += u64::from(leader.led == Some(term));
        leader.led = Some(term);
        let mut failover = None;
        if let Some((killed, killed_at)) = self.killed
            && self.failover.is_none()
            && killed != device
        {
            failover = Some(at.saturating_sub(killed_at));
            self.failover = failover;
        }
        notes.push(Note::Promoted {
            device,
            term,
            failover,
        });
    }

    fn lost_leader(&mut self, at: Duration, device: usize, notes: &mut Vec<Note>) {
        let lost = match self.devices[device].view {
            View::Follows { leader } => Some(leader),
            View::NoLeader | View::Leads { .. } => None,
        };
        self.devices[device].view = View::NoLeader;
        // A device that starts its plugin anew loses a leader that leads on.
        if !self.vacancy_told && self.leader().is_none() {
            self.vacancy_told = true;
            let by_kill = self.killed.filter(|(killed, _)| Some(*killed) == lost);
            let after_kill = by_kill.map(|(_, killed_at)| at.saturating_sub(killed_at));
            notes.push(Note::Vacant { device, after_kill });
        }
    }

    fn view(&mut self, at: Duration, device: usize, view: View) {
        let device = &mut self.devices[device];
        device.view = view;
        device.joined.get_or_insert(at);
    }

    fn broadcast(&mut self, at: Duration, leader: usize, term: u64, n: u64) -> &mut Broadcast {
        let restarts = self.devices[leader].restarts;
        let key = BroadcastKey {
            leader,
            term,
            restarts,
            n,
        };
        let at = self.devices[leader]
            .killed
            .map_or(at, |killed| at.min(killed));
        let devices = self.devices.len();
        let open = &mut self.open;
        self.broadcasts.entry(key).or_insert_with(|| {
            open.push(key);
            Broadcast {
                at,
                heard: vec![0; devices],
            }
        })
    }

    fn expected(&self, broadcast: &Broadcast) -> usize {
        let is_expected = |(device, times): (&Device, &u64)| {
            let there = device.joined.is_some_and(|joined| joined <= broadcast.at)
                && device.killed.is_none_or(|killed| broadcast.at <= killed);
            there || *times > 0
        };
        self.devices
            .iter()
            .zip(&broadcast.heard)
            .filter(|both| is_expected(*both))
            .count()
    }

    /// Whether all running devices know one leader, told once per leader and term.
    fn agreement(&mut self, at: Duration, notes: &mut Vec<Note>) {
        let Some((leader, term)) = self.leader() else {
            return;
        };
        let running = || self.devices.iter().filter(|device| device.killed.is_none());
        let agrees = |device: &Device| match device.view {
            View::Leads { .. } => device.id == self.devices[leader].id,
            View::Follows { leader: followed } => followed == leader,
            View::NoLeader => false,
        };
        if self.agreed == Some((leader, term)) || !running().all(agrees) {
            return;
        }
        let followers = running().count() - 1;
        self.agreed = Some((leader, term));
        let first = self.cold_start.is_none();
        let cold_start = *self.cold_start.get_or_insert(at);
        let cold_start = first.then_some(cold_start);
        notes.push(Note::Agreed {
            leader,
            term,
            followers,
            cold_start,
        });
    }

    /// Tells of broadcasts that all have heard, and of those that have had their time.
    fn settle(&mut self, at: Duration, notes: &mut Vec<Note>) {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|key| {
            let broadcast = &self.broadcasts[key];
            let (heard, expected) = (broadcast.reached(), self.expected(broadcast));
            let is_open = heard < expected && at.saturating_sub(broadcast.at) < UNSETTLED;
            if !is_open {
                notes.push(Note::Delivered {
                    from: key.leader,
                    n: key.n,
                    heard,
                    expected,
                });
            }
            is_open
        });
        self.open = open;
    }
}

impl Broadcast {
    fn reached(&self) -> usize {
        self.heard.iter().filter(|times| **times > 0).count()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
