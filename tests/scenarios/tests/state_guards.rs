//! Guards of replicated state against a member that says what is not so. Each refusal is counted,
//! and what follows goes on as before.

use bytes::Bytes;
use consort_proto::{
    FalseEntry, FalseKind, Lie, Origin, PluginCommand, PluginEvent, Scope, StateOutcome, StateWrite,
};
use consort_scenarios::wire::Wire;
use consort_scenarios::{app, ms, secs};
use consort_sim::spec;

const VALUE: Bytes = Bytes::from_static(b"true");

/// What a node's plugin was told last of a key.
fn told(wire: &Wire, node: usize, origin: Origin, key: &str) -> Option<Bytes> {
    let updates = wire.plugin_events(node).filter_map(|event| match event {
        PluginEvent::State(update) => Some(&update.changes),
        _ => None,
    });
    let changes = updates.flatten();
    let mut last = None;
    for change in changes.filter(|change| change.origin == origin && &*change.key == key) {
        last = match &change.outcome {
            StateOutcome::Put { value, .. } => Some(value.clone()),
            StateOutcome::Counted(_) | StateOutcome::Deleted | StateOutcome::Expired => None,
        };
    }
    last
}

fn write(wire: &mut Wire, node: usize, scope: Scope, key: &str) {
    let write = StateWrite::Put {
        scope,
        key: key.into(),
        value: VALUE,
        ttl_ms: None,
    };
    wire.command(node, app().id, PluginCommand::Write(write));
    wire.run_for(ms(1_500));
}

fn refused(wire: &Wire, node: usize) -> u64 {
    wire.status(node).counters.state_refused
}

fn entry(wire: &Wire, writer: usize, kind: FalseKind, direct: bool, key: &str) -> FalseEntry {
    FalseEntry {
        group: app().group(),
        writer: wire.id(writer),
        kind,
        direct,
        key: key.to_owned(),
        value: Bytes::from_static(b"false"),
    }
}

/// Three nodes, of which each has written something; their leader.
fn written() -> (Wire, usize) {
    let (mut wire, leader) = Wire::formed(3);
    for node in 0..3 {
        write(&mut wire, node, Scope::Device, "name");
        write(&mut wire, node, Scope::Shared, &format!("colour {node}"));
    }
    write(&mut wire, leader, Scope::Leader, "scene");
    (wire, leader)
}

/// Everything still works between all of them.
fn still_works(wire: &mut Wire) {
    for node in 0..3 {
        let key = format!("after {node}");
        write(wire, node, Scope::Shared, &key);
        write(wire, node, Scope::Device, "name");
        wire.run_for(secs(2));
        let origin = Origin::Device(wire.id(node));
        for other in 0..3 {
            assert_eq!(
                told(wire, other, Origin::Shared, &key),
                Some(VALUE),
                "n{other}"
            );
            assert_eq!(told(wire, other, origin, "name"), Some(VALUE), "n{other}");
        }
    }
}

#[test]
fn a_push_in_another_s_name_is_refused() {
    let (mut wire, leader) = written();
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let epoch = wire.status(hearer).plugins[0].term;
    let before = refused(&wire, hearer);
    for kind in [
        FalseKind::Device,
        FalseKind::Shared,
        FalseKind::Leader(epoch),
    ] {
        let lie = Lie::Entry(entry(&wire, leader, kind, true, "forged"));
        wire.lie(liar, hearer, lie);
    }
    wire.run_for(ms(5));
    assert_eq!(refused(&wire, hearer), before + 3);
    let origins = [
        Origin::Device(wire.id(leader)),
        Origin::Shared,
        Origin::Leader,
    ];
    for origin in origins {
        assert_eq!(told(&wire, hearer, origin, "forged"), None, "{origin:?}");
    }
    still_works(&mut wire);
}

#[test]
fn nobody_continues_a_device_s_own_streams() {
    let (mut wire, leader) = written();
    let (liar, victim) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = refused(&wire, victim);
    for kind in [FalseKind::Device, FalseKind::Shared] {
        let lie = Lie::Entry(entry(&wire, victim, kind, false, "forged"));
        wire.lie(liar, victim, lie);
    }
    wire.run_for(ms(5));
    assert_eq!(refused(&wire, victim), before + 2);
    for origin in [Origin::Device(wire.id(victim)), Origin::Shared] {
        assert_eq!(told(&wire, victim, origin, "forged"), None, "{origin:?}");
    }
    still_works(&mut wire);
}

#[test]
fn an_entry_of_an_unknown_plugin_is_counted() {
    let (mut wire, leader) = written();
    let hearer = (leader + 1) % 3;
    let before = refused(&wire, hearer);
    let mut false_entry = entry(&wire, leader, FalseKind::Shared, true, "forged");
    false_entry.group = spec("unheard-of").group();
    wire.lie(leader, hearer, Lie::Entry(false_entry));
    wire.run_for(ms(5));
    assert_eq!(refused(&wire, hearer), before + 1);
    still_works(&mut wire);
}

#[test]
fn keys_out_of_their_bounds_are_refused() {
    let (mut wire, leader) = written();
    let hearer = (leader + 1) % 3;
    let before = refused(&wire, hearer);
    for key in [String::new(), "k".repeat(257)] {
        let lie = entry(&wire, leader, FalseKind::Shared, true, &key);
        wire.lie(leader, hearer, Lie::Entry(lie));
    }
    wire.run_for(ms(5));
    assert_eq!(refused(&wire, hearer), before + 2);
    still_works(&mut wire);
}

#[test]
fn a_tenure_from_nowhere_is_not_served() {
    let (mut wire, leader) = written();
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let epoch = wire.status(hearer).plugins[0].term;
    let before = refused(&wire, hearer);
    // Of a tenure that has no cut, of one to come, and of one beyond all that can be.
    let claims = [
        (liar, epoch - 1, true),
        (liar, epoch + 5, false),
        (liar, epoch + (1 << 40), false),
    ];
    for (writer, epoch, direct) in claims {
        let lie = entry(&wire, writer, FalseKind::Leader(epoch), direct, "scene");
        wire.lie(liar, hearer, Lie::Entry(lie));
    }
    wire.run_for(ms(5));
    assert_eq!(
        refused(&wire, hearer),
        before + 2,
        "the stale push and the leap"
    );
    assert_eq!(told(&wire, hearer, Origin::Leader, "scene"), Some(VALUE));
    still_works(&mut wire);
}

/// What a leader wrote that the others had not heard before they followed another one, passed on by
/// somebody else.
#[test]
fn entries_beyond_their_cut_are_left_out_and_counted() {
    let (mut wire, old) = written();
    let epoch = wire.status(old).plugins[0].term;
    wire.stop(old);
    wire.run_for(secs(10));
    let (one, other) = ((old + 1) % 3, (old + 2) % 3);
    let later = wire.status(one).plugins[0].term;
    assert!(later > epoch, "another leads");
    assert_eq!(wire.status(other).plugins[0].term, later);
    let before = refused(&wire, other);
    let group = wire.status(other).plugins[0].state.refused;
    let lie = entry(&wire, old, FalseKind::Leader(epoch), false, "scene");
    wire.lie(one, other, Lie::Entry(lie));
    wire.run_for(ms(5));
    assert_eq!(refused(&wire, other), before + 1);
    assert_eq!(wire.status(other).plugins[0].state.refused, group + 1);
    assert_eq!(told(&wire, other, Origin::Leader, "scene"), Some(VALUE));
    wire.resume(old);
    wire.run_for(secs(15));
    still_works(&mut wire);
}

/// A StateDelta with one entry of shared state, of a device that nobody knows, in MessagePack:
/// docs of the fields in host/proto/PROTOCOL.md, "State".
fn delta_with_key(key: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0x9a, 0xcf];
    body.extend_from_slice(&app().group().0.to_be_bytes());
    // Stream, device, direct, more, from, to, tenure, relied.
    body.extend_from_slice(&[0x93, 2, 77, 1, 0xc0, 0xc2, 0xc2, 0, 1, 0xc0, 0]);
    // One entry: n, class, key, at, expires_at, value.
    body.extend_from_slice(&[0x91, 0x96, 1, 0, 0xa4]);
    body.extend_from_slice(&key);
    body.extend_from_slice(&[1, 0, 0xc4, 4]);
    body.extend_from_slice(&VALUE);
    let length = u8::try_from(body.len()).expect("short");
    [&[29, 0, length], &body[..]].concat()
}

#[test]
fn a_key_that_is_no_utf8_is_refused() {
    let (mut wire, leader) = written();
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let malformed = |wire: &Wire| wire.status(hearer).counters.datagrams_refused;
    let before = malformed(&wire);
    wire.say(liar, hearer, &delta_with_key(*b"good"));
    wire.run_for(ms(5));
    assert_eq!(told(&wire, hearer, Origin::Shared, "good"), Some(VALUE));
    assert_eq!(malformed(&wire), before, "the form is right");
    // A byte that never occurs, a character cut short, a surrogate.
    for key in [*b"bad\xff", *b"bad\xc3", [b'b', 0xed, 0xa0, 0x80]] {
        wire.say(liar, hearer, &delta_with_key(key));
    }
    wire.run_for(ms(5));
    assert_eq!(malformed(&wire), before + 3);
    assert_eq!(
        wire.status(hearer).plugins[0].state.keys,
        wire.status(leader).plugins[0].state.keys + 1
    );
    still_works(&mut wire);
}

/// A member that led by itself has a table in which nothing of the group's leader state counts.
#[test]
fn a_table_of_a_tenure_that_nobody_follows_cuts_nothing() {
    let (mut wire, leader) = written();
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let epoch = wire.status(hearer).plugins[0].term;
    let lie = entry(&wire, liar, FalseKind::Table(epoch + 5), false, "");
    wire.lie(liar, hearer, Lie::Entry(lie));
    wire.run_for(ms(5));
    assert_eq!(told(&wire, hearer, Origin::Leader, "scene"), Some(VALUE));
    for node in 0..3 {
        let key = format!("colour {node}");
        let kept = told(&wire, hearer, Origin::Shared, &key);
        assert_eq!(kept, Some(VALUE), "and nothing starts over");
    }
    still_works(&mut wire);
}
