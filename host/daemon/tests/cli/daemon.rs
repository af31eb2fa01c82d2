//! Daemons that run for a test.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Home;

const RUN: [&str; 4] = ["run", "--config", "run.toml", "--exit-with-parent"];

/// A daemon that ends with the test.
pub(super) struct Daemon(pub(super) Child);

impl Daemon {
    /// Starts one in the home's group and waits until it answers.
    pub(super) fn start(home: &Home, port: u16) -> Self {
        Self::start_with(home, port, "")
    }

    /// The same with more settings, the first of them of `[network]`.
    pub(super) fn start_with(home: &Home, port: u16, more: &str) -> Self {
        let config = format!(
            "[network]\nlisten = [\"127.0.0.1\"]\nport = {port}\nmulticast = false\n{more}\n"
        );
        home.write("run.toml", &config);
        let mut command = home.command(&RUN);
        command.stderr(Stdio::null());
        Self::answering(home, command)
    }

    /// Starts one as the arguments of another program, with its log in `daemon.log`.
    pub(super) fn start_in(home: &Home, port: u16, program: &str, arguments: &[&str]) -> Self {
        let config =
            format!("[network]\nlisten = [\"127.0.0.1\"]\nport = {port}\nmulticast = false\n");
        home.write("run.toml", &config);
        let log = fs::File::create(home.path("daemon.log")).expect("made");
        let plain = home.command(&RUN);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .env("PATH", path)
            .current_dir(home.path(""))
            .stderr(log);
        Self::answering(home, command)
    }

    fn answering(home: &Home, mut command: Command) -> Self {
        fs::create_dir_all(home.path("plugins")).expect("made");
        let child = command.stdin(Stdio::piped()).spawn().expect("runs");
        let mut daemon = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while home.run(&["status"]).status.code() != Some(0) {
            assert!(Instant::now() < deadline, "the daemon does not answer");
            assert_eq!(
                daemon.0.try_wait().expect("a child"),
                None,
                "the daemon has ended"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// How it ends, once told to, and how long that took.
    pub(super) fn end(mut self, stop: impl FnOnce(&mut Child)) -> (ExitStatus, Duration) {
        let told = Instant::now();
        stop(&mut self.0);
        while told.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return (status, told.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where a test told it to.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}
