//! `cargo xtask figures`: builds everything and becomes `figures`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::workspace::Workspace;
use crate::{setup, shell};

/// How often the two programs of `call` take turns.
const TURNS: usize = 3;
/// What Extism's plugins are built for.
const PEER_TARGET: &str = "wasm32-unknown-unknown";

/// Builds, then replaces this process by the program that measures.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    setup::c_compiler()?;
    setup::wasm_targets(workspace)?;
    if arguments.first().is_some_and(|what| what == "call") {
        return call(workspace);
    }
    setup::network_tools();
    shell::run(&mut shell::cargo(
        &workspace.root,
        ["build", "--workspace", "--bins"],
    ))?;
    let figures = workspace.target.join("debug").join("figures");
    let error = Command::new(&figures).args(arguments).exec();
    Err(anyhow!(error).context(format!("run {}", figures.display())))
}

/// What a call into a plugin costs, here and under Extism, measured in turn.
fn call(workspace: &Workspace) -> Result<ExitCode> {
    let folder = workspace.root.join("tests/peers/extism");
    let target = workspace.target.join("peers");
    let build = |more: &[&str]| {
        let mut cargo = shell::cargo(&folder, ["build", "--release", "--target-dir"]);
        shell::run(cargo.arg(&target).args(more))
    };
    build(&[])?;
    build(&["--package", "peer-extism-guest", "--target", PEER_TARGET])?;
    let built = target.join(PEER_TARGET).join("release");
    let guest = built.join("peer_extism_guest.wasm");
    for _ in 0..TURNS {
        let ours = [
            "bench",
            "--profile",
            "dev",
            "--workspace",
            "--bench",
            "call",
        ];
        shell::run(&mut shell::cargo(&workspace.root, ours))?;
        let peer = target.join("release").join("peer-extism");
        shell::run(Command::new(peer).arg(&guest))?;
    }
    Ok(ExitCode::SUCCESS)
}
