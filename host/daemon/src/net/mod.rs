//! The daemon's network: datagrams in and out, on whatever interfaces there are at the moment.
//!
//! Per address family there is one session socket, which sends everything and hears unicast, and
//! one discovery socket, which hears beacons. (Where both have the same port they are one socket.)
//! A datagram for everyone leaves the session socket once per usable interface, so that its source
//! address is the one to answer to. Interfaces come, go and change their addresses: the system tells
//! so, [`Net::refresh`] looks again, and no interface at all is a normal state. Sending never fails
//! for the caller; what could not be sent is counted and, once a minute per cause, logged. Without a
//! group nothing is opened at all.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::task::Poll;

use consort_proto::{Address, Destination, MAX_DATAGRAM, Time, Transmit};
use tokio::net::UdpSocket;

use crate::clock;
use crate::config::Network;

mod arrival;
mod causes;
pub mod interfaces;
mod multicast;
#[cfg(target_os = "linux")]
mod netlink;
mod open;
mod quiet;
pub mod resolve;
mod udp;
mod watch;

use arrival::Arrivals;
use causes::Causes;
use interfaces::{Filter, Interface, Interfaces, Survey};
use multicast::Membership;
pub use multicast::{GROUP_V4, GROUP_V6};
pub use open::OpenNetError;
use udp::Family;
use watch::Watch;

/// Longer than any datagram of the protocol, so that one that is too long shows as such.
const BUFFER_LEN: usize = MAX_DATAGRAM + 1;

/// Datagrams dropped here in a row before the caller gets to do something else.
const DROPPED_MAX: usize = 64;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Datagrams handed to the kernel.
    pub datagrams_sent: u64,
    /// Their payload.
    pub bytes_sent: u64,
    /// Datagrams the kernel refused, or for which there is no socket.
    pub send_errors: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Their payload.
    pub bytes_received: u64,
    /// Datagrams longer than any of the protocol, dropped here.
    pub oversized: u64,
}

/// How it is told to everyone that this device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// By IPv4 and IPv6 multicast.
    pub multicast: bool,
    /// By IPv4 broadcast.
    pub broadcast: bool,
    /// Where to.
    pub port: u16,
    /// Whether the system tells of interfaces that change; else they are looked at every 2 s.
    pub watches_interfaces: bool,
}

/// One socket and what it is for.
#[derive(Debug)]
struct Endpoint {
    socket: UdpSocket,
    local: SocketAddr,
    /// Whether it is a session socket.
    sends: bool,
    /// Whether it is a discovery socket, and where it listens.
    membership: Option<Membership>,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: Address,
    /// What it holds.
    pub payload: &'a [u8],
    /// When it arrived: at the kernel where that says so, else when it was read.
    pub received: Time,
}

/// All sockets.
#[derive(Debug)]
pub struct Net {
    endpoints: Vec<Endpoint>,
    discovery_port: u16,
    multicast: bool,
    broadcast: bool,
    filter: Filter,
    survey: Survey,
    watch: Watch,
    counters: NetCounters,
    send_log: Causes,
    receive_log: Causes,
    survey_log: Causes,
    buffer: Box<[u8; BUFFER_LEN]>,
    /// For what the kernel says of a datagram.
    space: Vec<u8>,
    arrivals: Arrivals,
    /// The endpoint whose turn it is.
    next: usize,
}

impl Net {
    /// Opens no socket: for a group of one.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            endpoints: Vec::new(),
            discovery_port: 0,
            multicast: false,
            broadcast: false,
            filter: Filter::default(),
            survey: Survey::default(),
            watch: Watch::default(),
            counters: NetCounters::default(),
            send_log: Causes::default(),
            receive_log: Causes::default(),
            survey_log: Causes::default(),
            buffer: Box::new([0; BUFFER_LEN]),
            space: udp::space(),
            arrivals: Arrivals::default(),
            next: 0,
        }
    }

    /// Opens the sockets and looks for interfaces. Must be called within the runtime.
    ///
    /// # Errors
    /// A port is in use, or nothing can be listened on.
    pub fn open(settings: &Network, now: Time) -> Result<Self, OpenNetError> {
        let mut net = Self {
            endpoints: open::sessions(&settings.listen)?,
            discovery_port: settings.discovery_port,
            multicast: settings.multicast,
            broadcast: settings.broadcast,
            filter: Filter {
                allowed: settings.interfaces.clone(),
                denied: settings.interfaces_denied.clone(),
            },
            // Before the first look, so that no change between them is missed.
            watch: Watch::open(),
            ..Self::closed()
        };
        if settings.multicast || settings.broadcast {
            open::discovery(&mut net.endpoints, settings.discovery_port);
        }
        net.look(now);
        Ok(net)
    }

    /// Where the session sockets listen.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sessions().map(|e| e.local)
    }

    /// The port to tell others, 0 without sockets.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local_addresses().next().map_or(0, |a| a.port())
    }

    /// The interfaces at the last look.
    #[must_use]
    pub const fn survey(&self) -> &Survey {
        &self.survey
    }

    /// How it is told to everyone that this device is there.
    #[must_use]
    pub const fn ways(&self) -> Ways {
        Ways {
            multicast: self.multicast,
            broadcast: self.broadcast,
            port: self.discovery_port,
            watches_interfaces: self.watch.is_told(),
        }
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counters(&self) -> NetCounters {
        self.counters
    }

    /// Waits until a datagram or word of a change may be there; for ever without sockets.
    pub async fn readable(&self) {
        poll_fn(|cx| {
            let mut ready = self.watch.poll_ready(cx);
            // All are polled, so that each wakes this task.
            for endpoint in &self.endpoints {
                if endpoint.socket.poll_recv_ready(cx).is_ready() {
                    ready = Poll::Ready(());
                }
            }
            ready
        })
        .await;
    }

    /// The next datagram that is there already, the sockets taking turns.
    pub fn receive(&mut self) -> Option<Datagram<'_>> {
        let count = self.endpoints.len();
        let (mut tries, mut dropped) = (0, 0);
        while tries < count && dropped < DROPPED_MAX {
            let endpoint = &self.endpoints[self.next % count];
            self.next = (self.next + 1) % count;
            let family = Family::of(endpoint.local);
            let (buffer, space) = (&mut self.buffer[..], &mut self.space[..]);
            match udp::receive(&endpoint.socket, family, buffer, space) {
                Ok(udp::Received {
                    len,
                    from,
                    by,
                    stamp,
                }) => {
                    self.counters.datagrams_received += 1;
                    self.counters.bytes_received += len as u64;
                    let mut used = self.survey.usable.values();
                    let is_unused = by.is_some_and(|by| used.all(|i| i.index != by));
                    if len <= MAX_DATAGRAM && !is_unused {
                        return Some(Datagram {
                            from: canonical(from),
                            payload: &self.buffer[..len],
                            received: self.arrivals.time(stamp),
                        });
                    }
                    dropped += 1;
                    self.counters.oversized += u64::from(len > MAX_DATAGRAM);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tries += 1,
                Err(error) => {
                    if let Some(times) = self.receive_log.tell(&error, clock::now()) {
                        tracing::warn!(%error, local = %endpoint.local, times, "receiving failed");
                    }
                    tries += 1;
                }
            }
        }
        None
    }

    /// Sends a datagram, or counts why not.
    pub fn send(&mut self, transmit: &Transmit, now: Time) {
        match transmit.to {
            Destination::Address(Address::Udp(SocketAddr::V6(to))) if self.is_lost(to) => {
                let scopes: Vec<u32> = self.link_local_scopes().collect();
                for index in scopes {
                    let to = SocketAddrV6::new(*to.ip(), to.port(), 0, index);
                    self.send_to(SocketAddr::V6(to), &transmit.payload, now);
                }
            }
            Destination::Address(Address::Udp(to)) => self.send_to(to, &transmit.payload, now),
            Destination::Everyone => self.send_to_everyone(&transmit.payload, now),
        }
    }

    /// When [`Net::refresh`] is to be called next; for ever later without sockets.
    #[must_use]
    pub fn refresh_due(&mut self) -> Time {
        if self.endpoints.is_empty() {
            return Time::MAX;
        }
        self.watch.take();
        self.watch.due()
    }

    /// Looks for interfaces again and joins the multicast groups on them; returns whether
    /// anything changed that is used.
    pub fn refresh(&mut self, now: Time) -> bool {
        !self.endpoints.is_empty() && self.look(now)
    }

    fn look(&mut self, now: Time) -> bool {
        self.watch.looked(now);
        let found = match interfaces::survey(&self.filter) {
            Ok(found) => found,
            Err(error) => {
                if let Some(times) = self.survey_log.tell(&error, now) {
                    tracing::warn!(%error, times, "the system does not tell its interfaces");
                }
                return false;
            }
        };
        let changed = found.usable != self.survey.usable;
        self.survey = found;
        if changed {
            let names: Vec<&str> = self.interfaces().keys().map(String::as_str).collect();
            tracing::info!(interfaces = names.join(" "), "interfaces in use");
        }
        self.join_groups();
        changed
    }

    const fn interfaces(&self) -> &Interfaces {
        &self.survey.usable
    }

    /// Whether an address holds on one link only, and that link is not known: another device told
    /// it, or this device remembers it and its interfaces are numbered anew.
    fn is_lost(&self, to: SocketAddrV6) -> bool {
        to.ip().is_unicast_link_local()
            && self.link_local_scopes().next().is_some()
            && !self.link_local_scopes().any(|index| index == to.scope_id())
    }

    /// The interfaces that link-local addresses are reached by.
    fn link_local_scopes(&self) -> impl Iterator<Item = u32> + '_ {
        let interfaces = self.interfaces().values();
        let by_link = interfaces.filter(|i| !i.ipv6_link_local.is_empty());
        by_link.map(|interface| interface.index)
    }

    fn send_to(&mut self, to: SocketAddr, payload: &[u8], now: Time) {
        let outcome = match self.session_of(Family::of(to)) {
            Some(endpoint) => udp::send_to(&endpoint.socket, payload, to),
            None => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        self.count(outcome, to, now);
    }

    fn sessions(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| e.sends)
    }

    fn session_of(&self, family: Family) -> Option<&Endpoint> {
        self.sessions().find(|e| Family::of(e.local) == family)
    }

    fn join_groups(&mut self) {
        let wanted = |family: Family| -> BTreeSet<u32> {
            self.interfaces()
                .values()
                .filter(|i| self.multicast && i.multicast)
                .filter(|i| self.sessions().any(|e| carries(i, e.local, family)))
                .map(|i| i.index)
                .collect()
        };
        let (wanted_v4, wanted_v6) = (wanted(Family::V4), wanted(Family::V6));
        for endpoint in &mut self.endpoints {
            if let Some(membership) = &mut endpoint.membership {
                match membership.family() {
                    Family::V4 => membership.set(&endpoint.socket, &wanted_v4),
                    Family::V6 => membership.set(&endpoint.socket, &wanted_v6),
                }
            }
        }
    }

    fn send_to_everyone(&mut self, payload: &[u8], now: Time) {
        let mut outcomes = Vec::new();
        for endpoint in self.sessions() {
            let family = Family::of(endpoint.local);
            for interface in self.interfaces().values() {
                if !carries(interface, endpoint.local, family) {
                    continue;
                }
                if self.multicast && interface.multicast {
                    outcomes.push(self.send_multicast(endpoint, interface, payload));
                }
                if self.broadcast && family == Family::V4 {
                    for to in interface.ipv4.values().flatten() {
                        let to = SocketAddr::new(IpAddr::V4(*to), self.discovery_port);
                        outcomes.push((udp::send_to(&endpoint.socket, payload, to), to));
                    }
                }
            }
        }
        for (outcome, to) in outcomes {
            self.count(outcome, to, now);
        }
    }

    fn send_multicast(
        &self,
        endpoint: &Endpoint,
        interface: &Interface,
        payload: &[u8],
    ) -> (io::Result<usize>, SocketAddr) {
        let socket = &endpoint.socket;
        let port = self.discovery_port;
        match endpoint.local.ip() {
            IpAddr::V4(local) => {
                let to = SocketAddr::V4(SocketAddrV4::new(GROUP_V4, port));
                let source = source_v4(interface, local);
                let sent =
                    udp::send_by(socket, source).and_then(|()| udp::send_to(socket, payload, to));
                (sent, to)
            }
            IpAddr::V6(_) => {
                // The scope chooses the interface.
                let to = SocketAddr::V6(SocketAddrV6::new(GROUP_V6, port, 0, interface.index));
                (udp::send_to(socket, payload, to), to)
            }
        }
    }

    fn count(&mut self, outcome: io::Result<usize>, to: SocketAddr, now: Time) {
        match outcome {
            Ok(len) => {
                self.counters.datagrams_sent += 1;
                self.counters.bytes_sent += len as u64;
            }
            Err(error) => {
                self.counters.send_errors += 1;
                if let Some(times) = self.send_log.tell(&error, now) {
                    tracing::warn!(%error, %to, times, "datagrams could not be sent");
                }
            }
        }
    }
}

/// Whether datagrams of a session socket at `local` go by this interface.
fn carries(interface: &Interface, local: SocketAddr, family: Family) -> bool {
    match (local.ip(), family) {
        (IpAddr::V4(ip), Family::V4) => {
            !interface.ipv4.is_empty() && (ip.is_unspecified() || interface.ipv4.contains_key(&ip))
        }
        (IpAddr::V6(ip), Family::V6) => {
            !interface.ipv6_link_local.is_empty()
                && (ip.is_unspecified() || interface.ipv6_link_local.contains(&ip))
        }
        (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => false,
    }
}

/// The interface's address that multicast is sent from.
fn source_v4(interface: &Interface, local: Ipv4Addr) -> Ipv4Addr {
    if local.is_unspecified() {
        interface.ipv4.keys().next().copied().unwrap_or(local)
    } else {
        local
    }
}

/// The same sender always as the same address: the flow label, which names a flow and not a
/// sender, is left out.
fn canonical(from: SocketAddr) -> Address {
    Address::Udp(match from {
        SocketAddr::V4(_) => from,
        SocketAddr::V6(v6) => {
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()))
        }
    })
}

#[cfg(test)]
mod tests;
