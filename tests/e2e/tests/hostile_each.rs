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
/// How often that is repeated until half of the round trips are short: a machine may stand still for a
/// moment, but not each time.
const TRIES: u32 = 3;
/// What a daemon may have more than before any was there, in MiB, once one is gone: the state that all so
/// far wrote for the group, and what an allocator leaves between.
const KEPT_MIB: u64 = 12;

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
        endure(&group, hostile, &before);
    }
    assert_eq!(group.wait_one_leader(&[0, 1]), leader);
}

/// Has it at work for a while.
fn endure(group: &Group, hostile: Hostile, before: &Memory) {
    let (id, start, marks) = (hostile.id(), Instant::now(), group.marks());
    Memory::forget_peak(group);
    let mut nuisance = Nuisance::begin(group, &[hostile]);
    let mut tries = (0..TRIES).map(|_| {
        let noticed = Noticed::from_now(group);
        nuisance.last(group, LASTING);
        noticed.median()
    });
    let median = tries.find(|median| *median < MEDIAN_MAX);
    wait::until(&format!("{id} is named"), || {
        nuisance.go_on(group);
        nuisance.not_named(group, &marks).is_empty().then_some(())
    });
    no_role_changed(group, &marks);
    let (grown, may) = (Memory::peak(group).above(before), hostile.grows_by_mib());
    let took = start.elapsed().as_secs_f64();
    println!("{id}: {took:.1} s, half of the round trips in {median:?}; {grown} MiB more of {may}");
    assert!(median.is_some(), "{id}: not one of {TRIES} times");
    assert!(grown <= may, "{id}: {grown} MiB more");
    nuisance.end(group);
    let kept = wait::until("memory is given back", || {
        let kept = Memory::resident(group).above(before);
        (kept <= KEPT_MIB).then_some(kept)
    });
    println!("{id}: {kept} MiB more afterwards");
}
