//! Plugins that do their worst all together on every device of a group: the group and the good plugin
//! beside them do not notice.

use std::time::{Duration, Instant};

use consort_e2e::Group;
use consort_e2e::hostile::{
    ALL, GRANTS, Hostile, Memory, Noticed, Nuisance, PROBE, compile, install_probe, no_role_changed,
};

/// How long it goes on after the last is named: floods do not end.
const LASTING: Duration = Duration::from_secs(10);
/// In which the log must have named all. A start that never ends is named when it has used up its CPU
/// time, of which it gets what the others leave.
const NAMED_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[test]
fn the_group_and_a_good_plugin_do_not_notice_bad_ones() {
    let mut group = Group::on_loopback(3, GRANTS);
    group.install_heartbeat();
    install_probe(&group);
    group.start();
    compile(&group);
    let all = [0, 1, 2];
    let leader = group.wait_settled(&all);
    for device in &group.devices {
        device.log().wait(0, "the probe runs", |line| {
            line.is_by_plugin(PROBE) && line.message.starts_with("round trip ")
        });
    }
    std::thread::sleep(Duration::from_secs(3));
    let before = Memory::resident(&group);
    let noticed = Noticed::from_now(&group);
    Memory::forget_peak(&group);
    // Files have a test of their own: what they do is done by compilers, one after the other.
    let bad: Vec<Hostile> = ALL.into_iter().filter(|bad| !bad.is_file()).collect();
    let mut nuisance = Nuisance::begin(&group, &bad);

    let (start, mut named) = (Instant::now(), None);
    loop {
        nuisance.last(&group, LOOK_EVERY);
        no_role_changed(&group, noticed.marks());
        let missing = nuisance.not_named(&group, noticed.marks());
        match named {
            None if missing.is_empty() => named = Some(Instant::now()),
            None => assert!(start.elapsed() < NAMED_WITHIN, "no log names {missing:?}"),
            Some(at) if at.elapsed() > LASTING => break,
            Some(_) => {}
        }
    }
    assert_eq!(group.wait_one_leader(&all), leader);
    println!("half of the round trips take {:?}", noticed.median());
    noticed.assert_nothing("all together");
    // Each by itself stays within its limit and a tenth, as `hostile_each.rs` shows. Few of them need all
    // of it, so all together stay well below the sum.
    let limits: u32 = bad.iter().map(|bad| bad.memory_mib).sum();
    let grown = Memory::peak(&group).above(&before);
    println!("{grown} MiB more at most; their limits are {limits} MiB");
    assert!(grown <= u64::from(limits) * 4 / 5, "{grown} MiB more");
    for device in &group.devices {
        let mark = device.log().mark();
        for good in [PROBE, "heartbeat"] {
            device.log().wait(mark, "a good plugin goes on", |line| {
                line.is_by_plugin(good)
            });
        }
    }
}
