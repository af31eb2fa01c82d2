//! Runs a plan: an agenda of what is due when, beside the simulator's own events.

use core::time::Duration;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use consort_proto::crypto::Ring;
use consort_proto::{Caller, PluginId, PluginSpec, Time, Version};
use rand_chacha::ChaCha12Rng;

use super::{Action, CryptoChoice, DevicePlan, FloodKind, Plan, PluginPlan};
use crate::actor::{Heard, PluginFigures, Stage};
use crate::device::DeviceConfig;
use crate::network::Link;
use crate::oracle;
use crate::seed::Seed;
use crate::sim::{Broken, Hosting, Recorded, Sim, SimBuilder, Stats};
use crate::summary::{self, Summary};
use crate::timeline::Timeline;
use crate::toy::Toy;

mod act;
mod expect;
mod flood;

use flood::Flooding;

/// What a run keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Whether the whole trace is kept as text; at most 64 MiB.
    pub keep_text: bool,
}

/// A property that broke. The run ended there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which, and how.
    pub what: String,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In a few numbers.
    pub summary: Summary,
    /// Counts of datagrams and broadcasts.
    pub stats: Stats,
    /// What the plugin did, if its own code ran.
    pub plugin: Option<PluginFigures>,
    /// Who was up and who led when.
    pub timeline: Timeline,
    /// What broke: at most one, as the run ends with it.
    pub violations: Vec<Violation>,
    /// The last notable lines of the trace.
    pub notable: Vec<String>,
    /// What every device knew at the end.
    pub state: String,
    /// A hash over everything that happened.
    pub trace_hash: u64,
    /// The trace, if it was asked for.
    pub text: Option<String>,
}

/// Runs a plan. Violations, errors in the log and panics within a node are part of the outcome.
///
/// # Panics
/// The plan does not pass [`Plan::check`].
#[must_use]
pub fn run_plan(plan: &Plan, seed: Seed, options: RunOptions) -> Outcome {
    if let Err(error) = plan.check().and_then(|()| plan.check_scripted()) {
        panic!("a plan that cannot be run: {error}");
    }
    run(plan, seed, options, None)
}

/// Runs a plan whose one plugin is played by the actors of `stage`; `audience` hears the lines of
/// its log as they come, and what the scenario does. Violations are part of the outcome.
///
/// # Panics
/// The plan does not pass [`Plan::check`] and [`Plan::check_hosted`].
#[must_use]
pub fn run_hosted(
    plan: &Plan,
    seed: Seed,
    options: RunOptions,
    stage: Box<dyn Stage>,
    audience: Box<dyn FnMut(&Heard)>,
) -> Outcome {
    if let Err(error) = plan.check().and_then(|()| plan.check_hosted()) {
        panic!("a plan that cannot be run: {error}");
    }
    let spec = stage.spec();
    let plan = plan.with_hosted(&spec);
    let hosting = Hosting {
        plugin: spec.id,
        stage,
        audience,
        figures: PluginFigures::default(),
        bans: Vec::new(),
        wanted: Vec::new(),
    };
    run(&plan, seed, options, Some(hosting))
}

fn run(plan: &Plan, seed: Seed, options: RunOptions, hosting: Option<Hosting>) -> Outcome {
    let mut runner = Runner::new(plan, seed, options);
    if let Some(hosting) = hosting {
        runner.host(hosting);
    }
    let result = quietly(|| runner.run());
    let sim = runner.sim;
    let violations: Vec<_> = result
        .err()
        .into_iter()
        .map(|what| Violation {
            at: sim.now(),
            what,
        })
        .collect();
    let timeline = sim.timeline();
    Outcome {
        summary: summarise(plan, &sim, &timeline, violations.len()),
        stats: sim.stats(),
        plugin: sim.plugin_figures(),
        notable: sim.notable().map(str::to_owned).collect(),
        state: sim.describe(),
        trace_hash: sim.trace_hash(),
        text: sim.trace_text().map(str::to_owned),
        timeline,
        violations,
    }
}

fn summarise(plan: &Plan, sim: &Sim, timeline: &Timeline, violations: usize) -> Summary {
    let simulated = sim.now().since(Time::ZERO);
    let bytes: u64 = (0..plan.nodes).map(|node| sim.sent(node).1).sum();
    let per_node = bytes as f64 / plan.nodes as f64 / simulated.as_secs_f64().max(1e-6);
    let deliveries = sim.deliveries();
    let (writes, refused) = sim.writes();
    let times = summary::healing_times(timeline);
    Summary {
        seed: sim.seed(),
        nodes: plan.nodes,
        simulated,
        leader_changes: summary::leader_changes(timeline),
        leaderless: summary::leaderless(timeline),
        heals: times.len(),
        heal_p50: summary::percentile(&times, 50),
        heal_p99: summary::percentile(&times, 99),
        heal_most: times.last().copied(),
        sent: deliveries.due,
        delivered: deliveries.made,
        lost: deliveries.lost,
        duplicates: deliveries.repeated,
        writes: (writes - refused) as u64,
        bytes_per_node_per_s: per_node.round() as u64,
        violations,
    }
}

thread_local! {
    /// Where a panic of this thread leaves its words, while it is being caught.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; what it unwinds with comes back as a sentence and is not printed.
fn quietly(work: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let caught = CAUGHT.with_borrow_mut(|caught| {
                let words = caught.as_mut()?;
                *words = info.to_string();
                Some(())
            });
            if caught.is_none() {
                before(info);
            }
        }));
    });
    CAUGHT.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let words = CAUGHT.take().unwrap_or_default();
    result.map_err(|payload| match payload.downcast::<Broken>() {
        Ok(broken) => broken.0,
        Err(_) => words,
    })
}

/// What is due.
#[derive(Clone, Debug)]
enum Act {
    Step(usize),
    Start(usize),
    PluginBack(usize, PluginSpec),
    /// Links go down or up, and turn again until then.
    Flap {
        flap: usize,
        down: bool,
        until: Time,
    },
    Flood(Flooding),
    Replay {
        forged: bool,
        datagrams: Arc<[Recorded]>,
        next: usize,
    },
    ExpectBegins(usize),
    ExpectEnds(usize),
    Calm,
    /// Between the end of the faults and the end of a run that must come to rest.
    StopWrites,
    /// The last seconds of a run that must come to rest.
    Probe(u32),
    Verdict,
}

/// The last broadcasts of a run that must come to rest: how many, and how far apart.
const PROBES: u32 = 20;
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Datagrams of which a replay may choose.
const RECORD_MAX: usize = 20_000;

struct Runner<'a> {
    plan: &'a Plan,
    sim: Sim,
    rng: ChaCha12Rng,
    agenda: BTreeMap<(Time, u64), Act>,
    planned: u64,
    /// The plan's plugins, the first of which is meant where none is named.
    plugins: Vec<PluginSpec>,
    /// Devices that have been started.
    started: Vec<bool>,
    watched: expect::Watched,
    probes: Vec<(PluginSpec, Vec<usize>, u64)>,
    /// Who floods with the group's secret, once somebody does.
    caller: Option<Caller>,
}

impl<'a> Runner<'a> {
    fn new(plan: &'a Plan, seed: Seed, options: RunOptions) -> Self {
        let mut runner = Self {
            plan,
            sim: build(plan, seed, options),
            rng: seed.stream("plan", 0),
            agenda: BTreeMap::new(),
            planned: 0,
            plugins: plan.plugins_or_default().iter().map(spec).collect(),
            started: vec![false; plan.nodes],
            watched: expect::Watched::default(),
            probes: Vec::new(),
            caller: None,
        };
        runner.fill_agenda();
        runner
    }

    fn fill_agenda(&mut self) {
        let plan = self.plan;
        for node in 0..plan.nodes {
            let own = plan.devices.iter().find(|device| device.index == node);
            if own.is_some_and(|device| device.off) {
                continue;
            }
            let at = own.and_then(|device| device.starts).unwrap_or_else(|| {
                let spread = consort_proto::micros(plan.spread);
                Duration::from_micros(rand::RngExt::random_range(&mut self.rng, 0..=spread))
            });
            self.plan_at(at, Act::Start(node));
        }
        for (index, expect) in plan.expectations.iter().enumerate() {
            if expect::is_ban(expect) {
                continue;
            }
            let begins = expect.begins(plan.duration);
            self.plan_at(begins, Act::ExpectBegins(index));
            if let Some(after) = expect.within.or(expect.lasting) {
                self.plan_at(begins + after, Act::ExpectEnds(index));
            }
        }
        for (index, step) in plan.steps.iter().enumerate() {
            self.plan_at(step.at, Act::Step(index));
        }
        if let Some(calm) = plan.calm_at() {
            self.plan_at(calm, Act::Calm);
            self.plan_at((calm + plan.duration) / 2, Act::StopWrites);
            let first = plan.duration.saturating_sub(PROBE_EVERY * (PROBES + 10));
            for probe in 0..PROBES {
                self.plan_at(first + PROBE_EVERY * probe, Act::Probe(probe));
            }
            self.plan_at(plan.duration, Act::Verdict);
        }
        for beat in &plan.beats {
            let plugin = self.plugin(beat.plugin.as_ref());
            self.sim.start_beat(&plugin, beat.every, beat.len);
        }
        for writes in &plan.writes {
            let plugin = self.plugin(writes.plugin.as_ref());
            self.sim.start_writes(&plugin, writes.workload());
        }
    }

    fn plan_at(&mut self, at: Duration, act: Act) {
        self.plan_time(Time::ZERO + at, act);
    }

    fn plan_time(&mut self, at: Time, act: Act) {
        self.agenda.insert((at, self.planned), act);
        self.planned += 1;
    }

    fn run(&mut self) {
        let end = Time::ZERO + self.plan.duration;
        while let Some((due, _)) = self.agenda.first_key_value() {
            let due = *due;
            if due.0 > end {
                break;
            }
            // It stays on the agenda until then: expectations look at what is to come.
            self.run_to(due.0);
            if let Some(act) = self.agenda.remove(&due) {
                self.act(act);
            }
        }
        self.run_to(end);
    }

    /// The plugin of that name, or the first.
    fn plugin(&self, id: Option<&String>) -> PluginSpec {
        let named = id.and_then(|id| {
            let own = self
                .plan
                .devices
                .iter()
                .flat_map(|d| d.plugins.iter().flatten());
            let all = self.plan.plugins.iter().chain(own);
            all.clone().find(|plugin| plugin.id == *id).map(spec)
        });
        named.unwrap_or_else(|| self.plugins[0].clone())
    }
}

fn build(plan: &Plan, seed: Seed, options: RunOptions) -> Sim {
    let name = if plan.name.is_empty() {
        "plan"
    } else {
        &plan.name
    };
    let mut builder = Sim::builder(name, seed)
        .devices(plan.nodes)
        .link(plan.link)
        .gentle();
    for plugin in plan.plugins_or_default() {
        builder = builder.plugin(spec(&plugin));
    }
    if let Some(rate) = plan.send_rate {
        for node in 0..plan.nodes {
            builder = builder.device(node, |config| config.send_rate = rate.into());
        }
    }
    for device in &plan.devices {
        builder = builder.device(device.index, |config| adjust(config, device));
    }
    let records = |action: &Action| match action {
        Action::Replay(_) => true,
        Action::Flood(flood) => matches!(flood.kind, FloodKind::Copies | FloodKind::Insider),
        _ => false,
    };
    if plan.steps.iter().any(|step| records(&step.action)) {
        builder = builder.record_last(RECORD_MAX);
    }
    if options.keep_text {
        builder = builder.keep_text();
    }
    match plan.crypto {
        Some(CryptoChoice::Real) => builder = builder.crypto(Arc::new(Ring)),
        Some(CryptoChoice::Toy) => builder = builder.crypto(Arc::new(Toy)),
        None => {}
    }
    let mut sim = builder.build();
    for device in &plan.devices {
        install(&mut sim, plan, device);
    }
    for plugin in plan.plugins_or_default() {
        if let Some(state) = &plugin.state {
            sim.set_state_config(&spec(&plugin), state.config());
        }
    }
    sim
}

fn adjust(config: &mut DeviceConfig, device: &DevicePlan) {
    if let Some(name) = &device.name {
        config.name.clone_from(name);
    }
    if let Some(offset) = device.wall_offset {
        config.wall_offset = offset;
    }
    config.drift_ppm = device.drift_ppm;
    config.segment = device.segment;
    config.protocol = device.protocol;
    config.later = device.later;
    config.names.clone_from(&device.names);
    config.seeds = device
        .seeds
        .iter()
        .map(|seed| SimBuilder::address(*seed))
        .collect();
}

fn install(sim: &mut Sim, plan: &Plan, device: &DevicePlan) {
    let mut plugins: Vec<PluginSpec> = match &device.plugins {
        Some(own) => own.iter().map(spec).collect(),
        None => plan.plugins_or_default().iter().map(spec).collect(),
    };
    if let Some(priority) = device.priority {
        for plugin in &mut plugins {
            plugin.priority = priority;
        }
    }
    sim.install(device.index, plugins);
}

/// A plugin whose id and version were checked.
fn spec(plugin: &PluginPlan) -> PluginSpec {
    PluginSpec {
        id: PluginId::new(&plugin.id).expect("checked with the plan"),
        version: plugin
            .version
            .parse::<Version>()
            .expect("checked with the plan"),
        priority: plugin.priority,
        preempt: plugin.preempt,
    }
}

/// How links are once faults have ended: as the plan has them, if that lets promises be kept.
fn calm_link(plan: &Plan) -> Link {
    if oracle::is_good(&plan.link) {
        plan.link
    } else {
        Link::lan()
    }
}
