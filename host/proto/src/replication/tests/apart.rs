//! Long absences: lineage and reset, absent devices, finished boots.

use super::check::assert_sound;
use super::net::*;
use crate::state::{Origin, Scope};
use crate::wire::state::StateDelta;

/// Apart for two days, each side under a leader of its own.
fn apart(net: &mut Net) {
    for hour in 0..48 {
        net.pass(HOUR);
        let now = net.now;
        for (i, replica) in net.replicas.iter_mut().enumerate() {
            replica.renew_lineage(now, hour * 10 + i as u32);
        }
    }
}

#[test]
fn who_was_away_for_too_long_starts_over_and_its_own_unsynced_writes_return() {
    let mut net = Net::new(3, 1);
    net.elect(0);
    let now = net.now;
    net.replicas[0]
        .write(now, &put(Scope::Leader, "l", "1"))
        .unwrap();
    for key in ["deleted", "kept"] {
        net.replicas[0]
            .write(now, &put(Scope::Shared, key, "1"))
            .unwrap();
        net.replicas[2]
            .write(now, &put(Scope::Device, key, "mine"))
            .unwrap();
        net.replicas[0]
            .write(now, &put(Scope::Device, key, "other"))
            .unwrap();
    }
    net.replicas[2].write(now, &add("n", 5)).unwrap();
    net.settle();
    net.side = vec![0, 0, 1];
    net.elect(2);
    let now = net.now;
    net.replicas[0]
        .write(now, &delete(Scope::Shared, "deleted"))
        .unwrap();
    net.replicas[0]
        .write(now, &delete(Scope::Leader, "l"))
        .unwrap();
    net.replicas[0]
        .write(now, &delete(Scope::Device, "deleted"))
        .unwrap();
    net.replicas[0].write(now, &add("n", 2)).unwrap();
    net.replicas[2]
        .write(now, &put(Scope::Leader, "cut", "x"))
        .unwrap();
    net.replicas[2]
        .write(now, &put(Scope::Shared, "unsynced", "mine"))
        .unwrap();
    net.replicas[2]
        .write(now, &put(Scope::Device, "unsynced", "mine"))
        .unwrap();
    net.replicas[2].write(now, &add("n", 10)).unwrap();
    net.settle_side(&[0, 1]);
    apart(&mut net);
    let now = net.now;
    net.replicas[2]
        .write(now, &put(Scope::Shared, "last", "mine"))
        .unwrap();
    net.side.fill(0);
    net.leaders.remove(&1);
    let winner = net.elect_alone(0);
    net.follow(0, winner);
    net.settle();
    net.assert_equal();
    let now = net.now;
    let own = Origin::Device(device(2));
    for replica in &net.replicas {
        let read = |origin, key| value(replica, now, origin, key);
        assert_eq!(read(Origin::Shared, "deleted"), None);
        assert_eq!(read(Origin::Leader, "l"), None);
        assert_eq!(read(Origin::Leader, "cut"), None);
        assert_eq!(read(Origin::Device(device(0)), "deleted"), None);
        assert_eq!(read(Origin::Shared, "kept").unwrap(), "1");
        assert_eq!(read(Origin::Shared, "unsynced").unwrap(), "mine");
        assert_eq!(read(Origin::Shared, "last").unwrap(), "mine");
        assert_eq!(read(own, "unsynced").unwrap(), "mine");
        assert_eq!(read(own, "kept").unwrap(), "mine");
        assert_eq!(read(Origin::Counter, "n").unwrap(), "17");
        assert_sound(replica);
    }
    let told = net.replicas[2].take_superseded();
    assert_eq!(told.iter().map(|key| &**key).collect::<Vec<_>>(), ["cut"]);
}

/// Two sides of two, apart for two days; what device 2 wrote before, its own side deletes.
fn halves() -> Net {
    let mut net = Net::new(4, 1);
    net.elect(0);
    let now = net.now;
    net.replicas[2]
        .write(now, &put(Scope::Shared, "k", "1"))
        .unwrap();
    net.settle();
    net.side = vec![0, 0, 1, 1];
    net.elect(2);
    net
}

fn unite(net: &mut Net) {
    net.side.fill(0);
    net.leaders.remove(&1);
    let winner = net.elect_alone(0);
    net.follow(0, winner);
    net.settle();
    net.assert_equal();
}

#[test]
fn who_started_over_takes_nothing_from_one_that_has_yet_to() {
    let mut net = Net::new(4, 1);
    net.elect(0);
    let now = net.now;
    for scope in [Scope::Leader, Scope::Shared] {
        net.replicas[0].write(now, &put(scope, "k", "1")).unwrap();
    }
    net.settle();
    net.side = vec![0, 0, 1, 1];
    net.elect(2);
    let now = net.now;
    for scope in [Scope::Leader, Scope::Shared] {
        net.replicas[0].write(now, &delete(scope, "k")).unwrap();
    }
    net.settle_side(&[0, 1]);
    net.settle_side(&[2, 3]);
    apart(&mut net);
    net.side.fill(0);
    net.leaders.remove(&1);
    let winner = net.elect_alone(0);
    for i in 0..3 {
        net.replicas[i].follow(Some(winner));
    }
    net.replicas[2].resign();
    net.exchange(0, 2);
    assert_eq!(net.replicas[2].table_tenure(), Some(winner));
    net.exchange(2, 3);
    net.exchange(3, 2);
    for origin in [Origin::Leader, Origin::Shared] {
        assert!(value(&net.replicas[3], net.now, origin, "k").is_some());
        assert_eq!(value(&net.replicas[2], net.now, origin, "k"), None);
    }
    net.follow(0, winner);
    net.settle();
    net.assert_equal();
    assert!(value(&net.replicas[3], net.now, Origin::Shared, "k").is_none());
}

#[test]
fn own_entries_that_only_others_hold_come_back_to_who_starts_over() {
    let mut net = halves();
    let now = net.now;
    net.replicas[3]
        .write(now, &delete(Scope::Shared, "k"))
        .unwrap();
    net.settle_side(&[2, 3]);
    apart(&mut net);
    unite(&mut net);
    for replica in &net.replicas {
        let read = value(replica, net.now, Origin::Shared, "k");
        assert_eq!(read.unwrap(), "1", "the winning side's word");
        assert_sound(replica);
    }
}

#[test]
fn what_the_leader_had_acknowledged_does_not_return_with_its_writer() {
    let mut net = halves();
    let (now, stream) = (net.now, net.replicas[2].own_shared());
    net.replicas[2].acknowledged(node(0), stream, 1);
    for (i, key) in [(0, "k"), (2, "unsynced")] {
        let write = match i {
            0 => delete(Scope::Shared, key),
            _ => put(Scope::Shared, key, "2"),
        };
        net.replicas[i].write(now, &write).unwrap();
    }
    net.settle_side(&[0, 1]);
    net.settle_side(&[2, 3]);
    // Its own side says nothing of the other.
    net.replicas[2].acknowledged(node(3), stream, 2);
    apart(&mut net);
    unite(&mut net);
    for replica in &net.replicas {
        assert_eq!(value(replica, net.now, Origin::Shared, "k"), None);
        let read = value(replica, net.now, Origin::Shared, "unsynced");
        assert_eq!(read.unwrap(), "2");
    }
}

#[test]
fn an_absent_devices_entries_go_after_a_day_and_come_back_with_it() {
    let mut net = Net::new(3, 2);
    let now = net.now;
    net.replicas[2]
        .write(now, &put(Scope::Device, "k", "1"))
        .unwrap();
    net.replicas[2]
        .write(now, &put(Scope::Shared, "k", "1"))
        .unwrap();
    net.settle();
    let now = net.now;
    net.replicas[0].set_present(now, node(2), false);
    net.pass(2 * HOUR);
    let now = net.now;
    net.replicas[1].set_present(now, node(2), false);
    net.pass(22 * HOUR - 1);
    let origin = Origin::Device(device(2));
    assert!(value(&net.replicas[0], net.now, origin, "k").is_some());
    net.replicas[0].take_changes();
    net.pass(HOUR);
    assert!(value(&net.replicas[0], net.now, origin, "k").is_none());
    assert_eq!(net.replicas[0].take_changes().len(), 1);
    assert!(value(&net.replicas[0], net.now, Origin::Shared, "k").is_some());
    // The other one lost sight of the device later, and keeps it for longer: so do both.
    net.exchange(0, 1);
    assert!(value(&net.replicas[0], net.now, origin, "k").is_some());
    assert_eq!(net.replicas[0].digest(), net.replicas[1].digest());
    net.pass(2 * HOUR);
    for i in 0..2 {
        assert!(value(&net.replicas[i], net.now, origin, "k").is_none());
    }
    net.exchange(0, 1);
    assert_eq!(net.replicas[0].digest(), net.replicas[1].digest());
    net.replicas.iter().for_each(assert_sound);
    // It comes back with the device.
    for i in 0..2 {
        let now = net.now;
        net.replicas[i].set_present(now, node(2), true);
    }
    net.settle();
    net.assert_equal();
    assert!(value(&net.replicas[0], net.now, origin, "k").is_some());
}

#[test]
fn what_one_replica_dropped_another_does_not_bring_back_for_good() {
    let mut net = Net::new(3, 2);
    let now = net.now;
    let own = put(Scope::Device, "k", "1");
    net.replicas[2].write(now, &own).unwrap();
    net.settle();
    for i in 0..2 {
        let now = net.now;
        net.replicas[i].set_present(now, node(2), false);
    }
    net.pass(24 * HOUR + HOUR);
    let whole = net.replicas[2].whole_of(node(2)).unwrap();
    // One whose clock goes behind still has it.
    let mut late = whole.clone();
    late.relied = net.now;
    give_delta(&mut net, 0, &late);
    assert!(!net.replicas[0].holds(late.stream, 1));
    late.relied = net.now + 5;
    give_delta(&mut net, 0, &late);
    assert!(net.replicas[0].holds(late.stream, 1));
    net.pass(5);
    assert!(!net.replicas[0].holds(late.stream, 1));
    // Nobody's word keeps it for longer than a member's that leaves.
    late.relied = u64::MAX;
    give_delta(&mut net, 0, &late);
    net.pass(25 * HOUR);
    assert!(!net.replicas[0].holds(late.stream, 1));
    net.replicas.iter().for_each(assert_sound);
}

fn give_delta(net: &mut Net, to: usize, delta: &StateDelta) {
    let now = net.now;
    net.replicas[to].merge(now, node(1), delta).unwrap();
}

#[test]
fn finished_boots_are_folded_and_the_sum_stays() {
    let mut net = Net::new(3, 3);
    let mut late = Vec::new();
    for boot in 0..4 {
        let now = net.now;
        net.replicas[2].write(now, &add("n", 10 + boot)).unwrap();
        net.replicas[2].write(now, &add("m", -1)).unwrap();
        late.extend(net.replicas[2].take_push());
        net.settle();
        net.restart(2);
        net.settle();
    }
    assert_eq!(net.replicas[2].finished().len(), 4);
    let now = net.now;
    net.replicas[2].take_changes();
    net.replicas[2].fold(now);
    assert!(net.replicas[2].finished().is_empty());
    assert!(
        net.replicas[2]
            .take_changes()
            .iter()
            .all(|change| change.own)
    );
    // The fold arrives at those that have the boots, and at one that has nothing.
    net.settle();
    net.restart(1);
    net.settle();
    net.assert_equal();
    give(now, &mut net.replicas[1], node(2), late);
    for replica in &net.replicas {
        assert_eq!(value(replica, now, Origin::Counter, "n").unwrap(), "46");
        assert_eq!(value(replica, now, Origin::Counter, "m").unwrap(), "-4");
        let streams = replica.streams.iter().filter(|(_, held)| held.counters > 0);
        assert_eq!(streams.count(), 1);
        assert_sound(replica);
    }
    net.replicas[2].write(now, &add("n", 1)).unwrap();
    net.restart(0);
    net.settle();
    assert_eq!(
        value(&net.replicas[0], now, Origin::Counter, "n").unwrap(),
        "47"
    );
}

#[test]
fn a_restarted_device_gets_its_own_state_back() {
    let mut net = Net::new(2, 4);
    let now = net.now;
    net.replicas[1]
        .write(now, &put(Scope::Device, "k", "before"))
        .unwrap();
    net.replicas[1]
        .write(now, &put(Scope::Device, "l", "before"))
        .unwrap();
    net.settle();
    net.restart(1);
    net.replicas[1]
        .write(now, &put(Scope::Device, "k", "after"))
        .unwrap();
    net.settle();
    net.assert_equal();
    let origin = Origin::Device(device(1));
    assert_eq!(value(&net.replicas[0], now, origin, "k").unwrap(), "after");
    assert_eq!(value(&net.replicas[1], now, origin, "l").unwrap(), "before");
}
