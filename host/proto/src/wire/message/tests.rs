use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::id::DeviceId;
use crate::keyring::Keyring;
use crate::keys::GroupSecret;
use crate::session::MAX_PLAINTEXT;
use crate::wire::part::{CHUNK, Class, DIGEST_LEN, GroupRef, Head, part_count, part_range};
use crate::wire::state::{
    Class as EntryClass, GroupSummary, Held, Purpose, Stamp, StreamId, Table, Tenure, WireEntry,
};

/// The first kind above all that are known.
const KIND_MAX: u8 = 33;

fn key() -> PublicKey {
    PublicKey::new([9; 32]).expect("no point of low order")
}

/// A part with the longest header.
fn part(total: usize, index: u8) -> Part {
    let head = Head {
        group: GroupRef::Key(GroupKey(u64::MAX)),
        class: Class::Broadcast,
        epoch: u64::MAX,
        seq: u64::MAX,
    };
    let len = part_range(total as u32, index.into()).len();
    Part {
        head,
        total: total as u32,
        index,
        chunk: Bytes::from(vec![0xc1; len]),
    }
}

fn branch(part: Part) -> Branch {
    Branch {
        origin: NodeId(u64::MAX),
        boot: BootId(u64::MAX),
        range: (1, u64::MAX),
        part,
    }
}

fn samples() -> Vec<Message> {
    let bulletin = Bulletin {
        seq: 1,
        record: 2,
        claims: vec![Claim {
            group: GroupKey(3),
            epoch: 4,
            followers: 5,
        }],
        follows: vec![Follow {
            group: GroupKey(6),
            epoch: 7,
        }],
        reports: vec![Report {
            group: GroupKey(8),
            epoch: 9,
            leader: NodeId(10),
            followers: 11,
            age_us: 12,
        }],
        seen: vec![Seen {
            group: GroupKey(13),
            epoch: 14,
        }],
        asks: vec![GroupKey::SYSTEM],
    };
    let address = Address::Udp("[fe80::1]:4747".parse().expect("valid"));
    vec![
        Message::Ping(Ping {
            sent: u32::MAX,
            bulletin: bulletin.clone(),
        }),
        Message::Pong(Pong {
            echo: 0,
            wall: u64::MAX,
            bulletin: Bulletin::default(),
        }),
        Message::Heartbeat(Heartbeat {
            sent: 1,
            echo: Some((2, 3)),
            clock: Some((4, 5)),
            bulletin: bulletin.clone(),
        }),
        Message::HeartbeatAck(HeartbeatAck {
            sent: 1,
            echo: 2,
            bulletin,
        }),
        Message::Membership(Bytes::from_static(b"foca's own")),
        Message::Query(Query {
            device: NodeId(1),
            relay: true,
        }),
        Message::Vouch(Vouch {
            device: NodeId(1),
            age_us: 2,
            claims: Vec::new(),
        }),
        Message::WhoIs(WhoIs { device: NodeId(1) }),
        Message::Introduce(Introduce {
            key: key(),
            boot: BootId(1),
            flags: Flags::new(false),
            address,
            heard: true,
        }),
        Message::DownNotice(DownNotice {
            incarnation: 1,
            down: true,
        }),
        Message::Goodbye(Goodbye {}),
        Message::CloneNotice(CloneNotice {
            refused: true,
            kept_at: address,
            refused_at: address,
        }),
        Message::CloneSeen(CloneSeen {
            device: NodeId(1),
            kept: BootId(2),
            refused: BootId(u64::MAX),
            age_ms: u32::MAX,
        }),
        Message::Release(Release {
            group: GroupKey(1),
            epoch: 2,
            successor: Some(NodeId(3)),
        }),
        Message::Part(part(3, 0)),
        Message::Part(Part {
            head: Head {
                group: GroupRef::Slot(30),
                class: Class::ToAll,
                epoch: 0,
                seq: 128,
            },
            ..part(0, 0)
        }),
        Message::Part(part(CHUNK + 1, 1)),
        Message::Relayed(Relayed {
            origin: NodeId(1),
            boot: BootId(2),
            part: part(4, 0),
        }),
        Message::Branch(branch(part(2 * CHUNK, 0))),
        Message::Notice(Notice {
            head: part(0, 0).head,
            total: 9,
            digest: [7; DIGEST_LEN],
        }),
        Message::Ask(Ask {
            origin: NodeId(1),
            boot: BootId(2),
            seq: 1 << 63,
            notice: true,
            missing: 5,
        }),
        Message::KeyringState(KeyringState {
            shape: keyring().shape(),
            failed: true,
            reply: false,
        }),
        Message::KeyringOffer(KeyringOffer::new(&keyring())),
        Message::Losses(Losses {
            losses: vec![Loss {
                group: GroupKey::SYSTEM,
                penalty: 1500,
            }],
        }),
    ]
    .into_iter()
    .chain(state_samples())
    .collect()
}

/// The messages of replicated state, with all that may be left out and without.
fn state_samples() -> Vec<Message> {
    let tenure = Tenure {
        epoch: 1,
        leader: NodeId(u64::MAX),
    };
    let table = Table {
        tenure,
        n: 2,
        cuts: vec![(tenure, 3)],
        lineage: vec![4, u32::MAX],
        stamped: u64::MAX,
    };
    let (writer, stamp) = (NodeId(5), Stamp(6));
    let streams = [
        StreamId::Leader(tenure),
        StreamId::Device { writer, stamp },
        StreamId::Shared { writer, stamp },
    ];
    let mut samples = vec![
        Message::StateSummary(StateSummary {
            groups: vec![GroupSummary {
                group: GroupKey(7),
                digest: 8,
                tenure: Some(tenure),
            }],
            missing: true,
        }),
        Message::TableRequest(TableRequest {
            group: GroupKey(7),
            epoch: 8,
        }),
    ];
    for (number, stream) in streams.into_iter().enumerate() {
        let some = number == 1;
        let device = some.then(|| key().device_id());
        samples.extend([
            Message::StateVector(StateVector {
                group: GroupKey(7),
                purpose: Purpose::Exchange,
                table: some.then(|| table.clone()),
                after: some.then_some(stream),
                upto: some.then_some(stream),
                held: vec![Held {
                    stream,
                    mark: 1,
                    extras: 2,
                    top: 3,
                    pending: 4,
                }],
            }),
            Message::StateDelta(StateDelta {
                tenure: some.then_some(tenure),
                ..delta(stream, device)
            }),
            Message::StateChunk(StateChunk {
                group: GroupKey(7),
                stream,
                device,
                direct: some,
                n: 2,
                tenure: some.then_some(tenure),
                until: 5,
                total: 3000,
                offset: 1000,
                bytes: Bytes::from_static(&[0xc1; 1000]),
            }),
            Message::StateAck(StateAck {
                group: GroupKey(7),
                stream,
                mark: u64::MAX,
            }),
        ]);
    }
    samples
}

/// One with an entry of each class.
fn delta(stream: StreamId, device: Option<DeviceId>) -> StateDelta {
    let classes = [
        EntryClass::Value,
        EntryClass::Tombstone,
        EntryClass::Counter,
        EntryClass::Table,
    ];
    let entries = classes.into_iter().zip(2..).map(|(class, n)| WireEntry {
        n,
        class,
        key: String::from("clé"),
        at: 3,
        expires_at: 4,
        value: Bytes::from_static(b"value"),
    });
    StateDelta {
        group: GroupKey(7),
        stream,
        device,
        direct: true,
        more: false,
        from: 1,
        to: 5,
        tenure: None,
        relied: 9,
        entries: entries.collect(),
    }
}

/// One with four secrets.
fn keyring() -> Keyring {
    let step = |ring: Keyring, n| ring.install(&[n; 32]).and_then(|ring| ring.use_staged());
    let ring = Keyring::from(GroupSecret::from_random(&[200; 48]));
    let used = step(ring, 201).and_then(|ring| step(ring, 202));
    let ring = used.and_then(|ring| ring.install(&[203; 32]));
    ring.expect("an epoch is left")
}

fn encode(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
    Frames::new(Bytes::copy_from_slice(bytes)).collect()
}

#[test]
fn every_message_survives_its_bytes_alone_and_in_company() {
    for message in samples() {
        assert_eq!(
            decode(&encode(core::slice::from_ref(&message))),
            Ok(vec![message])
        );
    }
    assert_eq!(decode(&encode(&samples())), Ok(samples()));
}

#[test]
fn there_is_a_sample_of_every_kind() {
    let mut kinds: Vec<u8> = samples()
        .iter()
        .map(|one| encode(core::slice::from_ref(one))[0])
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let known = (0..=u8::MAX >> 1).filter(|kind| {
        let read = decode(&[*kind, 0, 0]);
        !matches!(read, Err(DecodeError::UnknownKind(_)))
    });
    assert_eq!(kinds, known.collect::<Vec<_>>());
}

#[test]
fn no_cut_and_no_flipped_bit_panics() {
    let bytes = encode(&samples());
    for cut in 0..bytes.len() {
        let _ = decode(&bytes[..cut]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = decode(&flipped);
    }
}

#[test]
fn random_bodies_of_every_kind_do_not_panic() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    for _ in 0..200_000 {
        let length = rng.random_range(0..64u16);
        let mut frame = vec![rng.random_range(0..=KIND_MAX)];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.resize(FRAME_HEADER + usize::from(length), 0);
        rng.fill_bytes(&mut frame[FRAME_HEADER..]);
        let _ = decode(&frame);
    }
}

#[test]
fn nested_bodies_are_refused_before_they_exhaust_the_stack() {
    for kind in 0..=KIND_MAX {
        let mut frame = vec![kind, 4, 0];
        frame.resize(FRAME_HEADER + 1024, 0x91);
        let read = decode(&frame);
        match kind {
            5 => assert_eq!(read.map(|read| read.len()), Ok(1), "foca's own packet"),
            0 | 6 | 7 | 19 | KIND_MAX => {
                assert_eq!(read, Err(DecodeError::UnknownKind(kind)));
            }
            15 | 16 | 20..=23 => assert!(read.is_err(), "kind {kind}: packed by hand"),
            _ => assert!(
                matches!(read, Err(DecodeError::Malformed(..))),
                "kind {kind}: {read:?}"
            ),
        }
    }
}

/// What stands deep within a list is refused with its frame, wherever it is, and what is behind is
/// read.
#[test]
fn a_mistake_deep_within_a_batch_is_one_refusal() {
    let after = Message::WhoIs(WhoIs { device: NodeId(1) });
    for sample in state_samples() {
        let mut bytes = encode(core::slice::from_ref(&sample));
        let end = bytes.len();
        let (kind, mut refused) = (bytes[0], 0);
        for at in FRAME_HEADER..end.min(120) {
            let mut batch = encode(core::slice::from_ref(&after));
            // Stands for nothing in MessagePack; within a number or a text any byte may stand.
            let kept = core::mem::replace(&mut bytes[at], 0xc1);
            batch.extend_from_slice(&bytes);
            bytes[at] = kept;
            batch.extend(encode(core::slice::from_ref(&after)));
            let read: Vec<_> = Frames::new(batch.into()).collect();
            let [before, mistaken, behind] = &read[..] else {
                panic!("kind {kind} at {at}: {read:?}");
            };
            assert_eq!((before, behind), (&Ok(after.clone()), &Ok(after.clone())));
            match mistaken {
                Ok(_) => {}
                Err(DecodeError::Malformed(of, _) | DecodeError::TooLong(of)) if *of == kind => {
                    refused += 1;
                }
                Err(other) => panic!("kind {kind} at {at}: {other:?}"),
            }
        }
        assert!(refused > 2, "kind {kind}: {refused} of {end} bytes");
    }
}

#[test]
fn a_key_that_is_no_text_is_malformed() {
    let stream = StreamId::Shared {
        writer: NodeId(5),
        stamp: Stamp(6),
    };
    let mut bytes = encode(&[Message::StateDelta(delta(stream, None))]);
    let at = bytes
        .windows(4)
        .position(|window| window == "clé".as_bytes());
    let at = at.expect("the key is in it");
    assert!(decode(&bytes).is_ok());
    bytes[at + 2] = 0xff;
    assert!(matches!(decode(&bytes), Err(DecodeError::Malformed(29, _))));
}

#[test]
fn trailing_bytes_long_lists_and_unknown_kinds_are_refused() {
    let mut trailing = encode(&[Message::WhoIs(WhoIs { device: NodeId(1) })]);
    trailing.push(0xc0);
    trailing[2] += 1;
    assert!(matches!(
        decode(&trailing),
        Err(DecodeError::Malformed(10, _))
    ));

    let many = Bulletin {
        asks: vec![GroupKey(1); LIST_MAX + 1],
        ..Bulletin::default()
    };
    let ping = encode(&[Message::Ping(Ping {
        sent: 0,
        bulletin: many,
    })]);
    assert_eq!(decode(&ping), Err(DecodeError::TooLong(1)));
    let mut fat = part(CHUNK, 0);
    fat.chunk = Bytes::from(vec![0; CHUNK + 1]);
    let fat = encode(&[Message::Part(fat)]);
    assert_eq!(decode(&fat), Err(DecodeError::TooLong(15)));

    assert_eq!(decode(&[99, 0, 0]), Err(DecodeError::UnknownKind(99)));
    assert_eq!(decode(&[6, 0, 0]), Err(DecodeError::UnknownKind(6)));
    assert_eq!(decode(&[1, 0]), Err(DecodeError::Truncated));
}

#[test]
fn a_low_order_key_is_refused_wherever_a_body_holds_one() {
    let introduce = samples().into_iter();
    let introduce = introduce.filter(|one| matches!(one, Message::Introduce(_)));
    let mut bytes = encode(&introduce.collect::<Vec<_>>());
    let at = bytes
        .windows(32)
        .position(|window| window == [9; 32])
        .expect("the key is in it");
    bytes[at..at + 32].fill(0);
    assert!(matches!(decode(&bytes), Err(DecodeError::Malformed(11, _))));
}

#[test]
fn the_largest_payload_fits_a_datagram_even_relayed() {
    let whole = encode(&[Message::Branch(branch(part(CHUNK, 0)))]);
    let first = encode(&[Message::Branch(branch(part(crate::MAX_PAYLOAD, 0)))]);
    assert!(whole.len().max(first.len()) <= MAX_PLAINTEXT);
    assert_eq!(part_count(crate::MAX_PAYLOAD as u32), 60);
}

#[test]
fn a_whole_message_alone_takes_eight_bytes_of_framing() {
    let head = Head {
        group: GroupRef::Slot(30),
        class: Class::Broadcast,
        epoch: (1 << 14) - 1,
        seq: (1 << 28) - 1,
    };
    let message = Message::Part(Part {
        head,
        ..part(100, 0)
    });
    let mut bytes = encode(core::slice::from_ref(&message));
    shorten_last(&mut bytes, 0);
    assert_eq!(bytes.len(), 100 + 8);
    assert_eq!(decode(&bytes), Ok(vec![message]));
}

#[test]
fn the_last_frame_needs_no_length() {
    let messages = samples();
    let mut bytes = encode(&messages[..messages.len() - 1]);
    let at = bytes.len();
    bytes.extend(encode(&messages[messages.len() - 1..]));
    shorten_last(&mut bytes, at);
    assert_eq!(decode(&bytes), Ok(messages));
}

#[test]
fn headers_of_parts_that_contradict_themselves_are_refused() {
    let total = 2 * CHUNK + 5;
    let wrong = |change: fn(&mut Part)| {
        let mut part = part(total, 1);
        change(&mut part);
        decode(&encode(&[Message::Part(part)]))
    };
    assert!(wrong(|_| ()).is_ok());
    let beyond = wrong(|part| part.index = 3);
    let short = wrong(|part| part.chunk = part.chunk.slice(1..));
    let last_too_long = wrong(|part| part.index = 2);
    for refused in [beyond, short, last_too_long] {
        assert!(
            matches!(refused, Err(DecodeError::Malformed(20, _))),
            "{refused:?}"
        );
    }
    let long = wrong(|part| part.total = crate::MAX_PAYLOAD as u32 + 1);
    assert_eq!(long, Err(DecodeError::TooLong(20)));
    let by_slot = Head {
        group: GroupRef::Slot(1),
        ..part(0, 0).head
    };
    let stranger = branch(Part {
        head: by_slot,
        ..part(0, 0)
    });
    let refused = decode(&encode(&[Message::Branch(stranger)]));
    assert!(
        matches!(refused, Err(DecodeError::Malformed(21, _))),
        "{refused:?}"
    );
    let whole_as_part = [20, 0, 5, 0xfb & !0xe0, 1, 1, 0, 9];
    assert!(matches!(
        decode(&whole_as_part),
        Err(DecodeError::Malformed(20, _))
    ));
}

#[test]
fn an_offer_gives_the_whole_keyring_and_shows_no_secret() {
    let offer = KeyringOffer::new(&keyring());
    assert_eq!(offer.keyring([200; 16]), Ok(keyring()));
    assert!(
        offer.keyring([0; 16]).is_err(),
        "the marks are of another group"
    );
    let text = format!("{offer:?}");
    assert!(!text.contains("201, 201"), "{text}");
    let bytes = encode(&[Message::KeyringOffer(offer)]);
    assert!(bytes.len() < 300, "{} bytes", bytes.len());
}

#[test]
fn fields_that_a_later_version_adds_are_passed_over_at_every_level() {
    let ping = Message::Ping(Ping {
        sent: u32::MAX,
        bulletin: Bulletin::default(),
    });
    let losses = Message::Losses(Losses {
        losses: vec![Loss {
            group: GroupKey::SYSTEM,
            penalty: 1500,
        }],
    });
    // Where the arrays begin that end with the body, outermost first, and how many follow.
    for (message, arrays) in [(ping, [0, 6]), (losses, [0, 2])] {
        let mut bytes = encode(core::slice::from_ref(&message));
        for (count, array) in arrays.into_iter().enumerate() {
            assert!(matches!(bytes[FRAME_HEADER + array], 0x90..0x9f));
            bytes[FRAME_HEADER + array] += 1;
            bytes.extend_from_slice(&[0x92, 1, 0xc0]);
            bytes[2] += 3;
            let mut joined = bytes.clone();
            joined.extend(encode(&samples()));
            let expected: Vec<_> = core::iter::once(message.clone()).chain(samples()).collect();
            assert_eq!(decode(&joined), Ok(expected), "{count} arrays");
        }
    }
}

#[test]
fn what_is_behind_a_frame_that_is_refused_is_read() {
    let after = Message::WhoIs(WhoIs { device: NodeId(1) });
    for refused in [[62, 0, 1, 0xc0], [9, 0, 1, 0xc0]] {
        let mut bytes = refused.to_vec();
        bytes.extend(encode(core::slice::from_ref(&after)));
        let read: Vec<_> = Frames::new(bytes.into()).collect();
        assert!(read[0].is_err());
        assert_eq!(read[1..], [Ok(after.clone())]);
    }
}
