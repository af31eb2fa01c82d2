//! Guards that no fault of a network or a device puts to the test, but somebody who means harm: one
//! who reads along and forges addresses, or a member that lies. docs/mutants.md lists them.

use bytes::Bytes;
use consort_proto::{Event, Lie, PluginCommand, PluginEvent, RemovalReason};
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

#[test]
fn a_leader_that_was_away_looks_around_before_it_speaks() {
    let (mut wire, leader) = Wire::formed(3);
    wire.stop(leader);
    wire.run_for(secs(5));
    wire.resume(leader);
    let words = PluginCommand::Broadcast(Bytes::from_static(b"as before"));
    wire.command(leader, app().id, words);
    wire.run_for(secs(3));
    for node in 0..3 {
        let heard = |event: &&PluginEvent| matches!(event, PluginEvent::LeaderMessage { .. });
        assert_eq!(wire.plugin_events(node).find(heard), None, "n{node}");
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
