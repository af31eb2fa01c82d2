//! `consort plugin`, with a daemon and without one.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use consort_test_guests::{bombs, fixture};
use serde_json::Value;

use super::daemon::{Daemon, free_port};
use super::{Home, assert_ends, assert_matches, stderr, stdout};

/// Puts a fixture into the home's plugins folder.
pub(super) fn install(home: &Home, id: &str, name: &str, manifest: &str) -> PathBuf {
    let folder = home.path("plugins").join(id);
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("plugin.toml"), manifest).expect("written");
    fs::copy(fixture(name), folder.join("plugin.wasm")).expect("copied");
    folder
}

fn inspect(home: &Home, id: &str) -> Value {
    home.json("plugin-inspect", &["plugin", "inspect", id, "--json"])
}

#[track_caller]
pub(super) fn wait_state(home: &Home, id: &str, state: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let list = home.json("plugin-list", &["plugin", "list", "--json"]);
        let plugins = list["plugins"].as_array().expect("a list").clone();
        if plugins.iter().any(|p| p["id"] == id && p["state"] == state) {
            return inspect(home, id);
        }
        assert!(Instant::now() < deadline, "{id} is not {state}: {list}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_plugin_is_inspected_ordered_about_and_read() {
    let home = Home::new();
    let manifest = "version = \"1.2.3\"\n[config]\nvolume = 3\n[limits]\nmemory_mib = 100\n\
        [state]\ninterval_ms = 100\nquota_kib = 2048\npersist = true\n\
        [capabilities]\nlocal = true\n[capabilities.files]\nmusic = \"read-write\"\nother = \"read\"\n";
    install(&home, "app", "recorder", manifest);
    install(&home, "bad", "other_world", "");
    let music = home.path("music");
    fs::create_dir(&music).expect("made");
    let granted = format!(
        "[plugins.app.limits]\nmemory_mib = 80\n[plugins.app.capabilities.files.music]\npath = \"{}\"\n",
        music.display()
    );
    let _daemon = Daemon::start_with(&home, free_port(), &granted);
    let app = wait_state(&home, "app", "running");
    let holds = &app["holds"];
    assert_eq!(holds["version"], "1.2.3");
    assert_eq!(holds["limits"]["memory_mib"], 80);
    assert_eq!(holds["capped"][0]["asked"], 100);
    assert_eq!(holds["config_keys"][0], "volume");
    assert_eq!(holds["replicated_state"]["quota_bytes"], 2 << 20);
    let capabilities = &holds["capabilities"];
    assert_eq!(capabilities["files"][0]["access"], "read");
    let refused: Vec<_> = capabilities["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|refusal| refusal["capability"].as_str().expect("text"))
        .collect();
    assert_eq!(refused, ["files.music", "files.other", "local"]);
    let text = stdout(&home.run(&["plugin", "inspect", "app"]));
    for part in [
        "memory_mib = 80",
        "capped by the operator",
        "Refused",
        "local = true",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let status = stdout(&home.run(&["status"]));
    assert!(status.contains("app does not get local"), "{status}");
    wait_state(&home, "bad", "rejected");
    let bad = inspect(&home, "bad");
    assert!(
        bad["last_fault"]
            .as_str()
            .expect("text")
            .contains("another world")
    );

    assert!(home.run(&["plugin", "reload", "app"]).status.success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while inspect(&home, "app")["generation"] != 2 {
        assert!(Instant::now() < deadline, "no second generation");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(home.run(&["plugin", "disable", "app"]).status.success());
    wait_state(&home, "app", "disabled");
    let again = home.run(&["plugin", "reload", "app"]);
    assert_ends(&again, 1, &["disabled", "consort plugin enable app"]);
    assert!(home.run(&["plugin", "enable", "app"]).status.success());
    wait_state(&home, "app", "running");
    let unknown = home.run(&["plugin", "reload", "nobody"]);
    assert_ends(&unknown, 1, &["no plugin nobody"]);
    assert_ends(&home.run(&["plugin", "reload", "No Id"]), 2, &["plugin id"]);

    let log = stdout(&home.run(&["plugin", "logs", "app", "--json"]));
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    lines
        .iter()
        .for_each(|line| assert_matches("plugin-logs", line));
    let said = |by_host: bool, text: &str| {
        lines.iter().any(|line| {
            line["by_host"] == by_host && line["text"].as_str().expect("text").contains(text)
        })
    };
    assert!(
        said(true, "plugin running") && said(false, "setup [volume=3]"),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'));
}

#[test]
fn what_a_plugin_is_refused_is_counted_wherever_it_is_shown() {
    let home = Home::new();
    let manifest = "[config]\nsetup = \"publish-flood\"\n";
    install(&home, "flood", "hostile", manifest);
    let _daemon = Daemon::start(&home, free_port());
    // It publishes without the capability.
    let inspected = wait_state(&home, "flood", "running");
    assert_eq!(inspected["refused_publishes"], 100_000);
    for (schema, arguments) in [
        ("plugin-list", &["plugin", "list", "--json"][..]),
        ("status", &["status", "--json"]),
    ] {
        let shown = home.json(schema, arguments);
        assert_eq!(shown["plugins"][0]["refused_publishes"], 100_000, "{shown}");
        let text = stdout(&home.run(&arguments[..arguments.len() - 1]));
        let line = "  flood: 100000 messages for local programs refused\n";
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn without_a_daemon_there_is_nothing_to_ask() {
    let home = Home::new();
    for command in ["list", "inspect", "reload", "disable", "enable", "logs"] {
        let args = ["plugin", command, "app"];
        let args = if command == "list" { &args[..2] } else { &args };
        assert_ends(&home.run(args), 6, &["no daemon runs", "consort run"]);
    }
}

#[test]
fn a_file_is_checked_before_it_is_anywhere() {
    let home = Home::new();
    let manifest = "version = \"2.0.0\"\n[limits]\nmemory_mib = 32\n[capabilities]\nlocal = true\n";
    let folder = install(&home, "app", "recorder", manifest);
    let folder = folder.to_str().expect("text");
    let report = home.json("plugin-check", &["plugin", "check", folder, "--json"]);
    assert_eq!(report["version"], "2.0.0");
    assert_eq!(report["manifest"], format!("{folder}/plugin.toml"));
    assert_eq!(report["capabilities"][0], "local");
    let exports = report["exports"].as_array().expect("a list");
    assert!(
        exports
            .iter()
            .any(|name| name == "consort:plugin/role@0.1.0"),
        "{report}"
    );
    assert!(report["memory_bytes"].as_u64() > Some(1 << 16), "{report}");
    assert!(
        report["wasi"].as_array().expect("a list").len() > 1,
        "{report}"
    );
    let text = stdout(&home.run(&["plugin", "check", folder]));
    assert!(
        text.contains("is a plugin.") && text.contains("memory_mib 32"),
        "{text}"
    );

    let other = fixture("other_world");
    let other = home.run(&["plugin", "check", other.to_str().expect("text")]);
    assert_ends(&other, 7, &["another world", "brew"]);
    home.write("text.wasm", "hello");
    assert_ends(
        &home.run(&["plugin", "check", "text.wasm"]),
        7,
        &["no WebAssembly"],
    );
    // A project, as `consort plugin new` makes them: its manifest does not count for a file of
    // another name, and it holds no plugin.wasm.
    let project = home.path("project");
    fs::create_dir(&project).expect("made");
    fs::write(project.join("plugin.toml"), manifest).expect("written");
    fs::copy(fixture("recorder"), project.join("project.wasm")).expect("copied");
    let text = stdout(&home.run(&["plugin", "check", "project/project.wasm"]));
    assert!(
        text.contains("Manifest      none: the defaults hold"),
        "{text}"
    );
    for arguments in [&["plugin", "check", "project"][..], &["sim", "project"]] {
        let words = ["project holds no plugin.wasm", "name the .wasm file"];
        assert_ends(&home.run(arguments), 1, &words);
    }
    fs::write(home.path("bomb.wasm"), bombs::endless_start()).expect("written");
    let bomb = home.run(&["plugin", "check", "bomb.wasm"]);
    assert_ends(&bomb, 7, &["bomb.wasm", "ms of CPU"]);
    assert_ends(
        &home.run(&["plugin", "check", "gone.wasm"]),
        1,
        &["gone.wasm"],
    );
    let bad = install(&home, "bad", "recorder", "[limits]\nmemory_mib = 0\n");
    let bad = home.run(&["plugin", "check", bad.to_str().expect("text")]);
    assert_ends(&bad, 7, &["plugin.toml:2: limits.memory_mib", "1 to 1024"]);
    assert!(!stderr(&bad).contains('\u{1b}'));
}

/// Reads lines until each of `devices` has said something that holds `text`.
fn wait_all(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    devices: &[&str],
    text: &str,
) -> Vec<String> {
    let mut seen = Vec::new();
    let mut missing = devices.to_vec();
    while !missing.is_empty() {
        let line = lines.next();
        let line = line.unwrap_or_else(|| panic!("no {text:?} of {missing:?} in {seen:#?}"));
        let line = line.expect("text");
        if line.contains(text) {
            missing.retain(|device| !line.contains(device));
        }
        seen.push(line);
    }
    seen
}

#[test]
fn a_group_of_devices_follows_its_author() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let home = Home::new();
    let folder = install(&home, "app", "recorder", "[config]\nvolume = 1\n");
    let mut command = home.command(&["dev", "plugins", "--nodes", "3", "--for", "3m"]);
    let mut child = command
        .env("TMPDIR", home.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let devices = ["device-1", "device-2", "device-3"];
    wait_all(&mut lines, &devices, "setup [volume=1]");
    wait_all(&mut lines, &devices, "of 3");
    fs::write(folder.join("plugin.toml"), "[config]\nvolume = 2\n").expect("written");
    let seen = wait_all(&mut lines, &devices, "plugin reloaded");
    assert!(
        seen.iter().any(|line| line.contains("setup [volume=2]")),
        "{seen:#?}"
    );
    fs::write(folder.join("plugin.toml"), "[limits]\nmemory = 2\n").expect("written");
    let seen = wait_all(&mut lines, &devices, "unknown key");
    assert!(
        seen.iter()
            .any(|line| line.contains("plugin.toml:2: limits.memory")),
        "{seen:#?}"
    );
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("told");
    while lines.next().is_some() {}
    assert!(child.wait().expect("ends").success());
    let left: Vec<_> = fs::read_dir(home.path(""))
        .expect("readable")
        .filter_map(|entry| entry.expect("readable").file_name().into_string().ok())
        .filter(|name| name.starts_with("consort-demo"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let inside = home.run(&["dev", "plugins/app"]);
    assert_ends(
        &inside,
        1,
        &["is a plugin; give the folder that it lies in"],
    );
}
