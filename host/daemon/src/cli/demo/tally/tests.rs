use consort_proto::PublicKey;

use super::*;

struct Run {
    tally: Tally,
    ids: Vec<DeviceId>,
    notes: Vec<Note>,
}

fn ms(at: u64) -> Duration {
    Duration::from_millis(at)
}

impl Run {
    fn new(nodes: u8) -> Self {
        let id = |byte| PublicKey::new([byte; 32]).expect("valid").device_id();
        let ids: Vec<DeviceId> = (10..10 + nodes).map(id).collect();
        Self {
            tally: Tally::new(&ids),
            ids,
            notes: Vec::new(),
        }
    }

    fn says(&mut self, at: u64, device: usize, said: Heartbeat) {
        self.notes.extend(self.tally.apply(ms(at), device, &said));
    }

    /// `leader` is promoted, everyone else who runs follows.
    fn led(&mut self, at: u64, leader: usize, term: u64, followers: &[usize]) {
        self.says(at, leader, Heartbeat::Promoted { term });
        for device in followers {
            let following = Heartbeat::Following {
                leader: self.ids[leader],
                term,
            };
            self.says(at + 5, *device, following);
        }
    }

    fn sends(&mut self, at: u64, leader: usize, term: u64, n: u64, hearers: &[usize]) {
        self.says(at, leader, Heartbeat::Broadcast { n, term });
        let from = self.ids[leader];
        for device in hearers {
            self.says(at + 2, *device, Heartbeat::Heard { n, term, from });
        }
    }
}

#[test]
fn a_run_with_a_killed_leader_adds_up() {
    let mut run = Run::new(3);
    run.led(2100, 1, 1, &[0, 2]);
    run.sends(3100, 1, 1, 1, &[0, 1, 2]);
    run.sends(4100, 1, 1, 2, &[0, 1, 2]);
    run.tally.kill(ms(5000), 1);
    run.says(5700, 0, Heartbeat::LostLeader);
    run.says(5710, 2, Heartbeat::LostLeader);
    run.led(5900, 2, 2, &[0]);
    run.sends(6900, 2, 2, 1, &[0, 2]);
    let summary = run.tally.summary(ms(8000));
    let expected = Summary {
        v: 1,
        nodes: 3,
        leader: Some(run.ids[2].to_string()),
        term: Some(2),
        promotions: 2,
        broadcasts: 3,
        deliveries_expected: 8,
        deliveries: 8,
        duplicates: 0,
        failover_ms: Some(900),
        cold_start_ms: Some(2105),
    };
    assert_eq!(summary, expected);
    let vacant = Note::Vacant {
        device: 0,
        after_kill: Some(ms(700)),
    };
    assert_eq!(
        run.notes
            .iter()
            .filter(|note| matches!(note, Note::Vacant { .. }))
            .count(),
        1
    );
    assert!(run.notes.contains(&vacant), "{:?}", run.notes);
    let agreed = Note::Agreed {
        leader: 1,
        term: 1,
        followers: 2,
        cold_start: Some(ms(2105)),
    };
    assert!(run.notes.contains(&agreed), "{:?}", run.notes);
    let again = Note::Agreed {
        leader: 2,
        term: 2,
        followers: 1,
        cold_start: None,
    };
    assert!(run.notes.contains(&again), "{:?}", run.notes);
}

#[test]
fn losses_and_duplicates_show() {
    let mut run = Run::new(2);
    run.led(100, 0, 1, &[1]);
    run.sends(1000, 0, 1, 1, &[0]);
    run.sends(2000, 0, 1, 2, &[0, 1, 1, 1]);
    let summary = run.tally.summary(ms(5000));
    assert_eq!((summary.deliveries_expected, summary.deliveries), (4, 3));
    assert_eq!(summary.duplicates, 2);
    let lost = Note::Delivered {
        from: 0,
        n: 1,
        heard: 1,
        expected: 2,
    };
    assert!(run.notes.contains(&lost), "{:?}", run.notes);
}

#[test]
fn a_delivery_may_be_read_before_its_broadcast() {
    let mut run = Run::new(2);
    run.led(100, 0, 1, &[1]);
    let from = run.ids[0];
    run.says(
        1000,
        1,
        Heartbeat::Heard {
            n: 1,
            term: 1,
            from,
        },
    );
    run.says(1001, 0, Heartbeat::Broadcast { n: 1, term: 1 });
    run.says(
        1002,
        0,
        Heartbeat::Heard {
            n: 1,
            term: 1,
            from,
        },
    );
    let summary = run.tally.summary(ms(5000));
    assert_eq!(summary.broadcasts, 1);
    assert_eq!((summary.deliveries_expected, summary.deliveries), (2, 2));
}

#[test]
fn a_broadcast_logged_before_the_kill_counts_as_sent_to_all() {
    let mut run = Run::new(3);
    run.led(100, 0, 1, &[1, 2]);
    run.tally.kill(ms(1000), 0);
    // The pipe still held the killed device's last line; nobody heard of it.
    run.says(1003, 0, Heartbeat::Broadcast { n: 1, term: 1 });
    let summary = run.tally.summary(ms(5000));
    assert_eq!(
        (
            summary.broadcasts,
            summary.deliveries_expected,
            summary.deliveries
        ),
        (1, 3, 0)
    );
}

#[test]
fn the_last_half_second_and_the_not_yet_joined_do_not_count() {
    let mut run = Run::new(3);
    run.led(100, 0, 1, &[1]);
    run.sends(1000, 0, 1, 1, &[0, 1]);
    run.says(
        1500,
        2,
        Heartbeat::Following {
            leader: run.ids[0],
            term: 1,
        },
    );
    run.sends(2000, 0, 1, 2, &[0, 1, 2]);
    run.sends(2600, 0, 1, 3, &[0]);
    let summary = run.tally.summary(ms(3000));
    assert_eq!(
        (
            summary.broadcasts,
            summary.deliveries_expected,
            summary.deliveries
        ),
        (2, 5, 5)
    );
    assert_eq!(summary.cold_start_ms, Some(1500));
    assert_eq!(summary.failover_ms, None);
}

#[test]
fn the_same_number_in_another_tenure_is_another_broadcast() {
    let mut run = Run::new(1);
    run.led(100, 0, 1, &[]);
    run.sends(1000, 0, 1, 1, &[0]);
    run.says(1500, 0, Heartbeat::Demoted);
    assert_eq!(run.tally.leader(), None);
    run.led(1600, 0, 2, &[]);
    run.sends(2000, 0, 2, 1, &[0]);
    let summary = run.tally.summary(ms(5000));
    assert_eq!(
        (summary.promotions, summary.broadcasts, summary.deliveries),
        (2, 2, 2)
    );
    assert_eq!(summary.duplicates, 0);
}

#[test]
fn a_leader_that_is_started_anew_in_its_tenure_sends_no_duplicates() {
    let mut run = Run::new(2);
    run.led(100, 0, 1, &[1]);
    run.sends(1000, 0, 1, 1, &[0, 1]);
    run.says(1500, 0, Heartbeat::Promoted { term: 1 });
    run.sends(2500, 0, 1, 1, &[0, 1]);
    let summary = run.tally.summary(ms(5000));
    assert_eq!(
        (summary.promotions, summary.broadcasts, summary.deliveries),
        (2, 2, 4)
    );
    assert_eq!(summary.duplicates, 0);
}

#[test]
fn a_late_loss_is_no_second_vacancy() {
    let mut run = Run::new(3);
    run.led(100, 0, 1, &[1, 2]);
    run.tally.kill(ms(1000), 0);
    run.says(1700, 1, Heartbeat::LostLeader);
    run.says(1701, 1, Heartbeat::Promoted { term: 2 });
    run.says(1702, 2, Heartbeat::LostLeader);
    assert_eq!(
        run.notes
            .iter()
            .filter(|note| matches!(note, Note::Vacant { .. }))
            .count(),
        1
    );
}

#[test]
fn two_leaders_are_no_agreement() {
    let mut run = Run::new(2);
    run.led(100, 0, 1, &[]);
    run.led(200, 1, 2, &[]);
    assert_eq!(run.tally.leader(), Some((1, 2)));
    assert_eq!(run.tally.summary(ms(5000)).cold_start_ms, None);
    run.says(300, 0, Heartbeat::Demoted);
    run.says(
        310,
        0,
        Heartbeat::Following {
            leader: run.ids[1],
            term: 2,
        },
    );
    assert_eq!(run.tally.summary(ms(5000)).cold_start_ms, Some(310));
}
