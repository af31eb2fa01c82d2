//! How a group is put together.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consort_proto::crypto::{Crypto, Ring};
use consort_proto::{
    Access, Address, DeviceId, GroupSecret, PluginId, PluginSpec, PublicKey, StaticSecret, Time,
    Version,
};
use rand::RngExt;
use tracing::Level;

use crate::app::App;
use crate::checker::{Brackets, Delivery, Membership};
use crate::device::{Device, DeviceConfig};
use crate::disk::Disk;
use crate::log::Log;
use crate::network::{Link, Network};
use crate::oracle::Oracle;
use crate::queue::Queue;
use crate::seed::Seed;
use crate::timeline::Recorder;
use crate::toy::Toy;
use crate::trace::Trace;

use super::{Sim, Stats};

/// The largest group that runs on the real primitives unless told otherwise.
const REAL_CRYPTO_MAX: usize = 25;
const PORT: u16 = 7440;

/// A plugin of version 0.1.0 and ordinary priority.
///
/// # Panics
/// The id is none.
#[must_use]
pub fn spec(id: &str) -> PluginSpec {
    PluginSpec {
        id: PluginId::new(id).expect("the scenario names a valid plugin"),
        version: Version {
            major: 0,
            minor: 1,
            patch: 0,
        },
        priority: 0,
        preempt: false,
    }
}

/// A group to be.
#[derive(Clone, Debug)]
pub struct SimBuilder {
    name: String,
    seed: Seed,
    link: Link,
    crypto: Option<Arc<dyn Crypto>>,
    devices: Vec<DeviceConfig>,
    plugins: Vec<PluginSpec>,
    keep_text: bool,
    record_max: usize,
    gentle: bool,
}

impl SimBuilder {
    pub(super) fn new(name: &str, seed: Seed) -> Self {
        Self {
            name: name.to_owned(),
            seed,
            link: Link::lan(),
            crypto: None,
            devices: Vec::new(),
            plugins: Vec::new(),
            keep_text: false,
            record_max: 0,
            gentle: false,
        }
    }

    /// Adds `count` devices with one secret on one segment, wall clocks up to 2 s off.
    #[must_use]
    pub fn devices(mut self, count: usize) -> Self {
        for _ in 0..count {
            let index = self.devices.len();
            let mut rng = self.seed.stream("device", index as u64);
            self.devices.push(DeviceConfig {
                name: format!("n{index}"),
                group: Some(self.secret(0)),
                seeds: Vec::new(),
                names: Vec::new(),
                access: Access::default(),
                segment: 0,
                aes_in_hardware: rng.random_bool(0.5),
                wall_offset: rng.random_range(-2_000_000..=2_000_000),
                clone_of: None,
                drift_ppm: 0,
                protocol: 1,
                later: false,
                send_rate: consort_proto::SendRate::default(),
            });
        }
        self
    }

    /// Adds a device that has the key of one added before, at an address of its own. Views and
    /// traces name both by the number of the first.
    #[must_use]
    pub fn clone_of(self, node: usize) -> Self {
        let clone = self.devices.len();
        self.devices(1)
            .device(clone, |config| config.clone_of = Some(node))
    }

    /// Changes the settings of one device added before.
    ///
    /// # Panics
    /// There is no such device.
    #[must_use]
    pub fn device(mut self, node: usize, change: impl FnOnce(&mut DeviceConfig)) -> Self {
        change(&mut self.devices[node]);
        self
    }

    /// The `index`-th group secret of this run; devices get the one with index 0.
    #[must_use]
    pub fn secret(&self, index: u64) -> GroupSecret {
        secret(self.seed, index)
    }

    /// The address that a device will have.
    #[must_use]
    pub fn address(node: usize) -> Address {
        let host = u16::try_from(node + 1).expect("fewer than 65,535 devices");
        let [high, low] = host.to_be_bytes();
        Address::Udp(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
            PORT,
        ))
    }

    /// Every device runs this plugin from its start on.
    #[must_use]
    pub fn plugin(mut self, spec: PluginSpec) -> Self {
        self.plugins.push(spec);
        self
    }

    /// How links behave that have no settings of their own.
    #[must_use]
    pub const fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Which primitives to use. Without this, groups of up to 25 use the real ones.
    #[must_use]
    pub fn crypto(mut self, crypto: Arc<dyn Crypto>) -> Self {
        self.crypto = Some(crypto);
        self
    }

    /// Keeps the trace as text.
    #[must_use]
    pub const fn keep_text(mut self) -> Self {
        self.keep_text = true;
        self
    }

    /// Keeps every datagram, for [`Sim::recorded`].
    #[must_use]
    pub const fn record(mut self) -> Self {
        self.record_max = usize::MAX;
        self
    }

    /// Keeps at least the last `count` datagrams, for [`Sim::recorded`].
    #[must_use]
    pub const fn record_last(mut self, count: usize) -> Self {
        self.record_max = count;
        self
    }

    /// Ends a run that breaks a property by unwinding with a [`super::Broken`] instead of a panic
    /// that is printed.
    #[must_use]
    pub(crate) const fn gentle(mut self) -> Self {
        self.gentle = true;
        self
    }

    /// Makes the group. No device is started yet.
    #[must_use]
    pub fn build(self) -> Sim {
        let crypto = self.crypto.clone().unwrap_or_else(|| {
            if self.devices.len() <= REAL_CRYPTO_MAX {
                Arc::new(Ring)
            } else {
                Arc::new(Toy)
            }
        });
        let trace = Trace::new(self.keep_text);
        let level = if trace.wants_text() {
            Level::DEBUG
        } else {
            Level::ERROR
        };
        let mut sim = Sim {
            network: Network::new(self.link, self.seed.stream("links", 0)),
            rng: self.seed.stream("world", 0),
            name: self.name,
            seed: self.seed,
            now: Time::ZERO,
            queue: Queue::new(),
            devices: Vec::new(),
            by_address: BTreeMap::new(),
            by_id: BTreeMap::new(),
            crypto,
            brackets: Brackets::default(),
            membership: Membership::default(),
            delivery: Delivery::default(),
            ledger: crate::ledger::Ledger::default(),
            forward: crate::checker::Forward::default(),
            sessions: 0,
            next_message: 0,
            beats: Vec::new(),
            workloads: Vec::new(),
            recording: Vec::new(),
            record_max: self.record_max,
            gentle: self.gentle,
            recorder: Recorder::default(),
            oracle: Oracle::default(),
            wards: super::wards::Wards::default(),
            watched_changes: 0,
            next_look: Time::ZERO,
            trace,
            log: Log::new(level),
            stats: Stats::default(),
            changes: 0,
            hosting: None,
        };
        for config in self.devices {
            sim.add(config, &self.plugins);
        }
        sim
    }
}

/// The `index`-th group secret of a run.
pub(super) fn secret(seed: Seed, index: u64) -> GroupSecret {
    let mut random = [0; 48];
    random[..32].copy_from_slice(&seed.bytes("group secret", index));
    random[32..].copy_from_slice(&seed.bytes("group secret rest", index)[..16]);
    GroupSecret::from_random(&random)
}

impl Sim {
    /// Adds a device with a key of its own; its number.
    pub(super) fn add(&mut self, config: DeviceConfig, plugins: &[PluginSpec]) -> usize {
        let node = self.devices.len();
        if let Some(original) = config.clone_of {
            self.oracle.doubt(node);
            self.oracle.doubt(original);
        }
        let (secret, key) = self.key(config.clone_of.unwrap_or(node) as u64);
        self.add_as(config, plugins, Disk::new(secret), key.device_id())
    }

    /// Adds a device with the key on this disk; its number.
    pub(super) fn add_as(
        &mut self,
        config: DeviceConfig,
        plugins: &[PluginSpec],
        disk: Disk,
        id: DeviceId,
    ) -> usize {
        let node = self.devices.len();
        let address = SimBuilder::address(node);
        if self.by_id.contains_key(&id) {
            self.ledger.doubt(id);
        }
        self.by_address.insert(address, node);
        self.by_id.entry(id).or_insert(node);
        self.recorder.add_lane(&config.name);
        self.devices.push(Device {
            config,
            id,
            address,
            disk,
            running: None,
            life: 0,
            installed: plugins
                .iter()
                .map(|spec| (spec.id.clone(), spec.clone()))
                .collect(),
            apps: plugins
                .iter()
                .map(|spec| (spec.id.clone(), App::new(spec.clone(), id)))
                .collect(),
            actor: None,
            members: BTreeSet::new(),
            clock: None,
            stopped: None,
            shown: 0,
            paced: Time::ZERO,
            stood: (Time::ZERO, Time::ZERO),
            era: 0,
            set_backs: 0,
            rotated: None,
            datagrams_sent: 0,
            bytes_sent: 0,
            members_lost: 0,
            clones_detected: 0,
        });
        node
    }

    /// The key of a device; the first of a few that peers accept.
    fn key(&self, node: u64) -> (StaticSecret, PublicKey) {
        (0..8)
            .find_map(|attempt| {
                let secret =
                    StaticSecret::new(self.seed.bytes("static secret", node | attempt << 32));
                let key = self.crypto.public_key(&secret)?;
                Some((secret, key))
            })
            .expect("one key of eight is acceptable")
    }

    /// Starts every device, evenly spread over `spread`.
    pub fn start_all(&mut self, spread: Duration) {
        for node in 0..self.devices.len() {
            let after = self.rng.random_range(0..=consort_proto::micros(spread));
            let at = self.now + Duration::from_micros(after);
            self.queue.push(at, super::Happening::Start { node });
        }
    }
}
