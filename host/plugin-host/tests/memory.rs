//! What a plugin that takes all the memory it can get costs the process: what its limit allows and a
//! tenth, at any instant. The only test of its process, so that the figure is its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{answers, beside, device, message};

/// Of the process besides: stacks, what the host holds for the instance, what the log has.
const HOST_MIB: u64 = 4;

/// A figure of this process in MiB, rounded up.
fn figure_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap().div_ceil(1024)
}

#[test]
fn a_plugin_that_takes_all_its_memory_takes_no_more() {
    let world = beside("memory-good", |world| {
        world.install("memory", "hostile", "[limits]\ncpu_ms = 10000\n");
    });
    world.wait_state("memory", "running");
    answers(&world, "memory-good", "before");
    // The peak is counted from here on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = figure_mib("VmRSS:");
    for _ in 0..3 {
        world.deliver("memory", message(device(2), "alloc"));
        world.wait_state("memory", "back-off");
        world.wait_state("memory", "running");
    }
    let grown = figure_mib("VmHWM:") - before;
    println!("{before} MiB, then {grown} MiB more at most");
    assert!(
        grown >= 48,
        "it took {grown} MiB only, so this shows nothing"
    );
    assert!(grown <= 64 * 11 / 10 + HOST_MIB, "{grown} MiB more");
    answers(&world, "memory-good", "hello");
}
