use rand::SeedableRng;

use super::*;

fn address(number: usize) -> Address {
    let number = u16::try_from(number).expect("few");
    let [high, low] = number.to_be_bytes();
    Address::Udp(([10, 0, high, low], 4747).into())
}

fn addresses(numbers: core::ops::Range<usize>) -> Vec<Address> {
    numbers.map(address).collect()
}

const fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

/// A device's discovery with its own time, driven as the node does.
struct Bench {
    discovery: Discovery,
    rng: ChaCha12Rng,
    members: usize,
    connected: BTreeSet<Address>,
}

impl Bench {
    fn new(seeds: &[Address], remembered: &[Address]) -> Self {
        Self {
            discovery: Discovery::new(at(0), seeds, remembered),
            rng: ChaCha12Rng::seed_from_u64(7),
            members: 0,
            connected: BTreeSet::new(),
        }
    }

    /// What is sent up to this time, with when.
    fn run_until(&mut self, end: Time) -> Vec<(Time, Output)> {
        let mut sent = Vec::new();
        loop {
            let now = self.discovery.next_timeout();
            if now > end {
                return sent;
            }
            let (members, connected) = (self.members, &self.connected);
            self.discovery
                .handle_timeout(now, members, connected, &mut self.rng);
            while let Some(output) = self.discovery.poll() {
                sent.push((now, output));
            }
            assert!(self.discovery.next_timeout() > now, "it moves on");
        }
    }
}

fn to_everyone(sent: &[(Time, Output)]) -> Vec<Time> {
    let everyone = |(at, output): &(Time, Output)| (*output == Output::Everyone).then_some(*at);
    sent.iter().filter_map(everyone).collect()
}

fn hellos(sent: &[(Time, Output)]) -> Vec<(Time, Address)> {
    let hello = |(at, output): &(Time, Output)| match output {
        Output::Hello(address) | Output::Call(_, address) => Some((*at, *address)),
        Output::Everyone => None,
    };
    sent.iter().filter_map(hello).collect()
}

#[test]
fn five_beacons_are_sent_quickly_after_start_and_change() {
    let mut bench = Bench::new(&[], &[]);
    let sent = to_everyone(&bench.run_until(at(3_000)));
    assert_eq!(sent, [0, 50, 150, 350, 750].map(at));
    bench.run_until(at(60_000));
    bench.discovery.restart(at(60_000));
    let sent = to_everyone(&bench.run_until(at(63_000)));
    assert_eq!(sent, [60_000, 60_050, 60_150, 60_350, 60_750].map(at));
    // A change amid the quick schedule starts it anew, and none is sent twice.
    bench.discovery.restart(at(70_000));
    let begun = to_everyone(&bench.run_until(at(70_200)));
    bench.discovery.restart(at(70_200));
    let anew = to_everyone(&bench.run_until(at(73_000)));
    assert_eq!(begun, [70_000, 70_050, 70_150].map(at));
    assert_eq!(anew, [70_200, 70_250, 70_350, 70_550, 70_950].map(at));
}

#[test]
fn a_loop_that_was_away_sends_one_beacon_for_all_it_missed() {
    let mut bench = Bench::new(&[], &[]);
    let connected = BTreeSet::new();
    for now in [0, 600, 601] {
        bench
            .discovery
            .handle_timeout(at(now), 0, &connected, &mut bench.rng);
    }
    let mut sent = 0;
    while bench.discovery.poll().is_some() {
        sent += 1;
    }
    // The one at 600 ms stands for 50 ms; 150 and 350 ms are due with it, one at each call.
    assert_eq!(sent, 3);
    assert_eq!(bench.discovery.next_timeout(), at(601));
}

#[test]
fn beacons_never_stop_and_thin_out_with_the_group() {
    for (members, least, most) in [
        (0, 3_750, 6_250),
        (100, 3_750, 6_250),
        (400, 15_000, 25_000),
        (1000, 37_500, 62_500),
    ] {
        let mut bench = Bench::new(&[], &[]);
        bench.members = members;
        let day = Duration::from_secs(24 * 3600);
        let sent = to_everyone(&bench.run_until(at(0) + day));
        let gaps: Vec<Duration> = sent[4..].windows(2).map(|w| w[1].since(w[0])).collect();
        let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
        assert!(gaps.iter().all(|gap| (least..=most).contains(gap)));
        assert!(sent.last().is_some_and(|last| *last + most >= at(0) + day));
        let spread = most - least;
        assert!(gaps.iter().any(|gap| *gap < least + spread / 10));
        assert!(gaps.iter().any(|gap| *gap > most - spread / 10));
    }
}

#[test]
fn every_address_is_said_hello_to_at_once() {
    let (seeds, remembered) = (addresses(0..40), addresses(35..60));
    let mut bench = Bench::new(&seeds, &remembered);
    bench.discovery.set_resolved(addresses(100..140));
    while bench.discovery.poll().is_some() {}
    let first = hellos(&bench.run_until(at(0)));
    let all: Vec<_> = (0..60)
        .chain(100..140)
        .map(|n| (at(0), address(n)))
        .collect();
    assert_eq!(first, all, "all in one turn, each once");
    bench.connected = addresses(0..99).into_iter().collect();
    let second = hellos(&bench.run_until(at(50)));
    let strangers: Vec<_> = (100..140).map(|n| (at(50), address(n))).collect();
    assert_eq!(second, strangers, "members are not said hello to");
}

#[test]
fn names_that_mean_another_address_are_followed() {
    let mut bench = Bench::new(&addresses(0..1), &[]);
    bench.run_until(at(60_000));
    let mut told = |numbers: core::ops::Range<usize>| {
        bench.discovery.set_resolved(addresses(numbers));
        let mut at_once = Vec::new();
        while let Some(output) = bench.discovery.poll() {
            at_once.push(output);
        }
        at_once
    };
    assert_eq!(told(0..3), [1, 2].map(|n| Output::Hello(address(n))));
    assert_eq!(told(2..4), [3].map(|n| Output::Hello(address(n))));
    // As often as names change, what they stood for before takes no room.
    for turn in 1..1000 {
        assert_eq!(told(turn * 4..turn * 4 + 4).len(), 4);
    }
    bench.discovery.restart(at(70_000));
    let sent = hellos(&bench.run_until(at(70_000)));
    let wanted = [0, 3996, 3997, 3998, 3999].map(|n| (at(70_000), address(n)));
    assert_eq!(sent, wanted);
}

#[test]
fn missing_members_are_called_in_turn_once_a_second_in_all() {
    let mut bench = Bench::new(&[], &[]);
    bench.run_until(at(10_000));
    for node in 0..3 {
        let first = node * 10;
        let places = addresses(first..first + 1 + node);
        bench
            .discovery
            .member_lost(at(10_000), NodeId(node as u64), places);
    }
    let called = hellos(&bench.run_until(at(22_500)));
    // Each at all its addresses in turn.
    let wanted = [10, 20, 0, 11, 21, 0, 10, 22, 0, 11, 20, 0];
    let wanted: Vec<_> = (11..).map(at_seconds).zip(wanted.map(address)).collect();
    assert_eq!(called, wanted);
    bench.discovery.member_found(NodeId(1));
    bench.discovery.member_found(NodeId(2));
    let called = hellos(&bench.run_until(at(30_500)));
    assert!(called.iter().all(|(_, to)| *to == address(0)));
    assert_eq!(called.len(), 8);
    bench.discovery.member_found(NodeId(0));
    assert_eq!(hellos(&bench.run_until(at(60_000))), []);
}

const fn at_seconds(seconds: u64) -> Time {
    at(seconds * 1000)
}

#[test]
fn a_member_lost_for_an_hour_is_called_no_more() {
    let mut bench = Bench::new(&[], &[]);
    bench
        .discovery
        .member_lost(at(0), NodeId(1), addresses(1..2));
    let half = at_seconds(1800);
    bench.run_until(half);
    bench
        .discovery
        .member_lost(half, NodeId(2), addresses(2..3));
    let called = hellos(&bench.run_until(at_seconds(3 * 3600)));
    let last = |number| {
        let to = address(number);
        called.iter().rfind(|(_, a)| *a == to).map(|(at, _)| *at)
    };
    let about = |seconds: u64| Some(at_seconds(seconds - 2))..Some(at_seconds(seconds));
    assert!(about(3600).contains(&last(1)), "{:?}", last(1));
    assert!(about(5400).contains(&last(2)), "{:?}", last(2));
}

#[test]
fn many_missing_members_cost_one_hello_a_second() {
    let mut bench = Bench::new(&[], &[]);
    for node in 0..3000 {
        bench
            .discovery
            .member_lost(at(0), NodeId(node), addresses(0..1));
    }
    assert_eq!(bench.discovery.missing.len(), MISSING_MAX);
    assert_eq!(hellos(&bench.run_until(at_seconds(100))).len(), 100);
}

#[test]
fn one_beacon_a_second_of_a_source_is_opened() {
    let mut discovery = Discovery::new(at(0), &[], &[]);
    let mut opened = Vec::new();
    for millis in (0..5_000).step_by(7) {
        if discovery.may_open(at(millis), address(1)) {
            opened.push(millis);
        }
    }
    assert_eq!(opened, [0, 1001, 2002, 3003, 4004]);
    assert!(discovery.may_open(at(4_999), address(2)), "others are free");
}

#[test]
fn a_flood_from_invented_addresses_is_bounded_and_passes() {
    let mut discovery = Discovery::new(at(0), &[], &[]);
    let opened = (0..50_000)
        .filter(|n| discovery.may_open(at(100), address(*n)))
        .count();
    assert_eq!(opened, 1024, "in one second");
    assert!(discovery.gate.sources() <= 2048);
    assert!(
        !discovery.may_open(at(900), address(60_000)),
        "refused amid"
    );
    assert!(
        discovery.may_open(at(1_000), address(60_000)),
        "opened after"
    );
    for second in 1..20 {
        for n in 0..5_000 {
            discovery.may_open(at(second * 1000), address(n));
        }
        assert!(discovery.gate.sources() <= 2048);
    }
}

#[test]
fn what_is_remembered_is_bounded_and_stored_seldom() {
    let mut discovery = Discovery::new(at(0), &[], &[]);
    assert_eq!(discovery.addresses_to_store(at(0)), None);
    discovery.reached(address(1));
    assert_eq!(discovery.addresses_to_store(at(1)), Some(addresses(1..2)));
    discovery.reached(address(1));
    assert_eq!(
        discovery.addresses_to_store(at(60_000)),
        None,
        "nothing new"
    );
    let mut stored = 0;
    for n in 0..1000 {
        discovery.reached(address(n));
        let now = at(60_000 + n as u64 * 100);
        if let Some(addresses) = discovery.addresses_to_store(now) {
            assert!(addresses.len() <= 32 && addresses.contains(&address(1)));
            stored += 1;
        }
    }
    assert_eq!(
        stored, 2,
        "the first at once, the rest of the 32 ten seconds later"
    );
    let members = addresses(0..1000).into_iter().collect();
    discovery.refresh_remembered(&members);
    assert_eq!(
        discovery.addresses_to_store(at(600_000)),
        None,
        "good enough"
    );
}

#[test]
fn members_that_moved_are_remembered_where_they_are() {
    let mut discovery = Discovery::new(at(0), &[], &addresses(0..40));
    let members: BTreeSet<Address> = addresses(100..103).into_iter().collect();
    for address in &members {
        discovery.reached(*address);
    }
    assert_eq!(
        discovery.addresses_to_store(at(0)),
        None,
        "there is no room"
    );
    discovery.refresh_remembered(&members);
    let stored = discovery.addresses_to_store(at(10)).expect("they are new");
    assert_eq!(stored[..3], addresses(100..103));
    assert_eq!(stored[3..], addresses(0..29), "the last ones make way");
    discovery.refresh_remembered(&members);
    assert_eq!(discovery.addresses_to_store(at(60_000)), None);
}

#[test]
fn in_a_large_group_one_quick_beacon_is_enough() {
    for (members, quick) in [(64, 5), (65, 1)] {
        let mut bench = Bench::new(&[], &[]);
        bench.members = members;
        let sent = to_everyone(&bench.run_until(at(1_000)));
        assert_eq!(sent.len(), quick, "{members} members");
    }
}
