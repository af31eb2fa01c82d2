//! The read model: what observers see, made from the node, the plugin host, the network and the
//! clock, and published through a watch channel.
//!
//! Observers never reach into the driver. [`Publisher`] makes a snapshot after something changed,
//! ten times a second at most, and every second in any case, because ages grow by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::{ClockView, DeviceId, NodeStatus, PeerKeyring, PluginId, Time};
use tokio::sync::watch;

use crate::control::types::{
    ClockLine, ClockStatus, CloneStatus, Counters, DeviceStatus, DiscoveryStatus, GroupStatus,
    InterfaceStatus, Leader, MessageCounts, PeerPlugin, PeerSecrets, PeerState, PeerStatus,
    PluginStatus, ReplicaStatus, Role, SeedState, SeedStatus, Status, VERSION,
};
use crate::net::Net;
use crate::net::resolve::{Lookup, Seed};
use crate::plugins::PluginHostStatus;

const AT_MOST_EVERY: Duration = Duration::from_millis(100);
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What stays the same for the daemon's life.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// When the daemon started.
    pub started: Time,
    /// How often the device was started.
    pub boot_counter: u64,
}

/// Decides when to publish, and publishes.
#[derive(Debug)]
pub struct Publisher {
    latest: watch::Sender<Option<Arc<Status>>>,
    changed: bool,
    published: Time,
}

impl Publisher {
    /// A publisher that is due at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latest: watch::Sender::new(None),
            changed: true,
            published: Time::ZERO,
        }
    }

    /// For an observer.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Status>>> {
        self.latest.subscribe()
    }

    /// Something changed that observers want to know soon.
    pub const fn touch(&mut self) {
        self.changed = true;
    }

    /// When the next snapshot is due.
    #[must_use]
    pub fn due(&self) -> Time {
        self.published
            + if self.changed {
                AT_MOST_EVERY
            } else {
                AT_LEAST_EVERY
            }
    }

    /// Publishes what `make` makes, if it is time.
    pub fn publish_if_due(&mut self, now: Time, make: impl FnOnce() -> Status) {
        if now >= self.due() {
            self.latest.send_replace(Some(Arc::new(make())));
            self.published = now;
            self.changed = false;
        }
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes one snapshot.
#[must_use]
pub fn build(
    now: Time,
    origin: Origin,
    node: &NodeStatus,
    hosted: &[PluginHostStatus],
    net: &Net,
    seeds: &[Seed],
    clock: ClockView,
) -> Status {
    Status {
        v: VERSION,
        device: device(now, origin, node),
        group: group(node, net),
        discovery: discovery(net, seeds),
        clock: clock_status(now, clock),
        peers: node.peers.iter().map(peer).collect(),
        plugins: plugins(node, hosted),
        counters: counters(node, net),
    }
}

fn clock_status(now: Time, clock: ClockView) -> ClockStatus {
    let known = |bound: u64| Some(bound).filter(|bound| *bound != u64::MAX);
    ClockStatus {
        group_time_us: clock.group_time(now),
        synchronised: clock.synchronised,
        error_bound_us: known(clock.error_bound_at(now)),
        line: ClockLine {
            at_us: clock.at,
            group_at_us: clock.group_at,
            rate_ppb: clock.rate_ppb,
            slew_ppb: clock.slew_ppb,
            slew_us: clock.slew_us,
            error_bound_us: known(clock.error_bound),
            bound_ppb: clock.bound_ppb,
        },
    }
}

fn device(now: Time, origin: Origin, node: &NodeStatus) -> DeviceStatus {
    DeviceStatus {
        id: node.device.to_string(),
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_counter: origin.boot_counter,
        uptime_ms: millis(now.since(origin.started)),
        pid: std::process::id(),
        clone: node.clone.as_ref().map(|clone| CloneStatus {
            quarantined_here: clone.quarantined_here,
            kept_at: clone.kept_at.clone(),
            quarantined_at: clone.quarantined_at.clone(),
        }),
    }
}

fn group(node: &NodeStatus, net: &Net) -> GroupStatus {
    let others = node.peers.iter().filter(|p| match p.state {
        consort_proto::PeerState::Member | consort_proto::PeerState::Suspect => true,
        consort_proto::PeerState::Known
        | consort_proto::PeerState::Connecting
        | consort_proto::PeerState::Connected
        | consort_proto::PeerState::Missing
        | consort_proto::PeerState::Left
        | consort_proto::PeerState::Denied
        | consort_proto::PeerState::Incompatible { .. } => false,
    });
    let keyring = node.keyring.iter();
    GroupStatus {
        has_secret: node.has_group,
        members: others.count() as u64 + 1,
        listen: net.local_addresses().map(|a| a.to_string()).collect(),
        interfaces: net.survey().usable.keys().cloned().collect(),
        secrets: keyring
            .flat_map(|keyring| &keyring.entries)
            .map(|entry| (*entry).into())
            .collect(),
        secrets_not_stored: node.keyring.as_ref().is_some_and(|k| k.not_stored),
    }
}

fn discovery(net: &Net, seeds: &[Seed]) -> DiscoveryStatus {
    let (ways, survey) = (net.ways(), net.survey());
    let used = survey.usable.iter().map(|(name, interface)| {
        let ipv4 = interface.ipv4.keys().map(ToString::to_string);
        let ipv6 = interface.ipv6_link_local.iter();
        let ipv6 = ipv6.chain(&interface.ipv6_routed).map(ToString::to_string);
        InterfaceStatus {
            name: name.clone(),
            used: true,
            addresses: ipv4.chain(ipv6).collect(),
            why: None,
        }
    });
    let refused = survey.refused.iter().map(|(name, why)| InterfaceStatus {
        name: name.clone(),
        used: false,
        addresses: vec![],
        why: Some(why.to_string()),
    });
    DiscoveryStatus {
        multicast: ways.multicast,
        broadcast: ways.broadcast,
        port: ways.port,
        watches_interfaces: ways.watches_interfaces,
        interfaces: used.chain(refused).collect(),
        seeds: seeds.iter().map(seed).collect(),
    }
}

fn seed(seed: &Seed) -> SeedStatus {
    let (state, problem) = match &seed.lookup {
        Lookup::Literal(_) => (SeedState::Literal, None),
        Lookup::Pending => (SeedState::Pending, None),
        Lookup::Found(_) => (SeedState::Resolved, None),
        Lookup::Failed { problem, .. } => (SeedState::Failed, Some(problem.clone())),
    };
    SeedStatus {
        seed: seed.text.clone(),
        state,
        addresses: seed.addresses().iter().map(ToString::to_string).collect(),
        problem,
    }
}

fn peer(peer: &consort_proto::PeerStatus) -> PeerStatus {
    PeerStatus {
        id: peer.device.to_string(),
        name: peer.name.clone(),
        version: peer.version.map(|v| v.to_string()),
        address: peer.address.clone(),
        state: peer_state(peer.state),
        why: why_no_member(peer),
        last_heard_ms: peer.last_heard.map(millis),
        round_trip_us: peer.round_trip_us.map(u64::from),
        clock_delta_us: peer.clock_delta_us,
        secrets: peer_secrets(peer.keyring),
        plugins: peer
            .plugins
            .iter()
            .map(|spec| PeerPlugin {
                id: spec.id.to_string(),
                version: spec.version.to_string(),
                priority: spec.priority,
            })
            .collect(),
        messages: messages(peer.messages),
    }
}

const fn messages(counts: consort_proto::MessageCounts) -> MessageCounts {
    MessageCounts {
        sent: counts.sent,
        dropped: counts.dropped,
        parts_resent: counts.parts_resent,
        received: counts.received,
        duplicates: counts.duplicates,
        lost: counts.lost,
    }
}

const fn peer_secrets(keyring: PeerKeyring) -> PeerSecrets {
    match keyring {
        PeerKeyring::Unknown => PeerSecrets::Unknown,
        PeerKeyring::Current => PeerSecrets::Current,
        PeerKeyring::Behind => PeerSecrets::Behind,
        PeerKeyring::NotStored => PeerSecrets::NotStored,
    }
}

const fn peer_state(state: consort_proto::PeerState) -> PeerState {
    match state {
        consort_proto::PeerState::Known | consort_proto::PeerState::Incompatible { .. } => {
            PeerState::Known
        }
        consort_proto::PeerState::Connecting => PeerState::Connecting,
        consort_proto::PeerState::Connected => PeerState::Connected,
        consort_proto::PeerState::Member => PeerState::Member,
        consort_proto::PeerState::Suspect => PeerState::Suspect,
        consort_proto::PeerState::Missing => PeerState::Missing,
        consort_proto::PeerState::Left => PeerState::Left,
        consort_proto::PeerState::Denied => PeerState::Denied,
    }
}

/// Why a peer is not simply a member.
fn why_no_member(peer: &consort_proto::PeerStatus) -> Option<String> {
    if peer.refuses {
        return Some("it refuses this device, which runs with the key of another one".to_owned());
    }
    if let Some(address) = &peer.quarantined_clone {
        return Some(format!(
            "another device, at {address}, runs with its key and is quarantined"
        ));
    }
    let why = match peer.state {
        consort_proto::PeerState::Member => return None,
        consort_proto::PeerState::Known => "heard of, but there was no handshake yet",
        consort_proto::PeerState::Connecting => {
            "the handshake is not answered: is its UDP port open, is the group the same?"
        }
        consort_proto::PeerState::Connected => "there is a session, it is about to join",
        consort_proto::PeerState::Suspect => "silent, or reported down; it is being probed",
        consort_proto::PeerState::Missing => {
            let span = peer
                .missing_for
                .map(|span| format!(" for {} s", span.as_secs()));
            return Some(format!(
                "unreachable{}: no probe was answered; it is called once in a while",
                span.unwrap_or_default()
            ));
        }
        consort_proto::PeerState::Incompatible { lowest, highest } => {
            return Some(format!(
                "it speaks versions {lowest} to {highest} of the protocol, this program another: \
                 update the older of the two"
            ));
        }
        consort_proto::PeerState::Left => "stopped in order",
        consort_proto::PeerState::Denied => {
            "it holds a secret of the group, but group.allow or group.deny keeps it out"
        }
    };
    Some(why.to_owned())
}

/// The host's plugins and the node's, matched by id.
fn plugins(node: &NodeStatus, hosted: &[PluginHostStatus]) -> Vec<PluginStatus> {
    let names: BTreeMap<DeviceId, &str> = node
        .peers
        .iter()
        .filter_map(|p| Some((p.device, p.name.as_deref()?)))
        .chain([(node.device, node.name.as_str())])
        .collect();
    let mut merged: BTreeMap<PluginId, PluginStatus> = hosted
        .iter()
        .map(|h| (h.id.clone(), hosted_plugin(h)))
        .collect();
    for plugin in &node.plugins {
        let entry = merged
            .entry(plugin.spec.id.clone())
            .or_insert_with(|| unhosted_plugin(&plugin.spec.id));
        entry.version = Some(plugin.spec.version.to_string());
        entry.role = role(plugin.role);
        entry.leader = plugin.leader.map(|id| Leader {
            id: id.to_string(),
            name: names.get(&id).map(|name| (*name).to_owned()),
        });
        entry.term = Some(plugin.term);
        entry.members = Some(plugin.members as u64);
        entry.replica = Some(ReplicaStatus {
            keys: plugin.state.keys,
            bytes: plugin.state.bytes,
            catching_up: plugin.state.catching_up,
            refused: plugin.state.refused,
            lost: plugin.state.lost,
            not_kept: plugin.state.not_kept.clone(),
        });
    }
    merged.into_values().collect()
}

fn hosted_plugin(hosted: &PluginHostStatus) -> PluginStatus {
    PluginStatus {
        version: hosted.version.map(|v| v.to_string()),
        state: Some(hosted.state.to_string()),
        generation: Some(hosted.generation),
        content_hash: hosted.hash.clone(),
        last_fault: hosted.last_fault.clone(),
        last_backtrace: hosted.last_backtrace.clone(),
        dropped_messages: hosted.dropped_messages,
        refused_messages: hosted.refused_messages,
        refused_writes: hosted.refused_writes,
        refused_publishes: hosted.refused_publishes,
        refused_capabilities: hosted.refused_capabilities.clone(),
        ..unhosted_plugin(&hosted.id)
    }
}

fn unhosted_plugin(id: &PluginId) -> PluginStatus {
    PluginStatus {
        id: id.to_string(),
        version: None,
        state: None,
        generation: None,
        content_hash: None,
        last_fault: None,
        last_backtrace: Vec::new(),
        dropped_messages: 0,
        refused_messages: 0,
        refused_writes: 0,
        refused_publishes: 0,
        refused_capabilities: Vec::new(),
        role: Role::None,
        leader: None,
        term: None,
        members: None,
        replica: None,
    }
}

const fn role(role: consort_proto::Role) -> Role {
    match role {
        consort_proto::Role::None => Role::None,
        consort_proto::Role::Electing => Role::Electing,
        consort_proto::Role::Follower => Role::Follower,
        consort_proto::Role::Leader => Role::Leader,
    }
}

fn counters(node: &NodeStatus, net: &Net) -> Counters {
    let sockets = net.counters();
    Counters {
        datagrams_sent: sockets.datagrams_sent,
        bytes_sent: sockets.bytes_sent,
        send_errors: sockets.send_errors,
        datagrams_received: sockets.datagrams_received,
        bytes_received: sockets.bytes_received,
        datagrams_oversized: sockets.oversized,
        datagrams_refused: node.counters.datagrams_refused,
        datagrams_replayed: node.counters.datagrams_replayed,
        messages_duplicate: node.counters.messages_duplicate,
        messages_stale: node.counters.messages_stale,
        messages_over_quota: node.counters.messages_over_quota,
        handshakes_failed: node.counters.handshakes_failed,
        handshakes_denied: node.counters.handshakes_denied,
        handshakes_put_off: node.counters.handshakes_put_off,
        state_refused: node.counters.state_refused,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
