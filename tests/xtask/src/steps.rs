//! A chore in steps: each is shown with its time, none hides the failure of another.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

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
    failure: Option<String>,
}

impl Steps {
    /// Starts with none.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs a step. Its failure is noted, the chore goes on.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        eprintln!("\n== {name}");
        let began = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        let step = Step {
            name,
            took: began.elapsed(),
            failure,
        };
        eprintln!("{}", step.line());
        self.done.push(step);
    }

    /// Prints the summary; fails if a step did.
    pub(crate) fn finish(self) -> ExitCode {
        eprintln!("\n== summary");
        for step in &self.done {
            eprintln!("{}", step.line());
        }
        let failed = self
            .done
            .iter()
            .filter(|step| step.failure.is_some())
            .count();
        let seconds = self.began.elapsed().as_secs_f64();
        if failed == 0 {
            eprintln!("all {} steps passed in {seconds:.1} s", self.done.len());
            return ExitCode::SUCCESS;
        }
        eprintln!(
            "{failed} of {} steps failed, in {seconds:.1} s",
            self.done.len()
        );
        ExitCode::FAILURE
    }
}

impl Step {
    fn line(&self) -> String {
        let seconds = self.took.as_secs_f64();
        match &self.failure {
            None => format!("ok      {seconds:8.1} s  {}", self.name),
            Some(failure) => format!("FAILED  {seconds:8.1} s  {}: {failure}", self.name),
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
    fn success_needs_every_step() {
        let mut steps = Steps::new();
        steps.step("only", || Ok(()));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}
