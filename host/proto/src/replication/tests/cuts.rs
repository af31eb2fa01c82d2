//! Leader state over changes of leader.

use super::check::assert_sound;
use super::net::*;
use crate::state::{Origin, Scope, StateWrite, WriteError};
use crate::wire::state::{CUTS_MAX, StreamId};

use super::super::{LeaderState, MergeError, Parcel};

fn led(net: &mut Net, leader: usize, key: &str, to: &str) {
    let now = net.now;
    net.replicas[leader]
        .write(now, &put(Scope::Leader, key, to))
        .unwrap();
}

fn read(net: &Net, i: usize, key: &str) -> Option<String> {
    value(&net.replicas[i], net.now, Origin::Leader, key)
}

#[test]
fn only_the_leader_writes() {
    let mut net = Net::new(2, 1);
    let now = net.now;
    let write = put(Scope::Leader, "a", "1");
    assert_eq!(
        net.replicas[0].write(now, &write),
        Err(WriteError::NotLeader)
    );
    net.elect(0);
    assert_eq!(net.replicas[0].write(now, &write), Ok(()));
    assert_eq!(
        net.replicas[1].write(now, &write),
        Err(WriteError::NotLeader)
    );
    net.replicas[0].resign();
    assert_eq!(
        net.replicas[0].write(now, &write),
        Err(WriteError::NotLeader)
    );
}

#[test]
fn a_stale_leaders_late_write_is_cut_and_told() {
    let mut net = Net::new(3, 2);
    net.elect(0);
    led(&mut net, 0, "a", "adopted");
    net.settle();
    // The others go on without the leader, which writes on.
    net.side = vec![1, 0, 0];
    net.leaders.clear();
    led(&mut net, 0, "a", "late");
    led(&mut net, 0, "b", "late");
    net.elect(1);
    assert_eq!(read(&net, 0, "a").unwrap(), "late");
    let push = net.replicas[0].take_push();
    net.side.fill(0);
    for parcel in push {
        let Parcel::Delta(delta) = parcel else {
            continue;
        };
        let now = net.now;
        let refused = net.replicas[2].merge(now, node(0), &delta);
        assert_eq!(refused, Err(MergeError::Stale));
        // Passed on by somebody else, it is beyond the cut once the table is there.
        let mut relayed = delta.clone();
        relayed.direct = false;
        assert_eq!(net.replicas[2].merge(now, node(1), &relayed), Ok(false));
        assert_eq!(net.replicas[1].merge(now, node(2), &relayed), Ok(false));
    }
    assert!(net.replicas[1].take_left_out() > 0, "it has the table");
    assert_eq!(read(&net, 2, "a").unwrap(), "adopted");
    net.follow(0, tenure(2, 1));
    net.settle();
    net.assert_equal();
    for i in 0..3 {
        assert_eq!(read(&net, i, "a").unwrap(), "adopted", "comes back at {i}");
        assert_eq!(read(&net, i, "b"), None);
    }
    let told = net.replicas[0].take_superseded();
    assert_eq!(
        told.iter().map(|key| &**key).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(net.replicas[0].take_superseded().is_empty());
    assert!(net.replicas[1].take_superseded().is_empty());
    let now = net.now;
    let write = put(Scope::Leader, "a", "x");
    assert_eq!(
        net.replicas[0].write(now, &write),
        Err(WriteError::NotLeader)
    );
}

#[test]
fn a_deletion_that_is_over_before_it_is_cut_is_told() {
    for adopted in [false, true] {
        let mut net = Net::new(3, 5);
        net.elect(0);
        led(&mut net, 0, "a", "old");
        led(&mut net, 0, "b", "old");
        net.settle();
        net.side = vec![1, 0, 0];
        net.leaders.clear();
        if !adopted {
            net.elect(1);
        }
        let now = net.now;
        for key in ["a", "b"] {
            let delete = delete(Scope::Leader, key);
            net.replicas[0].write(now, &delete).unwrap();
        }
        led(&mut net, 0, "b", "new");
        if adopted {
            net.side.fill(0);
            net.settle();
        }
        // Group time leaps at the one that was alone, as by the clock of those that it meets.
        net.pass(25 * HOUR);
        net.side.fill(0);
        let last = net.elect(1);
        net.follow(0, last);
        net.settle();
        net.assert_equal();
        let told = net.replicas[0].take_superseded();
        let told: Vec<&str> = told.iter().map(|key| &**key).collect();
        assert_eq!(told, if adopted { vec![] } else { vec!["a", "b"] });
        assert!(net.replicas[0].take_superseded().is_empty());
        let back = (!adopted).then_some("old");
        assert_eq!(read(&net, 0, "a").as_deref(), back);
    }
}

#[test]
fn what_superseded_an_older_value_and_was_cut_gives_it_back() {
    let mut net = Net::new(4, 3);
    net.elect(0);
    led(&mut net, 0, "a", "old");
    net.settle();
    net.side = vec![0, 0, 1, 1];
    // A second leader replaces the value on its own side; a third device only learns from it that
    // the old value is superseded.
    net.elect(2);
    led(&mut net, 2, "a", "replaced");
    net.settle_side(&[2, 3]);
    assert_eq!(read(&net, 3, "a").unwrap(), "replaced");
    let first = net.elect(1);
    let second = net.elect(0);
    assert!(second > first);
    net.side.fill(0);
    net.follow(0, second);
    net.settle();
    net.assert_equal();
    for i in 0..4 {
        assert_eq!(read(&net, i, "a").unwrap(), "old");
        assert_sound(&net.replicas[i]);
    }
}

#[test]
fn a_leader_that_died_before_publishing_leaves_no_trace() {
    let mut net = Net::new(3, 4);
    net.elect(0);
    led(&mut net, 0, "a", "1");
    net.settle();
    net.side = vec![0, 1, 0];
    let lost = net.elect(1);
    led(&mut net, 1, "a", "never seen");
    net.leaders.clear();
    net.restart(1);
    // It was known to lead, but nobody has its table.
    net.replicas[0].follow(Some(lost));
    net.replicas[2].follow(Some(lost));
    assert_eq!(read(&net, 2, "a").unwrap(), "1", "serves what it has");
    net.side.fill(0);
    net.elect(2);
    net.settle();
    net.assert_equal();
    assert_eq!(read(&net, 1, "a").unwrap(), "1");
}

#[test]
fn a_replica_without_the_followed_tenures_table_takes_no_older_entry() {
    let mut net = Net::new(3, 5);
    net.elect(0);
    led(&mut net, 0, "a", "1");
    net.settle();
    led(&mut net, 0, "b", "2");
    let parcels = net.replicas[0].push_after(StreamId::Leader(tenure(1, 0)), 1);
    net.replicas[2].follow(Some(tenure(2, 1)));
    for parcel in parcels {
        let Parcel::Delta(mut delta) = parcel else {
            continue;
        };
        let now = net.now;
        assert_eq!(
            net.replicas[2].merge(now, node(0), &delta),
            Err(MergeError::Stale)
        );
        delta.direct = false;
        assert_eq!(net.replicas[2].merge(now, node(1), &delta), Ok(false));
    }
    assert_eq!(read(&net, 2, "b"), None);
    assert_eq!(read(&net, 2, "a").unwrap(), "1");
    assert_eq!(net.replicas[2].mark(StreamId::Leader(tenure(1, 0))), 2);
}

#[test]
fn two_heals_in_a_row() {
    let mut net = Net::new(3, 6);
    net.elect(0);
    led(&mut net, 0, "a", "0");
    net.settle();
    net.side = vec![0, 1, 2];
    net.elect(1);
    led(&mut net, 1, "a", "1");
    net.elect(2);
    led(&mut net, 2, "a", "2");
    led(&mut net, 2, "b", "2");
    // First the second device joins the first one, which is re-affirmed, then the third.
    net.side = vec![0, 0, 1];
    net.elect(0);
    net.settle_side(&[0, 1]);
    assert_eq!(
        read(&net, 1, "a").unwrap(),
        "1",
        "the new leader adopts what it is told"
    );
    net.side.fill(0);
    net.elect(0);
    net.settle();
    net.assert_equal();
    assert!(read(&net, 2, "a").is_some());
    net.replicas.iter().for_each(assert_sound);
}

#[test]
fn a_leader_that_is_affirmed_again_keeps_all_it_wrote() {
    let mut net = Net::new(2, 7);
    net.elect(0);
    led(&mut net, 0, "a", "1");
    let now = net.now;
    net.replicas[0].lead(now, tenure(9, 0), &[], 77);
    net.follow(0, tenure(9, 0));
    assert_eq!(read(&net, 0, "a").unwrap(), "1");
    led(&mut net, 0, "b", "2");
    let state = net.replicas[0].leader_state();
    assert_eq!(state.table.as_ref().unwrap().cuts, [(tenure(1, 0), 2)]);
    assert!(net.replicas[0].take_superseded().is_empty());
    net.settle();
    net.assert_equal();
    assert_eq!(read(&net, 1, "a").unwrap(), "1");
    assert_eq!(read(&net, 1, "b").unwrap(), "2");
}

#[test]
fn more_tenures_than_a_table_has_room_for() {
    let mut net = Net::new(3, 8);
    for round in 0..3 * CUTS_MAX {
        let leader = round % 3;
        net.elect(leader);
        led(&mut net, leader, &format!("k{round}"), &format!("{round}"));
        net.settle();
        let state = net.replicas[leader].leader_state();
        assert!(state.table.unwrap().cuts.len() <= CUTS_MAX);
    }
    net.assert_equal();
    for round in 0..3 * CUTS_MAX {
        let held = read(&net, round % 3, &format!("k{round}"));
        assert_eq!(held.unwrap(), round.to_string());
    }
    assert!(net.replicas[0].take_superseded().is_empty());
}

#[test]
fn a_larger_table_stops_the_leader_of_a_smaller_one() {
    let mut net = Net::new(2, 9);
    net.elect(0);
    led(&mut net, 0, "a", "1");
    let now = net.now;
    let answer = net.replicas[0].leader_state();
    net.replicas[1].lead(now, tenure(5, 1), &[answer, LeaderState::default()], 3);
    let vectors = net.replicas[1].leader_vectors();
    net.replicas[0].compare(now, &vectors[0]);
    assert_eq!(
        net.replicas[0].table_tenure(),
        Some(tenure(1, 0)),
        "not followed"
    );
    net.replicas[0].follow(Some(tenure(5, 1)));
    net.replicas[0].compare(now, &vectors[0]);
    let write = StateWrite::Delete {
        scope: Scope::Leader,
        key: "a".into(),
    };
    assert_eq!(
        net.replicas[0].write(now, &write),
        Err(WriteError::NotLeader)
    );
    assert!(net.replicas[0].take_superseded().is_empty(), "adopted");
    assert_eq!(read(&net, 0, "a").unwrap(), "1");
}

/// It restarted without anything, its epochs go on above the group's, and so it leads by itself.
#[test]
fn a_device_that_led_by_itself_takes_nothing_from_the_group_that_it_joins() {
    for with_election in [false, true] {
        let mut net = Net::new(4, 10);
        net.elect(0);
        led(&mut net, 0, "a", "1");
        let now = net.now;
        net.replicas[1]
            .write(now, &put(Scope::Shared, "s", "1"))
            .unwrap();
        net.settle();
        net.side = vec![0, 0, 0, 1];
        net.restart(3);
        net.elect(3);
        led(&mut net, 3, "b", "alone");
        net.side.fill(0);
        for i in 0..3 {
            net.exchange(i, 3);
            net.exchange(3, i);
            assert_eq!(read(&net, i, "a").unwrap(), "1");
            assert_eq!(net.replicas[i].table_tenure(), Some(tenure(1, 0)));
        }
        if with_election {
            // The leader is gone at this very moment; whoever follows it asks all.
            net.elect(2);
        } else {
            let affirmed = net.elect_alone(0);
            net.follow(0, affirmed);
        }
        net.settle();
        net.assert_equal();
        assert_eq!(read(&net, 3, "a").unwrap(), "1");
        assert_eq!(
            value(&net.replicas[3], net.now, Origin::Shared, "s").unwrap(),
            "1"
        );
        let told = net.replicas[3].take_superseded();
        let told: Vec<&str> = told.iter().map(|key| &**key).collect();
        if with_election {
            // It was asked too, so what it wrote as leader holds.
            assert_eq!(read(&net, 0, "b").unwrap(), "alone");
            assert!(told.is_empty(), "{told:?}");
        } else {
            assert_eq!(read(&net, 3, "b"), None);
            assert_eq!(told, ["b"]);
        }
    }
}

/// It never held what superseded the value, only heard that something did.
#[test]
fn a_range_that_was_believed_because_of_an_entry_beyond_the_cut_is_doubted() {
    let mut net = Net::new(3, 11);
    net.elect(0);
    net.side = vec![0, 0, 1];
    led(&mut net, 0, "a", "old");
    led(&mut net, 0, "b", "old");
    net.settle_side(&[0, 1]);
    let first = StreamId::Leader(tenure(1, 0));
    let second = net.elect(1);
    net.settle_side(&[0, 1]);
    led(&mut net, 1, "a", "replaced");
    net.replicas[2].follow(Some(second));
    let (now, theirs) = (net.now, net.replicas[2].vectors());
    let vectors = net.replicas[1].vectors();
    net.replicas[2].compare(now, &vectors[0]);
    let parcels = net.replicas[1].delta_for(&theirs[0], 1 << 20);
    for parcel in parcels {
        match parcel {
            Parcel::Delta(delta) if delta.stream == first => {
                let mut other = delta.clone();
                other.tenure = Some(tenure(1, 0));
                net.replicas[2].merge(now, node(1), &other).unwrap();
                assert_eq!(net.replicas[2].mark(first), 0, "judged by another table");
                net.replicas[2].merge(now, node(1), &delta).unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(net.replicas[2].mark(first), 3);
    assert_eq!(read(&net, 2, "a"), None);
    // Its leader dies before anyone else has it; the next one cuts the tenure right after its table.
    net.leaders.clear();
    net.restart(1);
    net.side = vec![0, 1, 1];
    let third = net.elect(0);
    assert_eq!(
        net.replicas[0].leader_state().table.unwrap().cuts[1],
        (second, 1)
    );
    net.side.fill(0);
    net.follow(0, third);
    net.settle();
    net.assert_equal();
    assert_eq!(read(&net, 2, "a").unwrap(), "old");
}
