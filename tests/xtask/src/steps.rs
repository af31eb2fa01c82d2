//! A chore in steps: each is shown with its time, none hides the failure of another.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

/// Why a step cannot be run here, which is no failure.
#[derive(Debug)]
pub(crate) struct Skip(String);

impl Skip {
    /// The error that skips a step.
    pub(crate) fn because(reason: &Error) -> Error {
        Self(format!("{reason:#}")).into()
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The steps that ran.
#[derive(Debug)]
pub(crate) struct Steps {
    began: Instant,
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Steps {
    /// Starts with none.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs a step. Its failure is noted, the chore goes on. With the error [`Skip`] it counts as
    /// not run.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        eprintln!("\n== {name}");
        let began = Instant::now();
        let outcome = match work() {
            Ok(()) => Outcome::Passed,
            Err(error) => match error.downcast::<Skip>() {
                Ok(skip) => Outcome::Skipped(skip.0),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        };
        let step = Step {
            name,
            took: began.elapsed(),
            outcome,
        };
        eprintln!("{}", step.line());
        self.done.push(step);
    }

    /// Why a step did not pass; none if it did, or was none.
    pub(crate) fn why_not(&self, name: &str) -> Option<&str> {
        let step = self.done.iter().find(|step| step.name == name)?;
        match &step.outcome {
            Outcome::Passed => None,
            Outcome::Failed(why) | Outcome::Skipped(why) => Some(why),
        }
    }

    /// Prints the summary; fails if a step did.
    pub(crate) fn finish(self) -> ExitCode {
        eprintln!("\n== summary");
        for step in &self.done {
            eprintln!("{}", step.line());
        }
        let count = |wanted: fn(&Outcome) -> bool| {
            let outcomes = self.done.iter().map(|step| &step.outcome);
            outcomes.filter(|outcome| wanted(outcome)).count()
        };
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        let passed = self.done.len() - failed - skipped;
        let seconds = self.began.elapsed().as_secs_f64();
        eprintln!("{passed} steps passed, {failed} failed, {skipped} skipped, in {seconds:.1} s");
        if failed == 0 && passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Step {
    fn line(&self) -> String {
        let seconds = self.took.as_secs_f64();
        match &self.outcome {
            Outcome::Passed => format!("ok      {seconds:8.1} s  {}", self.name),
            Outcome::Failed(why) => format!("FAILED  {seconds:8.1} s  {}: {why}", self.name),
            Outcome::Skipped(why) => format!("skipped             {}: {why}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_kept_and_the_rest_runs() {
        let mut steps = Steps::new();
        steps.step("first", || Err(anyhow::anyhow!("broken").context("outer")));
        steps.step("second", || Ok(()));
        assert!(steps.done[0].line().ends_with("first: outer: broken"));
        assert!(steps.done[1].line().starts_with("ok"));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }

    #[test]
    fn what_is_skipped_is_named_and_no_success() {
        let mut steps = Steps::new();
        let reason = anyhow::anyhow!("refused").context("no network");
        steps.step("only", || Err(Skip::because(&reason)));
        assert!(steps.done[0].line().ends_with("only: no network: refused"));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }

    #[test]
    fn success_needs_every_step() {
        let mut steps = Steps::new();
        steps.step("only", || Ok(()));
        let reason = anyhow::anyhow!("no network");
        steps.step("other", || Err(Skip::because(&reason)));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}
