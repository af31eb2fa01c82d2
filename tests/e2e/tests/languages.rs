//! One group, a language per device: the tour in each runs under one plugin id, and all understand
//! each other. The languages are those that `cargo xtask test --guests` has built into the folder
//! that `CONSORT_TOURS` names.

use std::path::PathBuf;

use consort_e2e::{Device, Group, wait};

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
    let leader = agreed_leader(&group, &all);

    // All are members now, so all hear what the next leader says at its promotion.
    let marks = group.marks();
    group.devices[leader].kill();
    let left = group.all_but(&[leader]);
    let next = agreed_leader(&group, &left);
    assert_ne!(next, leader);
    let name = group.devices[next].name();
    for place in &left {
        let (device, mark) = (&group.devices[*place], marks[*place]);
        wait_line(device, mark, &format!("leader-message: hello from {name}"));
        let gone = format!("peer-removed: {}", group.devices[leader].name());
        wait_line(device, mark, &gone);
        if *place != next {
            wait_line(device, mark, &format!("promote-follower: {name}"));
            wait_line(device, mark, "send-to-leader: ok");
        }
    }
}

/// Waits until these devices hold one of them for the tour's leader, and gives its place.
#[track_caller]
fn agreed_leader(group: &Group, among: &[usize]) -> usize {
    wait::until("one leader of the tour", || {
        let leaders = among.iter().map(|place| {
            let leader = &group.devices[*place].plugin("tour")?["leader"]["id"];
            leader.as_str().map(str::to_owned)
        });
        let leaders: Vec<String> = leaders.collect::<Option<_>>()?;
        let agreed = leaders.iter().all(|leader| *leader == leaders[0]);
        let place = among
            .iter()
            .find(|place| group.devices[**place].id() == leaders[0]);
        place.copied().filter(|_| agreed)
    })
}

#[track_caller]
fn wait_line(device: &Device, mark: usize, start: &str) {
    let what = format!("{} says {start:?}", device.name());
    device.log().wait(mark, &what, |line| {
        line.is_by_plugin("tour") && line.message.starts_with(start)
    });
}
