//! What a run came to, in words and as JSON. No wall times: one seed gives one text.

use std::fmt;
use std::time::Duration;

use consort_sim::{Outcome, PluginFigures};
use serde::Serialize;

/// The figures of one run. `docs/schemas/sim.schema.json` describes each.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    v: u32,
    seed: String,
    nodes: usize,
    simulated_s: f64,
    leader_changes: u64,
    leaderless_s: f64,
    heals: usize,
    heal_p99_ms: Option<u64>,
    /// The other healing times, in milliseconds: the median and the longest.
    #[serde(skip)]
    heal_ms: Option<(u64, u64)>,
    sent: u64,
    delivered: u64,
    lost: u64,
    duplicates: u64,
    writes: u64,
    bytes_per_node_per_s: u64,
    violations: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<PluginReport>,
}

/// What the plugin did whose own code ran.
#[derive(Debug, Serialize)]
struct PluginReport {
    running: usize,
    quarantined: usize,
    faults: u64,
    messages_sent: u64,
    messages_received: u64,
    messages_dropped: u64,
    log_lines: LogLines,
    cpu_ms: u64,
}

/// Lines by level.
#[derive(Debug, Serialize)]
struct LogLines {
    trace: u64,
    debug: u64,
    info: u64,
    warn: u64,
    error: u64,
}

impl PluginReport {
    fn new(figures: &PluginFigures) -> Self {
        let [trace, debug, info, warn, error] = figures.lines;
        Self {
            running: figures.running,
            quarantined: figures.quarantined,
            faults: figures.faults,
            messages_sent: figures.messages_sent,
            messages_received: figures.messages_received,
            messages_dropped: figures.messages_dropped,
            log_lines: LogLines {
                trace,
                debug,
                info,
                warn,
                error,
            },
            cpu_ms: u64::try_from(figures.busy.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Report {
    pub(super) fn new(outcome: &Outcome) -> Self {
        let summary = &outcome.summary;
        let plugin = outcome.plugin.as_ref();
        Self {
            v: 1,
            seed: summary.seed.to_string(),
            nodes: summary.nodes,
            simulated_s: seconds(summary.simulated),
            leader_changes: summary.leader_changes,
            leaderless_s: seconds(summary.leaderless),
            heals: summary.heals,
            heal_p99_ms: summary.heal_p99.map(milliseconds),
            heal_ms: summary
                .heal_p50
                .zip(summary.heal_most)
                .map(|(half, most)| (milliseconds(half), milliseconds(most))),
            sent: summary.sent,
            delivered: summary.delivered,
            lost: summary.lost,
            duplicates: summary.duplicates,
            writes: plugin.map_or(summary.writes, |plugin| plugin.writes),
            bytes_per_node_per_s: summary.bytes_per_node_per_s,
            violations: summary.violations,
            plugin: plugin.map(PluginReport::new),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.violations {
            0 => "nothing forbidden happened",
            _ => "something forbidden happened",
        };
        writeln!(
            f,
            "{} devices for {} s, seed {}: {verdict}",
            self.nodes, self.simulated_s, self.seed
        )?;
        writeln!(f, "leader changes    {}", self.leader_changes)?;
        writeln!(f, "without a leader  {} s", self.leaderless_s)?;
        match self.heal_p99_ms.zip(self.heal_ms) {
            None => writeln!(f, "heals             none")?,
            Some((p99, (half, most))) => writeln!(
                f,
                "heals             {}, half within {half} ms, 99 % within {p99} ms, most {most} ms",
                self.heals
            )?,
        }
        writeln!(
            f,
            "messages          {} due, {} delivered, {} lost, {} delivered twice",
            self.sent, self.delivered, self.lost, self.duplicates
        )?;
        writeln!(f, "state writes      {}", self.writes)?;
        write!(
            f,
            "traffic           {} bytes per device and second",
            self.bytes_per_node_per_s
        )?;
        match &self.plugin {
            Some(plugin) => write!(f, "\n{plugin}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PluginReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "plugin            runs on {} devices, given up on {}, {} faults",
            self.running, self.quarantined, self.faults
        )?;
        writeln!(
            f,
            "plugin messages   {} sent, {} received, {} dropped",
            self.messages_sent, self.messages_received, self.messages_dropped
        )?;
        let lines = &self.log_lines;
        writeln!(
            f,
            "plugin log        {} trace, {} debug, {} info, {} warn, {} error",
            lines.trace, lines.debug, lines.info, lines.warn, lines.error
        )?;
        write!(f, "plugin CPU        {} ms in all", self.cpu_ms)
    }
}
