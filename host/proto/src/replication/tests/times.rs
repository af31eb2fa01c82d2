//! Expiry, deletion, quarantine and clocks that are set back.

use super::super::{MergeError, Parcel, Replica};
use super::bad::{delta, entry};
use super::check::assert_sound;
use super::net::*;
use crate::id::PublicKey;
use crate::state::{Origin, Scope, StateOutcome, StateWrite};
use crate::wire::state::{Stamp, StreamId};

fn put_for(key: &str, value: &str, ttl: u64) -> StateWrite {
    with_ttl(put(Scope::Shared, key, value), ttl)
}

fn with_ttl(mut put: StateWrite, ttl: u64) -> StateWrite {
    if let StateWrite::Put { ttl_ms, .. } = &mut put {
        *ttl_ms = Some(ttl);
    }
    put
}

#[test]
fn a_value_expires_everywhere_and_is_told() {
    let mut net = Net::new(2, 1);
    let now = net.now;
    net.replicas[0]
        .write(now, &put_for("a", "1", 1000))
        .unwrap();
    net.push(0);
    net.replicas[1].take_changes();
    assert_eq!(net.replicas[1].next_timeout(), Some(now + SECOND));
    assert_eq!(net.replicas[1].size(), (1, 2));
    net.pass(SECOND - 1);
    assert!(net.replicas[1].take_changes().is_empty());
    net.pass(1);
    for replica in &mut net.replicas {
        let told = replica.take_changes();
        let last = told.last().unwrap();
        assert_eq!(last.outcome, StateOutcome::Expired);
        assert!(!last.own);
        assert!(replica.whole(now).is_empty());
        assert_eq!(replica.size(), (0, 0));
        assert_sound(replica);
    }
    // It outlives as a deletion does, and reaches those that never saw it as such.
    net.restart(1);
    net.settle();
    net.assert_equal();
    assert!(net.replicas[1].take_changes().is_empty());
    net.pass(24 * HOUR);
    assert_eq!(net.replicas[0].footprint, 0);
    net.settle();
    net.assert_equal();
}

#[test]
fn a_deletion_is_remembered_for_a_day_and_no_key_returns() {
    let mut net = Net::new(3, 2);
    net.elect(0);
    let now = net.now;
    for scope in [Scope::Leader, Scope::Device, Scope::Shared] {
        net.replicas[0].write(now, &put(scope, "a", "1")).unwrap();
    }
    net.settle();
    // One is away for less than a day, while the lineage is renewed.
    net.side = vec![0, 0, 1];
    for scope in [Scope::Leader, Scope::Device, Scope::Shared] {
        net.replicas[0].write(now, &delete(scope, "a")).unwrap();
    }
    net.settle_side(&[0, 1]);
    for hour in 0..21 {
        net.pass(HOUR);
        let now = net.now;
        net.replicas[0].renew_lineage(now, 1000 + hour);
    }
    net.side.fill(0);
    net.settle();
    net.assert_equal();
    assert!(net.replicas[2].whole(net.now).is_empty());
    net.pass(4 * HOUR);
    net.settle();
    assert_eq!(net.replicas[2].footprint, 0);
}

/// Seconds after 1970 of a clock that stands in 2038.
const YEAR_2038: u64 = 2_147_483_648 * SECOND;

#[test]
fn a_device_of_the_year_2038_wins_nothing_until_it_is_due() {
    let mut net = Net::new(3, 3);
    let now = net.now;
    net.replicas[0]
        .write(now, &put(Scope::Shared, "a", "now"))
        .unwrap();
    net.settle();
    net.replicas[2]
        .write(YEAR_2038, &put(Scope::Shared, "a", "2038"))
        .unwrap();
    net.replicas[2]
        .write(YEAR_2038, &put(Scope::Shared, "b", "2038"))
        .unwrap();
    for parcel in net.replicas[2].take_push() {
        net.send(2, 0, parcel.clone());
        net.send(2, 1, parcel);
    }
    for i in 0..2 {
        assert_eq!(
            value(&net.replicas[i], now, Origin::Shared, "a").unwrap(),
            "now"
        );
        assert_eq!(value(&net.replicas[i], now, Origin::Shared, "b"), None);
        assert_sound(&net.replicas[i]);
    }
    net.replicas[0]
        .write(now, &put(Scope::Shared, "a", "still heard"))
        .unwrap();
    net.push(0);
    assert_eq!(
        value(&net.replicas[1], now, Origin::Shared, "a").unwrap(),
        "still heard"
    );
    assert_eq!(net.replicas[0].digest(), net.replicas[1].digest());
    // It is passed on, and counts when its time has come.
    net.restart(1);
    net.settle_side(&[0, 1]);
    net.now = YEAR_2038 - 5 * 60 * SECOND;
    net.pass(0);
    for i in 0..2 {
        assert_eq!(
            value(&net.replicas[i], net.now, Origin::Shared, "a").unwrap(),
            "2038"
        );
        let told = net.replicas[i].take_changes();
        assert!(told.iter().any(|change| &*change.key == "b"));
    }
    net.settle();
    net.assert_equal();
}

#[test]
fn a_clock_that_is_set_back_stamps_its_own_writes_anew_in_their_order() {
    let mut net = Net::new(3, 4);
    let now = net.now;
    net.replicas[0]
        .write(now, &put(Scope::Shared, "c", "before"))
        .unwrap();
    net.settle();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        net.replicas[2]
            .write(YEAR_2038, &put(Scope::Shared, key, value))
            .unwrap();
    }
    net.replicas[2]
        .write(YEAR_2038, &put_for("t", "ttl", 60_000))
        .unwrap();
    net.replicas[2]
        .write(YEAR_2038, &delete(Scope::Shared, "c"))
        .unwrap();
    net.push(2);
    assert_eq!(
        value(&net.replicas[0], now, Origin::Shared, "c").unwrap(),
        "before"
    );
    net.replicas[2].take_changes();
    net.replicas[2].set_back(now);
    assert!(
        net.replicas[2]
            .take_changes()
            .iter()
            .all(|change| change.own)
    );
    net.settle();
    net.assert_equal();
    for replica in &net.replicas {
        let read = |key| value(replica, net.now, Origin::Shared, key);
        assert_eq!(read("a").unwrap(), "3");
        assert_eq!(read("b").unwrap(), "2");
        assert_eq!(read("t").unwrap(), "ttl");
        assert_eq!(read("c"), None);
        let pending = replica
            .store
            .shared
            .values()
            .map(|place| place.pending.len());
        assert_eq!(pending.sum::<usize>(), 0, "nothing is left for 2038");
        assert_sound(replica);
    }
    net.pass(60 * SECOND);
    assert_eq!(value(&net.replicas[0], net.now, Origin::Shared, "t"), None);
}

#[test]
fn a_clock_that_is_set_back_gives_what_ends_its_time_anew() {
    let mut net = Net::new(3, 4);
    let now = net.now;
    net.elect(2);
    for scope in [Scope::Device, Scope::Leader] {
        for write in [
            with_ttl(put(scope, "brief", "v"), 60_000),
            put(scope, "gone", "v"),
            delete(scope, "gone"),
            put(scope, "kept", "v"),
        ] {
            net.replicas[2].write(YEAR_2038, &write).unwrap();
        }
    }
    net.push(2);
    net.replicas[2].set_back(now);
    net.settle();
    net.assert_equal();
    let origins = [Origin::Leader, Origin::Device(device(2))];
    for origin in origins {
        assert!(value(&net.replicas[0], net.now, origin, "brief").is_some());
    }
    net.pass(61 * SECOND);
    for replica in &net.replicas {
        for origin in origins {
            assert_eq!(value(replica, net.now, origin, "brief"), None);
            assert!(value(replica, net.now, origin, "kept").is_some());
        }
    }
    net.pass(25 * HOUR);
    net.settle();
    net.assert_equal();
    for replica in &net.replicas {
        assert_eq!(replica.store.single.len(), 2, "no tombstone waits for 2038");
        assert_sound(replica);
    }
}

/// Two devices of a wrong time overwrite each other, a third one has seen only the first of it.
#[test]
fn what_was_superseded_in_another_era_does_not_come_due() {
    let mut net = Net::new(4, 5);
    let now = net.now;
    let ahead = now + HOUR;
    net.replicas[3]
        .write(now, &put(Scope::Shared, "k", "past"))
        .unwrap();
    net.settle();
    net.replicas[0]
        .write(ahead, &put(Scope::Shared, "k", "first"))
        .unwrap();
    let first = net.replicas[0].take_push();
    for to in [1, 2] {
        let at = if to == 1 { ahead } else { now };
        give(at, &mut net.replicas[to], node(0), first.clone());
    }
    net.replicas[1]
        .write(ahead, &put(Scope::Shared, "k", "second"))
        .unwrap();
    let second = net.replicas[1].take_push();
    give(ahead, &mut net.replicas[0], node(1), second);
    for i in [0, 1] {
        assert_eq!(
            value(&net.replicas[i], ahead, Origin::Shared, "k").unwrap(),
            "second"
        );
        net.replicas[i].set_back(now);
    }
    net.settle();
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[2], now, Origin::Shared, "k").unwrap(),
        "second"
    );
    net.pass(2 * HOUR);
    net.settle();
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[2], net.now, Origin::Shared, "k").unwrap(),
        "second"
    );
}

/// A replica that is told by one of another era what is superseded must not believe it.
#[test]
fn the_word_of_another_era_is_not_believed() {
    let mut net = Net::new(4, 6);
    let now = net.now;
    net.replicas[0]
        .write(now, &put(Scope::Shared, "k", "past"))
        .unwrap();
    net.replicas[0]
        .write(now, &put(Scope::Shared, "other", "past"))
        .unwrap();
    give_all(&mut net, 0, &[2, 3]);
    // The one that is ahead overwrites it and tells another that the past is superseded.
    net.replicas[2]
        .write(now + HOUR, &put(Scope::Shared, "k", "ahead"))
        .unwrap();
    let vectors = net.replicas[1].vectors();
    let parcels = net.replicas[2].delta_for(&vectors[0], 1 << 20);
    give(now, &mut net.replicas[1], node(2), parcels);
    assert_eq!(value(&net.replicas[1], now, Origin::Shared, "k"), None);
    // It leaves for good; the past is known elsewhere.
    let stream = net.replicas[0].own_shared();
    assert_eq!(net.replicas[1].mark(stream), 0);
    net.restart(2);
    net.settle();
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[1], net.now, Origin::Shared, "k").unwrap(),
        "past"
    );
}

fn give_all(net: &mut Net, from: usize, to: &[usize]) {
    let parcels: Vec<Parcel> = net.replicas[from].take_push();
    for to in to {
        give(net.now, &mut net.replicas[*to], node(from), parcels.clone());
    }
}

#[test]
fn what_was_superseded_by_the_future_comes_back_when_the_clock_is_set_back() {
    let mut net = Net::new(4, 7);
    let now = net.now;
    for key in ["k", "other"] {
        net.replicas[0]
            .write(now, &put(Scope::Shared, key, "past"))
            .unwrap();
    }
    net.settle();
    net.replicas[3]
        .write(now + HOUR, &put(Scope::Shared, "k", "ahead"))
        .unwrap();
    let push = net.replicas[3].take_push();
    give(now + HOUR, &mut net.replicas[2], node(3), push);
    assert_eq!(
        value(&net.replicas[2], now, Origin::Shared, "k").unwrap(),
        "ahead"
    );
    net.restart(3);
    net.replicas[2].set_back(now);
    assert_eq!(value(&net.replicas[2], now, Origin::Shared, "k"), None);
    net.settle();
    net.assert_equal();
    for replica in &net.replicas {
        assert_eq!(
            value(replica, net.now, Origin::Shared, "k").unwrap(),
            "past"
        );
        assert_sound(replica);
    }
}

/// The deletion itself is forgotten by then.
#[test]
fn a_very_late_packet_brings_no_deleted_key_back() {
    let mut net = Net::new(2, 8);
    let now = net.now;
    net.replicas[0]
        .write(now, &put(Scope::Shared, "k", "v"))
        .unwrap();
    let late = net.replicas[0].take_push();
    net.replicas[0]
        .write(now, &delete(Scope::Shared, "k"))
        .unwrap();
    net.settle();
    net.pass(25 * HOUR);
    assert_eq!(net.replicas[1].footprint, 0);
    give(net.now, &mut net.replicas[1], node(0), late);
    assert_eq!(value(&net.replicas[1], net.now, Origin::Shared, "k"), None);
}

#[test]
fn devices_that_are_no_members_make_room_where_there_is_none() {
    let mut replica = Replica::new(setup(0, 1));
    replica.write(START, &put(Scope::Device, "k", "v")).unwrap();
    let of = |i: u64| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        let device = PublicKey::new(bytes).expect("a usable key").device_id();
        let stream = StreamId::Device {
            writer: device.node(),
            stamp: Stamp(1),
        };
        let mut delta = delta(stream, 0, 1, vec![entry(1, "k")]);
        delta.device = Some(device);
        delta
    };
    let member = of(3).stream;
    replica.set_present(START, member.writer(), true);
    for i in 0..4095 {
        replica.merge(START, node(1), &of(i)).unwrap();
    }
    let refused = replica.merge(START, node(1), &of(5000));
    assert_eq!(refused, Err(MergeError::Full));
    replica.drop_absent();
    assert!(replica.holds(member, 1), "a member's stays");
    assert!(!replica.holds(of(4).stream, 1));
    assert_eq!(replica.merge(START, node(1), &of(5000)), Ok(true));
    assert_sound(&replica);
}

#[test]
fn what_a_leap_of_time_ends_is_passed_on_for_a_minute() {
    let mut net = Net::new(3, 7);
    net.elect(0);
    let now = net.now;
    let scopes = [Scope::Leader, Scope::Device, Scope::Shared];
    for scope in scopes {
        for key in ["deleted", "expired"] {
            net.replicas[0].write(now, &put(scope, key, "v")).unwrap();
        }
    }
    net.settle();
    net.side = vec![1, 0, 0];
    for scope in scopes {
        let brief = with_ttl(put(scope, "expired", "v"), 60_000);
        net.replicas[0].write(now, &brief).unwrap();
        net.replicas[0]
            .write(now, &delete(scope, "deleted"))
            .unwrap();
    }
    net.now += 30 * HOUR;
    let now = net.now;
    net.replicas[0].set_forward(now);
    net.pass(59 * SECOND);
    assert!(net.replicas[0].whole(now).is_empty());
    net.side.fill(0);
    net.settle();
    net.assert_equal();
    for replica in &mut net.replicas {
        assert!(replica.whole(now).is_empty());
        assert_sound(replica);
    }
    net.pass(61 * SECOND);
    net.settle();
    net.assert_equal();
    assert!(net.replicas.iter().all(|replica| replica.footprint == 0));
}
