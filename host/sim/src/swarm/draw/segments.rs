//! Devices on several network segments: multicast stays within one, a few devices know one of
//! another segment by its address or its name, and links between segments may be slow, pass one
//! way only, or not at all but over others.

use core::time::Duration;

use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, LinkChange, Pair, True, Who};

impl Draw {
    /// Divides the devices. Each segment but the first has a device that knows one of an earlier
    /// segment, so that all find each other where links let them.
    pub(super) fn segments(&mut self) {
        let count = if self.plan.nodes > 3 && self.chance(40) {
            3
        } else {
            2
        };
        let mut segments: Vec<Vec<usize>> = (0..count).map(|first| vec![first]).collect();
        for node in count..self.plan.nodes {
            segments[self.rng.random_range(0..count)].push(node);
        }
        for segment in 1..count {
            for (place, node) in segments[segment].clone().into_iter().enumerate() {
                self.device(node).segment = segment as u32;
                if place == 0 || self.chance(40) {
                    let earlier = &segments[self.rng.random_range(0..segment)];
                    let door = earlier[self.rng.random_range(0..earlier.len())];
                    self.acquaint(node, door);
                }
            }
        }
        if self.chance(30) {
            let from = segments[0][self.rng.random_range(0..segments[0].len())];
            let to = segments[1][self.rng.random_range(0..segments[1].len())];
            self.acquaint(from, to);
        }
        for segment in 1..count {
            let inner = Who::Nodes(segments[segment].clone());
            let outer = Who::Nodes(segments[..segment].concat());
            self.between(inner, outer);
        }
    }

    fn acquaint(&mut self, node: usize, other: usize) {
        if self.chance(50) {
            self.device(node).seeds.push(other);
        } else {
            self.device(node).names.push(other);
        }
    }

    /// How one segment is connected to the earlier ones, from the beginning on.
    fn between(&mut self, inner: Who, outer: Who) {
        if self.chance(50) {
            let link = LinkChange {
                from: Some(inner.clone()),
                to: Some(outer.clone()),
                delay: Some(ms(self.rng.random_range(1..25))),
                jitter: Some(ms(self.rng.random_range(0..10))),
                loss: Some(f64::from(self.rng.random_range(0..8)) / 100.0),
                ..LinkChange::default()
            };
            self.push(Duration::ZERO, Action::Link(link));
        }
        if self.chance(40) {
            let some = |draw: &mut Self, who: &Who| match who {
                Who::Nodes(nodes) if draw.chance(60) => {
                    Who::Nodes(vec![nodes[draw.rng.random_range(0..nodes.len())]])
                }
                all => all.clone(),
            };
            let (mut from, mut to) = (some(self, &inner), some(self, &outer));
            if self.chance(50) {
                core::mem::swap(&mut from, &mut to);
            }
            let both = self.chance(40);
            let pair = Pair { from, to, both };
            self.push(Duration::ZERO, Action::Cut(pair.clone()));
            if self.chance(60) {
                let at = self.at();
                self.push(at, Action::Mend(pair));
            }
        } else if self.chance(30) {
            let at = self.at();
            self.push(at, Action::Partition(vec![nodes_of(&inner)]));
            self.undo(at, 20_000, Action::Heal(True));
        }
    }
}

fn nodes_of(who: &Who) -> Vec<usize> {
    match who {
        Who::Nodes(nodes) => nodes.clone(),
        Who::All | Who::Leader | Who::Followers => Vec::new(),
    }
}
