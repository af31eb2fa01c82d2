//! Guards that no fault of a network or a device puts to the test, but somebody who means harm: one
//! who reads along and forges addresses, or a member that lies. docs/mutants.md lists them.

use bytes::Bytes;
use consort_proto::{
    Command, Event, InTree, Lie, MAX_PAYLOAD, MessageCounts, PeerState, PluginCommand, PluginEvent,
    RemovalReason,
};
use consort_scenarios::wire::{Flying, Packet, Wire, address, node};
use consort_scenarios::{app, ms, secs};

/// An address of nobody.
const STRANGER: usize = 60_000;

/// Whether a datagram goes from one node to another.
fn goes(flying: &Flying, from: usize, to: usize) -> bool {
    flying.from == address(from) && flying.to == address(to)
}

#[test]
fn a_late_packet_from_elsewhere_moves_no_address() {
    let (mut wire, _) = Wire::formed(2);
    wire.hold(|flying| goes(flying, 0, 1) && flying.packet() == Packet::Data);
    wire.run_for(ms(300));
    wire.let_pass();
    wire.run_for(ms(500));
    let late = wire.caught.clone();
    assert!(!late.is_empty(), "something was under way");
    for flying in late {
        wire.inject(1, address(STRANGER), &flying.bytes);
    }
    wire.run_for(secs(2));
    assert_eq!(wire.astray, [], "nothing goes to where it came from");
}

#[test]
fn an_init_from_elsewhere_is_answered_and_no_more() {
    let mut wire = Wire::new(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    wire.run_for(ms(200));
    let init = wire.caught.iter().find(|flying| goes(flying, 0, 1));
    let init = init.expect("it heard the beacon").clone();
    wire.inject(1, address(STRANGER), &init.bytes);
    wire.run_for(ms(500));
    let packets: Vec<Packet> = wire.astray.iter().map(Flying::packet).collect();
    assert_eq!(
        packets,
        [Packet::Response],
        "no session before its confirmation"
    );
}

#[test]
fn an_init_is_answered_once() {
    let (mut wire, _) = Wire::formed(2);
    let inits = wire.sent.iter().filter(|f| f.packet() == Packet::Init);
    let inits: Vec<Flying> = inits.cloned().collect();
    assert!(!inits.is_empty());
    for init in &inits {
        for node in 0..2 {
            wire.inject(node, address(STRANGER), &init.bytes);
        }
    }
    wire.run_for(ms(500));
    assert_eq!(wire.astray, [], "a copy of an Init gets silence");
}

#[test]
fn under_load_nobody_is_answered_without_a_cookie() {
    let mut wire = Wire::new(1);
    wire.run_for(ms(1));
    let beacon = wire
        .sent
        .first()
        .expect("it looks for others")
        .bytes
        .clone();
    let mut inits = 0;
    for number in 1..=130 {
        let mut caller = node(number);
        caller.handle_datagram(consort_proto::Time::ZERO, address(0), &beacon);
        while let Some(transmit) = caller.poll_transmit() {
            let flying = Flying {
                from: address(number),
                to: address(0),
                bytes: transmit.payload,
            };
            if flying.packet() == Packet::Init {
                inits += 1;
                wire.inject(0, flying.from, &flying.bytes);
            }
        }
    }
    assert_eq!(inits, 130);
    wire.run_for(ms(1));
    let count = |packet| wire.sent.iter().filter(|f| f.packet() == packet).count();
    assert_eq!(count(Packet::Response), 99, "a burst of a hundred is load");
    assert_eq!(count(Packet::Cookie), 31);
}

#[test]
fn under_load_an_address_has_a_few_answers_and_no_more() {
    let mut wire = Wire::new(1);
    wire.run_for(ms(1));
    let beacon = wire.sent[0].bytes.clone();
    for number in 1..=160 {
        let mut caller = node(number);
        caller.handle_datagram(consort_proto::Time::ZERO, address(0), &beacon);
        // The first hundred make the load, the others share an address.
        let from = if number < 100 { number } else { STRANGER };
        while let Some(transmit) = caller.poll_transmit() {
            if transmit.payload.len() == 160 {
                wire.inject(0, address(from), &transmit.payload);
            }
        }
    }
    wire.run_for(ms(1));
    let cookies = wire.astray.iter().filter(|f| f.packet() == Packet::Cookie);
    let cookies = cookies.filter(|f| f.to == address(STRANGER)).count();
    assert_eq!(cookies, 5, "of sixty that came from there at once");
}

#[test]
fn unfinished_messages_of_a_member_are_bounded() {
    let (mut wire, _) = Wire::formed(2);
    let part = |seq: u64, second| Lie::Part {
        group: app().group(),
        seq: 1_000_000 + seq,
        second,
    };
    for seq in 0..17 {
        wire.lie(0, 1, part(seq, false));
    }
    wire.run_for(ms(5));
    wire.lie(0, 1, part(0, true));
    wire.lie(0, 1, part(16, true));
    wire.run_for(ms(5));
    let long = |event: &&PluginEvent| matches!(event, PluginEvent::PeerMessage { payload, .. } if payload.len() == 2200);
    let whole = wire.plugin_events(1).filter(long).count();
    assert_eq!(whole, 1, "the oldest made room for the newest");
}

/// What another node is to a node.
fn state(wire: &Wire, node: usize, other: usize) -> Option<PeerState> {
    let mut peers = wire.status(node).peers.into_iter();
    let peer = peers.find(|peer| peer.device == wire.id(other));
    peer.map(|peer| peer.state)
}

/// Whether a node has lost a member.
fn loses(wire: &Wire, node: usize, member: usize) -> bool {
    let id = wire.id(member);
    let lost =
        |event: &Event| matches!(event, Event::MemberRemoved { device, .. } if *device == id);
    wire.events(node).iter().any(lost)
}

#[test]
fn a_member_that_is_said_to_be_down_is_probed_first() {
    let (mut wire, _) = Wire::formed(3);
    let lie = Lie::Down {
        by: wire.id(0),
        device: wire.id(1),
    };
    wire.lie(0, 2, lie);
    wire.run_for(secs(10));
    assert!(!loses(&wire, 2, 1), "it answers");
}

#[test]
fn a_membership_packet_in_another_s_name_is_refused() {
    let (mut wire, _) = Wire::formed(3);
    let before = wire.status(2).counters.datagrams_refused;
    let lie = Lie::Down {
        by: wire.id(1),
        device: wire.id(1),
    };
    wire.lie(0, 2, lie);
    wire.run_for(ms(2));
    assert_eq!(wire.status(2).counters.datagrams_refused, before + 1);
    wire.run_for(secs(10));
    assert!(!loses(&wire, 2, 1));
}

#[test]
fn a_connected_device_s_record_is_its_own_word() {
    let (mut wire, _) = Wire::formed(3);
    let lie = Lie::Record {
        device: wire.id(1),
        name: "somebody else".to_owned(),
    };
    wire.lie(0, 2, lie);
    wire.run_for(ms(100));
    let status = wire.status(2);
    let told = status.peers.iter().find(|peer| peer.device == wire.id(1));
    assert_eq!(told.and_then(|peer| peer.name.as_deref()), Some("n1"));
}

#[test]
fn nobody_speaks_for_a_leader_that_is_heard() {
    let (mut wire, leader) = Wire::formed(3);
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let lie = Lie::Relayed {
        leader: wire.id(leader),
        group: app().group(),
        epoch: wire.status(hearer).plugins[0].term,
        payload: Bytes::from_static(b"forged"),
    };
    wire.lie(liar, hearer, lie);
    wire.run_for(ms(100));
    let heard = |event: &&PluginEvent| matches!(event, PluginEvent::LeaderMessage { .. });
    assert_eq!(wire.plugin_events(hearer).find(heard), None);
}

/// The payloads of the broadcasts that a node's plugin has heard.
fn heard(wire: &Wire, node: usize) -> Vec<&[u8]> {
    let events = wire.plugin_events(node);
    let heard = events.filter_map(|event| match event {
        PluginEvent::LeaderMessage { payload, .. } => Some(&payload[..]),
        _ => None,
    });
    heard.collect()
}

#[test]
fn nobody_but_the_leader_broadcasts() {
    let (mut wire, leader) = Wire::formed(3);
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let lie = Lie::Broadcast {
        group: app().group(),
        epoch: wire.status(hearer).plugins[0].term,
        payload: Bytes::from_static(b"forged"),
    };
    wire.lie(liar, hearer, lie.clone());
    wire.lie(liar, leader, lie.clone());
    wire.run_for(secs(3));
    assert!(heard(&wire, hearer).is_empty() && heard(&wire, leader).is_empty());
    wire.lie(leader, hearer, lie);
    wire.run_for(ms(2));
    assert_eq!(heard(&wire, hearer), [b"forged"], "it may say so");
}

/// A leader, a member that passes payloads on, one that gets them; what is passed on of a broadcast.
fn tree() -> (Wire, [usize; 3], impl Fn(&'static [u8]) -> InTree) {
    let (wire, leader) = Wire::formed(3);
    let epoch = wire.status(leader).plugins[0].term;
    let message = move |payload| InTree {
        group: app().group(),
        epoch,
        seq: 1_000,
        payload: Bytes::from_static(payload),
    };
    (wire, [leader, (leader + 1) % 3, (leader + 2) % 3], message)
}

#[test]
fn a_payload_that_its_sender_tells_nothing_of_does_not_count() {
    let (mut wire, [leader, liar, hearer], message) = tree();
    let branch = Lie::Branch {
        leader: wire.id(leader),
        message: message(b"forged"),
    };
    wire.lie(liar, hearer, branch);
    wire.lie(liar, hearer, Lie::Notice(message(b"forged")));
    wire.run_for(secs(10));
    assert!(
        heard(&wire, hearer).is_empty(),
        "nobody tells it for the leader"
    );
}

#[test]
fn a_payload_that_is_not_what_its_sender_told_of_does_not_count() {
    let (mut wire, [leader, liar, hearer], message) = tree();
    wire.lie(leader, hearer, Lie::Notice(message(b"spoken")));
    wire.run_for(ms(2));
    for payload in [&b"forged"[..], b"spoken"] {
        let branch = Lie::Branch {
            leader: wire.id(leader),
            message: message(payload),
        };
        wire.lie(liar, hearer, branch);
        wire.run_for(ms(2));
    }
    assert_eq!(heard(&wire, hearer), [b"spoken"]);
}

/// What node 0 counts of its messages to another one.
fn counts(wire: &Wire, of: usize) -> MessageCounts {
    let peers = wire.status(0).peers;
    let peer = peers.into_iter().find(|peer| peer.device == wire.id(of));
    peer.expect("they have met").messages
}

#[test]
fn parts_are_sent_again_to_whom_they_are_for_and_not_for_ever() {
    let (mut wire, _) = Wire::formed(3);
    let (to, payload) = (wire.id(1), Bytes::from(vec![7; 3_000]));
    wire.command(0, app().id, PluginCommand::Send { to, payload });
    wire.run_for(ms(10));
    for asker in [2, 1] {
        for _ in 0..50 {
            let ask = Lie::Ask {
                seq: 1,
                parts: 0b111,
            };
            wire.lie(asker, 0, ask);
            wire.run_for(ms(5));
        }
    }
    assert_eq!(counts(&wire, 2).parts_resent, 0, "it is not for that one");
    assert_eq!(counts(&wire, 1).parts_resent, 4 * 3, "four times over");
}

#[test]
fn a_goodbye_passes_by_what_plugins_have_waiting() {
    let (mut wire, _) = Wire::formed(2);
    for _ in 0..16 {
        let payload = Bytes::from(vec![7; MAX_PAYLOAD]);
        wire.command(0, app().id, PluginCommand::SendToAll(payload));
    }
    wire.tell(0, Command::Leave);
    wire.run_for(ms(3));
    assert!(leaves(&wire, 1, 0), "it is known at once");
    let arrived = |event: &&PluginEvent| matches!(event, PluginEvent::PeerMessage { .. });
    assert!(
        wire.plugin_events(1).filter(arrived).count() < 8,
        "all that there was credit for"
    );
}

#[test]
fn a_plugin_whose_host_does_not_count_keeps_to_its_quota() {
    let (mut wire, _) = Wire::formed(2);
    for _ in 0..500 {
        let words = PluginCommand::SendToAll(Bytes::from_static(b"again"));
        wire.command(0, app().id, words);
    }
    wire.run_for(ms(100));
    let arrived = |event: &&PluginEvent| matches!(event, PluginEvent::PeerMessage { .. });
    let arrived = wire.plugin_events(1).filter(arrived).count();
    assert_eq!(arrived, 375, "a quarter more than the burst");
    assert_eq!(wire.status(0).counters.messages_over_quota, 125);
}

#[test]
fn a_membership_packet_with_a_broadcast_item_is_refused_as_a_whole() {
    let (mut wire, _) = Wire::formed(3);
    let before = wire.status(2).counters.datagrams_refused;
    wire.lie(0, 2, Lie::Item { device: wire.id(1) });
    wire.run_for(ms(1));
    assert_eq!(wire.status(2).counters.datagrams_refused, before + 1);
    let other = state(&wire, 2, 1);
    assert_eq!(other, Some(PeerState::Member), "its members do not count");
}

/// The leader's heartbeats to its successor are held up until that one leads.
#[test]
fn a_claim_that_its_device_has_ended_since_does_not_count() {
    let (mut wire, leader) = Wire::formed(3);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        let held = move |flying: &Flying| goes(flying, leader, other);
        wire.hold(held);
        wire.run_for(ms(260));
    }
    wire.let_pass();
    wire.tell(leader, Command::PluginDown(app().id));
    wire.run_for(secs(1));
    let leads =
        |wire: &Wire, node: usize| wire.status(node).plugins[0].leader == Some(wire.id(node));
    let next = others.into_iter().find(|node| leads(&wire, *node));
    let next = next.expect("one of them leads");
    wire.tell(leader, Command::PluginUp(app()));
    wire.run_for(secs(3));
    for flying in wire.caught.clone() {
        let node = others.into_iter().find(|node| flying.to == address(*node));
        wire.inject(node.expect("one of them"), flying.from, &flying.bytes);
    }
    wire.run_for(secs(1));
    let demoted = |event: &&PluginEvent| matches!(event, PluginEvent::DemoteLeader);
    assert_eq!(wire.plugin_events(next).find(demoted), None);
    assert!(leads(&wire, next));
}

#[test]
fn a_leader_that_is_not_heard_for_a_moment_is_probed_first() {
    let (mut wire, leader) = Wire::formed(3);
    let follower = (leader + 1) % 3;
    wire.hold(move |flying| flying.to == address(follower));
    for _ in 0..1_000 {
        wire.run_for(ms(1));
        if state(&wire, follower, leader) == Some(PeerState::Suspect) {
            break;
        }
    }
    // Four of the ten probes.
    wire.run_for(ms(100));
    wire.let_pass();
    wire.run_for(secs(2));
    let gone = |event: &PluginEvent| matches!(event, PluginEvent::DemoteFollower);
    assert!(!wire.plugin_events(follower).any(gone), "it is followed");
}

/// It hears nothing, and gets to run for a moment in each third of a second only.
#[test]
fn a_device_whose_own_loop_is_late_is_patient_with_its_leader() {
    let (mut wire, leader) = Wire::formed(3);
    let late = (leader + 1) % 3;
    wire.hold(move |flying| flying.to == address(late));
    let gave_up = |wire: &Wire| {
        let gone = |event: &PluginEvent| matches!(event, PluginEvent::DemoteFollower);
        wire.plugin_events(late).any(gone)
    };
    for round in 0..40 {
        wire.stop(late);
        wire.run_for(ms(300));
        wire.resume(late);
        wire.run_for(ms(1));
        assert!(round > 16 || !gave_up(&wire), "after {round} rounds");
    }
    assert!(gave_up(&wire), "not for ever");
}

#[test]
fn nobody_but_the_reference_tells_group_time() {
    let (mut wire, leader) = Wire::formed(3);
    let (liar, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let (era, time) = (7, 1_000_000);
    wire.lie(liar, hearer, Lie::GroupTime { era, time });
    wire.run_for(secs(1));
    let of_liar = |event: &Event| matches!(event, Event::Clock(view) if view.group_at < 2 * time);
    assert!(!wire.events(hearer).iter().any(of_liar));
    wire.lie(leader, hearer, Lie::GroupTime { era, time });
    wire.run_for(ms(2));
    assert!(wire.events(hearer).iter().any(of_liar), "that one does");
}

/// One of two followers does not hear that their leader is restarted, and reports its claim.
#[test]
fn a_claim_of_before_its_device_was_restarted_does_not_count() {
    let (mut wire, leader) = Wire::formed(3);
    let (hearer, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let beacons = |wire: &Wire| {
        let sent = wire.sent.iter();
        let sent = sent.filter(|f| f.packet() == Packet::Beacon && f.from == address(leader));
        sent.count()
    };
    // Its next beacon is one that is opened.
    let mut last = 0;
    while last < beacons(&wire) {
        last = beacons(&wire);
        wire.run_for(ms(1_100));
    }
    wire.hold(move |flying| goes(flying, leader, other) || goes(flying, other, leader));
    let before = wire.events(hearer).len();
    wire.restart(leader);
    wire.run_for(ms(500));
    let since = wire.events(hearer)[before..].iter();
    let told: Vec<&PluginEvent> = since
        .filter_map(|event| match event {
            Event::Plugin { event, .. } => Some(event),
            _ => None,
        })
        .collect();
    let of_old = |event: &&PluginEvent| match event {
        PluginEvent::PromoteFollower(told) => told.leader.device == wire.id(leader),
        event => matches!(event, PluginEvent::DemoteLeader),
    };
    assert!(
        told.contains(&&PluginEvent::DemoteFollower),
        "it is lost: {told:?}"
    );
    assert!(!told.iter().any(of_old), "{told:?}");
}

/// Its followers are suspected, and say that they live, while it does not get to read it.
#[test]
fn what_waits_in_a_late_device_s_socket_is_read_before_anyone_is_down() {
    let (mut wire, leader) = Wire::formed(3);
    wire.hold(move |flying| flying.to == address(leader));
    // Shortly before the four seconds are over.
    wire.run_for(ms(4_500));
    wire.stop(leader);
    wire.run_for(secs(3));
    wire.resume(leader);
    wire.run_for(ms(1));
    for flying in wire.caught.clone() {
        wire.inject(leader, flying.from, &flying.bytes);
    }
    wire.let_pass();
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        assert_eq!(state(&wire, leader, other), Some(PeerState::Member));
        assert!(!loses(&wire, leader, other));
    }
}

/// A message of unknown kind, one with a field more than this version knows, one that cannot be
/// read: the goodbye behind them counts, and it has a field more too.
#[test]
fn what_a_later_version_adds_is_passed_over_and_the_rest_counts() {
    let (mut wire, leader) = Wire::formed(3);
    let (newer, hearer) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = wire.status(hearer).counters;
    let (unknown, unreadable) = ([61, 0, 1, 0xc0], [9, 0, 1, 0xc0]);
    let goodbye = [13, 0, 3, 0x92, 7, 0xc0];
    wire.say(newer, hearer, &[&unknown[..], &unreadable].concat());
    wire.run_for(ms(5));
    let after = wire.status(hearer).counters;
    assert_eq!(after.messages_unknown, before.messages_unknown + 1);
    assert_eq!(after.datagrams_refused, before.datagrams_refused + 1);
    assert!(!leaves(&wire, hearer, newer), "nothing was said yet");
    let said = [&unknown[..], &unreadable, &goodbye].concat();
    wire.say(newer, hearer, &said);
    wire.run_for(ms(5));
    assert!(leaves(&wire, hearer, newer), "it said goodbye");
}

fn leaves(wire: &Wire, node: usize, other: usize) -> bool {
    let device = wire.id(other);
    wire.events(node).iter().any(|event| {
        matches!(event, Event::MemberRemoved { device: gone, reason: RemovalReason::Left } if *gone == device)
    })
}
