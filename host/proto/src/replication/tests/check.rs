//! What holds for a replica at any moment.

use std::collections::BTreeMap;

use super::super::entries::{Content, Entry, Slot};
use super::super::leader::cut;
use super::super::*;

/// All entries with the slots they are in, by place.
fn entries(replica: &Replica) -> BTreeMap<(StreamId, u64), (Slot, Entry)> {
    let mut all = BTreeMap::new();
    for (id, held) in replica.streams.iter() {
        for (n, slot) in held.index() {
            if *slot == Slot::Table {
                let table = replica.table.as_ref().unwrap();
                assert_eq!((id, *n), (StreamId::Leader(table.tenure), table.n));
                continue;
            }
            let entry = replica
                .store
                .find(slot, id, *n)
                .expect("what the index names is held");
            all.insert((id, *n), (slot.clone(), entry.clone()));
        }
    }
    all
}

/// The index names all that is held and nothing else; sums are what they sum up.
pub(super) fn assert_sound(replica: &Replica) {
    let all = entries(replica);
    let store = &replica.store;
    let shared = store
        .shared
        .values()
        .map(|place| usize::from(place.current.is_some()) + place.pending.len());
    let sums: usize = replica.streams.iter().map(|(_, held)| held.counters).sum();
    assert_eq!(all.len(), store.single.len() + shared.sum::<usize>() + sums);
    let footprint: u64 = all.values().map(|(_, entry)| entry.weight()).sum();
    assert_eq!(replica.footprint, footprint);
    let timed = all.values().filter(|(_, entry)| entry.timer != 0);
    assert_eq!(replica.timers.len(), timed.count());
    let visible = store
        .single
        .values()
        .chain(store.shared.values().filter_map(|p| p.current.as_ref()));
    let values = visible.filter(|entry| matches!(entry.content, Content::Value(_)));
    assert_eq!(replica.live_keys, values.count() + store.counters.len());
    for (id, held) in replica.streams.iter() {
        let last = held.index().last_key_value().map_or(0, |(n, _)| *n);
        assert!(held.top >= last.max(held.mark), "{id:?}");
        assert!(held.islands.len() <= 8);
    }
    assert_within_cuts(replica);
}

/// No entry beyond its cut is held, and none without a table.
fn assert_within_cuts(replica: &Replica) {
    let leader = replica.store.single.iter();
    for (_, entry) in leader.filter(|(slot, _)| matches!(slot, Slot::Leader(_))) {
        let table = replica
            .table
            .as_ref()
            .expect("nothing is held without a table");
        let tenure = entry.stream.tenure().unwrap();
        let within = tenure == table.tenure || entry.n <= cut(table, tenure);
        assert!(within, "{entry:?} is beyond {table:?}");
    }
}

/// The versions of what counts, to compare with those of a later moment.
#[derive(Debug)]
pub(super) struct Versions {
    table: Option<Tenure>,
    by_slot: BTreeMap<Slot, (u64, StreamId, u64)>,
}

pub(super) fn versions(replica: &Replica) -> Versions {
    let single = replica.store.single.values().map(|entry| (0, entry));
    let shared = replica
        .store
        .shared
        .values()
        .filter_map(|place| place.current.as_ref());
    let all = single.chain(shared.map(|entry| (entry.at, entry)));
    Versions {
        table: replica.table_tenure(),
        by_slot: all
            .map(|(at, e)| (e.slot.clone(), (at, e.stream, e.n)))
            .collect(),
    }
}

/// No key's version goes back, but for leader state by a table of another tenure.
pub(super) fn assert_forward(before: &Versions, replica: &Replica) {
    let after = versions(replica);
    for (slot, version) in &before.by_slot {
        if matches!(slot, Slot::Leader(_)) && before.table != after.table {
            continue;
        }
        let later = after.by_slot.get(slot);
        assert!(
            later >= Some(version),
            "{slot:?} went from {version:?} to {later:?}"
        );
    }
}
