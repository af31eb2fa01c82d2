//! Devices in network namespaces on one bridge: they know no address of each other.

use std::time::{Duration, Instant};

use consort_e2e::log::Line;
use consort_e2e::network::Addresses;
use consort_e2e::{Group, Role, Switch, roles, wait};

/// How long nothing more must happen after things have settled.
const QUIET: Duration = Duration::from_secs(3);

#[test]
fn five_devices_find_each_other_by_multicast() {
    let Some(switch) = Switch::new(5, Addresses::Both) else {
        return;
    };
    let mut group = Group::behind(&switch);
    let leader = start_and_agree(&mut group);
    let follower = (leader + 1) % 5;
    cut_and_heal(&group, &switch, leader);
    let leader = group.wait_one_leader(&[0, 1, 2, 3, 4]);
    cut_and_heal(
        &group,
        &switch,
        if follower == leader {
            (leader + 1) % 5
        } else {
            follower
        },
    );
}

#[test]
fn three_devices_without_ipv4_find_each_other() {
    let Some(switch) = Switch::new(3, Addresses::Ipv6LinkLocal) else {
        return;
    };
    let mut group = Group::behind(&switch);
    start_and_agree(&mut group);
}

/// Starts all, waits until they are one group that hears its leader, and gives the leader's place.
fn start_and_agree(group: &mut Group) -> usize {
    group.install_heartbeat();
    let all = group.all_but(&[]);
    let before = Instant::now();
    group.start();
    let leader = group.wait_one_leader(&all);
    println!(
        "cold start of {}: {} ms until one leader",
        all.len(),
        before.elapsed().as_millis()
    );
    group.wait_members(&all);
    println!(
        "cold start of {}: {} ms until all members",
        all.len(),
        before.elapsed().as_millis()
    );
    let leader_id = group.devices[leader].id().to_owned();
    for device in &group.devices {
        device
            .log()
            .wait(0, "a beat arrives", |line| is_beat_from(line, &leader_id));
    }
    let leader = group.wait_one_leader(&all);
    assert_eq!(
        group.devices[leader].id(),
        leader_id,
        "nobody else took over meanwhile"
    );
    leader
}

/// Cuts one device off, sees two leaders, heals, and sees one: the majority's.
fn cut_and_heal(group: &Group, switch: &Switch, lonely: usize) {
    let rest = group.all_but(&[lonely]);
    let cut = Instant::now();
    switch.cut(lonely);
    assert_eq!(
        group.wait_one_leader(&[lonely]),
        lonely,
        "it leads its own group of one"
    );
    let winner = group.wait_one_leader(&rest);
    println!("two leaders {} ms after the cut", cut.elapsed().as_millis());
    group.wait_members(&rest);
    group.wait_members(&[lonely]);
    assert_eq!(group.wait_one_leader(&[lonely]), lonely, "it still leads");

    let marks: Vec<usize> = group
        .devices
        .iter()
        .map(|device| device.log().mark())
        .collect();
    let healed = Instant::now();
    switch.heal(lonely);
    let all = group.all_but(&[]);
    assert_eq!(
        group.wait_one_leader(&all),
        winner,
        "the majority's leader stays"
    );
    println!(
        "one leader {} ms after the heal",
        healed.elapsed().as_millis()
    );
    group.wait_members(&all);

    let changes = |place: usize| roles(group.devices[place].log(), marks[place]);
    let loser = vec![
        Role::Demoted,
        Role::Following(group.devices[winner].id().to_owned()),
    ];
    assert_eq!(
        changes(lonely),
        loser,
        "the loser is demoted before anything else"
    );
    wait::never("a role changed after the heal", QUIET, || {
        let others = rest.iter().any(|place| !changes(*place).is_empty());
        (others || changes(lonely) != loser)
            .then(|| all.iter().map(|p| changes(*p)).collect::<Vec<_>>())
    });
}

fn is_beat_from(line: &Line, leader: &str) -> bool {
    line.is_by_plugin("heartbeat")
        && line.message.starts_with("heard ")
        && line.message.contains(&format!("from={leader}"))
}
