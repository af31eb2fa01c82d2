//! What is known of the other devices, as plain data. The machines decide; this only remembers.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Address, PluginSpec};
use crate::id::{BootId, DeviceId, GroupKey, NodeId, PublicKey};
use crate::keys::Kid;
use crate::time::Time;
use crate::wire::header::Flags;
use crate::wire::message::Claim;
use crate::wire::part::GroupRef;
use crate::wire::record::{Record, RecordPlugin};

/// Addresses tried for one device.
const CANDIDATES_MAX: usize = 4;
/// Devices remembered. Beyond it, devices that never became members are forgotten first.
const DEVICES_MAX: usize = 2048;

/// Another device. What the chores of each second look at is kept together, so that a look at
/// all members of a large group stays within the processor's caches; all else is in [`Told`].
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: PublicKey,
    pub(super) device: DeviceId,
    pub(super) flags: Flags,
    standing: Standing,
    /// Part of the plugins' view: a member whose record and round trip are known.
    pub(super) visible: bool,
    /// It said that it refuses this device as a clone, and nothing else since.
    pub(super) refuses: bool,
    /// Listed in [`Roster::stirred`].
    stirred: bool,
    /// Of the open session, else as hinted by a beacon or a member.
    pub(super) boot: BootId,
    pub(super) connected_at: Option<Time>,
    /// Its session was heard then or later, or not at all; to be looked up again once that is long
    /// ago.
    pub(super) heard_since: Time,
    pub(super) record: Option<Box<Record>>,
    pub(super) told: Box<Told>,
}

/// What was learnt of a device, by itself or by others.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The secret it was last seen to use.
    pub(super) kid: Option<Kid>,
    /// Newest first.
    pub(super) candidates: Vec<Address>,
    /// Whether others told its record.
    pub(super) hearsay: bool,
    /// The groups that its record gives numbers to.
    slots: Vec<(u8, GroupKey)>,
    /// Of its newest bulletin in this boot.
    pub(super) bulletin_seq: Option<u32>,
    /// What it claimed then.
    pub(super) claims: Vec<Claim>,
    /// The groups it last asked about.
    pub(super) asks: Vec<GroupKey>,
    pub(super) record_asked_at: Option<Time>,
    /// When a beacon last came from where its session leads.
    pub(super) endpoint_beaconed: Option<Time>,
}

/// What the group and this device hold of a device's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Heard of.
    Stranger,
    /// The group holds it for alive.
    Active,
    /// The group holds it for down; this device's own probes have not failed.
    Doubted,
    /// Down by both, since then.
    Missing { since: Time },
    /// Said goodbye.
    Left,
}

impl Standing {
    /// Whether the group holds the device for down that was a member.
    const fn is_missed(self) -> bool {
        matches!(self, Self::Doubted | Self::Missing { .. })
    }
}

impl Entry {
    fn new(key: PublicKey, boot: BootId, flags: Flags) -> Self {
        Self {
            key,
            device: key.device_id(),
            flags,
            standing: Standing::Stranger,
            visible: false,
            refuses: false,
            stirred: false,
            boot,
            connected_at: None,
            heard_since: Time::ZERO,
            record: None,
            told: Box::default(),
        }
    }

    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn is_member(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Doubted)
    }

    /// Remembers where the device may be reached; the newest comes first.
    pub(super) fn add_candidate(&mut self, address: Address) {
        let candidates = &mut self.told.candidates;
        candidates.retain(|known| *known != address);
        candidates.insert(0, address);
        candidates.truncate(CANDIDATES_MAX);
    }

    /// Takes the device's record, as it or others told it, in place of the one before.
    pub(super) fn set_record(&mut self, record: Record, hearsay: bool) {
        self.told.hearsay = hearsay;
        let slot = |plugin: &RecordPlugin| (plugin.slot, GroupKey::new(&plugin.id, plugin.version));
        self.told.slots = record.plugins.iter().map(slot).collect();
        self.record = Some(Box::new(record));
    }

    /// The group that a message of this device names.
    pub(super) fn group(&self, named: GroupRef) -> Option<GroupKey> {
        match named {
            GroupRef::Key(group) => Some(group),
            GroupRef::Slot(slot) => {
                let mut slots = self.told.slots.iter();
                slots
                    .find(|(known, _)| *known == slot)
                    .map(|(_, group)| *group)
            }
        }
    }

    /// The device runs anew: what it told before is void.
    pub(super) fn restarted(&mut self, boot: BootId) {
        self.boot = boot;
        self.record = None;
        *self.told = Told {
            kid: self.told.kid,
            candidates: core::mem::take(&mut self.told.candidates),
            endpoint_beaconed: self.told.endpoint_beaconed,
            ..Told::default()
        };
    }

    /// What the device says of the plugin that it runs healthily, in a version that is compatible.
    pub(super) fn plugin(&self, spec: &PluginSpec) -> Option<&RecordPlugin> {
        let mut plugins = self.record.iter().flat_map(|record| &record.plugins);
        plugins
            .find(|plugin| plugin.id == spec.id && plugin.version.track() == spec.version.track())
    }
}

/// All other devices.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<NodeId, Entry>,
    /// Members that the group knows and this device has no key of.
    pub(super) unknown: BTreeSet<NodeId>,
    /// The devices that were heard since [`Roster::take_stirred`].
    stirred: Vec<NodeId>,
    /// How many are members, and how many are missed.
    members: usize,
    missed: usize,
}

impl Roster {
    /// The entry of a device, made where it is new. None where there is no room.
    pub(super) fn learn(
        &mut self,
        key: PublicKey,
        boot: BootId,
        flags: Flags,
    ) -> Option<&mut Entry> {
        let node = key.device_id().node();
        if self.entries.len() >= DEVICES_MAX && !self.entries.contains_key(&node) {
            let stranger = |(_, entry): &(&NodeId, &Entry)| {
                entry.standing == Standing::Stranger && entry.connected_at.is_none()
            };
            let forgotten = self.entries.iter().find(stranger).map(|(node, _)| *node)?;
            self.entries.remove(&forgotten);
        }
        self.unknown.remove(&node);
        let entry = self
            .entries
            .entry(node)
            .or_insert_with(|| Entry::new(key, boot, flags));
        // Two keys with one hash prefix: the first stays.
        (entry.key == key).then_some(entry)
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Entry> {
        self.entries.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Entry> {
        self.entries.get_mut(&node)
    }

    /// What is held of a device's membership from here on.
    pub(super) fn set_standing(&mut self, node: NodeId, standing: Standing) {
        let Some(entry) = self.entries.get_mut(&node) else {
            return;
        };
        self.members -= usize::from(entry.is_member());
        self.missed -= usize::from(entry.standing.is_missed());
        entry.standing = standing;
        self.members += usize::from(entry.is_member());
        self.missed += usize::from(standing.is_missed());
    }

    /// Whether a device is missed that was a member.
    pub(super) const fn misses_members(&self) -> bool {
        self.missed > 0
    }

    /// The devices that are no members.
    pub(super) fn outsiders(&self) -> impl Iterator<Item = (NodeId, &Entry)> {
        let some = self.entries.len() > self.members;
        let entries = some.then(|| self.iter()).into_iter().flatten();
        entries.filter(|(_, entry)| !entry.is_member())
    }

    /// A device that refused this one speaks to it.
    pub(super) fn accepted_by(&mut self, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.refuses = false;
        }
    }

    /// A packet of this key arrived. The device's entry, if it is known
    /// by this key.
    pub(super) fn stir(&mut self, node: NodeId, key: &PublicKey) -> Option<&Entry> {
        let entry = self.entries.get_mut(&node);
        let entry = entry.filter(|entry| entry.key == *key)?;
        if !core::mem::replace(&mut entry.stirred, true) {
            self.stirred.push(node);
        }
        Some(entry)
    }

    /// The devices that were heard since the last time this was asked.
    pub(super) fn take_stirred(&mut self) -> Vec<NodeId> {
        let stirred = core::mem::take(&mut self.stirred);
        for node in &stirred {
            if let Some(entry) = self.entries.get_mut(node) {
                entry.stirred = false;
            }
        }
        stirred
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Entry)> {
        self.entries.iter().map(|(node, entry)| (*node, entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Entry)> {
        self.entries.iter_mut().map(|(node, entry)| (*node, entry))
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.iter()
            .filter(|(_, entry)| entry.connected_at.is_some())
            .map(|(node, _)| node)
    }

    /// The connected devices, from this one on and round. Ids are hashes, so a random one begins
    /// at a fair choice.
    pub(super) fn connected_from(&self, from: NodeId) -> impl Iterator<Item = NodeId> {
        let round = self.entries.range(from..).chain(self.entries.range(..from));
        round
            .filter(|(_, entry)| entry.connected_at.is_some())
            .map(|(node, _)| *node)
    }

    /// The device with this public id.
    pub(super) fn find(&self, device: &DeviceId) -> Option<NodeId> {
        let node = device.node();
        self.entries
            .get(&node)
            .filter(|entry| entry.device == *device)
            .map(|_| node)
    }
}
