//! Each way to do one's worst by itself, on every device of a group: the group and a good plugin beside
//! it do not notice, its log names it, and the daemon's memory does not grow beyond what the plugin may
//! have.

use std::time::{Duration, Instant};

use consort_e2e::hostile::{
    ALL, GRANTS, Hostile, MEDIAN_MAX, Memory, Noticed, Nuisance, compile, install_probe,
    no_role_changed,
};
use consort_e2e::log::Line;
use consort_e2e::{Group, wait};

/// How long each goes on, at the least.
const LASTING: Duration = Duration::from_millis(1200);
/// How often each is tried until half of the round trips are short: a machine may stand still for a
/// moment, but not each time.
const TRIES: u32 = 3;

#[test]
fn nobody_notices_a_plugin_that_misbehaves() {
    each(|hostile| !hostile.is_file());
}

#[test]
fn nobody_notices_a_file_that_does_harm() {
    each(Hostile::is_file);
}

fn each(chosen: impl Fn(Hostile) -> bool) {
    let mut group = Group::on_loopback(2, GRANTS);
    group.install_heartbeat();
    install_probe(&group);
    group.start();
    compile(&group);
    let leader = group.wait_settled(&[0, 1]);
    for device in &group.devices {
        let asked = |line: &Line| line.is_by_plugin("probe");
        device.log().wait(0, "the probe runs", asked);
    }
    let before = Memory::resident(&group);
    for hostile in ALL.into_iter().filter(|hostile| chosen(*hostile)) {
        let mut tries = (0..TRIES).map(|_| endure(&group, hostile, &before));
        let fine = tries.any(|median| median < MEDIAN_MAX);
        assert!(fine, "beside {}", hostile.id());
    }
    assert_eq!(group.wait_one_leader(&[0, 1]), leader);
}

/// Has it at work for a while. Gives the median of the good plugin's round trips.
fn endure(group: &Group, hostile: Hostile, before: &Memory) -> Duration {
    Memory::forget_peak(group);
    let noticed = Noticed::from_now(group);
    let start = Instant::now();
    let mut nuisance = Nuisance::begin(group, &[hostile]);
    nuisance.last(group, LASTING);
    wait::until(&format!("{} is named", hostile.id()), || {
        nuisance.go_on(group);
        let named = nuisance.not_named(group, noticed.marks()).is_empty();
        named.then_some(())
    });
    let median = noticed.median();
    let grown = Memory::peak(group).above(before);
    println!(
        "{}: {:.1} s, round trips {median:?}, {grown} MiB of {}",
        hostile.id(),
        start.elapsed().as_secs_f64(),
        hostile.grows_by_mib()
    );
    no_role_changed(group, noticed.marks());
    nuisance.end(group);
    assert!(
        grown <= hostile.grows_by_mib(),
        "{}: the daemon grew by {grown} MiB",
        hostile.id()
    );
    median
}
