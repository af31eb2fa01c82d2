//! Seeds: `host:port` texts that are resolved again and again, since names outlive addresses.
//!
//! Literal addresses are known at once. Names are looked up on a task of their own, every 30 s, as
//! long as the daemon runs; a lookup that takes long or fails disturbs nothing else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use consort_proto::Address;
use tokio::sync::mpsc;

const INTERVAL: Duration = Duration::from_secs(30);
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// Seeds, split by what must be done for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Given as addresses.
    pub literal: Vec<Address>,
    /// Given as `name:port`.
    pub names: Vec<String>,
}

impl Seeds {
    /// Sorts out which seeds are addresses already.
    #[must_use]
    pub fn new(texts: &[String]) -> Self {
        let mut seeds = Self::default();
        for text in texts {
            match text.parse() {
                Ok(socket) => seeds.literal.push(Address::Udp(socket)),
                Err(_) => seeds.names.push(text.clone()),
            }
        }
        seeds
    }
}

/// Looks names up until nobody listens; sends all addresses whenever they differ from before.
pub async fn resolve(names: Vec<String>, out: mpsc::Sender<Vec<Address>>) {
    let mut lookups: Vec<Lookup> = names.into_iter().map(Lookup::new).collect();
    let mut sent = BTreeSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = out.closed() => return,
        }
        for lookup in &mut lookups {
            lookup.run().await;
        }
        let found: BTreeSet<SocketAddr> = lookups
            .iter()
            .flat_map(|l| l.found.iter().copied())
            .collect();
        if found != sent {
            let addresses = found.iter().copied().map(Address::Udp).collect();
            if out.send(addresses).await.is_err() {
                return;
            }
            sent = found;
        }
    }
}

/// One name and what it last stood for.
struct Lookup {
    name: String,
    found: Vec<SocketAddr>,
    failing: bool,
}

impl Lookup {
    const fn new(name: String) -> Self {
        Self {
            name,
            found: Vec::new(),
            failing: false,
        }
    }

    /// Looks the name up; a failure keeps what was found before and is logged once.
    async fn run(&mut self) {
        let outcome = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host(&self.name)).await;
        let problem = match outcome {
            Ok(Ok(addresses)) => {
                self.found = addresses.collect();
                if self.failing {
                    tracing::info!(seed = self.name, "the seed can be resolved again");
                }
                self.failing = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", LOOKUP_MAX.as_secs()),
        };
        if !self.failing {
            tracing::warn!(
                seed = self.name,
                problem,
                "the seed cannot be resolved; it is tried again every {} s",
                INTERVAL.as_secs()
            );
        }
        self.failing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_seeds_need_no_lookup() {
        let texts = ["10.0.0.1:4747", "[fe80::1%2]:9", "host.local:4747"].map(str::to_owned);
        let seeds = Seeds::new(&texts);
        assert_eq!(seeds.literal.len(), 2);
        assert_eq!(seeds.names, ["host.local:4747"]);
    }

    #[tokio::test]
    async fn names_become_addresses() {
        let (out, mut found) = mpsc::channel(1);
        let task = tokio::spawn(resolve(vec!["localhost:4747".to_owned()], out));
        let addresses = tokio::time::timeout(Duration::from_secs(30), found.recv())
            .await
            .expect("in time")
            .expect("the task runs");
        assert!(!addresses.is_empty());
        for Address::Udp(socket) in addresses {
            assert!(socket.ip().is_loopback(), "{socket}");
            assert_eq!(socket.port(), 4747);
        }
        drop(found);
        task.await.expect("ends when nobody listens");
    }
}
