//! Daemons that run for a test.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Home;

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
        fs::create_dir_all(home.path("plugins")).expect("made");
        let mut command = home.command(&["run", "--config", "run.toml", "--exit-with-parent"]);
        let child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("runs");
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
