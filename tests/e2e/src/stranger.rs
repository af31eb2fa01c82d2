//! Someone on the devices' network who belongs to no group: the program `stranger`, run where the
//! bridge is.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::network::Switch;
use crate::programs;

/// What was heard on the network, in a file.
#[derive(Debug)]
pub struct Stranger {
    hub: String,
    heard: PathBuf,
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Stranger {
    /// A stranger with an address of its own on the switch's network, who keeps what it hears in
    /// a file in `folder`.
    #[must_use]
    pub fn on(switch: &Switch, folder: &Path) -> Self {
        Self {
            hub: switch.join_bridge(),
            heard: folder.join("heard"),
        }
    }

    /// Listens for so long; returns as soon as it does.
    ///
    /// # Panics
    /// It cannot.
    #[must_use]
    pub fn listen(&self, lasting: Duration) -> Capture {
        let millis = lasting.as_millis().to_string();
        let mut command = self.command("capture");
        command.arg(&millis).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the stranger starts");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("the stranger speaks");
        assert_eq!(line, "listening\n");
        Capture { child, said }
    }

    /// Sends everything that it heard to a device.
    pub fn replay(&self, target: &str) -> String {
        self.run("replay", &[target])
    }

    /// Sends a flood to a device; gives what it says of it.
    pub fn flood(&self, target: &str, kind: &str, rate: u32, lasting: Duration) -> String {
        let (rate, millis) = (rate.to_string(), lasting.as_millis().to_string());
        self.run("flood", &[target, kind, &rate, &millis])
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.hub])
            .arg(programs::stranger())
            .arg(verb)
            .arg(&self.heard);
        command
    }

    #[track_caller]
    fn run(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self
            .command(verb)
            .args(arguments)
            .output()
            .expect("the stranger runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "stranger {verb}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Capture {
    /// Waits for its end; gives how many datagrams it kept.
    ///
    /// # Panics
    /// It failed.
    pub fn finish(mut self) -> usize {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("it is text");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the stranger failed to listen");
        let kept = rest.trim().strip_prefix("kept ").map(str::parse);
        kept.and_then(Result::ok).expect("it says how many it kept")
    }
}
