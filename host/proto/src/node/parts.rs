//! Parts of plugins' messages on their way in, and what is asked for and sent again.

use bytes::Bytes;

use super::Node;
use super::traffic::Delivery;
use crate::id::{BootId, GroupKey, NodeId};
use crate::messaging::kept::MessageKey;
use crate::messaging::outbound::{Cargo, Outgoing};
use crate::messaging::reassembly::{Due, PartKey, Taken};
use crate::messaging::{App, Messaging, tree};
use crate::mutant::{self, Mutant};
use crate::pace::silence;
use crate::time::Time;
use crate::wire::message::Message;
use crate::wire::part::{
    Ask, Branch, Class, GroupRef, Head, Part, Relayed, part_count, part_range,
};

/// A message as frames, each part made a message by `wrap`.
pub(super) fn frames(app: &App, group: GroupRef, wrap: impl Fn(Part) -> Message) -> Vec<Bytes> {
    let total = u32::try_from(app.payload.len()).unwrap_or(u32::MAX);
    let parts = 0..part_count(total);
    parts
        .map(|index| frame(wrap(part(app, group, index))))
        .collect()
}

/// Part `index` of a message.
fn part(app: &App, group: GroupRef, index: u32) -> Part {
    let total = u32::try_from(app.payload.len()).unwrap_or(u32::MAX);
    Part {
        head: Head {
            group,
            class: app.class,
            epoch: app.epoch,
            seq: app.seq,
        },
        total,
        index: u8::try_from(index).unwrap_or(u8::MAX),
        chunk: app.payload.slice(part_range(total, index)),
    }
}

pub(super) fn frame(message: Message) -> Bytes {
    let mut bytes = Vec::with_capacity(64);
    message.encode(&mut bytes);
    bytes.into()
}

/// Queues frames for a device. A message that does not fit is counted here, one that fits when it
/// goes out.
pub(super) fn queue(messaging: &mut Messaging, to: NodeId, frames: &[Bytes], cargo: Cargo) {
    if !messaging.outbound.push(to, frames, cargo) && cargo.is_message() {
        messaging.counts_mut(to).dropped += 1;
    }
}

impl Node {
    /// A message, or a part of one, from its sender itself.
    pub(super) fn take_part(&mut self, from: NodeId, mut part: Part) {
        let Some(entry) = self.roster.get(from) else {
            return;
        };
        let boot = entry.boot;
        let Some(group) = entry.group(part.head.group) else {
            self.counters.messages_stale += 1;
            return;
        };
        part.head.group = GroupRef::Key(group);
        if let Some(app) = self.assemble(from, (from, boot), group, part) {
            self.take_app(from, boot, app);
        }
    }

    /// The whole message, if the part completes it.
    pub(super) fn assemble(
        &mut self,
        from: NodeId,
        (origin, boot): (NodeId, BootId),
        group: GroupKey,
        part: Part,
    ) -> Option<App> {
        let Head {
            class, epoch, seq, ..
        } = part.head;
        let payload = if part.is_whole() {
            part.chunk
        } else {
            self.plugin_of(group)?;
            if !self.messaging.is_fresh(origin, boot, seq) {
                return None;
            }
            let key = PartKey {
                from,
                origin,
                boot,
                seq,
            };
            match self.messaging.reassembly.take(self.now, key, &part) {
                Taken::Whole(payload) => payload,
                Taken::Kept | Taken::Ignored => return None,
            }
        };
        Some(App {
            group,
            class,
            epoch,
            seq,
            payload,
        })
    }

    fn take_app(&mut self, origin: NodeId, boot: BootId, message: App) {
        self.relay((origin, boot, message.seq), &message);
        self.deliver(Delivery {
            origin,
            boot,
            message,
        });
    }

    /// Passes a broadcast on to members that do not hear its leader.
    pub(super) fn relay(&mut self, key: MessageKey, message: &App) {
        if message.class != Class::Broadcast {
            return;
        }
        let (origin, boot, _) = key;
        let to = self.messaging.relayed_to(self.now, origin);
        if to.is_empty() {
            return;
        }
        let wrap = |part| Message::Relayed(Relayed { origin, boot, part });
        let frames = frames(message, GroupRef::Key(message.group), wrap);
        for member in &to {
            queue(&mut self.messaging, *member, &frames, Cargo::Passed);
        }
        if frames.len() > 1 {
            let (now, message) = (self.now, message.clone());
            self.messaging
                .kept
                .keep(now, key, message, None, None, to.len());
        }
    }

    /// A relay counts only while this device does not hear the leader itself: else any member could
    /// speak in the leader's name to anyone.
    pub(super) fn take_relayed(&mut self, from: NodeId, relayed: Relayed) {
        let Relayed { origin, boot, part } = relayed;
        let key = self.roster.get(origin).map(|entry| entry.key);
        let sessions = self.sessions.as_ref();
        let heard = key.and_then(|key| sessions.and_then(|sessions| sessions.last_heard(&key)));
        let hears = heard.is_some_and(|at| self.now.since(at) < silence(self.interval()));
        let hears = hears && !mutant::is(Mutant::RelayAlways);
        let GroupRef::Key(group) = part.head.group else {
            return;
        };
        if hears || !self.admits(origin) || part.head.class != Class::Broadcast {
            self.counters.messages_stale += 1;
            return;
        }
        if let Some(message) = self.assemble(from, (origin, boot), group, part) {
            self.deliver(Delivery {
                origin,
                boot,
                message,
            });
        }
    }

    /// Sends again what a device asks for and may have. While other frames wait for it, the asked
    /// ones may be among them: it asks again if not.
    pub(super) fn take_ask(&mut self, from: NodeId, ask: &Ask) {
        let key = (ask.origin, ask.boot, ask.seq);
        let Some(kept) = self.messaging.kept.get(&key) else {
            return;
        };
        let (message, to, digest) = (kept.message.clone(), kept.to, kept.digest);
        let plugin = self.plugin_of(message.group);
        let is_for = match to {
            Some(to) => to == from,
            None => plugin.is_some_and(|plugin| plugin.peers.contains_key(&from)),
        };
        let is_for = is_for || mutant::is(Mutant::AskedByAnyone);
        if !is_for || self.messaging.outbound.is_waiting(from) {
            return;
        }
        let own = (ask.origin, ask.boot) == (self.identity.node, self.identity.boot);
        if ask.notice && own && digest.is_some() {
            let notice = self.notice(&message);
            queue(&mut self.messaging, from, &[notice], Cargo::Again);
        }
        let (origin, boot, _) = key;
        let wrap = |part: Part| match digest {
            Some(_) => Message::Branch(Branch {
                origin,
                boot,
                range: tree::NOBODY,
                part,
            }),
            None if own => Message::Part(part),
            None => Message::Relayed(Relayed { origin, boot, part }),
        };
        let count = part_count(u32::try_from(message.payload.len()).unwrap_or(0));
        let group = GroupRef::Key(message.group);
        let missing = (0..count).filter(|index| ask.missing >> index & 1 == 1);
        let missing: Vec<u32> = missing.collect();
        let whole = missing.len() as u32 == count;
        if own && digest.is_some() && whole && self.is_giving_out() {
            return;
        }
        if !self.messaging.kept.allow(&key, missing.len() as u32) {
            return;
        }
        let again = missing
            .iter()
            .map(|index| frame(wrap(part(&message, group, *index))));
        let again: Vec<Bytes> = again.collect();
        if self.messaging.outbound.push(from, &again, Cargo::Again) {
            self.messaging.counts_mut(from).parts_resent += again.len() as u64;
        }
    }

    /// Whether the credit of this device goes into something else than the whole payload of a message
    /// of its own that somebody waits for. In the tree, each payload that its sender gives out besides
    /// delays those that all others wait for, who then ask as well: the sender alone would send what
    /// the tree is there to spread. Who asks in vain asks other members next.
    fn is_giving_out(&self) -> bool {
        self.messaging.outbound.is_busy() && !mutant::is(Mutant::BusySenderAnswers)
    }

    /// Asks for what is missing, and gives up what never comes.
    pub(super) fn settle_messages(&mut self) -> bool {
        let mut moved = self.settle_tree();
        while let Some(due) = self.messaging.reassembly.poll(self.now) {
            moved = true;
            match due {
                Due::Ask { key, missing } => {
                    let ask = Ask {
                        origin: key.origin,
                        boot: key.boot,
                        seq: key.seq,
                        notice: false,
                        missing,
                    };
                    self.send(key.from, &Message::Ask(ask));
                }
                Due::Lost { key } if key.from == key.origin => {
                    self.messaging.counts_mut(key.origin).lost += 1;
                }
                Due::Lost { .. } => {}
            }
        }
        moved
    }

    /// Hands the frames that there is credit for to the datagrams under way. Without a session all
    /// that waits for that device is dropped.
    pub(super) fn pay_out(&mut self) {
        while let Some(Outgoing { to, frame, ends }) = self.messaging.outbound.poll(self.now) {
            let goes = self.send_frame(to, |out| out.extend_from_slice(&frame));
            match ends {
                Some(Cargo::Own) if goes => self.messaging.counts_mut(to).sent += 1,
                Some(cargo) if !goes && cargo.is_message() => {
                    self.messaging.counts_mut(to).dropped += 1;
                }
                Some(_) | None => {}
            }
            if !goes {
                self.drop_waiting(to);
            }
        }
    }

    /// Drops and counts the messages that wait for a device that cannot be sent to.
    pub(super) fn drop_waiting(&mut self, to: NodeId) {
        let dropped = self.messaging.outbound.forget(to);
        if dropped > 0 {
            self.messaging.counts_mut(to).dropped += dropped;
        }
    }

    pub(super) fn next_message_timeout(&self) -> Option<Time> {
        let machines = [
            self.messaging.outbound.next_timeout(),
            self.messaging.reassembly.next_timeout(),
            self.messaging.waiting.next_timeout(),
            self.next_reminder(),
        ];
        machines.into_iter().flatten().min()
    }
}
