//! What a bad network and a bad evening do to a group: loss, links that work one way, processes
//! that stand still, and the power of everyone at once.

use std::process::Command;
use std::time::{Duration, Instant};

use consort_e2e::firewall::Firewall;
use consort_e2e::network::Addresses;
use consort_e2e::{Device, Group, Role, Switch, roles, wait};

/// IPv4 alone, so that one rule of the firewall concerns all that a device sends.
const IPV4: &str = "[network]\nlisten = [\"0.0.0.0\"]\n";
/// It takes a packet to learn of another leader, 5 ms on a quiet machine; a busy one gets some more.
const STALE_MAX: Duration = Duration::from_secs(1);
/// How long a process stands still.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn every_fifth_datagram_is_lost() {
    let Some((switch, mut group)) = group_of(5) else {
        return;
    };
    let Some(firewalls) = firewalls(&switch) else {
        return;
    };
    for firewall in &firewalls {
        firewall.lose(20);
    }
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let marks = group.marks();
    wait::never("a role changed", Duration::from_secs(10), || {
        group.role_change(&all, &marks)
    });
    let killed = group.devices[leader].kill();
    let rest = group.all_but(&[leader]);
    let successor = group.wait_one_leader(&rest);
    println!(
        "20 % loss: {} ms from the kill to one leader",
        killed.elapsed().as_millis()
    );
    assert!(rest.contains(&successor));
    group.wait_members(&rest);
}

#[test]
fn a_follower_that_does_not_hear_its_leader_goes_on_following() {
    let Some((switch, mut group)) = group_of(5) else {
        return;
    };
    let Some(firewalls) = firewalls(&switch) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let deaf = (leader + 1) % all.len();
    let marks = group.marks();
    firewalls[deaf].lose_from(&Switch::ipv4(leader));
    wait::never("a role changed", Duration::from_secs(8), || {
        group.role_change(&all, &marks)
    });
    let mark = group.devices[deaf].log().mark();
    let beat = "a beat reaches it through another member";
    group.devices[deaf].log().wait(mark, beat, |line| {
        line.is_by_plugin("heartbeat") && line.message.starts_with("heard ")
    });
    firewalls[deaf].open();
    assert_eq!(group.wait_settled(&all), leader);
    assert!(group.role_change(&all, &marks).is_none());
}

#[test]
fn a_leader_that_does_not_hear_one_follower_goes_on_leading() {
    let Some((switch, mut group)) = group_of(5) else {
        return;
    };
    let Some(firewalls) = firewalls(&switch) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let unheard = (leader + 1) % all.len();
    let marks = group.marks();
    firewalls[leader].lose_from(&Switch::ipv4(unheard));
    let rest = group.all_but(&[unheard]);
    wait::never("a role changed", Duration::from_secs(8), || {
        group.role_change(&rest, &marks)
    });
    firewalls[leader].open();
    assert_eq!(group.wait_settled(&all), leader);
}

#[test]
fn a_device_that_hears_nobody_disturbs_nobody() {
    let Some((switch, mut group)) = group_of(4) else {
        return;
    };
    let Some(firewalls) = firewalls(&switch) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let deaf = (leader + 1) % all.len();
    let rest = group.all_but(&[deaf]);
    let marks = group.marks();
    let others: Vec<String> = rest.iter().map(|place| Switch::ipv4(*place)).collect();
    firewalls[deaf].lose_from_all(&others);
    group.wait_members(&rest);
    wait::never("a role changed", Duration::from_secs(8), || {
        group.role_change(&rest, &marks)
    });
    firewalls[deaf].open();
    assert_eq!(group.wait_settled(&all), leader);
    assert!(group.role_change(&rest, &marks).is_none());
}

#[test]
fn a_device_that_nobody_hears_disturbs_nobody() {
    let Some((switch, mut group)) = group_of(4) else {
        return;
    };
    let Some(firewalls) = firewalls(&switch) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let mute = (leader + 1) % all.len();
    let rest = group.all_but(&[mute]);
    let marks = group.marks();
    for place in &rest {
        firewalls[*place].lose_from(&Switch::ipv4(mute));
    }
    group.wait_members(&rest);
    wait::never("a role changed", Duration::from_secs(8), || {
        group.role_change(&rest, &marks)
    });
    for place in &rest {
        firewalls[*place].open();
    }
    assert_eq!(group.wait_settled(&all), leader);
    assert!(group.role_change(&rest, &marks).is_none());
}

#[test]
fn a_leader_that_stood_still_for_a_minute_comes_back_as_a_follower() {
    let Some((_switch, mut group)) = group_of(4) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    signal(&group.devices[leader], "STOP");
    let rest = group.all_but(&[leader]);
    let stopped = Instant::now();
    let successor = group.wait_one_leader(&rest);
    group.wait_members(&rest);
    std::thread::sleep(MINUTE.saturating_sub(stopped.elapsed()));
    let marks = group.marks();
    let resumed = Instant::now();
    signal(&group.devices[leader], "CONT");
    assert_eq!(
        group.wait_settled(&all),
        successor,
        "who took over stays the leader"
    );
    let back = roles(group.devices[leader].log(), marks[leader]);
    let expected = [
        Role::Demoted,
        Role::Following(group.devices[successor].id().to_owned()),
    ];
    assert_eq!(back, expected, "it is demoted before anything else");
    let log = group.devices[leader].log();
    let demoted = log.wait(marks[leader], "its demotion", |line| {
        Role::of(line) == Some(Role::Demoted)
    });
    let took = demoted.at.saturating_duration_since(resumed);
    println!(
        "stopped for a minute: demoted {} ms after it went on",
        took.as_millis()
    );
    assert!(took < STALE_MAX, "it led on for {took:?}");
    assert!(
        group.role_change(&rest, &marks).is_none(),
        "the others noticed nothing"
    );
}

#[test]
fn a_follower_that_stood_still_changes_nothing() {
    let Some((_switch, mut group)) = group_of(4) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let leader = group.wait_settled(&all);
    let frozen = (leader + 1) % all.len();
    let rest = group.all_but(&[frozen]);
    let marks = group.marks();
    signal(&group.devices[frozen], "STOP");
    group.wait_members(&rest);
    signal(&group.devices[frozen], "CONT");
    assert_eq!(group.wait_settled(&all), leader);
    assert!(
        group.role_change(&rest, &marks).is_none(),
        "the others noticed nothing"
    );
}

#[test]
fn the_power_of_everyone_goes_and_comes_back() {
    let Some((_switch, mut group)) = group_of(5) else {
        return;
    };
    group.start();
    let all = group.all_but(&[]);
    let first = group.wait_settled(&all);
    let before = term(&group.devices[first]);
    for device in &mut group.devices {
        device.kill();
    }
    let back = Instant::now();
    group.start();
    let second = group.wait_settled(&all);
    println!(
        "all killed: {} ms until one settled group again",
        back.elapsed().as_millis()
    );
    let after = term(&group.devices[second]);
    assert!(after > before, "term {after} after {before}");
}

/// Devices behind a switch, on IPv4, with the plugin `heartbeat`, not started yet.
fn group_of(count: usize) -> Option<(Switch, Group)> {
    let switch = Switch::new(count, Addresses::Ipv4)?;
    let group = Group::behind(&switch);
    for device in &group.devices {
        device.configure(IPV4);
    }
    group.install_heartbeat();
    Some((switch, group))
}

fn firewalls(switch: &Switch) -> Option<Vec<Firewall>> {
    let namespaces = switch.namespaces().iter();
    namespaces.map(|name| Firewall::of(name)).collect()
}

/// The term of a device's last promotion, by its plugin.
fn term(device: &Device) -> u64 {
    let lines = device.log().since(0);
    let promoted = lines
        .iter()
        .rev()
        .find(|line| Role::of(line) == Some(Role::Promoted));
    let text = promoted.expect("it was promoted").message.clone();
    let term = text.split("term=").nth(1).expect("the term is named");
    let digits: String = term.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a term is a number")
}

fn signal(device: &Device, name: &str) {
    let pid = device.pid().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -s {name}");
}
