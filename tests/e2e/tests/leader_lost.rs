//! The leader goes away: killed without warning, or stopped in order.

use std::time::{Duration, Instant};

use consort_e2e::{Group, Role, roles};

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
