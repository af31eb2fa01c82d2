//! What a good plugin notices of plugins beside it that do their worst: the round trips of its
//! messages, from timer to echo, without them and with them on every device.

use std::time::Duration;

use consort_e2e::hostile::{
    ALL, Hostile as Bad, PROBE, compile, install_probe, round_trips as trips,
};
use consort_e2e::{Group, wait};

use crate::Hostile;
use crate::samples::Samples;

/// What the group gets to come to rest.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn round_trips(setting: &Hostile) -> Option<()> {
    let mut group = Group::on_loopback(setting.nodes.into(), "");
    group.install_heartbeat();
    install_probe(&group);
    group.start();
    compile(&group);
    let all = group.all_but(&[]);
    group.wait_settled(&all);
    std::thread::sleep(SETTLE);
    let lasting = Duration::from_secs(setting.seconds.into());
    let title = |what: &str| format!("round trip of a message, {} devices, {what}", setting.nodes);
    let mut quiet = collect(&group, lasting);
    let before = quiet.percentile(99);
    quiet.print(&title("alone"));

    let marks = group.marks();
    let chosen =
        |bad: &&Bad| setting.only.is_empty() || setting.only.iter().any(|how| how == bad.how);
    let bad: Vec<&Bad> = ALL.iter().filter(chosen).collect();
    for device in &group.devices {
        bad.iter().for_each(|bad| bad.install(device));
    }
    wait::until("all of them run", || {
        let mut devices = group.devices.iter().zip(&marks);
        let run = devices.all(|(device, mark)| {
            bad.iter().all(|bad| {
                let said = |line: &consort_e2e::log::Line| {
                    line.message == "plugin running" && line.field("plugin") == bad.id()
                };
                device.log().find(*mark, said).is_some()
            })
        });
        run.then_some(())
    });
    let mut beside = collect(&group, lasting);
    let after = beside.percentile(99);
    let what = format!("beside {} bad plugins on each", bad.len());
    beside.print(&title(&what));
    let changes = group.role_change(&all, &marks);
    println!(
        "p99 rises by {:.1} ms; changes of a good plugin's role: {}",
        (after.as_secs_f64() - before.as_secs_f64()) * 1e3,
        changes.map_or("none".to_owned(), |changes| format!("{changes:?}"))
    );
    let probe = group.devices[0].plugin(PROBE)?;
    println!("the probe: {}", probe["state"]);
    Some(())
}

/// Round trips of all devices from here on for so long.
fn collect(group: &Group, lasting: Duration) -> Samples {
    let marks = group.marks();
    std::thread::sleep(lasting);
    let mut samples = Samples::default();
    for (device, mark) in group.devices.iter().zip(marks) {
        trips(device.log(), mark)
            .into_iter()
            .for_each(|trip| samples.add(trip));
    }
    samples
}
