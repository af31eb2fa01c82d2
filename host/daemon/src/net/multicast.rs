//! Membership of the discovery sockets in the multicast groups, interface by interface.
//!
//! IPv4 uses 239.255.71.47, in the administratively scoped range that routers keep local (RFC
//! 2365). IPv6 uses ff12::474f: link-local scope, and the flag of addresses that no registry
//! assigned (RFC 4291, section 2.7). 0x474f is 71.47.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::{InterfaceIndexOrAddress, SockRef};
use tokio::net::UdpSocket;

use super::udp::Family;

/// Where IPv4 beacons go.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 71, 47);
/// Where IPv6 beacons go.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x474f);

/// The interfaces on which one discovery socket is in the group.
#[derive(Debug)]
pub(super) struct Membership {
    family: Family,
    joined: BTreeSet<u32>,
}

impl Membership {
    /// A membership on no interface.
    #[must_use]
    pub(super) const fn new(family: Family) -> Self {
        Self {
            family,
            joined: BTreeSet::new(),
        }
    }

    /// The socket's family.
    #[must_use]
    pub(super) const fn family(&self) -> Family {
        self.family
    }

    /// Puts `socket` into the group on the interfaces `wanted`, by index, and on no other. One
    /// that fails is tried again at the next call.
    pub(super) fn set(&mut self, socket: &UdpSocket, wanted: &BTreeSet<u32>) {
        let gone: Vec<u32> = self.joined.difference(wanted).copied().collect();
        for index in gone {
            // The kernel forgets the membership of an interface that was removed.
            if let Err(error) = self.leave(socket, index) {
                tracing::debug!(index, %error, "leaving the multicast group failed");
            }
            self.joined.remove(&index);
        }
        let new: Vec<u32> = wanted.difference(&self.joined).copied().collect();
        for index in new {
            match self.join(socket, index) {
                Ok(()) => {
                    self.joined.insert(index);
                }
                // A membership that outlived its record is as good as a new one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    self.joined.insert(index);
                }
                Err(error) => {
                    tracing::debug!(index, %error, "joining the multicast group failed");
                }
            }
        }
    }

    fn join(&self, socket: &UdpSocket, index: u32) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match self.family {
            Family::V4 => {
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))
            }
            Family::V6 => socket.join_multicast_v6(&GROUP_V6, index),
        }
    }

    fn leave(&self, socket: &UdpSocket, index: u32) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match self.family {
            Family::V4 => {
                socket.leave_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))
            }
            Family::V6 => socket.leave_multicast_v6(&GROUP_V6, index),
        }
    }
}
