//! Silence, and how long it takes to be noticed.

use super::*;

const T: Duration = Duration::from_millis(250);
const PEER: NodeId = NodeId(7);

/// Lets time pass until the peer is lost; when that was.
fn lost_after(liveness: &mut Liveness, limit: Duration) -> Option<Duration> {
    let end = Time::ZERO + limit;
    while liveness.next_timeout() <= end {
        let now = liveness.next_timeout();
        liveness.handle_timeout(now);
        while let Some(output) = liveness.poll() {
            if output == Output::Lost(PEER) {
                return Some(now.since(Time::ZERO));
            }
        }
    }
    None
}

fn watching() -> Liveness {
    let mut liveness = Liveness::new(Time::ZERO, T);
    liveness.heard(Time::ZERO, PEER);
    liveness.watch(Time::ZERO, &BTreeSet::from([PEER]));
    liveness
}

#[test]
fn a_silent_leader_is_lost_after_ten_probes() {
    let took = lost_after(&mut watching(), Duration::from_secs(60));
    assert_eq!(took, Some(T * 12 / 5 + T));
}

#[test]
fn a_device_that_lags_waits_longer_and_no_longer_once_it_is_well() {
    let mut liveness = watching();
    liveness.set_patience(5);
    let patient = lost_after(&mut liveness, Duration::from_secs(60));
    assert_eq!(patient, Some((T * 12 / 5 + T) * 5));
    let mut liveness = watching();
    liveness.set_patience(5);
    liveness.set_patience(1);
    let well = lost_after(&mut liveness, Duration::from_secs(60));
    assert_eq!(well, Some(T * 12 / 5 + T));
}

#[test]
fn a_follower_that_answers_no_heartbeat_any_longer_is_lost() {
    let mut liveness = Liveness::new(Time::ZERO, T);
    liveness.heard(Time::ZERO, PEER);
    let limit = Duration::from_secs(60);
    assert_eq!(lost_after(&mut liveness, limit), None, "nobody watches it");
    let mut liveness = Liveness::new(Time::ZERO, T);
    liveness.heard(Time::ZERO, PEER);
    liveness.attended(PEER);
    assert_eq!(lost_after(&mut liveness, limit), Some(T * 24 / 5 + T));
    assert_eq!(lost_after(&mut liveness, limit * 2), None, "once");
}

#[test]
fn one_answer_ends_a_suspicion() {
    let mut liveness = watching();
    assert_eq!(lost_after(&mut liveness, T * 3), None);
    assert!(liveness.is_suspect(PEER));
    liveness.heard(Time::ZERO + T * 3, PEER);
    assert!(!liveness.is_suspect(PEER));
    assert_eq!(liveness.poll(), Some(Output::Cleared(PEER)));
    let took = lost_after(&mut liveness, Duration::from_secs(60));
    assert_eq!(took, Some(T * 3 + T * 12 / 5 + T), "the silence began anew");
}

#[test]
fn in_a_large_group_the_first_answer_ends_the_probes_of_a_new_session() {
    for (thrifty, expected) in [(false, 3), (true, 1)] {
        let mut liveness = Liveness::new(Time::ZERO, T);
        liveness.set_thrifty(thrifty);
        liveness.connected(Time::ZERO, PEER);
        let answered = Time::ZERO + Duration::from_millis(1);
        let timing = liveness.timing_mut(PEER);
        assert!(timing.echoed(answered, stamp(Time::ZERO), 0).is_some());
        liveness.measured(PEER);
        let mut probes = 0;
        while liveness.next_timeout() < Time::ZERO + ROUND {
            let now = liveness.next_timeout();
            liveness.handle_timeout(now);
        }
        while let Some(output) = liveness.poll() {
            probes += usize::from(output == Output::Probe(PEER));
        }
        assert_eq!(probes, expected, "thrifty {thrifty}");
    }
}
