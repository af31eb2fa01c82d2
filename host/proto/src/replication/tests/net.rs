//! A few replicas and a network between them that loses, repeats and reorders.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::super::*;
use crate::id::PublicKey;
use crate::state::{Origin, Scope, StateChange, StateOutcome, StateWrite};
use crate::wire::state::{Purpose, StateVector};

pub(super) const GROUP: GroupKey = GroupKey(7);
pub(super) const START: u64 = 1_700_000_000_000_000;
pub(super) const SECOND: u64 = 1_000_000;
pub(super) const HOUR: u64 = 3600 * SECOND;

pub(super) fn device(i: usize) -> DeviceId {
    let mut key = [9; 32];
    key[0] = i as u8;
    PublicKey::new(key)
        .expect("no point of low order")
        .device_id()
}

pub(super) fn node(i: usize) -> NodeId {
    device(i).node()
}

pub(super) fn setup(i: usize, boot: u64) -> Setup {
    Setup {
        group: GROUP,
        me: device(i),
        stamp: Stamp((boot << 32) | i as u64),
        config: StateConfig::default(),
    }
}

pub(super) fn tenure(epoch: u64, leader: usize) -> Tenure {
    Tenure {
        epoch,
        leader: node(leader),
    }
}

pub(super) fn put(scope: Scope, key: &str, value: &str) -> StateWrite {
    StateWrite::Put {
        scope,
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl_ms: None,
    }
}

pub(super) fn delete(scope: Scope, key: &str) -> StateWrite {
    StateWrite::Delete {
        scope,
        key: key.into(),
    }
}

pub(super) fn add(name: &str, delta: i64) -> StateWrite {
    StateWrite::Add {
        name: name.into(),
        delta,
    }
}

pub(super) type Content = BTreeMap<(Origin, String), StateOutcome>;

pub(super) fn content(changes: Vec<StateChange>) -> Content {
    let pairs = changes.into_iter();
    pairs
        .map(|c| ((c.origin, c.key.to_string()), c.outcome))
        .collect()
}

pub(super) fn value(replica: &Replica, now: u64, origin: Origin, key: &str) -> Option<String> {
    let all = content(replica.whole(now));
    match all.get(&(origin, key.to_owned()))? {
        StateOutcome::Put { value, .. } => Some(String::from_utf8_lossy(value).into_owned()),
        StateOutcome::Counted(sum) => Some(sum.to_string()),
        StateOutcome::Deleted | StateOutcome::Expired => None,
    }
}

/// Hands parcels to a replica.
pub(super) fn give(now: u64, to: &mut Replica, sender: NodeId, parcels: Vec<Parcel>) -> bool {
    let mut more = false;
    for parcel in parcels {
        let _ = match parcel {
            Parcel::Delta(delta) => {
                more |= delta.more;
                to.merge(now, sender, &delta)
            }
            Parcel::Chunk(chunk) => to.merge_chunk(now, sender, chunk),
        };
    }
    more
}

/// Several replicas.
pub(super) struct Net {
    pub(super) now: u64,
    pub(super) replicas: Vec<Replica>,
    pub(super) rng: ChaCha12Rng,
    /// Which side of a partition each is on.
    pub(super) side: Vec<u8>,
    /// Per mille of parcels and vectors.
    pub(super) loss: u32,
    held_back: Vec<(usize, usize, Parcel)>,
    boots: u64,
    epoch: u64,
    pub(super) leaders: BTreeMap<u8, (usize, Tenure)>,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut net = Self {
            now: START,
            replicas: (0..count).map(|i| Replica::new(setup(i, 1))).collect(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            side: vec![0; count],
            loss: 0,
            held_back: Vec::new(),
            boots: 1,
            epoch: 0,
            leaders: BTreeMap::new(),
        };
        for i in 0..count {
            for j in 0..count {
                net.replicas[i].set_present(START, node(j), true);
            }
        }
        net
    }

    fn lost(&mut self) -> bool {
        self.rng.random_range(0..1000) < self.loss
    }

    pub(super) fn linked(&self, i: usize, j: usize) -> bool {
        i != j && self.side[i] == self.side[j]
    }

    /// Delivers, loses, repeats or holds back.
    pub(super) fn send(&mut self, from: usize, to: usize, parcel: Parcel) {
        if !self.linked(from, to) || self.lost() {
            return;
        }
        if self.loss > 0 && self.rng.random_range(0..8) == 0 {
            self.held_back.push((from, to, parcel.clone()));
        }
        give(self.now, &mut self.replicas[to], node(from), vec![parcel]);
        if self.loss > 0 && self.rng.random_range(0..4) == 0 {
            self.release();
        }
    }

    /// Delivers something that was held back, however old.
    fn release(&mut self) {
        if self.held_back.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.held_back.len());
        let (from, to, parcel) = self.held_back.swap_remove(at);
        if self.linked(from, to) {
            give(self.now, &mut self.replicas[to], node(from), vec![parcel]);
        }
    }

    pub(super) fn drop_held_back(&mut self) {
        self.held_back.clear();
    }

    pub(super) fn push(&mut self, from: usize) {
        for parcel in self.replicas[from].take_push() {
            for to in 0..self.replicas.len() {
                self.send(from, to, parcel.clone());
            }
        }
    }

    /// One round of comparison, begun by `i`.
    pub(super) fn exchange(&mut self, i: usize, j: usize) {
        if !self.linked(i, j) || self.replicas[i].digest() == self.replicas[j].digest() {
            return;
        }
        let vectors = self.replicas[j].vectors();
        let mut behind = false;
        for vector in vectors {
            if self.lost() {
                continue;
            }
            behind |= self.answer(i, j, &vector);
        }
        if behind {
            for vector in self.replicas[i].vectors() {
                if !self.lost() {
                    self.answer(j, i, &vector);
                }
            }
        }
    }

    /// `i` gets a vector of `j`. Whether it lacks something.
    fn answer(&mut self, i: usize, j: usize, vector: &StateVector) -> bool {
        assert_eq!(vector.purpose, Purpose::Exchange);
        let now = self.now;
        let comparison = self.replicas[i].compare(now, vector);
        if comparison.ahead {
            for parcel in self.replicas[i].delta_for(vector, 32 << 10) {
                self.send(i, j, parcel);
            }
        }
        comparison.behind
    }

    /// Someone takes the lead of one side, over what the others there answer.
    pub(super) fn elect(&mut self, leader: usize) -> Tenure {
        let side = self.side[leader];
        self.epoch += 1;
        let tenure = tenure(self.epoch, leader);
        if let Some((before, _)) = self.leaders.insert(side, (leader, tenure)) {
            self.replicas[before].resign();
        }
        self.follow(side, tenure);
        let others = (0..self.replicas.len()).filter(|j| self.linked(leader, *j));
        let answers: Vec<LeaderState> = others.map(|j| self.replicas[j].leader_state()).collect();
        let lineage = self.rng.random();
        self.replicas[leader].lead(self.now, tenure, &answers, lineage);
        tenure
    }

    pub(super) fn follow(&mut self, side: u8, tenure: Tenure) {
        for i in 0..self.replicas.len() {
            if self.side[i] == side {
                self.replicas[i].follow(Some(tenure));
                if tenure.leader != node(i) {
                    self.replicas[i].resign();
                }
            }
        }
    }

    pub(super) fn restart(&mut self, i: usize) {
        self.boots += 1;
        self.replicas[i] = Replica::new(setup(i, self.boots));
        for j in 0..self.replicas.len() {
            self.replicas[i].set_present(self.now, node(j), true);
        }
        let side = self.side[i];
        if let Some((leader, tenure)) = self.leaders.get(&side).copied() {
            self.replicas[i].follow(Some(tenure));
            if leader == i {
                self.elect(i);
            }
        }
    }

    pub(super) fn pass(&mut self, micros: u64) {
        self.now += micros;
        for replica in &mut self.replicas {
            replica.handle_timeout(self.now);
        }
    }

    /// Exchanges without loss until nothing changes; how many rounds that took.
    pub(super) fn settle(&mut self) -> usize {
        self.loss = 0;
        self.drop_held_back();
        for round in 0..400 {
            let digests: BTreeSet<u64> = self.replicas.iter().map(Replica::digest).collect();
            if digests.len() == 1 {
                return round;
            }
            for i in 0..self.replicas.len() {
                let j = self.rng.random_range(0..self.replicas.len());
                self.exchange(i, j);
            }
            self.pass(20_000);
        }
        for replica in &self.replicas {
            let held: Vec<_> = replica.streams.iter().map(|(id, s)| s.held(id)).collect();
            eprintln!("{:?} {:?}", replica.table, &held[..held.len().min(12)]);
        }
        panic!("the replicas do not converge");
    }

    pub(super) fn assert_equal(&self) {
        let first = content(self.replicas[0].whole(self.now));
        for replica in &self.replicas {
            assert_eq!(content(replica.whole(self.now)), first);
            assert_eq!(replica.digest(), self.replicas[0].digest());
            assert_eq!(replica.size(), self.replicas[0].size());
        }
    }
}

impl Net {
    /// Exchanges among a few until they are equal.
    pub(super) fn settle_side(&mut self, which: &[usize]) {
        for _ in 0..50 {
            for i in which {
                for j in which {
                    self.exchange(*i, *j);
                }
            }
        }
        let digests = which.iter().map(|i| self.replicas[*i].digest());
        assert_eq!(digests.collect::<BTreeSet<_>>().len(), 1);
    }
}

impl Net {
    /// Someone is affirmed again, without asking anyone.
    pub(super) fn elect_alone(&mut self, leader: usize) -> Tenure {
        self.epoch += 1;
        let tenure = tenure(self.epoch, leader);
        self.replicas[leader].follow(Some(tenure));
        self.replicas[leader].lead(self.now, tenure, &[], 4242);
        tenure
    }
}
