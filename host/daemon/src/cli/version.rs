//! `consort version`.

use std::fmt;

use serde::Serialize;

use super::{CliError, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Version {
    v: u32,
    version: &'static str,
    plugin_contract: &'static str,
    arch: &'static str,
    os: &'static str,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let version = Version {
        v: 1,
        version: env!("CARGO_PKG_VERSION"),
        plugin_contract: "consort:plugin@0.1.0",
        arch: std::env::consts::ARCH,
        os: std::env::consts::OS,
    };
    output::result(&version, args.json)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            plugin_contract,
            arch,
            os,
            ..
        } = self;
        write!(
            f,
            "consort {version} ({arch} {os}), plugins by {plugin_contract}"
        )
    }
}
