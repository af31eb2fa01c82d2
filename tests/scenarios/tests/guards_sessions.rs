//! Guards of handshakes, sessions and beacons against whoever reads along and sends again what it
//! read, from wherever it likes and as often as it likes. docs/mutants.md lists them.

use bytes::Bytes;
use consort_proto::{PeerState, PluginCommand, PluginEvent};
use consort_scenarios::wire::{Flying, Packet, Wire, address, caller};
use consort_scenarios::{app, ms, secs};

/// An address of nobody.
const STRANGER: usize = 60_000;

/// Whether a datagram of this kind goes from one node to another.
fn is(flying: &Flying, packet: Packet, from: usize, to: usize) -> bool {
    flying.packet() == packet && flying.from == address(from) && flying.to == address(to)
}

/// How many datagrams of this kind have gone from one node to another so far, or were kept back.
fn count(wire: &Wire, packet: Packet, from: usize, to: usize) -> usize {
    let sent = wire.sent.iter();
    sent.filter(|flying| is(flying, packet, from, to)).count()
}

/// What the stranger was sent.
fn astray(wire: &Wire) -> Vec<Packet> {
    let sent = wire.astray.iter();
    let sent = sent.filter(|flying| flying.to == address(STRANGER));
    sent.map(Flying::packet).collect()
}

/// The first that was sent of a kind, from one node to another.
fn first(wire: &Wire, packet: Packet, from: usize, to: usize) -> Flying {
    let mut sent = wire.sent.iter();
    let first = sent.find(|flying| is(flying, packet, from, to));
    first.expect("there is one").clone()
}

/// A direction in which an Init was sent that was not kept back.
fn dialled(wire: &Wire) -> (usize, usize) {
    let ways = [(0, 1), (1, 0)];
    let passed = |(from, to): &(usize, usize)| {
        let caught = wire.caught.iter();
        let caught = caught.filter(|flying| is(flying, Packet::Init, *from, *to));
        count(wire, Packet::Init, *from, *to) > caught.count()
    };
    ways.into_iter().find(passed).expect("they have met")
}

#[test]
fn an_init_that_was_overtaken_is_not_answered() {
    let mut wire = Wire::new(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    wire.run_for(ms(100));
    wire.let_pass();
    wire.run_for(secs(3));
    let (from, to) = dialled(&wire);
    let mut caught = wire.caught.iter();
    let early = caught.find(|flying| is(flying, Packet::Init, from, to));
    let early = early.expect("both dial at once").bytes.clone();
    wire.inject(to, address(STRANGER), &early);
    wire.run_for(ms(100));
    assert_eq!(astray(&wire), [], "later ones of that boot have come");
}

/// Whoever lacks the secret knows its name and the key of each device, and not what makes the code.
#[test]
fn an_init_with_another_code_is_not_answered() {
    let mut wire = Wire::new(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    wire.run_for(ms(100));
    let init = first(&wire, Packet::Init, 0, 1);
    let mut forged = init.bytes.to_vec();
    let code = forged.len() - 32;
    forged[code] ^= 1;
    wire.inject(1, address(STRANGER), &forged);
    wire.run_for(ms(50));
    assert_eq!(astray(&wire), [], "it is refused by its code");
    wire.inject(1, address(STRANGER), &init.bytes);
    wire.run_for(ms(50));
    assert_eq!(astray(&wire), [Packet::Response], "the genuine one is not");
}

#[test]
fn of_two_that_dial_each_other_at_once_one_answers() {
    let mut wire = Wire::new(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    let crossing = |wire: &Wire| {
        let ways = [(0, 1), (1, 0)].into_iter();
        let inits = ways.filter_map(|(from, to)| {
            let mut caught = wire.caught.iter();
            let init = caught.find(|flying| is(flying, Packet::Init, from, to))?;
            Some((to, init.clone()))
        });
        inits.collect::<Vec<_>>()
    };
    let mut inits = Vec::new();
    for _ in 0..100 {
        wire.run_for(ms(1));
        inits = crossing(&wire);
        if inits.len() == 2 {
            break;
        }
    }
    assert_eq!(inits.len(), 2, "both dial");
    for (to, init) in inits {
        wire.inject(to, init.from, &init.bytes);
    }
    wire.run_for(ms(50));
    let of = |packet| count(&wire, packet, 0, 1) + count(&wire, packet, 1, 0);
    assert_eq!(of(Packet::Response), 1, "the lower key's call is answered");
    assert!(of(Packet::Data) > 0, "and makes a session");
}

#[test]
fn copies_of_an_init_are_no_load() {
    let (mut wire, _) = Wire::formed(2);
    let (from, to) = dialled(&wire);
    let init = first(&wire, Packet::Init, from, to);
    for _ in 0..150 {
        wire.inject(to, address(STRANGER), &init.bytes);
    }
    wire.run_for(ms(100));
    assert_eq!(astray(&wire), [], "nobody is asked for a cookie");
    assert_eq!(wire.status(to).counters.handshakes_put_off, 0);
}

#[test]
fn an_init_for_an_earlier_run_is_answered_with_the_new_one_s_beacon() {
    let (mut wire, _) = Wire::formed(2);
    let (from, to) = dialled(&wire);
    let init = first(&wire, Packet::Init, from, to);
    wire.hold(|flying| flying.packet() == Packet::Init);
    wire.restart(to);
    wire.inject(to, address(STRANGER), &init.bytes);
    wire.run_for(ms(100));
    assert_eq!(astray(&wire), [Packet::Beacon]);
}

/// Whoever holds the secret could seal a beacon that says less than its device is able to.
#[test]
fn nobody_talks_two_devices_down_by_a_beacon() {
    let mut wire = Wire::new(2);
    wire.deny_aes(1);
    wire.hold(|flying| is(flying, Packet::Init, 1, 0));
    wire.run_for(secs(3));
    let init = first(&wire, Packet::Init, 0, 1);
    assert_eq!(init.bytes[0] & 0x0f, 3, "it offers what the beacon said");
    assert_eq!(
        count(&wire, Packet::Response, 1, 0),
        0,
        "and that is refused"
    );
}

/// Makes node 0 be under load; the beacon is one of its own.
fn load(wire: &mut Wire, caller: &mut consort_proto::Caller) {
    let mut sent = wire.sent.iter();
    let beacon = sent.find(|f| f.packet() == Packet::Beacon && f.from == address(0));
    let beacon = beacon.expect("it looks for others").bytes.clone();
    for number in 100..200 {
        let call = caller.call(&beacon).expect("a beacon of the group");
        wire.inject(0, address(number), &call);
    }
}

/// Node 0 is under load, and node 1 calls it with the cookie that it was given; the call is kept back.
/// Node 0 does not hear of node 1 otherwise.
fn called_with_a_cookie(caller: &mut consort_proto::Caller) -> (Wire, Flying) {
    let mut wire = Wire::new(2);
    wire.hold(|flying| match flying.packet() {
        Packet::Init => true,
        packet => packet == Packet::Beacon && flying.from == address(1),
    });
    wire.run_for(ms(2));
    load(&mut wire, caller);
    let plain = first(&wire, Packet::Init, 1, 0);
    wire.inject(0, address(1), &plain.bytes);
    wire.run_for(ms(2));
    assert_eq!(count(&wire, Packet::Cookie, 0, 1), 1);
    let mut caught = wire.caught.iter();
    let signed = caught.rfind(|flying| is(flying, Packet::Init, 1, 0));
    let signed = signed.expect("it calls again at once").clone();
    assert_ne!(signed.bytes[144..], [0; 16], "with the cookie");
    (wire, signed)
}

#[test]
fn a_cookie_is_good_for_its_own_address_only() {
    let (mut wire, signed) = called_with_a_cookie(&mut caller());
    wire.inject(0, address(1), &signed.bytes);
    wire.run_for(ms(2));
    assert_eq!(count(&wire, Packet::Response, 0, 1), 1, "it is good there");

    let (mut wire, signed) = called_with_a_cookie(&mut caller());
    wire.inject(0, address(STRANGER), &signed.bytes);
    wire.run_for(ms(2));
    assert_eq!(astray(&wire), [Packet::Cookie], "this address gets its own");
}

#[test]
fn a_cookie_is_good_for_two_minutes() {
    let mut caller = caller();
    let (mut wire, signed) = called_with_a_cookie(&mut caller);
    wire.run_for(secs(121));
    load(&mut wire, &mut caller);
    wire.inject(0, address(1), &signed.bytes);
    wire.run_for(ms(2));
    assert_eq!(count(&wire, Packet::Response, 0, 1), 0);
    assert_eq!(count(&wire, Packet::Cookie, 0, 1), 2, "it is given another");
}

#[test]
fn a_session_that_is_not_renewed_ends_after_twenty_minutes() {
    let (mut wire, _) = Wire::formed(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    let said = |wire: &Wire| count(wire, Packet::Data, 0, 1) + count(wire, Packet::Data, 1, 0);
    wire.run_for(secs(19 * 60));
    let before = said(&wire);
    wire.run_for(secs(5));
    assert!(said(&wire) > before, "until then it goes on");
    wire.run_for(secs(60));
    let before = said(&wire);
    wire.run_for(secs(60));
    assert_eq!(said(&wire), before, "nothing is said under it");
}

#[test]
fn a_session_is_renewed_when_it_has_sent_half_of_what_it_may() {
    let (mut wire, _) = Wire::formed(2);
    let before = count(&wire, Packet::Init, 0, 1);
    wire.wear_session(0, 1, (1 << 47) - 3);
    wire.run_for(secs(3));
    assert!(count(&wire, Packet::Init, 0, 1) > before);
    let Some(heard) = wire.status(1).peers[0].last_heard else {
        panic!("they are connected");
    };
    assert!(heard < secs(1), "and it goes on");
}

#[test]
fn a_session_sends_no_more_than_its_counter_can_number() {
    let (mut wire, _) = Wire::formed(2);
    wire.hold(|flying| flying.packet() == Packet::Init);
    wire.wear_session(0, 1, (1 << 48) - 3);
    let before = count(&wire, Packet::Data, 0, 1);
    wire.run_for(secs(3));
    assert_eq!(count(&wire, Packet::Data, 0, 1) - before, 3);
}

#[test]
fn a_beacon_from_everywhere_is_dialled_at_four_addresses() {
    let mut wire = Wire::new(2);
    wire.hold(|flying| flying.to == address(0));
    wire.run_for(ms(2));
    let beacon = first(&wire, Packet::Beacon, 1, 0);
    for number in 0..50 {
        wire.inject(0, address(STRANGER + number), &beacon.bytes);
    }
    wire.run_for(ms(100));
    let inits = wire.astray.iter().filter(|f| f.packet() == Packet::Init);
    assert_eq!(inits.count(), 4, "within a round");
}

#[test]
fn a_packet_held_back_over_a_restart_counts_for_nothing() {
    let (mut wire, _) = Wire::formed(2);
    wire.hold(|flying| is(flying, Packet::Data, 1, 0));
    let words = PluginCommand::SendToAll(Bytes::from_static(b"before"));
    wire.command(1, app().id, words);
    wire.restart(1);
    wire.let_pass();
    wire.run_for(secs(10));
    for late in wire.caught.clone() {
        wire.inject(0, late.from, &late.bytes);
    }
    wire.run_for(secs(2));
    let heard = |event: &PluginEvent| matches!(event, PluginEvent::PeerMessage { .. });
    assert!(!wire.plugin_events(0).any(heard), "its sender is gone");
    let peer = &wire.status(0).peers[0];
    assert_eq!(
        (peer.state, &peer.quarantined_clone),
        (PeerState::Member, &None)
    );
}

#[test]
fn of_one_source_one_beacon_a_second_is_opened() {
    let (mut wire, _) = Wire::formed(2);
    let mut sent = wire.sent.iter();
    let beacon = sent.find(|flying| flying.packet() == Packet::Beacon && flying.from == address(1));
    let mut spoilt = beacon.expect("it looks for others").bytes.to_vec();
    spoilt[116] ^= 1;
    let before = wire.status(0).counters.datagrams_refused;
    for second in 1..=3 {
        for _ in 0..50 {
            wire.inject(0, address(STRANGER), &spoilt);
        }
        let refused = wire.status(0).counters.datagrams_refused;
        assert_eq!(refused, before + second, "the others are not looked at");
        wire.run_for(ms(1_001));
    }
}
