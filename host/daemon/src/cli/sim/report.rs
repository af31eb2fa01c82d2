//! What a run came to, in words and as JSON. No wall times: one seed gives one text.

use std::fmt;
use std::time::Duration;

use consort_sim::Summary;
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
    sent: u64,
    delivered: u64,
    lost: u64,
    duplicates: u64,
    writes: u64,
    bytes_per_node_per_s: u64,
    violations: usize,
}

impl Report {
    pub(super) fn new(summary: &Summary) -> Self {
        Self {
            v: 1,
            seed: summary.seed.to_string(),
            nodes: summary.nodes,
            simulated_s: seconds(summary.simulated),
            leader_changes: summary.leader_changes,
            leaderless_s: seconds(summary.leaderless),
            heals: summary.heals,
            heal_p99_ms: summary
                .heal_p99
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            sent: summary.sent,
            delivered: summary.delivered,
            lost: summary.lost,
            duplicates: summary.duplicates,
            writes: summary.writes,
            bytes_per_node_per_s: summary.bytes_per_node_per_s,
            violations: summary.violations,
        }
    }
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
        match self.heal_p99_ms {
            None => writeln!(f, "heals             none")?,
            Some(p99) => writeln!(f, "heals             {}, 99 % within {p99} ms", self.heals)?,
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
        )
    }
}
