//! The system group's namespace: what devices say of themselves.
//!
//! A device's record is the one key of its device state there: its owner alone writes it, and of two
//! boots the later one counts. No plugin sees any of it; what is new goes to the roster. Every
//! bulletin names the version of its sender's record, so replicas are not compared as wholes, which
//! would cost a vector of all members' streams: whoever is behind asks for the state of that one
//! device. What is told of a device by others counts while there is no session with it.

use core::time::Duration;

use super::{Kept, StateConfig};
use crate::election::Candidate;
use crate::id::{GroupKey, NodeId};
use crate::mutant::{self, Mutant};
use crate::node::Node;
use crate::pace::is_large;
use crate::replication::{MergeError, subject};
use crate::wire::message::Message;
use crate::wire::record::{RECORD_KEY, RECORD_MAX, Record};
use crate::wire::state::{Class, Purpose, StateAck, StateDelta, StateVector, StreamId};

/// How often a device is asked for its record.
const RECORD_ASK_PERIOD: Duration = Duration::from_millis(200);
/// Bytes of all records: as many as there may be streams, of the largest size, stay within it.
const QUOTA: u64 = 5 << 19;

impl Node {
    /// Opens the system group: its election, and its namespace with this device's record in it.
    pub(in super::super) fn open_system(&mut self) {
        self.open_election(GroupKey::SYSTEM, Candidate::default());
        let config = StateConfig {
            // Its digest goes nowhere; other groups' intervals count.
            interval: Duration::from_secs(3600),
            quota: QUOTA,
            ..StateConfig::default()
        };
        let now = self.group_now();
        if let Some(kept) = self.states.open(GroupKey::SYSTEM, config, now) {
            kept.active = true;
        }
        self.write_record();
    }

    /// This device's record is another one from here on: all connected devices are told.
    pub(in super::super) fn record_changed(&mut self) {
        self.serials.record += 1;
        self.write_record();
        self.spread_record();
    }

    fn write_record(&mut self) {
        let (now, value) = (self.group_now(), self.own_record().encode());
        if let Some(kept) = self.states.active(GroupKey::SYSTEM) {
            kept.replica.put_own(now, RECORD_KEY, value);
            kept.replica.forget_changes();
        }
    }

    /// Tells all connected devices of this one's record; again those that do not acknowledge it, but
    /// in large groups, where the next bulletin makes up for a loss.
    fn spread_record(&mut self) {
        let insists = !is_large(self.membership.active_count());
        let connected: Vec<NodeId> = self.roster.connected().collect();
        let now = self.now;
        for node in connected {
            let Some(delta) = self.tell_record(node, insists) else {
                return;
            };
            if let Some(kept) = self.states.active(GroupKey::SYSTEM).filter(|_| insists) {
                kept.push.insist(now, node, (delta.stream, delta.to));
            }
        }
    }

    /// Sends a device this one's record. `direct` has it acknowledged.
    pub(in super::super) fn tell_record(&mut self, to: NodeId, direct: bool) -> Option<StateDelta> {
        let me = self.identity.node;
        let kept = self.states.active(GroupKey::SYSTEM)?;
        let mut delta = told(kept, me)?;
        delta.direct = direct;
        self.send(to, &Message::StateDelta(delta.clone()));
        Some(delta)
    }

    /// Tells those again that have not acknowledged it.
    pub(super) fn time_records(&mut self) {
        let now = self.now;
        let Some(kept) = self.states.active(GroupKey::SYSTEM) else {
            return;
        };
        for (node, _) in kept.push.due_again(now) {
            self.tell_record(node, true);
        }
    }

    /// Asks for a device's record where its bulletins name a newer one.
    pub(in super::super) fn want_record(&mut self, node: NodeId, version: u32) {
        let now = self.now;
        let Some(entry) = self.roster.get_mut(node) else {
            return;
        };
        let record = entry.record.as_ref();
        let behind = entry.told.hearsay || record.is_none_or(|record| record.version < version);
        let asked = entry.told.record_asked_at;
        if !behind || asked.is_some_and(|at| now.since(at) < RECORD_ASK_PERIOD) {
            return;
        }
        entry.told.record_asked_at = Some(now);
        if let Some(question) = self.record_question(node, false) {
            self.send(node, &question);
        }
    }

    /// Asks for a device's record: whatever it is, or another one than is held here.
    pub(in super::super) fn record_question(&self, about: NodeId, other: bool) -> Option<Message> {
        let kept = self.states.kept.get(&GroupKey::SYSTEM)?;
        Some(Message::StateVector(kept.replica.vector_of(about, other)))
    }

    /// A device is a member, or is one no longer.
    pub(in super::super) fn record_present(&mut self, node: NodeId, present: bool) {
        let now = self.group_now();
        if let Some(kept) = self.states.active(GroupKey::SYSTEM) {
            kept.replica.set_present(now, node, present);
            if !present {
                kept.push.forget(node);
            }
        }
    }

    /// Takes what concerns the namespace.
    pub(super) fn take_system(&mut self, from: NodeId, message: Message) {
        let taken = match message {
            Message::StateDelta(delta) => self.take_record(from, delta),
            Message::StateVector(vector) => self.take_record_question(from, &vector),
            // Records fit a datagram, and nobody leads here.
            _ => None,
        };
        if taken.is_none() {
            self.counters.state_refused += 1;
            tracing::debug!(?from, "word of a record refused");
        }
    }

    /// A record counts from its own device, and from others only while there is no session with it.
    /// None if it is refused.
    fn take_record(&mut self, from: NodeId, mut delta: StateDelta) -> Option<()> {
        let (record, n) = unpack(&mut delta)?;
        let (stream, node) = (delta.stream, delta.stream.writer());
        if node == self.identity.node {
            return None;
        }
        if !self.admits(node) {
            return Some(());
        }
        let learnt = self.roster.learn(record.key, record.boot, record.flags);
        let Some(entry) = learnt else { return Some(()) };
        let own_word = node == from;
        let hearsay = !own_word && !mutant::is(Mutant::RecordFromAnyone);
        if hearsay && entry.connected_at.is_some() {
            return None;
        }
        if own_word && entry.boot != record.boot {
            return Some(());
        }
        let known = entry.record.as_ref();
        let newer =
            known.is_none_or(|known| known.boot != record.boot || known.version < record.version);
        // What it says itself counts more than any word of others.
        let newer = newer || (own_word && entry.told.hearsay);
        if own_word && newer {
            self.outrank(from, (stream, n));
        }
        let merged = self.merge_record(from, &delta);
        let kept = self.states.active(GroupKey::SYSTEM)?;
        let holds = kept.replica.holds(stream, n);
        match merged {
            // A replica without room does not keep a connected device out.
            Err(MergeError::Full) if own_word => {}
            Err(_) => return None,
            Ok(_) if !holds => return Some(()),
            Ok(_) => {}
        }
        if newer {
            self.enter_record(node, record, !own_word);
        }
        Some(())
    }

    /// What is held of a device beyond what it says itself is false, or its counter of boots was set
    /// back. Here that is dropped; for the others' sake the device is told.
    fn outrank(&mut self, from: NodeId, (stream, n): (StreamId, u64)) {
        let Some(kept) = self.states.active(GroupKey::SYSTEM) else {
            return;
        };
        if !kept.replica.is_beyond(stream, n) {
            return;
        }
        let vector = kept.replica.vector_of(from, true);
        kept.replica.drop_beyond(stream, n);
        self.send(from, &Message::StateVector(vector));
    }

    fn merge_record(&mut self, from: NodeId, delta: &StateDelta) -> Result<bool, MergeError> {
        let (now, stream) = (self.group_now(), delta.stream);
        let Some(kept) = self.states.active(GroupKey::SYSTEM) else {
            return Err(MergeError::Full);
        };
        let mut merged = kept.replica.merge(now, from, delta);
        if merged == Err(MergeError::Full) {
            kept.replica.drop_absent();
            merged = kept.replica.merge(now, from, delta);
        }
        kept.replica.forget_changes();
        if merged.is_ok() && delta.direct {
            let ack = StateAck {
                group: GroupKey::SYSTEM,
                stream,
                mark: kept.replica.mark(stream),
            };
            self.send(from, &Message::StateAck(ack));
        }
        merged
    }

    /// A device's record is there.
    fn enter_record(&mut self, node: NodeId, record: Record, hearsay: bool) {
        let Some(entry) = self.roster.get_mut(node) else {
            return;
        };
        let before = entry.record.as_ref().map(|known| known.boot);
        if before == Some(entry.boot) && entry.connected_at.is_none() && entry.boot != record.boot {
            // Others met a later boot of it.
            entry.restarted(record.boot);
        }
        entry.flags = record.flags;
        let key = entry.key;
        entry.set_record(record, hearsay);
        self.roster.stir(node, &key);
        self.refresh_visibility(node);
        self.refresh_peer(node);
    }

    /// Somebody asks for a device's record, or tells this one of a later boot of its own.
    fn take_record_question(&mut self, from: NodeId, vector: &StateVector) -> Option<()> {
        let about = subject(vector).filter(|_| vector.table.is_none())?;
        if matches!(vector.purpose, Purpose::Answer(_)) || vector.held.len() > 1 {
            return None;
        }
        let now = self.group_now();
        let kept = self.states.active(GroupKey::SYSTEM)?;
        if about == kept.replica.node() && kept.replica.hear_of_own(now, &vector.held) {
            kept.replica.forget_changes();
            self.spread_record();
            return Some(());
        }
        let theirs = vector.held.first().map(|held| (held.stream, held.mark));
        let delta = told(kept, about).filter(|delta| Some((delta.stream, delta.to)) > theirs);
        if let Some(delta) = delta {
            self.send(from, &Message::StateDelta(delta));
        }
        Some(())
    }
}

/// A device's record as it travels: its key says whose it is.
fn told(kept: &Kept, of: NodeId) -> Option<StateDelta> {
    let mut delta = kept.replica.whole_of(of)?;
    delta.device = None;
    Some(delta)
}

/// Whether a message is about the namespace, and goes to [`Node::take_system`].
pub(super) fn is_of_system(message: &Message) -> bool {
    let group = match message {
        Message::StateVector(vector) => vector.group,
        Message::StateDelta(delta) => delta.group,
        Message::StateChunk(chunk) => chunk.group,
        Message::TableRequest(request) => request.group,
        _ => return false,
    };
    group == GroupKey::SYSTEM
}

/// The record that a delta consists of, and its number; completes the delta by whose it is. None if
/// it is anything else than the whole state of the device that the record names.
fn unpack(delta: &mut StateDelta) -> Option<(Record, u64)> {
    let StreamId::Device { writer, .. } = delta.stream else {
        return None;
    };
    let [entry] = &delta.entries[..] else {
        return None;
    };
    let whole = delta.from == 0 && delta.to == entry.n && !delta.more;
    let plain = entry.class == Class::Value && entry.expires_at == 0;
    if !whole || !plain || entry.key != RECORD_KEY || entry.value.len() > RECORD_MAX {
        return None;
    }
    let record = Record::decode(&entry.value)?;
    let device = record.key.device_id();
    if delta.device.is_some() || device.node() != writer {
        return None;
    }
    delta.device = Some(device);
    Some((record, entry.n))
}
