//! One daemon and its plugins: saving, starting, memory.
//!
//! A device alone is a group of one, so what is measured is the host's own part. Any plugin can be
//! named by its file; without one it is `counter_v1` of the fixtures, which hands a count over.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use consort_e2e::log::Line;
use consort_e2e::{Device, Group, programs, wait};

use crate::Plugins;
use crate::samples::Samples;

const ID: &str = "measured";
const FILE: &str = "measured.wasm";
/// How long a daemon gets to come to rest.
const REST: Duration = Duration::from_secs(3);
/// The section that makes contents differ: nobody reads custom sections of this name.
const MARK: &[u8] = b"figures";

fn of_plugin(id: &'static str, message: &'static str) -> impl Fn(&Line) -> bool {
    move |line| line.message == message && line.field("plugin") == id
}

fn bytes(setting: &Plugins) -> Vec<u8> {
    let path = setting.file.clone();
    let path = path.unwrap_or_else(|| programs::guest("counter_v1"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same code in another content: with a custom section at its end (WebAssembly core
/// specification 3.0, section 5.5.4).
fn marked(wasm: &[u8], number: u8) -> Vec<u8> {
    let mut marked = wasm.to_vec();
    let name = u8::try_from(MARK.len()).unwrap_or(0);
    marked.extend([0, name + 2, name]);
    marked.extend(MARK);
    // Below 128 a byte is its own LEB128 form, and this one is content.
    marked.push(number);
    marked
}

fn title(what: &str, setting: &Plugins) -> String {
    format!("{what}, {} bytes", bytes(setting).len())
}

/// A device in a group of one whose plugin runs.
fn running(setting: &Plugins) -> Group {
    let mut group = Group::on_loopback(1, "");
    let file = group.devices[0].plugin_file(FILE);
    fs::write(file, bytes(setting)).expect("the plugin is written");
    group.start();
    let log = group.devices[0].log();
    log.wait(0, "the plugin runs", of_plugin(ID, "plugin running"));
    group
}

/// Saves over the running plugin; until the new code, in charge, logs the first line of its own. That is
/// an answer to being told of its device and its role.
fn save(device: &Device, wasm: &[u8]) -> Duration {
    let mark = device.log().mark();
    let place = device.plugin_file("next");
    fs::write(&place, wasm).expect("the plugin is written");
    let before = Instant::now();
    fs::rename(&place, device.plugin_file(FILE)).expect("the plugin is saved");
    let answer = wait::until("the new code answers", || {
        let lines = device.log().since(mark);
        let mut lines = lines.into_iter();
        // Earlier lines are of its setup, or of the code that runs until then.
        lines.find(of_plugin(ID, "plugin running"))?;
        lines.find(|line| line.is_by_plugin(ID))
    });
    answer.at.saturating_duration_since(before)
}

/// From a save to the new code, for contents that are seen for the first time and for known ones.
pub(crate) fn reload(setting: &Plugins) -> Option<()> {
    let group = running(setting);
    let (mut first, mut again) = (Samples::default(), Samples::default());
    let wasm = bytes(setting);
    for number in 0..setting.times {
        first.add(save(&group.devices[0], &marked(&wasm, number)));
    }
    for number in 0..setting.times {
        again.add(save(&group.devices[0], &marked(&wasm, number)));
    }
    first.print(&title(
        "saved for the first time -> new code answers",
        setting,
    ));
    again.print(&title("known content saved -> new code answers", setting));
    Some(())
}

/// From the start of the daemon to the end of the plugin's `setup`, its code compiled before.
pub(crate) fn start(setting: &Plugins) -> Option<()> {
    let mut group = running(setting);
    let mut samples = Samples::default();
    let device = &mut group.devices[0];
    for _ in 0..setting.times {
        device.stop();
        let before = Instant::now();
        device.spawn();
        let running = of_plugin(ID, "plugin running");
        let line = device.log().wait(0, "the plugin runs", running);
        samples.add(line.at.saturating_duration_since(before));
    }
    samples.print(&title("daemon started -> `setup` done", setting));
    Some(())
}

/// Resident memory of the daemon at rest, its plugins' code compiled before.
pub(crate) fn memory(setting: &Plugins) -> Option<()> {
    for count in [1, 20] {
        let mut group = Group::on_loopback(1, "");
        let device = &mut group.devices[0];
        for number in 0..count {
            let file = device.plugin_file(&format!("measured-{number}.wasm"));
            let wasm = marked(&bytes(setting), number);
            fs::write(file, wasm).expect("the plugin is written");
        }
        device.start();
        wait_all(device, count);
        device.stop();
        device.start();
        wait_all(device, count);
        std::thread::sleep(REST);
        let what = format!("resident memory with {count} plugins");
        println!(
            "{}: {:.1} MiB, of which {:.1} MiB are its own",
            title(&what, setting),
            mebibytes(device.pid(), "Rss"),
            mebibytes(device.pid(), "Private_Dirty"),
        );
    }
    Some(())
}

fn wait_all(device: &Device, count: u8) {
    for number in 0..count {
        let id = format!("measured-{number}");
        device.log().wait(0, "a plugin runs", |line| {
            line.message == "plugin running" && line.field("plugin") == id
        });
    }
}

/// A sum of `/proc/<pid>/smaps_rollup`.
fn mebibytes(pid: u32, key: &str) -> f64 {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = fs::read_to_string(path).expect("Linux tells");
    let line = text.lines().find(|line| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(':'))
    });
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: u32 = number
        .and_then(|number| number.parse().ok())
        .expect("a number of KiB");
    f64::from(kib) / 1024.0
}
