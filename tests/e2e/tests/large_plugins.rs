//! What a large plugin takes of its device's memory, by the daemon's own measure: never more than its
//! limit and a tenth, in whatever pieces it asks for it.

use std::fs;

use consort_e2e::{Device, Group, programs, wait};
use consort_test_guests::bombs;

/// The limit of the plugins of this test.
const LIMIT_MIB: u64 = 128;
/// What a plugin may make of it.
const ALLOWED_MIB: u64 = LIMIT_MIB * 11 / 10;

#[test]
fn one_huge_allocation_stays_within_the_plugin_s_limit() {
    let mut group = one_device();
    let device = &mut group.devices[0];
    // The code of all that follow is compiled and loaded once.
    device.install(&programs::guest("hostile"), "idle.wasm");
    device.start();
    device.wait_plugin("idle", 1, "running");
    let before = measure(device);

    // As much as fits in one piece; that it is seen shows that this test looks at the right memory.
    let fits = LIMIT_MIB - 8;
    allocates(device, "fits", "alloc-once", fits);
    device.wait_plugin("fits", 1, "running");
    let (used, most) = (
        resident_mib(device, "VmRSS:"),
        resident_mib(device, "VmHWM:"),
    );
    println!("before {before} MiB, with {fits} MiB in one piece {used} MiB, {most} MiB at most");
    assert!(used >= before + fits - 1, "{before} MiB, then {used} MiB");
    assert!(
        most <= before + ALLOWED_MIB,
        "{before} MiB, then {most} MiB"
    );
    fs::remove_dir_all(device.plugin_file("fits")).expect("removed");
    wait::until("its memory is given back", || {
        (resident_mib(device, "VmRSS:") < before + fits / 2).then_some(())
    });

    // More than fits, in one piece and in small ones, five times until it is given up.
    for (id, how, mib) in [
        ("little-more", "alloc-once", LIMIT_MIB + 1),
        ("huge", "alloc-once", 1_000),
        ("gigantic", "alloc-once", 2_000),
        ("bit-by-bit", "alloc", 0),
    ] {
        let before = measure(device);
        allocates(device, id, how, mib);
        device.wait_plugin(id, 1, "quarantined");
        let most = resident_mib(device, "VmHWM:");
        println!("{id}: before {before} MiB, {most} MiB at most");
        assert!(
            most <= before + ALLOWED_MIB,
            "{id}: {before} MiB, then {most} MiB"
        );
        let told = device.log().wait(0, "the log names the cause", |line| {
            line.field("plugin") == id && line.warns_of(&["it ran out of memory"])
        });
        assert!(told.text().contains("128 MiB"), "{}", told.text());
    }
    let idle = device.plugin("idle").expect("it is there");
    assert_eq!(idle["state"], "running");
}

#[test]
fn a_plugin_of_thousands_of_functions_runs_within_its_limit() {
    let mut group = one_device();
    let device = &mut group.devices[0];
    device.install(&programs::guest("minimal"), "idle.wasm");
    device.start();
    device.wait_plugin("idle", 1, "running");
    let before = measure(device);
    let mark = device.log().mark();
    fs::write(device.plugin_file("crowd.wasm"), bombs::busy_crowd(20_000)).expect("written");
    device
        .log()
        .wait(mark, "it calls all its functions", |line| {
            line.is_by_plugin("crowd") && line.message == bombs::ALL_WERE_CALLED
        });
    let most = resident_mib(device, "VmHWM:");
    println!("before {before} MiB, {most} MiB at most");
    assert!(
        most <= before + 64 * 11 / 10,
        "{before} MiB, then {most} MiB"
    );
    device.wait_plugin("crowd", 1, "running");
    let crowd = device.plugin("crowd").expect("it is there");
    assert!(crowd["last_fault"].is_null(), "{crowd}");
}

fn one_device() -> Group {
    let mut group = Group::empty();
    group.add("device", None, "");
    group
}

/// Installs a plugin that allocates like this in `setup`.
fn allocates(device: &Device, id: &str, how: &str, mib: u64) {
    let manifest =
        format!("[config]\nsetup = \"{how}\"\nmib = {mib}\n[limits]\nmemory_mib = {LIMIT_MIB}\n");
    device.install_with(&programs::guest("hostile"), id, &manifest);
}

/// The daemon's resident memory in MiB, from which its peak counts again.
fn measure(device: &Device) -> u64 {
    let path = format!("/proc/{}/clear_refs", device.pid());
    fs::write(path, "5").expect("a process of this user");
    resident_mib(device, "VmRSS:")
}

fn resident_mib(device: &Device, figure: &str) -> u64 {
    let path = format!("/proc/{}/status", device.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(figure));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("a figure").parse::<u64>().expect("a number") >> 10
}
