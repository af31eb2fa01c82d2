//! What Linux tells of interfaces by rtnetlink (rtnetlink(7)): that something changed, and which
//! IPv6 addresses are not usable yet.
//!
//! Of a change only the fact is taken; the interfaces are then looked at as a whole. So a message
//! that was lost, because more came than the socket held, is as good as one that arrived. An IPv6
//! address is tentative until duplicate address detection has ended (RFC 4862, section 5.4): until
//! then the kernel refuses to send from it, and that it has ended is a change too.
//!
//! The socket and the framing of messages are those of netlink-sys and netlink-packet-core. The few
//! numbers of rtnetlink that this takes, which the kernel keeps as they are for good, stand
//! below: netlink-packet-route would bring types for every table of routes and filters along.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::task::{Context, Poll};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::net::UdpSocket;

/// Multicast groups of rtnetlink: links, IPv4 addresses, IPv6 addresses (linux/rtnetlink.h).
const GROUPS: [u32; 3] = [1, 5, 9];
/// `struct nlmsghdr` (linux/netlink.h).
const HEADER_LEN: usize = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET6: u8 = 10;
/// `struct ifaddrmsg` (linux/if_addr.h): family, prefix length, flags, scope, index.
const ADDRESS_HEADER_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_FLAGS: u16 = 8;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// Larger than what the kernel puts into one datagram of a dump.
const BUFFER_LEN: usize = 64 * 1024;
/// Datagrams of one dump: thousands of addresses.
const DUMP_MAX: usize = 1024;

/// Hears of changes.
#[derive(Debug)]
pub(super) struct Watch {
    /// The runtime has no type for netlink. Of this one only readiness and recv(2) are asked, which
    /// are the same for every socket of datagrams.
    socket: UdpSocket,
}

impl Watch {
    /// Begins to listen. Must be called within the runtime.
    ///
    /// # Errors
    /// The system has no rtnetlink for this process.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        let socket = socket.as_fd().try_clone_to_owned()?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket })
    }

    /// Whether something may have been told.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    /// Whether anything was told since the last time; takes all of it.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub(super) fn take(&self) -> io::Result<bool> {
        let mut told = false;
        // What a message says is not read, so that its end may be cut off.
        let mut buffer = [0; 16];
        loop {
            match self.socket.try_recv(&mut buffer) {
                Ok(_) => told = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(told),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More came than it held: something changed.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => told = true,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The IPv6 addresses that cannot be sent from, by interface: tentative ones, and those of which
/// another device has a duplicate.
///
/// # Errors
/// The system does not tell.
pub(super) fn unusable_ipv6() -> io::Result<BTreeSet<(u32, Ipv6Addr)>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut found = BTreeSet::new();
    let mut buffer = vec![0; BUFFER_LEN];
    for _ in 0..DUMP_MAX {
        let len = socket.recv(&mut &mut buffer[..], 0)?;
        if read_dump(&buffer[..len], &mut found)? {
            return Ok(found);
        }
    }
    Err(io::Error::other("rtnetlink tells without end"))
}

/// Asks for all IPv6 addresses.
fn request() -> [u8; HEADER_LEN + ADDRESS_HEADER_LEN] {
    let mut message = [0; HEADER_LEN + ADDRESS_HEADER_LEN];
    message[HEADER_LEN] = AF_INET6;
    let len = message.len() as u32;
    let mut header = NetlinkBuffer::new(&mut message);
    header.set_length(len);
    header.set_message_type(RTM_GETADDR);
    header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    header.set_sequence_number(1);
    message
}

/// Reads one datagram of a dump; returns whether it was the last.
fn read_dump(mut datagram: &[u8], found: &mut BTreeSet<(u32, Ipv6Addr)>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::other("rtnetlink refuses to list addresses")),
            RTM_NEWADDR => found.extend(unusable(message.payload())),
            _ => {}
        }
        let len = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(len..).unwrap_or(&[]);
    }
    Ok(false)
}

/// The interface and address of an address message, if the address cannot be sent from.
fn unusable(payload: &[u8]) -> Option<(u32, Ipv6Addr)> {
    let (header, attributes) = payload.split_at_checked(ADDRESS_HEADER_LEN)?;
    if header[0] != AF_INET6 {
        return None;
    }
    let index = u32::from_ne_bytes(header[4..].try_into().ok()?);
    let mut flags = u32::from(header[2]);
    let mut address = None;
    for attribute in NlasIterator::new(attributes) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            IFA_ADDRESS => address = <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from),
            IFA_FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    // An optimistic address is sent from while it is tentative (RFC 4429).
    let waits = flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0;
    let is_unusable = waits || flags & IFA_F_DADFAILED != 0;
    address
        .filter(|_| is_unusable)
        .map(|address| (index, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address message as the kernel writes it.
    fn message(kind: u16, flags: u32, address: Ipv6Addr) -> Vec<u8> {
        // The flags in the header are a part of those in the attribute, which count.
        let mut body = vec![AF_INET6, 64, 0, 0];
        body.extend(3_u32.to_ne_bytes());
        for (kind, value) in [
            (IFA_ADDRESS, address.octets().to_vec()),
            (IFA_FLAGS, flags.to_ne_bytes().to_vec()),
        ] {
            body.extend((value.len() as u16 + 4).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        let mut message = vec![0; HEADER_LEN];
        message.extend(body);
        let len = message.len() as u32;
        let mut header = NetlinkBuffer::new(&mut message);
        header.set_length(len);
        header.set_message_type(kind);
        message
    }

    #[test]
    fn tentative_and_duplicate_addresses_are_found_in_a_dump() {
        let address = |last| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last);
        let mut datagram = Vec::new();
        for (flags, last) in [
            (0x80, 1),
            (IFA_F_TENTATIVE, 2),
            (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC, 3),
            (IFA_F_DADFAILED | 0x80, 4),
            (0x200, 5),
        ] {
            datagram.extend(message(RTM_NEWADDR, flags, address(last)));
        }
        let mut found = BTreeSet::new();
        assert!(!read_dump(&datagram, &mut found).expect("well-formed"));
        assert_eq!(found, BTreeSet::from([(3, address(2)), (3, address(4))]));
        let done = message(NLMSG_DONE, 0, address(0));
        assert!(read_dump(&done, &mut found).expect("well-formed"));
        read_dump(&message(NLMSG_ERROR, 0, address(0)), &mut found).expect_err("refused");
    }

    #[test]
    fn a_dump_that_is_cut_off_is_no_panic() {
        let whole = message(RTM_NEWADDR, IFA_F_TENTATIVE, Ipv6Addr::LOCALHOST);
        for len in 1..whole.len() {
            let mut found = BTreeSet::new();
            let outcome = read_dump(&whole[..len], &mut found);
            assert!(outcome.is_err() && found.is_empty(), "{len}");
        }
        for len in 0..whole.len() - HEADER_LEN {
            assert_eq!(unusable(&whole[HEADER_LEN..][..len]), None, "{len}");
        }
    }

    #[tokio::test]
    async fn the_system_tells_of_addresses_and_can_be_listened_to() {
        // The loopback's address is never tentative.
        let unusable = unusable_ipv6().expect("the system tells");
        assert!(unusable.iter().all(|(_, ip)| !ip.is_loopback()));
        let watch = Watch::open().expect("it can be listened to");
        // Something may happen on the machine meanwhile; that it can be asked is what counts.
        watch.take().expect("it is of use");
    }
}
