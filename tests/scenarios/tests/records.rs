//! What devices say of themselves, as state of the system group.

use std::time::Duration;

use bytes::Bytes;
use consort_proto::{FalseEntry, FalseKind, GroupKey, Lie, PluginSpec};
use consort_scenarios::wire::{Wire, address};
use consort_scenarios::{all_but, app, form, group, ms, secs};
use consort_sim::{Sim, scenario, spec};

/// The plugins that `node` holds another one to run, in the order of their names.
fn plugins_seen(sim: &Sim, node: usize, of: usize) -> Vec<PluginSpec> {
    let status = sim.status(node);
    let peers = status.iter().flat_map(|status| &status.peers);
    let mut peers = peers.filter(|peer| peer.device == sim.id(of));
    peers
        .next()
        .map(|peer| peer.plugins.clone())
        .unwrap_or_default()
}

fn all_see(sim: &Sim, of: usize, plugins: &[PluginSpec]) -> bool {
    let others = all_but(sim.device_count(), of);
    let mut others = others.into_iter().filter(|node| sim.is_up(*node));
    others.all(|node| plugins_seen(sim, node, of) == plugins)
}

/// Waits until all others hold a device to run these plugins.
fn expect_seen(sim: &mut Sim, of: usize, plugins: &[PluginSpec], limit: Duration) {
    let end = sim.now() + limit;
    while !all_see(sim, of, plugins) && sim.now() < end {
        sim.run_for(ms(10));
    }
    sim.expect(all_see(sim, of, plugins), "all know of its plugins");
}

#[test]
fn a_changed_record_reaches_all_although_its_push_is_lost() {
    let name = "a_changed_record_reaches_all_although_its_push_is_lost";
    // Lost with some of its repetitions, which the next one makes up for; or with all of them, which
    // the next bulletin between the two does: one in a second goes to one peer or the other.
    for (lost_for, limit) in [(ms(60), ms(120)), (ms(330), secs(15))] {
        scenario(name, 3, |seed| {
            let mut sim = group(name, seed, 6).build();
            let (leader, _) = form(&mut sim);
            let node = (leader + 1) % 6;
            sim.run_for(secs(3));
            for other in all_but(6, node) {
                sim.cut_one_way(node, other);
            }
            sim.plugin_up(node, spec("other"));
            sim.run_for(lost_for);
            sim.expect(
                all_see(&sim, node, &[app()]),
                "nobody has heard of it so far",
            );
            for other in all_but(6, node) {
                sim.mend_one_way(node, other);
            }
            expect_seen(&mut sim, node, &[app(), spec("other")], limit);
            sim.expect(sim.stats().removals == 0, "nobody was lost");
        });
    }
}

/// Another priority than before, and another plugin.
fn other_plugins() -> [PluginSpec; 2] {
    let ranked = PluginSpec {
        priority: 3,
        ..app()
    };
    [ranked, spec("other")]
}

/// Restarts a device with other plugins; they are seen within `limit`, and once they are, for good.
fn restart_with_others(sim: &mut Sim, node: usize, limit: Duration) {
    let others = other_plugins();
    for plugin in &others {
        sim.add_plugin(node, plugin.clone());
    }
    sim.start(node);
    expect_seen(sim, node, &others, limit);
    for _ in 0..100 {
        sim.run_for(ms(100));
        sim.expect(all_see(sim, node, &others), "nothing old comes back");
    }
}

#[test]
fn a_device_that_restarts_with_other_plugins_is_seen_with_them() {
    let name = "a_device_that_restarts_with_other_plugins_is_seen_with_them";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 5).build();
        let (leader, _) = form(&mut sim);
        let node = (leader + 1) % 5;
        // Whether the others have missed it by then or not.
        let down = if seed.0 % 2 == 0 { ms(300) } else { secs(15) };
        sim.crash(node);
        sim.run_for(down);
        restart_with_others(&mut sim, node, secs(8));
    });
}

#[test]
fn a_device_whose_boot_counter_was_set_back_is_seen_as_it_is() {
    let name = "a_device_whose_boot_counter_was_set_back_is_seen_as_it_is";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        for node in 0..4 {
            sim.set_boot_counter(node, 700);
        }
        let (leader, _) = form(&mut sim);
        let node = (leader + 1) % 4;
        sim.crash(node);
        sim.run_for(secs(1));
        sim.set_boot_counter(node, 3);
        restart_with_others(&mut sim, node, secs(8));
        // Whoever comes later is told the same.
        let late = (leader + 2) % 4;
        sim.restart(late, secs(1));
        expect_seen(&mut sim, node, &other_plugins(), secs(8));
    });
}

#[test]
fn what_is_only_heard_of_a_device_follows_its_restart() {
    let name = "what_is_only_heard_of_a_device_follows_its_restart";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        form(&mut sim);
        sim.cut(0, 1);
        sim.crash(1);
        // By then n0 has missed it and closed the session.
        sim.run_for(secs(45));
        let others = other_plugins();
        for plugin in &others {
            sim.add_plugin(1, plugin.clone());
        }
        sim.start(1);
        // The others are asked every eight seconds.
        expect_seen(&mut sim, 1, &others, secs(20));
    });
}

fn refused(wire: &Wire, node: usize) -> u64 {
    wire.status(node).counters.state_refused
}

fn name_of(wire: &Wire, node: usize, of: usize) -> Option<String> {
    let status = wire.status(node);
    let mut peers = status.peers.iter();
    let peer = peers.find(|peer| peer.device == wire.id(of));
    peer.and_then(|peer| peer.name.clone())
}

#[test]
fn a_record_claimed_for_another_device_is_refused_and_counted() {
    let (mut wire, _) = Wire::formed(3);
    assert_eq!(refused(&wire, 2), 0);
    let lie = Lie::Record {
        device: wire.id(1),
        name: "somebody else".to_owned(),
    };
    wire.lie(0, 2, lie);
    wire.run_for(ms(100));
    assert_eq!(refused(&wire, 2), 1);
    let mut expected = 1;
    // In place of a record; under another key; of another kind.
    for (kind, direct, key) in [
        (FalseKind::Device, true, "record"),
        (FalseKind::Device, false, "record"),
        (FalseKind::Device, false, "another key"),
        (FalseKind::Leader(7), true, "record"),
    ] {
        let entry = FalseEntry {
            group: GroupKey::SYSTEM,
            writer: wire.id(1),
            kind,
            direct,
            key: key.to_owned(),
            value: Bytes::from_static(b"no record"),
        };
        wire.lie(0, 2, Lie::Entry(entry));
        wire.run_for(ms(100));
        expected += 1;
        assert_eq!(refused(&wire, 2), expected, "{kind:?} {direct} {key}");
    }
    wire.run_for(secs(3));
    for node in [0, 2] {
        assert_eq!(name_of(&wire, node, 1).as_deref(), Some("n1"));
    }
    assert_eq!(refused(&wire, 2), expected, "nothing else was refused");
}

#[test]
fn a_device_s_own_word_counts_more_than_what_others_said() {
    let (mut wire, _) = Wire::formed(3);
    // By then n2 has missed n1 and closed the session.
    wire.stop(1);
    wire.run_for(secs(45));
    let (one, two) = (address(1), address(2));
    wire.hold(move |flying| {
        let ends = (flying.from, flying.to);
        ends == (one, two) || ends == (two, one)
    });
    wire.resume(1);
    wire.run_for(secs(15));
    assert_eq!(name_of(&wire, 2, 1).as_deref(), Some("n1"));
    let lie = Lie::Record {
        device: wire.id(1),
        name: "somebody else".to_owned(),
    };
    wire.lie(0, 2, lie);
    wire.run_for(ms(100));
    let told = name_of(&wire, 2, 1);
    assert_eq!(
        told.as_deref(),
        Some("somebody else"),
        "nobody else says so"
    );
    wire.let_pass();
    wire.run_for(secs(10));
    assert_eq!(name_of(&wire, 2, 1).as_deref(), Some("n1"));
}
