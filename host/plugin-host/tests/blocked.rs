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
