//! Opening the sockets at the start: which failure ends the daemon, and which is only told.
//!
//! Session sockets are what the settings ask for, so they must open; a missing address family is
//! no failure. What hears beacons only helps to find others.

use std::io;
use std::net::SocketAddr;

use super::Endpoint;
use super::multicast::Membership;
use super::udp::{self, Family};

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

/// Opens the session sockets. Port 0 is resolved once and then asked for in every family.
pub(super) fn sessions(listen: &[SocketAddr]) -> Result<Vec<Endpoint>, OpenNetError> {
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

/// Opens what hears beacons. Without it beacons go unheard, but everything else works.
pub(super) fn discovery(endpoints: &mut Vec<Endpoint>, port: u16) {
    for family in [Family::V4, Family::V6] {
        let Some(session) = endpoints
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
                endpoints.push(Endpoint {
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
