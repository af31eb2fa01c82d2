//! What a good plugin notices of plugins beside it that do their worst: the round trips of its
//! messages, from timer to echo, without them and with them on every device.

use std::time::Duration;

use consort_e2e::hostile::{
    ALL, GRANTS, Hostile as Bad, Nuisance, PROBE, compile, install_probe, round_trips as trips,
};
use consort_e2e::{Group, wait};

use crate::Hostile;
use crate::samples::Samples;

/// What the group gets to come to rest.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn round_trips(setting: &Hostile) -> Option<()> {
    let mut group = Group::on_loopback(setting.nodes.into(), GRANTS);
    group.install_heartbeat();
    install_probe(&group);
    group.start();
    compile(&group);
    let all = group.all_but(&[]);
    group.wait_settled(&all);
    std::thread::sleep(SETTLE);
    let lasting = Duration::from_secs(setting.seconds.into());
    let title = |what: &str| format!("round trip of a message, {} devices, {what}", setting.nodes);
    let mut quiet = collect(&group, || std::thread::sleep(lasting));
    let before = quiet.percentile(99);
    quiet.print(&title("alone"));

    let marks = group.marks();
    let bad = chosen(&setting.only)?;
    let mut nuisance = Nuisance::begin(&group, &bad);
    wait_running(&group, &bad, &marks);
    let mut beside = collect(&group, || nuisance.last(&group, lasting));
    let after = beside.percentile(99);
    let what = match &bad[..] {
        [one] => format!("beside {} on each", one.id()),
        many => format!("beside {} bad plugins on each", many.len()),
    };
    beside.print(&title(&what));
    let changes = group.role_change(&all, &marks);
    println!(
        "p99 rises by {:.1} ms; changes of a good plugin's role: {}",
        (after.as_secs_f64() - before.as_secs_f64()) * 1e3,
        changes.map_or("none".to_owned(), |changes| format!("{changes:?}"))
    );
    println!("not named: {:?}", nuisance.not_named(&group, &marks));
    let probe = group.devices[0].plugin(PROBE)?;
    println!("the probe: {}", probe["state"]);
    Some(())
}

/// Those that were asked for, or all. None if one is unknown.
fn chosen(only: &[String]) -> Option<Vec<Bad>> {
    if only.is_empty() {
        return Some(ALL.to_vec());
    }
    let chosen = only.iter().map(|how| {
        let found = ALL.into_iter().find(|bad| bad.how == how);
        if found.is_none() {
            let known: Vec<&str> = ALL.iter().map(|bad| bad.how).collect();
            eprintln!(
                "nothing misbehaves as {how:?}; there are {}",
                known.join(", ")
            );
        }
        found
    });
    chosen.collect()
}

/// Waits until those that misbehave in callbacks have run; of the others most never do.
fn wait_running(group: &Group, bad: &[Bad], marks: &[usize]) {
    wait::until("all of them run", || {
        let mut devices = group.devices.iter().zip(marks);
        let run = devices.all(|(device, mark)| {
            bad.iter().filter(|bad| !bad.is_file()).all(|bad| {
                let said = |line: &consort_e2e::log::Line| {
                    line.message == "plugin running" && line.field("plugin") == bad.id()
                };
                device.log().find(*mark, said).is_some()
            })
        });
        run.then_some(())
    });
}

/// Round trips of all devices from here on until something is over.
fn collect(group: &Group, until: impl FnOnce()) -> Samples {
    let marks = group.marks();
    until();
    let mut samples = Samples::default();
    for (device, mark) in group.devices.iter().zip(marks) {
        trips(device.log(), mark)
            .into_iter()
            .for_each(|trip| samples.add(trip));
    }
    samples
}
