//! A stranger on the same network: hears everything, repeats it, and shouts as loudly as it can.

use std::collections::BTreeSet;
use std::time::Duration;

use consort_e2e::network::Addresses;
use consort_e2e::stranger::Stranger;
use consort_e2e::{Device, Group, Switch, roles, wait};

const PORT: u16 = 4747;
/// Datagrams a second, and for how long.
const RATE: u32 = 100_000;
const FLOOD: Duration = Duration::from_secs(6);

#[test]
fn what_was_heard_on_the_network_is_worth_nothing() {
    let Some((switch, mut group)) = group_of(3) else {
        return;
    };
    let stranger = Stranger::on(&switch, group.folder());
    let capture = stranger.listen(Duration::from_secs(12));
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let heard = capture.finish();
    assert!(heard > 50, "only {heard} datagrams were heard");
    let marks = group.marks();
    let before: Vec<u64> = group.devices.iter().map(turned_away).collect();
    for place in &all {
        println!("replay: {}", stranger.replay(&target(*place)));
    }
    for (place, before) in before.iter().enumerate() {
        let device = &group.devices[place];
        let what = format!("{} turns the copies away", device.name());
        wait::until(&what, || {
            (turned_away(device) > before + heard as u64 / 4).then_some(())
        });
    }
    assert_eq!(group.wait_settled(&all), leader, "it still leads");
    assert_undisturbed(&group, &marks);
}

#[test]
fn floods_change_no_leader() {
    let Some((switch, mut group)) = group_of(4) else {
        return;
    };
    let stranger = Stranger::on(&switch, group.folder());
    let capture = stranger.listen(Duration::from_secs(8));
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    capture.finish();
    let marks = group.marks();
    let follower = (leader + 1) % all.len();
    for victim in [leader, follower] {
        for kind in ["garbage", "inits", "copies"] {
            let before = turned_away(&group.devices[victim]);
            let said = stranger.flood(&target(victim), kind, RATE, FLOOD);
            println!("{kind} at device {victim} for {FLOOD:?}: {said}");
            let sent = said.split_whitespace().nth(1).and_then(|n| n.parse().ok());
            let meant = u64::from(RATE) * FLOOD.as_secs();
            let sent: u64 = sent.unwrap_or(0);
            let rate = sent / FLOOD.as_secs();
            println!("SENT {rate} a second of the {RATE} that are meant: {kind}");
            // A busy machine sends less than was meant; much less is no flood.
            assert!(
                sent * 10 >= meant * 3,
                "only {rate} datagrams a second were sent, of the {RATE} that make the flood: this \
                 machine is too slow or too busy to try it"
            );
            let after = turned_away(&group.devices[victim]);
            assert!(after > before, "nothing of it came to device {victim}");
        }
    }
    assert_eq!(group.wait_settled(&all), leader, "it still leads");
    assert_undisturbed(&group, &marks);
}

/// Devices behind a switch, on IPv4, with the plugin `heartbeat`, not started yet.
fn group_of(count: usize) -> Option<(Switch, Group)> {
    let switch = Switch::new(count, Addresses::Ipv4)?;
    let group = Group::behind(&switch);
    for device in &group.devices {
        device.configure("[network]\nlisten = [\"0.0.0.0\"]\n");
    }
    group.install_heartbeat();
    Some((switch, group))
}

fn target(place: usize) -> String {
    format!("{}:{PORT}", Switch::ipv4(place))
}

/// Nobody's role changed since the marks, and no beat was heard twice.
#[track_caller]
fn assert_undisturbed(group: &Group, marks: &[usize]) {
    for (device, mark) in group.devices.iter().zip(marks) {
        let changes = roles(device.log(), *mark);
        assert!(changes.is_empty(), "{}: {changes:?}", device.name());
        let lines = device.log().since(0);
        let heard = lines
            .iter()
            .filter(|line| line.is_by_plugin("heartbeat") && line.message.starts_with("heard "));
        let beats: Vec<&str> = heard
            .map(|line| line.message.split(" at=").next().unwrap_or(""))
            .collect();
        let different: BTreeSet<&&str> = beats.iter().collect();
        assert_eq!(beats.len(), different.len(), "a beat was heard twice");
    }
}

/// Datagrams that a device refused or knew for copies.
fn turned_away(device: &Device) -> u64 {
    let status = device.status().expect("the status is there");
    let counter = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
    counter("datagrams_refused") + counter("datagrams_replayed")
}
