//! What a run looked like over time: which devices were up, who led whom, what was broken when.
//! It is what a picture and a summary are made of.
//!
//! Every stretch begins before it ends, stretches of one lane and kind do not overlap, and all are
//! in order. Marks and stretches are bounded in number; what comes after the bound is counted.

use std::collections::BTreeMap;

use consort_proto::{PluginId, Time};

/// Stretches per lane and kind, and marks of faults.
const STRETCHES_MAX: usize = 100_000;

/// A run over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When the run ended. What was still going on ends here.
    pub end: Time,
    /// One per device, by number; copies and strangers come last.
    pub lanes: Vec<Lane>,
    /// What was broken, by when it began.
    pub faults: Vec<Fault>,
    /// Parts that came together, by when they did.
    pub heals: Vec<Heal>,
    /// Stretches and marks beyond the bound.
    pub dropped: u64,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// When its process ran; in between it was down.
    pub states: Vec<Stretch<LaneState>>,
    /// Whom each of its plugins followed, itself included; in between it was told of nobody.
    pub roles: BTreeMap<PluginId, Vec<Stretch<LaneRole>>>,
}

/// Something that lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<T> {
    /// From when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// What.
    pub what: T,
}

/// How a device was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// It ran.
    Up,
    /// Its process was stopped.
    Paused,
    /// The whole device slept.
    Suspended,
}

/// A plugin's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneRole {
    /// It led.
    Leader {
        /// In this term.
        term: u64,
    },
    /// It followed.
    Follower {
        /// This device.
        leader: usize,
        /// In this term.
        term: u64,
    },
}

/// Something that was done to the devices or the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From when.
    pub from: Time,
    /// Until when; none for what happened at one instant.
    pub to: Option<Time>,
    /// Of what kind.
    pub kind: FaultKind,
    /// In words.
    pub label: String,
    /// The devices concerned; empty if all or none in particular.
    pub nodes: Vec<usize>,
}

/// Kinds of faults, for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The network is divided.
    Partition,
    /// A link is cut.
    Cut,
    /// Links behave differently.
    Link,
    /// Links or devices come and go.
    Flap,
    /// A process ended or stood still.
    Process,
    /// A disk.
    Disk,
    /// A clock.
    Clock,
    /// Someone else on the network: strangers, copies, floods, replays.
    Hostile,
    /// A plugin.
    Plugin,
    /// The network of a device changed.
    Network,
}

/// Parts that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heal {
    /// When they could reach each other.
    pub at: Time,
    /// When all of them had the same leader for each plugin; none if something else changed, or
    /// the run ended, before that.
    pub healed: Option<Time>,
    /// Who came together.
    pub nodes: Vec<usize>,
}

/// Writes a timeline while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    timeline: Timeline,
}

impl Recorder {
    pub(crate) fn add_lane(&mut self, name: &str) {
        self.timeline.lanes.push(Lane {
            name: name.to_owned(),
            ..Lane::default()
        });
    }

    /// The device is in this state from `now` on; none: it is down.
    pub(crate) fn state(&mut self, now: Time, node: usize, state: Option<LaneState>) {
        let lane = &mut self.timeline.lanes[node];
        let mut dropped = turn(&mut lane.states, now, state);
        if state.is_none() {
            for roles in lane.roles.values_mut() {
                dropped += turn(roles, now, None);
            }
        }
        self.timeline.dropped += dropped;
    }

    /// The plugin has this role from `now` on.
    pub(crate) fn role(
        &mut self,
        now: Time,
        node: usize,
        plugin: &PluginId,
        role: Option<LaneRole>,
    ) {
        let lane = &mut self.timeline.lanes[node];
        if !lane.roles.contains_key(plugin) {
            lane.roles.insert(plugin.clone(), Vec::new());
        }
        if let Some(roles) = lane.roles.get_mut(plugin) {
            self.timeline.dropped += turn(roles, now, role);
        }
    }

    /// Something happened at one instant.
    pub(crate) fn mark(&mut self, at: Time, kind: FaultKind, label: &str, nodes: &[usize]) {
        self.push(at, None, kind, label, nodes);
    }

    /// Something begins that [`Self::ends`] ends.
    pub(crate) fn begins(&mut self, at: Time, kind: FaultKind, label: &str, nodes: &[usize]) {
        self.push(at, Some(Time::MAX), kind, label, nodes);
    }

    /// Everything of this kind that concerns exactly `nodes`, or anyone if none are given, ends.
    pub(crate) fn ends(&mut self, at: Time, kind: FaultKind, nodes: Option<&[usize]>) {
        for fault in &mut self.timeline.faults {
            let meant = nodes.is_none_or(|nodes| fault.nodes == nodes);
            if fault.kind == kind && fault.to == Some(Time::MAX) && meant {
                fault.to = Some(at);
            }
        }
    }

    /// Something of a known length.
    pub(crate) fn lasts(&mut self, from: Time, to: Time, kind: FaultKind, label: &str) {
        self.push(from, Some(to), kind, label, &[]);
    }

    fn push(
        &mut self,
        from: Time,
        to: Option<Time>,
        kind: FaultKind,
        label: &str,
        nodes: &[usize],
    ) {
        if self.timeline.faults.len() == STRETCHES_MAX {
            self.timeline.dropped += 1;
            return;
        }
        self.timeline.faults.push(Fault {
            from,
            to,
            kind,
            label: label.to_owned(),
            nodes: nodes.to_vec(),
        });
    }

    /// Parts come together.
    pub(crate) fn heal(&mut self, heal: Heal) {
        if self.timeline.heals.len() == STRETCHES_MAX {
            self.timeline.dropped += 1;
        } else {
            self.timeline.heals.push(heal);
        }
    }

    /// The timeline so far; what goes on ends at `now`.
    pub(crate) fn timeline(&self, now: Time) -> Timeline {
        let mut timeline = self.timeline.clone();
        timeline.end = now;
        for lane in &mut timeline.lanes {
            close(&mut lane.states, now);
            for roles in lane.roles.values_mut() {
                close(roles, now);
            }
        }
        for fault in &mut timeline.faults {
            fault.to = fault.to.map(|to| to.min(now));
        }
        timeline
    }
}

/// Ends the last stretch and begins another; how many were dropped.
fn turn<T: PartialEq>(stretches: &mut Vec<Stretch<T>>, now: Time, what: Option<T>) -> u64 {
    if let Some(last) = stretches.last_mut().filter(|last| last.to == Time::MAX) {
        if Some(&last.what) == what.as_ref() {
            return 0;
        }
        last.to = now;
        if last.from == now {
            stretches.pop();
        }
    }
    let Some(what) = what else {
        return 0;
    };
    if stretches.len() == STRETCHES_MAX {
        return 1;
    }
    stretches.push(Stretch {
        from: now,
        to: Time::MAX,
        what,
    });
    0
}

fn close<T>(stretches: &mut Vec<Stretch<T>>, now: Time) {
    for stretch in stretches.iter_mut() {
        stretch.to = stretch.to.min(now);
    }
    stretches.retain(|stretch| stretch.from < stretch.to);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    #[test]
    fn stretches_follow_each_other() {
        let mut recorder = Recorder::default();
        recorder.add_lane("n0");
        let plugin = PluginId::new("app").expect("valid");
        recorder.state(at(1), 0, Some(LaneState::Up));
        recorder.state(at(2), 0, Some(LaneState::Up));
        recorder.role(at(3), 0, &plugin, Some(LaneRole::Leader { term: 1 }));
        recorder.role(at(4), 0, &plugin, Some(LaneRole::Leader { term: 2 }));
        recorder.state(at(5), 0, None);
        recorder.state(at(7), 0, Some(LaneState::Up));
        let lane = &recorder.timeline(at(9)).lanes[0];
        let states: Vec<_> = lane.states.iter().map(|s| (s.from, s.to)).collect();
        assert_eq!(states, [(at(1), at(5)), (at(7), at(9))]);
        let roles: Vec<_> = lane.roles[&plugin].iter().map(|s| (s.from, s.to)).collect();
        assert_eq!(
            roles,
            [(at(3), at(4)), (at(4), at(5))],
            "roles end with the device"
        );
    }

    #[test]
    fn faults_end_by_kind_and_device() {
        let mut recorder = Recorder::default();
        recorder.begins(at(1), FaultKind::Disk, "disk full", &[0]);
        recorder.begins(at(1), FaultKind::Disk, "disk full", &[1]);
        recorder.begins(at(2), FaultKind::Partition, "partition", &[]);
        recorder.mark(at(2), FaultKind::Process, "crash", &[2]);
        recorder.ends(at(3), FaultKind::Disk, Some(&[0]));
        recorder.ends(at(4), FaultKind::Partition, None);
        let ends: Vec<_> = recorder
            .timeline(at(9))
            .faults
            .iter()
            .map(|f| f.to)
            .collect();
        assert_eq!(ends, [Some(at(3)), Some(at(9)), Some(at(4)), None]);
    }
}
