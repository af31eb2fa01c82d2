//! What a plan expects besides what always must hold.

use std::collections::BTreeSet;

use consort_proto::{Origin, PluginSpec, StateOutcome, Time};

use super::super::hosted::bytes_of_hex;
use super::super::span::show;
use super::super::{Expect, StateExpect, StateKind, Who};
use super::{Act, Runner};
use crate::sim::{Ban, Banned, Hosting, Sim, Wanted};

/// Expectations that are being waited for.
#[derive(Debug, Default)]
pub(super) struct Watched {
    waiting: BTreeSet<usize>,
    /// For `no_change`: promotions and demotions when it began.
    roles: Vec<(usize, u64)>,
}

impl Runner<'_> {
    /// Lets time pass until `at`; expectations that come true meanwhile are met.
    pub(super) fn run_to(&mut self, at: Time) {
        while !self.watched.waiting.is_empty() && self.sim.now() < at {
            let waiting = self.watched.waiting.clone();
            let (plan, limit) = (self.plan, at.since(self.sim.now()));
            let names = self.meant(&waiting);
            let met = |sim: &Sim| {
                let holds = |(index, nodes, plugin): &Meant| {
                    holds(sim, *index, &plan.expectations[*index], nodes, plugin)
                };
                names.iter().find(|name| holds(name)).map(|name| name.0)
            };
            let mut found = None;
            let sim = &mut self.sim;
            if sim
                .run_until(limit, |sim| {
                    found = met(sim);
                    found.is_some()
                })
                .is_none()
            {
                break;
            }
            if let Some(index) = found {
                self.watched.waiting.remove(&index);
            }
        }
        self.sim.run_to(at);
    }

    fn meant(&self, waiting: &BTreeSet<usize>) -> Vec<Meant> {
        waiting
            .iter()
            .map(|index| (*index, &self.plan.expectations[*index]))
            .filter(|(_, expect)| !self.awaits_starts(expect))
            .map(|(index, expect)| {
                let plugin = self.plugin(expect.plugin.as_ref());
                (index, self.nodes_of(expect), plugin)
            })
            .collect()
    }

    /// Whether a device that starts in time is still to do so, where each has to write a line or to
    /// have a value: the first ones must not be taken for all.
    fn awaits_starts(&self, expect: &Expect) -> bool {
        let of_all = match (&expect.log, &expect.state) {
            (Some(log), _) => log.on == Some(Who::All),
            (None, Some(state)) => state.on.as_ref().is_none_or(|on| *on == Who::All),
            (None, None) => false,
        };
        let lasts = expect.within.unwrap_or_default();
        let until = Time::ZERO + expect.begins(self.plan.duration) + lasts;
        let mut due = self.agenda.range(..=(until, u64::MAX));
        let starts = |act: &Act| matches!(act, Act::Start(node) if !self.sim.is_up(*node));
        of_all && due.any(|(_, act)| starts(act))
    }

    /// The devices an expectation is about; those that are up, where a role or all are meant.
    fn nodes_of(&self, expect: &Expect) -> Vec<usize> {
        let who = expect.whos().next();
        let nodes = self.nodes(who.unwrap_or(&Who::All));
        if matches!(who, Some(Who::Nodes(_))) {
            return nodes;
        }
        nodes
            .into_iter()
            .filter(|node| self.sim.is_up(*node))
            .collect()
    }

    pub(super) fn expect_begins(&mut self, index: usize) {
        let expect = &self.plan.expectations[index];
        let nodes = self.nodes_of(expect);
        if expect.no_change.is_some() {
            let roles = self.roles(expect, &nodes);
            self.watched.roles.push((index, roles));
        } else if self.awaits_starts(expect)
            || !holds(
                &self.sim,
                index,
                expect,
                &nodes,
                &self.plugin(expect.plugin.as_ref()),
            )
        {
            if expect.within.is_none() {
                self.unmet(index);
            }
            self.watched.waiting.insert(index);
        }
    }

    pub(super) fn expect_ends(&mut self, index: usize) {
        let expect = &self.plan.expectations[index];
        let began = self.watched.roles.iter().find(|(other, _)| *other == index);
        if let Some((_, before)) = began {
            if *before != self.roles(expect, &self.nodes_of(expect)) {
                self.unmet(index);
            }
        } else if self.watched.waiting.contains(&index) {
            self.unmet(index);
        }
    }

    /// How often any of `nodes` began or ceased to lead.
    fn roles(&self, expect: &Expect, nodes: &[usize]) -> u64 {
        let plugin = self.plugin(expect.plugin.as_ref());
        let apps = nodes.iter().map(|node| self.sim.app(*node, &plugin));
        apps.map(|app| app.promotions + app.demotions).sum()
    }

    fn unmet(&self, index: usize) -> ! {
        let expect = &self.plan.expectations[index];
        let mut shown = String::new();
        if let Some(state) = &expect.state {
            let plugin = self.plugin(expect.plugin.as_ref());
            for node in self.nodes_of(expect) {
                let value = value(&self.sim, state, node, &plugin);
                shown.push_str(&format!("\n  n{node} has {}", shown_value(value.as_ref())));
            }
        }
        if expect.log.as_ref().is_some_and(|log| log.on.is_some()) {
            let heard = heard(&self.sim, index);
            let silent = self.nodes_of(expect).into_iter();
            for node in silent.filter(|node| !heard.is_some_and(|heard| heard.contains(node))) {
                shown.push_str(&format!("\n  n{node} has not written it"));
            }
        }
        let what = self.named(index);
        self.sim.fail(&format!("{what} is not met{shown}"))
    }

    /// An expectation in the words of its plan.
    fn named(&self, index: usize) -> String {
        let expect = &self.plan.expectations[index];
        let at = show(expect.begins(self.plan.duration));
        let wanted = toml::Table::try_from(expect).unwrap_or_default();
        let wanted = wanted.iter().map(|(key, value)| format!("{key} = {value}"));
        let wanted: Vec<_> = wanted.collect();
        format!("expect[{index}] of {at} ({})", wanted.join(", "))
    }

    /// The plan's plugin runs its own code, and is watched for what the plan expects of it.
    pub(super) fn host(&mut self, mut hosting: Hosting) {
        let end = Time::ZERO + self.plan.duration;
        for (index, expect) in self.plan.expectations.iter().enumerate() {
            let from = Time::ZERO + expect.begins(self.plan.duration);
            let banned = match (expect.no_log, expect.no_faults) {
                (Some(level), _) => Some(Banned::Lines(level)),
                (None, Some(_)) => Some(Banned::Faults),
                (None, None) => None,
            };
            if let Some(banned) = banned {
                hosting.bans.push(Ban {
                    what: self.named(index),
                    from,
                    to: expect.lasting.map_or(end, |lasting| from + lasting),
                    banned,
                });
            }
            if let Some(log) = &expect.log {
                hosting.wanted.push(Wanted {
                    expectation: index,
                    from,
                    contains: log.contains.clone(),
                    nodes: BTreeSet::new(),
                });
            }
        }
        self.sim.host(hosting);
    }
}

/// Whether an expectation is that something does not happen, which is watched all the while.
pub(super) const fn is_ban(expect: &Expect) -> bool {
    expect.no_log.is_some() || expect.no_faults.is_some()
}

/// An expectation, the devices and the plugin it is about.
type Meant = (usize, Vec<usize>, PluginSpec);

/// Whether an expectation holds at this moment.
fn holds(sim: &Sim, index: usize, expect: &Expect, nodes: &[usize], plugin: &PluginSpec) -> bool {
    if let Some(log) = &expect.log {
        return heard(sim, index).is_some_and(|heard| match log.on {
            None => !heard.is_empty(),
            Some(_) => !nodes.is_empty() && nodes.iter().all(|node| heard.contains(node)),
        });
    }
    let runs = |node: &usize| sim.spec_of(*node, &plugin.id).is_some();
    let nodes: Vec<usize> = nodes.iter().copied().filter(runs).collect();
    if nodes.is_empty() {
        return false;
    }
    if expect.one_leader.is_some() {
        sim.agree(plugin, &nodes).is_some()
    } else if expect.see_all.is_some() {
        sim.all_see_all(plugin, &nodes)
    } else if let Some(state) = &expect.state {
        nodes
            .iter()
            .all(|node| state_holds(sim, state, *node, nodes[0], plugin))
    } else {
        nodes.iter().all(|node| sim.leads(*node, plugin))
    }
}

/// The devices that have written the line which an expectation wants.
fn heard(sim: &Sim, index: usize) -> Option<&BTreeSet<usize>> {
    let mut wanted = sim.hosting()?.wanted.iter();
    let wanted = wanted.find(|wanted| wanted.expectation == index);
    wanted.map(|wanted| &wanted.nodes)
}

/// Whether a device has the wanted value, and the same one as the device `first`.
fn state_holds(
    sim: &Sim,
    state: &StateExpect,
    node: usize,
    first: usize,
    plugin: &PluginSpec,
) -> bool {
    let value = value(sim, state, node, plugin);
    let Some(outcome) = &value else {
        return state.absent.is_some();
    };
    let bytes = match outcome {
        StateOutcome::Put { value, .. } => Some(value),
        StateOutcome::Counted(_) | StateOutcome::Deleted | StateOutcome::Expired => None,
    };
    let is = |wanted: &[u8]| bytes.is_some_and(|bytes| bytes[..] == *wanted);
    let fits = if state.absent.is_some() {
        false
    } else if let Some(text) = &state.text {
        is(text.as_bytes())
    } else if let Some(hex) = &state.hex {
        bytes_of_hex(hex).is_some_and(|wanted| is(&wanted))
    } else if let Some(part) = &state.contains {
        let bytes = bytes.map(|bytes| String::from_utf8_lossy(bytes));
        bytes.is_some_and(|text| text.contains(part.as_str()))
    } else if let Some(sum) = state.sum {
        *outcome == StateOutcome::Counted(sum)
    } else {
        true
    };
    fits && value == self::value(sim, state, first, plugin)
}

/// What a device shows under a key.
fn value(sim: &Sim, state: &StateExpect, node: usize, plugin: &PluginSpec) -> Option<StateOutcome> {
    let origin = match state.kind {
        StateKind::Shared => Origin::Shared,
        StateKind::Leader => Origin::Leader,
        StateKind::Counter => Origin::Counter,
        StateKind::Device => Origin::Device(sim.id(state.of?)),
    };
    let told = sim.app(node, plugin).told();
    told.get(&(origin, state.key.as_str().into())).cloned()
}

/// A value for people: as text where it is one.
fn shown_value(value: Option<&StateOutcome>) -> String {
    /// As much of a value as a line has room for.
    const SHOWN_BYTES: usize = 64;
    match value {
        Some(StateOutcome::Put { value, .. }) => {
            let part = &value[..value.len().min(SHOWN_BYTES)];
            let hex: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = String::from_utf8_lossy(part);
            format!("{text:?}, {} bytes, hex {}", value.len(), hex.concat())
        }
        Some(StateOutcome::Counted(sum)) => format!("the sum {sum}"),
        Some(StateOutcome::Deleted | StateOutcome::Expired) | None => "nothing".to_owned(),
    }
}
