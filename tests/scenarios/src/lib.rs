//! What the scenarios share: the plugin they run, groups that have formed, and a few durations.
//!
//! Each scenario is a test under `tests/`. It runs for a few seeds of its own; `CONSORT_SEED=…`
//! replays one, `CONSORT_RUNS=…` runs more of them, `CONSORT_TRACE=FILE` writes down what happens.

pub mod state;
pub mod wire;

use std::time::Duration;

use consort_proto::{PluginSpec, SendRate};
use consort_sim::{Link, Seed, Sim, SimBuilder, spec};

/// Seconds of virtual time.
#[must_use]
pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Milliseconds of virtual time.
#[must_use]
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long a group may take to form: devices start within half a second, discovery takes two.
pub const FORM_MAX: Duration = secs(8);

/// The plugin that the scenarios run.
#[must_use]
pub fn app() -> PluginSpec {
    spec("app")
}

/// The numbers of the first `count` devices.
#[must_use]
pub fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// The numbers of the first `count` devices, without one.
#[must_use]
pub fn all_but(count: usize, without: usize) -> Vec<usize> {
    (0..count).filter(|node| *node != without).collect()
}

/// A group of `count` devices that run the plugin on a quiet network, not started yet.
#[must_use]
pub fn group(name: &str, seed: Seed, count: usize) -> SimBuilder {
    mutate();
    Sim::builder(name, seed)
        .devices(count)
        .plugin(app())
        .link(Link::lan())
}

/// Gives each of the `count` devices of a group this much of its network for plugins' messages.
#[must_use]
pub fn with_credit(builder: SimBuilder, count: usize, rate: SendRate) -> SimBuilder {
    (0..count).fold(builder, |builder, node| {
        builder.device(node, |device| device.send_rate = rate)
    })
}

/// Switches the guard off that `CONSORT_MUTANT` names, in a build with the feature `mutants`; see
/// docs/mutants.md. Scenarios that do without [`group`] call it themselves.
///
/// # Panics
/// There is no guard of that name.
pub fn mutate() {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("CONSORT_MUTANT") {
        assert!(
            consort_proto::mutant::set(&name),
            "no guard is called {name}"
        );
    }
}

/// Starts all devices and waits until they are one group with one leader that lasts. Two devices
/// may claim within the same millisecond; promotions and demotions are counted after that.
///
/// # Panics
/// They do not become one in time.
pub fn form(sim: &mut Sim) -> (usize, u64) {
    let nodes = all(sim.device_count());
    sim.start_all(ms(500));
    settle(sim, &nodes, FORM_MAX);
    sim.run_for(secs(1));
    settle(sim, &nodes, secs(1));
    sim.reset_counts();
    sim.agree(&app(), &nodes).expect("they agree")
}

/// Waits until `nodes` see one another and one leader among them; the time it took.
///
/// # Panics
/// It does not come within `limit`.
pub fn settle(sim: &mut Sim, nodes: &[usize], limit: Duration) -> Duration {
    sim.expect_within(
        limit,
        &format!("one group with one leader of {nodes:?}"),
        |sim| sim.all_see_all(&app(), nodes) && sim.agree(&app(), nodes).is_some(),
    )
}

/// Waits until `nodes` agree on one leader among them; the time it took.
///
/// # Panics
/// It does not come within `limit`.
pub fn agree(sim: &mut Sim, nodes: &[usize], limit: Duration) -> Duration {
    sim.expect_within(limit, &format!("one leader of {nodes:?}"), |sim| {
        sim.agree(&app(), nodes).is_some()
    })
}
