//! One device: its folder, and the daemon that runs on it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::log::Log;
use crate::{programs, wait};

/// A device; its daemon is killed when it is dropped.
#[derive(Debug)]
pub struct Device {
    name: String,
    folder: PathBuf,
    /// The network namespace it lives in; none for the machine's own.
    namespace: Option<String>,
    id: String,
    running: Option<Running>,
    /// What the last run said, once it has ended.
    ended: Option<Log>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The daemon stops when this end is closed, so none is left even if the test is killed.
    _stdin: Option<ChildStdin>,
    log: Log,
}

impl Device {
    /// Makes the device's folder in `parent`, with these settings beside its name and folders.
    pub(crate) fn new(parent: &Path, name: &str, namespace: Option<&str>, settings: &str) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(folder.join("plugins")).expect("a folder for the device");
        let device = Self {
            name: name.to_owned(),
            folder,
            namespace: namespace.map(str::to_owned),
            id: String::new(),
            running: None,
            ended: None,
        };
        device.configure(settings);
        device
    }

    /// Replaces the settings beside name and folders; they hold from the next start on.
    pub fn configure(&self, settings: &str) {
        let name = &self.name;
        let text = format!(
            "name = \"{name}\"\ndata_dir = \"data\"\nplugins_dir = \"plugins\"\n{settings}"
        );
        fs::write(self.folder.join("consort.toml"), text).expect("the settings are written");
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device id, known once it has run.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in its plugins folder.
    #[must_use]
    pub fn plugin_file(&self, file: &str) -> PathBuf {
        self.folder.join("plugins").join(file)
    }

    /// Copies a plugin into its plugins folder, over what is there.
    pub fn install(&self, from: &Path, file: &str) {
        fs::copy(from, self.plugin_file(file)).expect("the plugin is copied");
    }

    /// Copies a plugin and its manifest into its plugins folder, over what is there.
    pub fn install_with(&self, from: &Path, id: &str, manifest: &str) {
        let folder = self.plugin_file(id);
        fs::create_dir_all(&folder).expect("a folder for the plugin");
        fs::write(folder.join("plugin.toml"), manifest).expect("the manifest is written");
        fs::copy(from, folder.join("plugin.wasm")).expect("the plugin is copied");
    }

    /// A file in its data folder.
    #[must_use]
    pub fn data_file(&self, file: &str) -> PathBuf {
        self.folder.join("data").join(file)
    }

    /// A command of the program, with this device's settings and in its network.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(programs::consort()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", namespace])
                    .arg(programs::consort());
                command
            }
        };
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("consort.toml"));
        clean(&mut command, &self.folder);
        command
    }

    /// Runs a command of the program to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Runs a command that must succeed, with something on its standard input.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin
            .write_all(input.as_bytes())
            .expect("the program reads");
        drop(stdin);
        let output = child.wait_with_output().expect("the program ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {errors}");
        String::from_utf8(output.stdout).expect("the program prints text")
    }

    /// Starts the daemon and waits until it says that it runs.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        self.wait_running();
    }

    /// Starts the daemon.
    pub fn spawn(&mut self) {
        self.check_ended();
        let mut command = self.command(&["run", "--log-format", "json", "--exit-with-parent"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon starts");
        let log = Log::read(child.stderr.take().expect("it is piped"));
        let stdin = child.stdin.take();
        self.running = Some(Running {
            child,
            _stdin: stdin,
            log,
        });
    }

    /// Waits until the daemon says that it runs, which tells its id.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_running(&mut self) {
        let said = |line: &crate::log::Line| line.message == "running";
        self.id = self.log().wait(0, "the daemon runs", said).field("device");
    }

    /// The log of this run, or of the last one.
    ///
    /// # Panics
    /// The daemon was never started.
    #[must_use]
    pub fn log(&self) -> &Log {
        let running = self.running.as_ref().map(|running| &running.log);
        running
            .or(self.ended.as_ref())
            .expect("the device was started")
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the daemon runs").child.id()
    }

    /// Kills the daemon without warning (SIGKILL). Gives the moment before it.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) -> Instant {
        let before = Instant::now();
        self.running
            .as_mut()
            .expect("the daemon runs")
            .child
            .kill()
            .expect("it is our child");
        self.wait_ended();
        before
    }

    /// Asks the daemon to stop (SIGTERM) and waits for its end. Gives how it ended and how long it
    /// took.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let before = Instant::now();
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{pid} gets no signal"
        );
        let status = self.wait_ended();
        (status, before.elapsed())
    }

    /// Waits for the daemon's end.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn wait_ended(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("the daemon runs");
        let child = &mut running.child;
        let status = wait::until("the daemon ends", || {
            child.try_wait().expect("it is our child")
        });
        if let Some(mut running) = self.running.take() {
            running.log.finish();
            self.ended = Some(running.log);
        }
        status
    }

    /// What `consort status --json` says; none while the daemon cannot be reached.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "--json"]);
        let text = output.status.success().then_some(output.stdout)?;
        Some(serde_json::from_slice(&text).expect("the status is JSON"))
    }

    /// How many other members it knows of, by `consort status`.
    #[must_use]
    pub fn members(&self) -> usize {
        let Some(status) = self.status() else {
            return 0;
        };
        let peers = status["peers"].as_array().expect("peers are a list");
        peers
            .iter()
            .filter(|peer| peer["state"] == "member")
            .count()
    }

    /// Whether it follows the group's clock, by `consort status`.
    #[must_use]
    pub fn has_group_time(&self) -> bool {
        self.status()
            .is_some_and(|status| status["clock"]["synchronised"] == true)
    }

    /// Waits until `consort status` tells this generation of a plugin to be in this state.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_plugin(&self, id: &str, generation: u64, state: &str) {
        wait::until(
            &format!("{id} is {state} in generation {generation}"),
            || {
                let plugin = self.plugin(id)?;
                (plugin["generation"] == generation && plugin["state"] == state).then_some(())
            },
        );
    }

    /// What `consort status` says of one plugin.
    #[must_use]
    pub fn plugin(&self, id: &str) -> Option<Value> {
        let status = self.status()?;
        let plugins = status["plugins"].as_array().expect("plugins are a list");
        plugins.iter().find(|plugin| plugin["id"] == id).cloned()
    }

    /// The run that ended must not have reported errors either.
    #[track_caller]
    fn check_ended(&mut self) {
        if let Some(log) = self.ended.take() {
            let errors = log.errors();
            assert!(
                errors.is_empty(),
                "{} reported errors: {errors:#?}",
                self.name
            );
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself meanwhile.
            let _ = running.child.kill();
            let _ = running.child.wait();
            running.log.finish();
            self.ended = Some(running.log);
        }
        if std::thread::panicking() {
            if let Some(log) = &self.ended {
                eprintln!(
                    "--- last lines of {} ({})\n{}",
                    self.name,
                    self.id,
                    log.tail()
                );
            }
        } else {
            self.check_ended();
        }
    }
}

/// Leaves the program nothing of the machine's settings.
pub fn clean(command: &mut Command, home: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("CONSORT_LOG", "info")
        .current_dir(home)
        .stdin(Stdio::null());
}
