//! The leader goes away: killed without warning, stopped in order, or its plugin's file removed.

use std::fs;
use std::time::{Duration, Instant};

use consort_e2e::log::Line;
use consort_e2e::{Device, Group, Role, programs, roles, wait};

/// An orderly stop is promised within 2 s; a busy machine gets some more.
const STOP_MAX: Duration = Duration::from_secs(4);

#[test]
fn the_leader_is_killed() {
    let mut group = three_with_heartbeat();
    let leader = group.wait_one_leader(&[0, 1, 2]);
    let rest = group.all_but(&[leader]);
    let marks = marks(&group);
    let killed = group.devices[leader].kill();
    let successor = group.wait_one_leader(&rest);
    print_promotion("killed", &group, successor, marks[successor], killed);
    let follower = rest[usize::from(rest[0] == successor)];
    let followed = Role::Following(group.devices[successor].id().to_owned());
    let changes = |place: usize| roles(group.devices[place].log(), marks[place]);
    assert_eq!(changes(successor), [Role::LostLeader, Role::Promoted]);
    assert_eq!(changes(follower), [Role::LostLeader, followed.clone()]);

    // It comes back into the group that got by without it.
    group.devices[leader].start();
    assert_eq!(
        group.wait_one_leader(&[0, 1, 2]),
        successor,
        "the one that leads stays"
    );
    assert_eq!(roles(group.devices[leader].log(), 0), [followed]);
}

#[test]
fn an_orderly_stop_hands_over() {
    let mut group = three_with_heartbeat();
    let leader = group.wait_one_leader(&[0, 1, 2]);
    let rest = group.all_but(&[leader]);
    let marks = marks(&group);
    let before = Instant::now();
    let (status, took) = group.devices[leader].stop();
    println!("stopped in {} ms", took.as_millis());
    assert!(status.success(), "{status}");
    assert!(took < STOP_MAX, "{took:?}");
    let last = roles(group.devices[leader].log(), marks[leader]);
    assert_eq!(last, [Role::Demoted], "the plugin is told before the end");
    let successor = group.wait_one_leader(&rest);
    print_promotion("stopped", &group, successor, marks[successor], before);
    let changes = roles(group.devices[successor].log(), marks[successor]);
    assert_eq!(changes, [Role::LostLeader, Role::Promoted]);
}

/// An orderly hand-over takes some tenths of a second; a busy machine gets more.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);

#[test]
fn a_removed_plugin_leaves_its_group_in_order() {
    let group = three_with_heartbeat();
    let leader = group.wait_one_leader(&[0, 1, 2]);
    let rest = group.all_but(&[leader]);
    let marks = marks(&group);
    let left = &group.devices[leader];
    fs::remove_file(left.plugin_file("heartbeat.wasm")).expect("it is there");
    let successor = group.wait_one_leader(&rest);
    let demoted = role_line(left, marks[leader], &Role::Demoted);
    let promoted = role_line(&group.devices[successor], marks[successor], &Role::Promoted);
    assert!(
        demoted.written_us() < promoted.written_us(),
        "first the demotion, then the promotion"
    );
    let took = promoted.at.saturating_duration_since(demoted.at);
    println!(
        "plugin removed, demotion to promotion: {} ms",
        took.as_millis()
    );
    assert!(took < HAND_OVER_MAX, "{took:?}");

    let followed = Role::Following(group.devices[successor].id().to_owned());
    assert_eq!(roles(left.log(), marks[leader]), [Role::Demoted]);
    let gone = format!("peer removed {} ", left.id());
    for place in rest {
        let log = group.devices[place].log();
        let is_gone =
            |line: &Line| line.is_by_plugin("heartbeat") && line.message.starts_with(&gone);
        log.wait(marks[place], "the plugin there is gone", is_gone);
        let own = log.since(marks[place]);
        let at = |fits: &dyn Fn(&Line) -> bool| own.iter().position(fits);
        let lost = at(&|line| Role::of(line) == Some(Role::LostLeader));
        assert!(lost < at(&is_gone), "demoted, then removed");
        let last = if place == successor {
            Role::Promoted
        } else {
            followed.clone()
        };
        assert_eq!(roles(log, marks[place]), [Role::LostLeader, last]);
    }

    // The device itself stays what it was, and its plugin may come back.
    group.wait_members(&[0, 1, 2]);
    wait::until("the plugin is unloaded", || {
        left.plugin("heartbeat").is_none().then_some(())
    });
    let back = left.log().mark();
    left.install(programs::heartbeat(), "heartbeat.wasm");
    assert_eq!(group.wait_one_leader(&[0, 1, 2]), successor);
    assert_eq!(roles(left.log(), back), [followed]);
}

/// The line in which a device's plugin tells this role.
fn role_line(device: &Device, mark: usize, role: &Role) -> Line {
    let what = format!("{role:?} on {}", device.name());
    device
        .log()
        .wait(mark, &what, |line| Role::of(line).as_ref() == Some(role))
}

fn three_with_heartbeat() -> Group {
    let mut group = Group::on_loopback(3, "");
    group.install_heartbeat();
    let before = Instant::now();
    group.start();
    group.wait_one_leader(&[0, 1, 2]);
    println!(
        "cold start of 3: {} ms until one leader",
        before.elapsed().as_millis()
    );
    group.wait_settled(&[0, 1, 2]);
    group
}

fn marks(group: &Group) -> Vec<usize> {
    group
        .devices
        .iter()
        .map(|device| device.log().mark())
        .collect()
}

fn print_promotion(how: &str, group: &Group, successor: usize, mark: usize, since: Instant) {
    let is_promotion = |line: &_| Role::of(line) == Some(Role::Promoted);
    let line = group.devices[successor]
        .log()
        .find(mark, is_promotion)
        .expect("it was promoted");
    println!(
        "leader {how} to promotion: {} ms",
        (line.at - since).as_millis()
    );
}
