//! Cuts a plan that breaks a property down to a short one that breaks the same property.
//!
//! Pieces are left out, the larger ones first, as long as the run goes on breaking the same
//! property (delta debugging). The order is fixed and the number of runs is bounded, so one seed
//! and one plan give one result.

use core::time::Duration;

use crate::network::Link;
use crate::plan::{Action, CryptoChoice, Mode, Outcome, Plan, RunOptions, Who, run_plan};
use crate::seed::Seed;

/// A short plan, what it shows, and how many runs it took to find.
#[derive(Clone, Debug)]
pub struct Shortest {
    /// The plan.
    pub plan: Plan,
    /// What running it shows.
    pub outcome: Outcome,
    /// How many runs were spent.
    pub runs: u32,
}

/// Cuts down a plan that breaks a property under a seed, with at most `budget` runs; none if it
/// breaks none.
#[must_use]
pub fn minimise(plan: &Plan, seed: Seed, budget: u32) -> Option<Shortest> {
    let outcome = run_plan(plan, seed, RunOptions::default());
    let kind = kind(&outcome)?;
    let mut search = Search {
        seed,
        kind,
        budget,
        best: Shortest {
            plan: plan.clone(),
            outcome,
            runs: 1,
        },
    };
    search.shorten();
    while search.round() && search.best.runs < search.budget {}
    search.shorten();
    Some(search.best)
}

/// Which property broke: the words without numbers and names of devices.
fn kind(outcome: &Outcome) -> Option<String> {
    let what = &outcome.violations.first()?.what;
    let letters = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic());
    Some(what.split_whitespace().filter(letters).take(6).collect())
}

struct Search {
    seed: Seed,
    kind: String,
    budget: u32,
    best: Shortest,
}

impl Search {
    /// Takes a plan over if it breaks the same property.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.best.runs >= self.budget || plan == self.best.plan || plan.check().is_err() {
            return false;
        }
        self.best.runs += 1;
        let outcome = run_plan(&plan, self.seed, RunOptions::default());
        let same = kind(&outcome).is_some_and(|kind| kind == self.kind);
        if same {
            (self.best.plan, self.best.outcome) = (plan, outcome);
        }
        same
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.plan.clone();
        change(&mut plan);
        self.attempt(plan)
    }

    /// Ends the run where the property broke. Steps that never came are left out.
    fn shorten(&mut self) {
        let Some(violation) = self.best.outcome.violations.first() else {
            return;
        };
        let at = Duration::from_micros(violation.at.as_micros());
        let safety = |plan: &mut Plan| {
            plan.duration = (at + Duration::from_millis(1)).min(plan.duration);
            plan.steps.retain(|step| step.at <= at);
            plan.expectations.retain(|expect| expect.at <= at);
            (plan.mode, plan.calm) = (Mode::Safety, None);
        };
        self.change(safety);
        self.change(|plan| plan.steps.retain(|step| step.at <= at));
    }

    /// Tries to leave out everything once; whether anything could be.
    fn round(&mut self) -> bool {
        let before = self.best.plan.clone();
        self.steps();
        for count in (0..self.best.plan.beats.len()).rev() {
            self.change(|plan| drop(plan.beats.remove(count)));
        }
        for count in (0..self.best.plan.writes.len()).rev() {
            self.change(|plan| drop(plan.writes.remove(count)));
        }
        for count in (0..self.best.plan.devices.len()).rev() {
            self.change(|plan| drop(plan.devices.remove(count)));
        }
        while self.best.plan.plugins.len() > 1 && self.change(|plan| drop(plan.plugins.pop())) {}
        for node in (0..self.best.plan.nodes).rev() {
            let plan = without(&self.best.plan, node);
            self.attempt(plan);
        }
        self.change(|plan| plan.link = Link::lan());
        self.change(|plan| plan.send_rate = None);
        self.change(|plan| plan.crypto = Some(CryptoChoice::Toy));
        self.change(|plan| plan.spread = Duration::from_millis(500));
        self.shorten();
        before != self.best.plan
    }

    /// Leaves out steps, half of them first, then smaller pieces, then single ones.
    fn steps(&mut self) {
        let mut size = self.best.plan.steps.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.best.plan.steps.len() {
                let to = (from + size).min(self.best.plan.steps.len());
                if !self.change(|plan| drop(plan.steps.drain(from..to))) {
                    from = to;
                }
            }
            size /= 2;
        }
    }
}

/// The plan without one device. Steps that were about nobody else go with it.
fn without(plan: &Plan, gone: usize) -> Plan {
    let mut plan = plan.clone();
    if plan.nodes < 2 {
        return plan;
    }
    plan.nodes -= 1;
    let renamed = |node: usize| match node.cmp(&gone) {
        core::cmp::Ordering::Less => Some(node),
        core::cmp::Ordering::Equal => None,
        core::cmp::Ordering::Greater => Some(node - 1),
    };
    let rename = |nodes: &mut Vec<usize>| {
        *nodes = nodes.iter().filter_map(|node| renamed(*node)).collect();
    };
    plan.devices.retain(|device| device.index != gone);
    for device in &mut plan.devices {
        device.index = renamed(device.index).unwrap_or(device.index);
        rename(&mut device.seeds);
        rename(&mut device.names);
    }
    plan.steps.retain_mut(|step| {
        match &mut step.action {
            Action::Partition(sides) => sides.iter_mut().for_each(rename),
            Action::Clone(clone) => match renamed(clone.node) {
                Some(node) => clone.node = node,
                None => return false,
            },
            action => {
                for who in action.whos() {
                    if let Who::Nodes(nodes) = who {
                        let some = !nodes.is_empty();
                        rename(nodes);
                        if some && nodes.is_empty() {
                            return false;
                        }
                    }
                }
            }
        }
        true
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;

    #[test]
    fn what_has_nothing_to_do_with_it_is_left_out() {
        let mut plan = super::super::draw(Seed(3));
        plan.nodes = 5;
        plan.devices.clear();
        (plan.mode, plan.calm) = (Mode::Safety, None);
        plan.steps
            .retain(|step| matches!(step.action, Action::Heal(_)));
        for node in 0..5 {
            plan.steps.push(Step {
                at: Duration::from_secs(node as u64 + 1),
                action: Action::ClockJump(crate::plan::ClockJump {
                    node: Who::Nodes(vec![node]),
                    by: 1_000,
                }),
            });
        }
        // Nobody leads two seconds after the start.
        plan.expectations.push(crate::plan::Expect {
            at: Duration::from_millis(1_500),
            leads: Some(Who::All),
            ..crate::plan::Expect::default()
        });
        let found = minimise(&plan, Seed(3), 60).expect("it breaks");
        assert!(found.plan.steps.is_empty(), "{:?}", found.plan.steps);
        assert!(found.plan.beats.is_empty() && found.plan.nodes == 1);
        assert!(found.plan.duration < Duration::from_secs(2));
        assert_eq!(found.outcome.violations.len(), 1);
        let again = minimise(&plan, Seed(3), 60).expect("it breaks");
        assert_eq!(again.plan, found.plan);
        assert!(minimise(&Plan::new(1, Duration::from_secs(1)), Seed(3), 60).is_none());
    }

    #[test]
    fn a_device_goes_with_what_was_about_it_alone() {
        let mut plan = Plan::new(3, Duration::from_secs(9));
        for action in [
            Action::Crash(Who::Nodes(vec![1])),
            Action::Crash(Who::Nodes(vec![1, 2])),
            Action::Partition(vec![vec![0, 1], vec![2]]),
        ] {
            let at = Duration::from_secs(1);
            plan.steps.push(Step { at, action });
        }
        let steps = without(&plan, 1).steps;
        let actions: Vec<_> = steps.into_iter().map(|step| step.action).collect();
        let expected = [
            Action::Crash(Who::Nodes(vec![1])),
            Action::Partition(vec![vec![0], vec![1]]),
        ];
        assert_eq!(actions, expected);
    }
}
