//! What strangers on the network can do to a group: nothing, and the log names what matters.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use consort_e2e::group::{free_ports, localhost, loopback};
use consort_e2e::log::Log;
use consort_e2e::relay::Relay;
use consort_e2e::{Device, Group, roles, wait};
use serde_json::Value;

#[test]
fn another_secret_is_another_group() {
    let mut group = Group::empty();
    let ports = free_ports(2);
    for place in [0, 1] {
        let settings = loopback(ports[place], [localhost(ports[1 - place])].into_iter());
        group
            .add(&format!("device-{place}"), None, &settings)
            .run_with(&["group", "new"], "");
    }
    group.install_heartbeat();
    group.start();
    for device in &group.devices {
        let cause = ["not of this group", "secret", "from"];
        device
            .log()
            .wait(0, "the cause is named", |line| line.warns_of(&cause));
    }
    for place in [0, 1] {
        assert_eq!(
            group.wait_one_leader(&[place]),
            place,
            "each leads its own group"
        );
    }
    wait::never("a member of another group", Duration::from_secs(2), || {
        group
            .devices
            .iter()
            .find(|device| device.members() > 0)
            .map(Device::name)
    });
}

#[test]
fn forged_and_replayed_datagrams_disturb_nothing() {
    let ports = free_ports(2);
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let relay = Relay::new([address(ports[0]), address(ports[1])]);
    let mut group = Group::empty();
    for place in [0, 1] {
        let settings = loopback(ports[place], [relay.address_for(place)].into_iter());
        group.add(&format!("device-{place}"), None, &settings);
    }
    group.share_secret();
    group.install_heartbeat();
    group.start();
    let leader = group.wait_settled(&[0, 1]);
    let follower = 1 - leader;
    wait::until("some beats", || {
        (beats(group.devices[follower].log()).len() >= 2).then_some(())
    });

    let marks: Vec<usize> = group
        .devices
        .iter()
        .map(|device| device.log().mark())
        .collect();
    let before: Vec<Value> = (0..2)
        .map(|place| counters(&group.devices[place]))
        .collect();
    for place in [0, 1] {
        attack(&relay, place, address(ports[place]));
    }
    let heard = beats(group.devices[follower].log()).len();
    wait::until("beats go on", || {
        (beats(group.devices[follower].log()).len() >= heard + 2).then_some(())
    });
    for place in [0, 1] {
        let device = &group.devices[place];
        let after = counters(device);
        for counter in [
            "datagrams_refused",
            "datagrams_replayed",
            "datagrams_oversized",
        ] {
            let (old, new) = (before[place][counter].as_u64(), after[counter].as_u64());
            assert!(
                new > old,
                "{counter} of {}: {old:?} to {new:?}",
                device.name()
            );
        }
        assert_eq!(device.members(), 1);
    }
    let seen = beats(group.devices[follower].log());
    let different: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(
        seen.len(),
        different.len(),
        "no beat is heard twice: {seen:?}"
    );
    for place in [0, 1] {
        let changes = roles(group.devices[place].log(), marks[place]);
        assert!(changes.is_empty(), "a role changed: {changes:?}");
    }
    assert_eq!(group.wait_one_leader(&[0, 1]), leader, "it still leads");
}

/// Everything a stranger can send: noise, what passed before, and that in pieces; from an address
/// of its own and from the one of the other member.
fn attack(relay: &Relay, place: usize, target: SocketAddr) {
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let send = |datagram: &[u8]| {
        // A full queue drops some, as networks do.
        let _ = stranger.send_to(datagram, target);
        relay.inject(place, datagram);
        std::thread::sleep(Duration::from_micros(200));
    };
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for length in (0..1300).step_by(13).chain([1400, 1500, 2000]) {
        send(&noise.bytes(length));
    }
    for datagram in relay.kept_for(place).iter().take(150) {
        send(datagram);
        send(&datagram[..datagram.len() / 2]);
        send(&datagram[..datagram.len() - 1]);
        let mut changed = datagram.clone();
        changed[noise.next() as usize % datagram.len()] ^= 1;
        send(&changed);
        changed[1..].copy_from_slice(&noise.bytes(datagram.len() - 1));
        send(&changed);
    }
}

/// Bytes without meaning, the same in every run (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Number and term of each beat that was heard.
fn beats(log: &Log) -> Vec<String> {
    let lines = log.since(0);
    let heard = lines.iter().filter(|line| line.is_by_plugin("heartbeat"));
    let heard = heard.filter(|line| line.message.starts_with("heard "));
    heard
        .map(|line| line.message.split(" at=").next().unwrap_or("").to_owned())
        .collect()
}

fn counters(device: &Device) -> Value {
    device.status().expect("the status is there")["counters"].clone()
}
