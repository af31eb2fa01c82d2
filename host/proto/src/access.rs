//! Which devices are admitted besides holding the group secret.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::id::{DeviceId, NodeId};
use crate::mutant::{self, Mutant};

/// How many devices each of the two lists may name.
pub const ACCESS_MAX: usize = 4096;

/// The devices that this one has sessions with. Without lists it is every device that holds the
/// group secret; a device on both lists is refused.
///
/// Each device applies its own lists. One that is to be kept out of a group is denied at every
/// member, and the group's secret is rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    allow: Option<BTreeSet<DeviceId>>,
    deny: BTreeSet<DeviceId>,
    allowed_nodes: BTreeSet<NodeId>,
    denied_nodes: BTreeSet<NodeId>,
}

/// A list of devices is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a list names {0} devices, and at most {ACCESS_MAX} are kept")]
pub struct TooManyDevices(pub usize);

impl Access {
    /// Admits the devices in `allow`, or all without one, and of these none in `deny`.
    ///
    /// # Errors
    /// A list has more than [`ACCESS_MAX`] devices.
    pub fn new(
        allow: Option<BTreeSet<DeviceId>>,
        deny: BTreeSet<DeviceId>,
    ) -> Result<Self, TooManyDevices> {
        let longest = allow.as_ref().map_or(0, BTreeSet::len).max(deny.len());
        if longest > ACCESS_MAX {
            return Err(TooManyDevices(longest));
        }
        let nodes = |list: &BTreeSet<DeviceId>| list.iter().map(DeviceId::node).collect();
        Ok(Self {
            allowed_nodes: allow.as_ref().map(nodes).unwrap_or_default(),
            denied_nodes: nodes(&deny),
            allow,
            deny,
        })
    }

    /// The only devices that are admitted, if they are named.
    #[must_use]
    pub const fn allow(&self) -> Option<&BTreeSet<DeviceId>> {
        self.allow.as_ref()
    }

    /// The devices that are refused.
    #[must_use]
    pub const fn deny(&self) -> &BTreeSet<DeviceId> {
        &self.deny
    }

    /// The devices that are admitted by name, if any are named: those that a secret may be given
    /// to which others who hold the former one must not get.
    pub(crate) fn named(&self) -> Option<BTreeSet<DeviceId>> {
        let allow = self.allow.as_ref()?;
        Some(allow.difference(&self.deny).copied().collect())
    }

    /// Whether a device is admitted.
    #[must_use]
    pub fn admits(&self, device: &DeviceId) -> bool {
        let allowed = self.allow.as_ref();
        let denied = self.deny.contains(device) && !mutant::is(Mutant::DenyListIgnored);
        let missing = allowed.is_some_and(|allow| !allow.contains(device));
        (!missing || mutant::is(Mutant::AllowListIgnored)) && !denied
    }

    /// The same by the prefix of the id, for devices of which nothing else is known.
    pub(crate) fn admits_node(&self, node: NodeId) -> bool {
        let allowed = self.allow.is_none()
            || self.allowed_nodes.contains(&node)
            || mutant::is(Mutant::AllowListIgnored);
        let denied = self.denied_nodes.contains(&node) && !mutant::is(Mutant::DenyListIgnored);
        allowed && !denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PublicKey;

    fn device(n: u16) -> DeviceId {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        PublicKey::new(key)
            .expect("no point of low order")
            .device_id()
    }

    #[test]
    fn the_lists_admit_and_deny() {
        let list = |devices: &[u16]| devices.iter().map(|n| device(*n)).collect();
        for (allow, deny, admitted) in [
            (None, vec![], vec![1, 2, 3]),
            (None, vec![2], vec![1, 3]),
            (Some(vec![1, 2]), vec![], vec![1, 2]),
            (Some(vec![1, 2]), vec![2], vec![1]),
            (Some(vec![]), vec![], vec![]),
        ] {
            let allow: Option<Vec<u16>> = allow;
            let access = Access::new(allow.map(|allow| list(&allow)), list(&deny));
            let access = access.expect("short lists");
            for n in 1..=3 {
                assert_eq!(access.admits(&device(n)), admitted.contains(&n), "{n}");
                assert_eq!(access.admits_node(device(n).node()), admitted.contains(&n));
            }
            let named = access.allow().map(|_| list(&admitted));
            assert_eq!(access.named(), named);
        }
    }

    #[test]
    fn lists_are_bounded() {
        let many: BTreeSet<DeviceId> = (0..=ACCESS_MAX as u16).map(device).collect();
        let refused = Err(TooManyDevices(ACCESS_MAX + 1));
        assert_eq!(Access::new(None, many.clone()), refused);
        assert_eq!(Access::new(Some(many), BTreeSet::new()), refused);
    }
}
