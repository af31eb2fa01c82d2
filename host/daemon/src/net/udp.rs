//! UDP sockets as the daemon opens them.
//!
//! A *session socket* carries everything that is sent and all unicast that is received; it has its
//! address for itself, so that a second daemon on the same port is told so. A *discovery socket*
//! only hears multicast and broadcast on the discovery port, which all daemons of a machine share.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(target_os = "linux")]
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg, setsockopt,
    sockopt,
};
#[cfg(target_os = "linux")]
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel is asked to buffer. It grants what its own limit allows; a burst of beacons and
/// heartbeats must fit while the daemon is busy elsewhere.
const BUFFER_BYTES: usize = 1 << 20;

/// Address families, each with sockets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub(super) const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    const fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    const fn any(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            Self::V6 => SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        }
    }
}

/// Opens a session socket. What it sends by multicast stays on the link and also reaches the other
/// daemons of this machine.
///
/// # Errors
/// The address is in use or not this machine's, or the family is missing.
pub(super) fn session_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = Family::of(address);
    let socket = new_socket(family)?;
    match family {
        Family::V4 => {
            socket.set_broadcast(true)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        }
        Family::V6 => {
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    bind(socket, address)
}

/// Opens a discovery socket, shared with the other daemons of this machine. It hears the groups
/// that it joins itself, and IPv4 broadcasts.
///
/// # Errors
/// A program that does not share the port has it, or the family is missing.
pub(super) fn discovery_socket(family: Family, port: u16) -> io::Result<UdpSocket> {
    let socket = new_socket(family)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    #[cfg(target_os = "linux")]
    match family {
        Family::V4 => {
            socket.set_multicast_all_v4(false)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Family::V6 => socket.set_multicast_all_v6(false)?,
    }
    bind(socket, family.any(port))
}

/// Chooses the interface of the next IPv4 multicast by one of its addresses.
///
/// # Errors
/// The address is not this machine's any more.
pub(super) fn send_by(socket: &UdpSocket, interface: Ipv4Addr) -> io::Result<()> {
    SockRef::from(socket).set_multicast_if_v4(&interface)
}

/// Sends at once or not at all. The kernel is asked in any case: what the runtime knows of a
/// socket's readiness lags behind, and would refuse the first datagram of a new socket.
pub(super) fn send_to(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> io::Result<usize> {
    SockRef::from(socket).send_to(payload, &to.into())
}

/// A datagram as the kernel hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Its length.
    pub(super) len: usize,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// The interface it came by. Linux says so of a discovery socket for IPv4, on which everything
    /// that the machine gets is heard, from interfaces included that are not to be used.
    pub(super) by: Option<u32>,
    /// When it came in, in microseconds since the Unix epoch by the wall clock then.
    pub(super) stamp: Option<u64>,
}

/// Room for what the kernel says of a datagram besides: allocated once, used for each.
#[cfg(target_os = "linux")]
pub(super) fn space() -> Vec<u8> {
    nix::cmsg_space!(nix::libc::in_pktinfo, nix::libc::timespec)
}

/// Room for what the kernel says of a datagram besides, which is nothing here.
#[cfg(not(target_os = "linux"))]
pub(super) fn space() -> Vec<u8> {
    Vec::new()
}

/// The next datagram that is there already.
///
/// # Errors
/// There is none, or the socket failed.
#[cfg(target_os = "linux")]
pub(super) fn receive(
    socket: &UdpSocket,
    family: Family,
    buffer: &mut [u8],
    space: &mut [u8],
) -> io::Result<Received> {
    socket.try_io(Interest::READABLE, || match family {
        Family::V4 => {
            receive_as::<SockaddrIn>(socket, buffer, space, |from| SocketAddr::V4(from.into()))
        }
        Family::V6 => {
            receive_as::<SockaddrIn6>(socket, buffer, space, |from| SocketAddr::V6(from.into()))
        }
    })
}

/// The next datagram that is there already.
///
/// # Errors
/// There is none, or the socket failed.
#[cfg(not(target_os = "linux"))]
pub(super) fn receive(
    socket: &UdpSocket,
    _: Family,
    buffer: &mut [u8],
    _: &mut [u8],
) -> io::Result<Received> {
    let (len, from) = socket.try_recv_from(buffer)?;
    Ok(Received {
        len,
        from,
        by: None,
        stamp: None,
    })
}

#[cfg(target_os = "linux")]
fn receive_as<A: SockaddrLike>(
    socket: &UdpSocket,
    buffer: &mut [u8],
    space: &mut [u8],
    address: impl Fn(A) -> SocketAddr,
) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<A>(socket.as_raw_fd(), &mut parts, Some(space), flags)?;
    let (mut by, mut stamp) = (None, None);
    for told in received.cmsgs()? {
        match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => by = u32::try_from(info.ipi_ifindex).ok(),
            ControlMessageOwned::ScmTimestampns(time) => stamp = micros(&time),
            _ => {}
        }
    }
    let from = received.address.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received {
        len: received.bytes,
        from: address(from),
        by,
        stamp,
    })
}

#[cfg(target_os = "linux")]
fn micros(time: &TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanos = u64::try_from(time.tv_nsec()).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(nanos / 1_000)
}

fn new_socket(family: Family) -> io::Result<Socket> {
    let socket = Socket::new(family.domain(), Type::DGRAM, Some(Protocol::UDP))?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    // The limits are the system's; a smaller buffer only loses more under bursts.
    if let Err(error) = socket.set_recv_buffer_size(BUFFER_BYTES) {
        tracing::debug!(%error, "the receive buffer keeps its size");
    }
    if let Err(error) = socket.set_send_buffer_size(BUFFER_BYTES) {
        tracing::debug!(%error, "the send buffer keeps its size");
    }
    // Without stamps a datagram counts as arrived when it is read.
    #[cfg(target_os = "linux")]
    if let Err(error) = setsockopt(&socket, sockopt::ReceiveTimestampns, &true) {
        tracing::debug!(%error, "the kernel does not say when datagrams arrive");
    }
    Ok(socket)
}

fn bind(socket: Socket, address: SocketAddr) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_socket_has_its_address_for_itself() {
        let first = session_socket("127.0.0.1:0".parse().expect("an address")).expect("opens");
        let address = first.local_addr().expect("bound");
        let error = session_socket(address).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn discovery_sockets_share_their_port() {
        let first = discovery_socket(Family::V4, 0).expect("opens");
        let port = first.local_addr().expect("bound").port();
        discovery_socket(Family::V4, port).expect("opens beside the first");
    }
}
