//! Two daemons without a plugin host, over real sockets on the loopback.

use std::net::SocketAddr;
use std::sync::Mutex;

use consort_proto::crypto::Ring;
use consort_proto::{
    GroupSecret, NodeConfig, PluginCommand, PluginSpec, StaticSecret, Stored, Version,
};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Network;
use crate::plugins::PluginHostStatus;
use crate::storage::Storage;

/// Stands in for the plugin host: remembers what it is told.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<PluginEvent>>,
    stopped: Mutex<Option<Duration>>,
    /// How often group time was set back, and how often it was otherwise moved.
    clock: Mutex<(u32, u32)>,
}

impl Plugins for Recorder {
    fn deliver(&self, _: &PluginId, event: PluginEvent) {
        self.events.lock().expect("unpoisoned").push(event);
    }

    fn clock_set_back(&self) {
        self.clock.lock().expect("unpoisoned").0 += 1;
    }

    fn clock_changed(&self) {
        self.clock.lock().expect("unpoisoned").1 += 1;
    }

    fn status(&self) -> Vec<PluginHostStatus> {
        vec![]
    }

    fn shutdown(&self, within: Duration) {
        *self.stopped.lock().expect("unpoisoned") = Some(within);
    }
}

struct Daemon {
    plugins: Arc<Recorder>,
    host: mpsc::Sender<HostEvent>,
    latest: crate::control::server::Latest,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn plugin() -> PluginSpec {
    let id = PluginId::new("beat").expect("valid");
    PluginSpec {
        id,
        version: Version {
            major: 1,
            minor: 0,
            patch: 0,
        },
        priority: 0,
        preempt: false,
    }
}

/// A driver with a device's parts, and what stays outside.
struct Assembled {
    driver: Driver,
    plugins: Arc<Recorder>,
    stored: mpsc::Receiver<StoreOutcome>,
    dir: tempfile::TempDir,
}

impl Assembled {
    fn new(key: u8, listen: SocketAddr, seed: SocketAddr) -> Self {
        let settings = Network {
            listen: vec![listen],
            discovery_port: 1,
            multicast: false,
            broadcast: false,
            send_rate: consort_proto::SendRate::default(),
            seeds: vec![],
            interfaces: vec![],
            interfaces_denied: vec![],
        };
        let now = clock::now();
        let net = Net::open(&settings, now).expect("the port is free");
        let dir = tempfile::tempdir().expect("a folder");
        let (storage, remembered) = Storage::open(dir.path()).expect("opens");
        let config = NodeConfig {
            name: format!("device {key}"),
            group: Some(GroupSecret::from_random(&[7; 48]).into()),
            version: Version::default(),
            port: net.port(),
            aes_in_hardware: true,
            seeds: vec![Address::Udp(seed)],
            access: consort_proto::Access::default(),
            crypto: Arc::new(Ring),
            send_rate: consort_proto::SendRate::default(),
        };
        let stored = Stored {
            state: Vec::new(),
            secret: StaticSecret::new([key; 32]),
            boot_counter: remembered.boot_counter,
            epoch_ceilings: vec![],
            addresses: vec![],
        };
        let wall_us = clock::wall_us();
        let node = Node::new(config, stored, now, wall_us, [key; 32]).expect("a good key");
        let (stored_out, stored) = mpsc::channel(4);
        let done = Arc::new(move |outcome| drop(stored_out.blocking_send(outcome)));
        let plugins = Arc::new(Recorder::default());
        let parts = Parts {
            node,
            net,
            plugins: Arc::clone(&plugins) as Arc<dyn Plugins>,
            store: storage.start(done).expect("a thread"),
            clock: Arc::new(SharedClock::new(now, wall_us)),
            publisher: Publisher::new(),
            origin: Origin {
                started: now,
                boot_counter: 1,
            },
            wall: WallWatch::new(now, wall_us),
        };
        Self {
            driver: Driver::new(parts),
            plugins,
            stored,
            dir,
        }
    }
}

impl Daemon {
    fn start(key: u8, listen: SocketAddr, seed: SocketAddr) -> Self {
        let Assembled {
            driver,
            plugins,
            stored,
            dir,
        } = Assembled::new(key, listen, seed);
        let latest = driver.parts.publisher.subscribe();
        let (host, host_events) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let (_, seeds) = watch::channel(vec![]);
        let stop_input = Box::pin(async { drop(stopped.await) });
        let inputs = Inputs {
            host_events,
            stored,
            seeds,
            network_changed: Arc::new(Notify::new()),
            control: mpsc::channel(1).1,
            stop: stop_input,
        };
        let task = tokio::spawn(driver.run(inputs));
        Self {
            plugins,
            host,
            latest,
            stop: Some(stop),
            task,
            _dir: dir,
        }
    }

    async fn tell(&self, event: HostEvent) {
        self.host.send(event).await.expect("the driver runs");
    }

    fn saw(&self, wanted: impl Fn(&PluginEvent) -> bool) -> bool {
        self.plugins
            .events
            .lock()
            .expect("unpoisoned")
            .iter()
            .any(wanted)
    }

    fn leads(&self) -> bool {
        self.saw(|e| matches!(e, PluginEvent::PromoteLeader(_)))
    }

    fn follows(&self) -> bool {
        self.saw(|e| matches!(e, PluginEvent::PromoteFollower(_)))
    }

    /// Stops in order; returns how long that took.
    async fn stop(&mut self) -> Duration {
        let begin = clock::now();
        self.stop
            .take()
            .expect("stopped once")
            .send(())
            .expect("the driver runs");
        (&mut self.task).await.expect("no panic");
        clock::now().since(begin)
    }
}

async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let begin = clock::now();
    while !holds() {
        assert!(
            clock::now().since(begin) < within,
            "not within {within:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Two ports that were free a moment ago.
fn two_ports() -> [SocketAddr; 2] {
    let sockets = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|s| s.local_addr().expect("bound"))
}

#[tokio::test]
async fn two_daemons_elect_speak_and_hand_over() {
    let [a, b] = two_ports();
    let mut daemons = [Daemon::start(1, a, b), Daemon::start(2, b, a)];
    for daemon in &daemons {
        daemon.tell(HostEvent::Up(plugin())).await;
    }
    eventually(
        "one leads, the other follows",
        Duration::from_secs(20),
        || {
            let [a, b] = &daemons;
            (a.leads() && b.follows()) || (b.leads() && a.follows())
        },
    )
    .await;
    if !daemons[0].leads() || daemons[0].follows() {
        daemons.reverse();
    }
    let [leader, follower] = &mut daemons;

    let payload = bytes::Bytes::from_static(b"tick");
    let commands = vec![PluginCommand::Broadcast(payload.clone())];
    leader
        .tell(HostEvent::Commands {
            id: plugin().id,
            commands,
        })
        .await;
    let heard = |d: &Daemon| {
        d.saw(|e| matches!(e, PluginEvent::LeaderMessage { payload: p, .. } if *p == payload))
    };
    eventually("the broadcast reaches both", Duration::from_secs(5), || {
        heard(leader) && heard(follower)
    })
    .await;

    let took = leader.stop().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(
        *leader.plugins.stopped.lock().expect("unpoisoned"),
        Some(PLUGINS_STOP_MAX)
    );
    eventually("the follower takes over", Duration::from_secs(5), || {
        follower.leads()
    })
    .await;
    eventually("observers see it", Duration::from_secs(5), || {
        let status = follower.latest.borrow().clone().expect("published");
        status.plugins[0].role == crate::control::types::Role::Leader
            && status.peers[0].state == crate::control::types::PeerState::Left
    })
    .await;
    follower.stop().await;
}

#[tokio::test]
async fn a_daemon_whose_seed_is_silent_leads_itself() {
    let [a, b] = two_ports();
    let mut daemon = Daemon::start(3, a, b);
    daemon.tell(HostEvent::Up(plugin())).await;
    // Alone: nobody answers at the seed.
    eventually("it leads itself", Duration::from_secs(20), || {
        daemon.leads()
    })
    .await;
    let took = daemon.stop().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn the_plugins_hear_that_group_time_was_set_back_or_runs_differently() {
    let [a, b] = two_ports();
    let mut assembled = Assembled::new(4, a, b);
    let heard = |assembled: &Assembled| *assembled.plugins.clock.lock().expect("unpoisoned");
    let by = Duration::from_secs(3_600);
    assembled.driver.apply(Event::ClockSetBack { by });
    assert_eq!(heard(&assembled), (1, 0), "they start anew");
    // Of another line they compute their alarms anew; of the same one they hear nothing.
    let view = assembled.driver.parts.clock.view();
    let shifted = consort_proto::ClockView {
        group_at: view.group_at + 5_000_000,
        ..view
    };
    assembled.driver.apply(Event::Clock(shifted));
    assert_eq!(heard(&assembled), (1, 1));
    assembled.driver.apply(Event::Clock(shifted));
    assert_eq!(heard(&assembled), (1, 1));
}
