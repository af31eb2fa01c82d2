//! How fast a group with a plugin's own code on every device runs in virtual time.
//!
//! The program itself is timed, from its start to its end, with the compiled code of the plugin at
//! hand: what an author waits for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use consort_e2e::programs;

use crate::SimPlugin;
use crate::samples::Samples;

/// Simulates the group several times; prints the times and the rate.
pub(crate) fn speed(setting: &SimPlugin) -> Option<()> {
    let file = setting.file.clone();
    let file = file.unwrap_or_else(|| programs::plugin("playlist"));
    let run = |seed: u8| -> Option<Duration> {
        let begin = Instant::now();
        let status = Command::new(programs::consort())
            .arg("sim")
            .arg(&file)
            .args(["--nodes", &setting.nodes.to_string()])
            .args(["--for", &format!("{}s", setting.seconds)])
            .args(["--seed", &seed.to_string()])
            .stdout(Stdio::null())
            .status();
        let success = status.is_ok_and(|status| status.success());
        success.then(|| begin.elapsed())
    };
    // The first one compiles.
    run(0)?;
    let mut samples = Samples::default();
    let mut total = Duration::ZERO;
    for seed in 1..=setting.times {
        let took = run(seed)?;
        total += took;
        samples.add(took);
    }
    let name = format!(
        "{} devices with {} for {} simulated seconds",
        setting.nodes,
        file.file_name()?.display(),
        setting.seconds
    );
    samples.print(&name);
    let simulated = f64::from(setting.seconds) * f64::from(setting.times);
    println!(
        "{:.0} simulated seconds per second",
        simulated / total.as_secs_f64()
    );
    Some(())
}
