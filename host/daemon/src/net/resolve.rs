//! Seeds: `host:port` texts that are resolved again and again, since names outlive addresses.
//!
//! Literal addresses are known at once. Names are looked up on a task of their own: every 30 s, at
//! once after a change of the network, and after a failure 1, 2, 4, 8, 16 and then every 30 s later.
//! The system's resolver blocks a thread for as long as it likes, so at most eight names are looked
//! up at a time; a lookup that hangs delays other names at worst, never the daemon. A name that
//! cannot be looked up keeps what it stood for before.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::Address;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::canonical;

const PERIOD: Duration = Duration::from_secs(30);
/// Between two lookups of one name, and after the first failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
const LOOKUPS_MAX: usize = 8;
/// Addresses of one name.
const ADDRESSES_MAX: usize = 32;

/// One seed of the settings and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// As it stands in the settings.
    pub text: String,
    /// What is known of it.
    pub lookup: Lookup,
}

/// What is known of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is an address.
    Literal(SocketAddr),
    /// It was not looked up yet.
    Pending,
    /// These are its addresses; at most 32.
    Found(Vec<SocketAddr>),
    /// It cannot be looked up.
    Failed {
        /// Why, as the system says it.
        problem: String,
        /// What it stood for before.
        before: Vec<SocketAddr>,
    },
}

impl Seed {
    /// Its addresses as far as they are known.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        match &self.lookup {
            Lookup::Literal(address) => core::slice::from_ref(address),
            Lookup::Pending => &[],
            Lookup::Found(addresses)
            | Lookup::Failed {
                before: addresses, ..
            } => addresses,
        }
    }

    const fn is_literal(&self) -> bool {
        matches!(self.lookup, Lookup::Literal(_))
    }
}

/// Sorts out which seeds are addresses already.
#[must_use]
pub fn seeds(texts: &[String]) -> Vec<Seed> {
    let seed = |text: &String| Seed {
        text: text.clone(),
        lookup: text.parse().map_or(Lookup::Pending, Lookup::Literal),
    };
    texts.iter().map(seed).collect()
}

/// The addresses among the seeds.
#[must_use]
pub fn literal(seeds: &[Seed]) -> Vec<Address> {
    flat(seeds.iter().filter(|seed| seed.is_literal()))
}

/// What the names among the seeds stand for: the first address of each, then the second of each,
/// and so on, so that a name with many takes no room of others.
#[must_use]
pub fn resolved(seeds: &[Seed]) -> Vec<Address> {
    flat(seeds.iter().filter(|seed| !seed.is_literal()))
}

fn flat<'a>(seeds: impl Iterator<Item = &'a Seed> + Clone) -> Vec<Address> {
    (0..ADDRESSES_MAX)
        .flat_map(|place| seeds.clone().filter_map(move |s| s.addresses().get(place)))
        .map(|address| canonical(*address))
        .collect()
}

/// Looks names up until nobody listens. `network_changed` brings every lookup forward.
pub async fn resolve(out: watch::Sender<Vec<Seed>>, network_changed: Arc<Notify>) {
    let mut names: BTreeMap<usize, Name> = BTreeMap::new();
    for (place, seed) in out.borrow().iter().enumerate() {
        if !seed.is_literal() {
            names.insert(place, Name::new(seed.text.clone()));
        }
    }
    if names.is_empty() {
        return;
    }
    let mut lookups = JoinSet::new();
    loop {
        start_due(&mut names, &mut lookups);
        let idle = names.values().filter(|name| !name.busy);
        let due = idle.map(|name| name.due).min();
        let wait = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + PERIOD));
        tokio::select! {
            () = out.closed() => return,
            () = network_changed.notified() => names.values_mut().for_each(Name::hurry),
            Some(Ok((place, outcome))) = lookups.join_next() => {
                if let Some(name) = names.get_mut(&place) {
                    name.ended(Instant::now(), &outcome);
                    out.send_if_modified(|seeds| take(&mut seeds[place], outcome));
                }
            }
            () = wait, if lookups.len() < LOOKUPS_MAX => {}
        }
    }
}

type Outcome = io::Result<Vec<SocketAddr>>;

fn start_due(names: &mut BTreeMap<usize, Name>, lookups: &mut JoinSet<(usize, Outcome)>) {
    let now = Instant::now();
    for (place, name) in names {
        if lookups.len() < LOOKUPS_MAX && !name.busy && name.due <= now {
            name.busy = true;
            name.began = now;
            let (place, text) = (*place, name.text.clone());
            lookups.spawn(async move {
                let found = tokio::net::lookup_host(text).await;
                let found = found.map(|found| found.take(ADDRESSES_MAX).collect());
                (place, found)
            });
        }
    }
}

/// Takes what a lookup gave; returns whether anything is different.
fn take(seed: &mut Seed, outcome: Outcome) -> bool {
    let before = seed.addresses().to_vec();
    let failing = matches!(seed.lookup, Lookup::Failed { .. });
    let lookup = match outcome {
        Ok(mut addresses) if !addresses.is_empty() => {
            if failing {
                tracing::info!(seed = seed.text, "the seed can be resolved again");
            }
            // The resolver's order changes from lookup to lookup.
            addresses.sort_unstable();
            Lookup::Found(addresses)
        }
        outcome => {
            let problem = match outcome {
                Err(error) => error.to_string(),
                Ok(_) => "the name has no address".to_owned(),
            };
            if !failing {
                tracing::warn!(
                    seed = seed.text,
                    problem,
                    "the seed cannot be resolved; it is tried again and again"
                );
            }
            Lookup::Failed { problem, before }
        }
    };
    let changed = lookup != seed.lookup;
    seed.lookup = lookup;
    changed
}

/// When a name is looked up.
#[derive(Debug)]
struct Name {
    text: String,
    due: Instant,
    began: Instant,
    busy: bool,
    /// The network changed while it was looked up.
    hurried: bool,
    retry: Duration,
}

impl Name {
    fn new(text: String) -> Self {
        let now = Instant::now();
        Self {
            text,
            due: now,
            began: now,
            busy: false,
            hurried: false,
            retry: RETRY_MIN,
        }
    }

    fn hurry(&mut self) {
        self.retry = RETRY_MIN;
        if self.busy {
            self.hurried = true;
        } else {
            self.due = self.due.min(self.began + RETRY_MIN);
        }
    }

    fn ended(&mut self, now: Instant, outcome: &Outcome) {
        self.busy = false;
        let failed = outcome.as_ref().map_or(true, Vec::is_empty);
        if failed || core::mem::take(&mut self.hurried) {
            self.due = now + self.retry;
            self.retry = (self.retry * 2).min(PERIOD);
        } else {
            self.due = now + PERIOD;
            self.retry = RETRY_MIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Vec<Seed> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        seeds(&texts)
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn literal_seeds_need_no_lookup() {
        let seeds = named(&["10.0.0.1:4747", "[fe80::1%2]:9", "host.local:4747"]);
        let wanted = ["10.0.0.1:4747", "[fe80::1%2]:9"].map(|a| Address::Udp(socket(a)));
        assert_eq!(literal(&seeds), wanted);
        assert_eq!(seeds[2].lookup, Lookup::Pending);
        assert_eq!(resolved(&seeds), []);
    }

    #[test]
    fn every_address_of_every_name_is_told_in_turn() {
        let mut seeds = named(&["a:1", "10.0.0.9:9", "b:1"]);
        let a = ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1"].map(socket);
        assert!(take(&mut seeds[0], Ok(a.to_vec())));
        assert!(take(&mut seeds[2], Ok(vec![socket("10.0.1.1:1")])));
        let wanted = ["10.0.0.1:1", "10.0.1.1:1", "10.0.0.2:1", "[2001:db8::1]:1"];
        assert_eq!(resolved(&seeds), wanted.map(|a| Address::Udp(socket(a))));
        let mut turned = a.to_vec();
        turned.reverse();
        assert!(!take(&mut seeds[0], Ok(turned)), "only the order changed");
    }

    #[test]
    fn a_name_that_fails_keeps_its_addresses() {
        let mut seeds = named(&["a:1"]);
        let found = vec![socket("10.0.0.1:1")];
        take(&mut seeds[0], Ok(found.clone()));
        assert!(take(&mut seeds[0], Err(io::Error::other("no route"))));
        assert!(!take(&mut seeds[0], Err(io::Error::other("no route"))));
        assert_eq!(seeds[0].addresses(), found);
        assert!(
            take(&mut seeds[0], Ok(vec![])),
            "an empty answer is a failure"
        );
        assert_eq!(seeds[0].addresses(), found);
        let moved = vec![socket("10.0.0.2:1")];
        assert!(take(&mut seeds[0], Ok(moved.clone())));
        assert_eq!(seeds[0].addresses(), moved, "and nothing of before");
    }

    #[test]
    fn lookups_are_repeated_soon_after_a_failure_and_a_change() {
        let mut name = Name::new("a:1".to_owned());
        let now = name.began;
        let mut waits = Vec::new();
        for _ in 0..7 {
            name.ended(now, &Err(io::Error::other("no route")));
            waits.push((name.due - now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        name.hurry();
        assert_eq!(name.due, now + RETRY_MIN);
        let found = Ok(vec![socket("10.0.0.1:1")]);
        name.ended(now, &found);
        assert_eq!(name.due, now + PERIOD);
        name.busy = true;
        name.hurry();
        name.ended(now, &found);
        assert_eq!(name.due, now + RETRY_MIN, "changed meanwhile");
    }

    #[tokio::test]
    async fn names_become_addresses() {
        let (out, mut seeds) = watch::channel(named(&["localhost:4747", "10.0.0.1:1"]));
        let task = tokio::spawn(resolve(out, Arc::new(Notify::new())));
        tokio::time::timeout(Duration::from_secs(30), seeds.changed())
            .await
            .expect("in time")
            .expect("the task runs");
        let found = resolved(&seeds.borrow_and_update());
        assert!(!found.is_empty());
        for Address::Udp(socket) in found {
            assert!(socket.ip().is_loopback(), "{socket}");
            assert_eq!(socket.port(), 4747);
        }
        drop(seeds);
        task.await.expect("ends when nobody listens");
    }
}
