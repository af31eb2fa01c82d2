//! `consort sim FILE` as an author runs it: real plugins on every device, in virtual time.

mod bounds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use consort_test_guests::{fixture, plugin};
use serde_json::Value;

fn consort(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consort"))
        .arg("sim")
        .args(arguments)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// The last line of standard output, which must have the form of the schema.
fn figures(output: &Output) -> Value {
    let out = text(&output.stdout);
    let line = out.lines().last().expect("a line");
    let value: Value = serde_json::from_str(line).expect("it is JSON");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = std::fs::read_to_string(root.join("docs/schemas/sim.schema.json"));
    let schema = serde_json::from_str(&schema.expect("the schema is there")).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
    value
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("the file is written");
    path(&file).to_owned()
}

/// Runs twice, with one output; gives it.
fn twice(arguments: &[&str]) -> Output {
    let (first, second) = (consort(arguments), consort(arguments));
    assert_eq!(text(&first.stdout), text(&second.stdout), "{arguments:?}");
    assert_eq!(text(&first.stderr), text(&second.stderr), "{arguments:?}");
    first
}

/// The misbehaving plugin in a folder with a manifest.
fn hostile(folder: &Path, manifest: &str) -> PathBuf {
    with_manifest(folder, "hostile", manifest)
}

/// A fixture in a folder with a manifest.
fn with_manifest(folder: &Path, name: &str, manifest: &str) -> PathBuf {
    let plugin = folder.join(name);
    std::fs::create_dir_all(&plugin).expect("the folder is made");
    std::fs::copy(fixture(name), plugin.join("plugin.wasm")).expect("the file is copied");
    write(&plugin, "plugin.toml", manifest);
    plugin
}

#[test]
fn one_seed_gives_one_text() {
    for name in ["playlist", "counter", "lights"] {
        let file = plugin(name);
        let run = |seed| {
            let base = ["--seed", seed, "--for", "30s", "--loss", "5%", "--json"];
            let output = twice(&[[path(&file)].as_slice(), &base].concat());
            assert!(output.status.success(), "{name}: {}", text(&output.stderr));
            output
        };
        let output = run("7");
        let seen = figures(&output);
        assert_eq!(seen["plugin"]["running"], 5, "{name}: {seen}");
        assert_eq!(seen["plugin"]["faults"], 0, "{name}: {seen}");
        let lines = &seen["plugin"]["log_lines"]["info"];
        assert!(lines.as_u64() > Some(0), "{name}: {seen}");
        assert_ne!(output.stdout, run("8").stdout, "{name}");
    }
}

#[test]
fn the_documented_scenarios_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios/plugins");
    let plans = std::fs::read_dir(folder).expect("the examples are there");
    let mut run = 0;
    for plan in plans {
        let plan = plan.expect("an entry").path();
        let name = plan.file_stem().and_then(|name| name.to_str());
        let file = plugin(name.expect("it has the plugin's name"));
        for seed in ["7", "8", "9"] {
            let output = consort(&[path(&file), "--scenario", path(&plan), "--seed", seed]);
            let errors = text(&output.stderr);
            assert!(output.status.success(), "{seed}: {errors}");
        }
        run += 1;
    }
    assert_eq!(run, 4, "one for each plugin with state");
}

/// The documented scenario of a plugin, with settings; what the devices logged.
fn documented(name: &str, seed: &str, settings: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios/plugins");
    let plan = folder.join(format!("{name}.toml"));
    let file = plugin(name);
    let mut arguments = vec![path(&file), "--scenario", path(&plan), "--seed", seed];
    for setting in settings {
        arguments.extend(["--config", setting]);
    }
    let output = consort(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The value of `key=` in a line.
fn field(line: &str, key: &str) -> u64 {
    let mut words = line.split(' ');
    let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let value = value.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{key} in {line}"))
}

/// The device that logged a line.
fn device(line: &str) -> &str {
    line.split(' ').nth(1).expect("a device")
}

/// The time of day at the beginning of a line, in microseconds.
fn time_of_day(line: &str) -> u64 {
    let (_, time) = line.split_once('T').expect("a time");
    let (time, _) = time.split_once('Z').expect("in UTC");
    let (whole, micros) = time.split_once('.').expect("a fraction");
    let seconds = whole.split(':').fold(0, |sum, part| {
        sum * 60 + part.parse::<u64>().expect("a number")
    });
    seconds * 1_000_000 + micros.parse::<u64>().expect("a number")
}

#[test]
fn all_lights_change_to_one_colour_at_one_time() {
    for seed in ["7", "8"] {
        let out = documented("lights", seed, &["measure=true"]);
        let mut beats: BTreeMap<u64, (&str, u64)> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut on_time, mut gaps) = (0, BTreeSet::new());
        for line in out.lines().filter(|line| line.contains(" light ")) {
            let beat = field(line, "beat");
            let (_, shown) = line.split_once(" light ").expect("a colour");
            let (colour, _) = shown.split_once(' ').expect("more");
            let shows = (colour, field(line, "due"));
            assert_eq!(*beats.entry(beat).or_insert(shows), shows, "{line}");
            match last.insert(device(line), beat) {
                Some(before) if before + 1 == beat => {
                    let late = field(line, "at").checked_sub(shows.1);
                    assert!(late.is_some_and(|late| late < 1_000), "{line}");
                    on_time += 1;
                }
                Some(_) => assert!(gaps.insert(device(line)), "{line}: not for the first time"),
                None => {}
            }
        }
        // Only the leader that lost its power, and the one that came late with a time of its own.
        gaps.remove("n5");
        assert!(gaps.len() <= 1, "seed {seed}: {gaps:?} missed beats");
        assert!(on_time > 100, "seed {seed}: {on_time} changes");
        assert_eq!(last.len(), 6, "seed {seed}: the late one too");
    }
}

#[test]
fn a_player_that_comes_in_the_middle_of_an_item_joins_in_at_its_place() {
    for seed in ["7", "8"] {
        let out = documented("playlist", seed, &[]);
        let playing = |of: &str| {
            let mut lines = out.lines().filter(|line| line.contains(" playing clip "));
            let line = lines.find(|line| device(line) == of);
            line.unwrap_or_else(|| panic!("{of} plays the clip: {out}"))
        };
        let (first, late) = (playing("n1"), playing("n5"));
        assert_eq!(field(first, "start"), field(late, "start"), "seed {seed}");
        assert!(field(first, "position_ms") < 5, "{first}");
        let elapsed = time_of_day(late) - field(late, "start") % 86_400_000_000;
        let place = field(late, "position_ms") * 1_000;
        assert!(place > 3_000_000, "in the middle: {late}");
        assert!(elapsed.abs_diff(place) < 5_000, "{elapsed} µs, {late}");
    }
}

#[test]
fn a_leader_that_dies_is_replaced_and_the_group_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = "v = 1\nnodes = 5\nfor = \"40s\"\n\
        [[step]]\nat = \"12s\"\ncrash = \"leader\"\n\
        [[step]]\nat = \"20s\"\nstart = \"all\"\n\
        [[step]]\nat = \"25s\"\nplugin_fault = { node = \"leader\" }\n\
        [[expect]]\nwithin = \"3s\"\none_leader = \"all\"\n\
        [[expect]]\nat = \"12s\"\nwithin = \"3s\"\none_leader = \"all\"\n\
        [[expect]]\nwithin = \"10s\"\nlog = { contains = \"playing\", on = \"all\" }\n\
        [[expect]]\nat = \"20s\"\nwithin = \"5s\"\nlog = { contains = \"playing\", on = 0 }\n\
        [[expect]]\nno_log = \"error\"\n";
    let scenario = write(folder.path(), "plan.toml", plan);
    let expect = write(
        folder.path(),
        "expect.toml",
        "[[expect]]\nat = \"end\"\nsee_all = \"all\"\n[[expect]]\nno_faults = true\nfor = \"20s\"\n",
    );
    let file = plugin("playlist");
    let output = twice(&[
        path(&file),
        "--seed",
        "7",
        "--scenario",
        &scenario,
        "--expect",
        &expect,
        "--json",
    ]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    let seen = figures(&output);
    assert_eq!(seen["plugin"]["faults"], 1, "{seen}");
    assert!(seen["leader_changes"].as_u64() >= Some(1), "{seen}");
    for part in [
        " - info scenario: crash = \"leader\"\n",
        "warn host: scenario: a fault that the scenario injects\n",
        "info host: plugin back-off\n",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
}

#[test]
fn an_endless_loop_ends_by_its_fuel_and_is_given_up_after_five_faults() {
    let folder = tempfile::tempdir().expect("a folder");
    for (how, cause) in [
        ("loop", "on-peer-added: it used more than 100 ms of CPU"),
        ("trap", "on-peer-added: it trapped"),
        ("alloc", "on-peer-added: it ran out of memory"),
        ("sleep", "on-peer-added: it waited for more than 5 s"),
    ] {
        let manifest = format!("[config]\nalways = \"{how}\"\n");
        let plugin = hostile(folder.path(), &manifest);
        let arguments = ["--nodes", "3", "--seed", "5", "--for", "20s", "--json"];
        let output = twice(&[[path(&plugin)].as_slice(), &arguments].concat());
        let out = text(&output.stdout);
        assert!(output.status.success(), "{out}{}", text(&output.stderr));
        let seen = figures(&output);
        assert_eq!(seen["plugin"]["quarantined"], 3, "{how}: {seen}");
        assert_eq!(seen["plugin"]["running"], 0, "{how}: {seen}");
        assert_eq!(seen["plugin"]["faults"], 15, "{how}: {seen}");
        let causes = out.matches(cause).count();
        assert_eq!(causes, 15, "{how}: {out}");
        assert_eq!(out.matches("host: plugin back-off").count(), 12, "{how}");
        assert_eq!(out.matches("host: plugin quarantined").count(), 3, "{how}");
        let cpu = seen["plugin"]["cpu_ms"].as_u64();
        assert_eq!(cpu == Some(1500), how == "loop", "{how}: {seen}");
    }
}

#[test]
fn the_cpu_budget_of_the_manifest_is_what_fuel_stands_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = "[config]\nalways = \"loop\"\n[limits]\ncpu_ms = 20\n";
    let plugin = hostile(folder.path(), manifest);
    let arguments = [path(&plugin), "--nodes", "1", "--for", "20s", "--json"];
    let output = consort(&arguments);
    let out = text(&output.stdout);
    assert!(out.contains("it used more than 20 ms of CPU"), "{out}");
    assert_eq!(
        figures(&output)["plugin"]["cpu_ms"],
        100,
        "five times 20 ms"
    );
}

#[test]
fn local_programs_ask_by_steps_of_the_plan() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = write(
        folder.path(),
        "local.toml",
        r#"
v = 1
nodes = 2
for = "10s"

[[step]]
at = "5s"
local = { node = 1, topic = "echo", text = "hello" }

[[step]]
at = "6s"
local = { node = "all", topic = "refuse" }

[[expect]]
at = "5s"
within = "1s"
log = { contains = "answers echo: hello", on = 1 }

[[expect]]
at = "6s"
within = "1s"
log = { contains = "answers refuse with an error (failed)", on = "all" }
"#,
    );
    let run = |manifest: &str| {
        let plugin = with_manifest(folder.path(), "recorder", manifest);
        twice(&[path(&plugin), "--scenario", &plan, "--seed", "3"])
    };
    let granted = run("[capabilities]\nlocal = true\n");
    assert!(granted.status.success(), "{}", text(&granted.stderr));
    let out = text(&granted.stdout);
    assert!(out.contains(" info on-local-request echo hello"), "{out}");
    assert!(!out.contains("n0 info answers echo"), "it asked one device");
    let refused = run("");
    assert_eq!(refused.status.code(), Some(7));
    let out = text(&refused.stdout);
    assert!(out.contains("with an error (not-granted)"), "{out}");

    for (request, said) in [
        ("topic = \"\"", "without control characters"),
        ("topic = \"a\", hex = \"0g\"", "pairs of hexadecimal digits"),
        (
            "topic = \"a\", hex = \"00\", text = \"b\"",
            "at most one of",
        ),
        ("topic = \"a\", payload = \"b\"", "unknown field"),
    ] {
        let step = format!("[[step]]\nat = \"1s\"\nlocal = {{ node = 0, {request} }}\n");
        let plan = write(
            folder.path(),
            "wrong.toml",
            &format!("v = 1\nnodes = 2\nfor = \"5s\"\n{step}"),
        );
        let plugin = with_manifest(folder.path(), "recorder", "");
        let output = consort(&[path(&plugin), "--scenario", &plan]);
        assert!(!output.status.success());
        let error = text(&output.stderr);
        assert!(error.contains(said), "{request}: {error}");
    }
}

#[test]
fn what_is_not_met_ends_the_run_with_the_command_that_repeats_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, hostile) = (plugin("playlist"), hostile(folder.path(), ""));
    for (file, setting, expectation, words) in [
        (
            &file,
            "title=x",
            "at = \"end\"\nstate = { kind = \"leader\", key = \"no such key\" }\n",
            ["expect[0] of 10s", "n0 has nothing"],
        ),
        (
            &file,
            "title=x",
            "within = \"9s\"\nlog = { contains = \"never written\" }\n",
            ["expect[0] of 0s", "is not met"],
        ),
        // At its beginning no device is up, and none is not all.
        (
            &file,
            "title=x",
            "within = \"9s\"\nlog = { contains = \"never written\", on = \"all\" }\n",
            ["expect[0] of 0s", "n1 has not written it"],
        ),
        (
            &hostile,
            "always=trap",
            "no_faults = true\n",
            ["expect[0] of 0s", "has a fault: on-peer-added"],
        ),
        (
            &hostile,
            "always=panic",
            "no_log = \"warn\"\n",
            ["expect[0] of 0s", "logs at warn"],
        ),
    ] {
        let expect = write(
            folder.path(),
            "expect.toml",
            &format!("[[expect]]\n{expectation}"),
        );
        let arguments = [
            path(file),
            "--seed",
            "5",
            "--for",
            "10s",
            "--expect",
            &expect,
            "--config",
            setting,
            "--json",
        ];
        let output = twice(&arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{expectation}: {errors}");
        assert_eq!(figures(&output)["violations"], 1);
        for word in words {
            assert!(errors.contains(word), "{word:?}: {errors}");
        }
        let replay = format!(
            "replay: consort sim {} --seed 0x0000000000000005 --for 10s --expect {expect} \
             --config {setting}",
            path(file)
        );
        assert!(errors.contains(&replay), "{errors}");
    }
}

#[test]
fn all_are_also_those_that_start_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = with_manifest(folder.path(), "recorder", "");
    // The first device leads before the other one is there, which then follows.
    for (within, code) in [("6s", 0), ("12s", 7)] {
        let plan = format!(
            "v = 1\nnodes = 2\nfor = \"20s\"\n[[device]]\nindex = 1\nstarts = \"8s\"\n\
             [[expect]]\nwithin = \"{within}\"\n\
             log = {{ contains = \"promote-leader\", on = \"all\" }}\n"
        );
        let plan = write(folder.path(), "plan.toml", &plan);
        let output = consort(&[path(&recorder), "--scenario", &plan, "--seed", "5"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{within}: {errors}");
        assert_eq!(errors.contains("n1 has not written it"), code == 7);
        assert!(!errors.contains("n0 has not"), "{errors}");
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = plugin("counter");
    let head = "v = 1\nnodes = 3\nfor = \"9s\"\n";
    for (rest, word) in [
        ("[[expect]]\nno_lock = \"error\"\n", "no_log"),
        ("[[beat]]\nevery = \"1s\"\n", "beat = given"),
        (
            "[[step]]\nat = \"1s\"\nsend = { from = 0 }\n",
            "step[0].send",
        ),
    ] {
        let scenario = write(folder.path(), "plan.toml", &format!("{head}{rest}"));
        let output = consort(&[path(&good), "--scenario", &scenario]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{rest}: {errors}");
        assert!(
            errors.contains("plan.toml") && errors.contains(word),
            "{errors}"
        );
    }
    let scenario = write(
        folder.path(),
        "plan.toml",
        &format!("{head}[[expect]]\nno_faults = true\n"),
    );
    let scripted = consort(&["--scenario", &scenario]);
    assert_eq!(scripted.status.code(), Some(3));
    assert!(text(&scripted.stderr).contains("consort sim FILE.wasm"));

    let no_wasm = write(folder.path(), "plain.wasm", "plain text");
    let manifest = hostile(folder.path(), "[limits]\nmemroy_mib = 1\n");
    for (file, code, words) in [
        (no_wasm.as_str(), 3, ["plain.wasm", "no WebAssembly"]),
        (path(&manifest), 3, ["plugin.toml:2", "memroy_mib"]),
        (
            "/nowhere/plugin.wasm",
            1,
            ["/nowhere/plugin.wasm", "cannot read"],
        ),
    ] {
        let output = consort(&[file]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{file}: {errors}");
        let all = words.iter().all(|word| errors.contains(word));
        assert!(all, "{words:?}: {errors}");
    }
}
