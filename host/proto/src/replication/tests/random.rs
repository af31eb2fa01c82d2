//! Random writes, losses, partitions, restarts and leaders, against plain maps.

use rand::RngExt;

use std::collections::BTreeMap;

use super::check::{assert_forward, assert_sound, versions};
use super::net::*;
use crate::state::{Origin, Scope, StateOutcome, StateWrite};
use crate::wire::state::StreamId;

/// What the replicas come to hold.
#[derive(Default)]
struct Model {
    /// Per key the write with the largest clock.
    shared: BTreeMap<String, ((u64, StreamId, u64), StateOutcome)>,
    device: BTreeMap<(usize, String), StateOutcome>,
    counters: BTreeMap<String, i64>,
    /// Each tenure's last write per key.
    leader: BTreeMap<(u64, String), StateOutcome>,
}

impl Model {
    fn note(&mut self, net: &Net, i: usize, write: &StateWrite) {
        let replica = &net.replicas[i];
        let (scope, key) = match write {
            StateWrite::Add { name, delta } => {
                *self.counters.entry(name.to_string()).or_default() += delta;
                return;
            }
            StateWrite::Put { scope, key, .. } | StateWrite::Delete { scope, key } => (scope, key),
        };
        let outcome = replica.present(net.now, write).outcome;
        let key = key.to_string();
        match scope {
            Scope::Leader => {
                let epoch = replica.table_tenure().unwrap().epoch;
                self.leader.insert((epoch, key), outcome);
            }
            Scope::Device => drop(self.device.insert((i, key), outcome)),
            Scope::Shared => {
                let place = &replica.store.shared[&*key];
                let entry = place.current.as_ref().unwrap();
                let version = (entry.at, entry.stream, entry.n);
                let held = self.shared.entry(key).or_insert((version, outcome.clone()));
                if held.0 <= version {
                    *held = (version, outcome);
                }
            }
        }
    }

    /// What a plugin sees in the end, apart from leader state.
    fn expected(&self, now: u64) -> Content {
        let shared = self
            .shared
            .iter()
            .map(|(key, (_, outcome))| ((Origin::Shared, key.clone()), outcome.clone()));
        let device_state = self.device.iter().map(|((i, key), outcome)| {
            ((Origin::Device(device(*i)), key.clone()), outcome.clone())
        });
        let counters = self
            .counters
            .iter()
            .map(|(name, sum)| ((Origin::Counter, name.clone()), StateOutcome::Counted(*sum)));
        let all = shared.chain(device_state).chain(counters);
        all.filter(|(_, outcome)| lives(outcome, now)).collect()
    }
}

fn lives(outcome: &StateOutcome, now: u64) -> bool {
    match outcome {
        StateOutcome::Put { expires_at, .. } => expires_at.is_none_or(|at| at > now),
        StateOutcome::Counted(_) => true,
        StateOutcome::Deleted | StateOutcome::Expired => false,
    }
}

fn random_write(net: &mut Net) -> StateWrite {
    let rng = &mut net.rng;
    let scopes = [Scope::Leader, Scope::Device, Scope::Shared];
    let scope = scopes[rng.random_range(0..3)];
    let key = format!("k{}", rng.random_range(0..6));
    match rng.random_range(0..8) {
        0 => delete(scope, &key),
        1 | 2 => add(&key, rng.random_range(-5..50)),
        kind => {
            let length = if kind == 7 {
                rng.random_range(900..4000)
            } else {
                8
            };
            let value = format!("{:0length$}", rng.random_range(0..u32::MAX));
            let mut put = put(scope, &key, &value);
            if let (StateWrite::Put { ttl_ms, .. }, 3) = (&mut put, kind) {
                *ttl_ms = Some(rng.random_range(100..20_000));
            }
            put
        }
    }
}

/// Lets a replica begin anew, after another one of its side has got all that it has.
fn restart_in_order(net: &mut Net, i: usize) {
    let Some(j) = (0..net.replicas.len()).find(|j| net.linked(i, *j)) else {
        return;
    };
    let loss = core::mem::take(&mut net.loss);
    for _ in 0..60 {
        net.exchange(i, j);
        net.exchange(j, i);
        if net.replicas[i].digest() == net.replicas[j].digest() {
            net.restart(i);
            for _ in 0..10 {
                net.exchange(i, j);
                net.exchange(j, i);
            }
            break;
        }
    }
    net.loss = loss;
}

fn step(net: &mut Net, model: &mut Model) {
    let count = net.replicas.len();
    let i = net.rng.random_range(0..count);
    let j = net.rng.random_range(0..count);
    match net.rng.random_range(0..100) {
        0..45 => {
            let write = random_write(net);
            let now = net.now;
            if net.replicas[i].write(now, &write).is_ok() {
                model.note(net, i, &write);
            }
        }
        45..60 => net.push(i),
        60..85 => net.exchange(i, j),
        85..92 => {
            let micros = net.rng.random_range(0..2 * SECOND);
            net.pass(micros);
        }
        92..94 => drop(net.elect(i)),
        94..96 => {
            net.side[i] = net.rng.random_range(0..2);
            let side = net.side[i];
            if let Some((_, tenure)) = net.leaders.get(&side).copied() {
                net.replicas[i].follow(Some(tenure));
            }
        }
        96..98 => restart_in_order(net, i),
        _ => {
            net.side.fill(0);
            if let Some(tenure) = net.leaders.values().map(|(_, tenure)| *tenure).max() {
                net.follow(0, tenure);
            }
        }
    }
}

fn run(seed: u64, count: usize) {
    let mut net = Net::new(count, seed);
    net.elect(0);
    // Who never met the group founds one of its own, and starts over when they meet.
    net.settle();
    net.loss = 200;
    let mut model = Model::default();
    for _ in 0..400 {
        let before: Vec<_> = net.replicas.iter().map(versions).collect();
        let boots: Vec<_> = net.replicas.iter().map(|r| r.setup.stamp).collect();
        step(&mut net, &mut model);
        for ((replica, before), boot) in net.replicas.iter().zip(&before).zip(boots) {
            assert_sound(replica);
            if replica.setup.stamp == boot {
                assert_forward(before, replica);
            }
        }
    }
    net.side.fill(0);
    let leader = net.rng.random_range(0..count);
    let tenure = net.elect(leader);
    let now = net.now;
    let last = put(Scope::Leader, "k0", "last");
    net.replicas[leader].write(now, &last).unwrap();
    net.settle();
    net.assert_equal();
    let now = net.now;
    let all = content(net.replicas[0].whole(now));
    let (leaders, others): (Content, Content) = all
        .into_iter()
        .partition(|((origin, _), _)| *origin == Origin::Leader);
    assert_eq!(others, model.expected(now));
    for ((_, key), outcome) in &leaders {
        let mut written = model.leader.iter().filter(|((_, k), _)| k == key);
        let known = key == "k0" || written.any(|(_, one)| one == outcome);
        // Also one that its tenure has overwritten since can be the last within the cut.
        assert!(
            known || matches!(outcome, StateOutcome::Put { .. }),
            "{key}"
        );
    }
    assert_eq!(
        value(&net.replicas[count - 1], now, Origin::Leader, "k0").as_deref(),
        Some("last")
    );
    assert_eq!(net.replicas[count - 1].table_tenure(), Some(tenure));
    net.replicas.iter().for_each(assert_sound);
}

#[test]
fn replicas_converge_to_what_was_written() {
    for seed in 0..60 {
        println!("seed {seed}");
        run(seed, 3 + seed as usize % 4);
    }
}

#[test]
fn a_leader_that_is_never_cut_off_is_followed_exactly() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut net = Net::new(4, seed);
        let mut expected: BTreeMap<String, Option<String>> = BTreeMap::new();
        for round in 0..12 {
            let leader = net.rng.random_range(0..4);
            net.elect(leader);
            net.loss = 300;
            for k in 0..20 {
                let key = format!("k{}", net.rng.random_range(0..10));
                let new = format!("{round}.{k}");
                let gone = net.rng.random_range(0..4) == 0;
                let write = if gone {
                    delete(Scope::Leader, &key)
                } else {
                    put(Scope::Leader, &key, &new)
                };
                let now = net.now;
                net.replicas[leader].write(now, &write).unwrap();
                expected.insert(key, (!gone).then_some(new));
                net.push(leader);
                let i = net.rng.random_range(0..4);
                net.exchange(i, leader);
            }
            net.settle();
            net.assert_equal();
            for (key, expected) in &expected {
                let held = value(&net.replicas[round % 4], net.now, Origin::Leader, key);
                assert_eq!(&held, expected);
            }
        }
    }
}
