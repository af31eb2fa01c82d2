//! A file that changes under a running plugin.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{World, assert_no_errors, device, message, plugin_id, plugin_lines, warnings};
use consort_plugin_host::{Order, Overlay};
use consort_proto::PluginEvent;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(consort_test_guests::fixture(name)).unwrap()
}

/// A counter that leads in term 6 and has counted to 2.
fn counting(id: &str) -> World {
    let mut world = World::new();
    world.install(id, "counter_v1", "version = \"0.1.0\"\n");
    world.start();
    world.wait_state(id, "running");
    world.lead(id, 6);
    world.deliver(id, message(device(2), "x"));
    world.deliver(id, message(device(2), "x"));
    world.wait_line(id, "v1: count 2");
    world
}

#[test]
fn a_reload_keeps_state_and_leadership() {
    let world = counting("swap");
    let (before, told_before) = (plugin_lines("swap").len(), world.told("swap").len());
    let copied = Instant::now();
    // As `cp` does it: in place.
    std::fs::write(
        world.plugins_dir().join("swap/plugin.wasm"),
        fixture("counter_v2"),
    )
    .unwrap();
    world.wait_line("swap", "v2: promote-leader 6");
    let took = copied.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    world.deliver("swap", message(device(2), "x"));
    world.wait_line("swap", "v2: count 3");
    let expected = [
        "v2: setup",
        "v1: save",
        "v2: restore from 0.1.0",
        "v1: demote-leader",
        "v1: shutdown Reason::Reload",
        "v2: on-peer-added here",
        "v2: promote-leader 6",
        "v2: count 3",
    ];
    assert_eq!(plugin_lines("swap")[before..], expected);
    let told = world.told("swap")[told_before..].to_vec();
    assert_eq!(told.len(), 1, "nothing but what setup sent: {told:?}");
    assert!(told[0].contains("SendToAll(b\"v2\")"), "{told:?}");
    let status = world.status("swap").unwrap();
    assert_eq!((status.generation, status.state), (2, "running"));
    assert!(warnings("swap").is_empty(), "{:?}", warnings("swap"));
    assert_no_errors();
}

fn config(values: &[(&str, &str)]) -> Overlay {
    let values = values.iter();
    Overlay {
        config: values
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Overlay::default()
    }
}

#[test]
fn other_settings_of_the_operator_are_a_reload_of_that_plugin_alone() {
    let mut world = World::new();
    for id in ["set", "not-set"] {
        world.install(id, "counter_v1", "version = \"0.1.0\"\n");
    }
    world.overlay("not-set", config(&[("a", "1")]));
    world.start();
    for id in ["set", "not-set"] {
        world.wait_state(id, "running");
        world.lead(id, 6);
        world.deliver(id, message(device(2), "x"));
        world.wait_line(id, "v1: count 1");
    }
    let (before, told_before) = (plugin_lines("set").len(), world.told("set").len());
    // With this value the fixture says that its setup is done.
    let mut overlay = config(&[("work", "0")]);
    overlay.limits = toml::from_str("mailbox = 10").unwrap();
    world.set("set", overlay);
    world.wait_generation("set", 2);
    world.wait_line("set", "v1: setup done");
    world.deliver("set", message(device(2), "x"));
    world.wait_line("set", "v1: count 2");
    let expected = [
        "v1: setup",
        "v1: setup done",
        "v1: save",
        "v1: restore from 0.1.0",
        "v1: demote-leader",
        "v1: shutdown Reason::Reload",
        "v1: on-peer-added here",
        "v1: promote-leader 6",
        "v1: count 2",
    ];
    assert_eq!(plugin_lines("set")[before..], expected);
    let told = world.told("set")[told_before..].to_vec();
    assert_eq!(told.len(), 1, "nothing but what setup sent: {told:?}");
    let details = world.host().details(&plugin_id("set")).unwrap();
    assert_eq!(details.limits.mailbox, 10);
    // What is set for nobody any more is a change too.
    world.set("set", Overlay::default());
    world.wait_generation("set", 3);
    let details = world.host().details(&plugin_id("set")).unwrap();
    assert_eq!((details.limits.mailbox, details.config.len()), (256, 0));
    world.set("set", Overlay::default());
    world.set("absent", config(&[("a", "1")]));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(world.status("set").unwrap().generation, 3);
    assert_eq!(world.status("not-set").unwrap().generation, 1);
    assert!(world.status("absent").is_none());
    assert_no_errors();
}

#[test]
fn of_an_order_and_a_setting_the_later_one_counts() {
    let enabled = |enabled| Overlay {
        enabled: Some(enabled),
        ..Overlay::default()
    };
    let mut world = World::new();
    world.install("switched", "recorder", "");
    world.start();
    world.wait_state("switched", "running");
    world.set("switched", enabled(false));
    world.wait_line("switched", "shutdown Reason::Stop");
    world.wait_state("switched", "disabled");
    world
        .host()
        .order(&plugin_id("switched"), Order::Enable)
        .unwrap();
    world.wait_state("switched", "running");
    // Other settings do not undo the order.
    world.set(
        "switched",
        Overlay {
            priority: Some(3),
            ..enabled(false)
        },
    );
    world.wait_generation("switched", 2);
    world
        .host()
        .order(&plugin_id("switched"), Order::Disable)
        .unwrap();
    world.wait_state("switched", "disabled");
    world.set("switched", enabled(true));
    world.wait_state("switched", "running");
    world.set("switched", enabled(false));
    world.wait_state("switched", "disabled");
    world.set("switched", Overlay::default());
    world.wait_state("switched", "running");
    assert!(
        warnings("switched").is_empty(),
        "{:?}",
        warnings("switched")
    );
    assert_no_errors();
}

#[test]
fn another_version_is_announced() {
    let world = counting("version");
    world.install("version", "counter_v2", "version = \"0.1.1\"\n");
    world.wait_line("version", "v2: promote-leader 6");
    let told = world.told("version");
    assert_eq!(
        told.iter().filter(|what| *what == "up 0.1.1").count(),
        1,
        "{told:?}"
    );
    assert!(
        !told.iter().any(|what| what == "down" || what == "faulted"),
        "{told:?}"
    );
    assert_eq!(
        world
            .status("version")
            .unwrap()
            .version
            .unwrap()
            .to_string(),
        "0.1.1"
    );
}

#[test]
fn a_broken_file_keeps_the_old_one() {
    let world = counting("broken");
    let v2 = fixture("counter_v2");
    let told_before = world.told("broken");
    for (number, (wasm, cause)) in [
        (v2[..v2.len() / 2].to_vec(), "truncated or damaged"),
        (b"not at all".to_vec(), "no WebAssembly"),
        (fixture("other_world"), "another world"),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(world.plugins_dir().join("broken/plugin.wasm"), wasm).unwrap();
        world.wait_warning("broken", cause);
        let warning = warnings("broken").pop().unwrap();
        assert!(warning.contains("generation 1 stays running"), "{warning}");
        assert!(warning.contains("hash="), "{warning}");
        world.deliver("broken", message(device(2), "x"));
        world.wait_line("broken", &format!("v1: count {}", number + 3));
    }
    assert_eq!(
        world.told("broken"),
        told_before,
        "the group noticed nothing"
    );
    std::fs::write(world.plugins_dir().join("broken/plugin.wasm"), &v2).unwrap();
    world.deliver("broken", PluginEvent::PeerAdded(device(2)));
    world.wait_line("broken", "v2: restore");
    // `restore` runs before the new generation is taken over.
    world.wait_generation("broken", 2);
}

#[test]
fn a_new_generation_that_does_not_take_over_leaves_the_old_one() {
    for (id, manifest, cause) in [
        (
            "no-setup",
            "[config]\nsetup = \"error\"\n",
            "setup failed: the amplifier is missing",
        ),
        (
            "no-restore",
            "[config]\nrestore = \"error\"\n",
            "restore failed: cannot read the old",
        ),
        (
            "trap-setup",
            "[config]\nsetup = \"trap\"\n",
            "setup: it trapped",
        ),
        (
            "trap-restore",
            "[config]\nrestore = \"trap\"\n",
            "restore: it trapped",
        ),
    ] {
        let world = counting(id);
        world.install(id, "hostile", manifest);
        world.wait_warning(id, cause);
        world.deliver(id, message(device(2), "x"));
        world.wait_line(id, "v1: count 3");
        let lines = plugin_lines(id);
        assert!(
            !lines.iter().any(|line| line.contains("demote")),
            "{lines:?}"
        );
        assert_eq!(world.told(id).len(), 2, "{:?}", world.told(id));
        assert_eq!(world.status(id).unwrap().generation, 1);
    }
}

#[test]
fn an_old_generation_that_cannot_save_is_replaced_all_the_same() {
    let mut world = World::new();
    world.install("no-save", "hostile", "[config]\nsave = \"trap\"\n");
    world.start();
    world.wait_state("no-save", "running");
    world.lead("no-save", 1);
    world.install("no-save", "recorder", "");
    world.wait_line("no-save", "promote-leader 1");
    world.wait_warning("no-save", "the new one starts without its state");
    assert_eq!(world.told("no-save"), ["up 0.1.0"]);
}

#[test]
fn a_touched_file_is_no_reload() {
    let world = counting("touched");
    let file = world.plugins_dir().join("touched/plugin.wasm");
    std::fs::write(&file, fixture("counter_v1")).unwrap();
    // The next real change shows that the touch was looked at and passed over.
    std::thread::sleep(Duration::from_millis(600));
    std::fs::write(&file, fixture("counter_v2")).unwrap();
    world.wait_line("touched", "v2: promote-leader 6");
    assert_eq!(world.status("touched").unwrap().generation, 2);
    let lines = plugin_lines("touched");
    assert_eq!(
        lines.iter().filter(|line| line.ends_with("setup")).count(),
        2,
        "{lines:?}"
    );
}

#[test]
fn a_symlinked_file_and_a_rename_are_followed() {
    let mut world = World::new();
    let built = world.plugins_dir().join(".built/app.wasm");
    std::fs::create_dir_all(built.parent().unwrap()).unwrap();
    std::fs::write(&built, fixture("counter_v1")).unwrap();
    std::os::unix::fs::symlink(&built, world.plugins_dir().join("linked.wasm")).unwrap();
    world.start();
    world.wait_line("linked", "v1: setup");
    let aside = built.with_extension("tmp");
    std::fs::write(&aside, fixture("counter_v2")).unwrap();
    std::fs::rename(&aside, &built).unwrap();
    world.wait_line("linked", "v2: restore from 0.1.0");
    assert_eq!(
        world
            .told("linked")
            .iter()
            .filter(|what| *what == "up 0.1.0")
            .count(),
        1
    );
}

#[test]
fn events_wait_while_a_generation_hands_over() {
    let world = counting("held");
    std::fs::write(
        world.plugins_dir().join("held/plugin.wasm"),
        fixture("counter_v2"),
    )
    .unwrap();
    let start = Instant::now();
    let mut sent = 0;
    while !plugin_lines("held")
        .iter()
        .any(|line| line.contains("v2: promote-leader"))
    {
        assert!(start.elapsed() < common::PATIENCE);
        world.deliver("held", message(device(2), "x"));
        sent += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    // The last ones are certain to reach the new generation.
    for _ in 0..5 {
        world.deliver("held", message(device(2), "x"));
    }
    world.wait_line("held", &format!("v2: count {}", sent + 2 + 5));
    let counts: Vec<u64> = plugin_lines("held")
        .iter()
        .filter_map(|line| {
            line.split_once("count ")
                .and_then(|(_, count)| count.parse().ok())
        })
        .collect();
    assert!(
        counts.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "each once: {counts:?}"
    );
    assert_eq!(world.status("held").unwrap().dropped_messages, 0);
}

#[test]
fn what_a_generation_hands_over_is_bounded() {
    let mib = 1 << 20;
    for (id, bytes, fits) in [
        ("saves", 4 * mib - 4096, true),
        ("saves-more", 4 * mib + 1, false),
    ] {
        let mut world = World::new();
        world.install(id, "hostile", &format!("[config]\nsave-bytes = {bytes}\n"));
        world.start();
        world.wait_state(id, "running");
        world.install(id, "hostile", "");
        world.wait_generation(id, 2);
        let restored = format!("restore of {bytes} bytes");
        let lines = plugin_lines(id);
        assert_eq!(lines.contains(&restored), fits, "{lines:?}");
        if !fits {
            world.wait_warning(id, "the new one starts without its state");
        }
    }
}

/// A manifest whose `setup` does some work: this takes a second or more.
const SLOW: &str = "version = \"0.1.0\"\n[limits]\nsetup_cpu_ms = 60000\n[config]\nwork = 2000\n";

fn counts(id: &str) -> Vec<u64> {
    let lines = plugin_lines(id);
    let counts = lines.iter().filter_map(|line| line.split_once("count "));
    counts.filter_map(|(_, count)| count.parse().ok()).collect()
}

#[test]
fn the_old_generation_goes_on_while_a_slow_one_is_set_up() {
    let world = counting("slow");
    world.install("slow", "counter_v2", SLOW);
    world.wait_line("slow", "v2: setup");
    let mut sent = 2;
    while !plugin_lines("slow")
        .iter()
        .any(|line| line == "v2: setup done")
    {
        world.deliver("slow", message(device(2), "x"));
        sent += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    world.wait_line("slow", "v2: promote-leader 6");
    world.deliver("slow", message(device(2), "x"));
    world.wait_line("slow", &format!("v2: count {}", sent + 1));
    let lines = plugin_lines("slow");
    let at = |text: &str| lines.iter().position(|line| line == text).unwrap();
    let meanwhile = &lines[at("v2: setup")..at("v2: setup done")];
    let answered = meanwhile
        .iter()
        .filter(|line| line.starts_with("v1: count"))
        .count();
    assert!(answered > 50, "{answered} of {sent} answered meanwhile");
    let counts = counts("slow");
    assert!(
        counts.iter().copied().eq(1..=sent + 1),
        "each once, in order: {counts:?}"
    );
    assert_eq!(world.status("slow").unwrap().dropped_messages, 0);
    let order = [
        "v2: setup done",
        "v1: save",
        "v2: restore from 0.1.0",
        "v1: demote-leader",
    ];
    assert!(
        order.windows(2).all(|pair| at(pair[0]) < at(pair[1])),
        "{lines:?}"
    );
    assert_no_errors();
}

#[test]
fn the_newest_content_wins_over_one_that_is_still_set_up() {
    let world = counting("newest");
    world.install("newest", "counter_v2", SLOW);
    world.wait_line("newest", "v2: setup");
    world.install("newest", "recorder", "version = \"0.1.0\"\n");
    world.wait_line("newest", "promote-leader 6");
    world.wait_generation("newest", 2);
    world.wait_line("newest", "v2: setup done");
    // Had the older one landed, it would be told of the peer.
    world.deliver("newest", PluginEvent::PeerAdded(device(3)));
    world.wait_line("newest", "on-peer-added device-3");
    let lines = plugin_lines("newest");
    assert!(
        !lines.iter().any(|line| line.starts_with("v2: on-peer")),
        "{lines:?}"
    );
    assert_eq!(world.status("newest").unwrap().generation, 2);
    let told = world.told("newest").concat();
    assert!(!told.contains("b\"v2\""), "nothing of it gets out: {told}");
}

#[test]
fn an_older_content_that_lands_first_does_not_take_over() {
    let world = counting("older");
    world.install("older", "counter_v2", SLOW);
    world.wait_line("older", "v2: setup");
    world.install("older", "counter_v1", &SLOW.replace("2000", "4000"));
    world.wait_line("older", "v1: restore from 0.1.0");
    world.wait_generation("older", 2);
    let lines = plugin_lines("older");
    let at = |text: &str| lines.iter().position(|line| line == text).unwrap();
    assert!(at("v2: setup done") < at("v1: setup done"), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.starts_with("v2: restore")),
        "{lines:?}"
    );
}

#[test]
fn what_is_set_up_does_not_outlive_its_plugin_or_the_time_it_was_begun_in() {
    let world = counting("outdated");
    world.install("outdated", "counter_v2", SLOW);
    world.wait_line("outdated", "v2: setup");
    world.clock.shift(-3_600_000_000);
    world.host().clock_set_back();
    // The running one is made again at once, and the new one set up again.
    world.wait_line("outdated", "v2: promote-leader 6");
    let lines = plugin_lines("outdated");
    let setups = |name: &str| lines.iter().filter(|line| *line == name).count();
    assert_eq!(
        (setups("v1: setup"), setups("v2: setup")),
        (2, 2),
        "{lines:?}"
    );
    world.deliver("outdated", message(device(2), "x"));
    world.wait_line("outdated", "v2: count 3");

    let world = counting("removed");
    world.install("removed", "counter_v2", SLOW);
    world.wait_line("removed", "v2: setup");
    std::fs::remove_dir_all(world.plugins_dir().join("removed")).unwrap();
    world.wait_line("removed", "v1: shutdown Reason::Remove");
    std::thread::sleep(Duration::from_secs(3));
    let lines = plugin_lines("removed");
    assert!(
        !lines.iter().any(|line| line.contains("v2: setup done")),
        "{lines:?}"
    );
    assert!(world.status("removed").is_none());
}
