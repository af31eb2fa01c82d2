//! Large values, holes, and much to catch up with.

use super::super::Parcel;
use super::super::entries::Slot;
use super::super::streams::Stream;
use super::check::assert_sound;
use super::net::*;
use crate::state::{Origin, Scope};
use crate::wire::message::Message;

fn size(parcel: &Parcel) -> usize {
    let message = match parcel.clone() {
        Parcel::Delta(delta) => Message::StateDelta(delta),
        Parcel::Chunk(chunk) => Message::StateChunk(chunk),
    };
    let mut frame = Vec::new();
    message.encode(&mut frame);
    frame.len()
}

#[test]
fn large_values_arrive_by_chunks_over_a_lossy_link_and_small_ones_before_them() {
    let mut net = Net::new(2, 1);
    let now = net.now;
    let large = "x".repeat(64 << 10);
    net.replicas[0]
        .write(now, &put(Scope::Shared, "a", &large))
        .unwrap();
    net.replicas[0]
        .write(now, &put(Scope::Device, "b", "small"))
        .unwrap();
    net.replicas[0]
        .write(now, &put(Scope::Shared, "c", "small"))
        .unwrap();
    net.loss = 200;
    let mut seen = 0;
    for round in 0..200 {
        net.exchange(0, 1);
        net.pass(SECOND / 2);
        let small = value(&net.replicas[1], net.now, Origin::Shared, "c").is_some();
        let whole = value(&net.replicas[1], net.now, Origin::Shared, "a").is_some();
        assert!(small || !whole);
        if whole {
            seen = round;
            break;
        }
    }
    assert!(seen > 0, "not at the first attempt, but at some");
    net.settle();
    net.assert_equal();
}

#[test]
fn every_parcel_fits_a_datagram() {
    let mut net = Net::new(2, 2);
    let now = net.now;
    net.elect(0);
    for length in (0..3000).step_by(37) {
        for scope in [Scope::Leader, Scope::Device, Scope::Shared] {
            let key = "k".repeat(1 + length % 256);
            net.replicas[0]
                .write(now, &put(scope, &key, &"v".repeat(length)))
                .unwrap();
        }
        net.replicas[0].write(now, &add("n", i64::MIN)).unwrap();
    }
    let pushed = net.replicas[0].take_push();
    assert!(pushed.iter().all(|parcel| size(parcel) <= 1160));
    let vectors = net.replicas[1].vectors();
    let answer = net.replicas[0].delta_for(&vectors[0], 1 << 20);
    assert!(answer.iter().all(|parcel| size(parcel) <= 1160));
    give(now, &mut net.replicas[1], node(0), pushed);
    net.settle();
    net.assert_equal();
}

#[test]
fn vectors_of_many_streams_fit_datagrams_and_cover_all() {
    let mut net = Net::new(2, 3);
    let mut epoch = 0;
    for i in 2..200 {
        let mut other = super::super::Replica::new(setup(i, u64::from(u32::MAX) - 9));
        other.write(net.now, &put(Scope::Device, "a", "b")).unwrap();
        other.write(net.now, &add("n", 1)).unwrap();
        let parcels = other.take_push();
        give(
            net.now,
            &mut net.replicas[0],
            other.setup.me.node(),
            parcels,
        );
        epoch = i;
    }
    for _ in 0..40 {
        net.elect(epoch % 2);
        let now = net.now;
        net.replicas[epoch % 2]
            .write(now, &put(Scope::Leader, &format!("{epoch}"), "x"))
            .unwrap();
        epoch += 1;
    }
    let parts = net.replicas[0].vectors();
    assert!(parts.len() > 5);
    for part in &parts {
        let mut frame = Vec::new();
        Message::StateVector(part.clone()).encode(&mut frame);
        assert!(frame.len() <= 1160, "{}", frame.len());
    }
    net.settle();
    net.assert_equal();
}

#[test]
fn an_answer_keeps_to_its_room_and_says_that_there_is_more() {
    let mut net = Net::new(2, 4);
    let now = net.now;
    for i in 0..500 {
        net.replicas[0]
            .write(now, &put(Scope::Shared, &format!("{i}"), &"v".repeat(200)))
            .unwrap();
    }
    let mut rounds = 0;
    loop {
        let vectors = net.replicas[1].vectors();
        let answer = net.replicas[0].delta_for(&vectors[0], 16 << 10);
        let bytes: usize = answer.iter().map(size).sum();
        assert!(bytes < 20 << 10, "{bytes}");
        rounds += 1;
        if !give(now, &mut net.replicas[1], node(0), answer) {
            break;
        }
    }
    assert!((6..10).contains(&rounds), "{rounds}");
    net.assert_equal();
}

#[test]
fn an_island_joins_when_the_hole_is_filled() {
    let mut net = Net::new(3, 5);
    let now = net.now;
    let mut parts = Vec::new();
    for i in 0..4 {
        net.replicas[0]
            .write(now, &put(Scope::Shared, &format!("{i}"), "v"))
            .unwrap();
        parts.push(net.replicas[0].take_push());
    }
    let stream = net.replicas[0].own_shared();
    for at in [0, 3, 2] {
        give(now, &mut net.replicas[1], node(0), parts[at].clone());
    }
    assert_eq!(net.replicas[1].mark(stream), 1);
    assert_eq!(
        net.replicas[1].streams.get(stream).unwrap().islands,
        [(2, 4)]
    );
    give(now, &mut net.replicas[1], node(0), parts[1].clone());
    assert_eq!(net.replicas[1].mark(stream), 4);
    assert!(
        net.replicas[1]
            .streams
            .get(stream)
            .unwrap()
            .islands
            .is_empty()
    );
}

#[test]
fn islands_are_bounded_and_join_in_any_order() {
    let mut stream = Stream::default();
    for i in (1..40).rev() {
        stream.insert(10 * i, Slot::Table);
        stream.complete(10 * i - 1, 10 * i);
        assert!(stream.islands.len() <= 8);
    }
    assert_eq!(stream.islands[0], (9, 10));
    stream.complete(8, 25);
    assert_eq!(stream.islands[0], (8, 25));
    let extras = stream.extras_hash();
    stream.complete(0, 8);
    assert_eq!(stream.mark, 25);
    assert_ne!(stream.extras_hash(), extras);
    stream.complete(0, 1000);
    assert_eq!(stream.extras_hash(), 0);
    stream.forget();
    assert_ne!(stream.extras_hash(), 0);
    assert!(!stream.covers(10));
}

/// The writer is gone, and so is what filled the hole.
#[test]
fn replicas_with_a_hole_that_nobody_can_fill_become_equal() {
    let mut net = Net::new(4, 6);
    let now = net.now;
    for i in 0..700 {
        let key = format!("{i}");
        net.replicas[3]
            .write(now, &put(Scope::Shared, &key, &"v".repeat(150)))
            .unwrap();
        let push = net.replicas[3].take_push();
        // The first one reaches nobody, others one or another.
        if i > 0 {
            let to = i % 3;
            give(now, &mut net.replicas[to], node(3), push);
        }
    }
    let stream = net.replicas[3].own_shared();
    net.restart(3);
    let rounds = net.settle();
    net.assert_equal();
    assert_eq!(net.replicas[0].mark(stream), 0);
    let (keys, _) = net.replicas[3].size();
    assert_eq!(keys, 699);
    println!("{rounds} rounds");
    net.replicas.iter().for_each(assert_sound);
}
