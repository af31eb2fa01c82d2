//! A plugin is built anew and copied over the running one, or its operator sets something else for it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
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

/// The plugin gets what its operator sets while the daemon runs, and keeps its count and its role;
/// what cannot be used changes nothing.
#[test]
fn changed_settings_reach_their_plugin_and_no_other() {
    let mut group = Group::on_loopback(2, "");
    group.install(&programs::guest("counter_v1"), FILE);
    group.install(&programs::guest("recorder"), "recorder.wasm");
    group.start();
    let leader = wait::until("one leader", || one_leader(&group));
    group.wait_members(&[0, 1]);
    let (leading, following) = (&group.devices[leader], &group.devices[1 - leader]);
    let before = [tenure(leading), tenure(following)];

    // The fixture says that its setup is done where `work` is set, and greets all from there.
    let settings = "[plugins.counter.config]\nwork = 0\n";
    set(leading, settings, rename_over);
    set(following, settings, truncate_and_write);
    set(leading, &format!("{settings}more = 1\n"), write_at_once);
    for device in [leading, following] {
        // One greeting of each reload, and each counted on from the last one.
        let counts = wait::until("three are counted", || {
            let counts = said(device, 0, "v1: count ");
            (counts.len() >= 3).then_some(counts)
        });
        let first: u64 = number(&counts[0]);
        let numbers = counts.iter().map(|count| number(count));
        assert!(
            numbers.eq(first..first + counts.len() as u64),
            "handed over: {counts:?}"
        );
    }

    for (device, generation) in [(leading, 3), (following, 2)] {
        let at = said(device, 0, "v1: setup").len();
        refuse_settings(device);
        device.wait_plugin("counter", generation, "running");
        device.wait_plugin("recorder", 1, "running");
        assert_eq!(
            said(device, 0, "v1: setup").len(),
            at,
            "nothing was reloaded"
        );
    }
    assert_eq!(
        [tenure(leading), tenure(following)],
        before,
        "no change of leader"
    );
    assert_eq!(one_leader(&group), Some(leader));
}

/// A way of saving a file.
type Save = fn(&PathBuf, &str);

fn rename_over(file: &PathBuf, text: &str) {
    let aside = file.with_extension("new");
    fs::write(&aside, text).expect("written");
    fs::rename(&aside, file).expect("renamed");
}

fn truncate_and_write(file: &PathBuf, text: &str) {
    let mut open = fs::File::create(file).expect("emptied");
    let (begin, end) = text.split_at(text.len() / 2);
    for part in [begin, end] {
        std::thread::sleep(Duration::from_millis(100));
        open.write_all(part.as_bytes()).expect("written");
    }
}

fn write_at_once(file: &PathBuf, text: &str) {
    fs::write(file, text).expect("written");
}

/// Saves the device's settings with these of plugins, and waits until the plugin has them.
fn set(device: &Device, plugins: &str, save: Save) {
    let mark = device.log().mark();
    let saved = Instant::now();
    save_settings(device, plugins, save);
    let done = device
        .log()
        .wait(mark, "a setup with other settings", |line| {
            line.message == "v1: setup done"
        });
    println!("save to setup: {} ms", (done.at - saved).as_millis());
    device.log().wait(mark, "it is handed over", |line| {
        line.message == "plugin reloaded" && line.field("plugin") == "counter"
    });
}

fn save_settings(device: &Device, plugins: &str, save: Save) {
    let file = device.folder().join("consort.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    let end = text.find("[plugins.").unwrap_or(text.len());
    save(&file, &format!("{}{plugins}", &text[..end]));
}

/// Settings that cannot be used, and one that holds from the next start on, are told and no more.
fn refuse_settings(device: &Device) {
    let file = device.folder().join("consort.toml");
    let good = fs::read_to_string(&file).expect("it is there");
    let mark = device.log().mark();
    let bad = format!("{good}[plugins.recorder.limits]\nmemory_mib = 0\n");
    let line = bad.lines().count();
    write_at_once(&file, &bad);
    let place = format!("consort.toml:{line}: plugins.recorder.limits.memory_mib: ");
    device
        .log()
        .wait(mark, "the log says what is wrong", |line| {
            line.warns_of(&[&place, "1 to 1024", "holds on"])
        });
    write_at_once(&file, &good.replacen("name = \"", "name = \"other ", 1));
    let told = device.log().wait(mark, "the log says what waits", |line| {
        line.warns_of(&["next start"])
    });
    assert_eq!(told.field("settings"), "name");
}

/// The number at the end of a line.
fn number(line: &str) -> u64 {
    let last = line.rsplit(' ').next();
    last.and_then(|last| last.parse().ok()).expect("a number")
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
