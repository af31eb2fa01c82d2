//! Two boots of one key: restarts, and devices that are copies.

use super::*;

const JUST_AFTER_MARGIN: Duration = Duration::from_millis(5_001);

/// A member that had a session with `elder`, and has one with `newer`, of the same key.
struct Trio {
    member: Device,
    elder: Device,
    newer: Device,
}

/// `newer` runs at `at`: where the elder was, if it is a restart.
fn trio(at: Address) -> Trio {
    let (mut member, mut elder) = connected();
    let mut newer = elder.restarted(77);
    newer.address = at;
    for device in [&mut member, &mut elder, &mut newer] {
        device.now += Duration::from_secs(10);
    }
    newer.connect(&member);
    settle(&mut newer, &mut member);
    assert_eq!(member.sessions.boot(&newer.public), Some(newer.boot));
    assert_eq!(member.events().len(), 1);
    newer.events();
    Trio {
        member,
        elder,
        newer,
    }
}

impl Trio {
    fn clone() -> Self {
        trio(address(9))
    }

    fn pass(&mut self, duration: Duration) {
        for device in [&mut self.member, &mut self.elder, &mut self.newer] {
            device.wait(duration);
        }
    }

    /// The elder proves that it runs.
    fn quarantined() -> Self {
        let mut trio = Self::clone();
        trio.pass(JUST_AFTER_MARGIN);
        trio.member.connect(&trio.elder);
        settle(&mut trio.member, &mut trio.elder);
        trio
    }
}

fn speak(from: &mut Device, to: &mut Device) -> Incoming {
    from.send(&to.public, b"here").expect("a session");
    let datagram = from.sent_one();
    to.receive(&datagram)
}

fn is_clone(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Cloned { .. })
}

#[test]
fn a_packet_held_back_over_a_restart_is_a_hint_and_no_proof() {
    let (mut member, mut elder) = connected();
    elder.send(&member.public, b"held back").expect("a session");
    let held_back = elder.sent_one();
    let mut newer = elder.restarted(77);
    newer.now += Duration::from_secs(10);
    member.now += Duration::from_secs(10);
    newer.connect(&member);
    settle(&mut newer, &mut member);
    member.events();
    member.wait(JUST_AFTER_MARGIN);
    assert_eq!(member.receive(&held_back), Incoming::Nothing);
    let hint = SessionEvent::RivalHeard {
        peer: elder.public,
        boot: elder.boot,
        address: elder.address,
        dial: true,
    };
    assert_eq!(member.events(), [hint]);
    member.connect(&elder);
    let inits = member.sent();
    assert_eq!(inits.len(), 1, "it is dialled");
    let answered = newer.receive(&inits[0]);
    assert!(matches!(answered, Incoming::WantsBeacon { .. }));
    assert_eq!(member.sessions.boot(&newer.public), Some(newer.boot));
    assert!(!member.events().iter().any(is_clone));
}

#[test]
fn an_elder_that_answers_is_kept_and_the_newer_is_quarantined() {
    let mut trio = Trio::quarantined();
    let events = trio.member.events();
    let clone = SessionEvent::Cloned {
        peer: trio.elder.public,
        kept_at: trio.elder.address,
        refused_at: trio.newer.address,
    };
    assert_eq!(events.last(), Some(&clone), "{events:?}");
    assert_eq!(
        trio.member.sessions.boot(&trio.elder.public),
        Some(trio.elder.boot)
    );
    assert_both_ways(&mut trio.member, &mut trio.elder);
    let heard = speak(&mut trio.newer, &mut trio.member);
    assert_eq!(heard, Incoming::Nothing, "nothing of it counts");
    let told = SessionEvent::RivalHeard {
        peer: trio.newer.public,
        boot: trio.newer.boot,
        address: trio.newer.address,
        dial: false,
    };
    assert_eq!(trio.member.events(), [told]);
    let peer = trio.newer.public;
    trio.member
        .run(|s, ctx| s.send_to_rival(ctx, &peer, b"told"))
        .expect("it can be told");
    let notice = trio.member.sent_one();
    assert_eq!(notice.to, trio.newer.address);
    assert!(matches!(trio.newer.receive(&notice), Incoming::Data { .. }));
}

#[test]
fn an_elder_counts_for_nothing_in_the_first_five_seconds() {
    let mut trio = Trio::clone();
    trio.pass(Duration::from_secs(5));
    let before = trio.member.refused();
    assert_eq!(speak(&mut trio.elder, &mut trio.member), Incoming::Nothing);
    assert_eq!(trio.member.refused(), before + 1);
    assert_eq!(trio.member.events(), []);
    trio.member.connect(&trio.elder);
    assert_eq!(trio.member.sent(), [], "it is not dialled either");
    trio.elder.wait(Duration::from_secs(20));
    trio.elder.connect(&trio.member);
    settle(&mut trio.elder, &mut trio.member);
    assert_eq!(
        trio.member.sessions.boot(&trio.newer.public),
        Some(trio.newer.boot),
        "nor by dialling"
    );
}

#[test]
fn a_handshake_begun_in_time_and_confirmed_late_is_no_proof() {
    let mut trio = Trio::clone();
    trio.pass(Duration::from_secs(3));
    trio.elder.wait(Duration::from_secs(20));
    trio.elder.connect(&trio.member);
    let init = trio.elder.sent_one();
    trio.member.receive(&init);
    let response = trio.member.sent_one();
    trio.elder.receive(&response);
    let held_back = trio.elder.sent_one();
    trio.pass(Duration::from_secs(10));
    trio.member.receive(&held_back);
    assert_eq!(
        trio.member.sessions.boot(&trio.newer.public),
        Some(trio.newer.boot)
    );
    assert!(!trio.member.events().iter().any(is_clone));
}

#[test]
fn a_quarantined_boot_takes_over_once_the_kept_one_is_silent_for_fifteen_seconds() {
    let mut trio = Trio::quarantined();
    trio.member.events();
    trio.pass(Duration::from_millis(14_900));
    speak(&mut trio.newer, &mut trio.member);
    trio.member.events();
    trio.member.connect(&trio.newer);
    assert_eq!(trio.member.sent(), [], "not yet");
    trio.pass(Duration::from_millis(1_100));
    speak(&mut trio.newer, &mut trio.member);
    let dials = |event: &SessionEvent| matches!(event, SessionEvent::RivalHeard { dial: true, .. });
    assert!(trio.member.events().iter().any(dials));
    trio.member.connect(&trio.newer);
    settle(&mut trio.member, &mut trio.newer);
    assert_eq!(
        trio.member.sessions.boot(&trio.newer.public),
        Some(trio.newer.boot)
    );
    assert_both_ways(&mut trio.member, &mut trio.newer);
}

#[test]
fn a_third_boot_waits_while_a_quarantined_one_runs() {
    let mut trio = Trio::quarantined();
    trio.member.events();
    let mut third = trio.newer.restarted(99);
    third.address = trio.newer.address;
    third.now = trio.member.now;
    third.connect(&trio.member);
    settle(&mut third, &mut trio.member);
    let kept = Some(trio.elder.boot);
    assert_eq!(trio.member.sessions.boot(&third.public), kept);
    assert!(!trio.member.events().iter().any(is_clone), "said before");
}

#[test]
fn the_older_of_two_opinions_prevails() {
    let opinion = |kept, refused, since: u64| Opinion {
        kept: BootId(kept),
        refused: BootId(refused),
        since: Time::from_micros(since * 1_000_000),
    };
    let (mut member, elder) = connected();
    let peer = elder.public;
    let mut learn = |told| {
        member.sessions.learn_opinion(&peer, told);
        member.sessions.opinions[&peer]
    };
    assert_eq!(learn(opinion(8, 7, 50)), opinion(8, 7, 50));
    assert_eq!(learn(opinion(7, 8, 60)), opinion(8, 7, 50));
    assert_eq!(learn(opinion(7, 8, 40)), opinion(7, 8, 40));
    assert_eq!(learn(opinion(7, 8, 30)), opinion(7, 8, 30));
    assert_eq!(learn(opinion(8, 7, 30)), opinion(7, 8, 30), "equally old");
}

#[test]
fn a_member_that_was_told_keeps_the_same_boot_whichever_it_met_first() {
    let mut trio = Trio::clone();
    let peer = trio.newer.public;
    let told = Opinion {
        kept: trio.elder.boot,
        refused: trio.newer.boot,
        since: Time::ZERO,
    };
    trio.member.sessions.learn_opinion(&peer, told);
    trio.member.connect(&trio.elder);
    settle(&mut trio.member, &mut trio.elder);
    assert_eq!(trio.member.sessions.boot(&peer), Some(trio.elder.boot));
}

#[test]
fn a_quarantined_boot_is_not_heard_under_a_secret_that_is_gone() {
    let mut trio = Trio::quarantined();
    trio.member.events();
    let mut random = [3; 48];
    random[16..].fill(8);
    let fresh = GroupSecret::from_random(&random).derive();
    let (peer, kid) = (trio.elder.public, fresh.kid);
    for device in [&mut trio.member, &mut trio.elder] {
        device.sessions.set_keys(&[fresh.clone(), group_keys()]);
    }
    let flags = trio.elder.flags;
    trio.member.run(|s, ctx| s.renew(ctx, &peer, flags, kid));
    settle(&mut trio.member, &mut trio.elder);
    assert_eq!(trio.member.sessions.kid(&peer), Some(kid));
    speak(&mut trio.newer, &mut trio.member);
    let heard = |event: &SessionEvent| matches!(event, SessionEvent::RivalHeard { .. });
    assert!(
        trio.member.events().iter().any(heard),
        "under a secret in use"
    );

    trio.member.sessions.set_keys(core::slice::from_ref(&fresh));
    let lost = trio.member.sessions.close_foreign(|_| false);
    assert_eq!(
        lost,
        [],
        "the boot that is kept has a session under the fresh one"
    );
    let before = trio.member.refused();
    assert_eq!(speak(&mut trio.newer, &mut trio.member), Incoming::Nothing);
    assert_eq!(trio.member.refused(), before + 1);
    assert!(!trio.member.events().iter().any(heard));
    assert_both_ways(&mut trio.member, &mut trio.elder);
}
