//! Plugins that do their worst on every device of a group: the group and the good plugin beside them
//! do not notice.

use std::time::Duration;

use consort_e2e::{Group, programs, wait};

/// What the bad ones do, each in every callback it gets, until they are set aside and beyond: a
/// plugin that floods is within its rights and goes on.
const WAYS: [&str; 6] = [
    "loop",
    "log-loop",
    "alloc",
    "message-flood",
    "publish-flood",
    "recurse",
];

/// Long enough for five faults of each.
const LASTING: Duration = Duration::from_secs(25);

#[test]
fn the_group_and_a_good_plugin_do_not_notice_bad_ones() {
    let mut group = Group::on_loopback(3, "");
    group.install_heartbeat();
    group.start();
    let all = [0, 1, 2];
    let leader = group.wait_settled(&all);
    let marks = group.marks();
    for device in &group.devices {
        for way in WAYS {
            let manifest = format!("[config]\nalways = \"{way}\"\n");
            device.install_with(
                &programs::guest("hostile"),
                &format!("bad-{way}"),
                &manifest,
            );
        }
    }
    let noticed = || {
        if let Some(change) = group.role_change(&all, &marks) {
            return Some(format!("{change:?}"));
        }
        let mut lines = group.devices.iter().zip(&marks).flat_map(|(device, mark)| {
            let name = device.name();
            let lines = device.log().since(*mark).into_iter();
            lines.map(move |line| (name, line))
        });
        let removed = lines.find(|(_, line)| line.message.starts_with("member "));
        removed.map(|(name, line)| format!("{name}: {}", line.text()))
    };
    wait::never("something was noticed", LASTING, noticed);
    assert_eq!(group.wait_one_leader(&all), leader);
    for device in &group.devices {
        // They did misbehave: what overran its limits was stopped, and is named.
        for way in ["loop", "alloc", "recurse"] {
            let bad = device.plugin(&format!("bad-{way}")).expect("it is there");
            assert!(bad["last_fault"].is_string(), "{}: {bad}", device.name());
        }
        let mark = device.log().mark();
        device.log().wait(mark, "the good plugin goes on", |line| {
            line.is_by_plugin("heartbeat")
        });
    }
}
