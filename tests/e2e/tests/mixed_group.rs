//! One group, a language per device: the tour in each runs under one plugin id, and all understand
//! each other's messages and state. The languages are those that `CONSORT_LANGUAGES` lists and
//! `cargo xtask test --guests` has built into the folder that `CONSORT_TOURS` names; otherwise the Rust
//! tour meets the tours that are kept from earlier states of the contract.

use std::path::{Path, PathBuf};
use std::time::Duration;

use consort_e2e::{Device, Group, wait};

/// As many as the plan asks for; which of those that were built does not matter.
const DEVICES: usize = 5;

/// Keys of the tour that its leader writes: one of its own, a shared one, a counter.
const WRITTEN_BY_LEADER: usize = 3;

/// How long compiling may take: interpreters are large, and each device compiles for itself.
const COMPILING: Duration = Duration::from_secs(300);

/// Two to five tours, by name.
fn tours() -> Vec<(String, PathBuf)> {
    let rust = consort_test_guests::fixture("tour");
    let mut tours = match std::env::var_os("CONSORT_TOURS") {
        Some(folder) => listed(Path::new(&folder)),
        // And room for today's.
        None => kept().into_iter().take(DEVICES - 1).collect(),
    };
    if tours.len() < DEVICES {
        tours.push(("today's Rust".to_owned(), rust));
    }
    assert!(tours.len() >= 2, "{tours:?}");
    tours.truncate(DEVICES);
    if tours.len() < DEVICES {
        println!(
            "a group of {} instead of {DEVICES}: no more were built",
            tours.len()
        );
    }
    tours
}

/// The plugins of the languages that are listed, each of which must be there.
fn listed(folder: &Path) -> Vec<(String, PathBuf)> {
    let listed = std::env::var("CONSORT_LANGUAGES").expect("it lists what was built");
    let mut built = plugins(folder);
    let names = listed.split_whitespace();
    let listed = names.map(|name| {
        let place = built.iter().position(|(language, _)| language == name);
        built.remove(place.unwrap_or_else(|| panic!("no {name} in {}", folder.display())))
    });
    listed.collect()
}

fn kept() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/compat");
    let states = std::fs::read_dir(folder).expect("it is in the repository");
    let states = states.map(|entry| entry.expect("readable").path());
    let mut kept: Vec<_> = states
        .filter(|path| path.is_dir())
        .flat_map(|path| plugins(&path))
        .collect();
    kept.sort();
    kept
}

/// The plugins in a folder.
fn plugins(folder: &Path) -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(folder).expect("a folder with plugins");
    let mut plugins: Vec<_> = files
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .map(|path| {
            let language = path.file_stem().expect("it has a name").to_string_lossy();
            (language.into_owned(), path)
        })
        .collect();
    plugins.sort();
    plugins
}

#[test]
fn devices_of_different_languages_are_one_group() {
    let tours = tours();
    let mut group = Group::on_loopback(tours.len(), "");
    for (device, (language, path)) in group.devices.iter().zip(&tours) {
        println!("{} runs {language}", device.name());
        device.install(path, "tour.wasm");
    }
    group.start();
    for device in &group.devices {
        let what = format!("{} runs the tour", device.name());
        wait::until_within(COMPILING, &what, || {
            let state = &device.plugin("tour")?["state"];
            (state == "running").then_some(())
        });
    }
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
    // Its plugins have been told of it, too, and hold what each has written: a slow one may be
    // seconds behind its host.
    for place in all.iter().filter(|place| **place != leader) {
        let device = &group.devices[*place];
        let name = group.devices[leader].name();
        wait_line(device, 0, &format!("promote-follower: {name}"));
        wait_line(device, 0, "device-state: hello from ");
    }
    wait_keys(&group, tours.len() + WRITTEN_BY_LEADER);

    // All are members now, so all hear what the next leader says at its promotion.
    let marks = group.marks();
    group.devices[leader].kill();
    let left = group.all_but(&[leader]);
    let next = agreed_leader(&group, &left);
    assert_ne!(next, leader);
    let name = group.devices[next].name();
    let tenures = group.devices[next]
        .log()
        .wait(marks[next], "it counts its tenure", |line| {
            line.is_by_plugin("tour") && line.message.starts_with("counters: tenures")
        });
    let tenures = tenures
        .message
        .trim_start_matches("counters: tenures ")
        .to_owned();
    for place in &left {
        let (device, mark) = (&group.devices[*place], marks[*place]);
        wait_line(device, mark, &format!("leader-message: hello from {name}"));
        let gone = format!("peer-removed: {}", group.devices[leader].name());
        wait_line(device, mark, &gone);
        if *place != next {
            wait_line(device, mark, &format!("promote-follower: {name}"));
            wait_line(device, mark, "send-to-leader: ok");
            // What it wrote arrives as told, ...
            for told in [
                format!("leader hello put hello from {name}"),
                format!("shared hello put hello from {name}"),
                format!("counter tenures counted {tenures}"),
            ] {
                wait_line(device, mark, &format!("state-changed: {told}"));
            }
            // ... and what each has written for itself is read, also that of the one that is gone.
            let greetings = wait_line(device, mark, "device-state: hello from ");
            for other in &group.devices {
                assert!(
                    greetings.contains(other.name()),
                    "{greetings}: {}",
                    other.name()
                );
            }
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

/// Waits until every device's replica holds so many keys.
#[track_caller]
fn wait_keys(group: &Group, keys: usize) {
    for device in &group.devices {
        let what = format!("{} holds {keys} keys", device.name());
        wait::until(&what, || {
            let held = &device.plugin("tour")?["replica"]["keys"];
            (held.as_u64() == u64::try_from(keys).ok()).then_some(())
        });
    }
}

/// Waits for a line of the tour, and gives it whole.
#[track_caller]
fn wait_line(device: &Device, mark: usize, start: &str) -> String {
    let what = format!("{} says {start:?}", device.name());
    let line = device.log().wait(mark, &what, |line| {
        line.is_by_plugin("tour") && line.message.starts_with(start)
    });
    line.message
}
