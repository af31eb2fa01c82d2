//! Replicas are opened for the plugins that come, and make room for one another.
//!
//! A replica whose plugin is away goes on being held, up to a bound. Beyond it the one that was away
//! the longest goes, first among the plugins that keep nothing, since the other members have what
//! those held; what a plugin asked to keep is laid aside in the form in which it is kept on the disk, and taken up from there when the
//! plugin is back: the disk is only read at a start. Either way the device goes on under a new
//! stamp. In a stream that it had written before, a replica that is opened anew would give numbers
//! out twice.

use super::{Kept, REPLICAS_MAX, States};
use crate::id::GroupKey;
use crate::replication::{Replica, Setup};
use crate::state::StateConfig;

impl States {
    /// The replica of a group, opened if need be. None if no room can be made for it.
    pub(super) fn open(
        &mut self,
        group: GroupKey,
        config: StateConfig,
        now: u64,
    ) -> Option<&mut Kept> {
        if !self.kept.contains_key(&group) {
            if self.kept.len() >= REPLICAS_MAX {
                self.make_room()?;
            }
            let replica = self.load(group, config, now);
            self.kept.insert(group, Kept::new(replica, config));
        }
        self.kept.get_mut(&group)
    }

    fn load(&mut self, group: GroupKey, config: StateConfig, now: u64) -> Replica {
        let setup = Setup {
            group,
            me: self.me,
            stamp: self.stamp,
            config,
        };
        let laid_aside = self.aside.remove(&group);
        let again = laid_aside.is_some();
        let stored = laid_aside.or_else(|| self.stored.remove(&group));
        let (mut replica, unread) = Replica::load(setup, &stored.unwrap_or_default(), now);
        if unread > 0 {
            tracing::warn!(
                unread,
                "kept state that cannot be read is left out; it comes from other members"
            );
        }
        if again {
            // The disk may have failed to take some of it.
            replica.soil_all();
        }
        replica
    }

    /// Takes the replica of a plugin that is away out of the way, if there is one that may go.
    fn make_room(&mut self) -> Option<()> {
        let room_aside = self.aside.len() < REPLICAS_MAX;
        let away = self.kept.iter().filter(|(_, kept)| !kept.active);
        let may_go = away.filter(|(_, kept)| !kept.config.persist || room_aside);
        let first = may_go.min_by_key(|(_, kept)| {
            let unwritten = kept.replica.is_dirty() || kept.keeping.is_behind();
            (kept.config.persist, unwritten, kept.away_since)
        });
        let group = first.map(|(group, _)| *group)?;
        let kept = self.kept.remove(&group)?;
        self.stamp = self.stamp.max(kept.replica.writes_under()).next();
        if kept.config.persist {
            self.aside.insert(group, kept.replica.into_records());
        }
        Some(())
    }
}
