//! Replicated state over real daemons, by the plugins that use it.

use std::time::Duration;

use consort_e2e::log::Line;
use consort_e2e::{Device, Group, wait};

/// A line of a plugin that begins with `start`, from a mark on.
fn says(device: &Device, mark: usize, plugin: &str, start: &str) -> Option<Line> {
    let log = device.log();
    log.find(mark, |line| {
        line.is_by_plugin(plugin) && line.message.starts_with(start)
    })
}

#[track_caller]
fn wait_says(device: &Device, mark: usize, plugin: &str, start: &str) -> Line {
    let what = format!("{}: {plugin} says {start:?}", device.name());
    wait::until(&what, || says(device, mark, plugin, start))
}

/// The number after `key=` in a line.
fn number(line: &Line, key: &str) -> u64 {
    let mut words = line.message.split(' ');
    let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("no {key} in {:?}", line.message));
    value.parse().expect("a number")
}

/// Lines of a plugin that begin with `start`.
fn all_of(device: &Device, plugin: &str, start: &str) -> Vec<Line> {
    let mut lines = device.log().since(0);
    lines.retain(|line| line.is_by_plugin(plugin) && line.message.starts_with(start));
    lines
}

#[test]
fn a_counter_sums_what_all_devices_add() {
    const ADDITIONS: u64 = 20;
    let settings =
        format!("[plugins.counter.config]\nevery_ms = \"100\"\nadditions = \"{ADDITIONS}\"\n");
    let mut group = Group::on_loopback(3, &settings);
    group.install_plugin("counter");
    group.start();
    for device in &group.devices {
        let what = format!("{}: all additions", device.name());
        wait::until(&what, || {
            let lines = device.log().since(0).into_iter();
            let mut counts = lines
                .filter(|line| line.is_by_plugin("counter") && line.message.contains("count="));
            counts.find(|line| number(line, "count") == 3 * ADDITIONS)
        });
        // Each addition is read back at once, on top of what was there.
        let own = all_of(device, "counter", "added 1 ");
        let own: Vec<u64> = own.iter().map(|line| number(line, "count")).collect();
        assert_eq!(own.len() as u64, ADDITIONS, "{own:?}");
        assert!(own.is_sorted_by(|a, b| a < b), "{own:?}");
    }
    std::thread::sleep(Duration::from_secs(2));
    for device in &group.devices {
        let last = device
            .log()
            .since(0)
            .into_iter()
            .rfind(|line| line.is_by_plugin("counter") && line.message.contains("count="));
        assert_eq!(number(&last.expect("it counted"), "count"), 3 * ADDITIONS);
    }
}

#[test]
fn presence_lists_everyone() {
    let mut group = Group::on_loopback(3, "");
    group.install_plugin("presence");
    group.start();
    for device in &group.devices {
        wait_says(device, 0, "presence", "here=3 known=3");
        for other in &group.devices {
            let line = format!("here {} {}: ready", other.id(), other.name());
            assert!(says(device, 0, "presence", &line).is_some(), "{line}");
        }
    }
    let gone = group.devices[2].id().to_owned();
    let marks = group.marks();
    group.devices[2].kill();
    for (device, mark) in group.devices.iter().zip(&marks).take(2) {
        wait_says(device, *mark, "presence", &format!("away {gone}"));
        wait_says(device, *mark, "presence", "here=2 known=3");
    }
    // It comes back, and says the same as before.
    group.devices[2].start();
    for (device, mark) in group.devices.iter().zip(&marks).take(2) {
        wait_says(device, *mark, "presence", &format!("here {gone}"));
    }
    wait_says(&group.devices[2], 0, "presence", "here=3 known=3");
}

#[test]
fn who_joins_a_playlist_late_starts_at_the_right_place_and_the_plan_outlives_its_leader() {
    let items = "[plugins.playlist.config]\nitems = \"long:3600,other:3600\"\n";
    let mut group = Group::on_loopback(4, items);
    group.install_plugin("playlist");
    group.install_heartbeat();
    for device in &mut group.devices[..3] {
        device.start();
    }
    let leader = group.wait_one_leader(&[0, 1, 2]);
    // Each may have begun a plan of its own before they met; then one holds.
    let start = wait::until("one plan", || {
        let playing = group.devices[..3].iter().map(|device| {
            let last = all_of(device, "playlist", "playing long ").pop()?;
            Some(number(&last, "start"))
        });
        let mut playing = playing.collect::<Option<Vec<u64>>>()?;
        playing.dedup();
        (playing.len() == 1).then(|| playing[0])
    });
    std::thread::sleep(Duration::from_secs(3));
    group.devices[3].start();
    let place = joins(&group.devices[3], start);
    assert!(place >= 3_000, "{place} ms");

    // The leader dies, and comes back with nothing: the others have kept its plan.
    let marks = group.marks();
    group.devices[leader].kill();
    let rest = group.all_but(&[leader]);
    group.wait_one_leader(&rest);
    group.devices[leader].start();
    let later = joins(&group.devices[leader], start);
    assert!(later > place, "{later} ms");
    for index in rest {
        let log = group.devices[index].log();
        let again = log.find(marks[index], |line| {
            line.is_by_plugin("playlist") && !line.message.contains("refused")
        });
        assert!(again.is_none(), "nothing changes on the others: {again:?}");
    }
}

/// Waits until a device plays the item that began at `start`; from which place on, in ms. That is the
/// time that has passed since, by this machine's clock, which the group's began with.
#[track_caller]
fn joins(device: &Device, start: u64) -> u64 {
    let playing = format!("playing long item=0 start={start} ");
    let line = wait_says(device, 0, "playlist", &playing);
    let place = number(&line, "position_ms");
    // Both are times of day: microseconds since midnight.
    const DAY: i64 = 86_400_000_000;
    let written = line.written_us().expect("lines have their time");
    let start = i64::try_from(start).expect("it lies in this age") % DAY;
    let passed = (written - start).rem_euclid(DAY).unsigned_abs() / 1000;
    assert!(place.abs_diff(passed) <= 1_000, "{place} of {passed} ms");
    place
}

#[test]
fn lights_change_together_and_go_on_without_their_leader() {
    let settings =
        "[plugins.lights.config]\nbeat_ms = \"1000\"\ncolours = \"a,b,c\"\nmeasure = \"true\"\n";
    let mut group = Group::on_loopback(3, settings);
    group.install_plugin("lights");
    group.install_heartbeat();
    group.start();
    let leader = group.wait_one_leader(&[0, 1, 2]);
    group.wait_settled(&[0, 1, 2]);
    let rest = group.all_but(&[leader]);
    agree_on_a_beat(&group, &[0, 1, 2]);
    let marks = group.marks();
    group.devices[leader].kill();
    group.wait_one_leader(&rest);
    std::thread::sleep(Duration::from_secs(4));
    agree_on_a_beat(&group, &rest);
    // The beats went on; a busy machine may have slept over one.
    for &index in &rest {
        let mut lines = group.devices[index].log().since(marks[index]);
        lines.retain(|line| line.is_by_plugin("lights") && line.message.starts_with("light "));
        let beats: Vec<u64> = lines.iter().map(|line| number(line, "beat")).collect();
        let whole = beats
            .windows(2)
            .all(|pair| (1..=2).contains(&(pair[1] - pair[0])));
        assert!(whole && beats.len() >= 3, "{beats:?}");
        let late = lines
            .iter()
            .map(|line| number(line, "at") - number(line, "due"));
        println!(
            "latest change {} us after its beat",
            late.max().unwrap_or(0)
        );
    }
}

/// Waits until all show the same beat, in the same colour, by the same programme.
#[track_caller]
fn agree_on_a_beat(group: &Group, among: &[usize]) {
    wait::until("one beat", || {
        let shown = among.iter().map(|index| {
            let last = all_of(&group.devices[*index], "lights", "light ").pop()?;
            let text = last.message.split(" at=").next()?.to_owned();
            Some(text)
        });
        let mut shown = shown.collect::<Option<Vec<String>>>()?;
        shown.dedup();
        (shown.len() == 1).then_some(())
    });
}
