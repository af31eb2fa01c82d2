//! The shape of the fan-out tree.
//!
//! Every member has a position, a hash of its id and of the message, so each message has a tree of
//! its own and the work spreads. The sender cuts all positions into a few ranges with equally many
//! of the members it knows, and gives each range, with the message, to the range's first member;
//! that one cuts the rest of its range among the members *it* knows, and so on. Ranges keep the tree
//! sound where views differ: whoever is responsible for a range supplies everyone it knows there,
//! and nobody is supplied twice.

use blake2::digest::consts::U16;
use blake2::{Blake2s, Digest};

use crate::cost::BRANCHES;
use crate::id::{BootId, GroupKey, NodeId};
use crate::wire::part::DIGEST_LEN;

/// All positions.
pub(crate) const EVERYONE: (u64, u64) = (0, u64::MAX);

/// Nobody: the receiver passes nothing on.
pub(crate) const NOBODY: (u64, u64) = (1, 0);

/// Where a member stands in the tree of message `seq` of `origin`. Different members never share a
/// position, since every step is one to one.
pub(crate) fn position(member: NodeId, origin: NodeId, seq: u64) -> u64 {
    mix(member.0 ^ mix(origin.0 ^ mix(seq)))
}

/// The members to supply and the range that each is responsible for, out of `members`, which are
/// those within `range`.
pub(crate) fn branches(
    range: (u64, u64),
    mut members: Vec<(u64, NodeId)>,
) -> Vec<(NodeId, (u64, u64))> {
    members.retain(|(at, _)| (range.0..=range.1).contains(at));
    members.sort_unstable();
    let per_branch = members.len().div_ceil(BRANCHES).max(1);
    let mut branches = Vec::new();
    let mut chunks = members.chunks(per_branch).peekable();
    while let Some(chunk) = chunks.next() {
        let Some((first, member)) = chunk.first() else {
            continue;
        };
        // A range begins behind its member, so that nobody below supplies those above, and reaches
        // to the next one, so that it covers members not known here.
        let end = match chunks.peek().and_then(|next| next.first()) {
            Some((next, _)) => next - 1,
            None => range.1,
        };
        branches.push((*member, (first.saturating_add(1), end)));
    }
    branches
}

/// What the sender of a message tells each receiver of its payload: whoever gets the payload from
/// another member can tell that it is the sender's.
pub(crate) fn digest(
    (group, epoch): (GroupKey, u64),
    (origin, boot, seq): (NodeId, BootId, u64),
    payload: &[u8],
) -> [u8; DIGEST_LEN] {
    let mut hash = Blake2s::<U16>::new();
    hash.update(b"consort message v1");
    for number in [group.0, epoch, origin.0, boot.0, seq] {
        hash.update(number.to_be_bytes());
    }
    hash.update(payload);
    hash.finalize().into()
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014), one to one on 64 bits.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn view(members: &[u64], seq: u64) -> Vec<(u64, NodeId)> {
        let place = |member: &u64| (position(NodeId(*member), NodeId(0), seq), NodeId(*member));
        members.iter().map(place).collect()
    }

    /// How often each member is supplied, and the deepest level, if member `m` knows `views(m)`.
    fn spread(seq: u64, views: impl Fn(u64) -> Vec<u64>) -> (BTreeMap<u64, u32>, u32) {
        let mut supplied = BTreeMap::new();
        let mut depth = 0;
        let mut open = vec![(0, EVERYONE, 0)];
        while let Some((member, range, level)) = open.pop() {
            depth = depth.max(level);
            let known: Vec<u64> = views(member).into_iter().filter(|m| *m != member).collect();
            for (child, part) in branches(range, view(&known, seq)) {
                *supplied.entry(child.0).or_default() += 1;
                open.push((child.0, part, level + 1));
            }
        }
        (supplied, depth)
    }

    #[test]
    fn everyone_is_supplied_once_in_few_steps() {
        for count in [1, 2, 5, 21, 100, 1000] {
            for seq in 0..5 {
                let members: Vec<u64> = (1..=count).collect();
                let (supplied, depth) = spread(seq, |_| members.clone());
                assert_eq!(supplied.len() as u64, count);
                assert!(supplied.values().all(|times| *times == 1), "{supplied:?}");
                assert!(
                    BRANCHES.pow(depth - 1) as u64 <= count,
                    "{count}: depth {depth}"
                );
            }
        }
    }

    #[test]
    fn views_that_differ_supply_nobody_twice() {
        // Members 90 to 100 joined: only the even ones know of them.
        let (old, new): (Vec<u64>, Vec<u64>) = ((1..90).collect(), (1..=100).collect());
        for seq in 0..20 {
            let views = |member: u64| {
                if member.is_multiple_of(2) {
                    new.clone()
                } else {
                    old.clone()
                }
            };
            let (supplied, _) = spread(seq, views);
            assert!(supplied.values().all(|times| *times == 1), "{supplied:?}");
            assert!((1..90).all(|member| supplied.contains_key(&member)));
        }
    }

    #[test]
    fn the_work_spreads_over_messages() {
        let members: Vec<u64> = (1..=100).collect();
        let mut first: BTreeMap<NodeId, u32> = BTreeMap::new();
        for seq in 0..1_000 {
            for (member, _) in branches(EVERYONE, view(&members, seq)) {
                *first.entry(member).or_default() += 1;
            }
        }
        let most = first.values().max().copied().unwrap_or(0);
        assert!(
            first.len() == 100 && most < 100,
            "{most} of 4000 for one of 100"
        );
    }

    #[test]
    fn a_digest_tells_every_part_of_a_message() {
        let (group, origin, boot) = (GroupKey(1), NodeId(2), BootId(3));
        let base = digest((group, 4), (origin, boot, 5), b"payload");
        let others = [
            digest((GroupKey(9), 4), (origin, boot, 5), b"payload"),
            digest((group, 9), (origin, boot, 5), b"payload"),
            digest((group, 4), (NodeId(9), boot, 5), b"payload"),
            digest((group, 4), (origin, BootId(9), 5), b"payload"),
            digest((group, 4), (origin, boot, 9), b"payload"),
            digest((group, 4), (origin, boot, 5), b"Payload"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
