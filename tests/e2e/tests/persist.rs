//! State that a plugin asked to keep: it survives the power of all devices at once, and a file that
//! cannot be read is no more than a device that has to ask its peers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use consort_e2e::{Device, Group, programs, wait};

const KEPT: &str = "[state]\npersist = true\n";
/// What a call accepted this long before a crash survives it, with a little for a busy machine.
const ON_DISK_AFTER: Duration = Duration::from_millis(1_500);
/// What the devices write, each with its number.
const EACH: &str = "device name kitchen;add n 5";
const FIRST: &str = "device name kitchen;add n 5;shared colour blue";

#[test]
fn state_survives_the_power_of_all_devices_at_once() {
    let mut group = group(KEPT);
    let before = written(&mut group);
    std::thread::sleep(ON_DISK_AFTER);
    for device in &mut group.devices {
        device.kill();
    }
    // One device alone has it all, and so it came from its disk.
    let settings = settings(&group, 0, "");
    group.devices[0].configure(&settings);
    group.devices[0].start();
    let alone = wait_state(&group.devices[0], 0, "n=15");
    assert!(alone.contains("shared colour=blue"), "{alone}");
    for index in 1..3 {
        let settings = self::settings(&group, index, "");
        group.devices[index].configure(&settings);
        group.devices[index].start();
    }
    group.wait_members(&[0, 1, 2]);
    for device in &group.devices {
        let mark = device.log().mark();
        assert_eq!(
            wait_state(device, mark, "n=15"),
            before,
            "{}",
            device.name()
        );
    }
}

#[test]
fn without_the_setting_nothing_is_kept() {
    let mut group = group("");
    written(&mut group);
    std::thread::sleep(ON_DISK_AFTER);
    for device in &mut group.devices {
        device.kill();
        assert!(!device.data_file("state.redb").exists());
    }
    let settings = settings(&group, 0, "");
    group.devices[0].configure(&settings);
    group.devices[0].start();
    wait_state(&group.devices[0], 0, "state ; n=0");
}

#[test]
fn a_damaged_file_is_put_aside_and_the_state_comes_from_the_peers() {
    let mut group = group(KEPT);
    let before = written(&mut group);
    std::thread::sleep(ON_DISK_AFTER);
    group.devices[1].kill();
    let file = group.devices[1].data_file("state.redb");
    let mut bytes = fs::read(&file).expect("state was kept");
    bytes[4096..].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&file, bytes).expect("written");
    let settings = settings(&group, 1, "");
    group.devices[1].configure(&settings);
    group.devices[1].start();
    let log = group.devices[1].log();
    log.wait(0, "the log says what happened", |line| {
        line.warns_of(&["put aside", "takes its state from its peers"])
    });
    assert!(group.devices[1].data_file("state.redb.corrupt-1").exists());
    wait_state(&group.devices[1], 0, &before);
    wait::until("it is kept again", || file.exists().then_some(()));
}

/// Three devices on the loopback, not started yet.
fn group(manifest: &str) -> Group {
    let group = Group::on_loopback(3, "");
    for device in &group.devices {
        device.install_with(&programs::guest("measured"), "measured", manifest);
    }
    group
}

/// Starts all, and gives the state once all have the whole of it.
fn written(group: &mut Group) -> String {
    for index in 0..3 {
        let once = if index == 0 { FIRST } else { EACH };
        let settings = settings(group, index, &format!("once = \"{once}\"\n"));
        group.devices[index].configure(&settings);
    }
    group.start();
    group.wait_members(&[0, 1, 2]);
    let whole = |device: &Device| {
        wait::until("the whole state", || {
            let lines = device.log().since(0);
            let mut said = lines
                .iter()
                .rev()
                .filter(|line| line.is_by_plugin("measured"));
            let state = said.find(|line| line.message.starts_with("state "))?;
            let parts = ["shared colour=blue", "; n=15"];
            let names = state.message.matches("name=kitchen").count() == 3;
            (names && parts.iter().all(|part| state.message.contains(part)))
                .then(|| state.message.clone())
        })
    };
    let states: Vec<String> = group.devices.iter().map(whole).collect();
    assert!(
        states.iter().all(|state| *state == states[0]),
        "{states:#?}"
    );
    states[0].clone()
}

/// The settings of a device as they are, with these of the plugin.
fn settings(group: &Group, index: usize, config: &str) -> String {
    let text = fs::read_to_string(folder(group, index).join("consort.toml")).expect("there is one");
    let network = text.find("[network]").expect("it is on the loopback");
    let end = text.find("[plugins.").unwrap_or(text.len());
    let network = &text[network..end];
    format!("{network}[plugins.measured.config]\ndump = true\n{config}")
}

fn folder(group: &Group, index: usize) -> &Path {
    group.devices[index].folder()
}

/// The first time from a mark on that the device tells a state with this in it.
fn wait_state(device: &Device, mark: usize, part: &str) -> String {
    let what = format!("a state with {part}");
    wait::until(&what, || find_state(device, mark, part))
}

fn find_state(device: &Device, mark: usize, part: &str) -> Option<String> {
    let tells = |line: &consort_e2e::log::Line| {
        line.is_by_plugin("measured")
            && line.message.starts_with("state ")
            && line.message.contains(part)
    };
    Some(device.log().find(mark, tells)?.message)
}
