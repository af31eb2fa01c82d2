//! Which network interfaces are there, and which of them are used for discovery.
//!
//! An interface is usable when it is up and running, is not the loopback, its name passes the
//! patterns, and it has an address that can be sent from. Denial wins: container bridges lead to no
//! other device, whatever else is allowed. Of the others it is said why they are not used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{SockaddrIn, SockaddrStorage};

/// Usable interfaces by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// Interfaces that are not used, told at most: a host of containers has hundreds.
const REFUSED_MAX: usize = 64;

/// One usable interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The system's number of it.
    pub index: u32,
    /// Whether it carries multicast.
    pub multicast: bool,
    /// Its IPv4 addresses, each with its broadcast address if it has one.
    pub ipv4: BTreeMap<Ipv4Addr, Option<Ipv4Addr>>,
    /// Its link-local IPv6 addresses; without one it sends no link-local multicast.
    pub ipv6_link_local: BTreeSet<Ipv6Addr>,
    /// Its other IPv6 addresses: seeds may be reached from them.
    pub ipv6_routed: BTreeSet<Ipv6Addr>,
}

impl Interface {
    fn has_address(&self) -> bool {
        !(self.ipv4.is_empty() && self.ipv6_link_local.is_empty() && self.ipv6_routed.is_empty())
    }
}

/// Why an interface is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its name matches this pattern of `network.interfaces_denied`.
    Denied(String),
    /// Its name matches none of `network.interfaces`.
    NotAllowed,
    /// It is not up, or has no carrier.
    Down,
    /// It has no address yet.
    NoAddress,
    /// Its IPv6 addresses are being checked for duplicates, and it has no other.
    Tentative,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(pattern) => write!(f, "denied by network.interfaces_denied ({pattern})"),
            Self::NotAllowed => f.write_str("not among network.interfaces"),
            Self::Down => f.write_str("down, or without carrier"),
            Self::NoAddress => f.write_str("without an address"),
            Self::Tentative => f.write_str("its IPv6 address is being checked for duplicates"),
        }
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What is used.
    pub usable: Interfaces,
    /// What is not, the loopback apart; the first 64 by name.
    pub refused: BTreeMap<String, Refusal>,
}

/// Which names may be used.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Patterns of which one must match; empty allows all.
    pub allowed: Vec<String>,
    /// Patterns of which none may match.
    pub denied: Vec<String>,
}

impl Filter {
    /// Why an interface of this name may not be used; none if it may.
    #[must_use]
    pub fn refuses(&self, name: &str) -> Option<Refusal> {
        let listed = |patterns: &[String]| {
            let found = patterns.iter().find(|p| matches_pattern(p, name));
            found.cloned()
        };
        if let Some(pattern) = listed(&self.denied) {
            return Some(Refusal::Denied(pattern));
        }
        let allowed = self.allowed.is_empty() || listed(&self.allowed).is_some();
        (!allowed).then_some(Refusal::NotAllowed)
    }
}

/// Asks the system for its interfaces.
///
/// # Errors
/// The system does not tell.
pub fn survey(filter: &Filter) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let unusable = unusable_ipv6()?;
    for entry in getifaddrs()? {
        if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let name = entry.interface_name.as_str();
        let down = (!is_up(entry.flags)).then_some(Refusal::Down);
        if let Some(refusal) = filter.refuses(name).or(down) {
            survey.refused.insert(name.to_owned(), refusal);
            continue;
        }
        // It may have gone since it was listed.
        let Ok(index) = if_nametoindex(name) else {
            continue;
        };
        let interface = survey.usable.entry(name.to_owned()).or_default();
        interface.index = index;
        interface.multicast = entry.flags.contains(InterfaceFlags::IFF_MULTICAST);
        add_address(interface, &entry, &unusable);
    }
    let waiting = |interface: &Interface| {
        let mut unusable = unusable.iter();
        unusable.any(|(index, _)| *index == interface.index)
    };
    for (name, interface) in survey.usable.extract_if(.., |_, i| !i.has_address()) {
        let refusal = if waiting(&interface) {
            Refusal::Tentative
        } else {
            Refusal::NoAddress
        };
        survey.refused.insert(name, refusal);
    }
    while survey.refused.len() > REFUSED_MAX {
        survey.refused.pop_last();
    }
    Ok(survey)
}

#[cfg(target_os = "linux")]
fn unusable_ipv6() -> io::Result<BTreeSet<(u32, Ipv6Addr)>> {
    // A system without rtnetlink tells of no duplicate check; sending from such an address fails
    // for a second or two, which is counted.
    Ok(super::netlink::unusable_ipv6().unwrap_or_else(|error| {
        tracing::debug!(%error, "the system does not tell which addresses are being checked");
        BTreeSet::new()
    }))
}

#[cfg(not(target_os = "linux"))]
fn unusable_ipv6() -> io::Result<BTreeSet<(u32, Ipv6Addr)>> {
    Ok(BTreeSet::new())
}

fn is_up(flags: InterfaceFlags) -> bool {
    flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
}

/// Where all of an address's network are reached: as the system tells, else what its mask makes of
/// it, which the system takes for a broadcast all the same. Networks of two or one have none.
fn broadcast_of(
    address: Ipv4Addr,
    told: Option<Ipv4Addr>,
    mask: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let told = told.filter(|told| !told.is_unspecified() && *told != address);
    let hosts = mask.map(|mask| !mask.to_bits());
    let made = hosts.filter(|hosts| *hosts > 1 && *hosts != u32::MAX);
    told.or(made.map(|hosts| Ipv4Addr::from_bits(address.to_bits() | hosts)))
}

fn add_address(
    interface: &mut Interface,
    entry: &InterfaceAddress,
    unusable: &BTreeSet<(u32, Ipv6Addr)>,
) {
    let Some(address) = &entry.address else {
        return;
    };
    if let Some(v4) = address.as_sockaddr_in() {
        let v4_of = |address: Option<&SockaddrStorage>| {
            let address = address.and_then(SockaddrStorage::as_sockaddr_in);
            address.map(SockaddrIn::ip)
        };
        let (told, mask) = (
            v4_of(entry.broadcast.as_ref()),
            v4_of(entry.netmask.as_ref()),
        );
        let broadcast = entry.flags.contains(InterfaceFlags::IFF_BROADCAST);
        let broadcast = broadcast
            .then(|| broadcast_of(v4.ip(), told, mask))
            .flatten();
        interface.ipv4.insert(v4.ip(), broadcast);
    } else if let Some(v6) = address.as_sockaddr_in6() {
        if unusable.contains(&(interface.index, v6.ip())) {
            return;
        }
        if v6.ip().is_unicast_link_local() {
            interface.ipv6_link_local.insert(v6.ip());
        } else {
            interface.ipv6_routed.insert(v6.ip());
        }
    }
}

/// Whether `name` matches `pattern`, in which each `*` stands for any characters.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allowed: &[&str], denied: &[&str]) -> Filter {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Filter {
            allowed: own(allowed),
            denied: own(denied),
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("eth0", "eth0"),
            ("eth*", "eth0"),
            ("*", "x"),
            ("*0", "wlan0"),
            ("e*h*0", "eth10"),
        ] {
            assert!(matches_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("eth0", "eth01"),
            ("eth", "eth0"),
            ("eth*", "wlan0"),
            ("*1", "eth0"),
            ("", "eth0"),
            ("a*a", "a"),
        ] {
            assert!(!matches_pattern(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_must_be_allowed_and_not_denied() {
        let bridges = ["docker*", "veth*"];
        let admits = |filter: Filter, name| filter.refuses(name).is_none();
        assert!(admits(filter(&[], &bridges), "eth0"));
        assert!(admits(filter(&["veth3"], &[]), "veth3"));
        assert!(admits(filter(&["wlan*"], &[]), "wlan0"));
        let denied = Some(Refusal::Denied("docker*".to_owned()));
        assert_eq!(filter(&[], &bridges).refuses("docker0"), denied);
        let denied = Some(Refusal::Denied("veth*".to_owned()));
        assert_eq!(filter(&["*"], &bridges).refuses("veth3"), denied);
        let strange = filter(&["wlan*"], &bridges).refuses("eth0");
        assert_eq!(strange, Some(Refusal::NotAllowed));
    }

    #[test]
    fn bridges_of_container_tools_are_denied_by_default() {
        let defaults: toml::Table = crate::config::DEFAULTS.parse().expect("well-formed");
        let denied = defaults["network"]["interfaces_denied"].as_array();
        let denied = denied.expect("a list").iter().filter_map(|p| p.as_str());
        let denied: Vec<&str> = denied.collect();
        let filter = filter(&[], &denied);
        for name in [
            "docker0",
            "docker_gwbridge",
            "br-5f3a9c1d2e4b",
            "veth1a2b3c4",
            "vethwe-bridge",
            "virbr0",
            "virbr0-nic",
            "vnet3",
            "podman0",
            "podman1",
            "nerdctl0",
            "cni0",
            "cni-podman0",
            "flannel.1",
            "cali12ab34cd56e",
            "cilium_host",
            "cilium_net",
            "weave",
            "kube-bridge",
            "kube-ipvs0",
            "lxcbr0",
            "lxdbr0",
            "incusbr0",
        ] {
            assert!(filter.refuses(name).is_some(), "{name}");
        }
        for name in [
            "eth0",
            "eth10",
            "enp3s0",
            "enx001122334455",
            "eno1",
            "ens33",
            "wlan0",
            "wlp2s0",
            "wlx0",
            "br0",
            "bond0",
            "team0",
            "wwan0",
            "usb0",
            "end0",
            "lan1",
            "eth0.10",
            "bat0",
            "wg0",
            "tailscale0",
        ] {
            assert_eq!(filter.refuses(name), None, "{name}");
        }
    }

    #[test]
    fn a_broadcast_address_follows_from_the_mask_where_none_is_set() {
        let ip = |last| Ipv4Addr::new(10, 1, 2, last);
        let mask = |bits: u32| Some(Ipv4Addr::from_bits(u32::MAX << (32 - bits)));
        assert_eq!(broadcast_of(ip(3), Some(ip(255)), mask(24)), Some(ip(255)));
        assert_eq!(broadcast_of(ip(3), None, mask(24)), Some(ip(255)));
        let unset = Some(Ipv4Addr::UNSPECIFIED);
        assert_eq!(broadcast_of(ip(3), unset, mask(28)), Some(ip(15)));
        for (told, mask) in [(None, mask(31)), (Some(ip(3)), mask(32)), (None, None)] {
            assert_eq!(broadcast_of(ip(3), told, mask), None);
        }
    }

    #[test]
    fn the_loopback_is_never_usable() {
        let found = survey(&filter(&["lo"], &[])).expect("the system tells");
        assert_eq!(found.usable, Interfaces::new());
        assert!(!found.refused.contains_key("lo"));
        let found = survey(&filter(&[], &[])).expect("the system tells");
        for (name, interface) in found.usable {
            assert!(interface.index > 0 && interface.has_address(), "{name}");
            assert!(!found.refused.contains_key(&name), "{name}");
        }
        let none = survey(&filter(&[], &["*"])).expect("the system tells");
        assert_eq!(none.usable, Interfaces::new());
        let denied = Refusal::Denied("*".to_owned());
        assert!(none.refused.values().all(|refusal| *refusal == denied));
    }
}
