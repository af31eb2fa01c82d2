//! What is noticed of bad plugins: by a good one beside them, and in the daemons' memory.

use std::fs;
use std::time::{Duration, Instant};

use super::PROBE;
use crate::log::Log;
use crate::{Device, Group};

/// How often the good plugin asks each other device, in a second.
const ASKS_PER_SECOND: u32 = 20;

/// What half of the good plugin's round trips stay below, whatever misbehaves beside it. They take about
/// a millisecond, beside bad ones a few; on a machine that does much else this is not reached either,
/// but by a daemon that works for a bad plugin while others wait.
pub const MEDIAN_MAX: Duration = Duration::from_millis(50);

/// The good plugin's round trips from a moment on, at every device.
#[derive(Debug)]
pub struct Noticed<'a> {
    group: &'a Group,
    marks: Vec<usize>,
    since: Instant,
}

impl<'a> Noticed<'a> {
    /// From now on.
    #[must_use]
    pub fn from_now(group: &'a Group) -> Self {
        Self {
            group,
            marks: group.marks(),
            since: Instant::now(),
        }
    }

    /// How far the devices' logs had come.
    #[must_use]
    pub fn marks(&self) -> &[usize] {
        &self.marks
    }

    /// Half of what the good plugin asked came back sooner than this, at the device where it took the
    /// longest; what did not come back took for ever. Few that are missing are on their way.
    #[must_use]
    pub fn median(&self) -> Duration {
        let others = self.group.devices.len() as u32 - 1;
        let asked = self.since.elapsed().as_secs_f64() * f64::from(others * ASKS_PER_SECOND);
        let devices = self.group.devices.iter().zip(&self.marks);
        let medians = devices.map(|(device, mark)| {
            let mut trips = round_trips(device.log(), *mark);
            trips.sort_unstable();
            let half = asked as usize / 2;
            trips.get(half).copied().unwrap_or(Duration::MAX)
        });
        medians.max().unwrap_or(Duration::MAX)
    }

    /// Nobody noticed anything: the good plugins run as they did, no role of theirs changed, nobody was
    /// removed, and half of the round trips took less than [`MEDIAN_MAX`].
    ///
    /// # Panics
    /// Somebody did.
    #[track_caller]
    pub fn assert_nothing(&self, of: &str) {
        no_role_changed(self.group, &self.marks);
        for device in &self.group.devices {
            let probe = device.plugin(PROBE).expect("it is there");
            let state = (&probe["state"], &probe["generation"]);
            assert_eq!(state, (&"running".into(), &1.into()), "{of}: {probe}");
            assert!(probe["last_fault"].is_null(), "{of}: {probe}");
        }
        let median = self.median();
        assert!(median < MEDIAN_MAX, "{of}: half take {median:?} and more");
    }
}

/// No role of the good plugins changed since the marks, nobody was removed.
///
/// # Panics
/// One changed, or somebody was.
#[track_caller]
pub fn no_role_changed(group: &Group, marks: &[usize]) {
    let changed = group.role_change(&group.all_but(&[]), marks);
    assert!(changed.is_none(), "{changed:?}");
    for (device, mark) in group.devices.iter().zip(marks) {
        let removed = |line: &crate::log::Line| {
            line.message.starts_with("member ") && line.message != "member added"
        };
        let removed = device.log().find(*mark, removed);
        assert!(removed.is_none(), "{}: {removed:?}", device.name());
    }
}

/// How long each of the good plugin's round trips took that ended after a mark.
#[must_use]
pub fn round_trips(log: &Log, mark: usize) -> Vec<Duration> {
    let lines = log.since(mark).into_iter();
    let own = lines.filter(|line| line.is_by_plugin(PROBE));
    own.filter_map(|line| {
        let micros = line.message.strip_prefix("round trip ")?;
        micros.parse().ok().map(Duration::from_micros)
    })
    .collect()
}

/// The memory of each daemon of a group, in KiB.
#[derive(Clone, Debug)]
pub struct Memory(Vec<u64>);

impl Memory {
    /// What is resident.
    ///
    /// # Panics
    /// A daemon does not run.
    #[must_use]
    pub fn resident(group: &Group) -> Self {
        Self(group.devices.iter().map(|d| figure(d, "VmRSS:")).collect())
    }

    /// The most that was resident at any instant since [`Memory::forget_peak`].
    ///
    /// # Panics
    /// A daemon does not run.
    #[must_use]
    pub fn peak(group: &Group) -> Self {
        Self(group.devices.iter().map(|d| figure(d, "VmHWM:")).collect())
    }

    /// The peak is counted from here on.
    ///
    /// # Panics
    /// A daemon does not run.
    pub fn forget_peak(group: &Group) {
        for device in &group.devices {
            let path = format!("/proc/{}/clear_refs", device.pid());
            fs::write(path, "5").expect("it is our child");
        }
    }

    /// By how much this is more than `before`, in MiB, rounded up, at the device where it is the most.
    #[must_use]
    pub fn above(&self, before: &Self) -> u64 {
        let pairs = self.0.iter().zip(&before.0);
        let grown = pairs.map(|(now, before)| now.saturating_sub(*before));
        grown.max().unwrap_or(0).div_ceil(1024)
    }
}

/// A figure of a daemon's status, in KiB.
fn figure(device: &Device, name: &str) -> u64 {
    let path = format!("/proc/{}/status", device.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("a figure").parse().expect("a number")
}
