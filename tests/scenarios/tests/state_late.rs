//! Writes that a plugin's host accepts and that its node cannot take in: they come too late, or find
//! no room. None goes by unheard.

use std::sync::Arc;

use bytes::Bytes;
use consort_proto::{
    Command, Origin, PluginCommand, PluginEvent, Scope, SendQuota, StateChange, StateConfig,
    StateOutcome, StateWrite, WriteError,
};
use consort_scenarios::state::{QUIET_MAX, common, everywhere, formed, put, superseded};
use consort_scenarios::wire::Wire;
use consort_scenarios::{all, app, ms, secs, settle};
use consort_sim::{Edit, Fate, Refused, Sim, scenario, spec};

fn edit(scope: Scope, key: &str) -> Edit {
    Edit::Put {
        scope,
        key: key.into(),
        len: 40,
        ttl: None,
    }
}

/// The only write of a callback.
fn only(results: Vec<Result<u64, Refused>>) -> u64 {
    let number = results.into_iter().next().and_then(Result::ok);
    number.expect("its host accepts it")
}

#[test]
fn a_write_of_a_callback_that_outlasts_the_leadership_is_reported() {
    let name = "a_write_of_a_callback_that_outlasts_the_leadership_is_reported";
    scenario(name, 5, |seed| {
        let (mut sim, stale) = formed(name, seed, 5, StateConfig::default());
        let before = put(&mut sim, stale, Scope::Leader, "kept", 50);
        put(&mut sim, stale, Scope::Leader, "scene", 50);
        everywhere(&mut sim, &all(5), before, secs(3));
        sim.run_for(secs(2));
        sim.partition(&[&[stale]]);
        sim.run_for(secs(10));
        assert!(sim.leads(stale, &app()), "it leads on, alone");
        let edits = vec![edit(Scope::Leader, "scene"), edit(Scope::Leader, "only")];
        let late = sim.edit_all_taking(stale, &app(), edits, secs(8));
        let late: Vec<u64> = late.into_iter().map(|one| one.expect("it leads")).collect();
        sim.heal();
        settle(&mut sim, &all(5), secs(7));
        assert!(
            !sim.leads(stale, &app()),
            "another one leads before it ends"
        );
        assert_eq!(superseded(&sim, stale), Vec::<String>::new(), "it goes on");
        sim.run_for(secs(8));
        assert_eq!(superseded(&sim, stale), ["only", "scene"]);
        for number in late {
            assert_eq!(sim.written(number).fate, Fate::Refused);
        }
        sim.expect_state(&app(), &all(5), QUIET_MAX);
        assert_eq!(common(&sim, &all(5), Origin::Leader, "only"), None);
        assert_eq!(common(&sim, &all(5), Origin::Leader, "kept"), Some(before));
    });
}

#[test]
fn what_a_long_callback_writes_counts_from_its_end() {
    let name = "what_a_long_callback_writes_counts_from_its_end";
    scenario(name, 3, |seed| {
        let (mut sim, leader) = formed(name, seed, 4, StateConfig::default());
        let writer = (leader + 1) % 4;
        let shared = vec![edit(Scope::Shared, "colour")];
        let slow = only(sim.edit_all_taking(writer, &app(), shared, secs(4)));
        let led = vec![edit(Scope::Leader, "scene")];
        let led = only(sim.edit_all_taking(leader, &app(), led, secs(4)));
        sim.run_for(secs(1));
        // Its own next callback waits for the first one.
        let next = put(&mut sim, writer, Scope::Shared, "next", 30);
        let quick = put(&mut sim, (leader + 2) % 4, Scope::Shared, "colour", 30);
        sim.run_for(secs(2));
        assert_eq!(sim.written(slow).fate, Fate::Handed);
        assert_eq!(sim.written(next).fate, Fate::Handed);
        sim.run_for(secs(4));
        for number in [slow, led, next] {
            assert_eq!(sim.written(number).fate, Fate::Taken);
        }
        assert_eq!(sim.written(quick).fate, Fate::Taken);
        sim.expect_state(&app(), &all(4), QUIET_MAX);
        assert_eq!(common(&sim, &all(4), Origin::Shared, "colour"), Some(slow));
    });
}

/// A small quota, and writes as often as one likes.
fn small() -> StateConfig {
    StateConfig {
        quota: 4 << 10,
        writes: SendQuota {
            messages_per_second: 100_000,
            message_burst: 100_000,
            bytes_per_second: 100 << 20,
            byte_burst: 100 << 20,
        },
        ..StateConfig::default()
    }
}

/// Puts and deletes keys, many in each callback, until a write is refused for want of room; how many
/// keys that took.
fn fill(sim: &mut Sim, node: usize, scope: Scope) -> usize {
    for batch in 0..100 {
        let keys = (0..100).map(|key| Arc::from(format!("{batch:02} {key:02}")));
        let edits = keys.flat_map(|key: Arc<str>| {
            let delete = Edit::Delete {
                scope,
                key: Arc::clone(&key),
            };
            [edit(scope, &key), delete]
        });
        let results = sim.edit_all(node, &app(), edits.collect());
        let refused = results.iter().position(Result::is_err);
        if let Some(place) = refused {
            let quota = small().quota;
            let full = Refused::Write(WriteError::TooLarge(quota));
            assert_eq!(results[place], Err(full), "the contract's too-large");
            return batch * 100 + place / 2;
        }
        sim.run_for(ms(20));
    }
    sim.fail("the replica is never full")
}

#[test]
fn deletions_fill_a_replica_and_no_accepted_write_is_lost() {
    let name = "deletions_fill_a_replica_and_no_accepted_write_is_lost";
    scenario(name, 2, |seed| {
        for scope in [Scope::Shared, Scope::Device] {
            let config = StateConfig {
                keep_absent: secs(60),
                ..small()
            };
            let (mut sim, leader) = formed(name, seed, 2, config);
            let writer = 1 - leader;
            let standing = put(&mut sim, writer, scope, "standing", 200);
            let keys = fill(&mut sim, writer, scope);
            assert!(
                keys > 2_000,
                "a deleted key takes 21 bytes of 72 KiB: {keys}"
            );
            // What is there can be overwritten by something as long, and deleted.
            put(&mut sim, writer, scope, "standing", 200);
            sim.delete(writer, &app(), scope, "standing")
                .expect("that makes room");
            assert!(sim.written(standing).fate == Fate::Taken);
            sim.run_for(secs(5));
            sim.expect_state(&app(), &all(2), QUIET_MAX);
            let (writes, refused) = sim.writes();
            assert_eq!(refused, 0, "of {writes} accepted writes");
            // Once they are forgotten there is room, though nobody writes meanwhile.
            sim.run_for(secs(90));
            let again = put(&mut sim, writer, scope, "again", 1_000);
            everywhere(&mut sim, &all(2), again, secs(3));
        }
    });
}

/// What a node's plugin was told since the `from`-th event: changes that are news to it, and keys that
/// were superseded.
fn told(wire: &Wire, node: usize, from: usize) -> (Vec<StateChange>, Vec<Arc<str>>, u32) {
    let (mut news, mut keys, mut handled) = (Vec::new(), Vec::new(), 0);
    for event in wire.plugin_events(node).skip(from) {
        match event {
            PluginEvent::State(update) => {
                handled += update.handled;
                news.extend(update.changes.iter().filter(|c| !c.own).cloned());
            }
            PluginEvent::WritesSuperseded(superseded) => keys.extend(superseded.iter().cloned()),
            _ => {}
        }
    }
    (news, keys, handled)
}

fn write(scope: Scope, key: &str, len: usize) -> PluginCommand {
    PluginCommand::Write(StateWrite::Put {
        scope,
        key: key.into(),
        value: Bytes::from(vec![1; len]),
        ttl_ms: None,
    })
}

#[test]
fn a_leaders_write_at_a_node_that_does_not_lead_is_told_as_superseded() {
    let (mut wire, leader) = Wire::formed(3);
    let node = (leader + 1) % 3;
    wire.command(leader, app().id, write(Scope::Leader, "scene", 3));
    wire.run_for(secs(2));
    let from = wire.plugin_events(node).count();
    wire.command(node, app().id, write(Scope::Leader, "scene", 4));
    wire.command(
        node,
        app().id,
        PluginCommand::Write(StateWrite::Delete {
            scope: Scope::Leader,
            key: "other".into(),
        }),
    );
    assert_eq!(told(&wire, node, from).1, Vec::new(), "more may be to come");
    wire.run_for(ms(1));
    let (news, keys, handled) = told(&wire, node, from);
    assert_eq!((news, handled), (Vec::new(), 2));
    assert_eq!(keys, ["other".into(), "scene".into()]);
    let reports = wire.plugin_events(node).skip(from);
    let reports = reports.filter(|event| matches!(event, PluginEvent::WritesSuperseded(_)));
    assert_eq!(reports.count(), 1, "in one report");
    let from = wire.plugin_events(leader).count();
    wire.command(leader, app().id, write(Scope::Leader, "scene", 5));
    assert_eq!(told(&wire, leader, from), (Vec::new(), Vec::new(), 1));
    assert_eq!(
        wire.status(node).plugins[0].state.lost,
        0,
        "it had no right to it"
    );
}

#[test]
fn a_write_that_finds_no_room_is_counted_and_told() {
    let (mut wire, leader) = Wire::formed(3);
    let node = (leader + 1) % 3;
    let id = app().id;
    let config = small();
    wire.tell(
        node,
        Command::PluginState {
            id: id.clone(),
            config,
        },
    );
    // No host checks these.
    let bound = 2 * config.quota + (128 << 10);
    let fits = usize::try_from(bound / (60 << 10)).expect("a few");
    for key in 0..fits {
        wire.command(
            node,
            id.clone(),
            write(Scope::Device, &format!("{key}"), 60 << 10),
        );
    }
    wire.command(node, id.clone(), write(Scope::Device, "rest", 14 << 10));
    wire.command(node, id.clone(), write(Scope::Device, "0", 60 << 10));
    assert_eq!(wire.status(node).plugins[0].state.lost, 0);
    let from = wire.plugin_events(node).count();
    wire.command(node, id.clone(), write(Scope::Device, "more", 60 << 10));
    wire.command(node, id.clone(), write(Scope::Device, "0", 64 << 10));
    wire.command(node, id.clone(), write(Scope::Shared, "more", 60 << 10));
    assert_eq!(wire.status(node).plugins[0].state.lost, 3);
    let (news, keys, handled) = told(&wire, node, from);
    assert_eq!((keys, handled), (Vec::new(), 3));
    let places: Vec<_> = news.iter().map(|c| (c.origin, &*c.key)).collect();
    let own = Origin::Device(wire.id(node));
    assert_eq!(
        places,
        [(own, "more"), (own, "0"), (Origin::Shared, "more")]
    );
    assert_eq!(news[0].outcome, StateOutcome::Deleted);
    assert!(
        matches!(&news[1].outcome, StateOutcome::Put { value, .. } if value.len() == 60 << 10),
        "what holds is what was there"
    );
}

#[test]
fn a_write_of_a_plugin_without_a_replica_is_counted_and_told() {
    let mut wire = Wire::new(1);
    // More plugins that keep their state come and go than a device holds the state of.
    let crowd = (0..140).map(|n| spec(&format!("app{n}")));
    for app in crowd {
        let config = StateConfig {
            persist: true,
            ..StateConfig::default()
        };
        let id = app.id.clone();
        wire.tell(0, Command::PluginState { id, config });
        wire.tell(0, Command::PluginUp(app.clone()));
        wire.tell(0, Command::PluginDown(app.id));
        wire.run_for(ms(10));
    }
    let late = spec("late");
    wire.tell(0, Command::PluginUp(late.clone()));
    let from = wire.plugin_events(0).count();
    wire.command(0, late.id.clone(), write(Scope::Shared, "colour", 3));
    wire.command(0, late.id.clone(), write(Scope::Leader, "scene", 3));
    let (news, keys, handled) = told(&wire, 0, from);
    let places: Vec<_> = news.iter().map(|c| (c.origin, &*c.key)).collect();
    assert_eq!((places, handled), (vec![(Origin::Shared, "colour")], 2));
    assert_eq!(keys, ["scene".into()]);
    let plugins = wire.status(0).plugins;
    let of_late = plugins.iter().find(|plugin| plugin.spec.id == late.id);
    assert_eq!(of_late.map(|plugin| plugin.state.lost), Some(2));
}
