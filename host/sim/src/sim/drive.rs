//! The driver of every node: hands inputs over, drains the answers, plans wake-ups and writes.

use core::time::Duration;

use bytes::{Bytes, BytesMut};
use consort_proto::{
    Address, Destination, Event, MAX_DATAGRAM, RemovalReason, StoreRecord, StoreRequest, Time,
    Transmit,
};
use rand::RngExt;
use tracing::Level;

use super::{Happening, Recorded, Sim};
use crate::checker::Observation;
use crate::device::{Input, Output};

/// How often in a row a node may ask to be woken at once.
const OVERDUE_MAX: u32 = 100;
/// How long a write takes to the page cache, at least.
const WRITE_CACHED: Duration = Duration::from_micros(50);
/// The longest that a write may take to the disk for the node's promises to hold.
pub(super) const SYNC_MAX: Duration = Duration::from_millis(375);
/// A cookie reply: the low half of its first byte, and its length.
const COOKIE: u8 = 5;
const COOKIE_LEN: usize = 60;
/// How long a record lies in the page cache.
const CACHE_AGE: Duration = Duration::from_secs(5);

impl Sim {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { node } => {
                if !self.is_up(node) {
                    self.start(node);
                }
            }
            Happening::Deliver { to, from, payload } => {
                let at = self.now;
                self.input(to, Input::Datagram { at, from, payload });
            }
            Happening::Wake { node, life } => {
                if self.devices[node].life == life {
                    self.wake(node);
                }
            }
            Happening::Stored {
                node,
                life,
                token,
                record,
                sync,
            } => {
                if self.devices[node].life == life {
                    self.stored(node, token, record, sync);
                }
            }
            Happening::Beat { index } => self.beat(index),
            Happening::Write { index } => self.workload(index),
            Happening::HandOver { node, life, writes } => {
                if self.devices[node].life == life {
                    self.hand_over(node, *writes);
                }
            }
            Happening::Turn { node, life } => {
                if self.devices[node].life == life {
                    self.turn(node);
                }
            }
        }
    }

    /// Gives one input to a node, unless it is down; while it is paused the input waits.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        let Some(running) = &mut self.devices[node].running else {
            return;
        };
        if let Some(backlog) = &mut running.backlog {
            backlog.keep(input);
            return;
        }
        if let Input::Datagram { from, payload, .. } = &input {
            self.stats.arrived += 1;
            let sender = || match self.by_address.get(from) {
                Some(index) => format!("n{index}"),
                None => from.to_string(),
            };
            self.trace.datagram(now, sender, node, payload);
        }
        let output = self.log.during(|| running.handle(now, input));
        self.look_at_versions(node);
        self.dispose(node, output);
    }

    /// Compares what a node's replicas hold with what they held before.
    fn look_at_versions(&mut self, node: usize) {
        let device = &self.devices[node];
        let Some(running) = &device.running else {
            return;
        };
        let mut problem = None;
        for (group, revision) in running.node.state_revisions() {
            let place = (node, group);
            if !(self.forward).is_news(place, device.life, revision, self.now) {
                continue;
            }
            let moment = (self.now, running.node.state_time());
            let Some(versions) = running.node.state_versions(group) else {
                continue;
            };
            let seen = (device.life, revision);
            let verdict = self.forward.look(place, seen, moment, versions);
            problem = problem.or(verdict.err());
        }
        if let Some(problem) = problem {
            self.fail(&format!("n{node}: {problem}"));
        }
    }

    /// Carries out what a node gave, then plans its next wake-up.
    fn dispose(&mut self, node: usize, output: Output) {
        self.look_at_log(node);
        for transmit in output.transmits {
            self.transmit(node, transmit);
        }
        self.events(node, output.events);
        for request in output.stores {
            self.store(node, request);
        }
        let Some(running) = &self.devices[node].running else {
            return;
        };
        if running.leaving && running.node.has_left() {
            self.stop(node, "has left");
        } else {
            self.plan_wake(node);
        }
    }

    fn look_at_log(&mut self, node: usize) {
        for (level, line) in self.log.take() {
            if level == Level::ERROR {
                self.fail(&format!("n{node} logged {line}"));
            }
            self.trace.comment(&format!("{} n{node} {line}", self.now));
        }
    }

    fn transmit(&mut self, from: usize, mut transmit: Transmit) {
        let version = self.devices[from].config.protocol;
        if version != 1 {
            transmit.payload = with_version(&transmit.payload, version);
        }
        let len = transmit.payload.len();
        if len > MAX_DATAGRAM || len == 0 {
            self.fail(&format!("n{from} sends a datagram of {len} bytes"));
        }
        self.devices[from].datagrams_sent += 1;
        self.devices[from].bytes_sent += len as u64;
        if len == COOKIE_LEN && transmit.payload[0] & 0x0f == COOKIE {
            self.stats.cookies += 1;
        }
        match transmit.to {
            Destination::Address(address) => {
                if let Some(to) = self.by_address.get(&address).copied() {
                    self.carry(from, to, &transmit);
                } else {
                    self.stats.astray += 1;
                    self.stats.astray_bytes += len as u64;
                }
            }
            Destination::Everyone => {
                let segment = self.devices[from].config.segment;
                for to in 0..self.devices.len() {
                    if self.devices[to].config.segment == segment {
                        self.carry(from, to, &transmit);
                    }
                }
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, transmit: &Transmit) {
        self.stats.datagrams += 1;
        self.stats.bytes += transmit.payload.len() as u64;
        if self.record_max > 0 {
            self.record(from, to, transmit.payload.clone());
        }
        let source = self.devices[from].address;
        for (delay, payload) in self
            .network
            .carry(self.now, from, to, &transmit.payload)
            .into_iter()
            .flatten()
        {
            self.queue.push(
                self.now + delay,
                Happening::Deliver {
                    to,
                    from: source,
                    payload,
                },
            );
        }
    }

    fn record(&mut self, from: usize, to: usize, payload: Bytes) {
        if self.recording.len() >= self.record_max.saturating_mul(2) {
            self.recording.drain(..self.record_max);
        }
        self.recording.push(Recorded {
            at: self.now,
            from,
            to,
            payload,
        });
    }

    fn events(&mut self, node: usize, events: Vec<Event>) {
        let mut set_back = false;
        for event in events {
            match event {
                Event::Plugin { id, event } => self.told(node, &id, event),
                Event::Clock(view) => {
                    self.mind_step(node, &view);
                    self.follow_line(node, view);
                    self.trace.detail(self.now, node, &format!("{view:?}"));
                    self.plan_turn(node);
                }
                Event::ClockSetBack { by } => {
                    set_back = true;
                    self.devices[node].set_backs += 1;
                    self.note(&format!("n{node} sets group time back by {by:?}"));
                    self.set_back_actor(node);
                }
                Event::MemberAdded(device) => {
                    self.note(&format!("n{node} has member {}", self.named(device)));
                    self.observe(node, &Observation::MemberAdded(device));
                    self.devices[node].members.insert(device);
                }
                Event::MemberRemoved { device, reason } => {
                    self.stats.removals += 1;
                    self.note(&format!(
                        "n{node} loses {} ({reason:?})",
                        self.named(device)
                    ));
                    self.observe(node, &Observation::MemberRemoved(device));
                    if reason == RemovalReason::Unreachable
                        && let Err(problem) = self.check_removal(node, device)
                    {
                        self.fail(&problem);
                    }
                    self.devices[node].members.remove(&device);
                    self.devices[node].members_lost += 1;
                }
                Event::Rotated { step, result } => {
                    self.note(&format!("n{node} {step:?}: {result:?}"));
                    self.devices[node].rotated = Some((step, result));
                    self.changes += 1;
                }
                Event::CloneDetected {
                    device,
                    kept_at,
                    refused_at,
                } => {
                    let named = self.named(device);
                    self.note(&format!(
                        "n{node} finds {named} twice: {kept_at} is kept, {refused_at} is not"
                    ));
                    self.devices[node].clones_detected += 1;
                }
            }
        }
        self.check_line(node, set_back);
    }

    fn store(&mut self, node: usize, request: StoreRequest) {
        let StoreRequest {
            token,
            record,
            sync,
        } = request;
        let what = match &record {
            StoreRecord::State { group, changes } => {
                format!("{} records of the state of {group:?}", changes.len())
            }
            record => format!("{record:?}"),
        };
        self.trace
            .detail(self.now, node, &format!("stores {what} sync={sync}"));
        let synced = self.devices[node].disk.sync_takes;
        let takes = if sync { synced } else { WRITE_CACHED };
        let jitter = self.rng.random_range(0..=consort_proto::micros(takes));
        let at = self.now + takes + Duration::from_micros(jitter);
        let at = self.devices[node].disk.begin(at);
        let life = self.devices[node].life;
        self.queue.push(
            at,
            Happening::Stored {
                node,
                life,
                token,
                record,
                sync,
            },
        );
    }

    fn stored(&mut self, node: usize, token: u64, record: StoreRecord, sync: bool) {
        let now = self.now;
        let disk = &mut self.devices[node].disk;
        if let Some(fuse) = disk.burn() {
            if fuse.torn && self.rng.random_bool(0.5) {
                self.devices[node].disk.write(now, record);
            }
            return self.blow(node, fuse);
        }
        let result = if disk.full {
            disk.fail();
            Err("no space left on device".to_owned())
        } else {
            if let StoreRecord::Keyring(_) = &record {
                // Whoever holds none of these secrets is cut off.
                self.oracle.links_changed(now);
            }
            disk.write(if sync { now } else { now + CACHE_AGE }, record);
            disk.settle(now);
            Ok(())
        };
        self.input(node, Input::Stored { token, result });
    }

    /// A planned wake-up has come. The node is called only if its timeout is due by now.
    fn wake(&mut self, node: usize) {
        let now = self.now;
        let Some(running) = &mut self.devices[node].running else {
            return;
        };
        if running.wake_at != Some(now) {
            return;
        }
        running.wake_at = None;
        if running.backlog.is_some() {
            return self.input(node, Input::Timeout);
        }
        let Some((at, reason)) = running.wants(now) else {
            return;
        };
        if at > now {
            return self.plan_wake(node);
        }
        let (last, times) = running.overdue;
        running.overdue = if last == now {
            (now, times + 1)
        } else {
            (now, 0)
        };
        if running.overdue.1 > OVERDUE_MAX {
            self.fail(&format!(
                "n{node} asks without end to be woken at once, for {reason:?}"
            ));
        }
        self.trace.wake(now, node, reason);
        self.input(node, Input::Timeout);
    }

    /// Plans the next wake-up, unless an earlier one is planned: that one will plan again.
    pub(super) fn plan_wake(&mut self, node: usize) {
        let device = &mut self.devices[node];
        let Some(running) = &mut device.running else {
            return;
        };
        let Some((at, _)) = running.wants(self.now) else {
            return;
        };
        if at < Time::MAX && running.wake_at.is_none_or(|planned| at < planned) {
            running.wake_at = Some(at);
            self.queue.push(
                at,
                Happening::Wake {
                    node,
                    life: device.life,
                },
            );
        }
    }

    /// Gives a datagram to a node as if it came from `from`.
    pub fn inject(&mut self, to: usize, from: Address, payload: impl Into<Bytes>) {
        self.input(
            to,
            Input::Datagram {
                at: self.now,
                from,
                payload: payload.into(),
            },
        );
    }

    /// A device is to hear a datagram of another one from elsewhere. Where no link connects them it
    /// may never have arrived, and is news from beyond what is a part by itself else.
    pub(crate) fn relay(&mut self, from: usize, to: usize) {
        if !self.network.connects(from, to) {
            self.oracle.touch(self.now, to);
        }
    }

    /// Every datagram sent so far, if [`crate::SimBuilder::record`] asked for it.
    #[must_use]
    pub fn recorded(&self) -> &[Recorded] {
        &self.recording
    }
}

/// A datagram with another protocol version in its first byte.
fn with_version(payload: &[u8], version: u8) -> Bytes {
    let mut changed = BytesMut::from(payload);
    if let Some(first) = changed.first_mut() {
        *first = (*first & 0x0f) | version << 4;
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::{Seed, Sim, spec};

    /// Runs two devices, of which one logs what `logs` does; what the run fails with, if it does.
    fn outcome(logs: fn()) -> Option<String> {
        let mut sim = Sim::builder("logs", Seed(5))
            .devices(2)
            .plugin(spec("app"))
            .build();
        sim.start_all(Duration::from_millis(500));
        sim.run_for(Duration::from_secs(5));
        sim.log.during(logs);
        let run = catch_unwind(AssertUnwindSafe(|| sim.run_for(Duration::from_secs(1))));
        let failed = run.err()?;
        Some(failed.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    #[test]
    fn an_error_in_a_node_s_log_fails_the_run() {
        let failed = outcome(|| tracing::error!(count = 3, "a table is broken"));
        let failed = failed.expect("it ends there");
        assert!(failed.contains("logged ERROR"), "{failed}");
        assert!(failed.contains("a table is broken count=3"), "{failed}");
        assert_eq!(outcome(|| tracing::warn!("the disk is full")), None);
    }
}
