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
