//! No key's version goes back at a replica, and no leader state beyond its cut is held.
//!
//! What a replica holds is compared with what it held after an input before: after each one that
//! changed it, but for each key at least a millisecond later than the last time, so that large
//! replicas are looked at about once a second. A version may be smaller, or a key be gone, only
//! - of leader state, where the table is of another tenure: it decides what counts;
//! - where the time is over for which a deletion, a value or an absent device's state is kept;
//! - of a counter, where a later boot of the same writer has taken over the sum;
//! - where the replica gave up what it held by rule, which the versions tell: it started over, or
//!   group time was set back;
//! - in another life of the device, which does not know what it held before.

use core::time::Duration;
use std::collections::BTreeMap;

use consort_proto::{GroupKey, HeldKey, HeldVersion, Time, Versions};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// By device and group.
    known: BTreeMap<(usize, GroupKey), Known>,
}

/// What a replica last held.
#[derive(Debug)]
struct Known {
    life: u32,
    revision: u64,
    versions: Versions,
    /// Not before then it is looked at again.
    next: Time,
}

/// A replica on a device: its number, the group.
type Place = (usize, GroupKey);

/// When, by virtual time and by group time.
type Moment = (Time, u64);

/// How long a key that is looked at keeps the next look waiting.
const PER_KEY: Duration = Duration::from_millis(1);

impl Forward {
    /// Whether a replica is to be shown to [`Forward::look`].
    pub(crate) fn is_news(&self, place: Place, life: u32, revision: u64, now: Time) -> bool {
        self.known.get(&place).is_none_or(|known| {
            known.life != life || (known.revision != revision && known.next <= now)
        })
    }

    /// Compares what a replica holds with what it held before.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub(crate) fn look(
        &mut self,
        place: Place,
        (life, revision): (u32, u64),
        (now, group_now): Moment,
        versions: Versions,
    ) -> Result<(), String> {
        let keys = u32::try_from(versions.held.len()).unwrap_or(u32::MAX);
        let known = Known {
            life,
            revision,
            versions,
            next: now + PER_KEY.saturating_mul(keys),
        };
        let verdict = match self.known.get(&place) {
            Some(before) if before.life == life => {
                compare(&before.versions, &known.versions, group_now)
            }
            Some(_) | None => Ok(()),
        };
        let beyond = known.versions.beyond.first();
        let verdict = verdict.and_then(|()| match beyond {
            Some(key) => Err(format!("leader state {key:?} lies beyond its cut")),
            None => Ok(()),
        });
        self.known.insert(place, known);
        verdict
    }
}

fn compare(before: &Versions, after: &Versions, now: u64) -> Result<(), String> {
    if before.line != after.line {
        return Ok(());
    }
    for (key, version) in &before.held {
        let later = after.held.get(key);
        let forward = match later {
            Some(later) => later.place >= version.place,
            None => is_over(version, now) || is_folded(key, after),
        };
        let retabled = matches!(key, HeldKey::Leader(_)) && before.table != after.table;
        if !forward && !retabled {
            return Err(format!("{key:?} goes back from {version:?} to {later:?}"));
        }
    }
    Ok(())
}

/// Whether the time has come from which a key may be without an entry.
const fn is_over(version: &HeldVersion, now: u64) -> bool {
    version.until != 0 && version.until <= now
}

/// Whether a later boot of the counter's writer is there.
fn is_folded(key: &HeldKey, after: &Versions) -> bool {
    let HeldKey::Counter(name, writer, boot) = key else {
        return false;
    };
    let end = HeldKey::Counter(name.clone(), *writer, u64::MAX);
    let later = after.held.range(key..=&end);
    later
        .into_iter()
        .any(|(later, _)| matches!(later, HeldKey::Counter(_, _, other) if other > boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: (usize, GroupKey) = (0, GroupKey::SYSTEM);
    const NOW: u64 = 1_000;

    fn shared() -> HeldKey {
        HeldKey::Shared("k".into())
    }

    fn counter(boot: u64) -> HeldKey {
        HeldKey::Counter("n".into(), 5, boot)
    }

    /// A replica that holds these: the number in its stream, and until when.
    fn versions(held: &[(HeldKey, u64, u64)]) -> Versions {
        let held = held.iter().map(|(key, n, until)| {
            let place = (0, (2, 5, 1), *n);
            let until = *until;
            (key.clone(), HeldVersion { place, until })
        });
        Versions {
            table: Some((1, 5)),
            held: held.collect(),
            ..Versions::default()
        }
    }

    /// What the checker says of the second of two sights of one life.
    fn verdict(before: Versions, after: Versions) -> Result<(), String> {
        let mut forward = Forward::default();
        let first = forward.look(AT, (1, 1), (Time::ZERO, NOW), before);
        first.expect("it is the first sight");
        forward.look(AT, (1, 2), (Time::ZERO, NOW), after)
    }

    fn goes_back(before: &[(HeldKey, u64, u64)], after: &[(HeldKey, u64, u64)]) -> bool {
        verdict(versions(before), versions(after)).is_err()
    }

    #[test]
    fn an_earlier_version_or_none_is_found() {
        assert!(!goes_back(&[(shared(), 7, 0)], &[(shared(), 7, 0)]));
        assert!(!goes_back(&[(shared(), 7, 0)], &[(shared(), 8, 0)]));
        assert!(goes_back(&[(shared(), 7, 0)], &[(shared(), 6, 0)]));
        assert!(goes_back(&[(shared(), 7, 0)], &[]));
        assert!(goes_back(&[(shared(), 7, NOW + 1)], &[]));
        assert!(!goes_back(&[(shared(), 7, NOW)], &[]), "its time is over");
        assert!(goes_back(&[(shared(), 7, NOW)], &[(shared(), 6, 0)]));
    }

    #[test]
    fn a_sum_goes_only_into_a_later_boots() {
        assert!(goes_back(&[(counter(3), 7, 0)], &[(counter(3), 6, 0)]));
        assert!(goes_back(&[(counter(3), 7, 0)], &[]));
        assert!(goes_back(&[(counter(3), 7, 0)], &[(counter(2), 9, 0)]));
        assert!(!goes_back(&[(counter(3), 7, 0)], &[(counter(4), 1, 0)]));
    }

    #[test]
    fn leader_state_goes_back_under_another_table_only() {
        let key = || HeldKey::Leader("k".into());
        let before = || versions(&[(key(), 7, 0), (shared(), 7, 0)]);
        let after = |table, shared_at| Versions {
            table: Some(table),
            ..versions(&[(key(), 6, 0), (shared(), shared_at, 0)])
        };
        assert!(verdict(before(), after((1, 5), 7)).is_err());
        assert!(verdict(before(), after((2, 5), 7)).is_ok());
        assert!(
            verdict(before(), after((2, 5), 6)).is_err(),
            "other state never"
        );
    }

    #[test]
    fn a_replica_that_began_anew_is_not_held_to_what_it_had() {
        let after = Versions {
            line: (0, 1),
            ..versions(&[])
        };
        assert!(verdict(versions(&[(shared(), 7, 0)]), after).is_ok());
        let mut forward = Forward::default();
        let at = (Time::ZERO, NOW);
        let first = forward.look(AT, (1, 1), at, versions(&[(shared(), 7, 0)]));
        let next = forward.look(AT, (2, 1), at, versions(&[]));
        assert_eq!((first, next), (Ok(()), Ok(())));
    }

    #[test]
    fn a_replica_is_looked_at_again_when_it_changed_and_its_keys_have_had_their_time() {
        let mut forward = Forward::default();
        let held = versions(&[(shared(), 7, 0), (counter(3), 1, 0)]);
        let ms = |ms: u64| Time::from_micros(ms * 1_000);
        assert!(forward.is_news(AT, 1, 1, Time::ZERO));
        let first = forward.look(AT, (1, 1), (Time::ZERO, NOW), held);
        assert_eq!(first, Ok(()));
        assert!(!forward.is_news(AT, 1, 1, ms(2)), "nothing changed");
        assert!(!forward.is_news(AT, 1, 2, ms(1)), "two keys");
        assert!(forward.is_news(AT, 1, 2, ms(2)));
        assert!(forward.is_news(AT, 2, 1, ms(1)), "another life");
    }

    #[test]
    fn what_lies_beyond_its_cut_is_found() {
        let beyond = Versions {
            beyond: vec!["k".into()],
            ..versions(&[])
        };
        let problem = verdict(versions(&[]), beyond).expect_err("a key lies beyond");
        assert!(problem.contains("beyond its cut"), "{problem}");
    }
}
