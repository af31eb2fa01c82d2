//! `consort status`: how the daemon on this machine is doing, at a glance or as JSON.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::plugins_table::{Columns, plugins_table};
use crate::control::client::{ClientError, fetch_status};
use crate::control::types::{
    CloneStatus, InterfaceStatus, PeerSecrets, PeerState, PeerStatus, SecretState, SecretStatus,
    SeedState, SeedStatus, Status,
};

/// Why the status was not shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The daemon did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer could not be printed.
    #[error("cannot print the status: {0}")]
    Print(#[from] io::Error),
}

/// Asks the daemon on this data folder and prints its answer.
///
/// # Errors
/// There is no daemon, or `out` cannot be written.
pub async fn run(data_dir: &Path, json: bool, out: &mut impl Write) -> Result<(), StatusError> {
    let status = fetch_status(data_dir).await?;
    if json {
        let text = serde_json::to_string(&status).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        out.write_all(render(&status).as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// The status for people.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let device = &status.device;
    let _ = writeln!(text, "Device   {}  ({})", device.name, device.id);
    let _ = writeln!(
        text,
        "         consort {}, up {}, start {}, process {}",
        device.version,
        span(device.uptime_ms),
        device.boot_counter,
        device.pid
    );
    if let Some(clone) = &device.clone {
        let _ = writeln!(text, "Clone    {}", clone_line(clone));
    }
    let _ = writeln!(text, "Group    {}", group_line(status));
    if let Some(line) = secrets_line(status) {
        let _ = writeln!(text, "Secrets  {line}");
    }
    for (index, line) in discovery_lines(status).iter().enumerate() {
        let head = if index == 0 { "Finding" } else { "" };
        let _ = writeln!(text, "{head:<9}{}", clean(line));
    }
    let _ = writeln!(text, "Clock    {}", clock_line(status));
    text.push_str("\nPeers\n");
    if status.peers.is_empty() {
        text.push_str("  none heard of\n");
    } else {
        text.push_str(&table(
            &[
                "NAME",
                "DEVICE",
                "STATE",
                "HEARD",
                "ROUND TRIP",
                "ADDRESS",
                "WHY",
            ],
            status.peers.iter().map(peer_row).collect(),
        ));
    }
    text.push_str("\nPlugins\n");
    if status.plugins.is_empty() {
        text.push_str("  none in the plugins folder\n");
    } else {
        text.push_str(&plugins_table(&status.plugins, Columns::Group));
    }
    text
}

fn clone_line(clone: &CloneStatus) -> String {
    let (kept, quarantined) = (&clone.kept_at, &clone.quarantined_at);
    if clone.quarantined_here {
        format!(
            "this device runs with the key of another one, at {kept}, and is quarantined: remove \
             its key and start it anew"
        )
    } else {
        format!(
            "another device, at {quarantined}, runs with the key of this one; it is quarantined"
        )
    }
}

fn group_line(status: &Status) -> String {
    let group = &status.group;
    if !group.has_secret {
        return "none: no group secret, nothing is sent (make one with `consort group new`)".into();
    }
    let interfaces = if group.interfaces.is_empty() {
        "no interface for discovery".to_owned()
    } else {
        format!("discovery on {}", group.interfaces.join(" "))
    };
    format!(
        "{} members, listens on {}, {interfaces}",
        group.members,
        group.listen.join(" ")
    )
}

/// How others are looked for: on which interfaces, on which not and why, and by which seeds.
fn discovery_lines(status: &Status) -> Vec<String> {
    let discovery = &status.discovery;
    if !status.group.has_secret {
        return vec![];
    }
    let ways = match (discovery.multicast, discovery.broadcast) {
        (true, true) => "multicast and broadcast",
        (true, false) => "multicast",
        (false, true) => "broadcast",
        (false, false) => "seeds and remembered addresses alone",
    };
    let watch = if discovery.watches_interfaces {
        "interfaces are watched"
    } else {
        "interfaces are looked at every 2 s"
    };
    let mut lines = vec![format!("by {ways}, port {}; {watch}", discovery.port)];
    lines.extend(discovery.interfaces.iter().map(interface_line));
    lines.extend(discovery.seeds.iter().map(seed_line));
    lines
}

fn interface_line(interface: &InterfaceStatus) -> String {
    let what = match &interface.why {
        Some(why) => format!("not used: {why}"),
        None => interface.addresses.join(" "),
    };
    format!("{}  {what}", interface.name)
}

fn seed_line(seed: &SeedStatus) -> String {
    let what = match seed.state {
        SeedState::Literal => return format!("seed {}", seed.seed),
        SeedState::Pending => "is being looked up".to_owned(),
        SeedState::Resolved => seed.addresses.join(" "),
        SeedState::Failed => {
            let problem = seed.problem.as_deref().unwrap_or("cannot be looked up");
            if seed.addresses.is_empty() {
                problem.to_owned()
            } else {
                format!("{problem}; before: {}", seed.addresses.join(" "))
            }
        }
    };
    format!("seed {}  {what}", seed.seed)
}

/// Says so while a rotation of the group's secret is under way.
fn secrets_line(status: &Status) -> Option<String> {
    let secrets = &status.group.secrets;
    let failed = status.group.secrets_not_stored;
    if secrets.len() < 2 && !failed {
        return None;
    }
    let state = |secret: &SecretStatus| {
        let state = match secret.state {
            SecretState::Staged => "staged",
            SecretState::Active => "active",
            SecretState::Retiring => "retiring",
        };
        format!("epoch {} {state}", secret.epoch)
    };
    let states: Vec<String> = secrets.iter().map(state).collect();
    let members = status.peers.iter().filter(|peer| match peer.state {
        PeerState::Member | PeerState::Suspect => true,
        PeerState::Known
        | PeerState::Connecting
        | PeerState::Connected
        | PeerState::Missing
        | PeerState::Left
        | PeerState::Denied => false,
    });
    let behind = members.filter(|peer| peer.secrets != PeerSecrets::Current);
    let trouble = if failed {
        "; the newest change could not be stored on this device"
    } else {
        ""
    };
    Some(format!(
        "a rotation is under way: {}; {} members are behind{trouble}",
        states.join(", "),
        behind.count()
    ))
}

fn clock_line(status: &Status) -> String {
    let clock = &status.clock;
    let seconds = clock.group_time_us / 1_000_000;
    let time = std::time::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or_else(
            || seconds.to_string(),
            |t| humantime::format_rfc3339_seconds(t).to_string(),
        );
    let quality = match (clock.synchronised, clock.error_bound_us) {
        (true, Some(bound)) => format!("synchronised within {}", micros(bound)),
        (true, None) => "synchronised".to_owned(),
        (false, _) => "not synchronised".to_owned(),
    };
    format!("{time}, {quality}")
}

fn peer_row(peer: &PeerStatus) -> Vec<String> {
    vec![
        or_dash(peer.name.clone()),
        peer.id.chars().take(8).collect(),
        peer_state(peer.state).to_owned(),
        or_dash(peer.last_heard_ms.map(|ms| format!("{} ago", span(ms)))),
        or_dash(peer.round_trip_us.map(micros)),
        or_dash(peer.address.clone()),
        peer.why.clone().unwrap_or_default(),
    ]
}

const fn peer_state(state: PeerState) -> &'static str {
    match state {
        PeerState::Known => "known",
        PeerState::Connecting => "connecting",
        PeerState::Connected => "connected",
        PeerState::Member => "member",
        PeerState::Suspect => "suspect",
        PeerState::Missing => "missing",
        PeerState::Left => "left",
        PeerState::Denied => "denied",
    }
}

pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// An age in its two largest units.
fn span(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A short time in the unit that reads best.
fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// Without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Columns as wide as their widest cell, two spaces apart, indented by two. Control characters,
/// which a peer's name may hold, are left out.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(ToString::to_string).collect()];
    lines.extend(
        rows.into_iter()
            .map(|row| row.iter().map(|cell| clean(cell)).collect()),
    );
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|l| l.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::from(" ");
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, " {cell:<width$} ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::status;

    #[test]
    fn people_see_all_at_a_glance() {
        let text = render(&status());
        let line = |begin: &str| {
            text.lines()
                .find(|l| l.trim_start().starts_with(begin))
                .unwrap_or_else(|| panic!("no line {begin:?} in\n{text}"))
        };
        assert!(line("Device").contains("kitchen"), "{text}");
        assert!(line("Group").starts_with("Group    2 members"), "{text}");
        assert!(
            line("Clock").contains("2023-11-14T22:14:23Z, synchronised within 2.0 ms"),
            "{text}"
        );
        assert!(
            line("seed 10.0.0.3").ends_with("seed 10.0.0.3:4747"),
            "{text}"
        );
        assert!(
            text.contains("hall.local:4747  is being looked up"),
            "{text}"
        );
        let hall = line("hall ");
        for part in ["member", "120ms ago", "480 µs", "10.0.0.3:4747"] {
            assert!(hall.contains(part), "{part} in {hall}");
        }
        assert!(
            text.contains("missing") && text.contains("1m15s ago"),
            "{text}"
        );
        assert!(
            text.contains("unreachable for 70 s: no probe was answered"),
            "{text}"
        );
        let beat = line("beat");
        for part in [
            "1.2.3",
            "follower",
            "hall",
            "12",
            "3500, catching up, 1 refused",
        ] {
            assert!(beat.contains(part), "{part} in {beat}");
        }
    }

    #[test]
    fn a_clone_is_named_with_what_to_do() {
        let mut status = status();
        assert!(!render(&status).contains("Clone"));
        let clone = |quarantined_here| {
            Some(CloneStatus {
                quarantined_here,
                kept_at: "10.0.0.1:7440".to_owned(),
                quarantined_at: "10.0.0.2:7440".to_owned(),
            })
        };
        status.device.clone = clone(true);
        let text = render(&status);
        assert!(
            text.contains("at 10.0.0.1:7440, and is quarantined"),
            "{text}"
        );
        status.device.clone = clone(false);
        let text = render(&status);
        assert!(text.contains("another device, at 10.0.0.2:7440"), "{text}");
    }

    #[test]
    fn columns_align_and_control_characters_are_left_out() {
        let text = table(
            &["A", "B"],
            vec![
                vec!["long\u{1b}[31m".into(), "x".into()],
                vec!["é".into(), "y".into()],
            ],
        );
        assert_eq!(
            text,
            "  A        B\n  long[31m  x\n  é         y\n".replace("A        B", "A         B")
        );
    }

    #[test]
    fn spans_read_well() {
        let spans: Vec<_> = [5, 1_250, 75_000, 3_700_000, 90_000_000]
            .into_iter()
            .map(span)
            .collect();
        assert_eq!(spans, ["5ms", "1.2s", "1m15s", "1h1m", "1d1h"]);
        assert_eq!(
            [micros(480), micros(1_560), micros(2_000_000)],
            ["480 µs", "1.5 ms", "2.0 s"]
        );
    }

    #[tokio::test]
    async fn without_a_daemon_nothing_is_printed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut out = Vec::new();
        let error = run(dir.path(), true, &mut out).await.expect_err("nobody");
        assert!(
            matches!(error, StatusError::Client(ClientError::NotRunning(_))),
            "{error}"
        );
        assert_eq!(out, b"");
    }
}
