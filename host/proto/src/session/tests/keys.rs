//! Several secrets of one group at once.

use super::*;

fn newer_keys() -> GroupKeys {
    let mut random = [3; 48];
    random[16..].fill(8);
    GroupSecret::from_random(&random).derive()
}

/// Delivers what one sends to the other, and the answers, until all is quiet; texts that arrived.
fn deliver_all(a: &mut Device, b: &mut Device) -> Vec<Incoming> {
    let mut got = Vec::new();
    loop {
        let flying: Vec<Flying> = a.sent().into_iter().chain(b.sent()).collect();
        if flying.is_empty() {
            return got;
        }
        for datagram in flying {
            let to = if datagram.to == a.address {
                &mut *a
            } else {
                &mut *b
            };
            got.push(to.receive(&datagram));
        }
    }
}

#[test]
fn a_packet_names_the_secret_it_is_under() {
    let (old, new) = (group_keys(), newer_keys());
    for dialled_under in [&old, &new] {
        let mut late = Device::with(1, 11, true, dialled_under);
        let mut member = Device::with(2, 22, true, &new);
        member.sessions.set_keys(&[new.clone(), old.clone()]);
        late.connect(&member);
        settle(&mut late, &mut member);
        assert_both_ways(&mut late, &mut member);
        for (device, peer) in [(&late, &member), (&member, &late)] {
            let kid = device.sessions.kid(&peer.public);
            assert_eq!(kid, Some(dialled_under.kid));
        }
    }
}

#[test]
fn a_session_is_renewed_under_another_secret_without_a_gap() {
    let (old, new) = (group_keys(), newer_keys());
    for lower_renews in [true, false] {
        let (mut a, mut b) = connected();
        for device in [&mut a, &mut b] {
            device.sessions.set_keys(&[new.clone(), old.clone()]);
        }
        a.send(&b.public, b"before").expect("a session");
        let under_way = a.sent_one();
        let (from, to) = if lower_renews {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        let (peer, flags) = (to.public, to.flags);
        from.run(|s, ctx| s.renew(ctx, &peer, flags, new.kid));
        deliver_all(from, to);
        assert_eq!(a.sessions.kid(&b.public), Some(new.kid));
        assert_eq!(b.sessions.kid(&a.public), Some(new.kid));
        assert!(
            matches!(b.receive(&under_way), Incoming::Data { .. }),
            "what was under way is not lost"
        );
        assert_both_ways(&mut a, &mut b);
        assert_eq!(a.events().len() + b.events().len(), 0, "nobody notices");
    }
}

#[test]
fn a_secret_that_was_removed_admits_nobody_and_ends_attempts() {
    let (old, new) = (group_keys(), newer_keys());
    let (mut late, mut member) = pair();
    member.sessions.set_keys(core::slice::from_ref(&new));
    late.connect(&member);
    let init = late.sent_one();
    assert_eq!(member.receive(&init), Incoming::Nothing);
    assert_eq!(member.counters.datagrams_refused, 1);
    assert_eq!(member.sent(), []);

    late.sessions.set_keys(core::slice::from_ref(&new));
    late.check_indices();
    assert!(!late.sessions.is_connecting(&member.public));
    late.connect(&member);
    assert_eq!(late.sent(), [], "it cannot dial under the old one: {old:?}");
}

#[test]
fn sessions_under_a_removed_secret_end_when_told_to() {
    let (old, new) = (group_keys(), newer_keys());
    let (mut a, mut b) = connected();
    a.sessions.set_keys(&[new.clone(), old]);
    assert_eq!(a.sessions.close_foreign(|_| false), []);
    a.sessions.set_keys(&[new]);
    assert_both_ways(&mut a, &mut b);
    assert_eq!(a.sessions.close_foreign(|_| true), [], "it is spared");
    let closed = a.sessions.close_foreign(|_| false);
    assert_eq!(closed, [(b.public, Some(b.address))]);
    a.check_indices();
    assert_eq!(a.send(&b.public, b"x"), Err(NoSession));
    b.send(&a.public, b"x").expect("it does not know");
    let late = b.sent_one();
    assert_eq!(a.receive(&late), Incoming::Nothing);
}
