use super::*;

const REFERENCE: NodeId = NodeId(9);
const OTHER: NodeId = NodeId(8);

fn at(us: u64) -> Time {
    Time::from_micros(us)
}

/// A reading that took half of `round_trip` here, and half of it there.
fn reading(now: Time, era: u64, truth: u64, round_trip: u32) -> Reading {
    Reading {
        source: REFERENCE,
        era,
        group: truth - u64::from(round_trip / 2),
        received: now,
        elapsed: round_trip,
        held: 0,
    }
}

/// What a reference shows that is ahead by `ahead` and runs `ppm` faster.
fn truth(us: u64, ahead: u64, ppm: i64) -> u64 {
    u64::try_from(i128::from(us + ahead) + share(us, ppm * 1000)).expect("positive")
}

/// Follows that reference from `from` on, a sample each quarter second; fails where the error
/// exceeds the bound or time runs back. The last error.
fn follow(clock: &mut GroupClock, from: u64, ticks: u64, ahead: u64, ppm: i64) -> u64 {
    let (mut last, mut error) = (0, 0);
    for tick in 0..ticks {
        let us = from + tick * 250_000;
        let late = 200 + u32::try_from(tick * 7919 % 5_000).expect("small");
        clock.sample(at(us), &reading(at(us), 7, truth(us, ahead, ppm), late));
        for later in [0, 100_000, 249_000] {
            let now = at(us + later);
            let group = clock.view.group_time(now);
            assert!(group >= last, "ran back at tick {tick}");
            last = group;
            error = group.abs_diff(truth(us + later, ahead, ppm));
            let bound = clock.view.error_bound_at(now);
            assert!(
                error <= bound,
                "{error} µs off at tick {tick}, said {bound}"
            );
        }
    }
    error
}

#[test]
fn a_follower_slews_to_the_reference_and_keeps_its_pace() {
    for ppm in [-400, 0, 200] {
        let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
        let error = follow(&mut clock, 0, 400, 1_000_000_500, ppm);
        assert!(error <= 12, "{ppm} ppm: still off by {error} µs");
        assert!(clock.view.synchronised);
    }
}

#[test]
fn without_its_reference_it_runs_on_at_the_pace_and_says_how_good_that_is() {
    let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
    follow(&mut clock, 0, 400, 1_000_000_500, 200);
    let mut before = 0;
    for later in [1, 10, 60, 600] {
        let us = 100_000_000 + later * 1_000_000;
        let error = clock
            .view
            .group_time(at(us))
            .abs_diff(truth(us, 1_000_000_500, 200));
        let bound = clock.view.error_bound_at(at(us));
        assert!(
            error <= bound && error < 30 + later * 5,
            "{error} of {bound}"
        );
        assert!(bound > before, "it grows");
        before = bound;
    }
    assert!(clock.view.synchronised);
}

#[test]
fn a_slew_ends_where_it_leads_to() {
    let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
    clock.sample(at(0), &reading(at(0), 7, 1_000_000_900, 100));
    clock.sample(at(9), &reading(at(9), 7, 1_000_000_909, 100));
    let group = clock.view.group_time(at(60_000_000));
    assert!(group.abs_diff(1_060_000_900) <= 1, "{group}");
}

#[test]
fn another_era_is_taken_over_with_one_step() {
    let mut clock = GroupClock::new(at(0), 2_000_000_000, 7);
    clock.poll();
    clock.sample(at(10_000), &reading(at(10_000), 8, 1_000_000_100, 200));
    assert_eq!(clock.view.group_time(at(10_000)), 1_000_000_100);
    assert!(matches!(clock.poll(), Some(Output::Changed(_))));
    assert!(matches!(clock.poll(), Some(Output::SetBack(_))));
    assert_eq!(clock.reading(at(10_000)).0, 8);
}

#[test]
fn an_era_a_few_milliseconds_behind_is_slewed_to() {
    let mut clock = GroupClock::new(at(0), 2_000_000_000, 6);
    clock.sample(at(0), &reading(at(0), 7, 2_000_000_000 - 5_000, 200));
    assert_eq!(clock.reading(at(0)), (7, 2_000_000_000));
    let error = follow(&mut clock, 0, 80, 1_999_995_000, 0);
    assert!(error <= 10, "{error}");
    let back = |output: &Output| matches!(output, Output::SetBack(_));
    assert!(!clock.outputs.iter().any(back));
}

#[test]
fn a_new_reference_carries_on_in_time_and_pace() {
    let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
    follow(&mut clock, 0, 400, 1_000_000_500, 200);
    let now = at(100_000_000);
    let (before, rate) = (clock.view.group_time(now), clock.view.rate_ppb);
    clock.lead(now);
    assert_eq!(clock.view.group_time(now), before);
    assert_eq!((clock.view.rate_ppb, clock.view.slew_ppb), (rate, 0));
    assert!((rate - 200_000).abs() < 5_000, "{rate}");
    assert_eq!(clock.view.error_bound_at(now + Duration::from_secs(99)), 0);
    assert!(
        clock.group_span(1_000_000).abs_diff(1_000_200) <= 5,
        "{rate}"
    );
}

#[test]
fn no_bound_is_known_before_the_first_sample_of_another_reference() {
    let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
    assert!(!clock.view.synchronised);
    clock.lead(at(0));
    assert!(clock.view.synchronised);
    clock.stand_down(at(1_000));
    assert_eq!(clock.view.error_bound_at(at(1_000)), u64::MAX);
    clock.sample(at(2_000), &reading(at(2_000), 7, 1_000_002_500, 100));
    clock.stand_down(at(2_000));
    clock.follow(at(2_000), REFERENCE);
    assert!(clock.view.synchronised, "it has a sample of this one");
    clock.follow(at(3_000), OTHER);
    assert!(!clock.view.synchronised);
}

#[test]
fn what_the_reference_held_a_stamp_for_passes_at_its_pace() {
    // This clock is 800 ppm slow: of the 250 ms that the stamp was held it shows 249.8.
    let mut clock = GroupClock::new(at(0), 1_000_000_000, 7);
    let mut error = 0;
    for tick in 0..400 {
        let us = tick * 249_800;
        let truth = truth(us, 1_000_000_000, 800);
        clock.sample(
            at(us),
            &Reading {
                elapsed: 249_900,
                held: 250_000,
                ..reading(at(us), 7, truth - 50, 0)
            },
        );
        error = clock.view.group_time(at(us)).abs_diff(truth);
        let bound = clock.view.error_bound_at(at(us));
        assert!(
            error <= bound,
            "{error} µs off at tick {tick}, said {bound}"
        );
    }
    assert!(error <= 20, "{error}");
}

#[test]
fn absurd_readings_overflow_nothing() {
    let mut clock = GroupClock::new(at(0), 0, 7);
    for (tick, (group, elapsed, held)) in [
        (u64::MAX, u32::MAX, 0),
        (0, 0, u32::MAX),
        (u64::MAX, u32::MAX, u32::MAX),
    ]
    .into_iter()
    .cycle()
    .take(60)
    .enumerate()
    {
        let now = at(tick as u64 * 3_000_000);
        let era = 7 + tick as u64 / 20;
        let reading = Reading {
            source: OTHER,
            era,
            group,
            received: now,
            elapsed,
            held,
        };
        clock.sample(now, &reading);
        clock.lead(now);
        assert!(clock.view.error_bound_at(Time::MAX) < u64::MAX);
    }
    assert!(clock.poll().is_some());
}
