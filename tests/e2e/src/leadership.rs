//! Roles, as the plugin `heartbeat` logs them.

use crate::device::Device;
use crate::log::{Line, Log};

/// One line of the plugin about its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// This device leads from here on.
    Promoted,
    /// It leads no longer.
    Demoted,
    /// Another one leads from here on.
    Following(String),
    /// That one leads no longer.
    LostLeader,
}

impl Role {
    /// What a line says of the role, if it does.
    #[must_use]
    pub fn of(line: &Line) -> Option<Self> {
        if !line.is_by_plugin("heartbeat") {
            return None;
        }
        let words: Vec<&str> = line.message.split_whitespace().collect();
        match words.as_slice() {
            ["promoted", "leader", ..] => Some(Self::Promoted),
            ["demoted", "leader"] => Some(Self::Demoted),
            ["following", leader, ..] => Some(Self::Following((*leader).to_owned())),
            ["lost", "leader"] => Some(Self::LostLeader),
            _ => None,
        }
    }
}

/// All that was said of the role since a mark, in order.
#[must_use]
pub fn roles(log: &Log, mark: usize) -> Vec<Role> {
    log.since(mark).iter().filter_map(Role::of).collect()
}

/// Whom each of the devices holds for the leader; none where there is none for now.
#[must_use]
pub fn leaders(devices: &[&Device]) -> Vec<Option<String>> {
    devices.iter().map(|device| leader_at(device)).collect()
}

/// The device, by its place in `devices`, that leads in the view of all of them.
#[must_use]
pub fn agreed_leader(devices: &[&Device]) -> Option<usize> {
    let leaders = leaders(devices);
    let leader = leaders.first()?.clone()?;
    if leaders.iter().any(|other| other.as_ref() != Some(&leader)) {
        return None;
    }
    devices.iter().position(|device| device.id() == leader)
}

fn leader_at(device: &Device) -> Option<String> {
    match roles(device.log(), 0).pop()? {
        Role::Promoted => Some(device.id().to_owned()),
        Role::Following(leader) => Some(leader),
        Role::Demoted | Role::LostLeader => None,
    }
}
