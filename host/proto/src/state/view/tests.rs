use super::*;
use crate::id::PublicKey;
use crate::state::Scope;

const NOW: u64 = 1_000_000;

fn view() -> StateView {
    let me = PublicKey::new([3; 32]).expect("no point of low order");
    StateView::new(me.device_id(), StateConfig::default())
}

fn put(key: &str, value: &str) -> StateWrite {
    StateWrite::Put {
        scope: Scope::Shared,
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl_ms: None,
    }
}

fn told(key: &str, value: &str, handled: u32) -> StateUpdate {
    let value = Bytes::copy_from_slice(value.as_bytes());
    update(
        key,
        StateOutcome::Put {
            value,
            expires_at: None,
        },
        handled,
    )
}

fn update(key: &str, outcome: StateOutcome, handled: u32) -> StateUpdate {
    let origin = match outcome {
        StateOutcome::Counted(_) => Origin::Counter,
        _ => Origin::Shared,
    };
    StateUpdate {
        changes: vec![StateChange {
            origin,
            key: key.into(),
            outcome,
            own: handled > 0,
        }],
        handled,
        room: u64::MAX,
        whole: false,
    }
}

fn read(view: &StateView, key: &str) -> Option<String> {
    let value = view.get(Origin::Shared, key, NOW)?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn a_write_is_read_at_once_and_stays_until_it_is_accounted_for() {
    let mut view = view();
    view.write(&put("a", "1"), false, NOW).unwrap();
    assert_eq!(read(&view, "a").as_deref(), Some("1"));
    view.apply(&told("a", "of another device", 0));
    assert_eq!(read(&view, "a").as_deref(), Some("1"));
    view.write(&put("a", "2"), false, NOW).unwrap();
    view.apply(&told("a", "1", 1));
    assert_eq!(read(&view, "a").as_deref(), Some("2"));
    view.apply(&told("a", "later than mine", 1));
    assert_eq!(read(&view, "a").as_deref(), Some("later than mine"));
    assert_eq!(view.bytes(), 16);
}

#[test]
fn counters_add_what_is_pending_to_what_is_told() {
    let mut view = view();
    let add = |delta| StateWrite::Add {
        name: "n".into(),
        delta,
    };
    view.write(&add(5), false, NOW).unwrap();
    view.write(&add(-2), false, NOW).unwrap();
    assert_eq!(view.counter("n"), 3);
    view.apply(&update("n", StateOutcome::Counted(105), 1));
    assert_eq!(view.counter("n"), 103);
    view.apply(&update("n", StateOutcome::Counted(103), 1));
    assert_eq!(view.counter("n"), 103);
    view.write(&add(i64::MIN), false, NOW).unwrap();
    assert_eq!(view.counter("n"), i64::MIN + 103);
}

#[test]
fn a_copy_that_replays_the_writes_reads_the_same() {
    let mut view = view();
    let mut copy = view.clone();
    let add = StateWrite::Add {
        name: "n".into(),
        delta: 2,
    };
    for write in [put("a", "1"), put("a", "22"), add] {
        view.write(&write, false, NOW).unwrap();
        copy.replay(&write, NOW);
    }
    copy.apply(&told("a", "1", 1));
    assert_eq!(read(&copy, "a").as_deref(), Some("22"));
    assert_eq!((copy.counter("n"), copy.bytes()), (2, view.bytes()));
    let writes = (0..2000).filter(|_| copy.write(&put("b", "2"), false, NOW).is_ok());
    assert_eq!(writes.count(), 1000 - 3, "what is replayed counts");
}

#[test]
fn quotas_and_keys_are_checked_in_place() {
    let mut view = view();
    view.set_config(StateConfig {
        quota: 10,
        ..StateConfig::default()
    });
    assert_eq!(
        view.write(&put("", "1"), false, NOW),
        Err(WriteError::InvalidKey)
    );
    let long = "k".repeat(257);
    assert_eq!(
        view.write(&put(&long, "1"), false, NOW),
        Err(WriteError::InvalidKey)
    );
    assert_eq!(view.write(&put("a", "123456789"), false, NOW), Ok(()));
    assert_eq!(
        view.write(&put("b", "1"), false, NOW),
        Err(WriteError::TooLarge(10))
    );
    assert_eq!(view.write(&put("a", "1"), false, NOW), Ok(()));
    assert_eq!(
        view.write(&put("b", "12345678"), false, NOW),
        Err(WriteError::TooLarge(10))
    );
    assert_eq!(view.write(&put("b", "1"), false, NOW), Ok(()));
    let leaders = StateWrite::Delete {
        scope: Scope::Leader,
        key: "a".into(),
    };
    assert_eq!(view.write(&leaders, false, NOW), Err(WriteError::NotLeader));
    assert_eq!(view.write(&leaders, true, NOW), Ok(()));
    let writes = (0..2000).filter(|_| view.write(&put("b", "2"), false, NOW).is_ok());
    assert_eq!(writes.count(), 1000 - 4, "the burst");
    assert_eq!(
        view.write(&put("b", "2"), false, NOW),
        Err(WriteError::Busy)
    );
}

#[test]
fn what_expired_is_hidden_before_anyone_says_so() {
    let mut view = view();
    let put = StateWrite::Put {
        scope: Scope::Shared,
        key: "a".into(),
        value: Bytes::from_static(b"1"),
        ttl_ms: Some(5),
    };
    view.write(&put, false, NOW).unwrap();
    assert!(view.get(Origin::Shared, "a", NOW + 4_999).is_some());
    assert!(view.get(Origin::Shared, "a", NOW + 5_000).is_none());
    assert!(view.entries(Origin::Shared, "", NOW + 5_000).is_empty());
    assert_eq!(view.entries(Origin::Shared, "a", NOW).len(), 1);
}

#[test]
fn a_whole_state_replaces_what_was_known() {
    let mut view = view();
    view.apply(&told("a", "1", 0));
    view.write(&put("b", "22"), false, NOW).unwrap();
    view.apply(&StateUpdate {
        whole: true,
        ..told("c", "333", 0)
    });
    assert_eq!(read(&view, "a"), None);
    assert_eq!(read(&view, "b").as_deref(), Some("22"));
    assert_eq!(read(&view, "c").as_deref(), Some("333"));
    assert_eq!(view.bytes(), 4 + 3);
}

#[test]
fn a_replica_without_room_takes_no_more_but_makes_some() {
    let mut view = view();
    let delete = |key: &str| StateWrite::Delete {
        scope: Scope::Shared,
        key: key.into(),
    };
    let add = || StateWrite::Add {
        name: "n".into(),
        delta: 1,
    };
    let full = Err(WriteError::TooLarge(1 << 20));
    view.apply(&StateUpdate {
        room: 40,
        ..told("a", "12345", 0)
    });
    assert_eq!(view.write(&put("b", "1234567"), false, NOW), Ok(()), "24");
    assert_eq!(view.write(&put("c", ""), false, NOW), full, "17 more");
    assert_eq!(view.write(&put("b", "1"), false, NOW), Ok(()), "18");
    assert_eq!(view.write(&delete("b"), false, NOW), Ok(()), "17");
    assert_eq!(view.write(&put("c", "123456"), false, NOW), Ok(()), "40");
    assert_eq!(view.write(&delete("d"), false, NOW), full);
    assert_eq!(view.write(&add(), false, NOW), full);
    assert_eq!(
        view.write(&put("a", "54321"), false, NOW),
        Ok(()),
        "as before"
    );
    assert_eq!(view.write(&put("a", "654321"), false, NOW), full);
    assert_eq!(view.write(&delete("a"), false, NOW), Ok(()), "5 less");
    // The node has taken all of that in, and forgotten older deletions.
    view.apply(&StateUpdate {
        handled: 6,
        room: 17,
        ..update("c", StateOutcome::Deleted, 0)
    });
    assert_eq!(view.taken, Extra::default());
    assert_eq!(view.write(&add(), false, NOW), Ok(()));
    assert_eq!(view.write(&add(), false, NOW), Ok(()), "it is there");
    assert_eq!(view.write(&delete("d"), false, NOW), full);
}
