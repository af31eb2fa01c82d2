//! A plugin is built anew and copied over the running one.

use std::fs;
use std::time::{Duration, Instant};

use consort_e2e::{Device, Group, programs, wait};
use serde_json::Value;

/// The promise is 2 s from the copy to the answer; a busy machine gets some more.
const RELOAD_MAX: Duration = Duration::from_secs(6);
const FILE: &str = "counter.wasm";

#[test]
fn a_plugin_is_reloaded_on_save() {
    let mut group = Group::on_loopback(2, "");
    group.install(&programs::guest("counter_v1"), FILE);
    group.start();
    let leader = wait::until("one leader", || one_leader(&group));
    group.wait_members(&[0, 1]);
    let before = tenure(&group.devices[leader]);

    for place in [leader, 1 - leader] {
        reload(&group.devices[place]);
        assert_eq!(
            tenure(&group.devices[place]),
            before,
            "a reload is no change of leader"
        );
    }
    // What the new code of one device says arrives at the new code of the other.
    let other = group.devices[leader].log();
    other.wait(0, "the new code hears the new code", |line| {
        line.message.starts_with("v2: count")
    });

    break_file(&group.devices[leader]);
    assert_eq!(
        tenure(&group.devices[leader]),
        before,
        "a broken file changes nothing"
    );
    assert_eq!(one_leader(&group), Some(leader));
    for device in &group.devices {
        let roles = said(device, 0, "v2: promote-");
        assert_eq!(
            roles.len(),
            1,
            "the new code was told its role once: {roles:?}"
        );
        assert!(said(device, 0, "v2: demote-").is_empty(), "and kept it");
    }
}

/// Copies the second version over the first and waits for its first words.
fn reload(device: &Device) {
    let log = device.log();
    let mark = log.mark();
    let copied = Instant::now();
    device.install(&programs::guest("counter_v2"), FILE);
    let answer = log.wait(mark, "the new code answers", |line| {
        line.message.starts_with("v2: count")
    });
    let took = answer.at - copied;
    println!("copy to answer: {} ms", took.as_millis());
    assert!(took < RELOAD_MAX, "{took:?}");

    let lines = said(device, mark, "v");
    let place = |start: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start))
            .expect(start)
    };
    let order = [
        "v2: setup",
        "v1: save",
        "v2: restore",
        "v1: demote-",
        "v1: shutdown",
        "v2: promote-",
    ];
    let places: Vec<usize> = order.iter().map(|start| place(start)).collect();
    assert!(places.is_sorted(), "{order:?} in {lines:?}");
    device.wait_plugin("counter", 2, "running");
}

/// Copies half a file over the running one.
fn break_file(device: &Device) {
    let mark = device.log().mark();
    let whole = fs::read(programs::guest("counter_v2")).expect("the fixture is there");
    fs::write(device.plugin_file(FILE), &whole[..whole.len() / 2]).expect("it is written");
    let told = device.log().wait(mark, "the log says why", |line| {
        line.warns_of(&[FILE, "refused", "generation 2 stays running"])
    });
    assert!(!told.field("cause").is_empty(), "{}", told.text());
    device.wait_plugin("counter", 2, "running");
    wait::until("the status says why", || {
        (device.plugin("counter")?["last_fault"] == told.field("cause").as_str()).then_some(())
    });
    assert!(
        said(device, mark, "v2: shutdown").is_empty(),
        "the old one runs on"
    );
}

/// Lines of the plugin from a mark on that begin so.
fn said(device: &Device, mark: usize, start: &str) -> Vec<String> {
    let lines = device.log().since(mark);
    let own = lines.iter().filter(|line| line.is_by_plugin("counter"));
    own.map(|line| line.message.clone())
        .filter(|line| line.starts_with(start))
        .collect()
}

fn tenure(device: &Device) -> (Value, Value) {
    let plugin = device.plugin("counter").expect("the status is there");
    (plugin["leader"]["id"].clone(), plugin["term"].clone())
}

/// The place of the device that both hold for the leader.
fn one_leader(group: &Group) -> Option<usize> {
    let plugins: Option<Vec<Value>> = group.devices.iter().map(|d| d.plugin("counter")).collect();
    let plugins = plugins?;
    let leader = plugins[0]["leader"]["id"].as_str()?;
    let agreed = plugins
        .iter()
        .all(|plugin| plugin["leader"]["id"] == leader);
    let both = plugins.iter().all(|plugin| plugin["members"] == 2);
    (agreed && both).then(|| {
        group
            .devices
            .iter()
            .position(|device| device.id() == leader)
    })?
}
