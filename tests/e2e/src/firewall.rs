//! What a device's network loses on its way in, by nftables in its namespace.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// The rules of one namespace; [`Firewall::open`] removes them, and so does the namespace's end.
#[derive(Clone, Debug)]
pub struct Firewall {
    namespace: String,
}

impl Firewall {
    /// The firewall of a namespace. None if there is no nftables here, which it says in one line.
    #[must_use]
    pub fn of(namespace: &str) -> Option<Self> {
        let firewall = Self {
            namespace: namespace.to_owned(),
        };
        match firewall.apply("add table inet consort\n") {
            Ok(()) => Some(firewall),
            Err(why) => {
                eprintln!("skipped: loss and one-way links need nftables ({why})");
                None
            }
        }
    }

    /// Loses this share of what comes in, in percent, by chance.
    pub fn lose(&self, percent: u32) {
        self.rules(&format!("numgen random mod 100 < {percent} drop"));
    }

    /// Loses everything that comes from this IPv4 address.
    pub fn lose_from(&self, address: &str) {
        self.rules(&format!("ip saddr {address} drop"));
    }

    /// Loses everything that comes from any of these IPv4 addresses.
    pub fn lose_from_all(&self, addresses: &[String]) {
        self.rules(&format!("ip saddr {{ {} }} drop", addresses.join(", ")));
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.rules("");
    }

    fn rules(&self, rule: &str) {
        let table = format!(
            "add table inet consort\ndelete table inet consort\ntable inet consort {{\n chain input \
             {{\n  type filter hook input priority 0; policy accept;\n  iifname \"lo\" accept\n  \
             {rule}\n }}\n}}\n"
        );
        if let Err(why) = self.apply(&table) {
            panic!("nft refuses {table}: {why}");
        }
    }

    fn apply(&self, script: &str) -> Result<(), String> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that could not start reads nothing; its exit code says so.
            let _ = stdin.write_all(script.as_bytes());
        }
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}
