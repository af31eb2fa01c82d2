//! What a plugin is not given in the simulator, and what is kept of its faults.

use super::*;

#[test]
fn calls_to_the_host_count_against_the_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |how: &str, cpu_ms: u32, lasting: &str| {
        let manifest = format!("[config]\nalways = \"{how}\"\n[limits]\ncpu_ms = {cpu_ms}\n");
        let plugin = hostile(folder.path(), &manifest);
        let arguments = ["--nodes", "1", "--seed", "5", "--for", lasting, "--json"];
        let output = twice(&[[path(&plugin)].as_slice(), &arguments].concat());
        let out = text(&output.stdout);
        assert!(output.status.success(), "{out}{}", text(&output.stderr));
        let over = format!("it used more than {cpu_ms} ms of CPU");
        let seen = figures(&output);
        (out.matches(&over).count(), seen["plugin"].clone())
    };
    // Nothing but two calls in an endless loop, so that they end it.
    let (over, seen) = run("timer-flood", 100, "20s");
    assert_eq!((over, &seen["cpu_ms"]), (5, &500.into()), "{seen}");
    // A hundred thousand calls stand for 100 ms, besides the instructions around them.
    let (over, seen) = run("message-flood", 100, "20s");
    assert_eq!(over, 5, "{seen}");
    let (over, seen) = run("message-flood", 1_000, "1s");
    assert_eq!((over, &seen["faults"]), (0, &0.into()), "{seen}");
    assert!(seen["cpu_ms"].as_u64() >= Some(100), "{seen}");
}

#[test]
fn a_trap_leaves_a_core_where_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = hostile(folder.path(), "[config]\nalways = \"trap\"\n");
    let cores = folder.path().join("deep/cores");
    let run = |nodes: &str| {
        let arguments = ["--nodes", nodes, "--seed", "5", "--for", "20s"];
        let arguments = [[path(&plugin)].as_slice(), &arguments].concat();
        let asked = [arguments.as_slice(), &["--coredump", path(&cores)]].concat();
        (consort(&arguments), twice(&asked))
    };
    let (plain, asked) = run("3");
    let out = text(&asked.stdout);
    assert!(!text(&plain.stdout).contains("core"), "nobody asked");
    let told: Vec<&str> = out
        .lines()
        .filter_map(|line| {
            line.split_once("host: its core is in ")
                .map(|(_, path)| path)
        })
        .collect();
    assert_eq!(told.len(), 15, "{out}");
    for path in &told {
        let name = path.rsplit('/').next().expect("a name");
        let parts: Vec<&str> = name.split('.').collect();
        assert_eq!((parts[0], parts[3]), ("hostile", "core"), "{name}");
        assert!(["n0", "n1", "n2"].contains(&parts[1]), "{name}");
        let time = parts[2].parse::<u64>().expect("group time");
        assert!(time > 1_000_000_000_000_000, "{name}");
        let core = std::fs::read(path).expect("where it says");
        assert!(core.starts_with(b"\0asm"), "{name}");
    }
    let kept = || std::fs::read_dir(&cores).expect("made").count();
    assert_eq!(kept(), 15, "the second run replaces the files of the first");
    // Beyond the bound the log says why there is none.
    std::fs::remove_dir_all(&cores).expect("removed");
    let (_, asked) = run("5");
    let out = text(&asked.stdout);
    assert_eq!(kept(), 16);
    let refused = out.matches("its core is not kept: 16 cores are kept already");
    assert_eq!(refused.count(), 9, "{out}");
}

#[test]
fn folders_are_refused_and_the_plugin_runs_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = "[capabilities.files]\nmusic = \"read-write\"\n";
    let plugin = with_manifest(folder.path(), "explorer", manifest);
    let output = twice(&[path(&plugin), "--nodes", "2", "--seed", "5", "--json"]);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains("capability files.music: not granted"),
        "{errors}"
    );
    assert_eq!(figures(&output)["plugin"]["running"], 2);
}

#[test]
fn a_device_whose_group_time_is_set_back_gets_a_new_instance() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = write(
        folder.path(),
        "back.toml",
        r#"
v = 1
nodes = 5
for = "40s"

[[device]]
index = 4
wall_offset = "1h"

[[step]]
at = "0s"
partition = [[0, 1, 2, 3], [4]]

[[step]]
at = "12s"
heal = true

[[expect]]
at = "12s"
within = "15s"
one_leader = "all"

[[expect]]
no_faults = true
"#,
    );
    let plugin = with_manifest(folder.path(), "recorder", "[config]\nevery_us = 1000000\n");
    let output = twice(&[path(&plugin), "--scenario", &plan, "--seed", "3"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    let of = |device: &str| -> Vec<&str> {
        let said = out.lines().filter_map(|line| line.split_once(" info "));
        said.filter(|(head, _)| head.ends_with(device))
            .map(|(_, text)| text)
            .collect()
    };
    let lines = of(" n4");
    let place = |text: &str, from: usize| {
        let found = lines[from..].iter().position(|line| line.starts_with(text));
        from + found.unwrap_or_else(|| panic!("no {text:?} in {lines:#?}"))
    };
    // As in a reload: the new one is set up, the old one saves, the new one restores.
    let second = place("setup ", place("setup ", 0) + 1);
    let restored = place("restore saved", place("save", second));
    let due = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        words.get(3).and_then(|due| due.parse::<u64>().ok())
    };
    let timers = |lines: &[&str]| -> Vec<u64> {
        let fired = lines.iter().filter(|line| line.starts_with("on-timer 7 "));
        fired.filter_map(due).collect()
    };
    let (before, after) = (timers(&lines[..second]), timers(&lines[restored..]));
    assert!(before.len() > 5 && before.is_sorted(), "{before:?}");
    assert!(after.len() > 5 && after.is_sorted(), "{after:?}");
    assert!(
        after[0] + 3_000_000_000 < before[0],
        "an hour, but for some time"
    );
    for steady in [" n0", " n1", " n2", " n3"] {
        let setups = of(steady)
            .into_iter()
            .filter(|line| line.starts_with("setup "));
        assert_eq!(setups.count(), 1, "{steady}");
    }
}
