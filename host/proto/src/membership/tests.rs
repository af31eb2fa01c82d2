//! Memberships wired to one another without a network.

use bytes::{Buf, BufMut};

use super::*;
use crate::MAX_DATAGRAM;
use crate::wire::header::DATA_OVERHEAD;
use crate::wire::message::FRAME_HEADER;

/// Devices whose packets arrive at once; the count of what they said.
struct Mesh {
    now: Time,
    members: BTreeMap<NodeId, Membership>,
    packets: u64,
    notices: u64,
    up: Vec<(NodeId, NodeId)>,
    down: Vec<(NodeId, NodeId)>,
    largest: usize,
}

fn member(node: u64, boot_counter: u64) -> Membership {
    Membership::new(NodeId(node), boot_counter, [node as u8; 32])
}

impl Mesh {
    /// `count` devices that are one group, in their first boot.
    fn new(count: u64) -> Self {
        let mut mesh = Self {
            now: Time::from_micros(1),
            members: (1..=count).map(|n| (NodeId(n), member(n, 1))).collect(),
            packets: 0,
            notices: 0,
            up: Vec::new(),
            down: Vec::new(),
            largest: 0,
        };
        for n in 2..=count {
            mesh.join(n, 1);
        }
        mesh.run(5);
        mesh
    }

    fn of(&mut self, node: u64) -> &mut Membership {
        self.members.get_mut(&NodeId(node)).expect("there is one")
    }

    fn number(&mut self, node: u64) -> u32 {
        self.of(node).foca.identity().incarnation
    }

    fn join(&mut self, node: u64, to: u64) {
        let now = self.now;
        self.of(node).join(now, NodeId(to));
        self.settle();
    }

    /// Delivers everything until all is quiet.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut outputs = Vec::new();
            for (node, member) in &mut self.members {
                while let Some(output) = member.poll() {
                    outputs.push((*node, output));
                }
            }
            if outputs.is_empty() {
                return;
            }
            for (from, output) in outputs {
                self.deliver(from, output);
            }
        }
        panic!("the members never stop talking");
    }

    fn deliver(&mut self, from: NodeId, output: Output) {
        let now = self.now;
        match output {
            Output::Send { to, packet } => {
                self.packets += 1;
                self.largest = self.largest.max(packet.len());
                if let Some(member) = self.members.get_mut(&to) {
                    let taken = member.handle_packet(now, from, &packet);
                    assert!(taken.is_ok(), "{taken:?}");
                }
            }
            Output::Notice {
                to,
                incarnation,
                down,
            } => {
                self.notices += 1;
                if let Some(member) = self.members.get_mut(&to) {
                    member.handle_notice(now, from, incarnation, down);
                }
            }
            Output::Up(node) => self.up.push((from, node)),
            Output::Down(node) => self.down.push((from, node)),
        }
    }

    /// Lets seconds pass.
    fn run(&mut self, seconds: u64) {
        self.settle();
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self
            .members
            .values()
            .filter_map(Membership::next_timeout)
            .min()
        {
            if at > end {
                break;
            }
            self.now = at;
            for member in self.members.values_mut() {
                member.handle_timeout(at);
            }
            self.settle();
        }
        self.now = end;
    }

    fn expect_whole(&mut self) {
        let count = self.members.len();
        for (node, member) in &self.members {
            assert_eq!(member.active_count(), count - 1, "of {node:?}");
        }
    }
}

#[test]
fn a_boot_counter_restored_too_low_goes_past_the_highest_seen_in_one_step() {
    for was_removed in [false, true] {
        let mut mesh = Mesh::new(8);
        mesh.members.insert(NodeId(3), member(3, 900));
        mesh.join(3, 1);
        mesh.run(30);
        mesh.expect_whole();
        let before = mesh.number(3);
        mesh.members.remove(&NodeId(3));
        if was_removed {
            mesh.run(30);
        }
        mesh.members.insert(NodeId(3), member(3, 4));
        (mesh.packets, mesh.notices) = (0, 0);
        for other in 1..=8 {
            if other != 3 {
                mesh.join(3, other);
                mesh.join(other, 3);
            }
        }
        mesh.run(2);
        mesh.expect_whole();
        let after = mesh.number(3);
        assert!(after > before && after < before + 10, "{before} to {after}");
        assert!(mesh.notices <= 8, "{} notices", mesh.notices);
        assert!(mesh.packets < 1_000, "{} packets", mesh.packets);
        mesh.run(60);
        assert_eq!(mesh.number(3), after, "no renewal follows");
    }
}

#[test]
fn a_late_packet_of_an_earlier_number_renews_nothing() {
    let mut mesh = Mesh::new(2);
    let (now, own) = (mesh.now, mesh.number(2));
    mesh.of(2).handle_notice(now, NodeId(1), own, true);
    mesh.run(2);
    let renewed = mesh.number(2);
    assert_eq!(renewed, own + 1);
    // A member that answers a packet of the earlier number names the one in use.
    let now = mesh.now;
    mesh.of(2).handle_notice(now, NodeId(1), renewed, false);
    mesh.of(2).handle_notice(now, NodeId(1), own, true);
    mesh.run(2);
    assert_eq!(mesh.number(2), renewed);
    mesh.expect_whole();
}

#[test]
fn down_is_never_the_end_however_often_it_is_said() {
    let mut mesh = Mesh::new(3);
    // More often than a boot has numbers of its own.
    for _ in 0..1_500 {
        let (now, own) = (mesh.now, mesh.number(2));
        mesh.of(2).handle_notice(now, NodeId(1), own, true);
        mesh.settle();
        assert_eq!(mesh.number(2), own.wrapping_add(1));
    }
    mesh.run(5);
    mesh.expect_whole();
}

#[test]
fn a_rename_on_rejoin_is_never_shown() {
    let mut mesh = Mesh::new(4);
    (mesh.up, mesh.down) = (Vec::new(), Vec::new());
    let (now, own) = (mesh.now, mesh.number(2));
    mesh.of(2).handle_notice(now, NodeId(1), own + 5_000, false);
    mesh.run(10);
    mesh.expect_whole();
    let told = |seen: &[(NodeId, NodeId)]| seen.iter().filter(|(at, _)| *at != NodeId(2)).count();
    assert_eq!((told(&mesh.up), told(&mesh.down)), (0, 0));
}

#[test]
fn the_source_of_a_packet_is_bound_to_its_session() {
    let mut mesh = Mesh::new(3);
    mesh.join(2, 1);
    let now = mesh.now;
    mesh.of(2).join(now, NodeId(1));
    let Some(Output::Send { packet, .. }) = mesh.of(2).poll() else {
        panic!("joining announces");
    };
    let refused = mesh.of(1).handle_packet(now, NodeId(3), &packet);
    assert_eq!(refused, Err(PacketError::ForeignSender));
    assert_eq!(mesh.of(1).poll(), None, "nothing comes of it");
    assert_eq!(mesh.of(1).handle_packet(now, NodeId(2), &packet), Ok(()));
}

#[test]
fn the_packet_size_is_one_constant_that_fits_a_datagram() {
    const { assert!(PACKET_MAX + FRAME_HEADER + DATA_OVERHEAD <= MAX_DATAGRAM) };
    let mut mesh = Mesh::new(120);
    mesh.run(20);
    mesh.expect_whole();
    assert!(mesh.largest <= PACKET_MAX, "{} bytes", mesh.largest);
    assert!(mesh.largest > PACKET_MAX - MEMBER_LEN, "a feed is full");
    let now = mesh.now;
    let large = mesh
        .of(1)
        .handle_packet(now, NodeId(2), &[6; PACKET_MAX + 1]);
    assert!(large.is_err(), "a larger one is refused");
}

#[test]
fn the_size_of_an_identity_lets_a_feed_name_seventy_members() {
    let header = 1 + 12 + 2 + 12 + 2;
    assert!((PACKET_MAX - header) / MEMBER_LEN >= 70);
}

#[test]
fn an_oversized_broadcast_item_can_neither_be_queued_nor_come_in() {
    let mut mesh = Mesh::new(2);
    let now = mesh.now;
    mesh.of(2).join(now, NodeId(1));
    // A gossip packet without members, with an item of 900 bytes behind it.
    let Some(Output::Send { packet, .. }) = mesh.of(2).poll() else {
        panic!("joining announces");
    };
    let mut with_item = packet.to_vec();
    with_item[0] = 8;
    let dst = mesh.number(1);
    with_item[1 + 12 + 2 + 8..][..4].copy_from_slice(&dst.to_be_bytes());
    with_item.extend_from_slice(&[0, 0]);
    with_item.extend_from_slice(&900u16.to_be_bytes());
    with_item.extend_from_slice(&[7; 900]);
    let refused = mesh.of(1).handle_packet(now, NodeId(2), &with_item);
    assert_eq!(refused, Err(PacketError::Items));
    assert_eq!(mesh.of(1).foca.custom_broadcast_backlog(), 0);
}

#[test]
fn gossip_falls_silent_when_there_is_nothing_new() {
    let mut mesh = Mesh::new(5);
    mesh.run(60);
    mesh.packets = 0;
    mesh.run(60);
    // One probe and its answer a second and member; an announcement and its feed every 30 s.
    assert!(
        mesh.packets <= 5 * 60 * 2 + 5 * 2 * 3,
        "{} packets",
        mesh.packets
    );
    assert_eq!(mesh.of(1).foca.updates_backlog(), 0);
}

#[test]
fn cut_packets_are_refused_without_a_trace() {
    let mut mesh = Mesh::new(30);
    let now = mesh.now;
    mesh.of(2).join(now, NodeId(1));
    let Some(Output::Send { packet, .. }) = mesh.of(2).poll() else {
        panic!("joining announces");
    };
    for cut in 0..packet.remaining() {
        let refused = mesh.of(1).handle_packet(now, NodeId(2), &packet[..cut]);
        assert!(matches!(refused, Err(PacketError::Malformed(_))));
    }
    assert_eq!(mesh.of(1).poll(), None);
}

#[test]
fn a_suspicion_of_our_own_removes_who_is_silent_and_not_who_answers() {
    let mut mesh = Mesh::new(5);
    let now = mesh.now;
    mesh.of(1).suspect(now, NodeId(3));
    mesh.run(10);
    mesh.expect_whole();
    assert_eq!(mesh.down, [], "it refuted that");
    mesh.members.remove(&NodeId(3));
    let now = mesh.now;
    mesh.of(1).suspect(now, NodeId(3));
    mesh.run(4);
    assert!(
        mesh.down.contains(&(NodeId(1), NodeId(3))),
        "{:?}",
        mesh.down
    );
    mesh.run(1);
    mesh.expect_whole();
    mesh.down.sort_unstable();
    mesh.down.dedup();
    assert_eq!(mesh.down.len(), 4, "once at each");
}

#[test]
fn what_is_known_of_members_is_left_out_and_nothing_else() {
    let mut mesh = Mesh::new(4);
    let one = mesh.of(1);
    let number = |node| MemberId::at_boot(NodeId(node), 1);
    let header = Header {
        src: number(2),
        src_incarnation: 0,
        dst: number(1),
        message: Message::Gossip,
    };
    let pack = |members: &[Member<MemberId>], rest: &[u8]| {
        let mut packet = Vec::new();
        MemberCodec
            .encode_header(&header, &mut packet)
            .expect("room");
        let head = packet.len();
        packet.put_u16(members.len() as u16);
        for member in members {
            MemberCodec
                .encode_member(member, &mut packet)
                .expect("room");
        }
        packet.extend_from_slice(rest);
        (packet, head)
    };
    let alive = |node| Member::new(number(node), 0, State::Alive);
    let news = [
        Member::new(number(3), 0, State::Suspect),
        Member::new(number(3), 1, State::Alive),
        Member::new(MemberId::at_boot(NodeId(4), 2), 0, State::Alive),
        alive(9),
        alive(1),
    ];
    let mut all = vec![alive(3)];
    all.extend(news.iter().cloned());
    all.push(alive(4));
    let ((packet, head), mut left) = (pack(&all, b"rest"), Vec::new());
    assert!(one.leave_out_old(&packet, head, &mut left));
    assert_eq!(left, pack(&news, b"rest").0);
    let (packet, head) = pack(&news, b"");
    assert!(!one.leave_out_old(&packet, head, &mut left), "all is news");
    for cut in head..pack(&all, b"").0.len() {
        let (packet, head) = pack(&all, b"");
        assert!(!one.leave_out_old(&packet[..cut], head, &mut left), "{cut}");
    }
}
