//! What is kept over a restart.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::Replica;
use super::super::Setup;
use super::check::assert_sound;
use super::net::*;
use crate::state::{Origin, Scope, StateConfig};

type Disk = BTreeMap<Bytes, Bytes>;

fn persisting(i: usize, boot: u64) -> Setup {
    Setup {
        config: StateConfig {
            persist: true,
            ..StateConfig::default()
        },
        ..setup(i, boot)
    }
}

fn write_back(replica: &mut Replica, disk: &mut Disk) {
    for (key, value) in replica.take_dirty() {
        match value {
            Some(value) => drop(disk.insert(key, value)),
            None => drop(disk.remove(&key)),
        }
    }
    assert!(!replica.is_dirty());
}

fn records(disk: &Disk) -> Vec<(Bytes, Bytes)> {
    disk.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A net whose first replica is kept, and what is kept of it.
fn busy() -> (Net, Disk) {
    let mut net = Net::new(3, 1);
    net.replicas[0] = Replica::new(persisting(0, 1));
    for j in 0..3 {
        net.replicas[0].set_present(START, node(j), true);
    }
    let mut disk = Disk::new();
    net.elect(0);
    for round in 0..3 {
        for i in 0..3 {
            let now = net.now;
            for scope in [Scope::Device, Scope::Shared] {
                net.replicas[i]
                    .write(now, &put(scope, &format!("{i}"), &format!("{round}")))
                    .unwrap();
                net.replicas[i].write(now, &delete(scope, "gone")).unwrap();
            }
            net.replicas[i].write(now, &add("n", 1)).unwrap();
        }
        let now = net.now;
        net.replicas[0]
            .write(now, &put(Scope::Leader, "l", &format!("{round}")))
            .unwrap();
        write_back(&mut net.replicas[0], &mut disk);
        net.settle();
        net.pass(SECOND);
    }
    net.elect(1);
    let now = net.now;
    net.replicas[1]
        .write(now, &put(Scope::Leader, "m", "1"))
        .unwrap();
    net.settle();
    write_back(&mut net.replicas[0], &mut disk);
    (net, disk)
}

#[test]
fn what_is_kept_is_the_replica() {
    let (mut net, disk) = busy();
    let (loaded, unreadable) = Replica::load(persisting(0, 2), &records(&disk), net.now);
    assert_eq!(unreadable, 0);
    assert_sound(&loaded);
    assert_eq!(loaded.digest(), net.replicas[0].digest());
    assert_eq!(
        content(loaded.whole(net.now)),
        content(net.replicas[0].whole(net.now))
    );
    assert_eq!(loaded.size(), net.replicas[0].size());
    assert_eq!(loaded.leader_state(), net.replicas[0].leader_state());
    assert!(!loaded.is_dirty());
    // A clock that runs behind does not let a write lose against what was kept.
    net.replicas[0] = loaded;
    net.replicas[0]
        .write(net.now - 60 * SECOND, &put(Scope::Shared, "1", "later"))
        .unwrap();
    assert_eq!(
        value(&net.replicas[0], net.now, Origin::Shared, "1").unwrap(),
        "later"
    );
    net.settle();
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[1], net.now, Origin::Shared, "1").unwrap(),
        "later"
    );
}

#[test]
fn any_part_of_what_is_kept_is_of_use() {
    let (mut net, disk) = busy();
    let all = records(&disk);
    let whole = content(net.replicas[1].whole(net.now));
    for upto in 0..=all.len() {
        for part in [&all[..upto], &all[upto..]] {
            let (mut loaded, _) = Replica::load(persisting(0, 2), part, net.now);
            assert_sound(&loaded);
            for j in 0..3 {
                loaded.set_present(net.now, node(j), true);
            }
            loaded.follow(net.replicas[1].table_tenure());
            net.replicas[0] = loaded;
            net.settle();
            net.assert_equal();
            assert_eq!(content(net.replicas[0].whole(net.now)), whole, "{upto}");
        }
    }
}

#[test]
fn records_of_a_later_version_are_left_out_and_counted() {
    let (mut net, disk) = busy();
    let mut all = records(&disk);
    for at in 0..all.len() {
        let kept = all[at].1.clone();
        let mut newer = kept.to_vec();
        newer[0] = 2;
        all[at].1 = Bytes::from(newer);
        let (loaded, unreadable) = Replica::load(persisting(0, 2), &all, net.now);
        assert!(unreadable >= 1);
        assert_sound(&loaded);
        all[at].1 = kept;
        net.replicas[0] = loaded;
        for j in 0..3 {
            net.replicas[0].set_present(net.now, node(j), true);
        }
        net.settle();
        net.assert_equal();
    }
    let torn = [
        (Bytes::from_static(b"e"), Bytes::new()),
        (Bytes::new(), Bytes::from_static(b"x")),
    ];
    assert_eq!(Replica::load(persisting(0, 2), &torn, net.now).1, 2);
}

#[test]
fn nothing_is_kept_unless_asked_for_and_it_goes_when_no_longer() {
    let mut replica = Replica::new(setup(0, 1));
    replica.write(START, &put(Scope::Shared, "k", "v")).unwrap();
    assert!(!replica.is_dirty());
    assert!(replica.take_dirty().is_empty());
    replica.set_config(persisting(0, 1).config);
    let mut disk = Disk::new();
    write_back(&mut replica, &mut disk);
    let (loaded, unreadable) = Replica::load(persisting(0, 2), &records(&disk), START);
    assert_eq!(unreadable, 0);
    assert_eq!(content(loaded.whole(START)), content(replica.whole(START)));
    replica.set_config(StateConfig::default());
    write_back(&mut replica, &mut disk);
    assert!(disk.is_empty());
}
