//! What a device keeps over its restarts.
//!
//! A record first lies in the page cache and then on the disk. A crash loses the cache; an orderly
//! stop writes it out. The boot counter is raised on the disk before a node is made.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use consort_proto::{
    Address, GroupKey, Keyring, StaticSecret, StoreRecord, Stored, StoredState, Time,
};

/// What a good disk takes for a write that is to be safe, at least.
const SYNC_TAKES: Duration = Duration::from_millis(4);

#[derive(Clone, Debug, Default)]
struct Content {
    ceilings: BTreeMap<GroupKey, u64>,
    addresses: Vec<Address>,
    /// In place of the one in the device's settings.
    keyring: Option<Keyring>,
    /// What the node keeps of each group's state.
    state: BTreeMap<GroupKey, BTreeMap<Bytes, Bytes>>,
}

/// One device's disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    secret: StaticSecret,
    boot_counter: u64,
    durable: Content,
    cached: Vec<(Time, StoreRecord)>,
    /// Writes asked for that have not reached the cache.
    under_way: u32,
    /// When the last write asked for is done.
    busy_until: Time,
    /// How long a write that is to be safe from a crash takes; up to twice that, by chance.
    pub(crate) sync_takes: Duration,
    /// Whether every write fails.
    pub(crate) full: bool,
    /// Whether a write failed since the last start.
    pub(crate) failed: bool,
    /// The power goes in the middle of a write to come.
    pub(crate) fuse: Option<Fuse>,
}

/// When the power goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    /// Writes until then, that one included.
    pub(crate) writes: u32,
    /// Whether records on their way reach the disk by chance instead of not at all.
    pub(crate) torn: bool,
    /// After how long the device is started again.
    pub(crate) down: Option<Duration>,
}

impl Disk {
    pub(crate) const fn new(secret: StaticSecret) -> Self {
        let durable = Content {
            ceilings: BTreeMap::new(),
            addresses: Vec::new(),
            keyring: None,
            state: BTreeMap::new(),
        };
        Self {
            secret,
            boot_counter: 0,
            durable,
            cached: Vec::new(),
            under_way: 0,
            busy_until: Time::ZERO,
            sync_takes: SYNC_TAKES,
            full: false,
            failed: false,
            fuse: None,
        }
    }

    /// The same bytes on another medium.
    pub(crate) fn copy(&self) -> Self {
        Self {
            boot_counter: self.boot_counter,
            durable: self.durable.clone(),
            ..Self::new(self.secret.clone())
        }
    }

    /// A write completes; the fuse, if this is the write that blows it.
    pub(crate) const fn burn(&mut self) -> Option<Fuse> {
        let Some(fuse) = &mut self.fuse else {
            return None;
        };
        fuse.writes = fuse.writes.saturating_sub(1);
        if fuse.writes > 0 {
            return None;
        }
        self.fuse.take()
    }

    /// The power goes while records are on their way to the disk: each gets there by chance, in
    /// whatever order.
    pub(crate) fn tear(&mut self, now: Time, mut survives: impl FnMut() -> bool) {
        for (safe_at, _) in &mut self.cached {
            if *safe_at > now && survives() {
                *safe_at = now;
            }
        }
    }

    /// Raises the boot counter and reads everything back.
    pub(crate) fn boot(&mut self) -> Stored {
        self.boot_counter += 1;
        Stored {
            secret: self.secret.clone(),
            boot_counter: self.boot_counter,
            epoch_ceilings: self
                .durable
                .ceilings
                .iter()
                .map(|(g, c)| (*g, *c))
                .collect(),
            addresses: self.durable.addresses.clone(),
            state: self.durable.state.iter().map(stored_state).collect(),
        }
    }

    /// What was kept of the groups' state is gone.
    pub(crate) fn wipe_state(&mut self) {
        self.durable.state.clear();
        let other =
            |(_, record): &(Time, StoreRecord)| !matches!(record, StoreRecord::State { .. });
        self.cached.retain(other);
    }

    /// Damages what was kept of the groups' state: each record becomes what
    /// `damage` makes of it. How many were damaged.
    pub(crate) fn damage_state(
        &mut self,
        mut damage: impl FnMut(&Bytes) -> Option<Bytes>,
    ) -> usize {
        let records = self.durable.state.values_mut().flatten();
        let mut damaged = 0;
        for (_, value) in records {
            if let Some(wrong) = damage(value) {
                *value = wrong;
                damaged += 1;
            }
        }
        damaged
    }

    /// Takes over another disk's content, as far as it is durable.
    pub(crate) fn restore(&mut self, image: Self) {
        let secret = self.secret.clone();
        *self = Self {
            secret,
            cached: Vec::new(),
            under_way: 0,
            ..image
        };
    }

    pub(crate) const fn set_boot_counter(&mut self, boots: u64) {
        self.boot_counter = boots;
    }

    /// The group's secrets, if other ones were stored than the device was set up with.
    pub(crate) fn keyring(&self) -> Option<Keyring> {
        self.durable.keyring.clone()
    }

    /// Gives the device other secrets by hand.
    pub(crate) fn set_keyring(&mut self, keyring: Keyring) {
        self.durable.keyring = Some(keyring);
    }

    /// A write is asked for that takes until `at` by itself; when it is done. Writes of one device
    /// are done in order.
    pub(crate) fn begin(&mut self, at: Time) -> Time {
        self.under_way += 1;
        self.busy_until = self.busy_until.max(at);
        self.busy_until
    }

    /// A write asked for has failed.
    pub(crate) const fn fail(&mut self) {
        self.failed = true;
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Completes a write: the record is safe from a crash from `safe_at` on.
    pub(crate) fn write(&mut self, safe_at: Time, record: StoreRecord) {
        self.under_way = self.under_way.saturating_sub(1);
        self.cached.push((safe_at, record));
    }

    /// Takes to the disk what is due, keeping the order of the writes.
    pub(crate) fn settle(&mut self, now: Time) {
        let settled: Vec<_> = self
            .cached
            .extract_if(.., |(safe_at, _)| *safe_at <= now)
            .collect();
        for (_, record) in settled {
            match record {
                StoreRecord::EpochCeiling { group, ceiling } => {
                    self.durable.ceilings.insert(group, ceiling);
                }
                StoreRecord::Addresses(addresses) => self.durable.addresses = addresses,
                StoreRecord::Keyring(keyring) => self.durable.keyring = Some(keyring),
                StoreRecord::State { group, changes } => {
                    let kept = self.durable.state.entry(group).or_default();
                    for (key, value) in changes {
                        match value {
                            Some(value) => kept.insert(key, value),
                            None => kept.remove(&key),
                        };
                    }
                }
            }
        }
    }

    /// The power goes: what is not settled is lost. Whether anything was.
    pub(crate) fn crash(&mut self, now: Time) -> bool {
        self.settle(now);
        let lost = !self.cached.is_empty() || self.under_way > 0;
        self.cached.clear();
        self.under_way = 0;
        lost
    }
}

fn stored_state((group, records): (&GroupKey, &BTreeMap<Bytes, Bytes>)) -> StoredState {
    let records = records.iter();
    StoredState {
        group: *group,
        records: records.map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_state_is_written_record_by_record_and_comes_back() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        let changes = |pairs: &[(&'static str, Option<&'static str>)]| StoreRecord::State {
            group: GroupKey::SYSTEM,
            changes: pairs
                .iter()
                .map(|(key, value)| (Bytes::from(*key), value.map(Bytes::from)))
                .collect(),
        };
        disk.write(
            Time::from_micros(10),
            changes(&[("a", Some("1")), ("b", Some("2"))]),
        );
        disk.write(
            Time::from_micros(20),
            changes(&[("a", None), ("c", Some("3"))]),
        );
        disk.write(Time::from_micros(90), changes(&[("b", None)]));
        assert!(
            disk.crash(Time::from_micros(50)),
            "the last record is lost whole"
        );
        let kept = |disk: &mut Disk| {
            let state = disk.boot().state;
            assert_eq!(state[0].group, GroupKey::SYSTEM);
            let records = state[0].records.iter();
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            records.map(|(k, v)| text(k) + &text(v)).collect::<Vec<_>>()
        };
        assert_eq!(kept(&mut disk), ["b2", "c3"]);
        let damaged = disk.damage_state(|value| (value == "2").then(|| Bytes::from_static(b"!")));
        assert_eq!(
            (damaged, kept(&mut disk)),
            (1, vec!["b!".into(), "c3".into()])
        );
        disk.wipe_state();
        assert!(disk.boot().state.is_empty());
    }

    fn ceiling(ceiling: u64) -> StoreRecord {
        StoreRecord::EpochCeiling {
            group: GroupKey::SYSTEM,
            ceiling,
        }
    }

    #[test]
    fn a_crash_loses_what_was_not_settled() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        assert_eq!(disk.boot().boot_counter, 1);
        disk.write(Time::from_micros(10), ceiling(16));
        disk.write(Time::from_micros(1_000), ceiling(32));
        assert!(disk.crash(Time::from_micros(500)));
        assert!(
            !disk.crash(Time::from_micros(600)),
            "nothing is left to lose"
        );
        disk.begin(Time::from_micros(650));
        assert!(
            disk.crash(Time::from_micros(700)),
            "a write under way is lost"
        );
        let stored = disk.boot();
        assert_eq!(stored.boot_counter, 2);
        assert_eq!(stored.epoch_ceilings, [(GroupKey::SYSTEM, 16)]);
    }

    #[test]
    fn a_torn_crash_keeps_what_chance_keeps() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        for (at, value) in [(1_000, 16), (1_001, 32)] {
            disk.write(Time::from_micros(at), ceiling(value));
        }
        let mut first = true;
        disk.tear(Time::from_micros(5), || core::mem::take(&mut first));
        assert!(disk.crash(Time::from_micros(5)), "the second is lost");
        assert_eq!(disk.boot().epoch_ceilings, [(GroupKey::SYSTEM, 16)]);
    }

    #[test]
    fn a_fuse_blows_at_its_write() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        assert!(disk.burn().is_none());
        disk.fuse = Some(Fuse {
            writes: 2,
            torn: true,
            down: None,
        });
        assert!(disk.burn().is_none());
        assert!(disk.burn().is_some_and(|fuse| fuse.torn));
        assert!(disk.burn().is_none());
    }

    #[test]
    fn writes_are_done_in_order() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        let first = disk.begin(Time::from_micros(20));
        assert_eq!(first, Time::from_micros(20));
        assert_eq!(disk.begin(Time::from_micros(10)), first);
        assert_eq!(disk.begin(Time::from_micros(30)), Time::from_micros(30));
    }

    #[test]
    fn later_writes_win() {
        let mut disk = Disk::new(StaticSecret::new([1; 32]));
        disk.write(Time::from_micros(10), ceiling(16));
        disk.write(Time::from_micros(20), ceiling(32));
        disk.settle(Time::MAX);
        assert_eq!(disk.boot().epoch_ceilings, [(GroupKey::SYSTEM, 32)]);
    }
}
