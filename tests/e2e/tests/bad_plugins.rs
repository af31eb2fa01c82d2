//! Files that are no plugins, and plugins that misbehave, next to one that is fine.

use std::fs;
use std::time::{Duration, Instant};

use consort_e2e::log::Line;
use consort_e2e::{Device, Group, programs, wait};
use consort_test_guests::bombs;

#[test]
fn files_that_are_no_plugins_are_named() {
    let mut group = alone("");
    let device = &mut group.devices[0];
    let good = fs::read(programs::heartbeat()).expect("it is built");
    write(device, "text.wasm", b"this is no plugin\n");
    write(device, "empty.wasm", b"");
    write(device, "half.wasm", &good[..good.len() / 2]);
    write(
        device,
        "elf.wasm",
        &fs::read(programs::consort()).expect("it is built")[..4096],
    );
    write(device, "Bad Name.wasm", &good);
    write(device, "notes.txt", b"not looked at\n");
    device.install(&programs::guest("other_world"), "other.wasm");
    device.install(&programs::guest("unknown_import"), "unknown.wasm");
    device.start();
    beats(device);
    for file in [
        "text.wasm",
        "empty.wasm",
        "half.wasm",
        "elf.wasm",
        "other.wasm",
        "unknown.wasm",
    ] {
        let told = wait_warning(device, &[file]);
        let cause = told.field("cause");
        println!("{file}: {cause}");
        assert!(cause.len() > 10, "a cause in words: {}", told.text());
    }
    assert!(
        wait_warning(device, &["Bad Name.wasm"])
            .field("cause")
            .contains("id")
    );
    assert!(
        wait_warning(device, &["unknown.wasm"])
            .field("cause")
            .contains("teleport")
    );
    assert!(
        device
            .log()
            .find(0, |line| line.text().contains("notes.txt"))
            .is_none()
    );
    beats(device);
}

#[test]
fn plugins_that_misbehave_harm_only_themselves() {
    let cases = [
        ("fails", "setup", "error", "the amplifier is missing"),
        ("loops", "setup", "loop", "300 ms of CPU"),
        ("swells", "setup", "alloc", "memory"),
        ("unwell", "setup", "panic", "unreachable"),
        ("traps", "always", "trap", "unreachable"),
    ];
    let settings =
        cases.map(|(id, when, how, _)| format!("[plugins.{id}.config]\n{when} = \"{how}\"\n"));
    let mut group = alone(&settings.concat());
    let device = &mut group.devices[0];
    for (id, ..) in cases {
        let folder = device.plugin_file(id);
        fs::create_dir(&folder).expect("made");
        fs::copy(programs::guest("hostile"), folder.join("plugin.wasm")).expect("copied");
        fs::write(folder.join("plugin.toml"), "[limits]\nsetup_cpu_ms = 300\n").expect("written");
    }
    device.start();
    for (id, _, _, cause) in cases {
        let file = format!("{id}/plugin.wasm");
        let told = device.log().wait(0, &format!("{file} is told of"), |line| {
            line.warns_of(&[&file, cause]) && line.field("plugin") == id
        });
        println!("{id}: {} ({})", told.message, told.field("cause"));
    }
    let panic = |line: &Line| line.is_by_plugin("unwell") && line.message.contains("this plugin");
    device
        .log()
        .wait(0, "the panic's text is in the log", panic);
    for id in ["loops", "swells", "unwell", "traps"] {
        device.log().wait(0, &format!("{id} is given up"), |line| {
            line.field("plugin") == id && line.message == "plugin quarantined"
        });
    }
    beats(device);
    let plugin = device.plugin("heartbeat").expect("the status is there");
    assert_eq!(
        (&plugin["state"], &plugin["role"]),
        (&"running".into(), &"leader".into())
    );
    wait::until("what is given up does not lead", || {
        let traps = device.plugin("traps")?;
        (traps["state"] == "quarantined" && traps["role"] == "none").then_some(())
    });
}

/// One file keeps its compiler busy for as long as it may, another one exhausts its memory; the
/// daemon goes on, its memory stays what it was, and a plugin that comes meanwhile runs at once.
#[test]
fn files_made_to_exhaust_the_compiler_exhaust_only_their_own() {
    let mut group = Group::empty();
    group.add("device", None, "");
    let device = &mut group.devices[0];
    device.install(&programs::guest("recorder"), "good.wasm");
    device.start();
    device.wait_plugin("good", 1, "running");
    let before = resident_mib(device.pid());
    let start = Instant::now();
    write(device, "long.wasm", &bombs::long(31));
    write(device, "tangled.wasm", &bombs::tangled());
    wait::until("a compiler works", || {
        (!children(device.pid()).is_empty()).then_some(())
    });
    device.install(&programs::guest("recorder"), "later.wasm");
    device.wait_plugin("later", 1, "running");
    let words = ["tangled.wasm", "more than 512 MiB of memory"];
    let told = loop {
        // A compiler yields to everything else, and a busy machine leaves it little.
        assert!(
            start.elapsed() < Duration::from_secs(300),
            "no limit was met"
        );
        if let Some(told) = device.log().find(0, |line| line.warns_of(&words)) {
            break told;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    println!("{}: {}", told.message, told.field("cause"));
    let good = device.plugin("good").expect("it is there");
    assert_eq!(
        (&good["state"], &good["generation"]),
        (&"running".into(), &1.into())
    );
    assert!(good["last_fault"].is_null(), "{good}");
    let after = resident_mib(device.pid());
    println!("resident before {before} MiB, after {after} MiB");
    // The file of 31 MiB itself is held while it is compiled.
    assert!(
        after < before + 80,
        "{before} MiB before, {after} MiB after"
    );
    write(device, "again.wasm", &bombs::long(31));
    wait::until("a compiler works", || {
        (!children(device.pid()).is_empty()).then_some(())
    });
    // A save while the old content is being compiled gives that up.
    device.install(&programs::guest("minimal"), "again.wasm");
    device.wait_plugin("again", 1, "running");
    assert!(device.plugin("again").expect("there")["last_fault"].is_null());
    write(device, "last.wasm", &bombs::long(31));
    wait::until("a compiler works", || {
        (!children(device.pid()).is_empty()).then_some(())
    });
    let compilers = children(device.pid());
    let (status, took) = device.stop();
    assert!(status.success() && took.as_secs() < 4, "{status} {took:?}");
    for compiler in compilers {
        let folder = format!("/proc/{compiler}");
        wait::until("no compiler is left", || {
            (!std::path::Path::new(&folder).exists()).then_some(())
        });
    }
}

/// Processes that a process started and that run.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_task = tasks.filter_map(|task| {
        let path = task.ok()?.path().join("children");
        fs::read_to_string(path).ok()
    });
    let all: Vec<String> = of_task.collect();
    all.join(" ")
        .split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect()
}

/// Memory of a process in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("a figure").parse::<u64>().expect("a number") >> 10
}

#[test]
fn a_plugins_folder_may_come_later() {
    let mut group = Group::on_loopback(1, "");
    let device = &mut group.devices[0];
    let folder = device.folder().join("plugins");
    fs::remove_dir(&folder).expect("it is empty");
    device.start();
    wait_warning(
        device,
        &["no readable plugins folder", folder.to_str().expect("text")],
    );
    fs::create_dir(&folder).expect("made");
    device.install(programs::heartbeat(), "heartbeat.wasm");
    beats(device);
}

/// One device without a group, with the good plugin.
fn alone(settings: &str) -> Group {
    let mut group = Group::empty();
    group.add("device", None, settings);
    group.install_heartbeat();
    group
}

fn write(device: &Device, file: &str, content: &[u8]) {
    fs::write(device.plugin_file(file), content).expect("written");
}

/// Waits until the good plugin has sent another beat.
fn beats(device: &Device) {
    device
        .log()
        .wait(device.log().mark(), "the good plugin runs", |line| {
            line.is_by_plugin("heartbeat") && line.message.starts_with("broadcast ")
        });
}

fn wait_warning(device: &Device, words: &[&str]) -> Line {
    let what = format!("a warning about {}", words[0]);
    device.log().wait(0, &what, |line| line.warns_of(words))
}
