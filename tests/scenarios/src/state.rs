//! What the scenarios of replicated state share.

use std::sync::Arc;
use std::time::Duration;

use consort_proto::{Origin, PluginEvent, Scope, StateConfig};
use consort_sim::{Seed, Sim, Toy, Workload};

use crate::{app, form, group, secs, settle};

/// How long replicas may take to become equal once nobody writes and all have one leader.
pub const QUIET_MAX: Duration = secs(20);

/// A group that has formed, with state kept so; its leader.
///
/// # Panics
/// It does not form in time.
#[must_use]
pub fn formed(name: &str, seed: Seed, count: usize, config: StateConfig) -> (Sim, usize) {
    let mut sim = group(name, seed, count).crypto(Arc::new(Toy)).build();
    sim.set_state_config(&app(), config);
    let (leader, _) = form(&mut sim);
    (sim, leader)
}

/// What all of `nodes` show under a key.
///
/// # Panics
/// They differ.
#[must_use]
pub fn common(sim: &Sim, nodes: &[usize], origin: Origin, key: &str) -> Option<u64> {
    let shown: Vec<_> = nodes
        .iter()
        .map(|node| sim.shown(*node, &app(), origin, key))
        .collect();
    let same = shown.windows(2).all(|pair| pair[0] == pair[1]);
    sim.expect(same, &format!("all show the same under {key}: {shown:?}"));
    shown[0]
}

/// Writes so many bytes under a key; the write's number.
///
/// # Panics
/// The write is refused.
pub fn put(sim: &mut Sim, node: usize, scope: Scope, key: &str, len: usize) -> u64 {
    let written = sim.put(node, &app(), scope, key, len);
    written.unwrap_or_else(|refused| sim.fail(&format!("n{node} {key}: {refused:?}")))
}

/// Waits until all of `nodes` have seen a write.
///
/// # Panics
/// They have not within `limit`.
pub fn everywhere(sim: &mut Sim, nodes: &[usize], number: u64, limit: Duration) -> Duration {
    let what = format!("write {number} is seen by all of {nodes:?}");
    let seen = |sim: &Sim| {
        let written = sim.written(number);
        nodes.iter().all(|node| written.seen.contains_key(node))
    };
    sim.expect_within(limit, &what, seen)
}

/// The keys that a device's plugin was told the group did not adopt.
#[must_use]
pub fn superseded(sim: &Sim, node: usize) -> Vec<String> {
    let app = sim.app(node, &app());
    let keys = app.events().filter_map(|(_, event)| match event {
        PluginEvent::WritesSuperseded(keys) => Some(keys),
        _ => None,
    });
    keys.flatten().map(ToString::to_string).collect()
}

/// A workload of all kinds.
#[must_use]
pub fn busy(every: Duration) -> Workload {
    Workload {
        every,
        ..Workload::default()
    }
}

/// Writes end; all become one group, equal, and hold what they must.
///
/// # Panics
/// They do not.
pub fn quiet(sim: &mut Sim, nodes: &[usize]) {
    sim.stop_writes();
    settle(sim, nodes, secs(30));
    sim.expect_state(&app(), nodes, QUIET_MAX);
    let (writes, refused) = sim.writes();
    sim.expect(writes > 0, "something was written");
    sim.expect(refused * 10 <= writes, "nodes refuse few of the writes");
}
