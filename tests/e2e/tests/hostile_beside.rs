//! Plugins that do their worst on every device of a group: the group and the good plugin beside them
//! do not notice.

use std::fs;
use std::time::{Duration, Instant};

use consort_e2e::hostile::{ALL, PROBE, compile, install_probe, memory_mib, round_trips};
use consort_e2e::{Device, Group};

/// How long it goes on after the last is named: floods do not end.
const LASTING: Duration = Duration::from_secs(10);
/// In which the log must have named all. A start that never ends is named when it has used up its CPU
/// time, of which it gets what the others leave.
const NAMED_WITHIN: Duration = Duration::from_secs(300);

#[test]
fn the_group_and_a_good_plugin_do_not_notice_bad_ones() {
    let mut group = Group::on_loopback(3, "");
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
    let before: Vec<u64> = memory(&group.devices);
    let marks = group.marks();
    for device in &group.devices {
        ALL.iter().for_each(|hostile| hostile.install(device));
    }

    let (start, mut most, mut named) = (Instant::now(), before.clone(), None);
    loop {
        std::thread::sleep(Duration::from_millis(250));
        unnoticed(&group, &all, &marks);
        for (most, used) in most.iter_mut().zip(memory(&group.devices)) {
            *most = used.max(*most);
        }
        let missing = not_named(&group.devices, &marks);
        match named {
            None if missing.is_empty() => named = Some(Instant::now()),
            None => assert!(start.elapsed() < NAMED_WITHIN, "no log names {missing:?}"),
            Some(at) if at.elapsed() > LASTING => break,
            Some(_) => {}
        }
    }
    assert_eq!(group.wait_one_leader(&all), leader);
    // All of them together, what their limits allow and a tenth.
    let allowed = u64::from(memory_mib()) * 11 / 10;
    for (device, (before, most)) in group.devices.iter().zip(before.iter().zip(&most)) {
        let name = device.name();
        println!("{name}: {before} MiB before, {most} MiB at most");
        assert!(
            most - before <= allowed,
            "{name}: {before} MiB, then {most} MiB"
        );
        let probe = device.plugin(PROBE).expect("it is there");
        assert_eq!(probe["state"], "running", "{probe}");
        assert!(probe["last_fault"].is_null(), "{probe}");
        let mark = device.log().mark();
        for good in [PROBE, "heartbeat"] {
            device.log().wait(mark, "a good plugin goes on", |line| {
                line.is_by_plugin(good)
            });
        }
        let trips = round_trips(device.log(), marks[0]).len();
        assert!(trips > 100, "{name}: {trips} round trips");
    }
}

/// No role of the good plugins changed, nobody was removed.
#[track_caller]
fn unnoticed(group: &Group, all: &[usize], marks: &[usize]) {
    let changed = group.role_change(all, marks);
    assert!(changed.is_none(), "{changed:?}");
    for (device, mark) in group.devices.iter().zip(marks) {
        let removed = |line: &consort_e2e::log::Line| {
            line.message.starts_with("member ") && line.message != "member added"
        };
        let removed = device.log().find(*mark, removed);
        assert!(removed.is_none(), "{}: {removed:?}", device.name());
    }
}

/// Whose misdeeds no line of the log has named yet.
fn not_named(devices: &[Device], marks: &[usize]) -> Vec<String> {
    let mut missing = Vec::new();
    for (device, mark) in devices.iter().zip(marks) {
        for hostile in ALL {
            let named = device.log().find(*mark, |line| {
                line.field("plugin") == hostile.id() && line.warns_of(&hostile.said)
            });
            if named.is_none() {
                missing.push(format!("{} on {}", hostile.id(), device.name()));
            }
        }
    }
    missing
}

/// The daemons' resident memory in MiB.
fn memory(devices: &[Device]) -> Vec<u64> {
    let of = |device: &Device| {
        let path = format!("/proc/{}/status", device.pid());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("a figure").parse::<u64>().expect("a number") >> 10
    };
    devices.iter().map(of).collect()
}
