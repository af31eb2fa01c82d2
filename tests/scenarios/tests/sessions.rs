//! Sessions in groups: how soon they open over a bad network, and that they are renewed without a
//! gap.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use consort_proto::{Access, DeviceId, PeerState};
use consort_scenarios::{all, app, form, group, ms, secs, settle};
use consort_sim::{Link, Sim, scenario};

/// Prints the quantiles of what was measured, for the documents.
fn print_quantiles(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "{what}: {} runs, p50 {:?}, p90 {:?}, p99 {:?}, largest {:?}",
        took.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

/// At a fifth of all datagrams lost, a handshake's round fails with probability 0.36 and 45 pairs
/// must succeed.
#[test]
fn ten_devices_start_cold_over_a_bad_network() {
    let name = "ten_devices_start_cold_over_a_bad_network";
    let took = RefCell::new(Vec::new());
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 10)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        took.borrow_mut().push(settle(&mut sim, &all(10), secs(15)));
    });
    print_quantiles("cold start of 10 at 20 % loss", took.into_inner());
}

/// Sessions end at twenty minutes, so three hours of messages take nine renewals of each. The
/// network doubles and reorders, and whatever is sent arrives once.
#[test]
fn sessions_are_renewed_for_hours_without_a_gap() {
    let name = "sessions_are_renewed_for_hours_without_a_gap";
    scenario(name, 1, |seed| {
        // Slow enough that something is under way at many a renewal.
        let link = Link {
            delay: ms(40),
            jitter: ms(40),
            duplicate: 0.2,
            reorder: 0.2,
            ..Link::lan()
        };
        let mut sim = group(name, seed, 3).link(link).build();
        form(&mut sim);
        sim.start_beat(&app(), ms(500), 64);
        sim.run_for(secs(3 * 3600));
        sim.stop_beats();
        sim.run_for(secs(1));
        let (got, expected) = (sim.messages(&app()), sim.stats().deliveries_expected);
        assert_eq!(got, expected, "sessions are renewed without a gap");
        assert_eq!(sim.promotions(&app()), 0);
    });
}

/// The same with a fifth of all datagrams lost: handshakes are lost as well, nobody is removed.
#[test]
fn sessions_are_renewed_over_a_bad_network() {
    let name = "sessions_are_renewed_over_a_bad_network";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 4)
            .link(Link::wireless().with_loss(0.2))
            .build();
        sim.start_all(ms(500));
        settle(&mut sim, &all(4), secs(30));
        sim.run_for(secs(10));
        sim.reset_counts();
        sim.start_beat(&app(), secs(2), 64);
        for _ in 0..6 {
            sim.run_for(secs(1800));
            let before = sim.messages(&app());
            sim.run_for(secs(20));
            sim.expect(sim.messages(&app()) > before + 10, "messages flow");
        }
        settle(&mut sim, &all(4), secs(10));
    });
}

fn only(sim: &Sim, nodes: &[usize]) -> BTreeSet<DeviceId> {
    nodes.iter().map(|node| sim.id(*node)).collect()
}

/// A member is denied by all others while it leads: it is out of every view at once, another one
/// leads, and nothing that it or the gossip about it does brings it back until it is admitted again.
#[test]
fn a_denied_device_is_out_and_stays_out() {
    let name = "a_denied_device_is_out_and_stays_out";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        let (denied, _) = form(&mut sim);
        let rest: Vec<usize> = (0..4).filter(|node| *node != denied).collect();
        let access = Access::new(None, only(&sim, &[denied])).expect("one device");
        for node in &rest {
            sim.set_access(*node, access.clone());
            let seen = sim.members_seen(*node);
            sim.expect(!seen.contains(&denied), "out of the view at once");
        }
        settle(&mut sim, &rest, secs(4));
        for _ in 0..120 {
            sim.run_for(secs(1));
            for node in &rest {
                let seen = sim.members_seen(*node);
                sim.expect(!seen.contains(&denied), "it stays out");
            }
            sim.expect(sim.agree(&app(), &rest).is_some(), "the others are a group");
        }
        sim.restart(denied, ms(500));
        sim.run_for(secs(30));
        let status = sim.status(rest[0]).expect("it runs");
        sim.expect(status.counters.handshakes_denied > 0, "it knocked in vain");
        let told = status.peers.iter().filter(|p| p.state == PeerState::Denied);
        let told: Vec<DeviceId> = told.map(|peer| peer.device).collect();
        assert_eq!(told, [sim.id(denied)], "and is told of");
        for node in &rest {
            sim.set_access(*node, Access::default());
        }
        settle(&mut sim, &all(4), secs(20));
    });
}

/// Of two devices that hold the secret the one that is not on the list never gets in.
#[test]
fn an_allow_list_admits_those_on_it_only() {
    let name = "an_allow_list_admits_those_on_it_only";
    scenario(name, 3, |seed| {
        let mut sim = group(name, seed, 4).build();
        let access = Access::new(Some(only(&sim, &[0, 1, 2])), BTreeSet::new());
        let access = access.expect("three devices");
        for node in 0..3 {
            sim.set_access(node, access.clone());
        }
        sim.start_all(ms(500));
        settle(&mut sim, &[0, 1, 2], secs(8));
        sim.run_for(secs(60));
        for node in 0..3 {
            let seen = sim.members_seen(node);
            sim.expect(!seen.contains(&3), "it never got in");
            let status = sim.status(node).expect("it runs");
            let told = status.peers.iter().find(|peer| peer.device == sim.id(3));
            let told = told.map(|peer| peer.state);
            sim.expect(told == Some(PeerState::Denied), "it is told of");
        }
        sim.expect(sim.leads(3, &app()), "it is a group of its own");
    });
}
