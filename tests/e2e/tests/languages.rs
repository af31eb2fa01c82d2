//! One group, a language per device: the tour in each runs under one plugin id, and all understand
//! each other. The languages are those that `cargo xtask test --guests` has built into the folder
//! that `CONSORT_TOURS` names.

use std::path::PathBuf;

use consort_e2e::{Device, Group};

/// As many as the plan asks for; which of those that were built does not matter.
const DEVICES: usize = 5;

/// Up to five tours, by language.
fn tours() -> Vec<(String, PathBuf)> {
    let Some(folder) = std::env::var_os("CONSORT_TOURS") else {
        return Vec::new();
    };
    let files = std::fs::read_dir(folder).expect("CONSORT_TOURS names a folder");
    let mut tours: Vec<_> = files
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .map(|path| {
            let language = path.file_stem().expect("it has a name").to_string_lossy();
            (language.into_owned(), path)
        })
        .collect();
    tours.sort();
    tours.truncate(DEVICES);
    tours
}

#[test]
fn devices_of_different_languages_are_one_group() {
    let tours = tours();
    if tours.len() < 2 {
        println!("no two tours were built, so no group can be mixed");
        return;
    }
    let mut group = Group::on_loopback(tours.len(), "");
    for (device, (language, path)) in group.devices.iter().zip(&tours) {
        println!("{} runs {language}", device.name());
        device.install(path, "tour.wasm");
    }
    group.start();
    let all = group.all_but(&[]);
    group.wait_members(&all);
    // Each greets each as soon as it knows it, so whoever understands hears from all others.
    for device in &group.devices {
        for other in group
            .devices
            .iter()
            .filter(|other| other.name() != device.name())
        {
            let greeting = format!("peer-message: hello from {}", other.name());
            wait_line(device, 0, &greeting);
        }
    }
    let leader = group.wait_one_leader(&all);
    hears_leader(&group, &all, leader, 0);

    group.devices[leader].kill();
    let left = group.all_but(&[leader]);
    let next = group.wait_one_leader(&left);
    assert_ne!(next, leader);
    hears_leader(&group, &left, next, 0);
    for place in &left {
        let gone = format!("peer-removed: {}", group.devices[leader].name());
        wait_line(&group.devices[*place], 0, &gone);
    }
}

/// The leader's broadcast is understood by all, and their greetings by the leader.
fn hears_leader(group: &Group, among: &[usize], leader: usize, mark: usize) {
    let name = group.devices[leader].name();
    for place in among {
        let device = &group.devices[*place];
        wait_line(device, mark, &format!("leader-message: hello from {name}"));
        if *place != leader {
            wait_line(device, mark, "send-to-leader: ok");
        }
    }
}

#[track_caller]
fn wait_line(device: &Device, mark: usize, start: &str) {
    let what = format!("{} says {start:?}", device.name());
    device.log().wait(mark, &what, |line| {
        line.is_by_plugin("tour") && line.message.starts_with(start)
    });
}
