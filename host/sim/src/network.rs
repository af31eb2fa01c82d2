//! The network between the nodes: who reaches whom, how late, and what gets lost on the way.
//!
//! Every directed pair of nodes has a link. A datagram passes it unless the pair is cut, the two
//! nodes are on different sides of a partition, or chance (loss, a burst) takes it. Jitter alone
//! reorders datagrams; `reorder` holds single ones back by much more. What a node sends to itself
//! always arrives.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use consort_proto::{Time, micros};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::plan::span;

/// How one direction of a link behaves. Chances are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// The least time a datagram takes.
    #[serde(with = "span::text")]
    pub delay: Duration,
    /// Added to the delay, evenly distributed from zero to this.
    #[serde(with = "span::text")]
    pub jitter: Duration,
    /// The chance that a datagram is lost.
    pub loss: f64,
    /// The chance that a datagram arrives twice.
    pub duplicate: f64,
    /// The chance that a datagram is held back by up to 20 ms more.
    pub reorder: f64,
    /// The chance that one bit of a datagram is flipped.
    pub corrupt: f64,
    /// Bytes a second, of UDP payload. What comes faster waits in a queue of 64 KiB; what finds it
    /// full is lost. None: as fast as may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// Loss in bursts, on top of `loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

/// Loss by Gilbert's model, in time: a link goes in and out of bursts, within which most is lost.
///
/// Lengths are evenly distributed from zero to twice the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// The mean time from the end of one burst to the next.
    #[serde(with = "span::text")]
    pub gap: Duration,
    /// The mean time that a burst lasts.
    #[serde(with = "span::text")]
    pub length: Duration,
    /// The chance that a datagram within a burst is lost.
    pub loss: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self::lan()
    }
}

impl Link {
    /// A quiet wired network.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            bandwidth: None,
            burst: None,
        }
    }

    /// A busy wireless network: slow at times, with loss, doubled and late datagrams.
    #[must_use]
    pub const fn wireless() -> Self {
        Self {
            delay: Duration::from_millis(2),
            jitter: Duration::from_millis(12),
            loss: 0.03,
            duplicate: 0.01,
            reorder: 0.02,
            corrupt: 0.0,
            bandwidth: None,
            burst: None,
        }
    }

    /// This link with another chance of loss.
    #[must_use]
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }
}

/// Whether a link is within a burst, and until when it stays so.
#[derive(Clone, Copy, Debug)]
struct Weather {
    bad: bool,
    until: Time,
}

/// At most two copies of a datagram, each with its delay.
pub(crate) type Copies = [Option<(Duration, Bytes)>; 2];

/// All links and faults.
#[derive(Debug)]
pub(crate) struct Network {
    usual: Link,
    special: BTreeMap<(usize, usize), Link>,
    cut: BTreeSet<(usize, usize)>,
    /// Links and devices that flap and are down at the moment.
    flapped: BTreeSet<(usize, usize)>,
    unplugged: BTreeSet<usize>,
    sides: BTreeMap<usize, usize>,
    weather: BTreeMap<(usize, usize), Weather>,
    /// Until when the queue of a link with a bandwidth is busy.
    busy: BTreeMap<(usize, usize), Time>,
    rng: ChaCha12Rng,
}

const REORDER_EXTRA: Duration = Duration::from_millis(20);
/// What waits for a link with a bandwidth.
const QUEUE_BYTES: usize = 64 << 10;
const LOOPBACK: Duration = Duration::from_micros(20);

impl Network {
    pub(crate) const fn new(usual: Link, rng: ChaCha12Rng) -> Self {
        Self {
            usual,
            special: BTreeMap::new(),
            cut: BTreeSet::new(),
            flapped: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            sides: BTreeMap::new(),
            weather: BTreeMap::new(),
            busy: BTreeMap::new(),
            rng,
        }
    }

    /// Changes every link that has no settings of its own.
    pub(crate) const fn set_usual(&mut self, link: Link) {
        self.usual = link;
    }

    /// Forgets the settings that single links have of their own.
    pub(crate) fn forget_special(&mut self) {
        self.special.clear();
    }

    /// Whether every link behaves the same and lets everything through.
    pub(crate) fn is_plain(&self) -> bool {
        self.special.is_empty()
            && self.cut.is_empty()
            && self.flapped.is_empty()
            && self.unplugged.is_empty()
            && self.sides.is_empty()
    }

    /// How one direction of one pair behaves.
    pub(crate) fn link(&self, from: usize, to: usize) -> &Link {
        self.special.get(&(from, to)).unwrap_or(&self.usual)
    }

    /// A flapping link goes down or up.
    pub(crate) fn set_flapped(&mut self, from: usize, to: usize, down: bool) {
        if down {
            self.flapped.insert((from, to));
        } else {
            self.flapped.remove(&(from, to));
        }
    }

    /// A device's network goes down or up.
    pub(crate) fn set_unplugged(&mut self, node: usize, down: bool) {
        if down {
            self.unplugged.insert(node);
        } else {
            self.unplugged.remove(&node);
        }
    }

    /// Changes one direction of one pair.
    pub(crate) fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.special.insert((from, to), link);
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    /// Separates the nodes into sides. Nodes that are not named share a side of their own.
    pub(crate) fn partition(&mut self, sides: &[&[usize]]) {
        self.sides.clear();
        for (side, nodes) in sides.iter().enumerate() {
            self.sides.extend(nodes.iter().map(|node| (*node, side)));
        }
    }

    /// Ends the partition and all cuts, and brings up what flaps.
    pub(crate) fn heal(&mut self) {
        self.sides.clear();
        self.cut.clear();
        self.flapped.clear();
        self.unplugged.clear();
    }

    /// Whether a datagram may pass at all.
    pub(crate) fn connects(&self, from: usize, to: usize) -> bool {
        from == to
            || (self.sides.get(&from) == self.sides.get(&to)
                && !self.cut.contains(&(from, to))
                && !self.flapped.contains(&(from, to))
                && !self.unplugged.contains(&from)
                && !self.unplugged.contains(&to))
    }

    /// What arrives of a datagram, and when.
    pub(crate) fn carry(&mut self, now: Time, from: usize, to: usize, payload: &Bytes) -> Copies {
        if from == to {
            return [Some((LOOPBACK, payload.clone())), None];
        }
        if !self.connects(from, to) {
            return [None, None];
        }
        let link = *self.link(from, to);
        let Some(queued) = self.queue(now, (from, to), &link, payload.len()) else {
            return [None, None];
        };
        if self.loses(now, (from, to), &link) {
            return [None, None];
        }
        let copy =
            |rng: &mut ChaCha12Rng| Some((queued + delay(rng, &link), spoil(rng, &link, payload)));
        let first = copy(&mut self.rng);
        let second = if chance(&mut self.rng, link.duplicate) {
            copy(&mut self.rng)
        } else {
            None
        };
        [first, second]
    }

    /// How long a datagram waits for the link and is on it; none if the queue is full.
    fn queue(
        &mut self,
        now: Time,
        pair: (usize, usize),
        link: &Link,
        len: usize,
    ) -> Option<Duration> {
        let Some(rate) = link.bandwidth else {
            return Some(Duration::ZERO);
        };
        let takes = |bytes: usize| Duration::from_micros(bytes as u64 * 1_000_000 / rate.max(1));
        let busy = self.busy.entry(pair).or_insert(now);
        let waits = busy.since(now);
        if waits > takes(QUEUE_BYTES) {
            return None;
        }
        *busy = now + waits + takes(len);
        Some(waits + takes(len))
    }

    fn loses(&mut self, now: Time, pair: (usize, usize), link: &Link) -> bool {
        let mut lost = chance(&mut self.rng, link.loss);
        if let Some(burst) = link.burst {
            lost |= self.is_bad(now, pair, &burst) && chance(&mut self.rng, burst.loss);
        }
        lost
    }

    fn is_bad(&mut self, now: Time, pair: (usize, usize), burst: &Burst) -> bool {
        let rng = &mut self.rng;
        let weather = self.weather.entry(pair).or_insert(Weather {
            bad: true,
            until: now,
        });
        // What nobody sent into makes no difference: one change stands for all that were missed.
        if weather.until <= now {
            weather.bad = !weather.bad;
            let mean = if weather.bad { burst.length } else { burst.gap };
            weather.until =
                now + Duration::from_micros(rng.random_range(1..=2 * micros(mean).max(1)));
        }
        weather.bad
    }
}

fn chance(rng: &mut ChaCha12Rng, probability: f64) -> bool {
    probability > 0.0 && rng.random_bool(probability.min(1.0))
}

fn delay(rng: &mut ChaCha12Rng, link: &Link) -> Duration {
    let jitter = rng.random_range(0..=micros(link.jitter));
    let mut delay = link.delay + Duration::from_micros(jitter);
    if chance(rng, link.reorder) {
        delay += Duration::from_micros(rng.random_range(0..=micros(REORDER_EXTRA)));
    }
    delay
}

fn spoil(rng: &mut ChaCha12Rng, link: &Link, payload: &Bytes) -> Bytes {
    if payload.is_empty() || !chance(rng, link.corrupt) {
        return payload.clone();
    }
    let mut spoilt = BytesMut::from(&payload[..]);
    let bit = rng.random_range(0..payload.len() * 8);
    spoilt[bit / 8] ^= 1 << (bit % 8);
    spoilt.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn network(link: Link) -> Network {
        Network::new(link, Seed(1).stream("test", 0))
    }

    fn arriving(network: &mut Network, from: usize, to: usize, count: usize) -> usize {
        let payload = Bytes::from_static(b"payload");
        (0..count)
            .map(|_| {
                network
                    .carry(Time::ZERO, from, to, &payload)
                    .iter()
                    .flatten()
                    .count()
            })
            .sum()
    }

    #[test]
    fn loss_and_duplication_have_their_rates() {
        let mut lossy = network(Link::lan().with_loss(0.2));
        let arrived = arriving(&mut lossy, 0, 1, 10_000);
        assert!((7_800..8_200).contains(&arrived), "{arrived}");
        let mut doubling = network(Link {
            duplicate: 0.5,
            ..Link::lan()
        });
        let arrived = arriving(&mut doubling, 0, 1, 10_000);
        assert!((14_700..15_300).contains(&arrived), "{arrived}");
    }

    #[test]
    fn delay_stays_within_its_bounds_and_varies() {
        let mut net = network(Link::lan());
        let payload = Bytes::from_static(b"x");
        let delays: BTreeSet<Duration> = (0..100)
            .flat_map(|_| net.carry(Time::ZERO, 0, 1, &payload).into_iter().flatten())
            .map(|(delay, _)| delay)
            .collect();
        assert!(delays.len() > 50, "{}", delays.len());
        assert!(
            delays.first() >= Some(&Duration::from_micros(200)),
            "{delays:?}"
        );
        assert!(
            delays.last() <= Some(&Duration::from_micros(500)),
            "{delays:?}"
        );
    }

    #[test]
    fn partitions_separate_both_ways_and_cuts_one_way() {
        let mut net = network(Link::lan());
        net.partition(&[&[0, 1], &[2]]);
        assert!(net.connects(0, 1) && !net.connects(0, 2) && !net.connects(2, 1));
        assert!(
            net.connects(3, 4) && !net.connects(3, 0),
            "the unnamed share a side"
        );
        net.heal();
        net.cut(0, 1);
        assert!(!net.connects(0, 1) && net.connects(1, 0));
        assert_eq!(arriving(&mut net, 0, 1, 50), 0);
        net.mend(0, 1);
        assert_eq!(arriving(&mut net, 0, 1, 50), 50);
        assert!(net.connects(5, 5));
    }

    #[test]
    fn a_narrow_link_queues_and_then_drops() {
        let mut net = network(Link {
            bandwidth: Some(100_000),
            jitter: Duration::ZERO,
            ..Link::lan()
        });
        let payload = Bytes::from(vec![0u8; 1000]);
        let delays: Vec<Option<Duration>> = (0..100)
            .map(|_| {
                net.carry(Time::ZERO, 0, 1, &payload)[0]
                    .as_ref()
                    .map(|copy| copy.0)
            })
            .collect();
        let through = delays.iter().flatten().count();
        assert_eq!(through, 66, "64 KiB wait, one is on the link");
        for (i, delay) in delays.iter().flatten().enumerate() {
            let expected = Duration::from_micros(200 + (i as u64 + 1) * 10_000);
            assert_eq!(*delay, expected);
        }
        let later = Time::from_micros(2_000_000);
        assert!(net.carry(later, 0, 1, &payload)[0].is_some(), "it drains");
    }

    #[test]
    fn what_flaps_is_down_for_a_while() {
        let mut net = network(Link::lan());
        net.set_unplugged(1, true);
        net.set_flapped(2, 3, true);
        assert!(!net.connects(0, 1) && !net.connects(1, 0) && net.connects(1, 1));
        assert!(!net.connects(2, 3) && net.connects(3, 2));
        net.set_unplugged(1, false);
        net.set_flapped(2, 3, false);
        assert!(net.connects(0, 1) && net.connects(2, 3));
    }

    #[test]
    fn a_spoilt_datagram_differs_in_one_bit() {
        let mut net = network(Link {
            corrupt: 1.0,
            ..Link::lan()
        });
        let payload = Bytes::from(vec![0u8; 40]);
        let [Some((_, spoilt)), None] = net.carry(Time::ZERO, 0, 1, &payload) else {
            panic!("one copy arrives");
        };
        assert_eq!(spoilt.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }

    #[test]
    fn bursts_lose_neighbours() {
        let (gap, length) = (Duration::from_millis(900), Duration::from_millis(100));
        let burst = Burst {
            gap,
            length,
            loss: 1.0,
        };
        let mut net = network(Link {
            burst: Some(burst),
            ..Link::lan()
        });
        let payload = Bytes::from_static(b"x");
        let mut is_lost =
            |ms: u64| net.carry(Time::from_micros(ms * 1000), 0, 1, &payload)[0].is_none();
        let lost: Vec<bool> = (0..100_000).map(&mut is_lost).collect();
        let total = lost.iter().filter(|lost| **lost).count();
        let pairs = lost.windows(2).filter(|pair| pair[0] && pair[1]).count();
        assert!((8_000..12_000).contains(&total), "{total} of 100,000");
        assert!(
            pairs * 10 > total * 9,
            "{pairs} of {total} losses follow a loss"
        );
    }
}
