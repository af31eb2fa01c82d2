//! `consort demo`, as people run it first.

use std::fs;
use std::process::{Command, Stdio};

use consort_e2e::{device, programs};
use serde_json::Value;

#[test]
fn the_demo() {
    let home = tempfile::tempdir().expect("a folder");
    let plugins = tempfile::tempdir().expect("a folder");
    fs::copy(programs::heartbeat(), plugins.path().join("heartbeat.wasm")).expect("copied");
    let mut command = Command::new(programs::consort());
    command
        .args([
            "demo",
            "--nodes",
            "3",
            "--for",
            "10s",
            "--kill-leader",
            "--json",
            "--plugins",
        ])
        .arg(plugins.path());
    device::clean(&mut command, home.path());
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{story}", output.status);

    let text = String::from_utf8(output.stdout).expect("text");
    let last = text.lines().last().expect("a line");
    println!("{last}");
    check_figures(&serde_json::from_str(last).expect("JSON"), &story);
    let left: Vec<_> = fs::read_dir(home.path())
        .expect("readable")
        .flatten()
        .collect();
    assert!(left.is_empty(), "files are left: {left:?}");
    let path = home.path().to_str().expect("text");
    assert_eq!(
        processes_of(path),
        Vec::<String>::new(),
        "processes are left"
    );
}

fn check_figures(figures: &Value, story: &str) {
    let number = |key: &str| {
        figures[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {figures}"))
    };
    assert_eq!(
        (number("v"), number("nodes"), number("duplicates")),
        (1, 3, 0),
        "{story}"
    );
    let (expected, arrived) = (number("deliveries_expected"), number("deliveries"));
    assert!(
        expected >= 9,
        "hardly anything was sent: {figures}\n{story}"
    );
    assert!(
        arrived <= expected && arrived * 10 >= expected * 9,
        "{figures}\n{story}"
    );
    assert!(number("promotions") >= 2, "{figures}\n{story}");
    assert!(
        number("failover_ms") > 0 && number("cold_start_ms") > 0,
        "{figures}"
    );
    assert!(
        figures["leader"].is_string() && number("term") > 0,
        "{figures}"
    );
}

/// Command lines in which `text` occurs.
fn processes_of(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(text)).collect()
}
