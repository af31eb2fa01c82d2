//! The one loop that touches the node.
//!
//! A turn: wait until something happens; hear what the sockets hold; take what plugins, store and
//! resolver have queued; look after clocks and interfaces; and only then tell the node that a
//! timeout has passed. So a daemon that was stalled or suspended first hears what it missed, and
//! suspects nobody for its own absence. Each input is followed by a full drain of the node:
//! datagrams to the sockets, events to the plugins, records to the store.
//!
//! A turn is bounded: so many datagrams, so many queued events. Nothing in it waits.
//!
//! The way out is a chain of phases, each with a deadline, together below two seconds: the plugins
//! are shut down while the loop goes on (what they say last is still sent), then the node leaves
//! (names successors, says goodbye), then the loop ends.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::{
    Address, Command, Event, Node, PluginEvent, PluginId, RemovalReason, RotateError, RotateStep,
    Time,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::{self, SharedClock, WallWatch};
use crate::control::rotate::{Asked, RotateAnswer};
use crate::net::Net;
use crate::net::resolve::{self, Seed};
use crate::plugins::{HostEvent, Plugins};
use crate::snapshot::{self, Origin, Publisher};
use crate::storage::{StoreHandle, StoreOutcome};

/// Datagrams heard per turn at most: more than the receive buffers hold at usual limits.
const DATAGRAMS_PER_TURN: usize = 1024;
/// Queued events of the plugin host taken per turn at most.
const HOST_EVENTS_PER_TURN: usize = 256;
/// How often the clocks are compared.
const WALL_CHECK_EVERY: Duration = Duration::from_secs(1);
/// A loop that turns so much too late was asleep with its machine, or stopped.
const SLEPT: Duration = Duration::from_secs(1);
/// What the plugins get to end in order.
const PLUGINS_STOP_MAX: Duration = Duration::from_millis(1_200);
/// What the node gets to say goodbye.
const LEAVE_MAX: Duration = Duration::from_millis(500);

/// What the driver works with.
#[expect(
    missing_debug_implementations,
    reason = "it holds channels and sockets, nothing to show"
)]
pub struct Parts {
    /// The protocol.
    pub node: Node,
    /// The sockets.
    pub net: Net,
    /// The running plugins.
    pub plugins: Arc<dyn Plugins>,
    /// The store's writing thread.
    pub store: StoreHandle,
    /// Group time for the plugins' threads.
    pub clock: Arc<SharedClock>,
    /// Where snapshots go.
    pub publisher: Publisher,
    /// For snapshots.
    pub origin: Origin,
    /// The clocks as they were when the node was made.
    pub wall: WallWatch,
}

/// What comes in, sockets apart.
#[expect(
    missing_debug_implementations,
    reason = "it holds channels and sockets, nothing to show"
)]
pub struct Inputs {
    /// From the plugin host's threads.
    pub host_events: mpsc::Receiver<HostEvent>,
    /// From the store's writing thread.
    pub stored: mpsc::Receiver<StoreOutcome>,
    /// From the resolver.
    pub seeds: watch::Receiver<Vec<Seed>>,
    /// Tells the resolver that the network changed.
    pub network_changed: Arc<Notify>,
    /// From the control socket.
    pub control: mpsc::Receiver<Asked>,
    /// Ends when the daemon is to stop.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// How far the daemon is on its way out.
enum Phase {
    /// It is not.
    Running,
    /// The plugins are being shut down; the node still works for them.
    StoppingPlugins {
        done: oneshot::Receiver<()>,
        until: Time,
    },
    /// The node says goodbye.
    Leaving { until: Time },
    /// Nothing is left to do.
    Left,
}

/// What ended the wait.
enum Wake {
    Stop,
    PluginsStopped,
    Datagrams,
    Stored(StoreOutcome),
    Host(HostEvent),
    Seeds,
    Asked(Asked),
    Due,
}

/// The loop and all that it owns.
#[expect(
    missing_debug_implementations,
    reason = "it holds channels and sockets, nothing to show"
)]
pub struct Driver {
    parts: Parts,
    phase: Phase,
    /// Requests that the store had no room for; the node is told in the next turn.
    refused: Vec<(u64, String)>,
    /// Who waits for the outcome of a step of a rotation.
    rotating: Option<oneshot::Sender<RotateAnswer>>,
    wall_check: Time,
    /// What the node was told that names stand for.
    resolved: Vec<Address>,
}

impl Driver {
    /// A driver that has not run yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let now = clock::now();
        Self {
            parts,
            phase: Phase::Running,
            refused: Vec::new(),
            rotating: None,
            wall_check: now + WALL_CHECK_EVERY,
            resolved: Vec::new(),
        }
    }

    /// Runs until the daemon has stopped in order.
    pub async fn run(mut self, mut inputs: Inputs) {
        self.drain(clock::now());
        while !matches!(self.phase, Phase::Left) {
            let wake = self.wait(&mut inputs).await;
            self.turn(wake, &mut inputs);
        }
        // The writing thread waits while its outcomes are not taken, and dropping the store waits
        // for the thread.
        drop(inputs);
    }

    async fn wait(&mut self, inputs: &mut Inputs) -> Wake {
        let now = clock::now();
        let due = self.wake_at().max(now);
        let pause = due.since(now);
        let running = matches!(self.phase, Phase::Running);
        let plugins_stopped = async {
            match &mut self.phase {
                // An error means that the thread ended without a word, which is an end too.
                Phase::StoppingPlugins { done, .. } => drop(done.await),
                Phase::Running | Phase::Leaving { .. } | Phase::Left => pending().await,
            }
        };
        let wake = tokio::select! {
            biased;
            () = &mut inputs.stop, if running => Wake::Stop,
            () = plugins_stopped => Wake::PluginsStopped,
            () = self.parts.net.readable() => Wake::Datagrams,
            Some(stored) = inputs.stored.recv() => Wake::Stored(stored),
            Some(event) = inputs.host_events.recv() => Wake::Host(event),
            Ok(()) = inputs.seeds.changed() => Wake::Seeds,
            Some(asked) = inputs.control.recv() => Wake::Asked(asked),
            () = tokio::time::sleep(pause) => Wake::Due,
        };
        if clock::now().since(due) > SLEPT {
            // Whoever waits for a plugin's timer did not see that time pass.
            self.parts.plugins.clock_changed();
        }
        wake
    }

    /// When the loop must turn even if nothing comes in.
    fn wake_at(&mut self) -> Time {
        let node = self
            .parts
            .node
            .poll_timeout()
            .map_or(Time::MAX, |(at, _)| at);
        let phase = match &self.phase {
            Phase::Running | Phase::Left => Time::MAX,
            Phase::StoppingPlugins { until, .. } | Phase::Leaving { until } => *until,
        };
        let refused = if self.refused.is_empty() {
            Time::MAX
        } else {
            Time::ZERO
        };
        [
            node,
            phase,
            refused,
            self.parts.publisher.due(),
            self.wall_check,
            self.parts.net.refresh_due(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Time::ZERO)
    }

    fn turn(&mut self, wake: Wake, inputs: &mut Inputs) {
        self.hear_datagrams();
        let plugins_stopped = matches!(wake, Wake::PluginsStopped);
        match wake {
            Wake::Stop => self.stop_plugins(),
            Wake::Stored(stored) => self.take_stored(stored),
            Wake::Host(event) => self.take_host_event(event),
            Wake::Seeds => self.take_seeds(inputs),
            Wake::Asked(asked) => self.rotate(asked),
            Wake::PluginsStopped | Wake::Datagrams | Wake::Due => {}
        }
        self.take_queued(inputs);
        let now = clock::now();
        self.check_surroundings(now, inputs);
        if self
            .parts
            .node
            .poll_timeout()
            .is_some_and(|(at, _)| at <= now)
        {
            self.parts.node.handle_timeout(now);
            self.drain(now);
        }
        self.advance_phase(now, plugins_stopped, inputs);
        let Parts {
            node,
            net,
            plugins,
            clock,
            publisher,
            origin,
            ..
        } = &mut self.parts;
        publisher.publish_if_due(now, || {
            snapshot::build(
                now,
                *origin,
                &node.status(now),
                &plugins.status(),
                net,
                &inputs.seeds.borrow(),
                clock.view(),
            )
        });
    }

    fn hear_datagrams(&mut self) {
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(datagram) = self.parts.net.receive() else {
                return;
            };
            let (from, received) = (datagram.from, datagram.received);
            let now = clock::now();
            self.parts
                .node
                .handle_datagram_received(now, received, from, datagram.payload);
            self.drain(now);
        }
    }

    /// Takes what else is there already, so that a flood of datagrams starves nothing.
    fn take_queued(&mut self, inputs: &mut Inputs) {
        let now = clock::now();
        for (token, reason) in std::mem::take(&mut self.refused) {
            self.parts.node.handle_stored(now, token, Err(reason));
            self.drain(now);
        }
        // Bounded by the channel's size.
        while let Ok(stored) = inputs.stored.try_recv() {
            self.take_stored(stored);
        }
        for _ in 0..HOST_EVENTS_PER_TURN {
            let Ok(event) = inputs.host_events.try_recv() else {
                break;
            };
            self.take_host_event(event);
        }
        self.take_seeds(inputs);
    }

    /// Names are looked at when one of them stands for something else.
    fn take_seeds(&mut self, inputs: &Inputs) {
        let resolved = resolve::resolved(&inputs.seeds.borrow());
        if resolved != self.resolved {
            self.resolved.clone_from(&resolved);
            self.parts.publisher.touch();
            self.command(Command::Seeds(resolved));
        }
    }

    fn take_stored(&mut self, stored: StoreOutcome) {
        let now = clock::now();
        self.parts
            .node
            .handle_stored(now, stored.token, stored.result);
        self.drain(now);
    }

    fn take_host_event(&mut self, event: HostEvent) {
        self.parts.publisher.touch();
        match event {
            HostEvent::Up(spec) => self.command(Command::PluginUp(spec)),
            HostEvent::Quota { id, quota } => self.command(Command::PluginQuota { id, quota }),
            HostEvent::State { id, config } => self.command(Command::PluginState { id, config }),
            HostEvent::Faulted(id) => self.command(Command::PluginFaulted(id)),
            HostEvent::Down(id) => self.command(Command::PluginDown(id)),
            // For the programs on this device, to whom the plugins' threads hand it themselves.
            HostEvent::Local { .. } | HostEvent::Published { .. } => {}
            HostEvent::Commands { id, commands } => {
                // What one callback sends shares datagrams.
                let now = clock::now();
                for command in commands {
                    let id = id.clone();
                    let command = Command::Plugin { id, command };
                    self.parts.node.handle_command(now, command);
                }
                self.drain(now);
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = clock::now();
        self.parts.node.handle_command(now, command);
        self.drain(now);
    }

    /// Compares the clocks and looks for interfaces, each at its time.
    fn check_surroundings(&mut self, now: Time, inputs: &Inputs) {
        if now >= self.wall_check {
            self.wall_check = now + WALL_CHECK_EVERY;
            let wall_us = clock::wall_us();
            if let Some(by_us) = self.parts.wall.check(now, wall_us) {
                tracing::info!(by_us, "the wall clock was set");
                self.command(Command::WallClock(wall_us));
            }
        }
        if now >= self.parts.net.refresh_due() {
            let changed = self.parts.net.refresh(now);
            // Interfaces that are not used are shown too.
            self.parts.publisher.touch();
            if changed {
                inputs.network_changed.notify_one();
                self.command(Command::NetworkChanged);
            }
        }
    }

    /// Carries out all that the node wants done.
    fn drain(&mut self, now: Time) {
        while let Some(transmit) = self.parts.node.poll_transmit() {
            self.parts.net.send(&transmit, now);
        }
        while let Some(event) = self.parts.node.poll_event() {
            self.parts.publisher.touch();
            self.apply(event);
        }
        while let Some(request) = self.parts.node.poll_store() {
            let token = request.token;
            if let Err(reason) = self.parts.store.submit(request) {
                tracing::warn!(reason, "a record was not stored");
                self.refused.push((token, reason));
            }
        }
    }

    fn rotate(&mut self, asked: Asked) {
        if self.rotating.is_some() {
            let busy = RotateAnswer::new(Err(RotateError::Busy));
            // Whoever asked may be gone by now, here and below.
            let _ = asked.answer.send(busy);
            return;
        }
        self.rotating = Some(asked.answer);
        let (step, force) = (asked.request.step.into(), asked.request.force);
        self.command(Command::Rotate { step, force });
    }

    fn rotated(&mut self, step: RotateStep, result: Result<u32, RotateError>) {
        match &result {
            Ok(epoch) => tracing::info!(?step, epoch, "the group's secret is rotated"),
            Err(error) => tracing::warn!(?step, %error, "the group's secret is not rotated"),
        }
        if let Some(answer) = self.rotating.take() {
            let _ = answer.send(RotateAnswer::new(result));
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Plugin { id, event } => {
                log_role(&id, &event);
                self.parts.plugins.deliver(&id, event);
            }
            Event::Clock(view) => {
                if self.parts.clock.set(clock::now(), view) {
                    self.parts.plugins.clock_changed();
                }
            }
            Event::ClockSetBack { by } => {
                tracing::warn!(
                    by_us = consort_proto::micros(by),
                    "group time was set back: the plugins start anew"
                );
                self.parts.plugins.clock_set_back();
            }
            Event::MemberAdded(device) => tracing::info!(%device, "member added"),
            Event::MemberRemoved {
                device,
                reason: RemovalReason::Left,
            } => {
                tracing::info!(%device, "member left");
            }
            Event::MemberRemoved {
                device,
                reason: RemovalReason::Unreachable,
            } => {
                tracing::info!(%device, "member is unreachable");
            }
            Event::MemberRemoved {
                device,
                reason: RemovalReason::Denied,
            } => {
                tracing::warn!(%device, "member is not admitted any more");
            }
            Event::Rotated { step, result } => self.rotated(step, result),
            // The node has warned of it; the status shows it for as long as it lasts.
            Event::CloneDetected { .. } => {}
        }
    }

    /// Begins the way out. The shutdown waits for plugins, so it has a thread of its own.
    fn stop_plugins(&mut self) {
        tracing::info!("stopping");
        let until = clock::now() + PLUGINS_STOP_MAX + Duration::from_millis(100);
        let (tell, done) = oneshot::channel();
        let plugins = Arc::clone(&self.parts.plugins);
        let spawned = std::thread::Builder::new()
            .name("shutdown".to_owned())
            .spawn(move || {
                plugins.shutdown(PLUGINS_STOP_MAX);
                // Nobody listens once the deadline has passed.
                let _ = tell.send(());
            });
        if let Err(error) = spawned {
            // `tell` is gone with the closure, so that `done` ends at once.
            tracing::error!(%error, "no thread to shut the plugins down; they are cut off");
        }
        self.phase = Phase::StoppingPlugins { done, until };
    }

    fn advance_phase(&mut self, now: Time, plugins_stopped: bool, inputs: &mut Inputs) {
        match &self.phase {
            Phase::Running | Phase::Left => {}
            Phase::StoppingPlugins { until, .. } => {
                if !plugins_stopped && now < *until {
                    return;
                }
                if !plugins_stopped {
                    tracing::warn!("the plugins did not end in time");
                }
                // What they said last was queued before they ended.
                self.take_queued(inputs);
                self.phase = Phase::Leaving {
                    until: now + LEAVE_MAX,
                };
                self.command(Command::Leave);
                self.advance_phase(now, false, inputs);
            }
            Phase::Leaving { until } => {
                if self.parts.node.has_left() || now >= *until {
                    self.phase = Phase::Left;
                    tracing::info!("stopped");
                }
            }
        }
    }
}

/// Changes of leadership, as this device's plugin is told of them.
fn log_role(group: &PluginId, event: &PluginEvent) {
    match event {
        PluginEvent::PromoteLeader(tenure) => {
            tracing::info!(%group, term = tenure.term, "this device leads");
        }
        PluginEvent::PromoteFollower(tenure) => tracing::info!(
            %group, term = tenure.term, leader = %tenure.leader.device,
            leader_name = tenure.leader.name, "another device leads"
        ),
        PluginEvent::DemoteLeader => tracing::info!(%group, "this device leads no longer"),
        PluginEvent::DemoteFollower => tracing::info!(%group, "the leader is lost"),
        PluginEvent::TermChanged { term } => tracing::debug!(%group, term, "the term grew"),
        PluginEvent::BroadcastsHeld(held) => {
            tracing::info!(%group, held, "broadcasts are held back");
        }
        PluginEvent::PeerAdded(peer) => {
            tracing::debug!(%group, device = %peer.device, "runs the plugin too");
        }
        PluginEvent::PeerRemoved(peer) => {
            tracing::debug!(%group, device = %peer.device, "runs the plugin no longer");
        }
        PluginEvent::PeerUpdated(_)
        | PluginEvent::LeaderMessage { .. }
        | PluginEvent::PeerMessage { .. }
        | PluginEvent::Joined(_)
        | PluginEvent::State(_) => {}
        PluginEvent::WritesSuperseded(keys) => {
            tracing::warn!(%group, ?keys, "another leader's state holds: writes of this device were not adopted");
        }
    }
}

#[cfg(test)]
mod tests;
