//! Floods: datagrams from addresses that belong to no device.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::{Address, Time};
use rand::{Rng, RngExt};

use super::super::{Flood, FloodKind, Who};
use super::{Act, Runner};
use crate::sim::Recorded;

/// Datagrams come in bunches, so far apart.
const EVERY: Duration = Duration::from_millis(5);
/// How many addresses a flood comes from.
pub(super) const ADDRESSES: u8 = 64;
/// The same for one by somebody who holds the secret: few, so that each sends much.
const INSIDER_ADDRESSES: u8 = 8;

const BEACON: (u8, usize) = (1, 117);
const INITS: [(u8, usize); 2] = [(2, 160), (3, 160)];

/// A flood under way.
#[derive(Clone, Debug)]
pub(super) struct Flooding {
    kind: FloodKind,
    to: Who,
    bunch: u32,
    every: Duration,
    until: Time,
    /// What was captured of each device's handshakes, or the beacons that it sent, newest first.
    captured: Arc<BTreeMap<usize, Vec<Bytes>>>,
}

/// Kind and length of a datagram.
fn shape(payload: &Bytes) -> (u8, usize) {
    (payload.first().map_or(0, |byte| byte & 0x0f), payload.len())
}

impl Runner<'_> {
    pub(super) fn begin_flood(&mut self, flood: &Flood) {
        let now = self.sim.now();
        let label = format!("{:?} flood", flood.kind);
        self.sim.mark_flood(&label, flood.lasting);
        let bunches = 1.0 / EVERY.as_secs_f64();
        let bunch = (f64::from(flood.rate) / bunches).ceil() as u32;
        self.flood(Flooding {
            kind: flood.kind,
            to: flood.to.clone(),
            bunch,
            every: Duration::from_secs(1) * bunch / flood.rate,
            until: now + flood.lasting,
            captured: Arc::new(self.capture(flood.kind)),
        });
    }

    /// What somebody who listened can use, by the device that it is used against.
    fn capture(&self, kind: FloodKind) -> BTreeMap<usize, Vec<Bytes>> {
        let mut captured: BTreeMap<usize, Vec<Bytes>> = BTreeMap::new();
        let mut keep = |node: usize, datagram: &Recorded| {
            captured
                .entry(node)
                .or_default()
                .push(datagram.payload.clone());
        };
        for datagram in self.sim.recorded().iter().rev() {
            let shape = shape(&datagram.payload);
            match kind {
                FloodKind::Copies if INITS.contains(&shape) => keep(datagram.to, datagram),
                FloodKind::Insider if shape == BEACON => keep(datagram.from, datagram),
                FloodKind::Handshake | FloodKind::Garbage => break,
                FloodKind::Copies | FloodKind::Insider => {}
            }
        }
        captured
    }

    /// One bunch, and when the next one is due.
    pub(super) fn flood(&mut self, flooding: Flooding) {
        let now = self.sim.now();
        if now >= flooding.until {
            return;
        }
        for node in self.nodes(&flooding.to) {
            for _ in 0..flooding.bunch {
                let addresses = match flooding.kind {
                    FloodKind::Insider => INSIDER_ADDRESSES,
                    FloodKind::Handshake | FloodKind::Garbage | FloodKind::Copies => ADDRESSES,
                };
                let from = self.strange_address(addresses);
                if let Some(payload) = self.flood_payload(&flooding, node)
                    && self.sim.is_up(node)
                {
                    self.sim.inject(node, from, payload);
                }
            }
        }
        self.plan_time(now + flooding.every, Act::Flood(flooding));
    }

    /// An address of nobody, one of `count`.
    pub(super) fn strange_address(&mut self, count: u8) -> Address {
        let host = self.rng.random_range(1..=count);
        let ip = IpAddr::V4(Ipv4Addr::new(172, 16, 0, host));
        Address::Udp(SocketAddr::new(ip, 40_000))
    }

    fn flood_payload(&mut self, flooding: &Flooding, to: usize) -> Option<Bytes> {
        let captured = || flooding.captured.get(&to).map(Vec::as_slice);
        match flooding.kind {
            FloodKind::Handshake => {
                let first = 0x12 + self.rng.random_range(0..2u8);
                Some(self.noise(160, Some(first)))
            }
            FloodKind::Garbage => {
                let known = self.rng.random_bool(0.5);
                let first = known.then(|| self.rng.random_range(0x11..=0x16));
                let len = self.rng.random_range(1..=1200);
                Some(self.noise(len, first))
            }
            FloodKind::Copies => {
                let inits = captured()?;
                Some(inits[self.rng.random_range(0..inits.len())].clone())
            }
            FloodKind::Insider => {
                let beacons = captured()?;
                let caller = self.caller.get_or_insert_with(|| self.sim.insider());
                beacons.iter().find_map(|beacon| caller.call(beacon))
            }
        }
    }

    fn noise(&mut self, len: usize, first: Option<u8>) -> Bytes {
        let mut payload = vec![0; len];
        self.rng.fill_bytes(&mut payload);
        if let Some(first) = first {
            payload[0] = first;
        }
        payload.into()
    }
}
