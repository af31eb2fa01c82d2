//! The group's secret is changed under real daemons that go on with their work.

use std::collections::BTreeSet;
use std::time::Duration;

use consort_e2e::{Device, Group, Role, roles, wait};
use serde_json::Value;

/// A step, taken on one device: it must be acknowledged by all `others`. A device that did not take
/// the step before may hear a moment later that all have followed it, and refuses until then.
#[track_caller]
fn rotate(device: &Device, step: &str, others: usize) {
    let report: Value = wait::until(&format!("{step} is taken"), || {
        let output = device.run(&["group", "rotate", step, "--json"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        let refused = errors.contains("of the present members");
        assert!(output.status.success() || refused, "{step}: {errors}");
        let printed = output.status.success().then_some(output.stdout)?;
        Some(serde_json::from_slice(&printed).expect("JSON"))
    });
    let acknowledged = report["acknowledged"].as_array().expect("a list").len();
    assert_eq!(acknowledged, others, "{step}: {report}");
    println!("{step}: {acknowledged} acknowledged");
}

/// The secrets by epoch and state, as the device's file has them.
fn secrets(device: &Device) -> Vec<(u64, String)> {
    let shown = device.run_with(&["group", "show", "--json"], "");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let secrets = shown["secrets"].as_array().expect("a list");
    secrets
        .iter()
        .map(|secret| {
            let epoch = secret["epoch"].as_u64().expect("a number");
            (epoch, secret["state"].as_str().expect("text").to_owned())
        })
        .collect()
}

/// The numbers of the broadcasts that a device logged with this first word.
fn numbers(device: &Device, mark: usize, word: &str) -> BTreeSet<u64> {
    let lines = device.log().since(mark);
    let of_plugin = lines.iter().filter(|line| line.is_by_plugin("heartbeat"));
    let number = |text: &str| {
        let mut words = text.split_whitespace();
        let fits = words.next() == Some(word);
        let n = words.next()?.strip_prefix("n=")?.parse().ok()?;
        fits.then_some(n)
    };
    of_plugin.filter_map(|line| number(&line.message)).collect()
}

#[test]
fn the_secret_is_changed_under_a_working_group_and_a_late_device_catches_up() {
    let mut group = Group::on_loopback(6, "");
    group.install_heartbeat();
    group.start();
    let all: Vec<usize> = (0..6).collect();
    group.wait_settled(&all);
    // The sixth is off while the secret changes, and leads nothing then.
    let (status, _) = group.devices[5].stop();
    assert!(status.success(), "{status}");
    let five: Vec<usize> = (0..5).collect();
    let leader = group.wait_settled(&five);
    let marks: Vec<usize> = group.devices.iter().map(|d| d.log().mark()).collect();

    rotate(&group.devices[0], "install", 4);
    rotate(&group.devices[1], "use", 4);
    // Some broadcasts while both secrets are accepted; the late device comes back in time.
    std::thread::sleep(Duration::from_secs(3));
    group.devices[5].start();
    group.wait_members(&all);
    wait::until("the late device has the fresh secret", || {
        (secrets(&group.devices[5]).len() == 2).then_some(())
    });
    rotate(&group.devices[2], "remove", 5);
    std::thread::sleep(Duration::from_secs(5));

    for place in &five {
        let device = &group.devices[*place];
        assert_eq!(
            roles(device.log(), marks[*place]),
            [] as [Role; 0],
            "no change of leader at {}",
            device.name()
        );
    }
    let sent = numbers(&group.devices[leader], marks[leader], "broadcast");
    assert!(sent.len() >= 8, "{sent:?}");
    for place in &five {
        let device = &group.devices[*place];
        wait::until("every broadcast is heard", || {
            let heard = numbers(device, marks[*place], "heard");
            sent.is_subset(&heard).then_some(())
        });
    }
    for device in &group.devices {
        assert_eq!(
            secrets(device),
            [(2, "active".to_owned())],
            "{}",
            device.name()
        );
    }
    println!("{} broadcasts, all heard by five", sent.len());

    // What is on the disk holds: the late device starts anew, under the fresh secret alone.
    group.devices[5].kill();
    group.devices[5].start();
    group.wait_members(&all);
}
