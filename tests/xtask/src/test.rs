//! `cargo xtask test`: everything that has to hold before a change lands.
//!
//! All of it shares one profile, as the dependencies alone cost many CPU minutes per profile. The
//! first build names tests and programs together: cargo then resolves the features of the
//! dependencies once, and the end-to-end tests find the daemon built.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::steps::{Skip, Steps};
use crate::workspace::Workspace;
use crate::{check, guests, mutants, setup, shell, wasm};

/// Sets up, builds, tests, lints; then the other languages for as long as `guests_for` says.
pub(crate) fn run(workspace: &Workspace, guests_for: Duration) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::wasm_targets(workspace)?;
    setup::network_tools();
    let cargo = |arguments: &[&str]| shell::run(&mut shell::cargo(&workspace.root, arguments));
    let mut steps = Steps::new();
    steps.step("format", || check::format(workspace));
    steps.step("plugins", || wasm::build_plugins(workspace).map(drop));
    steps.step("build", || {
        cargo(&["build", "--workspace", "--bins", "--tests"])
    });
    steps.step("tests", || {
        cargo(&["test", "--workspace", "--no-fail-fast"])
    });
    // They run among the tests, and pass where there is nothing for them to run in.
    steps.step("tests in network namespaces", setup::network_namespaces);
    steps.step("tests in user namespaces", setup::user_namespaces);
    steps.step("tests behind packet filters", setup::packet_filters);
    steps.step("mutants", || mutants::check(workspace, None));
    steps.step("clippy", || check::clippy(workspace));
    if guests_for.is_zero() {
        let why = anyhow!("`--guests-for 0` leaves them out");
        steps.step("languages", || Err(Skip::because(&why)));
    } else {
        guests::add(workspace, &mut steps, &[], guests_for)?;
    }
    Ok(steps.finish())
}
