//! Plans: their text, their errors, and what running them shows.

use std::time::Duration;

use consort_scenarios::{ms, secs};
use consort_sim::plan::{Action, Mode, Step, Who};
use consort_sim::{Plan, PlanError, RunOptions, Seed, run_plan};

/// One of everything.
const EVERYTHING: &str = r#"
v = 1
name = "one of everything"
nodes = 6
seed = "0x2a"
for = "120s"
mode = "liveness"
calm = "70s"
spread = "300ms"
crypto = "toy"

[link]
delay = "1ms"
jitter = "2ms"
loss = 0.02
duplicate = 0.01
reorder = 0.01
corrupt = 0.001

[send_rate]
bytes_per_second = 200000
peer_bytes_per_second = 100000
burst = 16384

[[device]]
index = 1
name = "kitchen"
wall_offset = "-2h"
drift_ppm = 40
priority = 7

[[device]]
index = 2
seeds = [0]
starts = "3s"

[[device]]
index = 5
protocol = 2
plugin = [{ id = "app", version = "0.2.0" }]

[[plugin]]
id = "app"
state = { interval = "200ms", persist = true, keep_absent = "1h" }

[[plugin]]
id = "lamp"
version = "1.4.2"
priority = 3

[[beat]]
every = "500ms"

[[beat]]
plugin = "lamp"
every = "1s"
len = 300

[[writes]]
every = "200ms"
keys = 4
large = 10

[[writes]]
plugin = "lamp"
every = "1s"
kinds = ["leader", "counter"]

[[step]]
at = "10s"
crash = "leader"

[[step]]
at = "11s"
restart = { node = [2, 3], down = "1500ms" }

[[step]]
at = "14s"
partition = [[0, 1], [2, 3]]

[[step]]
at = "18s"
heal = true

[[step]]
at = "19s"
cut = { from = 0, to = 1, both = false }

[[step]]
at = "20s"
mend = { from = 0, to = 1 }

[[step]]
at = "21s"
link = { from = 3, loss = 0.3, burst = { gap = "2s", length = "100ms", loss = 0.9 } }

[[step]]
at = "22s"
link = { bandwidth = 20000 }

[[step]]
at = "23s"
flap = { node = 4, down = "300ms", up = "700ms", for = "5s" }

[[step]]
at = "23s"
flap = { node = 0, to = [1, 2], down = "300ms", up = "700ms", for = "5s" }

[[step]]
at = "24s"
disk_full = "all"

[[step]]
at = "25s"
disk_free = "all"

[[step]]
at = "26s"
crash_at_write = { node = 2, torn = true, down = "2s" }

[[step]]
at = "27s"
clock_jump = { node = 1, by = "-30m" }

[[step]]
at = "28s"
clock_drift = { node = "followers", ppm = -900 }

[[step]]
at = "29s"
stranger = { count = 2 }

[[step]]
at = "30s"
flood = { kind = "handshake", to = 0, rate = 500, for = "2s" }

[[step]]
at = "33s"
flood = { kind = "garbage", to = "all", rate = 200, for = "2s" }

[[step]]
at = "36s"
replay = { to = "all", last = "3s", forged = true }

[[step]]
at = "40s"
pause = 0

[[step]]
at = "41s"
suspend = 1

[[step]]
at = "44s"
resume = "all"

[[step]]
at = "46s"
plugin_fault = { node = "leader", back = "100ms" }

[[step]]
at = "48s"
plugin_down = { node = 3, plugin = "lamp" }

[[step]]
at = "50s"
plugin_up = { node = 3, plugin = "lamp", priority = 9 }

[[step]]
at = "51s"
send = { from = 1, to = 2, len = 100 }

[[step]]
at = "52s"
stop = 4

[[step]]
at = "54s"
start = 4

[[step]]
at = "56s"
readdress = 3

[[step]]
at = "58s"
lose_state = { node = 2, damaged = true, down = "1s" }

[[expect]]
at = "70s"
within = "30s"
one_leader = [0, 1, 2, 3, 4]

[[expect]]
at = "100s"
for = "15s"
no_change = "all"
"#;

#[test]
fn a_plan_survives_its_text() {
    let plan = Plan::from_toml(EVERYTHING).expect("it is a plan");
    assert_eq!(plan.seed, Some(Seed(42)));
    assert_eq!(plan.mode, Mode::Liveness);
    assert_eq!(plan.steps.len(), 30);
    assert_eq!(plan.writes.len(), 2);
    let crash = Step {
        at: secs(10),
        action: Action::Crash(Who::Leader),
    };
    assert_eq!(plan.steps[0], crash);
    let text = plan.to_toml();
    assert_eq!(Plan::from_toml(&text).as_ref(), Ok(&plan), "{text}");
    let small = Plan::new(3, secs(5));
    assert_eq!(Plan::from_toml(&small.to_toml()), Ok(small));
}

#[test]
fn one_of_everything_ends_in_one_group() {
    let plan = Plan::from_toml(EVERYTHING).expect("it is a plan");
    for seed in 0..3 {
        let first = run_plan(&plan, Seed(seed), RunOptions::default());
        let report = first.notable.join("\n");
        assert_eq!(first.violations, [], "{report}\n{}", first.state);
        assert_eq!(first.summary.simulated, plan.duration);
        assert!(first.summary.leader_changes > 0, "{:?}", first.summary);
        assert!(first.summary.delivered > 100, "{:?}", first.summary);
        assert!(first.summary.writes > 100, "{:?}", first.summary);
        let second = run_plan(&plan, Seed(seed), RunOptions::default());
        assert_eq!(first.trace_hash, second.trace_hash);
        assert_eq!(first.summary, second.summary);
        assert_eq!(first.timeline, second.timeline);
    }
}

#[test]
fn mistakes_name_the_key_the_value_and_what_is_allowed() {
    let base = "v = 1\nnodes = 3\nfor = \"60s\"\n";
    let cases = [
        ("lopp = 1", "unknown field `lopp`"),
        ("[link]\nloss = 1.5", "link.loss = 1.5: a chance"),
        (
            "[[step]]\nat = \"1s\"\ncrahs = 1",
            "unknown variant `crahs`, expected one of `start`, `crash`",
        ),
        (
            "[[step]]\nat = \"1s\"\ncrash = 3",
            "step[0].crash = 3: there are 3 devices, from 0 to 2",
        ),
        (
            "[[step]]\nat = \"61s\"\ncrash = 1",
            "step[0].at = 61s: the run is over after 1m",
        ),
        ("[[step]]\nat = \"1s\"", "a step without an action"),
        ("[[step]]\ncrash = 1", "missing field `at`"),
        (
            "[[step]]\nat = \"1s\"\ncrash = 1\nstart = 1",
            "this one has `crash` and `start`",
        ),
        (
            "[[step]]\nat = \"soon\"\ncrash = 1",
            "\"soon\" is no duration",
        ),
        (
            "[[step]]\nat = \"1s\"\ncrash = \"chief\"",
            "\"chief\" names no device",
        ),
        ("[[step]]\nat = \"1s\"\nheal = false", "only true"),
        (
            "[[beat]]\nevery = \"1s\"\nplugin = \"lamp\"",
            "beat[0].plugin = lamp: one of app",
        ),
        ("[[expect]]\nat = \"1s\"", "exactly one of one_leader"),
        (
            "[[plugin]]\nid = \"app\"\nversion = \"one\"",
            "plugin[0].version = one",
        ),
        ("calm = \"10s\"", "calm = 10s: only with mode"),
    ];
    for (text, expected) in cases {
        let error = Plan::from_toml(&format!("{base}{text}\n")).expect_err(text);
        let words = error.to_string();
        assert!(
            words.contains(expected),
            "{text}:\n{words}\nlacks {expected:?}"
        );
    }
    let error = Plan::from_toml("v = 2\nnodes = 3\nfor = \"1s\"\n");
    assert!(matches!(error, Err(PlanError::Value { key, .. }) if key == "v"));
}

#[test]
fn an_expectation_that_is_not_met_is_a_violation() {
    let text = "v = 1\nnodes = 3\nfor = \"20s\"\n[[expect]]\nat = \"10s\"\nleads = [0, 1]\n";
    let plan = Plan::from_toml(text).expect("it is a plan");
    let outcome = run_plan(&plan, Seed(1), RunOptions::default());
    let [violation] = &outcome.violations[..] else {
        panic!("{:?}", outcome.violations);
    };
    assert!(violation.what.contains("expect[0]"), "{violation:?}");
    assert_eq!(violation.at.as_micros(), 10_000_000);
    assert_eq!(outcome.summary.violations, 1);
}

#[test]
fn a_crash_of_the_leader_shows_in_the_timeline_and_the_summary() {
    let text = "v = 1\nnodes = 4\nfor = \"40s\"\n[[step]]\nat = \"15s\"\ncrash = \"leader\"\n\
        [[expect]]\nat = \"15s\"\nwithin = \"2s\"\none_leader = \"all\"\n";
    let plan = Plan::from_toml(text).expect("it is a plan");
    let outcome = run_plan(&plan, Seed(5), RunOptions::default());
    assert_eq!(outcome.violations, [], "{}", outcome.notable.join("\n"));
    assert_eq!(outcome.summary.leader_changes, 1);
    let leaderless = outcome.summary.leaderless;
    assert!((ms(600)..ms(2500)).contains(&leaderless), "{leaderless:?}");
    let lanes = &outcome.timeline.lanes;
    assert_eq!(lanes.len(), 4);
    let died: Vec<Duration> = lanes
        .iter()
        .filter_map(|lane| lane.states.last())
        .map(|state| state.to.since(consort_proto::Time::ZERO))
        .filter(|end| *end < secs(40))
        .collect();
    assert_eq!(died, [secs(15)]);
}
