//! A whole host over a folder: start, faults and restarts, timers, mailbox, stop.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{
    World, assert_no_errors, device, message, plugin_lines, tenure, this_device, wait_for, warnings,
};
use consort_plugin_host::Overlay;
use consort_proto::PluginEvent;

#[test]
fn a_plugin_runs_from_its_file_to_its_stop() {
    let mut world = World::new();
    let manifest = "id = \"life\"\nversion = \"1.4.2\"\n[config]\ngreet = true\nvolume = 3\n";
    world.install("life", "recorder", manifest);
    let config = BTreeMap::from([("volume".to_owned(), "9".to_owned())]);
    world.overlay(
        "life",
        Overlay {
            enabled: None,
            priority: Some(5),
            preempt: None,
            config,
            ..Overlay::default()
        },
    );
    world.start();
    world.wait_state("life", "running");
    world.lead("life", 1);
    world.wait_line("life", "promote-leader 1");
    world.deliver("life", message(device(2), "broadcast now"));
    world.wait_line("life", "result Ok");
    world.deliver("nobody", PluginEvent::DemoteLeader);
    let status = world.status("life").unwrap();
    assert_eq!(
        (
            status.generation,
            status.last_fault,
            status.dropped_messages
        ),
        (1, None, 0)
    );
    assert_eq!(status.hash.unwrap().len(), 12);
    world.stop();
    let expected = [
        "setup [greet=true,volume=9] 0 peers",
        "on-peer-added here of 1",
        "promote-leader 1 is-leader true",
        "on-peer-message broadcast now from device-2",
        "result Ok(())",
        "demote-leader, leader known: false",
        "shutdown Reason::Stop",
    ];
    assert_eq!(plugin_lines("life"), expected);
    let told = world.told("life");
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!((told[0].as_str(), told[3].as_str()), ("up 1.4.2", "down"));
    assert!(
        told[1].contains("hello from setup") && told[2].contains("Broadcast"),
        "{told:?}"
    );
    assert_no_errors();
}

#[test]
fn a_fault_is_followed_by_a_restart_with_replay() {
    let mut world = World::new();
    world.install("replay", "recorder", "");
    world.install("beside", "recorder", "");
    world.start();
    world.wait_state("replay", "running");
    world.wait_state("beside", "running");
    world.lead("replay", 3);
    world.deliver("replay", PluginEvent::PeerAdded(device(2)));
    world.deliver("replay", PluginEvent::TermChanged { term: 4 });
    world.wait_line("replay", "on-peer-added device-2 of 2");
    let before = plugin_lines("replay").len();
    // Not a number: the recorder panics.
    world.deliver("replay", message(device(2), "wake x 1"));
    world.wait_warning("replay", "on-peer-message: it trapped");
    world.deliver("replay", message(device(2), "lost"));
    world.deliver("replay", PluginEvent::PeerAdded(device(3)));
    wait_for("restart", || {
        plugin_lines("replay")[before..]
            .iter()
            .any(|line| line.contains("promote-leader"))
    });
    let told = world.told_at("replay");
    let names: Vec<_> = told.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(names, ["up 0.1.0", "faulted", "up 0.1.0"]);
    let pause = told[2].0 - told[1].0;
    assert!(pause >= Duration::from_millis(150), "{pause:?}");
    let lines = plugin_lines("replay")[before..].to_vec();
    let setup = lines
        .iter()
        .position(|line| line.starts_with("setup"))
        .unwrap();
    let mut replayed = lines[setup..].to_vec();
    replayed.truncate(5);
    let mut expected = vec![
        "setup [] 0 peers".to_owned(),
        "promote-leader 4 is-leader true".to_owned(),
    ];
    let mut names: Vec<_> = [this_device(), device(2), device(3)].into();
    names.sort_by_key(|peer| peer.device);
    for (index, peer) in names.iter().enumerate() {
        expected.insert(
            1 + index,
            format!("on-peer-added {} of {}", peer.name, index + 1),
        );
    }
    assert_eq!(replayed, expected);
    assert_eq!(world.status("replay").unwrap().dropped_messages, 1);
    world.deliver("beside", message(device(2), "hello"));
    world.wait_line("beside", "on-peer-message hello");
    assert!(warnings("beside").is_empty());
}

#[test]
fn events_while_the_instance_is_down_are_folded_in() {
    let mut world = World::new();
    world.install("folded", "recorder", "");
    world.start();
    world.wait_state("folded", "running");
    world.lead("folded", 3);
    world.deliver("folded", message(device(2), "wake x 1"));
    world.wait_warning("folded", "it trapped");
    let before = plugin_lines("folded").len();
    world.deliver("folded", PluginEvent::DemoteLeader);
    world.deliver("folded", PluginEvent::PeerAdded(device(2)));
    world.deliver("folded", PluginEvent::PromoteFollower(tenure(device(2), 4)));
    wait_for("restart", || {
        plugin_lines("folded")[before..]
            .iter()
            .any(|line| line.contains("promote-follower 4"))
    });
    let lines = plugin_lines("folded")[before..].join("|");
    assert!(
        !lines.contains("promote-leader") && !lines.contains("demote"),
        "{lines}"
    );
}

#[test]
fn five_faults_quarantine_until_the_file_changes() {
    let mut world = World::new();
    world.install("trapper", "hostile", "[config]\nalways = \"trap\"\n");
    world.install("bystander", "recorder", "");
    world.start();
    world.wait_state("trapper", "running");
    world.deliver("trapper", PluginEvent::PeerAdded(this_device()));
    world.wait_state("trapper", "quarantined");
    let told = world.told("trapper");
    let expected = [["up 0.1.0", "faulted"]; 5].concat();
    assert_eq!(told[..10], expected);
    assert_eq!(told[10..], ["down"]);
    let faults = warnings("trapper");
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert!(
        faults
            .iter()
            .all(|line| line.contains("on-peer-added: it trapped")),
        "{faults:?}"
    );
    assert!(
        world
            .status("trapper")
            .unwrap()
            .last_fault
            .unwrap()
            .contains("it trapped")
    );
    world.deliver("bystander", message(device(2), "hello"));
    world.wait_line("bystander", "on-peer-message hello");

    world.install("trapper", "recorder", "version = \"0.1.1\"\n");
    world.wait_line("trapper", "on-peer-added here of 1");
    assert_eq!(world.told("trapper").last().unwrap(), "up 0.1.1");
    assert_eq!(world.status("trapper").unwrap().generation, 2);
}

#[test]
fn timers_fire_on_group_time() {
    let mut world = World::new();
    world.install("timed", "recorder", "[config]\nevery_us = 50000\n");
    world.start();
    let ticks = || {
        plugin_lines("timed")
            .iter()
            .filter(|l| l.starts_with("on-timer 7"))
            .count()
    };
    wait_for("three ticks", || ticks() >= 3);
    for line in plugin_lines("timed")
        .iter()
        .filter(|line| line.starts_with("on-timer 7"))
    {
        let due: u64 = line.split(' ').nth(3).unwrap().parse().unwrap();
        assert_eq!(due % 50_000, 0, "{line}");
        assert!(line.ends_with("late true"), "{line}");
    }
    world.deliver("timed", message(device(2), "cancel 7"));
    world.deliver("timed", message(device(2), "wake 8 3600000000"));
    world.wait_line("timed", "wake 8");
    world.clock.shift(3_600_000_000);
    world.host().clock_changed();
    world.wait_line("timed", "on-timer 8");
}

#[test]
fn group_time_set_back_gives_a_new_instance() {
    let mut world = World::new();
    world.install("setback", "counter_v1", "");
    world.start();
    world.wait_state("setback", "running");
    world.lead("setback", 2);
    world.deliver("setback", message(device(2), "x"));
    world.wait_line("setback", "v1: count 1");
    world.clock.shift(-10_000_000);
    world.host().clock_set_back();
    world.deliver("setback", message(device(2), "x"));
    world.wait_line("setback", "v1: count 2");
    let lines = plugin_lines("setback");
    assert_eq!(
        lines.iter().filter(|line| *line == "v1: setup").count(),
        2,
        "{lines:?}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| *line == "v1: promote-leader 2")
            .count(),
        2
    );
    let told = world.told("setback");
    assert!(
        !told.iter().any(|what| what == "faulted" || what == "down"),
        "{told:?}"
    );
}

#[test]
fn a_slow_plugin_loses_its_oldest_messages_only() {
    let mut world = World::new();
    world.install(
        "slow",
        "hostile",
        "[limits]\nsetup_cpu_ms = 1500\n[config]\nsetup = \"loop\"\n",
    );
    world.start();
    // Its setup is busy for a while, then it faults and nothing is running.
    world.wait_state("slow", "setup");
    for _ in 0..1000 {
        world.deliver("slow", message(device(2), "x"));
    }
    let dropped = world.status("slow").unwrap().dropped_messages;
    assert!(dropped >= 1000 - 256, "{dropped}");
    world.wait_warning("slow", "setup: it used more than 1500 ms of CPU");
    wait_for("all dropped", || {
        world.status("slow").unwrap().dropped_messages == 1000
    });
    assert!(world.told("slow").is_empty(), "it never was up");
}

#[test]
fn a_missing_folder_may_come_later() {
    let mut world = World::new();
    world.start();
    wait_for("a warning", || {
        common::warnings_with("there is no readable plugins folder") > 0
    });
    world.install("late", "minimal", "");
    world.wait_line("late", "minimal is set up");
}

#[test]
fn a_disabled_plugin_stays_off_and_a_removed_one_is_unloaded() {
    let mut world = World::new();
    world.install("off", "recorder", "");
    world.install("removed", "recorder", "");
    world.overlay(
        "off",
        Overlay {
            enabled: Some(false),
            ..Overlay::default()
        },
    );
    world.start();
    world.wait_state("removed", "running");
    world.lead("removed", 1);
    world.wait_line("removed", "promote-leader");
    assert_eq!(world.status("off").unwrap().state, "disabled");
    std::fs::remove_dir_all(world.plugins_dir().join("removed")).unwrap();
    wait_for("unloaded", || world.status("removed").is_none());
    let lines = plugin_lines("removed");
    let last = &lines[lines.len() - 2..];
    assert_eq!(
        last,
        [
            "demote-leader, leader known: false",
            "shutdown Reason::Remove"
        ]
    );
    assert_eq!(world.told("removed").last().unwrap(), "down");
    world.install("removed", "recorder", "");
    world.wait_state("removed", "running");
    assert_eq!(world.told("removed"), ["up 0.1.0", "down", "up 0.1.0"]);
}

#[test]
fn what_is_queued_behind_a_trap_is_folded_in_or_counted() {
    let mut world = World::new();
    // Long enough for all to be queued: it is handed over at once.
    world.install("queued", "recorder", "[config]\nspin_ms = 1000\n");
    world.start();
    world.wait_state("queued", "setup");
    world.lead("queued", 3);
    // Not a number: the recorder panics, with all this behind it.
    world.deliver("queued", message(device(2), "wake x 1"));
    world.deliver("queued", PluginEvent::PeerAdded(device(2)));
    world.deliver("queued", message(device(2), "lost"));
    world.deliver("queued", message(device(2), "lost too"));
    world.deliver("queued", PluginEvent::DemoteLeader);
    world.deliver("queued", PluginEvent::PromoteFollower(tenure(device(2), 4)));
    world.wait_line("queued", "promote-follower 4 of device-2");
    let lines = plugin_lines("queued");
    let trap = lines.iter().position(|line| line.contains("wake x 1"));
    let setups: Vec<usize> = (0..lines.len())
        .filter(|place| lines[*place].starts_with("setup "))
        .collect();
    assert_eq!(setups.len(), 2, "{lines:?}");
    assert!(
        trap > Some(setups[0]) && trap < Some(setups[1]),
        "{lines:?}"
    );
    let after = lines[setups[1]..].join("|");
    assert!(after.contains("on-peer-added device-2"), "{after}");
    assert!(
        !after.contains("lost") && !after.contains("demote"),
        "{after}"
    );
    let status = world.status("queued").unwrap();
    assert_eq!((status.state, status.dropped_messages), ("running", 2));
    world.deliver("queued", message(device(2), "back"));
    world.wait_line("queued", "on-peer-message back");
    assert_no_errors();
}

#[test]
fn timers_end_when_group_time_is_set_back_and_when_the_file_goes() {
    let mut world = World::new();
    let every = "[config]\nevery_us = 50000\n";
    world.install("wakes", "recorder", every);
    world.start();
    world.wait_line("wakes", "on-timer 7");
    let fired = |since: usize, token: u32| {
        let lines = plugin_lines("wakes").split_off(since);
        let beginning = format!("on-timer {token} ");
        lines.iter().any(|line| line.starts_with(&beginning))
    };
    // Due in a minute; an hour back it would be due in an hour and a minute.
    world.deliver("wakes", message(device(2), "wake 8 60000000"));
    world.wait_line("wakes", "wake 8");
    world.clock.shift(-3_600_000_000);
    world.host().clock_set_back();
    wait_for("a new instance", || {
        let lines = plugin_lines("wakes");
        lines
            .iter()
            .filter(|line| line.starts_with("setup "))
            .count()
            == 2
    });
    let since = plugin_lines("wakes").len();
    wait_for("what setup sets again fires", || fired(since, 7));
    // Two hours on, the timer of the former instance is long due.
    world.clock.shift(7_200_000_000);
    world.host().clock_changed();
    let since = plugin_lines("wakes").len();
    wait_for("the periodic one goes on", || fired(since, 7));
    assert!(!fired(0, 8));

    // Removed and installed again: nothing of what the removed one had set.
    world.deliver("wakes", message(device(2), "wake 9 2000000"));
    world.wait_line("wakes", "wake 9");
    std::fs::remove_dir_all(world.plugins_dir().join("wakes")).unwrap();
    wait_for("it is gone", || world.status("wakes").is_none());
    world.install("wakes", "recorder", every);
    world.wait_state("wakes", "running");
    world.clock.shift(10_000_000);
    world.host().clock_changed();
    let since = plugin_lines("wakes").len();
    wait_for("the new one's own timer fires", || fired(since, 7));
    assert!(!fired(0, 9));
    assert_no_errors();
}
