//! Programs on a device talk to its plugins: through the sockets, as any language would, and by the
//! command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use consort_e2e::{Device, Group, programs, wait};
use serde_json::{Value, json};

const ASKS: &str = "[capabilities]\nlocal = true\n[limits]\npayload_burst_kib = 65536\n\
                    payload_kib_per_second = 65536\nmessages_per_second = 10000\n\
                    message_burst = 10000\ncpu_ms = 2000\n";
const GRANTS: &str =
    "[plugins.app.capabilities]\nlocal = true\n[plugins.mute.capabilities]\nlocal = true\n";

#[test]
fn programs_subscribe_and_ask() {
    let group = one_device();
    let device = &group.devices[0];
    let path = socket(device, "app").expect("it is granted");
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut program = Program::connect(&path);
    let confirmed = program.ask(&json!({"op": "subscribe", "topic": "volume", "id": 1}));
    assert_eq!(
        confirmed,
        json!({"event": "subscribed", "topic": "volume", "id": 1})
    );
    let (code, out, _) = request(device, &["app", "act", "retain volume 40"]);
    assert_eq!((code, out.as_str()), (0, "done\n"));
    let told = json!({"event": "message", "topic": "volume", "text": "40", "retained": false});
    assert_eq!(program.hear(), Some(told));

    // Whoever comes later gets what is retained.
    let late = device.run(&["local", "subscribe", "app", "volume", "--count", "1"]);
    assert!(late.status.success(), "{late:?}");
    assert_eq!(String::from_utf8_lossy(&late.stdout), "40\n");
    let all = device.run(&["local", "subscribe", "app", "--count", "1"]);
    assert_eq!(String::from_utf8_lossy(&all.stdout), "volume: 40\n");

    let (code, out, _) = request(device, &["app", "echo", "käse"]);
    assert_eq!((code, out.as_str()), (0, "käse\n"));
    let (code, _, said) = request(device, &["app", "refuse"]);
    assert_eq!(code, 7, "{said}");
    assert!(
        said.contains("\\nis off") && !said.contains('\u{1b}'),
        "{said}"
    );
    let (code, _, said) = request(device, &["mute", "echo"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("not-offered") && said.contains("local-events"),
        "{said}"
    );
    let (code, _, said) = request(device, &["nobody", "echo"]);
    assert_eq!(code, 1);
    assert!(said.contains("no plugin nobody"), "{said}");

    // A line that is too long costs that line.
    let long = program.ask(&json!({"op": "request", "topic": "echo", "text": "x".repeat(200_000)}));
    assert_eq!(long["code"], "line-too-long");
    let large = program.ask(&json!({"op": "request", "topic": "echo", "text": "x".repeat(70_000)}));
    assert_eq!(large["code"], "invalid");
    let answer = program.ask(&json!({"op": "request", "topic": "echo", "text": "on"}));
    assert_eq!(answer["text"], "on");
}

#[test]
fn a_plugin_that_is_lost_in_a_request_is_asked_again() {
    let group = one_device();
    let device = &group.devices[0];
    let path = socket(device, "app").expect("it is granted");
    let mut program = Program::connect(&path);
    program.ask(&json!({"op": "subscribe"}));
    request(device, &["app", "act", "retain volume 40"]);
    assert_eq!(program.hear().expect("told")["text"], "40");
    let lost = program.ask(&json!({"op": "request", "topic": "trap", "id": "a"}));
    assert_eq!(
        (&lost["code"], &lost["id"]),
        (&json!("faulted"), &json!("a"))
    );
    assert!(
        lost["error"]
            .as_str()
            .expect("text")
            .contains("on-local-request"),
        "{lost}"
    );
    // The same connection goes on, and what is retained outlives the instance.
    wait::until("the plugin answers again", || {
        let answer = program.ask(&json!({"op": "request", "topic": "echo", "text": "again"}));
        (answer["text"] == "again").then_some(())
    });
    let mut later = Program::connect(&path);
    later.ask(&json!({"op": "subscribe", "topic": "volume"}));
    assert_eq!(later.hear().expect("retained")["retained"], true);

    // It goes with its file, and says so.
    std::fs::remove_dir_all(device.plugin_file("app")).expect("removed");
    assert_eq!(program.hear().expect("told")["code"], "closed");
    assert_eq!(program.hear(), None);
    assert!(!path.exists());
}

#[test]
fn what_is_not_granted_is_shown_and_costs_nothing_else() {
    let group = one_device();
    let device = &group.devices[0];
    assert_eq!(socket(device, "refused"), None);
    let inspected = device.run(&["plugin", "inspect", "refused"]);
    let text = String::from_utf8_lossy(&inspected.stdout);
    assert!(text.contains("Refused       local: not granted"), "{text}");
    assert!(text.contains("local = true"), "{text}");
    let (code, _, said) = request(device, &["refused", "echo"]);
    assert_eq!(code, 1);
    assert!(said.contains("not granted: `local = true`"), "{said}");
    device.wait_plugin("refused", 1, "running");
    let inspected = device.run(&["plugin", "inspect", "app"]);
    let text = String::from_utf8_lossy(&inspected.stdout);
    assert!(text.contains("Granted       local: /"), "{text}");
}

#[test]
fn a_program_that_does_not_read_is_sent_away_and_others_do_not_notice() {
    let group = one_device();
    let device = &group.devices[0];
    let path = socket(device, "app").expect("it is granted");
    let mut slow = Program::connect(&path);
    slow.ask(&json!({"op": "subscribe", "topic": "many"}));
    // 200 messages of 60 KB are three times what may wait.
    let (code, out, said) = request(device, &["app", "act", "publish-many 200 60000"]);
    assert_eq!((code, out.as_str()), (0, "done\n"), "{said}");
    device.log().wait(0, "the daemon says so", |line| {
        line.warns_of(&["does not read what it subscribed to"])
    });
    let (code, out, _) = request(device, &["app", "echo", "still here"]);
    assert_eq!((code, out.as_str()), (0, "still here\n"));
    let mut last = Value::Null;
    while let Some(said) = slow.hear() {
        last = said;
    }
    assert_eq!(last["code"], "too-slow");
}

#[test]
fn without_a_daemon_the_exit_code_says_so() {
    let mut group = Group::empty();
    let device = group.add("device", None, "");
    let (code, _, said) = request(device, &["app", "echo"]);
    assert_eq!(code, 6, "{said}");
}

/// A device with a plugin that is granted the capability, one that asks in vain, and one that takes
/// no requests.
fn one_device() -> Group {
    let mut group = Group::empty();
    group.add("device", None, GRANTS);
    let device = &mut group.devices[0];
    device.install_with(&programs::guest("recorder"), "app", ASKS);
    device.install_with(&programs::guest("recorder"), "refused", ASKS);
    device.install_with(&programs::guest("minimal"), "mute", ASKS);
    device.start();
    for id in ["app", "refused", "mute"] {
        device.wait_plugin(id, 1, "running");
    }
    group
}

/// The socket of a plugin, as `consort plugin inspect` tells.
fn socket(device: &Device, id: &str) -> Option<PathBuf> {
    let inspected = device.run(&["plugin", "inspect", id, "--json"]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    let held = &inspected["holds"]["capabilities"];
    let socket = held["local_socket"].as_str().map(PathBuf::from);
    assert_eq!(held["local"], socket.is_some());
    socket
}

/// `consort local request`: its exit code and what it says.
fn request(device: &Device, arguments: &[&str]) -> (i32, String, String) {
    let output = device.run(&[&["local", "request"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ended by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

/// A local program.
struct Program(BufReader<UnixStream>);

impl Program {
    fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).expect("connects");
        let timeout = Some(Duration::from_secs(45));
        stream.set_read_timeout(timeout).expect("set");
        Self(BufReader::new(stream))
    }

    /// The next line; none at the end.
    #[track_caller]
    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
            Err(error) => panic!("nothing heard: {error}"),
        }
    }

    #[track_caller]
    fn ask(&mut self, line: &Value) -> Value {
        let line = format!("{line}\n");
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .expect("written");
        self.hear().expect("an answer")
    }
}
