//! `cargo xtask figures`: builds everything and becomes `figures`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::workspace::Workspace;
use crate::{setup, shell};

/// Builds, then replaces this process by the program that measures.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::wasm_targets(workspace)?;
    setup::network_tools();
    shell::run(&mut shell::cargo(
        &workspace.root,
        ["build", "--workspace", "--bins"],
    ))?;
    let figures = workspace.target.join("debug").join("figures");
    let error = Command::new(&figures).args(arguments).exec();
    Err(anyhow!(error).context(format!("run {}", figures.display())))
}
