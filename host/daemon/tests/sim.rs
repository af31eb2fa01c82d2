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
        row(&svg, "n0");
        run += 1;
    }
    assert!(run >= 3, "{run} examples");
}

#[test]
fn a_picture_shows_who_led_whom_and_what_was_broken_when() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = root().join("docs/scenarios/two-halves.toml");
    let draw = |name: &str| {
        let file = folder.path().join(name);
        let [plan, file] = [&plan, &file].map(|path| path.to_string_lossy());
        let arguments = ["sim", "--seed", "7", "--scenario", &plan, "--plot", &file];
        let output = consort(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read_to_string(&*file).expect("the picture is there")
    };
    let svg = draw("one.svg");
    assert_eq!(svg, draw("another.svg"), "one seed gives one picture");

    let lanes: Vec<i32> = (0..8).map(|node| row(&svg, &format!("n{node}"))).collect();
    // Who has the full colour, where all others of its side have that colour's tint.
    let leaders = |at: f64, side: usize| {
        let colours: Vec<_> = lanes.iter().map(|lane| colour(&svg, *lane, at)).collect();
        let leads = |node: &usize| {
            let first = node / side * side;
            let mut others = (first..first + side).filter(|other| other != node);
            others.all(|other| colours[other] == tint(colours[*node]))
        };
        (0..8).filter(leads).collect::<Vec<_>>()
    };
    let (before, apart, after) = (leaders(10.0, 8), leaders(30.0, 4), leaders(50.0, 8));
    assert!(matches!(apart[..], [0..=3, 4..=7]), "{apart:?}");
    assert_eq!((before.len(), after.len()), (1, 1), "one leads all");
    assert!(apart.contains(&before[0]), "{before:?} led on");
    assert!(apart.contains(&after[0]), "{after:?} led on");

    let broken = row(&svg, "partition");
    assert_eq!(colour(&svg, broken, 25.0), PARTITION);
    for whole in [14.5, 35.5] {
        assert_ne!(colour(&svg, broken, whole), PARTITION, "at {whole} s");
    }
    let mut texts = texts(&svg);
    assert!(texts.any(|(_, text)| text.starts_with("partition [[0, 1, 2, 3]")));
}

/// The colour in which partitions are drawn.
const PARTITION: [u8; 3] = [240, 170, 160];

/// The elements of a kind in a picture, each from its name to its end.
fn elements<'a>(svg: &'a str, kind: &str) -> impl Iterator<Item = &'a str> {
    let open = format!("<{kind} ");
    let parts: Vec<&str> = svg.split(open.as_str()).skip(1).collect();
    parts.into_iter()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let (_, rest) = element
        .split_once(&format!("{name}=\""))
        .expect("it has one");
    rest.split_once('"').expect("it ends").0
}

fn pixels(element: &str, name: &str) -> i32 {
    attribute(element, name).parse().expect("a number")
}

/// All texts, and how far down each stands.
fn texts(svg: &str) -> impl Iterator<Item = (i32, &str)> {
    elements(svg, "text").map(|text| {
        let (_, words) = text.split_once('>').expect("it is opened");
        let words = words.split_once("</text>").expect("and closed").0;
        (pixels(text, " y"), words.trim())
    })
}

/// How far down the row of this name is; there is one.
fn row(svg: &str, name: &str) -> i32 {
    let rows: Vec<i32> = texts(svg)
        .filter(|text| text.1 == name)
        .map(|text| text.0)
        .collect();
    assert_eq!(rows.len(), 1, "{name} has a row");
    rows[0]
}

/// The colour of a row at a time of a minute, which goes from 134 to 1266: that of the last bar
/// over it.
fn colour(svg: &str, row: i32, seconds: f64) -> [u8; 3] {
    let x = 134 + (seconds / 60.0 * 1132.0).round() as i32;
    let covers = |bar: &&str| {
        let (left, top) = (pixels(bar, "x"), pixels(bar, " y"));
        (left..left + pixels(bar, "width")).contains(&x)
            && (top..top + pixels(bar, "height")).contains(&row)
    };
    let bar = elements(svg, "rect")
        .filter(covers)
        .last()
        .expect("at least the ground");
    let part = |at: usize| u8::from_str_radix(&attribute(bar, "fill")[at..at + 2], 16);
    [1, 3, 5].map(|at| part(at).expect("a colour"))
}

/// The colour of who follows a device that has this one.
fn tint(colour: [u8; 3]) -> [u8; 3] {
    colour.map(|part| 255 - (255 - part) / 3)
}

#[test]
fn the_number_of_devices_and_the_delay_are_the_flags_own() {
    let run = |delay: &str| {
        let output = consort(&[
            "sim", "--nodes", "4", "--delay", delay, "--seed", "3", "--for", "20s", "--json",
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let figures = object(&output, "sim.schema.json");
        assert_eq!(figures["nodes"], 4);
        figures["leader_changes"].as_u64().expect("a number")
    };
    assert_eq!(run("5ms"), 0);
    assert!(
        run("1s") > 0,
        "answers come too late for those who wait for them"
    );
}

#[test]
fn the_words_tell_the_healing_times() {
    let plan = root().join("docs/scenarios/two-halves.toml");
    let output = consort(&["sim", "--seed", "7", "--scenario", &plan.to_string_lossy()]);
    let out = text(&output.stdout);
    let heals = out.lines().find_map(|line| line.strip_prefix("heals "));
    let words = heals.expect("a line on them").trim();
    let numbers = words.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    let [1, half, 99, p99, most] = numbers[..] else {
        panic!("{words}");
    };
    assert!(0 < half && half <= p99 && p99 <= most, "{words}");
    assert!(
        words.contains("half within") && words.contains("most"),
        "{words}"
    );
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
