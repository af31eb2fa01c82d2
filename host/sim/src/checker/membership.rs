//! Members are added once and removed once, and never is a device a member of itself or of a group
//! whose secret it lacks.

use std::collections::{BTreeMap, BTreeSet};

use consort_proto::DeviceId;

use super::{Checker, Observation, Place, ensure};

#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// The group secret of every device that was ever started.
    groups: BTreeMap<DeviceId, Option<[u8; 16]>>,
    members: BTreeMap<usize, BTreeSet<DeviceId>>,
}

impl Checker for Membership {
    fn observe(&mut self, place: &Place<'_>, seen: &Observation<'_>) -> Result<(), String> {
        let members = self.members.entry(place.node).or_default();
        match seen {
            Observation::Started => {
                members.clear();
                self.groups.insert(place.device, place.group.copied());
                Ok(())
            }
            Observation::MemberAdded(device) => {
                ensure(*device != place.device, || "a member of itself".into())?;
                ensure(members.insert(*device), || {
                    format!("{device:?} is a member twice")
                })?;
                let theirs = self.groups.get(device).and_then(Option::as_ref);
                let shares = theirs.is_some() && theirs == place.group;
                ensure(shares, || {
                    format!("{device:?} is a member without the group's secret")
                })
            }
            Observation::MemberRemoved(device) => ensure(members.remove(device), || {
                format!("{device:?} was no member")
            }),
            Observation::PluginStarted { .. }
            | Observation::WritesLost
            | Observation::Sent { .. }
            | Observation::Told { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{device, place};
    use super::*;

    #[test]
    fn members_come_once_and_share_the_secret() {
        let mut checker = Membership::default();
        let stranger = Place {
            group: Some(&[2; 16]),
            ..place(9)
        };
        for at in [place(7), place(8), stranger] {
            checker
                .observe(&at, &Observation::Started)
                .expect("starts are fine");
        }
        let mut see = |seen| checker.observe(&place(7), &seen);
        assert_eq!(see(Observation::MemberAdded(device(8))), Ok(()));
        assert!(see(Observation::MemberAdded(device(8))).is_err_and(|p| p.contains("twice")));
        assert!(see(Observation::MemberAdded(device(7))).is_err_and(|p| p.contains("itself")));
        assert!(see(Observation::MemberAdded(device(9))).is_err_and(|p| p.contains("secret")));
        assert_eq!(see(Observation::MemberRemoved(device(8))), Ok(()));
        assert!(see(Observation::MemberRemoved(device(8))).is_err_and(|p| p.contains("no member")));
    }
}
