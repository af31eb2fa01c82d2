//! A run in a few numbers.

use core::time::Duration;
use std::collections::BTreeMap;

use consort_proto::{PluginId, Time};

use crate::seed::Seed;
use crate::timeline::{Lane, LaneRole, LaneState, Stretch, Timeline};

/// A run in a few numbers. All are functions of the plan and the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number that decided the run.
    pub seed: Seed,
    /// Devices, without copies and strangers.
    pub nodes: usize,
    /// How long it ran, in virtual time.
    pub simulated: Duration,
    /// How often a device began to lead a plugin that another device had led before, anywhere.
    pub leader_changes: u64,
    /// For how long, from the first leader of each plugin on, at least one running device that had
    /// followed before followed nobody, or one who was down. Summed over plugins.
    pub leaderless: Duration,
    /// How often parts that each had devices running came together and agreed.
    pub heals: usize,
    /// The median of the time from reach to agreement; none without a heal.
    pub heal_p50: Option<Duration>,
    /// Its 99th percentile.
    pub heal_p99: Option<Duration>,
    /// The longest.
    pub heal_most: Option<Duration>,
    /// Deliveries due: for each message, the receivers that its sender knew when it was sent.
    pub sent: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Deliveries due and not made.
    pub lost: u64,
    /// Deliveries of a message to a plugin that had it already.
    pub duplicates: u64,
    /// Writes to replicated state that were taken in.
    pub writes: u64,
    /// UDP payload that each device sent, on average; a datagram to everyone counts once.
    pub bytes_per_node_per_s: u64,
    /// Broken properties.
    pub violations: usize,
}

/// What became of all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    pub(crate) due: u64,
    pub(crate) made: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

/// How often the leader of any plugin changed.
pub(crate) fn leader_changes(timeline: &Timeline) -> u64 {
    let mut begins: BTreeMap<&PluginId, Vec<(Time, usize)>> = BTreeMap::new();
    for (node, lane) in timeline.lanes.iter().enumerate() {
        for (plugin, roles) in &lane.roles {
            let mut led_until = None;
            for role in roles {
                if matches!(role.what, LaneRole::Leader { .. }) {
                    if led_until != Some(role.from) {
                        begins.entry(plugin).or_default().push((role.from, node));
                    }
                    led_until = Some(role.to);
                }
            }
        }
    }
    let changes = |mut begins: Vec<(Time, usize)>| {
        begins.sort_unstable();
        begins
            .windows(2)
            .filter(|pair| pair[0].1 != pair[1].1)
            .count() as u64
    };
    begins.into_values().map(changes).sum()
}

/// For how long someone was without a leader.
pub(crate) fn leaderless(timeline: &Timeline) -> Duration {
    let mut gaps: BTreeMap<&PluginId, Vec<(Time, Time)>> = BTreeMap::new();
    for lane in &timeline.lanes {
        for (plugin, roles) in &lane.roles {
            let plugin_gaps = gaps.entry(plugin).or_default();
            for state in lane.states.iter().filter(|s| s.what == LaneState::Up) {
                plugin_gaps.extend(gaps_within(timeline, state, lane, roles));
            }
        }
    }
    gaps.into_values().map(union).sum()
}

/// The gaps of one plugin while its device runs, from its first tenure of that life on.
fn gaps_within(
    timeline: &Timeline,
    state: &Stretch<LaneState>,
    lane: &Lane,
    roles: &[Stretch<LaneRole>],
) -> Vec<(Time, Time)> {
    let begin = life_of(lane, state.from);
    let led = |role: &&Stretch<LaneRole>| role.from >= begin && role.from < state.to;
    let mut gaps = Vec::new();
    let mut covered: Option<Time> = None;
    for role in roles.iter().filter(led) {
        let (from, to) = (role.from.max(state.from), role.to.min(state.to));
        if let Some(until) = covered
            && until.max(state.from) < from
        {
            gaps.push((until.max(state.from), from));
        }
        covered = Some(covered.map_or(to, |until| until.max(to)));
        if let LaneRole::Follower { leader, .. } = role.what {
            gaps.extend(absences(timeline, leader, from, to));
        }
    }
    if let Some(until) = covered
        && until < state.to
    {
        gaps.push((until.max(state.from), state.to));
    }
    gaps.retain(|(from, to)| from < to);
    gaps
}

/// When the process began that runs at `at`: states of one process follow each other at once.
fn life_of(lane: &Lane, at: Time) -> Time {
    let mut begin = at;
    for state in lane.states.iter().rev() {
        if state.to == begin {
            begin = state.from;
        }
    }
    begin
}

/// When a device did not run between two times.
fn absences(timeline: &Timeline, node: usize, from: Time, to: Time) -> Vec<(Time, Time)> {
    let Some(lane) = timeline.lanes.get(node) else {
        return Vec::new();
    };
    let mut absent = Vec::new();
    let mut at = from;
    for state in lane.states.iter().filter(|s| s.what == LaneState::Up) {
        if state.to <= at || state.from >= to {
            continue;
        }
        if state.from > at {
            absent.push((at, state.from));
        }
        at = state.to;
    }
    if at < to {
        absent.push((at, to));
    }
    absent
}

/// The length of what the stretches cover together.
fn union(mut stretches: Vec<(Time, Time)>) -> Duration {
    stretches.sort_unstable();
    let (mut total, mut until) = (Duration::ZERO, Time::ZERO);
    for (from, to) in stretches {
        total += to.since(from.max(until));
        until = until.max(to);
    }
    total
}

/// The healing times, the shortest first.
pub(crate) fn healing_times(timeline: &Timeline) -> Vec<Duration> {
    let mut times: Vec<Duration> = timeline
        .heals
        .iter()
        .filter_map(|heal| Some(heal.healed?.since(heal.at)))
        .collect();
    times.sort_unstable();
    times
}

/// The smallest value that is at least as large as `percent` of 100; none of none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    const fn stretch<T>(from: u64, to: u64, what: T) -> Stretch<T> {
        Stretch {
            from: at(from),
            to: at(to),
            what,
        }
    }

    fn lane(states: &[(u64, u64)], roles: &[(u64, u64, LaneRole)]) -> Lane {
        let plugin = PluginId::new("app").expect("valid");
        let roles = roles
            .iter()
            .map(|(from, to, role)| stretch(*from, *to, *role));
        Lane {
            name: String::new(),
            states: states
                .iter()
                .map(|(f, t)| stretch(*f, *t, LaneState::Up))
                .collect(),
            roles: BTreeMap::from([(plugin, roles.collect())]),
        }
    }

    #[test]
    fn a_vacancy_is_counted_once_and_from_the_death_on() {
        let follows = |leader, term| LaneRole::Follower { leader, term };
        let timeline = Timeline {
            end: at(100),
            lanes: vec![
                lane(
                    &[(0, 50)],
                    &[
                        (2, 20, LaneRole::Leader { term: 1 }),
                        (20, 50, LaneRole::Leader { term: 2 }),
                    ],
                ),
                lane(
                    &[(0, 100)],
                    &[
                        (2, 52, follows(0, 1)),
                        (53, 100, LaneRole::Leader { term: 3 }),
                    ],
                ),
                lane(
                    &[(0, 100)],
                    &[(3, 51, follows(0, 1)), (54, 100, follows(1, 3))],
                ),
            ],
            ..Timeline::default()
        };
        assert_eq!(leader_changes(&timeline), 1);
        assert_eq!(
            leaderless(&timeline),
            Duration::from_secs(4),
            "from 50 to 54"
        );
    }

    #[test]
    fn devices_that_never_followed_do_not_count() {
        let timeline = Timeline {
            end: at(10),
            lanes: vec![
                lane(&[(0, 10)], &[]),
                lane(&[(0, 10)], &[(4, 10, LaneRole::Leader { term: 1 })]),
            ],
            ..Timeline::default()
        };
        assert_eq!(leaderless(&timeline), Duration::ZERO);
        assert_eq!(leader_changes(&timeline), 0);
    }

    #[test]
    fn the_percentile_is_one_of_the_values() {
        assert_eq!(percentile(&[], 99), None);
        let ms = Duration::from_millis;
        for percent in [1, 50, 100] {
            assert_eq!(percentile(&[ms(5)], percent), Some(ms(5)));
        }
        let two_hundred: Vec<_> = (1..=200).map(ms).collect();
        let at = |percent| percentile(&two_hundred, percent);
        assert_eq!(
            (at(50), at(99), at(100)),
            (Some(ms(100)), Some(ms(198)), Some(ms(200)))
        );
    }
}
