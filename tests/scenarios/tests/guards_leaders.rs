//! Guards of a leader that was away or is out of hearing, on a wire in the test's hands.
//! docs/mutants.md lists them.

use std::time::Duration;

use bytes::Bytes;
use consort_proto::{PluginCommand, PluginEvent};
use consort_scenarios::wire::{Packet, Wire, address};
use consort_scenarios::{app, ms, secs};

/// Whether a node's plugin was told to lead no longer.
fn is_demoted(wire: &Wire, node: usize) -> bool {
    let demoted = |event: &PluginEvent| matches!(event, PluginEvent::DemoteLeader);
    wire.plugin_events(node).any(demoted)
}

/// What the others sent while they still followed it waits in its socket; what they sent as the
/// followers of its successor was lost.
#[test]
fn a_leader_that_was_away_does_not_count_who_followed_it() {
    let (mut wire, leader) = Wire::formed(3);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    wire.hold(move |flying| flying.to == address(leader));
    wire.stop(leader);
    wire.run_for(ms(700));
    wire.let_pass();
    wire.run_for(secs(2));
    wire.resume(leader);
    for flying in wire.caught.clone() {
        wire.inject(leader, flying.from, &flying.bytes);
    }
    wire.run_for(secs(3));
    assert!(is_demoted(&wire, leader), "it gives way");
    for other in others {
        assert!(!is_demoted(&wire, other), "to its successor");
    }
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

/// What the longest datagram of a leader that holds still, because it hears nobody, has beside a
/// probe; and what a heartbeat takes. It has led for `led` longer than it takes to form.
fn beside_probes(led: Duration) -> (usize, usize) {
    /// What seals a datagram, with its header.
    const SEALED: usize = 28;
    let (mut wire, leader) = Wire::formed(3);
    wire.run_for(led);
    wire.hold(move |flying| flying.to == address(leader));
    let holds = |wire: &Wire, held| {
        let told = wire.plugin_events(leader);
        told.last() == Some(&PluginEvent::BroadcastsHeld(held))
    };
    let mut began = 0;
    for _ in 0..1_000 {
        if holds(&wire, true) {
            break;
        }
        began = wire.sent.len();
        wire.run_for(ms(1));
    }
    wire.run_for(ms(245));
    assert!(holds(&wire, true), "for a round");
    let ends = wire.sent.len();
    wire.run_for(ms(10));
    assert!(holds(&wire, false), "and no longer");
    let announces = wire.sent.len();
    wire.run_for(ms(15));
    let said = |range: core::ops::Range<usize>| {
        let sent = wire.sent[range].iter();
        let sent = sent.filter(|flying| flying.from == address(leader));
        let data = sent.filter(|flying| flying.packet() == Packet::Data);
        data.map(|flying| flying.bytes.len()).collect::<Vec<_>>()
    };
    let (held, burst) = (said(began..ends), said(announces..wire.sent.len()));
    let (longest, probe) = (held.iter().max(), held.iter().min());
    let heartbeat = burst.iter().min().expect("it announces itself");
    let beside = longest.zip(probe).expect("it probes them");
    (beside.0 - beside.1, heartbeat - SEALED)
}

/// Its followers must not take it for one that hears them. Now and then a longer message may fall
/// into that round, so there are some.
#[test]
fn a_leader_that_hears_nobody_sends_no_heartbeat() {
    let silent = [0, 170, 340, 510, 680].map(|led| {
        let (beside, heartbeat) = beside_probes(ms(led));
        println!("after {led} ms: {beside} bytes beside a probe, a heartbeat takes {heartbeat}");
        beside < heartbeat
    });
    assert!(silent.contains(&true), "a heartbeat in each of the rounds");
}
