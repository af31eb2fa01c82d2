//! `consort sim` as people run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn consort(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consort"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The last line of standard output, which must have the form of a schema.
fn object(output: &Output, schema: &str) -> Value {
    let out = text(&output.stdout);
    let line = out.lines().last().expect("a line");
    let value: Value = serde_json::from_str(line).expect("it is JSON");
    let schema = std::fs::read_to_string(root().join("docs/schemas").join(schema));
    let schema = serde_json::from_str(&schema.expect("the schema is there")).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
    value
}

/// A scenario in a file of its own.
fn scenario(folder: &Path, plan: &str) -> String {
    let file = folder.join("plan.toml");
    std::fs::write(&file, plan).expect("the plan is written");
    file.to_string_lossy().into_owned()
}

#[test]
fn one_seed_gives_one_text() {
    let arguments = [
        "sim", "--seed", "42", "--for", "30s", "--loss", "10%", "--json",
    ];
    let (first, second) = (consort(&arguments), consort(&arguments));
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(first.stdout, second.stdout);
    let figures = object(&first, "sim.schema.json");
    assert_eq!(figures["seed"], "0x000000000000002a");
    assert_eq!(figures["violations"], 0);
    assert!(figures["delivered"].as_u64() > Some(100), "{figures}");
    let other = consort(&[
        "sim", "--seed", "43", "--for", "30s", "--loss", "10%", "--json",
    ]);
    assert_ne!(first.stdout, other.stdout);
}

#[test]
fn the_documented_scenarios_run_and_are_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let plans = std::fs::read_dir(root().join("docs/scenarios")).expect("the examples are there");
    let mut run = 0;
    for plan in plans {
        let plan = plan.expect("an entry").path();
        // Those for plugins lie in a folder below.
        if plan.is_dir() {
            continue;
        }
        let picture = folder.path().join("run.svg");
        let output = consort(&[
            "sim",
            "--seed",
            "7",
            "--scenario",
            &plan.to_string_lossy(),
            "--plot",
            &picture.to_string_lossy(),
        ]);
        let out = text(&output.stdout);
        assert!(output.status.success(), "{out}{}", text(&output.stderr));
        assert!(out.contains("nothing forbidden happened"), "{out}");
        let svg = std::fs::read_to_string(&picture).expect("the picture is there");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.contains(">n0</text>") || svg.contains("n0"),
            "lanes have names"
        );
        run += 1;
    }
    assert!(run >= 3, "{run} examples");
}

#[test]
fn an_expectation_that_fails_has_an_exit_code_and_a_replay() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = "v = 1\nnodes = 3\nfor = \"20s\"\n\n[[step]]\nat = \"5s\"\npartition = [[0], [1, 2]]\n\n\
                [[expect]]\nat = \"6s\"\nwithin = \"5s\"\none_leader = \"all\"\n";
    let file = scenario(folder.path(), plan);
    let output = consort(&["sim", "--scenario", &file, "--seed", "5", "--json"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(object(&output, "sim.schema.json")["violations"], 1);
    let errors = text(&output.stderr);
    let replay = format!("replay: consort sim --seed 0x0000000000000005 --scenario {file}");
    assert!(errors.contains(&replay), "{errors}");
    assert!(errors.contains("expect[0]"), "{errors}");
}

#[test]
fn a_wrong_plan_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    for (plan, words) in [
        ("v = 1\nnodes = 3\n", ["for", "missing"]),
        ("v = 1\nnodes = 0\nfor = \"1s\"\n", ["nodes", "0"]),
        (
            "v = 1\nnodes = 3\nfor = \"1s\"\nnod = 4\n",
            ["nod", "unknown"],
        ),
        ("v = 1\nnodes = 3\nfor = \"soon\"\n", ["for", "soon"]),
        (
            "v = 1\nnodes = 3\nfor = \"9s\"\n[[step]]\nat = \"1s\"\ncrash = 7\n",
            ["step[0]", "7"],
        ),
    ] {
        let file = scenario(folder.path(), plan);
        let output = consort(&["sim", "--scenario", &file]);
        assert_eq!(output.status.code(), Some(3), "{plan}");
        let errors = text(&output.stderr);
        let all = words.iter().all(|word| errors.contains(word));
        assert!(all && errors.contains("plan.toml"), "{plan}: {errors}");
    }
    let missing = consort(&["sim", "--scenario", "/nowhere/plan.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    let flags = consort(&["sim", "--nodes", "100000"]);
    assert_eq!(flags.status.code(), Some(2), "{}", text(&flags.stderr));
}

#[test]
fn a_swarm_is_summed() {
    let output = consort(&["sim", "--swarm", "5", "--seed", "9", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures = object(&output, "sim-swarm.schema.json");
    assert_eq!(figures["runs"], 5);
    assert_eq!(figures["violations"], 0);
}
