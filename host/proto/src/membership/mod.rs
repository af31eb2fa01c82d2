//! Who is in the group: SWIM through foca, behind a surface of our own.
//!
//! foca decides who is up and who is down; its word is a hint. A member leaves the plugins' view
//! only after this device's own probes failed too, which is the node's business. What this module
//! adds to foca:
//! - identities of 8 bytes of the device's hash and a number that grows with every boot and every
//!   renewal, so that a restarted device always wins over its earlier self without a clock;
//! - the sender of every packet is bound to the session that it came through;
//! - a device whose number is of no use to a member, because that member holds it for down or knows
//!   a later one, is told the number by a notice, at most once a second, and goes past it in one
//!   step. So a boot counter that was restored too low costs one round trip, and Down is never the
//!   end of a device. (foca's own notice answers even a suspicion that has been refuted, renews by
//!   one step only, and is off.)
//!
//! No broadcast items are handed to foca: one that is larger than the room behind a header would
//! stay queued for ever, and keep the gossip going. A packet with any is refused as a whole.

mod identity;
#[cfg(test)]
mod tests;

use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use foca::{
    Codec as _, Config, Foca, Header, Identity as _, Member, Message, NoCustomBroadcast,
    Notification, PeriodicParams, Runtime, State, Timer,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

pub(crate) use identity::{CodecError, MemberId};
use identity::{MEMBER_LEN, MemberCodec};

use crate::id::NodeId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// The largest packet foca makes and takes. One number for the whole group; it must fit a frame of
/// a datagram.
const PACKET_MAX: usize = 1140;
/// How long a suspected member has to refute it.
const SUSPICION: Duration = Duration::from_secs(4);
/// How often a device is told that the group holds it for down.
const NOTICE_PERIOD: Duration = Duration::from_secs(1);

/// What membership wants done or known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A packet for a member, by device.
    Send { to: NodeId, packet: Bytes },
    /// Tell a device which number of it is held, and whether for down.
    Notice {
        to: NodeId,
        incarnation: u32,
        down: bool,
    },
    /// foca holds this member for alive.
    Up(NodeId),
    /// foca holds this member for gone.
    Down(NodeId),
}

/// Why a packet was refused. foca's state is as before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("a membership packet names another sender than its session's")]
    ForeignSender,
    #[error("a membership packet with broadcast items, of which there are none")]
    Items,
    #[error("malformed membership packet: {0}")]
    Malformed(String),
}

pub(crate) struct Membership {
    foca: Foca<MemberId, MemberCodec, ChaCha12Rng, NoCustomBroadcast>,
    queue: Queue,
    noticed: BTreeMap<NodeId, Time>,
    suspects: BTreeMap<NodeId, Suspect>,
    /// A packet without what is known; kept for its room.
    news: Vec<u8>,
}

/// A member that this device's own probes did not reach, as it was then.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    id: MemberId,
    incarnation: u16,
    until: Time,
}

impl Membership {
    pub(crate) fn new(node: NodeId, boot_counter: u64, seed: [u8; 32]) -> Self {
        let id = MemberId::at_boot(node, boot_counter);
        let rng = ChaCha12Rng::from_seed(seed);
        Self {
            foca: Foca::new(id, config(), rng, MemberCodec),
            queue: Queue::default(),
            noticed: BTreeMap::new(),
            suspects: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    pub(crate) fn handle_packet(
        &mut self,
        now: Time,
        sender: NodeId,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        let mut peek = packet;
        let header = MemberCodec
            .decode_header(&mut peek)
            .map_err(|e| PacketError::Malformed(e.to_string()))?;
        if header.src.node != sender && !mutant::is(Mutant::MembershipUnbound) {
            return Err(PacketError::ForeignSender);
        }
        if has_items(peek) && !mutant::is(Mutant::ItemsAdmitted) {
            return Err(PacketError::Items);
        }
        self.queue.now = now;
        let mut news = core::mem::take(&mut self.news);
        let handled = if self.leave_out_old(packet, packet.len() - peek.len(), &mut news) {
            self.foca.handle_data(&news, &mut self.queue)
        } else {
            self.foca.handle_data(packet, &mut self.queue)
        };
        self.news = news;
        self.notice_if_useless(now, header.src);
        handled.map_err(|e| PacketError::Malformed(e.to_string()))
    }

    /// Writes the packet, whose members begin at `head`, without those of whom it says what foca
    /// knows: that they are alive, under the number known and in its first incarnation. Returns
    /// whether there are any. foca would change nothing for them, after a search through all
    /// members for each, and gossip tells of seventy at a time.
    fn leave_out_old(&self, packet: &[u8], head: usize, news: &mut Vec<u8>) -> bool {
        let (header, body) = packet.split_at(head);
        let Some((count, body)) = body.split_first_chunk() else {
            return false;
        };
        let count = usize::from(u16::from_be_bytes(*count));
        let Some((members, rest)) = body.split_at_checked(count * MEMBER_LEN) else {
            return false;
        };
        let is_old = |member: &[u8]| {
            let member = MemberCodec.decode_member(member);
            member.is_ok_and(|member| {
                let known = self.queue.active.get(&member.id().node);
                (member.state(), member.incarnation()) == (State::Alive, 0)
                    && known == Some(member.id())
            })
        };
        news.clear();
        news.extend_from_slice(header);
        news.extend_from_slice(&[0, 0]);
        for member in members.chunks(MEMBER_LEN).filter(|member| !is_old(member)) {
            news.extend_from_slice(member);
        }
        let left = (news.len() - head - 2) / MEMBER_LEN;
        news[head..head + 2].copy_from_slice(&(left as u16).to_be_bytes());
        news.extend_from_slice(rest);
        left < count
    }

    /// A device that is no member came in touch: asks it to let this one join, and tells it where
    /// it is held for down.
    pub(crate) fn join(&mut self, now: Time, node: NodeId) {
        self.queue.now = now;
        let unknown = MemberId {
            node,
            incarnation: 0,
        };
        let id = self.known(node).map_or(unknown, |(id, _)| id);
        self.notice_if_useless(now, id);
        let announced = self.foca.announce(id, &mut self.queue);
        debug_assert!(
            announced.is_ok(),
            "announcing encodes two identities: {announced:?}"
        );
    }

    /// A member holds this number of this device, for `down` or as a later one than it was shown.
    /// A number that is behind the present one has been gone past already, and is only answered
    /// with an announcement.
    pub(crate) fn handle_notice(&mut self, now: Time, from: NodeId, incarnation: u32, down: bool) {
        self.queue.now = now;
        let own = *self.foca.identity();
        let held = MemberId {
            node: own.node,
            incarnation,
        };
        if held.win_addr_conflict(&own) || (down && held == own) {
            self.go_past(held);
        }
        self.join(now, from);
    }

    /// Takes the number after `held`.
    fn go_past(&mut self, held: MemberId) {
        let Some(next) = held.renew() else { return };
        tracing::info!(number = next.incarnation, "membership renewed");
        let changed = self.foca.change_identity(next, &mut self.queue);
        // A new identity begins unconnected; without news of any member foca looks who is there.
        let looked = self
            .foca
            .apply_many(core::iter::empty(), false, &mut self.queue);
        if let Err(error) = changed.and(looked) {
            tracing::warn!(%error, "renewing this device's membership failed");
        }
    }

    /// A member said goodbye.
    pub(crate) fn handle_goodbye(&mut self, now: Time, node: NodeId) {
        self.queue.now = now;
        if let Some((id, incarnation)) = self.active(node) {
            self.declare(Member::new(id, incarnation, State::Down));
        }
    }

    /// This device's own probes of a member stayed unanswered: the member has as long to refute
    /// that as if foca's had.
    pub(crate) fn suspect(&mut self, now: Time, node: NodeId) {
        self.queue.now = now;
        let Some((id, incarnation)) = self.active(node) else {
            return;
        };
        let until = now + SUSPICION;
        let suspect = Suspect {
            id,
            incarnation,
            until,
        };
        self.suspects.insert(node, suspect);
        self.declare(Member::new(id, incarnation, State::Suspect));
    }

    /// Whoever did not refute a suspicion by now is down.
    fn time_suspects(&mut self, now: Time) {
        let due = |(_, suspect): &(&NodeId, &Suspect)| now >= suspect.until;
        let due: Vec<Suspect> = self.suspects.iter().filter(due).map(|(_, s)| *s).collect();
        for Suspect {
            id, incarnation, ..
        } in due
        {
            self.suspects.remove(&id.node);
            if self.active(id.node) == Some((id, incarnation)) {
                self.declare(Member::new(id, incarnation, State::Down));
            }
        }
    }

    fn declare(&mut self, member: Member<MemberId>) {
        let told = self
            .foca
            .apply_many(core::iter::once(member), true, &mut self.queue);
        if let Err(error) = told {
            tracing::debug!(%error, "a member's state was not applied");
        }
    }

    /// The identity and incarnation of a member that is held for alive.
    fn active(&self, node: NodeId) -> Option<(MemberId, u16)> {
        let mut members = self.foca.iter_members();
        members
            .find(|member| member.id().node == node)
            .map(|member| (*member.id(), member.incarnation()))
    }

    /// This device leaves.
    pub(crate) fn leave(&mut self, now: Time) {
        self.queue.now = now;
        if let Err(error) = self.foca.leave_cluster(&mut self.queue) {
            tracing::debug!(%error, "leaving was not gossiped");
        }
    }

    /// The driver's loop was away: everything foca waits for is put off as long, so that a stall
    /// of this device does not look like the others' silence.
    pub(crate) fn delay(&mut self, by: Duration) {
        let timers = core::mem::take(&mut self.queue.timers);
        self.queue.timers = timers
            .into_iter()
            .map(|((at, n), timer)| ((at + by, n), timer))
            .collect();
        for suspect in self.suspects.values_mut() {
            suspect.until += by;
        }
    }

    pub(crate) fn is_active(&self, node: NodeId) -> bool {
        self.queue.active.contains_key(&node)
    }

    pub(crate) fn active_count(&self) -> usize {
        self.foca.num_members()
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let timer = self.queue.timers.first_key_value().map(|((at, _), _)| *at);
        let suspect = self.suspects.values().map(|suspect| suspect.until).min();
        timer.into_iter().chain(suspect).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.queue.now = now;
        self.time_suspects(now);
        while let Some(entry) = self.queue.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            if let Err(error) = self.foca.handle_timer(timer, &mut self.queue) {
                tracing::debug!(%error, "membership timer");
            }
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.queue.outputs.pop_front()
    }

    /// A packet from `by` to `to` that says that `device` is down, whatever holds; for tests of
    /// what stops it. None if one of them is unknown.
    pub(crate) fn forge_down(&self, by: NodeId, to: NodeId, device: NodeId) -> Option<Bytes> {
        let own = *self.foca.identity();
        let id = |node| match self.known(node) {
            None if node == own.node => Some(own),
            known => known.map(|(id, _)| id),
        };
        let header = Header {
            src: id(by)?,
            src_incarnation: 0,
            dst: id(to)?,
            message: Message::Gossip,
        };
        let down = Member::new(id(device)?, u16::MAX, State::Down);
        let mut packet = Vec::new();
        MemberCodec.encode_header(&header, &mut packet).ok()?;
        packet.extend_from_slice(&1u16.to_be_bytes());
        MemberCodec.encode_member(&down, &mut packet).ok()?;
        Some(packet.into())
    }

    /// What is held of a device.
    fn known(&self, node: NodeId) -> Option<(MemberId, State)> {
        let mut members = self.foca.iter_membership_state();
        members
            .find(|member| member.id().node == node)
            .map(|member| (*member.id(), member.state()))
    }

    /// Tells a device that the number which it uses does not count here.
    fn notice_if_useless(&mut self, now: Time, used: MemberId) {
        if self.queue.active.get(&used.node) == Some(&used) || mutant::is(Mutant::NoDownNotice) {
            return;
        }
        let Some((held, state)) = self.known(used.node) else {
            return;
        };
        let down = state == State::Down;
        if !(down || held.win_addr_conflict(&used)) {
            return;
        }
        let last = self.noticed.get(&used.node);
        if last.is_some_and(|last| now.since(*last) < NOTICE_PERIOD) {
            return;
        }
        self.noticed.insert(used.node, now);
        self.queue.outputs.push_back(Output::Notice {
            to: used.node,
            incarnation: held.incarnation,
            down,
        });
    }
}

/// Whether anything follows a packet's members. foca takes the members in before it looks at that.
fn has_items(body: &[u8]) -> bool {
    let members = |count: &[u8; 2]| usize::from(u16::from_be_bytes(*count)) * MEMBER_LEN;
    let counted = body.split_first_chunk();
    counted.is_some_and(|(count, rest)| rest.len() > members(count))
}

/// Reads a whole packet as foca will: a header, a count, and as many members.
pub(crate) fn decode_packet(mut packet: &[u8]) -> Result<(), CodecError> {
    MemberCodec.decode_header(&mut packet)?;
    let Some((count, mut rest)) = packet.split_first_chunk() else {
        return Ok(());
    };
    for _ in 0..u16::from_be_bytes(*count) {
        MemberCodec.decode_member(&mut rest)?;
    }
    Ok(())
}

/// Measured at 20 % loss for a simulated day against the library's LAN defaults, which cost
/// thousands of false downs: a patient suspicion, many indirect probes, and no notice by foca.
fn config() -> Config {
    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    Config {
        probe_period: Duration::from_secs(1),
        probe_rtt: Duration::from_millis(100),
        num_indirect_probes: NonZeroUsize::new(5).expect("not zero"),
        max_transmissions: NonZeroU8::new(20).expect("not zero"),
        suspect_to_down_after: SUSPICION,
        remove_down_after: Some(Duration::from_secs(24 * 3600)),
        max_packet_size: NonZeroUsize::new(PACKET_MAX).expect("not zero"),
        notify_down_members: false,
        periodic_announce: Some(PeriodicParams {
            frequency: Duration::from_secs(30),
            num_members: ONE,
        }),
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: Duration::from_millis(200),
            num_members: NonZeroUsize::new(3).expect("not zero"),
        }),
    }
}

/// foca's surroundings: what it asks for is queued, timers are kept in order.
#[derive(Default)]
struct Queue {
    now: Time,
    timers: BTreeMap<(Time, u64), Timer<MemberId>>,
    timer_number: u64,
    outputs: VecDeque<Output>,
    /// The devices that foca holds for alive; its own list takes a search through all members. Asked
    /// for each member that gossip tells of, never gone through in order.
    active: HashMap<NodeId, MemberId>,
}

impl Runtime<MemberId> for Queue {
    fn notify(&mut self, notification: Notification<'_, MemberId>) {
        match notification {
            Notification::MemberUp(id) => {
                self.active.insert(id.node, *id);
                self.outputs.push_back(Output::Up(id.node));
            }
            Notification::MemberDown(id) => {
                self.active.remove(&id.node);
                self.outputs.push_back(Output::Down(id.node));
            }
            Notification::Rejoin(id) => {
                tracing::info!(number = id.incarnation, "membership renewed");
            }
            // The same device under its next number: nothing that others need know.
            Notification::Rename(_, id) => {
                self.active.entry(id.node).and_modify(|known| *known = *id);
            }
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: MemberId, data: &[u8]) {
        self.outputs.push_back(Output::Send {
            to: to.node,
            packet: Bytes::copy_from_slice(data),
        });
    }

    fn submit_after(&mut self, timer: Timer<MemberId>, after: Duration) {
        self.timer_number += 1;
        self.timers
            .insert((self.now + after, self.timer_number), timer);
    }
}
