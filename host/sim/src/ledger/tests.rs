//! The ledger finds what is wrong, each property once.

use bytes::Bytes;
use consort_proto::PluginSpec;

use super::*;
use crate::checker::testing::{app, device, place};

const GROUP: [u8; 16] = [1; 16];

fn group(app: &App) -> Group {
    (Some(GROUP), app.spec.group())
}

/// Device `byte` writes at `ms` milliseconds, and its node takes it in.
fn write(ledger: &mut Ledger, byte: u8, origin: Origin, act: Act, ms: u64) -> u64 {
    write_as(ledger, byte, origin, act, ms, None)
}

/// The same, where the node says that something else is under the key.
fn write_as(
    ledger: &mut Ledger,
    byte: u8,
    origin: Origin,
    act: Act,
    ms: u64,
    instead: Option<StateOutcome>,
) -> u64 {
    let number = ledger.next();
    let app = session(byte);
    ledger.record(Written {
        node: usize::from(byte),
        at: Time::from_micros(ms * 1000),
        origin,
        key: "k".into(),
        act,
        fate: Fate::Handed,
        seen: BTreeMap::new(),
        device: device(byte),
        session: app.session(),
        group: group(&app),
        physical: ms,
        highest: 0,
        term: (origin == Origin::Leader).then_some(3),
        before: None,
        near: Vec::new(),
        holders: BTreeMap::new(),
        kept: BTreeSet::new(),
        told_in: None,
    });
    let changes = instead.map(|outcome| update(origin, outcome).changes);
    let handled = StateUpdate {
        changes: changes.unwrap_or_default(),
        handled: 1,
        room: u64::MAX,
        whole: false,
    };
    tell(ledger, byte, &app, handled).expect("it is accounted for");
    number
}

/// The plugin on device `byte`, in the session of that number.
fn session(byte: u8) -> App {
    let mut app = app();
    app.forget(u64::from(byte));
    app
}

const PUT: Act = Act::Put {
    len: 20,
    expires_at: None,
};

fn tell(ledger: &mut Ledger, byte: u8, app: &App, update: StateUpdate) -> Result<(), String> {
    let event = PluginEvent::State(update);
    ledger.observe(&place(byte), &Observation::Told { app, event: &event })
}

fn update(origin: Origin, outcome: StateOutcome) -> StateUpdate {
    StateUpdate {
        changes: vec![StateChange {
            origin,
            key: "k".into(),
            outcome,
            own: false,
        }],
        handled: 0,
        room: u64::MAX,
        whole: false,
    }
}

fn value(number: u64) -> StateOutcome {
    StateOutcome::Put {
        value: message::payload(number, 20),
        expires_at: None,
    }
}

/// Device `byte` shows this under the key; the first complaint.
fn shows(ledger: &mut Ledger, byte: u8, origin: Origin, outcomes: &[StateOutcome]) -> String {
    let app = session(byte);
    let updates = outcomes
        .iter()
        .map(|outcome| update(origin, outcome.clone()));
    let mut results = updates.map(|update| tell(ledger, byte, &app, update));
    results.find_map(Result::err).unwrap_or_default()
}

/// What the judge says of two replicas that hold this.
fn verdict(ledger: &Ledger, told: [(Origin, Option<StateOutcome>); 2]) -> String {
    let told = told.map(|(origin, outcome)| {
        let entries = outcome.map(|outcome| ((origin, Arc::from("k")), outcome));
        entries.into_iter().collect::<crate::app::Told>()
    });
    let member = |byte: u8, told| Member {
        node: usize::from(byte),
        device: device(byte),
        session: u64::from(byte),
        told,
    };
    let members = [member(7, &told[0]), member(8, &told[1])];
    let at = Time::from_micros(1_000_000);
    let group: PluginSpec = app().spec;
    let group = (Some(GROUP), group.group());
    ledger
        .judge(group, &members, at, 1_000_000)
        .err()
        .unwrap_or_default()
}

fn both(ledger: &Ledger, origin: Origin, outcome: Option<StateOutcome>) -> String {
    verdict(ledger, [(origin, outcome.clone()), (origin, outcome)])
}

#[test]
fn values_are_what_somebody_wrote_here() {
    let mut ledger = Ledger::default();
    let number = write(&mut ledger, 7, Origin::Shared, PUT, 1);
    let garbled = StateOutcome::Put {
        value: Bytes::from_static(b"garbled"),
        expires_at: None,
    };
    let longer = StateOutcome::Put {
        value: message::payload(number, 30),
        expires_at: None,
    };
    assert_eq!(shows(&mut ledger, 8, Origin::Shared, &[value(number)]), "");
    for (origin, outcome, words) in [
        (Origin::Shared, garbled, "nobody wrote"),
        (Origin::Shared, value(99), "nobody made"),
        (Origin::Device(device(7)), value(number), "was made to"),
        (Origin::Shared, longer, "not as it was made"),
    ] {
        let problem = shows(&mut ledger, 8, origin, &[outcome]);
        assert!(problem.contains(words), "{problem:?} lacks {words:?}");
    }
}

#[test]
fn nothing_goes_back_at_a_replica() {
    let mut ledger = Ledger::default();
    let first = write(&mut ledger, 7, Origin::Shared, PUT, 1);
    let second = write(&mut ledger, 7, Origin::Shared, PUT, 2);
    let back = [value(second), value(first)];
    assert!(shows(&mut ledger, 8, Origin::Shared, &back).contains("goes back"));
    let again = [value(second), StateOutcome::Deleted, value(second)];
    assert_eq!(
        shows(&mut ledger, 12, Origin::Shared, &again),
        "",
        "nobody deleted it"
    );
    write(&mut ledger, 7, Origin::Shared, Act::Delete, 3);
    assert!(shows(&mut ledger, 9, Origin::Shared, &again).contains("had gone"));
    assert_eq!(
        shows(
            &mut ledger,
            10,
            Origin::Shared,
            &[value(first), value(second)]
        ),
        ""
    );
    let now = place(11).now;
    ledger.loosen(now);
    assert_eq!(shows(&mut ledger, 11, Origin::Shared, &back), "");
    ledger.settled = Some(now - core::time::Duration::from_micros(1));
    assert!(shows(&mut ledger, 11, Origin::Shared, &back).contains("goes back"));
}

#[test]
fn what_a_leap_of_time_at_a_start_took_may_come_back() {
    let mut ledger = Ledger::default();
    let number = write(&mut ledger, 7, Origin::Shared, PUT, 1);
    write(&mut ledger, 7, Origin::Shared, Act::Delete, 2);
    let again = [value(number), StateOutcome::Deleted, value(number)];
    let most = ledger.horizon;
    ledger.leap(9, most / 2);
    assert!(shows(&mut ledger, 9, Origin::Shared, &again).contains("had gone"));
    ledger.leap(10, most);
    assert_eq!(shows(&mut ledger, 10, Origin::Shared, &again), "");
}

#[test]
fn writes_are_accounted_for_once() {
    let mut ledger = Ledger::default();
    write(&mut ledger, 7, Origin::Shared, PUT, 1);
    let handled = StateUpdate {
        changes: Vec::new(),
        handled: 1,
        room: u64::MAX,
        whole: false,
    };
    let problem = tell(&mut ledger, 7, &session(7), handled).expect_err("none is left");
    assert!(problem.contains("more writes"), "{problem}");
}

#[test]
fn replicas_are_equal_and_nothing_is_lost() {
    let mut ledger = Ledger::default();
    let number = write(&mut ledger, 7, Origin::Shared, PUT, 1);
    assert_eq!(both(&ledger, Origin::Shared, Some(value(number))), "");
    assert!(both(&ledger, Origin::Shared, None).contains("nothing is there"));
    let one = (Origin::Shared, Some(value(number)));
    assert!(verdict(&ledger, [one, (Origin::Shared, None)]).contains("differ"));
    // A device that is not here may have taken its write along.
    let lost = write(&mut ledger, 9, Origin::Shared, PUT, 2);
    for number in [number, lost] {
        assert_eq!(both(&ledger, Origin::Shared, Some(value(number))), "");
    }
}

#[test]
fn deleted_keys_stay_deleted() {
    for origin in [Origin::Shared, Origin::Device(device(7)), Origin::Leader] {
        let mut ledger = Ledger::default();
        let number = write(&mut ledger, 7, origin, PUT, 1);
        write(&mut ledger, 7, origin, Act::Delete, 2);
        assert!(both(&ledger, origin, Some(value(number))).contains("supersedes it"));
        assert_eq!(both(&ledger, origin, None), "");
    }
}

#[test]
fn a_value_that_is_handed_over_late_lives_from_then_on() {
    // Meanwhile the group time of its writer was set back by an hour.
    const HOUR: u64 = 3_600_000;
    let mut ledger = Ledger::default();
    let act = Act::Put {
        len: 20,
        expires_at: Some((HOUR + 100) * 1000),
    };
    let number = write(&mut ledger, 7, Origin::Shared, act, HOUR);
    let late = Late {
        physical: 500,
        near: Vec::new(),
        term: None,
    };
    ledger.hand(&[number], Time::from_micros(500_000), &late);
    assert_eq!(both(&ledger, Origin::Shared, None), "", "its time is over");
    let act = ledger.get(number).map(|written| written.act);
    let expires_at = Some(600_000);
    assert_eq!(
        act,
        Some(Act::Put {
            len: 20,
            expires_at
        })
    );
}

#[test]
fn of_concurrent_writes_either_may_win_and_the_later_one_must() {
    let mut ledger = Ledger::default();
    let mut numbers = Vec::new();
    for (byte, ms) in [(7, 5), (8, 5), (7, 9)] {
        numbers.push(write(&mut ledger, byte, Origin::Shared, PUT, ms));
    }
    let last = numbers[2];
    assert!(both(&ledger, Origin::Shared, Some(value(numbers[1]))).contains("supersedes"));
    assert_eq!(both(&ledger, Origin::Shared, Some(value(last))), "");
    let rival = write(&mut ledger, 8, Origin::Shared, PUT, 9);
    for number in [last, rival] {
        assert_eq!(both(&ledger, Origin::Shared, Some(value(number))), "");
    }
}

#[test]
fn what_was_reported_superseded_is_not_served() {
    let mut ledger = Ledger::default();
    let adopted = write(&mut ledger, 7, Origin::Leader, PUT, 1);
    let event = PluginEvent::WritesSuperseded(vec!["k".into()]);
    let seen = Observation::Told {
        app: &session(7),
        event: &event,
    };
    ledger
        .observe(&place(7), &seen)
        .expect("a report is in order");
    assert!(both(&ledger, Origin::Leader, Some(value(adopted))).contains("is superseded"));
    assert_eq!(both(&ledger, Origin::Leader, None), "");
    // If two led, the one that did not adopt it may be the one that the group leaves.
    let app = session(7);
    ledger.contest(group(&app), 8, &["k".into()]);
    assert!(
        both(&ledger, Origin::Leader, Some(value(adopted))).contains("is superseded"),
        "another session was told nothing"
    );
    ledger.contest(group(&app), 7, &["k".into()]);
    for holds in [Some(value(adopted)), None] {
        assert_eq!(both(&ledger, Origin::Leader, holds), "");
    }
}

#[test]
fn counters_are_the_sum_of_what_cannot_be_lost() {
    let mut ledger = Ledger::default();
    for (byte, delta) in [(7, 5), (8, 7), (9, 20), (9, 40)] {
        write(&mut ledger, byte, Origin::Counter, Act::Add(delta), 1);
    }
    let sum = |sum| both(&ledger, Origin::Counter, Some(StateOutcome::Counted(sum)));
    for right in [12, 32, 72] {
        assert_eq!(sum(right), "", "{right}");
    }
    for wrong in [0, 5, 52, 73] {
        assert!(sum(wrong).contains("would be right"), "{wrong}");
    }
}

#[test]
fn a_refused_write_of_a_leader_is_told_to_it() {
    for (key, complaint) in [("k", ""), ("another", "was not told")] {
        let mut ledger = Ledger::default();
        let before = write(&mut ledger, 7, Origin::Leader, PUT, 1);
        // Its value is not there: what was is what the update says.
        let refused = write_as(&mut ledger, 7, Origin::Leader, PUT, 2, Some(value(before)));
        assert_eq!(ledger.get(refused).map(|w| w.fate), Some(Fate::Refused));
        let app = session(7);
        let event = PluginEvent::WritesSuperseded(vec![key.into()]);
        let told = Observation::Told {
            app: &app,
            event: &event,
        };
        ledger.observe(&place(7), &told).expect("it is heard");
        let verdict = both(&ledger, Origin::Leader, Some(value(before)));
        assert!(verdict.contains(complaint), "{verdict}");
        assert_eq!(verdict.is_empty(), complaint.is_empty(), "{verdict}");
    }
}
