//! What people read of plugins while they run: `consort plugin logs -f`, text without control
//! characters, and cores of those that trap.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use consort_test_guests::fixture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::{Daemon, free_port};
use super::plugins::{install, wait_state};
use super::{Home, assert_ends, stdout};

const PATIENCE: Duration = Duration::from_secs(60);

/// A command that goes on, and the lines it prints.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that holds `text`; gives it and those before it.
    #[track_caller]
    fn wait(&self, text: &str) -> Vec<String> {
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(rest);
            seen.push(line.unwrap_or_else(|_| panic!("no {text:?} in {seen:#?}")));
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    /// Ctrl-C, or where these tests run in a shell's background, which has that ignored, the signal
    /// that ends a service.
    fn interrupt(&mut self) -> Signal {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a number"));
        let signal = if is_interrupt_ignored() {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        kill(pid, signal).expect("told");
        signal
    }
}

/// What this process ignores, its children do.
fn is_interrupt_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("there");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.expect("a mask") >> (Signal::SIGINT as i32 - 1) & 1 == 1
}

impl Drop for Following {
    fn drop(&mut self) {
        // It has ended already where a test told it to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_is_followed_over_a_reload_an_unload_and_a_new_file_until_ctrl_c() {
    let home = Home::new();
    install(&home, "app", "recorder", "[config]\nvolume = 1\n");
    let _daemon = Daemon::start(&home, free_port());
    wait_state(&home, "app", "running");
    let mut log = Following::start(&home, &["plugin", "logs", "app", "-f"]);
    log.wait("setup [volume=1]");
    install(&home, "app", "recorder", "[config]\nvolume = 2\n");
    let seen = log.wait("setup [volume=2]");
    assert!(
        !seen.concat().contains("setup [volume=1]"),
        "once: {seen:?}"
    );
    for order in ["disable", "enable"] {
        assert!(home.run(&["plugin", order, "app"]).status.success());
    }
    log.wait("setup [volume=2]");
    fs::remove_dir_all(home.path("plugins/app")).expect("removed");
    let gone = || home.run(&["plugin", "inspect", "app"]).status.code() == Some(1);
    let deadline = Instant::now() + PATIENCE;
    while !gone() {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    install(&home, "app", "recorder", "[config]\nvolume = 3\n");
    log.wait("setup [volume=3]");

    let signal = log.interrupt();
    let told = Instant::now();
    while log.child.try_wait().expect("a child").is_none() {
        assert!(told.elapsed() < Duration::from_secs(5), "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = log.child.wait().expect("it ended");
    assert_eq!(status.signal(), Some(signal as i32), "{status}");
}

#[test]
fn what_people_read_has_no_control_characters() {
    let home = Home::new();
    let config = "[config]\n\"\\u001b[31mred\\u0007\" = 1\nsetup = \"escape\"\n";
    install(&home, "words", "hostile", config);
    install(
        &home,
        "wrong",
        "hostile",
        "[limits]\n\"\\u001b[2J\\u0007\" = 1\n",
    );
    install(
        &home,
        "panics",
        "hostile",
        "[config]\nsetup = \"error-long\"\n",
    );
    let _daemon = Daemon::start(&home, free_port());
    wait_state(&home, "words", "running");
    for id in ["wrong", "panics"] {
        wait_state(&home, id, "rejected");
    }
    let plain = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert_ends(&output, 0, &[]);
        let text = stdout(&output);
        let odd = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(odd, None, "{arguments:?}: {text:?}");
        text
    };
    assert!(plain(&["plugin", "inspect", "words"]).contains("\\u{1b}[31mred"));
    assert!(plain(&["plugin", "logs", "words"]).contains("red \\u{1b}[31m\\nnext"));
    for id in ["wrong", "panics"] {
        plain(&["plugin", "inspect", id]);
        plain(&["plugin", "logs", id]);
    }
    plain(&["plugin", "list"]);
    plain(&["plugin", "list", "--json"]);
    plain(&["status"]);
}

#[test]
fn an_author_s_devices_keep_the_cores_of_plugins_that_trap() {
    let home = Home::new();
    install(&home, "app", "hostile", "[config]\nalways = \"trap\"\n");
    let arguments = ["dev", "plugins", "--for", "3m", "--coredump", "cores"];
    let mut dev = Following::start(&home, &arguments);
    let seen = dev.wait("its core is in ");
    let told = seen.last().expect("a line");
    let (_, path) = told.split_once("its core is in ").expect("just seen");
    let name = path.rsplit('/').next().expect("a name");
    assert!(name.starts_with("app.device-1."), "{told}");
    assert!(home.path("cores").join(name).is_file(), "{told}");
    assert!(fs::read(path).expect("where it says").starts_with(b"\0asm"));
    dev.interrupt();
    assert!(dev.child.wait().expect("ends").success());

    fs::write(home.path("file"), "in the way").expect("written");
    let refused = home.run(&["dev", "plugins", "--coredump", "file/cores"]);
    assert_ends(&refused, 1, &["the folder for cores"]);
    let wasm = fixture("hostile");
    let wasm = wasm.to_str().expect("text");
    let refused = home.run(&["sim", wasm, "--coredump", "file/cores"]);
    assert_ends(
        &refused,
        1,
        &["the folder for cores file/cores cannot be made"],
    );
}

#[test]
fn an_author_sees_by_function_names_where_a_plugin_trapped() {
    let home = Home::new();
    install(&home, "app", "hostile", "[config]\nsetup = \"recurse\"\n");
    let mut dev = Following::start(&home, &["dev", "plugins", "--for", "3m"]);
    let seen = dev.wait("  at ");
    let frame = seen.last().expect("a line");
    assert!(frame.contains("recurse"), "{seen:#?}");
    dev.interrupt();
    assert!(dev.child.wait().expect("ends").success());
}

/// Why there can be no user namespace here; none if there can.
fn no_namespaces() -> Option<String> {
    let probe = ["--user", "--map-root-user", "true"];
    match std::process::Command::new("unshare").args(probe).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[test]
fn without_notices_of_the_system_the_folder_is_looked_at() {
    if let Some(why) = no_namespaces() {
        eprintln!("skipped: a user namespace is needed ({why})");
        return;
    }
    let home = Home::new();
    install(&home, "app", "recorder", "[config]\nvolume = 1\n");
    // In a user namespace the number of watches has a bound of its own.
    let without = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let wrapped = ["--user", "--map-root-user", "sh", "-c", without];
    let daemon = Daemon::start_in(&home, free_port(), "unshare", &wrapped);
    wait_state(&home, "app", "running");
    let saved = Instant::now();
    install(&home, "app", "recorder", "[config]\nvolume = 2\n");
    let deadline = saved + PATIENCE;
    while !stdout(&home.run(&["plugin", "logs", "app"])).contains("setup [volume=2]") {
        assert!(Instant::now() < deadline, "nobody looked");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("looked at within {:?}", saved.elapsed());
    let log = fs::read_to_string(home.path("daemon.log")).expect("its log");
    assert!(
        log.contains("the operating system does not report changes of the plugins folder"),
        "{log}"
    );
    drop(daemon);
}
