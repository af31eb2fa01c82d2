//! The tour in every language, simulated: two runs of one seed give the same bytes, also where the plugin
//! asks the clock and the randomness of its own language, is lost to a fault, and goes with its device.
//! The tour in Rust is always there; the others are those whose `<language>.wasm` lies in the folder that
//! `CONSORT_TOURS` names, which `cargo xtask test --guests` builds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Group time begins here, in seconds.
const EPOCH_S: i64 = 1_790_000_000;

/// A fault where nobody leads, and a crash of the leader.
const PLAN: &str = r#"
v = 1
nodes = 3
for = "20s"

[link]
loss = 0.05

[[step]]
at = "6s"
plugin_fault = { node = "followers" }

[[step]]
at = "9s"
restart = { node = "leader", down = "3s" }
"#;

/// Languages whose tours have neither clock nor randomness but the host's: they name nothing of WASI.
const WITHOUT_WASI: [&str; 2] = ["assemblyscript", "zig"];

fn tours() -> Vec<PathBuf> {
    let mut tours = vec![consort_test_guests::fixture("tour")];
    let Some(folder) = std::env::var_os("CONSORT_TOURS") else {
        return tours;
    };
    let files = std::fs::read_dir(folder).expect("the variable names a folder");
    let paths = files.map(|entry| entry.expect("an entry").path());
    tours.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "wasm")));
    tours.sort();
    tours
}

/// What a run prints.
fn simulate(file: &Path, plan: &Path, seed: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_consort"))
        .arg("sim")
        .arg(file)
        .args(["--config", "chance=yes", "--seed", seed, "--scenario"])
        .arg(plan)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", file.display());
    String::from_utf8(output.stdout).expect("it is text")
}

/// What the plugin drew, each time another; held against the time at which it believed to be.
fn drawn(out: &str) -> BTreeSet<&str> {
    let mut drawn = BTreeSet::new();
    let told = |line| {
        str::split_once(line, " info chance: ")?
            .1
            .rsplit_once(" at ")
    };
    for (numbers, time) in out.lines().filter_map(told) {
        // Milliseconds or nanoseconds, as the language has it; the seconds are ten digits.
        let seconds: i64 = time[..10].parse().expect("seconds");
        assert!((seconds - EPOCH_S).abs() < 60, "{time} is no group time");
        assert!(drawn.insert(numbers), "{numbers} twice:\n{out}");
    }
    drawn
}

#[test]
fn every_language_gives_one_text_for_one_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, PLAN).expect("the plan is written");
    for file in tours() {
        let language = file.file_stem().expect("a name").to_string_lossy();
        println!("{language}");
        let out = simulate(&file, &plan, "7");
        assert_eq!(out, simulate(&file, &plan, "7"), "{language}");
        let other = simulate(&file, &plan, "8");
        assert_ne!(out, other, "{language}");

        let count = |text| out.matches(text).count();
        assert_eq!(count("plugin            runs on 3 devices"), 1, "{out}");
        assert_eq!(count("a fault that the scenario injects"), 2, "{out}");
        // Three devices start, two plugins after their faults, one device after its crash.
        assert_eq!(count("info setup: 1 settings"), 6, "{out}");

        let (here, there) = (drawn(&out), drawn(&other));
        if WITHOUT_WASI.contains(&&*language) {
            assert!(here.is_empty(), "{here:?}");
        } else {
            // At each setup, and by two timers.
            assert!(here.len() > 12, "{out}");
            assert!(here.is_disjoint(&there), "{language}: {here:?} {there:?}");
        }
    }
}
