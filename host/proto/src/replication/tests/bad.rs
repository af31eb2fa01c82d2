//! What other devices may send that they should not.

use bytes::Bytes;

use super::super::delta::pack_table;
use super::super::{MergeError, Parcel, Replica};
use super::check::assert_sound;
use super::net::*;
use crate::id::{GroupKey, NodeId};
use crate::state::{Origin, Scope, StateConfig};
use crate::wire::state::{
    Class, Held, Purpose, Stamp, StateChunk, StateDelta, StateVector, StreamId, Table, Tenure,
    WireEntry,
};

fn shared(i: usize, boot: u64) -> StreamId {
    StreamId::Shared {
        writer: node(i),
        stamp: setup(i, boot).stamp,
    }
}

pub(super) fn entry(n: u64, key: &str) -> WireEntry {
    WireEntry {
        n,
        class: Class::Value,
        key: key.to_owned(),
        at: (START / 1000) << 16,
        expires_at: 0,
        value: Bytes::from_static(b"v"),
    }
}

pub(super) fn delta(stream: StreamId, from: u64, to: u64, entries: Vec<WireEntry>) -> StateDelta {
    StateDelta {
        group: GROUP,
        stream,
        device: None,
        direct: false,
        more: false,
        from,
        to,
        tenure: None,
        relied: 0,
        entries,
    }
}

/// Is refused, and changes nothing.
fn refuses(replica: &mut Replica, delta: &StateDelta, error: MergeError) {
    let before = format!("{replica:?}");
    assert_eq!(replica.merge(START, node(1), delta), Err(error));
    assert_eq!(format!("{replica:?}"), before);
}

#[test]
fn keys_and_values_have_bounds() {
    let mut net = Net::new(2, 1);
    let replica = &mut net.replicas[0];
    let stream = shared(1, 1);
    let mut check = |entry: WireEntry, error| {
        refuses(replica, &delta(stream, 0, 1, vec![entry]), error);
    };
    check(entry(1, ""), MergeError::Key(0));
    check(entry(1, &"k".repeat(257)), MergeError::Key(257));
    let value = Bytes::from(vec![0; (64 << 10) + 1]);
    check(
        WireEntry {
            value,
            ..entry(1, "k")
        },
        MergeError::Value((64 << 10) + 1),
    );
    let class = Class::Counter;
    check(
        WireEntry {
            class,
            ..entry(1, "k")
        },
        MergeError::Malformed,
    );
    let class = Class::Tombstone;
    check(
        WireEntry {
            class,
            ..entry(1, "k")
        },
        MergeError::Malformed,
    );
    let sum = WireEntry {
        class: Class::Counter,
        value: Bytes::from_static(&[0; 8]),
        at: u64::MAX,
        ..entry(1, "k")
    };
    check(sum, MergeError::Malformed);
}

#[test]
fn entries_ascend_within_their_range() {
    let mut net = Net::new(2, 1);
    let replica = &mut net.replicas[0];
    let stream = shared(1, 1);
    for (from, to, ns) in [
        (0, 2, vec![2, 1]),
        (0, 2, vec![1, 1]),
        (0, 2, vec![0]),
        (0, 2, vec![1, 3]),
        (5, 7, vec![5]),
        (7, 5, vec![]),
        (4, 4, vec![4]),
        (4, 4, vec![u64::MAX]),
    ] {
        let entries = ns.iter().map(|n| entry(*n, "k")).collect();
        refuses(
            replica,
            &delta(stream, from, to, entries),
            MergeError::Order,
        );
    }
    let many = (1..=257).map(|n| entry(n, "k")).collect();
    refuses(replica, &delta(stream, 0, 257, many), MergeError::Malformed);
    let other = StateDelta {
        group: GroupKey(8),
        ..delta(stream, 0, 1, vec![entry(1, "k")])
    };
    refuses(replica, &other, MergeError::Malformed);
}

#[test]
fn nobody_writes_for_another() {
    let mut net = Net::new(3, 1);
    let replica = &mut net.replicas[0];
    let direct = |stream| StateDelta {
        direct: true,
        ..delta(stream, 0, 1, vec![entry(1, "k")])
    };
    refuses(replica, &direct(shared(2, 1)), MergeError::NotWriter);
    assert_eq!(
        replica.merge(START, node(1), &direct(shared(1, 1))),
        Ok(true)
    );
    let own = shared(0, 1);
    refuses(
        replica,
        &delta(own, 0, 1, vec![entry(1, "k")]),
        MergeError::Own,
    );
    refuses(replica, &delta(own, 0, 9, vec![]), MergeError::Own);
    let stream = StreamId::Device {
        writer: node(1),
        stamp: Stamp(1 << 32),
    };
    let mut claim = delta(stream, 0, 1, vec![entry(1, "k")]);
    refuses(replica, &claim, MergeError::Malformed);
    claim.device = Some(device(2));
    refuses(replica, &claim, MergeError::Malformed);
    claim.device = Some(device(1));
    assert_eq!(replica.merge(START, node(1), &claim), Ok(true));
    let counter = WireEntry {
        class: Class::Counter,
        value: Bytes::from_static(&[0; 8]),
        ..entry(2, "k")
    };
    claim.entries = vec![counter];
    claim.to = 2;
    refuses(replica, &claim, MergeError::Malformed);
}

#[test]
fn a_claim_to_this_devices_later_boots_is_believed_up_to_a_point() {
    let mut net = Net::new(2, 1);
    net.replicas[0]
        .write(START, &put(Scope::Device, "k", "this run"))
        .unwrap();
    net.replicas[0].write(START, &add("n", 3)).unwrap();
    let wild = StreamId::Shared {
        writer: node(0),
        stamp: Stamp(u64::MAX),
    };
    let claim = delta(wild, 0, 1, vec![entry(1, "k")]);
    assert_eq!(
        net.replicas[0].merge(START, node(1), &claim),
        Err(MergeError::Own)
    );
    // A backup was restored: the others know a later boot of this device.
    let mut later = Replica::new(setup(0, 4));
    later
        .write(START, &put(Scope::Device, "k", "later run"))
        .unwrap();
    later
        .write(START, &put(Scope::Device, "l", "later run"))
        .unwrap();
    later.write(START, &add("n", 4)).unwrap();
    give(START, &mut net.replicas[1], node(0), later.take_push());
    net.settle();
    net.assert_equal();
    let origin = Origin::Device(device(0));
    for replica in &net.replicas {
        assert_eq!(value(replica, START, origin, "k").unwrap(), "this run");
        assert_eq!(value(replica, START, origin, "l").unwrap(), "later run");
        assert_eq!(value(replica, START, Origin::Counter, "n").unwrap(), "7");
    }
    assert_eq!(net.replicas[0].setup.stamp, setup(0, 5).stamp);
    net.replicas[0]
        .write(START, &put(Scope::Device, "l", "again"))
        .unwrap();
    net.settle();
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[1], START, origin, "l").unwrap(),
        "again"
    );
}

#[test]
fn tables_are_checked() {
    let mut net = Net::new(3, 1);
    net.elect(0);
    net.settle();
    let replica = &mut net.replicas[2];
    let table = |tenure: Tenure| Table {
        tenure,
        n: 1,
        cuts: Vec::new(),
        lineage: Vec::new(),
        stamped: 0,
    };
    let carried = |stream, n, table: &Table, key: &str| {
        let entry = WireEntry {
            n,
            class: Class::Table,
            value: pack_table(table),
            ..entry(n, key)
        };
        delta(stream, 0, n, vec![entry])
    };
    let t = tenure(5, 1);
    let stream = StreamId::Leader(t);
    let good = table(t);
    refuses(
        replica,
        &carried(stream, 2, &good, ""),
        MergeError::Malformed,
    );
    refuses(
        replica,
        &carried(stream, 1, &good, "k"),
        MergeError::Malformed,
    );
    refuses(
        replica,
        &carried(shared(1, 1), 1, &good, ""),
        MergeError::Malformed,
    );
    for cuts in [
        vec![(tenure(3, 1), 1), (tenure(2, 1), 1)],
        vec![(tenure(3, 1), 1), (tenure(3, 1), 1)],
        vec![(tenure(6, 1), 1)],
        (0..33).map(|i| (tenure(1, 1 + i), 1)).collect(),
    ] {
        let bad = Table {
            cuts,
            ..good.clone()
        };
        refuses(
            replica,
            &carried(stream, 1, &bad, ""),
            MergeError::Malformed,
        );
    }
    let lineage = vec![1; 25];
    let bad = Table {
        lineage,
        ..good.clone()
    };
    refuses(
        replica,
        &carried(stream, 1, &bad, ""),
        MergeError::Malformed,
    );
    let mut torn = carried(stream, 1, &good, "");
    torn.entries[0].value = Bytes::from_static(b"x");
    refuses(replica, &torn, MergeError::Malformed);
    let leap = tenure((1 << 32) + 2, 1);
    let bad = carried(StreamId::Leader(leap), 1, &table(leap), "");
    refuses(replica, &bad, MergeError::Leap);
    let vector = StateVector {
        group: GROUP,
        purpose: Purpose::Exchange,
        table: Some(table(leap)),
        after: None,
        upto: None,
        held: Vec::new(),
    };
    replica.compare(START, &vector);
    assert_eq!(replica.table_tenure(), Some(tenure(1, 0)));
    let good = carried(stream, 1, &good, "");
    assert_eq!(replica.merge(START, node(1), &good), Ok(false));
    assert_eq!(replica.table_tenure(), Some(tenure(1, 0)), "not followed");
    replica.follow(Some(t));
    assert_eq!(replica.merge(START, node(1), &good), Ok(true));
    assert_eq!(replica.table_tenure(), Some(t));
}

#[test]
fn the_leader_takes_no_table_of_its_own_tenure_from_others() {
    let mut net = Net::new(2, 1);
    let t = net.elect(0);
    let forged = Table {
        tenure: t,
        n: 9,
        cuts: Vec::new(),
        lineage: vec![1],
        stamped: 0,
    };
    let vector = StateVector {
        group: GROUP,
        purpose: Purpose::Exchange,
        table: Some(forged),
        after: None,
        upto: None,
        held: Vec::new(),
    };
    net.replicas[0].compare(START, &vector);
    assert_eq!(net.replicas[0].leader_state().table.unwrap().n, 1);
}

#[test]
fn streams_are_bounded_and_idle_ones_make_room() {
    let mut replica = Replica::new(setup(0, 1));
    replica.write(START, &put(Scope::Device, "k", "v")).unwrap();
    let stream = |i: u64| StreamId::Shared {
        writer: NodeId(i),
        stamp: Stamp(1),
    };
    for i in 0..4095 {
        let key = format!("{i}");
        replica
            .merge(
                START,
                node(1),
                &delta(stream(i), 0, 1, vec![entry(1, &key)]),
            )
            .unwrap();
    }
    let one_more = delta(stream(5000), 0, 1, vec![entry(1, "one more")]);
    let refused = replica.merge(START, node(1), &one_more);
    assert_eq!(refused, Err(MergeError::Full));
    // Once something of another stream is superseded, there is room.
    let later = WireEntry {
        at: ((START / 1000) << 16) + 1,
        ..entry(2, "17")
    };
    replica
        .merge(START, node(1), &delta(stream(18), 1, 2, vec![later]))
        .unwrap();
    assert_eq!(replica.merge(START, node(1), &one_more), Ok(true));
    assert_sound(&replica);
}

#[test]
fn a_replica_has_a_hard_bound() {
    let mut replica = Replica::new(setup(0, 1));
    let config = StateConfig {
        quota: 100 << 10,
        ..StateConfig::default()
    };
    replica.set_config(config);
    let stream = shared(1, 1);
    let mut n = 0;
    let refused = loop {
        n += 1;
        let value = Bytes::from(vec![0; 10 << 10]);
        let big = WireEntry {
            value,
            ..entry(n, &format!("{n}"))
        };
        match replica.merge(START, node(1), &delta(stream, n - 1, n, vec![big])) {
            Ok(new) => assert!(new),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, MergeError::Full);
    assert_eq!(n, 46, "twice the quota and 256 KiB");
    assert!(
        replica
            .write(START, &put(Scope::Shared, "mine", "v"))
            .is_err()
    );
    assert_sound(&replica);
    // What takes the place of something larger is let in.
    let small = WireEntry {
        at: u64::MAX >> 20,
        ..entry(n, "1")
    };
    let now = 2 * START;
    assert!(
        replica
            .merge(now, node(1), &delta(stream, n - 1, n, vec![small]))
            .is_ok()
    );
}

#[test]
fn chunks_are_checked_and_bounded() {
    let mut replica = Replica::new(setup(0, 1));
    let good = StateChunk {
        group: GROUP,
        stream: shared(1, 1),
        device: None,
        direct: false,
        n: 1,
        tenure: None,
        until: 0,
        total: 2500,
        offset: 0,
        bytes: Bytes::from(vec![0; 1000]),
    };
    let mut refuses = |chunk: StateChunk| {
        let refused = replica.merge_chunk(START, node(2), chunk);
        assert!(matches!(
            refused,
            Err(MergeError::Malformed | MergeError::NotWriter)
        ));
        assert_eq!(replica.next_timeout(), None, "nothing is kept of it");
    };
    let short = Bytes::from_static(b"x");
    refuses(StateChunk {
        bytes: short,
        ..good.clone()
    });
    refuses(StateChunk {
        offset: 999,
        ..good.clone()
    });
    refuses(StateChunk {
        offset: 3000,
        ..good.clone()
    });
    refuses(StateChunk {
        offset: 2000,
        ..good.clone()
    });
    refuses(StateChunk {
        total: 1 << 20,
        ..good.clone()
    });
    refuses(StateChunk {
        total: 0,
        ..good.clone()
    });
    refuses(StateChunk {
        n: 0,
        ..good.clone()
    });
    refuses(StateChunk {
        direct: true,
        ..good.clone()
    });
    refuses(StateChunk {
        group: GroupKey(1),
        ..good.clone()
    });
    for n in 1..20 {
        let one = StateChunk { n, ..good.clone() };
        assert_eq!(replica.merge_chunk(START + n, node(2), one), Ok(false));
    }
    let other = StateChunk {
        n: 19,
        total: 1500,
        ..good.clone()
    };
    assert_eq!(
        replica.merge_chunk(START, node(2), other),
        Err(MergeError::Malformed)
    );
    assert_eq!(
        replica.next_timeout(),
        Some(START + 12 + 5 * SECOND),
        "eight at once"
    );
    replica.handle_timeout(START + 10 * SECOND);
    assert_eq!(replica.next_timeout(), None);
    let end = Bytes::from(vec![0; 10]);
    let whole = StateChunk {
        total: 10,
        bytes: end,
        ..good
    };
    assert_eq!(
        replica.merge_chunk(START, node(2), whole),
        Err(MergeError::Malformed)
    );
}

/// Whatever decodes is survived.
#[test]
fn random_vectors_and_deltas_do_no_harm() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..300 {
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
        let mut net = Net::new(3, seed);
        net.elect(0);
        net.replicas[0]
            .write(START, &put(Scope::Leader, "k", "v"))
            .unwrap();
        net.replicas[1].write(START, &add("k", 1)).unwrap();
        net.settle();
        for _ in 0..60 {
            let edge = |rng: &mut rand_chacha::ChaCha12Rng| {
                let edges = [0, 1, 2, 3, 5, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
                edges[rng.random_range(0..edges.len())]
            };
            let who = NodeId([node(0).0, node(1).0, 0, u64::MAX][rng.random_range(0..4)]);
            let stamp = Stamp(edge(&mut rng));
            let stream = match rng.random_range(0..3) {
                0 => StreamId::Leader(Tenure {
                    epoch: edge(&mut rng),
                    leader: who,
                }),
                1 => StreamId::Device { writer: who, stamp },
                _ => StreamId::Shared { writer: who, stamp },
            };
            let table = Table {
                tenure: Tenure {
                    epoch: edge(&mut rng),
                    leader: who,
                },
                n: edge(&mut rng),
                cuts: vec![(tenure(1, 0), edge(&mut rng))],
                lineage: vec![1],
                stamped: edge(&mut rng),
            };
            let held = Held {
                stream,
                mark: edge(&mut rng),
                extras: 1,
                top: edge(&mut rng),
                pending: 1,
            };
            let vector = StateVector {
                group: GROUP,
                purpose: Purpose::Exchange,
                table: Some(table),
                after: rng.random::<bool>().then_some(stream),
                upto: rng.random::<bool>().then_some(stream),
                held: vec![held, held],
            };
            let wire = WireEntry {
                class: if rng.random() {
                    Class::Value
                } else {
                    Class::Tombstone
                },
                value: Bytes::new(),
                expires_at: edge(&mut rng),
                at: edge(&mut rng),
                ..entry(edge(&mut rng), "k")
            };
            let parcel = StateDelta {
                device: Some(device(rng.random_range(0..3))),
                direct: rng.random(),
                tenure: Some(tenure(1, 0)),
                relied: edge(&mut rng),
                ..delta(stream, edge(&mut rng), edge(&mut rng), vec![wire])
            };
            let now = START + edge(&mut rng) % (1 << 40);
            let replica = &mut net.replicas[rng.random_range(0..3)];
            replica.compare(now, &vector);
            replica.delta_for(&vector, 1000);
            let _ = replica.merge(now, node(1), &parcel);
            if rng.random_range(0..8) == 0 {
                replica.handle_timeout(now);
                replica.set_back(now);
            }
            let _ = replica.write(now, &put(Scope::Shared, "k", "v"));
            let _ = replica.write(now, &add("k", i64::MAX));
            let parcels = replica.take_push();
            assert!(parcels.iter().all(|p| matches!(p, Parcel::Delta(_))));
            assert_sound(replica);
        }
    }
}
