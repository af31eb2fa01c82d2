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

/// Another device.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: PublicKey,
    pub(super) device: DeviceId,
    pub(super) flags: Flags,
    /// Of the open session, else as hinted by a beacon or a member.
    pub(super) boot: BootId,
    /// The secret it was last seen to use.
    pub(super) kid: Option<Kid>,
    /// Newest first.
    pub(super) candidates: Vec<Address>,
    pub(super) record: Option<Record>,
    /// Whether others told it.
    pub(super) hearsay: bool,
    /// The groups that its record gives numbers to.
    slots: Vec<(u8, GroupKey)>,
    pub(super) standing: Standing,
    /// Part of the plugins' view: a member whose record and round trip are known.
    pub(super) visible: bool,
    pub(super) connected_at: Option<Time>,
    /// It said that it refuses this device as a clone, and nothing else since.
    pub(super) refuses: bool,
    /// Of its newest bulletin in this boot.
    pub(super) bulletin_seq: Option<u32>,
    /// What it claimed then.
    pub(super) claims: Vec<Claim>,
    /// The groups it last asked about.
    pub(super) asks: Vec<GroupKey>,
    pub(super) record_asked_at: Option<Time>,
    /// Listed in [`Roster::stirred`].
    stirred: bool,
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

impl Entry {
    fn new(key: PublicKey, boot: BootId, flags: Flags) -> Self {
        Self {
            key,
            device: key.device_id(),
            flags,
            boot,
            kid: None,
            candidates: Vec::new(),
            record: None,
            hearsay: false,
            slots: Vec::new(),
            standing: Standing::Stranger,
            visible: false,
            connected_at: None,
            refuses: false,
            bulletin_seq: None,
            claims: Vec::new(),
            asks: Vec::new(),
            record_asked_at: None,
            stirred: false,
            endpoint_beaconed: None,
        }
    }

    pub(super) fn is_member(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Doubted)
    }

    /// Remembers where the device may be reached; the newest comes first.
    pub(super) fn add_candidate(&mut self, address: Address) {
        self.candidates.retain(|known| *known != address);
        self.candidates.insert(0, address);
        self.candidates.truncate(CANDIDATES_MAX);
    }

    /// Takes the device's record, as it or others told it, in place of the one before.
    pub(super) fn set_record(&mut self, record: Record, hearsay: bool) {
        self.hearsay = hearsay;
        let slot = |plugin: &RecordPlugin| (plugin.slot, GroupKey::new(&plugin.id, plugin.version));
        self.slots = record.plugins.iter().map(slot).collect();
        self.record = Some(record);
    }

    /// The group that a message of this device names.
    pub(super) fn group(&self, named: GroupRef) -> Option<GroupKey> {
        match named {
            GroupRef::Key(group) => Some(group),
            GroupRef::Slot(slot) => {
                let mut slots = self.slots.iter();
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
        self.hearsay = false;
        self.slots.clear();
        self.bulletin_seq = None;
        self.claims.clear();
        self.asks.clear();
        self.record_asked_at = None;
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
        if !self.entries.contains_key(&node) && self.entries.len() >= DEVICES_MAX {
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
