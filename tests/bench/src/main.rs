//! `cargo xtask figures`: what the documentation claims of whole groups, measured.
//!
//! Two sources: daemons in network namespaces on this machine ([`daemons`]), for times that
//! processes, sockets and disks have a part in, and groups in virtual time ([`simulated`]), for
//! what takes days or a thousand devices. Every figure is printed with its number of samples.

#![forbid(unsafe_code)]

mod clock;
mod daemons;
mod hostile;
mod lights;
mod plugins;
mod samples;
mod sim_plugin;
mod simulated;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures whole groups.
#[derive(Debug, Parser)]
#[command(name = "figures", bin_name = "cargo xtask figures")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Leader killed → the next one promoted at its plugin.
    Kill(Daemons),
    /// Leader stopped in order → the next one promoted at its plugin.
    Stop(Daemons),
    /// Follower killed → removed at every other device.
    Remove(Daemons),
    /// First start → all see all and one leader.
    ColdStart(Daemons),
    /// All killed and started again, as when the power returns → all see all and one leader.
    PowerCut(Daemons),
    /// Bytes of UDP payload that idle devices send.
    Idle(Daemons),
    /// How far group times lie apart: idle, across the leader's death, under broadcasts.
    Clock(Daemons),
    /// One write of 1 KiB to a quiet group's state → every plugin is called for it.
    StateWrite(Daemons),
    /// A device that joins → it holds 1 MiB of state that the group has.
    StateJoin(Daemons),
    /// Bytes of UDP payload while 100 keys change each second.
    StateChurn(Daemons),
    /// 10,000 additions to a counter, with two partitions and three crashes.
    StateCount(Daemons),
    /// Changes of the plugin `lights` on all devices → how far apart.
    Lights(Daemons),
    /// A plugin saved → its new code answers.
    Reload(Plugins),
    /// Daemon started → `setup` of a plugin done, with compiled code.
    PluginStart(Plugins),
    /// Resident memory of a daemon with 1 and with 20 plugins.
    Memory(Plugins),
    /// Round trips of a good plugin, without and with plugins beside it that do their worst.
    Hostile(Hostile),
    /// Simulated seconds per second of `consort sim` with a plugin's own code on every device.
    SimPlugin(SimPlugin),
    /// Two halves that come together → one leader, in virtual time.
    Heal(Simulated),
    /// Changes of leader and removals of members that nothing called for, in virtual time.
    False(Simulated),
    /// Recorded datagrams that are accepted again, in virtual time.
    Replay(Simulated),
}

#[derive(Clone, Debug, clap::Args)]
struct Daemons {
    /// How many devices.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=50))]
    nodes: u16,
    /// How many samples.
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// What every device loses of what comes in, in percent.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=90))]
    loss: u32,
}

#[derive(Clone, Debug, clap::Args)]
struct Plugins {
    /// The plugin; a small one in Rust unless told otherwise.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How many samples.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    times: u8,
}

#[derive(Clone, Debug, clap::Args)]
struct Hostile {
    /// How many devices, all on the loopback.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=20))]
    nodes: u16,
    /// For how many seconds each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Only those that misbehave in this way, as `loop`; may be given several times.
    #[arg(long, value_name = "HOW")]
    only: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct SimPlugin {
    /// The plugin; `playlist` unless told otherwise.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How many devices.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2000))]
    nodes: u16,
    /// How many runs, each with a seed of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    times: u8,
    /// How many simulated seconds each.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

#[derive(Clone, Debug, clap::Args)]
struct Simulated {
    /// How many devices.
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// How many samples; of `false`: virtual hours.
    #[arg(long, default_value_t = 20)]
    times: u32,
    /// What every link loses, in percent.
    #[arg(long, default_value_t = 0)]
    loss: u32,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Kill(setting) => daemons::kill(&setting),
        What::Stop(setting) => daemons::stop(&setting),
        What::Remove(setting) => daemons::remove(&setting),
        What::ColdStart(setting) => daemons::cold_start(&setting),
        What::PowerCut(setting) => daemons::power_cut(&setting),
        What::Idle(setting) => daemons::idle(&setting),
        What::Clock(setting) => clock::clock(&setting),
        What::StateWrite(setting) => state::write(&setting),
        What::StateJoin(setting) => state::join(&setting),
        What::StateChurn(setting) => state::churn(&setting),
        What::StateCount(setting) => state::count(&setting),
        What::Lights(setting) => lights::lights(&setting),
        What::Reload(setting) => plugins::reload(&setting),
        What::PluginStart(setting) => plugins::start(&setting),
        What::Memory(setting) => plugins::memory(&setting),
        What::Hostile(setting) => hostile::round_trips(&setting),
        What::SimPlugin(setting) => sim_plugin::speed(&setting),
        What::Heal(setting) => simulated::heal(&setting),
        What::False(setting) => simulated::false_alarms(&setting),
        What::Replay(setting) => simulated::replay(&setting),
    };
    match done {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}
