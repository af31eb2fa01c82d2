//! What a plan expects besides what always must hold.

use std::collections::BTreeSet;

use consort_proto::{PluginSpec, Time};

use super::super::Expect;
use super::super::span::show;
use super::Runner;
use crate::sim::Sim;

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
                    holds(sim, &plan.expectations[*index], nodes, plugin)
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
            .map(|index| {
                let expect = &self.plan.expectations[*index];
                let plugin = self.plugin(expect.plugin.as_ref());
                (*index, self.nodes_of(expect), plugin)
            })
            .collect()
    }

    /// The devices an expectation is about; those that are up, where a role or all are meant.
    fn nodes_of(&self, expect: &Expect) -> Vec<usize> {
        use super::super::Who;
        let conditions = [
            &expect.one_leader,
            &expect.see_all,
            &expect.leads,
            &expect.no_change,
        ];
        let who = conditions.into_iter().flatten().next();
        let nodes = who.map(|who| self.nodes(who)).unwrap_or_default();
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
        } else if !holds(
            &self.sim,
            expect,
            &nodes,
            &self.plugin(expect.plugin.as_ref()),
        ) {
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
        let wanted = toml::to_string(expect).unwrap_or_default();
        self.sim.fail(&format!(
            "expect[{index}] of {} is not met: {}",
            show(expect.at),
            wanted.lines().collect::<Vec<_>>().join(", ")
        ))
    }
}

/// An expectation, the devices and the plugin it is about.
type Meant = (usize, Vec<usize>, PluginSpec);

/// Whether an expectation holds at this moment.
fn holds(sim: &Sim, expect: &Expect, nodes: &[usize], plugin: &PluginSpec) -> bool {
    let runs = |node: &usize| sim.spec_of(*node, &plugin.id).is_some();
    let nodes: Vec<usize> = nodes.iter().copied().filter(runs).collect();
    if nodes.is_empty() {
        return false;
    }
    if expect.one_leader.is_some() {
        sim.agree(plugin, &nodes).is_some()
    } else if expect.see_all.is_some() {
        sim.all_see_all(plugin, &nodes)
    } else {
        nodes.iter().all(|node| sim.leads(*node, plugin))
    }
}
