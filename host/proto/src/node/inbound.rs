//! What arrives: datagrams, and the messages inside them.

use core::time::Duration;

use bytes::Bytes;

use super::bulletin::claimed;
use super::roster::Standing;
use super::{Life, Node, ctx};
use crate::clock;
use crate::ctx::Ctx;
use crate::discovery::beacon;
use crate::election::Input;
use crate::event::Address;
use crate::id::{NodeId, PublicKey};
use crate::liveness::{Echo, stamp};
use crate::mutant::{self, Mutant};
use crate::session::Incoming;
use crate::time::Time;
use crate::wire::header::is_beacon;
use crate::wire::message::{
    DecodeError, Frames, Heartbeat, HeartbeatAck, Introduce, Message, Ping, Pong, Query, Vouch,
    WhoIs,
};

/// A member whose beacons come from another address than its session's, and for so long none from
/// that one, has moved.
const MOVED_AFTER: Duration = Duration::from_secs(15);
/// An introduction of a device that was heard within this time counts for more than its address.
const HEARD_LATELY: Duration = Duration::from_secs(30);
/// How often a device with another secret is mentioned in the log.
const STRANGERS_PERIOD: Duration = Duration::from_secs(60);

impl Node {
    /// A datagram arrived. It is untrusted: whatever it holds, it is used, or counted and dropped.
    pub fn handle_datagram(&mut self, now: Time, from: Address, datagram: &[u8]) {
        self.handle_datagram_received(now, now, from, datagram);
    }

    /// A datagram arrived at `received`, and waited until `now`. Only round trips and clocks are
    /// reckoned from the former: to everything else the datagram comes at `now`.
    pub fn handle_datagram_received(
        &mut self,
        now: Time,
        received: Time,
        from: Address,
        datagram: &[u8],
    ) {
        self.begin(now);
        self.received = received.min(self.now);
        if self.life != Life::Left {
            self.take_datagram(from, datagram);
        }
        self.settle();
    }

    pub(super) fn take_datagram(&mut self, from: Address, datagram: &[u8]) {
        if self.sessions.is_none() {
            return;
        }
        if is_beacon(datagram) {
            self.take_beacon(from, datagram);
            return;
        }
        let Some(sessions) = &mut self.sessions else {
            return;
        };
        match sessions.handle_datagram(&mut ctx!(self), from, datagram) {
            Incoming::Data { peer, plaintext } => {
                self.settle_sessions();
                self.take_data(&peer, plaintext);
            }
            Incoming::WantsBeacon { to, kid } => {
                if let Some(beacon) = self.beacon(&kid) {
                    ctx!(self).transmit(to, beacon);
                }
            }
            Incoming::Nothing => {}
        }
    }

    /// A hint: starts a handshake with a device that there is no session with, and asks a device
    /// that is no member to join.
    fn take_beacon(&mut self, from: Address, datagram: &[u8]) {
        let (Some(kid), Some(rotation)) = (beacon::kid(datagram), &self.rotation) else {
            return;
        };
        let opened = match rotation.key(&kid) {
            // What names another secret costs nothing to refuse, and takes no place among the
            // sources.
            None => Err(beacon::BeaconError::OtherGroup),
            Some(_) if !self.discovery.may_open(self.now, from) => return,
            Some(keys) => beacon::open(keys, datagram),
        };
        let beacon = match opened {
            Ok(beacon) => beacon,
            Err(error) => {
                self.counters.datagrams_refused += 1;
                self.mention_stranger(from, &error);
                return;
            }
        };
        if beacon.key == self.identity.key || !self.admits(beacon.key.device_id().node()) {
            return;
        }
        if !beacon.flags.speaks_our_version() {
            self.meet_foreign(from, &beacon);
            return;
        }
        let Some(entry) = self.roster.learn(beacon.key, beacon.boot, beacon.flags) else {
            return;
        };
        entry.add_candidate(from);
        entry.flags = beacon.flags;
        entry.told.kid = Some(kid);
        let node = entry.device.node();
        self.approach(node, beacon.boot, from);
    }

    /// A device is at `from`, in this boot: opens a session, or joins over the one there is.
    fn approach(&mut self, node: NodeId, boot: crate::id::BootId, from: Address) {
        let (Some(entry), Some(sessions)) = (self.roster.get_mut(node), &self.sessions) else {
            return;
        };
        let contact = sessions.contact(&entry.key);
        let (same_run, heard) = (contact.boot == Some(boot), contact.last_heard);
        let silent = heard.is_none_or(|heard| self.now.since(heard) > Duration::from_secs(3));
        let member = self.membership.is_active(node);
        let unheard_since_waking = self.woke_at.is_some_and(|woke| heard < Some(woke));
        // A session is silent where both sides moved at once: each sends to where the other was.
        // That others hear the member mends nothing between these two. A device with several
        // addresses beacons from all of them.
        if contact.endpoint == Some(from) {
            entry.told.endpoint_beaconed = Some(self.now);
        }
        let last = entry.told.endpoint_beaconed;
        let moved = last.is_none_or(|last| self.now.since(last) > MOVED_AFTER);
        if !same_run || (silent && (!member || moved)) || unheard_since_waking {
            self.dial(node, boot, &[from]);
        }
        if same_run && !member {
            self.membership.join(self.now, node);
        }
    }

    fn mention_stranger(&mut self, from: Address, error: &beacon::BeaconError) {
        let last = self.strangers_told_at;
        if last.is_none_or(|last| self.now.since(last) >= STRANGERS_PERIOD) {
            self.strangers_told_at = Some(self.now);
            tracing::warn!(%from, reason = %error, "heard a device that is not of this group, or has missed a rotation of its secret; if it \
                 should be, give it what `consort group export` prints here, by `consort group join \
                 --replace` there");
        }
    }

    fn take_data(&mut self, peer: &PublicKey, plaintext: Bytes) {
        let node = peer.device_id().node();
        let entry = self.roster.stir(node, peer);
        let Some(refuses) = entry.map(|entry| entry.refuses) else {
            return;
        };
        self.liveness.heard(self.now, node);
        for message in Frames::new(plaintext) {
            match message {
                Ok(message) => {
                    if refuses && !matches!(message, Message::CloneNotice(_)) {
                        self.roster.accepted_by(node);
                    }
                    self.take_message(node, message);
                }
                Err(error) => {
                    match error {
                        DecodeError::UnknownKind(_) => self.counters.messages_unknown += 1,
                        _ => self.counters.datagrams_refused += 1,
                    }
                    tracing::debug!(from = ?node, %error, "message passed over");
                }
            }
        }
    }

    fn take_message(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Ping(ping) => self.take_ping(from, &ping),
            Message::Pong(pong) => self.take_pong(from, &pong),
            Message::Heartbeat(heartbeat) => self.take_heartbeat(from, &heartbeat),
            Message::HeartbeatAck(ack) => self.take_ack(from, &ack),
            Message::Membership(packet) => {
                if let Err(error) = self.membership.handle_packet(self.now, from, &packet) {
                    self.counters.datagrams_refused += 1;
                    tracing::debug!(?from, %error, "membership packet refused");
                }
            }
            Message::Query(query) => self.take_query(from, query),
            Message::Vouch(vouch) => self.take_vouch(&vouch),
            Message::WhoIs(who) => self.take_who_is(from, who),
            Message::Introduce(introduce) => self.take_introduction(introduce),
            Message::DownNotice(notice) => {
                self.membership
                    .handle_notice(self.now, from, notice.incarnation, notice.down);
            }
            Message::Goodbye(_) => self.take_goodbye(from),
            Message::Release(release) => {
                let input = Input::Release {
                    from,
                    epoch: release.epoch,
                    successor: release.successor,
                };
                self.tell_election(release.group, input);
            }
            Message::Part(part) => self.take_part(from, part),
            Message::Relayed(relayed) => self.take_relayed(from, relayed),
            Message::Branch(branch) => self.take_branch(from, branch),
            Message::Notice(notice) => self.take_notice(from, &notice),
            Message::Ask(ask) => self.take_ask(from, &ask),
            Message::Losses(losses) => self.take_losses(&losses),
            Message::KeyringState(state) => self.take_keyring_state(from, state),
            Message::KeyringOffer(offer) => self.take_keyring_offer(from, &offer),
            Message::CloneNotice(notice) => self.take_clone_notice(from, notice),
            Message::CloneSeen(seen) => self.take_clone_seen(seen),
            Message::StateSummary(_)
            | Message::StateVector(_)
            | Message::StateDelta(_)
            | Message::StateChunk(_)
            | Message::StateAck(_)
            | Message::TableRequest(_) => self.take_state(from, message),
        }
    }

    fn take_ping(&mut self, from: NodeId, ping: &Ping) {
        self.take_bulletin(from, &ping.bulletin, None);
        let bulletin = self.bulletin_for(from);
        let wall = self.wall.now(self.now);
        self.send(
            from,
            &Message::Pong(Pong {
                echo: ping.sent,
                wall,
                bulletin,
            }),
        );
    }

    fn take_pong(&mut self, from: NodeId, pong: &Pong) {
        let (received, ours) = (self.received, self.wall.now(self.received));
        let timing = self.liveness.timing_mut(from);
        let sample = timing.echoed(received, pong.echo, 0).map(Echo::round_trip);
        if let Some(sample) = sample {
            timing.wall(sample, pong.wall, ours);
            self.liveness.measured(from);
        }
        self.take_bulletin(from, &pong.bulletin, asked(received, sample));
        self.refresh_visibility(from);
    }

    fn take_heartbeat(&mut self, from: NodeId, heartbeat: &Heartbeat) {
        let (now, received) = (self.now, self.received);
        let timing = self.liveness.timing_mut(from);
        let echo = heartbeat
            .echo
            .and_then(|(sent, held)| timing.echoed(received, sent, held));
        let is_current = self.take_bulletin(from, &heartbeat.bulletin, None);
        self.refresh_visibility(from);
        let bulletin = self.bulletin_for(from);
        let ack = HeartbeatAck {
            sent: stamp(now),
            echo: heartbeat.sent,
            bulletin,
        };
        self.send(from, &Message::HeartbeatAck(ack));
        let reference = self.followed(crate::id::GroupKey::SYSTEM);
        if let (Some((era, group)), Some(echo), true) = (heartbeat.clock, echo, is_current)
            && (reference.is_some_and(|(leader, _)| leader == from)
                || mutant::is(Mutant::TimeOfAnyone))
        {
            let reading = clock::Reading {
                source: from,
                era,
                group,
                received,
                elapsed: echo.elapsed,
                held: echo.held,
            };
            self.clock.sample(now, &reading);
        }
    }

    fn take_ack(&mut self, from: NodeId, ack: &HeartbeatAck) {
        let received = self.received;
        self.liveness.attended(from);
        let timing = self.liveness.timing_mut(from);
        timing.stamped(received, ack.sent);
        let sample = timing.echoed(received, ack.echo, 0).map(Echo::round_trip);
        self.take_bulletin(from, &ack.bulletin, asked(received, sample));
        self.refresh_visibility(from);
    }

    fn take_query(&mut self, from: NodeId, query: Query) {
        let Some(entry) = self.roster.get(query.device) else {
            return;
        };
        // Only what this device heard itself: its claims are as fresh as that.
        let heard = self
            .sessions
            .as_ref()
            .and_then(|sessions| sessions.last_heard(&entry.key));
        let Some(heard) = heard else { return };
        if query.relay {
            self.messaging.relay(self.now, query.device, from);
        }
        let age = crate::time::micros(self.now.since(heard));
        let vouch = Vouch {
            device: query.device,
            age_us: u32::try_from(age).unwrap_or(u32::MAX),
            claims: entry.told.claims.clone(),
        };
        self.send(from, &Message::Vouch(vouch));
    }

    /// Somebody heard a device that this one does not hear: that keeps it alive here, and what it
    /// claimed then counts while it is out of hearing.
    fn take_vouch(&mut self, vouch: &Vouch) {
        if !self.admits(vouch.device) || mutant::is(Mutant::VouchingIgnored) {
            return;
        }
        let age = u64::from(vouch.age_us);
        let age = if mutant::is(Mutant::VouchAgeless) {
            0
        } else {
            age
        };
        let at = self.now - Duration::from_micros(age);
        let hears = self
            .liveness
            .last_heard(vouch.device)
            .is_some_and(|heard| heard >= at);
        self.liveness.vouched(self.now, vouch.device, at);
        if hears {
            return;
        }
        let about = vouch.device;
        for (group, election) in &mut self.elections {
            let claim = vouch.claims.iter().find(|claim| claim.group == *group);
            let input = match claim.map(claimed) {
                Some(claim) => Input::Report {
                    about,
                    claim,
                    heard: at,
                },
                None => Input::Claim {
                    from: about,
                    claim: None,
                },
            };
            election.handle(self.now, input);
        }
    }

    fn take_who_is(&mut self, from: NodeId, who: WhoIs) {
        let Some(entry) = self.roster.get(who.device) else {
            return;
        };
        let address = self
            .endpoint(who.device)
            .or_else(|| entry.told.candidates.first().copied());
        let Some(address) = address else { return };
        let heard = self
            .sessions
            .as_ref()
            .and_then(|sessions| sessions.last_heard(&entry.key));
        let heard = heard.is_some_and(|heard| self.now.since(heard) <= HEARD_LATELY);
        let heard = heard || mutant::is(Mutant::IntroducedUnheard);
        // Where a device was that is gone for this one too, nobody needs to know.
        if !heard && matches!(entry.standing(), Standing::Missing { .. } | Standing::Left) {
            return;
        }
        let introduce = Introduce {
            key: entry.key,
            boot: entry.boot,
            flags: entry.flags,
            address,
            heard,
        };
        self.send(from, &Message::Introduce(introduce));
    }

    fn take_introduction(&mut self, introduce: Introduce) {
        if introduce.key == self.identity.key || !self.admits(introduce.key.device_id().node()) {
            return;
        }
        let Introduce {
            key,
            boot,
            flags,
            address,
            heard,
        } = introduce;
        let Some(entry) = self.roster.learn(key, boot, flags) else {
            return;
        };
        let is_missing = matches!(entry.standing(), Standing::Missing { .. });
        if is_missing && !heard {
            return;
        }
        entry.add_candidate(address);
        let node = entry.device.node();
        if entry.connected_at.is_none() {
            self.approach(node, boot, address);
        } else if heard && self.is_silent(node) && self.endpoint(node) != Some(address) {
            self.dial(node, boot, &[address]);
        }
        // A member that the introducer hears is one here too, whether or not a session opens: its
        // record is asked for, and where it is if it moves. What nobody hears is left to foca.
        if heard {
            self.refresh_visibility(node);
        }
    }

    fn take_goodbye(&mut self, from: NodeId) {
        self.membership.handle_goodbye(self.now, from);
        self.member_gone(from, crate::event::RemovalReason::Left);
    }

    /// What a heartbeat to this device returns, and the stamp it carries.
    pub(super) fn heartbeat_for(&mut self, to: NodeId, reference: Option<(u64, u64)>) -> Heartbeat {
        let now: Time = self.now;
        let echo = self.liveness.timing_mut(to).take_echo(now);
        // The recipient's clock and this one's differ in pace; group time's is known to both.
        let echo = echo.map(|(sent, held)| (sent, self.clock.group_span(held)));
        let bulletin = self.bulletin_for(to);
        Heartbeat {
            sent: stamp(now),
            echo,
            clock: reference,
            bulletin,
        }
    }
}

/// When this device sent what came back after a round trip of `sample` microseconds.
fn asked(received: Time, sample: Option<u32>) -> Option<Time> {
    sample.map(|sample| received - Duration::from_micros(u64::from(sample)))
}
