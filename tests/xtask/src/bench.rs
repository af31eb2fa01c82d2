//! `cargo xtask bench`: every benchmark of the workspace.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// Runs each bench target, with `arguments` handed through.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut steps = Steps::new();
    steps.step("benchmarks", || {
        for package in workspace.packages_under("") {
            for bench in package.targets.iter().filter(|target| target.is("bench")) {
                let mut cargo = shell::cargo(&workspace.root, ["bench", "--package"]);
                cargo
                    .args([&package.name, "--bench", &bench.name, "--"])
                    .args(arguments);
                shell::run(&mut cargo)?;
            }
        }
        Ok(())
    });
    Ok(steps.finish())
}
