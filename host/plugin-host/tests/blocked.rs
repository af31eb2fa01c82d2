//! System calls that do not come back: what would block is not opened, and a plugin's thread that is
//! blocked all the same holds up nobody.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{
    answers, assert_no_errors, beside, device, explore, grant, message, plugin_lines, warnings,
};
use consort_plugin_host::{Access, Order};

#[test]
fn what_blocks_whoever_opens_it_is_not_opened() {
    use std::os::unix::net::UnixListener;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    std::os::unix::fs::symlink("pipe", folder.path().join("link")).unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    std::fs::write(folder.path().join("song"), "la la").unwrap();
    let world = beside("pipe-good", |world| {
        let wants = "[capabilities.files]\nmusic = \"read-write\"\n";
        world.install("pipe", "explorer", wants);
        world.overlay("pipe", grant("music", folder.path(), Access::ReadWrite));
    });
    for order in [
        "read /music/pipe",
        "write /music/pipe",
        "read /music/link",
        "read /music/socket",
    ] {
        assert_eq!(
            explore(&world, "pipe", order),
            "PermissionDenied",
            "{order}"
        );
    }
    world.wait_line("pipe", "pipe is neither a file nor a folder");
    assert_eq!(explore(&world, "pipe", "read /music/song"), "la la");
    assert_eq!(
        explore(&world, "pipe", "list /music"),
        "link,pipe,socket,song"
    );
    assert_eq!(explore(&world, "pipe", "read /music/none"), "NotFound");
    answers(&world, "pipe-good", "hello");
}

#[test]
fn a_plugin_that_is_blocked_for_good_holds_up_nobody() {
    let tight = "[limits]\ncpu_ms = 10\nsetup_cpu_ms = 500\n";
    let mut world = beside("blocked-good", |world| {
        world.install("blocked", "counter_v1", tight);
        world.install("blocked-too", "counter_v1", tight);
    });
    for id in ["blocked", "blocked-too"] {
        world.wait_state(id, "running");
        world.lead(id, 1);
        world.wait_line(id, "v1: promote-leader");
    }
    world.clock.stall("blocked");
    world.deliver("blocked", message(device(2), "x"));
    std::fs::remove_dir_all(world.plugins_dir().join("blocked")).unwrap();
    std::thread::sleep(Duration::from_millis(1_100));
    // The others are reloaded meanwhile, and orders are carried out.
    let start = Instant::now();
    world.install("blocked-good", "recorder", "[config]\nvolume = 1\n");
    world.wait_generation("blocked-good", 2);
    let other = common::plugin_id("blocked-too");
    world.host().order(&other, Order::Disable).unwrap();
    world.wait_state("blocked-too", "disabled");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    world.wait_warning("blocked", "does not end, it is blocked in a system call");
    common::wait_for("it is gone", || world.status("blocked").is_none());
    assert_eq!(world.told("blocked").last().unwrap(), "down");

    // Whoever comes back late finds the fence closed, and its successor in its place.
    let (told, lines) = (world.told("blocked").len(), plugin_lines("blocked").len());
    world.clock.release();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        world.told("blocked").len(),
        told,
        "{:?}",
        world.told("blocked")
    );
    assert_eq!(plugin_lines("blocked").len(), lines);
    assert_eq!(warnings("blocked").len(), 1, "{:?}", warnings("blocked"));
    world.install("blocked", "counter_v2", tight);
    world.wait_state("blocked", "running");
    world.wait_line("blocked", "v2: setup");

    // A host that stops does not wait for one either.
    world.clock.stall("blocked");
    world.deliver("blocked", message(device(2), "x"));
    let start = Instant::now();
    world.stop_within(Duration::from_secs(1));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    world.clock.release();
    assert_no_errors();
}

#[test]
fn a_plugin_that_gets_no_thread_is_named_once_and_runs_when_there_is_one() {
    const LEFT_BEHIND_MAX: usize = 16;
    let tight = "[limits]\ncpu_ms = 10\nsetup_cpu_ms = 500\n";
    let stuck: Vec<String> = (0..LEFT_BEHIND_MAX).map(|n| format!("stuck-{n}")).collect();
    let world = beside("threads-good", |world| {
        for id in &stuck {
            world.install(id, "counter_v1", tight);
        }
    });
    stuck.iter().for_each(|id| world.wait_state(id, "running"));
    world.clock.stall("stuck-*");
    for id in &stuck {
        world.deliver(id, message(device(2), "x"));
        std::fs::remove_dir_all(world.plugins_dir().join(id)).unwrap();
    }
    for id in &stuck {
        world.wait_warning(id, "its thread is left behind");
    }
    world.install("late", "counter_v2", "");
    world.wait_warning("late", "no thread can be started for the plugin");
    // It is tried again every quarter of a second.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(warnings("late").len(), 1, "{:?}", warnings("late"));
    assert!(world.status("late").is_none());
    answers(&world, "threads-good", "hello");
    world.clock.release();
    world.wait_state("late", "running");
    assert_eq!(warnings("late").len(), 1, "{:?}", warnings("late"));
    assert_no_errors();
}
