//! Which network interfaces are there, and which of them are used for discovery.
//!
//! An interface is usable when it is up and running, is not the loopback, and its name passes the
//! patterns. Denial wins: container bridges lead to no other device, whatever else is allowed.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};

/// Usable interfaces by name.
pub type Interfaces = BTreeMap<String, Interface>;

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
    pub ipv6_link_local: Vec<Ipv6Addr>,
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
    /// Whether an interface of this name may be used.
    #[must_use]
    pub fn admits(&self, name: &str) -> bool {
        let listed = |patterns: &[String]| patterns.iter().any(|p| matches_pattern(p, name));
        (self.allowed.is_empty() || listed(&self.allowed)) && !listed(&self.denied)
    }
}

/// Asks the system for its interfaces and keeps the usable ones.
///
/// # Errors
/// The system does not tell.
pub fn usable(filter: &Filter) -> io::Result<Interfaces> {
    let mut found = Interfaces::new();
    for entry in getifaddrs()? {
        if !is_up(entry.flags) || !filter.admits(&entry.interface_name) {
            continue;
        }
        // It may have gone since it was listed.
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else {
            continue;
        };
        let interface = found.entry(entry.interface_name.clone()).or_default();
        interface.index = index;
        interface.multicast = entry.flags.contains(InterfaceFlags::IFF_MULTICAST);
        add_address(interface, &entry);
    }
    found.retain(|_, i| !i.ipv4.is_empty() || !i.ipv6_link_local.is_empty());
    Ok(found)
}

fn is_up(flags: InterfaceFlags) -> bool {
    flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
        && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
}

fn add_address(interface: &mut Interface, entry: &InterfaceAddress) {
    let Some(address) = &entry.address else {
        return;
    };
    if let Some(v4) = address.as_sockaddr_in() {
        let broadcast = entry
            .broadcast
            .as_ref()
            .filter(|_| entry.flags.contains(InterfaceFlags::IFF_BROADCAST))
            .and_then(|b| b.as_sockaddr_in().map(|b| b.ip()));
        interface.ipv4.insert(v4.ip(), broadcast);
    } else if let Some(v6) = address.as_sockaddr_in6()
        && v6.ip().is_unicast_link_local()
    {
        interface.ipv6_link_local.push(v6.ip());
        interface.ipv6_link_local.sort_unstable();
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
        assert!(filter(&[], &bridges).admits("eth0"));
        assert!(!filter(&[], &bridges).admits("docker0"));
        assert!(!filter(&["*"], &bridges).admits("veth3"));
        assert!(filter(&["veth3"], &[]).admits("veth3"));
        assert!(!filter(&["wlan*"], &bridges).admits("eth0"));
        assert!(filter(&["wlan*"], &[]).admits("wlan0"));
    }

    #[test]
    fn the_loopback_is_never_usable() {
        let found = usable(&filter(&["lo"], &[])).expect("the system tells");
        assert_eq!(found, Interfaces::new());
        for (name, interface) in usable(&filter(&[], &[])).expect("the system tells") {
            assert!(interface.index > 0, "{name}");
        }
    }
}
