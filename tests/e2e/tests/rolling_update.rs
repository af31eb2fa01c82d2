//! A plugin is brought up to date on one device of a group after another.

use std::time::Duration;

use consort_e2e::log::Line;
use consort_e2e::{Device, Group, programs, wait};

const ID: &str = "stateful";
const COUNT: usize = 5;

/// Logs the three kinds of state beside counters.
const READ: &str = "leader entries;device collect own;shared entries";

#[test]
fn a_rolling_update_keeps_one_leader_and_all_state() {
    let mut group = Group::on_loopback(COUNT, "");
    for (place, device) in group.devices.iter().enumerate() {
        install_first(device, place);
    }
    group.start();
    let leader = wait::until("one leader", || one_leader(&group));
    for device in &group.devices {
        device.wait_plugin(ID, 1, "running");
    }
    let held = wait_whole_state(&group, leader);
    let marks = group.marks();

    // The leader too, as the third of five. The last one talks all the while.
    let mut order: Vec<usize> = (0..COUNT).filter(|place| *place != leader).collect();
    order.insert(2, leader);
    let talker = order[COUNT - 1];
    for place in order {
        if place == talker {
            all_was_heard(&group, talker, &marks);
        }
        let device = &group.devices[place];
        let mark = device.log().mark();
        install(device, "1.1.0", &format!("add n 10;{READ}"));
        device.wait_plugin(ID, 2, "running");
        // What the new code finds in its setup, of all that the first version wrote.
        for all in &held {
            let said = |line: &Line| line.is_by_plugin(ID) && words(&line.message) == words(all);
            device.log().wait(mark, all, said);
        }
        assert_eq!(
            one_leader(&group),
            Some(leader),
            "{} was updated",
            device.name()
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    for (device, mark) in group.devices.iter().zip(&marks) {
        let changes = roles(device, *mark);
        assert!(changes.is_empty(), "{}: {changes:?}", device.name());
    }
    // Each setup reads what the group has by then: 5 of the first version, 50 of the second.
    wait_setup(&group.devices[follower(leader)], "1.1.1", 55);
    assert_eq!(one_leader(&group), Some(leader));
    an_incompatible_version_stays_apart(&group, follower(leader));
}

/// The first version, which writes each kind of state for itself as soon as it may, and talks.
fn install_first(device: &Device, place: usize) {
    let writes =
        format!("leader put tune song-{place};device put own mine-{place};shared put s{place} x");
    let manifest = format!(
        "version = \"1.0.0\"\n[config]\nsetup = \"add n 1;every 1 500000;every 2 50000\"\n\
         \"timer 1\" = \"{writes}\"\n\"timer 2\" = \"tell\"\n"
    );
    device.install_with(&programs::guest("stateful"), ID, &manifest);
}

/// Waits until each device has what all wrote, and gives the lines by which it is read.
fn wait_whole_state(group: &Group, leader: usize) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    for (writer, device) in group.devices.iter().enumerate() {
        own.push(format!("{}=mine-{writer}", device.id()));
        let mut changes = vec![
            format!("{} own=mine-{writer}", device.id()),
            format!("shared s{writer}=x"),
        ];
        if writer == leader {
            changes.push(format!("leader tune=song-{leader}"));
        }
        for (_, reader) in group
            .devices
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != writer)
        {
            for change in &changes {
                let told =
                    |line: &Line| line.is_by_plugin(ID) && line.message.contains(change.as_str());
                reader.log().wait(0, change, told);
            }
        }
    }
    let shared: Vec<String> = (0..COUNT).map(|writer| format!("s{writer}=x")).collect();
    vec![
        format!("leader tune=song-{leader}"),
        format!("device {}", own.join(" ")),
        format!("shared {}", shared.join(" ")),
    ]
}

/// The words of a line, in the order of the alphabet: devices have an order of their own.
fn words(line: &str) -> Vec<&str> {
    let mut words: Vec<&str> = line.split(' ').collect();
    words.sort_unstable();
    words
}

/// Each message of a device since the marks was heard once by every other one, also by those whose
/// code was exchanged meanwhile.
fn all_was_heard(group: &Group, talker: usize, marks: &[usize]) {
    let start = format!("heard {} ", group.devices[talker].id());
    let heard = |device: &Device, mark: usize| -> Vec<u64> {
        let lines = device.log().since(mark);
        let own = lines.iter().filter(|line| line.is_by_plugin(ID));
        let numbers = own.filter_map(|line| line.message.strip_prefix(&start)?.parse().ok());
        numbers.collect()
    };
    let by_itself = heard(&group.devices[talker], marks[talker]);
    // Those at the ends may have been under way at the marks, or still be.
    let (first, last) = (by_itself[5], by_itself[by_itself.len() - 1]);
    assert!(
        last - first > 40,
        "it talked all the while: {first} to {last}"
    );
    for (place, device) in group.devices.iter().enumerate() {
        let what = format!("{} has heard {first} to {last}", device.name());
        wait::until(&what, || {
            heard(device, marks[place]).contains(&last).then_some(())
        });
        let mut numbers = heard(device, marks[place]);
        numbers.retain(|number| (first..=last).contains(number));
        numbers.sort_unstable();
        assert!(
            numbers.iter().copied().eq(first..=last),
            "{what}: {numbers:?}"
        );
    }
}

/// An incompatible version is a group of its own, with state of its own: it neither leads nor
/// follows the others, and nobody else notices.
fn an_incompatible_version_stays_apart(group: &Group, place: usize) {
    let before = group.marks();
    let apart = &group.devices[place];
    let unnoticed = || {
        let others = group.devices.iter().zip(&before).enumerate();
        for (_, (device, mark)) in others.filter(|(other, _)| *other != place) {
            let changes = roles(device, *mark);
            assert!(changes.is_empty(), "{}: {changes:?}", device.name());
        }
    };
    install(apart, "2.0.0", "add n 1000");
    let leads = |line: &Line| line.message == "this device leads" && line.field("group") == ID;
    apart
        .log()
        .wait(before[place], "it leads its own group", leads);
    unnoticed();
    let first = said_by_setup(apart, before[place]);
    assert!(first.starts_with("setup n=0 "), "{first}");
    wait_setup(apart, "2.0.1", 1000);
    // Back at a compatible version it is a member again and has what the group has.
    let back = apart.log().mark();
    install(apart, "1.2.0", "sum n");
    apart.log().wait(back, "it follows the leader", |line| {
        line.message == "another device leads" && line.field("group") == ID
    });
    unnoticed();
    let first = said_by_setup(apart, back);
    assert!(first.starts_with("setup n=0 "), "{first}");
    wait_setup(apart, "1.2.1", 55);
    unnoticed();
}

/// The first that a setup logs from a mark on.
fn said_by_setup(device: &Device, mark: usize) -> String {
    let setup = |line: &Line| line.is_by_plugin(ID) && line.message.starts_with("setup ");
    device.log().wait(mark, "a setup", setup).message
}

/// The place of a device that does not lead.
fn follower(leader: usize) -> usize {
    usize::from(leader == 0)
}

fn install(device: &Device, version: &str, setup: &str) {
    let manifest = format!("version = \"{version}\"\n[config]\nsetup = \"{setup}\"\n");
    device.install_with(&programs::guest("stateful"), ID, &manifest);
}

/// Reloads the plugin until its setup reads this sum.
fn wait_setup(device: &Device, version: &str, sum: u64) {
    let start = format!("setup n={sum} ");
    let mut reads = 0;
    wait::until(&format!("a setup that reads {sum}"), || {
        let mark = device.log().mark();
        reads += 1;
        // Another content of the manifest, so that it is taken anew.
        install(
            device,
            version,
            "sum n;".repeat(reads).trim_end_matches(';'),
        );
        said_by_setup(device, mark)
            .starts_with(&start)
            .then_some(())
    });
}

/// What a device's daemon says of roles in the plugin's group, and the plugin's term.
fn roles(device: &Device, mark: usize) -> Vec<String> {
    let lines = device.log().since(mark);
    let roles = lines.iter().filter(|line| {
        let what = line.message.as_str();
        let role = [
            "this device leads",
            "another device leads",
            "this device leads no longer",
            "the leader is lost",
        ];
        role.contains(&what) && line.field("group") == ID
    });
    roles.map(consort_e2e::log::Line::text).collect()
}

/// The place of the device that leads in the view of all.
fn one_leader(group: &Group) -> Option<usize> {
    let mut leaders = group.devices.iter().map(|device| {
        let lines = device.log().since(0);
        let mut last = lines
            .iter()
            .rev()
            .filter(|line| line.fields.get("group").is_some_and(|id| id == ID));
        let role = last.find(|line| line.message.contains("lead"))?;
        match role.message.as_str() {
            "this device leads" => Some(device.id().to_owned()),
            "another device leads" => Some(role.field("leader")),
            _ => None,
        }
    });
    let leader = leaders.next()??;
    let agreed = leaders.all(|other| other.as_deref() == Some(&leader));
    let place = group
        .devices
        .iter()
        .position(|device| device.id() == leader)?;
    agreed.then_some(place)
}
