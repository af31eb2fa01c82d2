//! The daemon's network: datagrams in and out, on whatever interfaces there are at the moment.
//!
//! Per address family there is one session socket, which sends everything and hears unicast, and
//! one discovery socket, which hears beacons. (Where both have the same port they are one socket.)
//! A datagram for everyone leaves the session socket once per usable interface, so that its source
//! address is the one to answer to. Interfaces come and go: [`Net::refresh`] looks again, and no
//! interface at all is a normal state. Sending never fails for the caller; what could not be sent
//! is counted and, now and then, logged. Without a group nothing is opened at all.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::task::Poll;

use consort_proto::{Address, Destination, MAX_DATAGRAM, Time, Transmit};
use tokio::net::UdpSocket;

use crate::config::Network;

pub mod interfaces;
mod multicast;
mod quiet;
pub mod resolve;
mod udp;

use interfaces::{Filter, Interface, Interfaces};
use multicast::Membership;
pub use multicast::{GROUP_V4, GROUP_V6};
use quiet::Quiet;
use udp::Family;

/// Longer than any datagram of the protocol, so that one that is too long shows as such.
const BUFFER_LEN: usize = MAX_DATAGRAM + 1;

/// Why the network could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenNetError {
    /// Another program has the port.
    #[error("{0} is in use by another program: stop it, or choose another port with network.port")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// From network.listen and network.port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("network.listen names no address that this device has")]
    Nothing,
}

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

/// All sockets.
#[derive(Debug)]
pub struct Net {
    endpoints: Vec<Endpoint>,
    discovery_port: u16,
    multicast: bool,
    broadcast: bool,
    filter: Filter,
    interfaces: Interfaces,
    counters: NetCounters,
    send_log: Quiet,
    interface_log: Quiet,
    buffer: Box<[u8; BUFFER_LEN]>,
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
            interfaces: Interfaces::new(),
            counters: NetCounters::default(),
            send_log: Quiet::default(),
            interface_log: Quiet::default(),
            buffer: Box::new([0; BUFFER_LEN]),
            next: 0,
        }
    }

    /// Opens the sockets and looks for interfaces. Must be called within the runtime.
    ///
    /// # Errors
    /// A port is in use, or nothing can be listened on.
    pub fn open(settings: &Network, now: Time) -> Result<Self, OpenNetError> {
        let mut net = Self {
            endpoints: open_sessions(&settings.listen)?,
            discovery_port: settings.discovery_port,
            multicast: settings.multicast,
            broadcast: settings.broadcast,
            filter: Filter {
                allowed: settings.interfaces.clone(),
                denied: settings.interfaces_denied.clone(),
            },
            ..Self::closed()
        };
        if settings.multicast || settings.broadcast {
            net.open_discovery();
        }
        net.refresh(now);
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

    /// Usable interfaces at the last look.
    #[must_use]
    pub const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counters(&self) -> NetCounters {
        self.counters
    }

    /// Waits until a datagram may be there; for ever without sockets.
    pub async fn readable(&self) {
        poll_fn(|cx| {
            let mut ready = Poll::Pending;
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
    pub fn receive(&mut self) -> Option<(Address, &[u8])> {
        let count = self.endpoints.len();
        let mut tries = 0;
        while tries < count {
            let endpoint = &self.endpoints[self.next % count];
            self.next = (self.next + 1) % count;
            match endpoint.socket.try_recv_from(&mut self.buffer[..]) {
                Ok((len, from)) => {
                    self.counters.datagrams_received += 1;
                    self.counters.bytes_received += len as u64;
                    if len <= MAX_DATAGRAM {
                        return Some((canonical(from), &self.buffer[..len]));
                    }
                    self.counters.oversized += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tries += 1,
                Err(error) => {
                    tracing::debug!(%error, local = %endpoint.local, "receiving failed");
                    tries += 1;
                }
            }
        }
        None
    }

    /// Sends a datagram, or counts why not.
    pub fn send(&mut self, transmit: &Transmit, now: Time) {
        match transmit.to {
            Destination::Address(Address::Udp(to)) => {
                let outcome = match self.session_of(Family::of(to)) {
                    Some(endpoint) => udp::send_to(&endpoint.socket, &transmit.payload, to),
                    None => Err(io::ErrorKind::AddrNotAvailable.into()),
                };
                self.count(outcome, to, now);
            }
            Destination::Everyone => self.send_to_everyone(&transmit.payload, now),
        }
    }

    /// Looks for interfaces again and joins the multicast groups on them; returns whether
    /// anything changed.
    pub fn refresh(&mut self, now: Time) -> bool {
        if self.endpoints.is_empty() {
            return false;
        }
        let found = match interfaces::usable(&self.filter) {
            Ok(found) => found,
            Err(error) => {
                if let Some(times) = self.interface_log.tell(now) {
                    tracing::warn!(%error, times, "the system does not tell its interfaces");
                }
                return false;
            }
        };
        let changed = found != self.interfaces;
        if changed {
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            tracing::info!(interfaces = names.join(" "), "interfaces in use");
        }
        self.interfaces = found;
        self.join_groups();
        changed
    }

    fn sessions(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| e.sends)
    }

    fn session_of(&self, family: Family) -> Option<&Endpoint> {
        self.sessions().find(|e| Family::of(e.local) == family)
    }

    /// Opens what hears beacons. Without it beacons go unheard, but everything else works.
    fn open_discovery(&mut self) {
        for family in [Family::V4, Family::V6] {
            let port = self.discovery_port;
            let Some(session) = self
                .endpoints
                .iter_mut()
                .find(|e| e.sends && Family::of(e.local) == family)
            else {
                continue;
            };
            if session.local.port() == port {
                session.membership = Some(Membership::new(family));
                continue;
            }
            let opened = udp::discovery_socket(family, port)
                .and_then(|socket| Ok((socket.local_addr()?, socket)));
            match opened {
                Ok((local, socket)) => {
                    let membership = Some(Membership::new(family));
                    self.endpoints.push(Endpoint {
                        socket,
                        local,
                        sends: false,
                        membership,
                    });
                }
                Err(error) => tracing::warn!(
                    %error, port, ?family,
                    "no socket for discovery: beacons of others will not be heard this way"
                ),
            }
        }
    }

    fn join_groups(&mut self) {
        let wanted = |family: Family| -> BTreeSet<u32> {
            self.interfaces
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
            for interface in self.interfaces.values() {
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
                if let Some(times) = self.send_log.tell(now) {
                    tracing::warn!(%error, %to, times, "datagrams could not be sent");
                }
            }
        }
    }
}

/// Opens the session sockets. Port 0 is resolved once and then asked for in every family.
fn open_sessions(listen: &[SocketAddr]) -> Result<Vec<Endpoint>, OpenNetError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for wanted in listen {
        let chosen = endpoints.first().map_or(0, |e| e.local.port());
        let opened = if wanted.port() == 0 && chosen != 0 {
            udp::session_socket(SocketAddr::new(wanted.ip(), chosen))
                .or_else(|_| udp::session_socket(*wanted))
        } else {
            udp::session_socket(*wanted)
        };
        match opened.and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok((local, socket)) => {
                endpoints.push(Endpoint {
                    socket,
                    local,
                    sends: true,
                    membership: None,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(OpenNetError::AddressInUse(*wanted));
            }
            Err(error) if wanted.ip().is_unspecified() && wanted.is_ipv6() => {
                tracing::info!(%error, "no IPv6 here");
            }
            Err(source) => {
                return Err(OpenNetError::Listen {
                    address: *wanted,
                    source,
                });
            }
        }
    }
    if endpoints.is_empty() {
        Err(OpenNetError::Nothing)
    } else {
        Ok(endpoints)
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
