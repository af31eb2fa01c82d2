//! The program `consort` as people and scripts see it: what it prints, what it leaves on disk, and
//! how it ends. Output of every `--json` form is held against its schema in docs/schemas.

mod access;
mod daemon;
mod follow;
mod plugins;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use daemon::{Daemon, free_port};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A home of its own, so that nothing of the machine's settings plays a part.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.path(".local/share/consort")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consort"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .env("XDG_DATA_HOME", self.path(".local/share"))
            .env("XDG_CONFIG_HOME", self.path(".config"))
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("runs")
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        child.wait_with_output().expect("ends")
    }

    /// Runs a command that must succeed and holds its only line against the schema.
    fn json(&self, schema: &str, args: &[&str]) -> Value {
        checked(schema, &self.run(args))
    }
}

fn checked(schema: &str, output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_matches(schema, &value);
    value
}

fn assert_matches(schema: &str, value: &Value) {
    let path = format!(
        "{}/../../docs/schemas/{schema}.schema.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(&path).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{error}"))
        .collect();
    assert!(errors.is_empty(), "{path}: {errors:?}\n{value}");
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, said: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in said {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o7777
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    let home = Home::new();
    for args in [
        &[] as &[&str],
        &["dance"],
        &["run", "--prot", "1"],
        &["group"],
    ] {
        assert_eq!(home.run(args).status.code(), Some(2), "{args:?}");
    }
    assert_ends(&home.run(&["demo", "--for", "soon"]), 2, &["30s or 1m30s"]);
    assert_ends(&home.run(&["demo", "--nodes", "0"]), 2, &["1..=50"]);
    let alone = home.run(&["demo", "--nodes", "1", "--kill-leader"]);
    assert_ends(&alone, 2, &["--nodes 2 or more"]);
    let help = home.run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(
        stdout(&help).contains("Exit codes: 0 fine"),
        "{}",
        stdout(&help)
    );
}

#[test]
fn the_version_is_told() {
    let home = Home::new();
    let version = home.json("version", &["version", "--json"]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(stdout(&home.run(&["version"])).starts_with("consort "));
    assert!(stdout(&home.run(&["--version"])).starts_with("consort "));
}

#[test]
fn a_mistake_in_the_configuration_ends_with_3_and_is_placed() {
    let home = Home::new();
    let unknown = home.write("a.toml", "name = \"a\"\n\n[network]\nprot = 4747\n");
    let unknown = unknown.to_str().expect("text");
    for command in ["run", "config show", "group show", "status"] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.extend(["--config", unknown]);
        let output = home.run(&args);
        let said = [
            &format!("{unknown}:4: network.prot: "),
            "allowed here: `listen`, `port`",
        ];
        assert_ends(&output, 3, &said);
    }
    home.write("b.toml", "[network]\nport = 123456\n");
    let bounds = home.run(&["run", "--config", "b.toml"]);
    assert_ends(
        &bounds,
        3,
        &["b.toml:2: network.port: ", "`123456`", "to 65535"],
    );
    let missing = home.run(&["run", "--config", "none.toml"]);
    assert_ends(
        &missing,
        3,
        &["cannot read the configuration file", "none.toml"],
    );
    let flag = home.run(&["config", "show", "--port", "70000"]);
    assert_ends(&flag, 3, &["--port: network.port: ", "to 65535"]);
    let variable = home
        .command(&["run"])
        .env("CONSORT_NETWORK_MULTICAST", "on")
        .output();
    assert_ends(
        &variable.expect("runs"),
        3,
        &["$CONSORT_NETWORK_MULTICAST", "true or false"],
    );
}

#[test]
fn config_show_tells_each_value_with_its_origin() {
    let home = Home::new();
    let text = "[network]\nport = 5000\n[plugins.app.config]\napi_token = \"hush\"\nstep = 5\n";
    home.write("a.toml", text);
    let args = ["config", "show", "--config", "a.toml", "--name", "me"];
    let mut command = home.command(&args);
    command
        .env("CONSORT_NETWORK_SEEDS", "a:1,b:2")
        .env("CONSORT_SEEDS", "c:3")
        .arg("--json");
    let output = command.output().expect("runs");
    let shown = checked("config-show", &output);
    let value = |key: &str| {
        let values = shown["values"].as_array().expect("a list");
        let found = values.iter().find(|value| value["key"] == key).expect(key);
        (
            found["value"].clone(),
            found["origin"].as_str().expect("text").to_owned(),
        )
    };
    assert_eq!(value("name"), (json!("me"), "flag".to_owned()));
    assert_eq!(value("network.port"), (json!(5000), "file".to_owned()));
    assert_eq!(
        value("network.seeds"),
        (json!(["a:1", "b:2"]), "environment".to_owned())
    );
    assert_eq!(
        value("network.discovery_port"),
        (json!(4748), "default".to_owned())
    );
    assert_eq!(
        value("plugins.app.config.step"),
        (json!(5), "file".to_owned())
    );
    assert_eq!(
        value("plugins.app.config.api_token"),
        (Value::Null, "file".to_owned())
    );
    assert_eq!(shown["unknown_variables"], json!(["CONSORT_SEEDS"]));
    assert!(!stdout(&output).contains("hush"));

    let text = stdout(&home.run(&args));
    let port = text
        .lines()
        .find(|line| line.starts_with("network.port"))
        .expect("a line");
    assert!(
        port.starts_with("network.port = 5000 ") && port.ends_with("a.toml:2"),
        "{port}"
    );
    assert!(
        text.contains("(hidden)") && !text.contains("hush"),
        "{text}"
    );
}

#[test]
fn the_usual_file_is_found_and_the_template_is_a_valid_one() {
    let home = Home::new();
    let template = stdout(&home.run(&["config", "template"]));
    fs::create_dir_all(home.path(".config/consort")).expect("made");
    let path = home.write(".config/consort/consort.toml", &template);
    let shown = home.json("config-show", &["config", "show", "--json"]);
    assert_eq!(shown["file"], path.to_str().expect("text"));
    home.write("named.toml", "name = \"named\"\n");
    let mut command = home.command(&["config", "show", "--json"]);
    let shown = command
        .env("CONSORT_CONFIG", "named.toml")
        .output()
        .expect("runs");
    assert_eq!(
        checked("config-show", &shown)["file"],
        home.path("named.toml").to_str().expect("text")
    );
}

#[test]
fn a_group_goes_from_one_device_to_another() {
    let (first, second) = (Home::new(), Home::new());
    let none = first.json("group", &["group", "show", "--json"]);
    assert_eq!(none["group_id"], Value::Null);
    assert_ends(
        &first.run(&["group", "export"]),
        1,
        &["`consort group new`"],
    );

    let made = first.json("group", &["group", "new", "--json"]);
    let file = first.data_dir().join("group.secret");
    assert_eq!(made["file"], file.to_str().expect("text"));
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&first.data_dir()), 0o700);

    let exported = stdout(&first.run(&["group", "export"]));
    assert!(exported.starts_with("consort1-"), "a secret");
    let as_json = first.json("group", &["group", "export", "--json"]);
    assert_eq!(as_json["secret"], exported.trim());
    for args in [&["group", "show"] as &[&str], &["group", "show", "--json"]] {
        assert!(
            !stdout(&first.run(args)).contains(&exported.trim()[9..14]),
            "no secret"
        );
    }

    let joined = checked(
        "group",
        &second.run_with_input(&["group", "join", "--json"], &exported),
    );
    assert_eq!(joined["group_id"], made["group_id"]);
    assert_eq!(joined["fingerprint"], made["fingerprint"]);
    let stored = second.data_dir().join("group.secret");
    assert_eq!(mode(&stored), 0o600);
    assert_eq!(
        fs::read(&stored).expect("read"),
        fs::read(&file).expect("read")
    );
    assert_eq!(first.json("group", &["group", "show", "--json"]), made);
}

#[test]
fn a_group_is_left_only_when_told_so() {
    let home = Home::new();
    let first = home.json("group", &["group", "new", "--json"]);
    let text = stdout(&home.run(&["group", "export"]));
    assert_ends(
        &home.run(&["group", "new"]),
        1,
        &["belongs to a group already", "--replace"],
    );
    let joined = home.run_with_input(&["group", "join"], &text);
    assert_ends(&joined, 1, &["belongs to a group already", "--replace"]);
    assert_eq!(home.json("group", &["group", "show", "--json"]), first);
    let second = home.json("group", &["group", "new", "--replace", "--json"]);
    assert_ne!(second["group_id"], first["group_id"]);
    let back = home.run_with_input(&["group", "join", "--replace", "--json"], &text);
    assert_eq!(checked("group", &back), first);
}

#[test]
fn what_is_no_secret_is_refused_with_the_reason_alone() {
    let (member, home) = (Home::new(), Home::new());
    member.run(&["group", "new"]);
    let text = stdout(&member.run(&["group", "export"]));
    let text = text.trim();
    let swapped = {
        let mut bytes = text.as_bytes().to_vec();
        let at = (10..90)
            .find(|at| bytes[*at] != bytes[at + 1] && bytes[*at] != b'-' && bytes[at + 1] != b'-');
        let at = at.expect("two different characters");
        bytes.swap(at, at + 1);
        String::from_utf8(bytes).expect("text")
    };
    let cases = [
        ("", "no group secret was given"),
        ("correct horse battery staple", "a passphrase cannot be one"),
        (&text[..60], "80 characters"),
        (&swapped, "check digits"),
        (&"x".repeat(10_000), "far longer"),
    ];
    for (input, said) in cases {
        let output = home.run_with_input(&["group", "join"], input);
        assert_ends(&output, 1, &[said]);
        if input.len() > 40 {
            assert!(
                !stderr(&output).contains(&input[20..40]),
                "the secret is repeated"
            );
        }
        assert!(
            !home.data_dir().join("group.secret").exists(),
            "nothing is stored"
        );
    }
    let as_argument = home.run(&["group", "join", text]);
    assert_eq!(
        as_argument.status.code(),
        Some(2),
        "a secret is no argument"
    );
}

#[test]
fn a_secret_that_others_may_read_is_refused_with_3() {
    let home = Home::new();
    home.run(&["group", "new"]);
    let file = home.data_dir().join("group.secret");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    for args in [
        &["group", "show"] as &[&str],
        &["group", "export"],
        &["run"],
    ] {
        assert_ends(
            &home.run(args),
            3,
            &["group.secret", "mode 0644", "chmod 600"],
        );
    }
}

#[test]
fn without_a_daemon_status_ends_with_6() {
    let home = Home::new();
    for args in [&["status"] as &[&str], &["status", "--json"]] {
        let output = home.run(args);
        assert_ends(&output, 6, &["error: "]);
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_running_daemon_shows_its_status_and_stops_in_order() {
    let home = Home::new();
    home.run(&["group", "new"]);
    let daemon = Daemon::start(&home, free_port());
    let status = home.json("status", &["status", "--json"]);
    assert_eq!(status["group"]["has_secret"], true);
    assert_eq!(status["device"]["pid"], daemon.0.id());
    assert_eq!(mode(&home.data_dir().join("device.key")), 0o600);

    let pid = i32::try_from(daemon.0.id()).expect("a process id");
    let (ended, took) = daemon.end(|_| kill(Pid::from_raw(pid), Signal::SIGTERM).expect("told"));
    assert_eq!(ended.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(home.run(&["status"]).status.code(), Some(6));

    let again = Daemon::start(&home, free_port());
    let second = home.json("status", &["status", "--json"]);
    assert_eq!(
        second["device"]["id"], status["device"]["id"],
        "the key stays"
    );
    let (ended, _) = again.end(|child| drop(child.stdin.take()));
    assert_eq!(
        ended.code(),
        Some(0),
        "without its parent it stops in order too"
    );
}

#[test]
fn the_secret_is_rotated_in_three_steps_by_a_running_daemon() {
    let home = Home::new();
    let before = home.json("group", &["group", "new", "--json"]);
    assert_eq!(before["secrets"][0]["state"], "active");
    assert_ends(&home.run(&["group", "rotate"]), 2, &["--compromised"]);
    let nobody = home.run(&["group", "rotate", "install"]);
    assert_ends(&nobody, 6, &["no daemon runs", "`consort run`"]);

    let daemon = Daemon::start(&home, free_port());
    let early = home.run(&["group", "rotate", "use"]);
    assert_ends(&early, 1, &["begin with `install`"]);
    let rotate = |step| home.json("rotate", &["group", "rotate", step, "--json"]);
    assert_eq!(rotate("install")["epoch"], 1);
    let twice = home.run(&["group", "rotate", "install"]);
    assert_ends(&twice, 1, &["epoch 2 is installed", "--force"]);
    let status = home.json("status", &["status", "--json"]);
    assert_eq!(status["group"]["secrets"][1]["state"], "staged");
    let shown = stdout(&home.run(&["status"]));
    assert!(shown.contains("a rotation is under way"), "{shown}");
    let text = stdout(&home.run(&["group", "rotate", "use"]));
    assert!(text.contains("epoch 2 is active"), "{text}");
    assert!(text.contains("consort group rotate remove"), "{text}");
    let shown = stdout(&home.run(&["group", "show"]));
    assert!(shown.contains("retiring"), "{shown}");
    assert_eq!(rotate("remove")["epoch"], 2);
    let stolen = home.run(&["group", "rotate", "--compromised"]);
    assert_ends(&stolen, 1, &["no list of allowed devices"]);
    drop(daemon);

    let after = home.json("group", &["group", "show", "--json"]);
    assert_eq!(after["group_id"], before["group_id"]);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    assert_eq!(after["secrets"].as_array().map(Vec::len), Some(1));
    assert_eq!(after["secrets"][0]["epoch"], 2);
    assert_eq!(mode(&home.data_dir().join("group.secret")), 0o600);
    let again = Daemon::start(&home, free_port());
    let status = home.json("status", &["status", "--json"]);
    assert_eq!(status["group"]["secrets"], after["secrets"]);
    drop(again);
}

#[test]
fn what_is_taken_already_has_codes_of_its_own() {
    let (first, second) = (Home::new(), Home::new());
    for home in [&first, &second] {
        home.run(&["group", "new"]);
    }
    let port = free_port();
    let _daemon = Daemon::start(&first, port);
    let locked = first.run(&["run", "--config", "run.toml"]);
    assert_ends(
        &locked,
        5,
        &["data folder", first.data_dir().to_str().expect("text")],
    );
    let port = port.to_string();
    let taken = second.run(&["run", "--listen", "127.0.0.1", "--port", &port]);
    assert_ends(&taken, 4, &[&format!("127.0.0.1:{port} is in use")]);
}

#[test]
fn without_plugins_the_demo_says_where_it_looked() {
    let home = Home::new();
    assert_ends(
        &home.run(&["demo"]),
        1,
        &["heartbeat.wasm", "target/plugins", "--plugins"],
    );
    fs::create_dir(home.path("empty")).expect("made");
    let given = home.run(&["demo", "--json", "--plugins", "empty"]);
    assert_ends(&given, 1, &["no heartbeat.wasm in empty;"]);
    assert_eq!(stdout(&given), "");
}

#[test]
fn the_demo_schema_fits_its_figures() {
    let figures = json!({
        "v": 1, "nodes": 5, "leader": "a".repeat(34), "term": 2, "promotions": 2,
        "broadcasts": 25, "deliveries_expected": 110, "deliveries": 110, "duplicates": 0,
        "failover_ms": 850, "cold_start_ms": 2300,
    });
    assert_matches("demo", &figures);
    let mut nothing = figures;
    for key in ["leader", "term", "failover_ms", "cold_start_ms"] {
        nothing[key] = Value::Null;
    }
    assert_matches("demo", &nothing);
}

#[test]
fn the_reference_names_every_setting() {
    let home = Home::new();
    let path = format!("{}/../../docs/config.md", env!("CARGO_MANIFEST_DIR"));
    let reference = fs::read_to_string(path).expect("the reference");
    let shown = home.json("config-show", &["config", "show", "--json"]);
    for value in shown["values"].as_array().expect("a list") {
        let key = value["key"].as_str().expect("text");
        let variable = format!("CONSORT_{}", key.to_uppercase().replace('.', "_"));
        let row = format!("| `{key}` | `{variable}` |");
        assert!(reference.contains(&row), "docs/config.md lacks {row}");
    }
}
