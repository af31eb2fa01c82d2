//! The devices of the demonstration: complete daemons, each a child process with a data folder of
//! its own below one temporary folder. They share the folder of compiled code: a plugin is compiled
//! once.
//!
//! No process and no file outlives the [`Fleet`]. In order: [`Fleet::stop`] ends standard input of
//! each child, which stops it as SIGTERM would, and waits. In any other case (an error, a panic, a
//! signal to the parent) dropping the fleet kills and reaps the children before the folder goes;
//! and should the parent itself be killed, the children see their standard input end. Each child
//! has a process group of its own, so that Ctrl-C reaches the parent alone, which then stops them.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::UdpSocket;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use consort_proto::{DeviceId, GroupSecret};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::{DemoError, plugins};
use crate::plugins::CACHE_FOLDER;
use crate::secrets;

/// The plugins that the devices run.
#[derive(Debug)]
pub(in crate::cli) enum Plugins<'a> {
    /// Each device has its copy of this folder.
    Copied(&'a Path),
    /// All devices watch this folder.
    Shared(&'a Path),
}

/// All devices and their folder. Fields are dropped in order: processes before files.
#[derive(Debug)]
pub(in crate::cli) struct Fleet {
    devices: Vec<Device>,
    root: TempDir,
}

#[derive(Debug)]
struct Device {
    name: String,
    id: DeviceId,
    config: PathBuf,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Open for as long as the child is to run.
    stdin: Option<ChildStdin>,
    /// Whether the demonstration killed it.
    killed: bool,
}

/// What comes from the devices.
#[derive(Debug)]
pub(in crate::cli) enum Heard {
    /// A line, of standard output or standard error.
    Line {
        device: usize,
        at: Instant,
        line: String,
    },
    /// Standard error was closed, which is when the process ends.
    Closed { device: usize },
}

/// How many lines may wait for the parent.
const LINES_MAX: usize = 4096;
/// Longer lines are left out.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(3);
/// How long a killed process may take to be gone.
const REAP_MAX: Duration = Duration::from_secs(2);

impl Fleet {
    /// Prepares the folders of `nodes` devices in one group. Nothing runs yet. Returns the ids of
    /// the plugins that were copied, too.
    pub(in crate::cli) fn prepare(
        nodes: usize,
        plugins: &Plugins<'_>,
    ) -> Result<(Self, Vec<String>), DemoError> {
        let failed = |what| move |source| DemoError::Prepare { what, source };
        let root = tempfile::Builder::new()
            .prefix("consort-demo-")
            .tempdir()
            .map_err(failed("make a temporary folder"))?;
        let secret = secrets::new_group_secret()?;
        let ports = free_ports(nodes).map_err(failed("find free ports"))?;
        DirBuilder::new()
            .mode(0o700)
            .create(root.path().join(CACHE_FOLDER))
            .map_err(failed("make a folder"))?;
        let mut devices = Vec::with_capacity(nodes);
        let mut plugin_ids = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let name = format!("device-{}", index + 1);
            let folder = root.path().join(&name);
            fs::create_dir(&folder).map_err(failed("make a folder"))?;
            let plugins_dir = match plugins {
                Plugins::Copied(from) => {
                    let own = folder.join("plugins");
                    plugin_ids = plugins::copy(from, &own)?;
                    own
                }
                Plugins::Shared(of_all) => (*of_all).to_owned(),
            };
            let config = folder.join("consort.toml");
            fs::write(&config, settings(&name, &plugins_dir, *port, &ports))
                .map_err(failed("write the settings"))?;
            let data = folder.join("data");
            let id = identity(&data, &secret)?;
            symlink(root.path().join(CACHE_FOLDER), data.join(CACHE_FOLDER))
                .map_err(failed("share the folder of compiled code"))?;
            devices.push(Device {
                name,
                id,
                config,
                process: None,
            });
        }
        Ok((Self { devices, root }, plugin_ids))
    }

    /// Starts `program` as each device, with a folder for the cores of plugins that trap, and hands
    /// over what they say.
    pub(in crate::cli) fn start(
        &mut self,
        program: &Path,
        cores: Option<&Path>,
    ) -> Result<mpsc::Receiver<Heard>, DemoError> {
        let (lines, heard) = mpsc::channel(LINES_MAX);
        for (index, device) in self.devices.iter_mut().enumerate() {
            let mut command = command(program, &device.config);
            if let Some(folder) = cores {
                command.arg("--coredump").arg(folder);
            }
            let mut child = command.spawn().map_err(|source| DemoError::Prepare {
                what: "start a device",
                source,
            })?;
            if let Some(pipe) = child.stdout.take() {
                tokio::spawn(forward(pipe, index, lines.clone()));
            }
            if let Some(pipe) = child.stderr.take() {
                let lines = lines.clone();
                tokio::spawn(async move {
                    forward(pipe, index, lines.clone()).await;
                    // Nobody listens any more once the fleet is being stopped.
                    let _ = lines.send(Heard::Closed { device: index }).await;
                });
            }
            let stdin = child.stdin.take();
            device.process = Some(Process {
                child,
                stdin,
                killed: false,
            });
        }
        Ok(heard)
    }

    pub(in crate::cli) fn names(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|device| device.name.clone())
            .collect()
    }

    /// The temporary folder that holds everything.
    #[cfg(test)]
    pub(in crate::cli) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(in crate::cli) fn ids(&self) -> Vec<DeviceId> {
        self.devices.iter().map(|device| device.id).collect()
    }

    /// The process of a device, if it runs.
    pub(in crate::cli) fn pid(&self, device: usize) -> Option<u32> {
        self.devices[device].process.as_ref()?.child.id()
    }

    /// Kills a device without any warning (SIGKILL).
    pub(in crate::cli) fn kill(&mut self, device: usize) -> Result<(), DemoError> {
        let Some(process) = &mut self.devices[device].process else {
            return Ok(());
        };
        process.killed = true;
        process
            .child
            .start_kill()
            .map_err(|source| DemoError::Prepare {
                what: "kill the leader",
                source,
            })
    }

    /// How a device ended by itself; none if it was killed here.
    pub(in crate::cli) async fn ended(&mut self, device: usize) -> Option<ExitStatus> {
        let process = self.devices[device].process.as_mut()?;
        let status = process.child.wait().await.ok()?;
        (!process.killed).then_some(status)
    }

    /// Stops all devices in order, kills those that do not, and removes every file.
    pub(in crate::cli) async fn stop(mut self) -> Result<(), DemoError> {
        for device in &mut self.devices {
            if let Some(process) = &mut device.process {
                process.stdin = None;
            }
        }
        let deadline = tokio::time::Instant::now() + STOP_MAX;
        for device in &mut self.devices {
            let Some(process) = &mut device.process else {
                continue;
            };
            // Those that are late are killed below.
            let _ = tokio::time::timeout_at(deadline, process.child.wait()).await;
        }
        self.reap();
        let root = self.root.path().to_owned();
        fs::remove_dir_all(root).map_err(|source| DemoError::Prepare {
            what: "remove the temporary folder",
            source,
        })
    }

    /// Kills whatever runs and waits until it is gone.
    fn reap(&mut self) {
        let processes = self
            .devices
            .iter_mut()
            .filter_map(|device| device.process.as_mut());
        let mut left: Vec<&mut Process> = processes
            .filter(|process| process.child.id().is_some())
            .collect();
        for process in &mut left {
            // It may have ended by itself meanwhile.
            let _ = process.child.start_kill();
        }
        let deadline = Instant::now() + REAP_MAX;
        while !left.is_empty() && Instant::now() < deadline {
            left.retain_mut(|process| matches!(process.child.try_wait(), Ok(None)));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.reap();
    }
}

fn command(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONSORT_") {
            command.env_remove(name);
        }
    }
    command
        .env("CONSORT_LOG", "info")
        .arg("run")
        .arg("--config")
        .arg(config)
        .args(["--log-format", "json", "--exit-with-parent"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Ports that were free a moment ago, all different.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let sockets: io::Result<Vec<UdpSocket>> = (0..count)
        .map(|_| UdpSocket::bind(("127.0.0.1", 0)))
        .collect();
    sockets?
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.port()))
        .collect()
}

fn settings(name: &str, plugins_dir: &Path, port: u16, ports: &[u16]) -> String {
    let plugins_dir = toml::Value::from(plugins_dir.to_string_lossy().into_owned());
    let others = ports.iter().filter(|other| **other != port);
    let seeds: Vec<String> = others
        .map(|other| format!("\"127.0.0.1:{other}\""))
        .collect();
    format!(
        "name = \"{name}\"\ndata_dir = \"data\"\nplugins_dir = {plugins_dir}\n\n\
         [network]\nlisten = [\"127.0.0.1\"]\nport = {port}\nmulticast = false\n\
         broadcast = false\nseeds = [{}]\n",
        seeds.join(", ")
    )
}

fn identity(data_dir: &Path, secret: &GroupSecret) -> Result<DeviceId, DemoError> {
    secrets::store_group_secret(data_dir, secret, false)?;
    let key = secrets::device_key(data_dir)?;
    secrets::device_id(&key).ok_or_else(|| {
        let source = io::Error::other("the generated key is of low order");
        DemoError::Prepare {
            what: "make a device's key",
            source,
        }
    })
}

/// Hands over lines until the pipe ends. When nobody listens it goes on reading, so that a child
/// never waits for a full pipe.
async fn forward(pipe: impl AsyncRead + Unpin, device: usize, lines: mpsc::Sender<Heard>) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        bytes.clear();
        let bounded = (&mut pipe)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .await;
        if !bounded.is_ok_and(|count| count > 0) {
            return;
        }
        let at = Instant::now();
        let ends = bytes.ends_with(b"\n") || (bytes.len() as u64) < LINE_BYTES_MAX;
        if ends && !too_long {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let _ = lines.send(Heard::Line { device, at, line }).await;
        }
        too_long = !ends;
    }
}
