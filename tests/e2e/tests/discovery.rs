//! How daemons find each other while interfaces come, go and change, in network namespaces. Where
//! no plugin runs, a group has come to rest when all are members and have the group's time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use consort_e2e::network::Addresses;
use consort_e2e::{Device, Group, Switch, wait};
use serde_json::Value;

/// Long enough for beacons to be sent and heard several times.
const QUIET: Duration = Duration::from_secs(8);
/// Addresses are written down every ten seconds at most.
const STORED_AFTER: Duration = Duration::from_secs(12);
/// What an orderly stop may take, and some.
const STOP_MAX: Duration = Duration::from_secs(4);

const SEEDS_ONLY: &str = "[network]\nmulticast = false\n";

fn seeds_only(seeds: &str) -> String {
    format!("{SEEDS_ONLY}seeds = [{seeds}]\n")
}

/// Lines of a device's log with this message since `mark`.
fn count(device: &Device, mark: usize, message: &str) -> usize {
    let lines = device.log().since(mark);
    lines.iter().filter(|line| line.message == message).count()
}

/// Waits until each of these devices has all the others as members, and they have one clock.
#[track_caller]
fn wait_settled(group: &Group, among: &[usize]) {
    group.wait_members(among);
    for index in among {
        let device = &group.devices[*index];
        let what = format!("{} has the group's time", device.name());
        wait::until(&what, || device.has_group_time().then_some(()));
    }
}

fn find<'a>(list: &'a Value, key: &str, wanted: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item[key] == wanted)
}

/// What `consort status` says of an interface, waited for until it is said.
#[track_caller]
fn wait_interface(device: &Device, name: &str) -> Value {
    wait::until(&format!("{name} is told"), || {
        let status = device.status()?;
        find(&status["discovery"]["interfaces"], "name", name).cloned()
    })
}

#[track_caller]
fn wait_seed(device: &Device, text: &str, state: &str) -> Value {
    wait::until(&format!("{text} is {state}"), || {
        let status = device.status()?;
        let seed = find(&status["discovery"]["seeds"], "seed", text)?;
        (seed["state"] == state).then(|| seed.clone())
    })
}

/// A device that starts with no network at all is a group of one and joins when there is one.
#[test]
fn a_device_without_network_joins_when_an_interface_appears() {
    let Some(switch) = Switch::new(3, Addresses::NoInterface) else {
        return;
    };
    for index in 0..2 {
        switch.plug(index, "eth0", Some(&format!("{}/24", Switch::ipv4(index))));
    }
    let mut group = Group::behind(&switch);
    // Nowhere can it be reached yet.
    group.devices[2].configure("[network]\nseeds = [\"10.71.47.1:4747\"]\n");
    group.start();
    wait_settled(&group, &[2]);
    wait_settled(&group, &[0, 1]);
    sleep(QUIET);
    let told = count(&group.devices[2], 0, "datagrams could not be sent");
    assert_eq!(told, 1, "one cause is told once a minute");
    let status = group.devices[2].status().expect("it answers");
    assert_eq!(status["discovery"]["interfaces"], Value::Array(vec![]));
    assert!(status["counters"]["send_errors"].as_u64() > Some(1));

    let plugged = Instant::now();
    switch.plug(2, "eth0", Some(&format!("{}/24", Switch::ipv4(2))));
    group.wait_members(&[0, 1, 2]);
    println!("joined {} ms after the plug", plugged.elapsed().as_millis());
    wait_settled(&group, &[0, 1, 2]);
    assert_eq!(wait_interface(&group.devices[2], "eth0")["used"], true);
}

#[test]
fn an_interface_that_flaps_brings_its_device_back_each_time() {
    let Some(switch) = Switch::new(3, Addresses::Both) else {
        return;
    };
    let mut group = Group::behind(&switch);
    group.install_heartbeat();
    group.start();
    let all = [0, 1, 2];
    let mut leader = group.wait_settled(&all);
    for flap in 0..3 {
        let (rest, marks) = (group.all_but(&[flap]), group.marks());
        switch.inside(flap, &["link", "set", "eth0", "down"]);
        wait::until("it leads alone", || {
            (group.devices[flap].members() == 0).then_some(())
        });
        wait_settled(&group, &[flap]);
        if flap == leader {
            group.wait_one_leader(&rest);
        } else {
            let changed = group.role_change(&rest, &marks);
            assert_eq!(changed, None, "they have a leader without it");
        }
        let refused = wait_interface(&group.devices[flap], "eth0");
        assert_eq!(refused["used"], false);
        let back = Instant::now();
        switch.inside(flap, &["link", "set", "eth0", "up"]);
        group.wait_members(&all);
        println!(
            "member again {} ms after it came up",
            back.elapsed().as_millis()
        );
        // The leader with a follower outlasts the one that was alone, unless that follower is too
        // late to count, as on a machine that is busy.
        leader = group.wait_settled(&all);
    }
    // Faster than anybody can follow.
    let flap = (leader + 1) % 3;
    let (rest, marks) = (group.all_but(&[flap]), group.marks());
    for _ in 0..40 {
        switch.inside(flap, &["link", "set", "eth0", "down"]);
        sleep(Duration::from_millis(20));
        switch.inside(flap, &["link", "set", "eth0", "up"]);
        sleep(Duration::from_millis(60));
    }
    assert_eq!(group.wait_settled(&all), leader, "the leader stays");
    assert_eq!(group.role_change(&rest, &marks), None);
}

/// All change their addresses in turn, the group's leader among them: all stay members, and nobody's
/// role changes.
#[test]
fn sessions_survive_a_change_of_address() {
    let Some(switch) = Switch::new(3, Addresses::Ipv4) else {
        return;
    };
    let mut group = Group::behind(&switch);
    group.install_heartbeat();
    group.start();
    let all = [0, 1, 2];
    let leader = group.wait_settled(&all);
    let marks = group.marks();
    for changed in all {
        let (old, new) = (Switch::ipv4(changed), format!("10.71.47.{}", 100 + changed));
        let dev = ["dev", "eth0"];
        switch.inside(
            changed,
            &[&["address", "del", &format!("{old}/24")], dev.as_slice()].concat(),
        );
        switch.inside(
            changed,
            &[&["address", "add", &format!("{new}/24")], dev.as_slice()].concat(),
        );
        let began = Instant::now();
        for other in all.into_iter().filter(|other| *other != changed) {
            let wanted = format!("{new}:4747");
            wait::until("the others know the new address", || {
                let status = group.devices[other].status()?;
                let peer = find(&status["peers"], "id", group.devices[changed].id())?;
                (peer["address"] == wanted && peer["state"] == "member").then_some(())
            });
        }
        println!(
            "both know it {} ms after the change",
            began.elapsed().as_millis()
        );
    }
    sleep(QUIET);
    assert_eq!(
        group.role_change(&all, &marks),
        None,
        "nobody's role changes"
    );
    assert_eq!(group.wait_settled(&all), leader);
    for (device, mark) in group.devices.iter().zip(marks) {
        assert_eq!(count(device, mark, "member is unreachable"), 0);
        assert_eq!(count(device, mark, "member added"), 0);
    }
}

/// The first interface leads nowhere; the second has the same network, so that IPv4 goes on by the
/// first. All addresses are tried, so the link-local ones find the way.
#[test]
fn a_second_interface_is_used_when_it_appears() {
    let Some(switch) = Switch::new(2, Addresses::Both) else {
        return;
    };
    switch.cut(1);
    let mut group = Group::behind(&switch);
    group.start();
    for index in 0..2 {
        wait_settled(&group, &[index]);
    }
    let plugged = Instant::now();
    switch.plug(1, "eth1", Some("10.71.47.50/24"));
    group.wait_members(&[0, 1]);
    println!("joined {} ms after the plug", plugged.elapsed().as_millis());
    wait_settled(&group, &[0, 1]);
    for name in ["eth0", "eth1"] {
        assert_eq!(wait_interface(&group.devices[1], name)["used"], true);
    }
}

/// By default, interfaces that are named as those of container tools are left alone, whatever is on.
#[test]
fn an_interface_that_is_denied_is_not_used() {
    let Some(switch) = Switch::new(2, Addresses::NoInterface) else {
        return;
    };
    switch.plug(0, "eth0", Some("10.71.47.1/24"));
    switch.plug(1, "veth7", Some("10.71.47.2/24"));
    let mut group = Group::behind(&switch);
    for device in &group.devices {
        device.configure("[network]\nbroadcast = true\n");
    }
    group.start();
    let told = wait_interface(&group.devices[1], "veth7");
    assert_eq!(told["used"], false);
    assert_eq!(told["why"], "denied by network.interfaces_denied (veth*)");
    wait_settled(&group, &[1]);
    // The other one's broadcasts come by that interface, and are not heard.
    wait::never("a denied interface was used", QUIET, || {
        let met = |device: &Device| {
            device
                .status()
                .is_some_and(|s| s["peers"] != Value::Array(vec![]))
        };
        group
            .devices
            .iter()
            .find(|device| met(device))
            .map(Device::name)
    });
    group.devices[1].stop();
    group.devices[1].configure("[network]\ninterfaces = [\"veth7\"]\ninterfaces_denied = []\n");
    group.devices[1].start();
    wait_settled(&group, &[0, 1]);
    assert_eq!(wait_interface(&group.devices[1], "veth7")["used"], true);
}

#[test]
fn broadcast_finds_what_multicast_may_not() {
    let Some(switch) = Switch::new(2, Addresses::Ipv4) else {
        return;
    };
    let mut group = Group::behind(&switch);
    for device in &group.devices {
        device.configure("[network]\nmulticast = false\nbroadcast = true\n");
    }
    group.start();
    wait_settled(&group, &[0, 1]);
}

/// Multicast by link-local IPv6 waits for duplicate address detection, and for nothing after it.
#[test]
fn devices_without_ipv4_meet_when_their_addresses_are_usable() {
    let Some(switch) = Switch::new(3, Addresses::Ipv6LinkLocal) else {
        return;
    };
    let mut group = Group::behind(&switch);
    // The addresses are checked for duplicates while the daemons start.
    for index in 0..3 {
        switch.inside(index, &["link", "set", "eth0", "down"]);
        switch.inside(index, &["link", "set", "eth0", "up"]);
    }
    let began = Instant::now();
    group.start();
    group.wait_members(&[0, 1, 2]);
    println!(
        "IPv6 alone: all members {} ms after the start",
        began.elapsed().as_millis()
    );
    wait_settled(&group, &[0, 1, 2]);
}

/// One device is the others' seed. When it is gone, they know each other from the run before.
#[test]
fn remembered_addresses_outlive_a_restart() {
    let Some(switch) = Switch::new(3, Addresses::Ipv4) else {
        return;
    };
    let mut group = Group::behind(&switch);
    group.devices[0].configure(SEEDS_ONLY);
    for device in &group.devices[1..] {
        device.configure(&seeds_only("\"10.71.47.1:4747\""));
    }
    group.start();
    wait_settled(&group, &[0, 1, 2]);
    sleep(STORED_AFTER);
    for device in &mut group.devices {
        device.kill();
    }
    for device in &mut group.devices[1..] {
        device.configure(SEEDS_ONLY);
        device.start();
    }
    wait_settled(&group, &[1, 2]);
}

/// A name that nobody knows at the start is looked up again; all its addresses are tried, also
/// where one of them leads nowhere.
#[test]
fn a_seed_is_followed_when_its_name_gets_addresses() {
    let Some(switch) = Switch::new(2, Addresses::Both) else {
        return;
    };
    switch.write_etc(1, "hosts", "127.0.0.1 localhost\n");
    switch.write_etc(1, "resolv.conf", "nameserver 127.0.0.1\n");
    let mut group = Group::behind(&switch);
    group.devices[0].configure(SEEDS_ONLY);
    group.devices[1].configure(&seeds_only("\"hall.test:4747\""));
    group.start();
    let failed = wait_seed(&group.devices[1], "hall.test:4747", "failed");
    assert!(failed["problem"].is_string() && failed["addresses"] == Value::Array(vec![]));
    wait_settled(&group, &[1]);

    let hosts = "127.0.0.1 localhost\n2001:db8::99 hall.test\n10.71.47.1 hall.test\n";
    switch.write_etc(1, "hosts", hosts);
    let found = wait_seed(&group.devices[1], "hall.test:4747", "resolved");
    let addresses = found["addresses"].as_array().expect("a list");
    assert!(
        addresses.contains(&Value::from("10.71.47.1:4747")),
        "{addresses:?}"
    );
    wait_settled(&group, &[0, 1]);
    let told = count(
        &group.devices[1],
        0,
        "the seed cannot be resolved; it is tried again and again",
    );
    assert_eq!(told, 1, "a name that keeps failing is told once");
}

/// The name server never answers. The daemon elects, joins and stops as if there were none.
#[test]
fn a_name_server_that_hangs_holds_nothing_up() {
    let Some(switch) = Switch::new(2, Addresses::Ipv4) else {
        return;
    };
    for index in 0..2 {
        switch.write_etc(index, "resolv.conf", "nameserver 10.71.47.250\n");
    }
    let mut group = Group::behind(&switch);
    for device in &group.devices {
        device.configure("[network]\nseeds = [\"hall.test:4747\", \"attic.test:4747\"]\n");
    }
    group.start();
    wait_settled(&group, &[0, 1]);
    for device in &mut group.devices {
        let status = device.status().expect("it answers");
        let seed = find(&status["discovery"]["seeds"], "seed", "hall.test:4747");
        assert_ne!(seed.expect("it is told")["state"], "resolved");
        let (status, took) = device.stop();
        assert!(
            status.success() && took < STOP_MAX,
            "{status} after {took:?}"
        );
    }
}
