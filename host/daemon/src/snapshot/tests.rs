use consort_proto::{PluginSpec, PublicKey, Version};

use super::*;

fn device_id(byte: u8) -> DeviceId {
    PublicKey::new([byte; 32])
        .expect("no point of low order")
        .device_id()
}

fn spec(id: &str) -> PluginSpec {
    PluginSpec {
        id: PluginId::new(id).expect("valid"),
        version: Version {
            major: 1,
            minor: 2,
            patch: 3,
        },
        priority: 5,
        preempt: false,
    }
}

/// A node that follows one peer, misses another and has met a third.
pub(crate) fn node_status() -> NodeStatus {
    let silent = |byte, state| consort_proto::PeerStatus {
        device: device_id(byte),
        name: None,
        version: None,
        address: Some("10.0.0.3:4747".to_owned()),
        state,
        missing_for: None,
        quarantined_clone: None,
        refuses: false,
        last_heard: None,
        round_trip_us: None,
        clock_delta_us: None,
        keyring: consort_proto::PeerKeyring::Unknown,
        plugins: vec![],
        messages: consort_proto::MessageCounts::default(),
    };
    NodeStatus {
        device: device_id(9),
        name: "kitchen".to_owned(),
        has_group: true,
        keyring: None,
        peers: vec![
            consort_proto::PeerStatus {
                name: Some("hall".to_owned()),
                version: Some(Version {
                    major: 0,
                    minor: 1,
                    patch: 0,
                }),
                last_heard: Some(Duration::from_millis(120)),
                round_trip_us: Some(480),
                clock_delta_us: Some(-1500),
                plugins: vec![spec("beat")],
                messages: consort_proto::MessageCounts {
                    sent: 1,
                    dropped: 2,
                    parts_resent: 3,
                    received: 4,
                    duplicates: 5,
                    lost: 6,
                },
                ..silent(1, consort_proto::PeerState::Member)
            },
            consort_proto::PeerStatus {
                last_heard: Some(Duration::from_secs(75)),
                missing_for: Some(Duration::from_secs(70)),
                ..silent(2, consort_proto::PeerState::Missing)
            },
            silent(3, consort_proto::PeerState::Connecting),
        ],
        plugins: vec![consort_proto::PluginStatus {
            spec: spec("beat"),
            role: consort_proto::Role::Follower,
            leader: Some(device_id(1)),
            term: 12,
            members: 2,
            state: consort_proto::StateStatus {
                keys: 12,
                bytes: 3_500,
                catching_up: true,
                refused: 1,
                lost: 2,
                not_kept: None,
            },
        }],
        clone: None,
        counters: consort_proto::Counters {
            datagrams_refused: 4,
            ..Default::default()
        },
    }
}

/// The snapshot that goes with [`node_status`].
pub(crate) fn status() -> Status {
    let clock = ClockView {
        synchronised: true,
        error_bound: 800,
        bound_ppb: 20_000,
        ..ClockView::free_running(Time::ZERO, 1_700_000_000_000_000)
    };
    let origin = Origin {
        started: Time::from_micros(1_000_000),
        boot_counter: 7,
    };
    let now = Time::from_micros(63_000_000);
    let seeds =
        crate::net::resolve::seeds(&["10.0.0.3:4747".to_owned(), "hall.local:4747".to_owned()]);
    build(
        now,
        origin,
        &node_status(),
        &[],
        &Net::closed(),
        &seeds,
        clock,
    )
}

#[test]
fn a_snapshot_says_what_the_node_says() {
    let status = status();
    assert_eq!(status.v, 1);
    assert_eq!(status.device.name, "kitchen");
    assert_eq!(status.device.uptime_ms, 62_000);
    assert_eq!(status.group.members, 2, "this device and one peer");
    assert_eq!(status.clock.group_time_us, 1_700_000_063_000_000);
    assert_eq!(status.clock.error_bound_us, Some(800 + 63 * 20));
    let states: Vec<_> = status
        .peers
        .iter()
        .map(|p| (p.state, p.why.is_some()))
        .collect();
    assert_eq!(
        states,
        [
            (PeerState::Member, false),
            (PeerState::Missing, true),
            (PeerState::Connecting, true)
        ]
    );
    assert_eq!(status.peers[0].last_heard_ms, Some(120));
    assert_eq!(status.peers[2].last_heard_ms, None);
    let counts = status.peers[0].messages;
    let counts = [
        counts.sent,
        counts.dropped,
        counts.parts_resent,
        counts.received,
        counts.duplicates,
        counts.lost,
    ];
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    let beat = &status.plugins[0];
    assert_eq!(
        (beat.role, beat.term, beat.members),
        (Role::Follower, Some(12), Some(2))
    );
    let leader = beat.leader.as_ref().expect("a leader");
    assert_eq!(leader.name.as_deref(), Some("hall"));
    assert_eq!(leader.id, device_id(1).to_string());
    assert_eq!(status.counters.datagrams_refused, 4);
    let [literal, name] = &status.discovery.seeds[..] else {
        panic!("two seeds: {:?}", status.discovery);
    };
    assert_eq!(
        (literal.state, name.state),
        (SeedState::Literal, SeedState::Pending)
    );
    assert_eq!(literal.addresses, ["10.0.0.3:4747"]);
}

#[test]
fn seeds_are_told_with_what_is_known_of_them() {
    let found = vec!["10.0.0.7:4747".parse().expect("an address")];
    let of = |lookup| {
        seed(&Seed {
            text: "hall.local:4747".to_owned(),
            lookup,
        })
    };
    let resolved = of(Lookup::Found(found.clone()));
    assert_eq!(resolved.state, SeedState::Resolved);
    let failed = of(Lookup::Failed {
        problem: "no such name".to_owned(),
        before: found,
    });
    assert_eq!(failed.state, SeedState::Failed);
    assert_eq!(failed.problem.as_deref(), Some("no such name"));
    assert_eq!(failed.addresses, resolved.addresses);
}

#[test]
fn unknown_values_are_null_and_never_left_out() {
    let value = serde_json::to_value(status()).expect("plain data");
    let missing = value["peers"][1].as_object().expect("an object");
    for key in ["name", "version", "round_trip_us", "clock_delta_us"] {
        assert_eq!(missing.get(key), Some(&serde_json::Value::Null), "{key}");
    }
    assert_eq!(value["peers"][0]["state"], "member");
    assert_eq!(value["plugins"][0]["role"], "follower");
}

#[test]
fn snapshots_are_published_at_a_bounded_rate() {
    let mut publisher = Publisher::new();
    let latest = publisher.subscribe();
    let mut made = Vec::new();
    for millis in (5_000..8_000).step_by(10) {
        if millis < 6_000 {
            publisher.touch();
        }
        publisher.publish_if_due(Time::from_micros(millis * 1_000), || {
            made.push(millis);
            status()
        });
    }
    let hot: Vec<u64> = (5_000..6_000).step_by(100).collect();
    assert_eq!(made[..10], hot);
    // The last touch came right before 6 s; after that, once a second.
    assert_eq!(made[10..], [6_000, 7_000]);
    assert_eq!(latest.borrow().as_deref(), Some(&status()));
}
