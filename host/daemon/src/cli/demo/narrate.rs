//! The demonstration told to people: one line per thing that happened, with the time since the
//! start.
//!
//! With `--json` the story goes to standard error, so that standard output holds the result alone.
//! A reader who went away stops nothing: what cannot be told is not told.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use super::log_line::LogLine;
use super::tally::{Note, Summary};

/// Tells the story.
pub(super) struct Narrator {
    out: Box<dyn Write>,
    names: Vec<String>,
    /// When lines of other plugins and warnings were told of, and which.
    recent: VecDeque<(Duration, String)>,
}

/// The same text by another device within this is told once.
const ECHO: Duration = Duration::from_secs(2);
/// At most so many lines of other plugins and warnings within [`ECHO`].
const RECENT_MAX: usize = 8;
const TEXT_CHARS_MAX: usize = 160;

impl Narrator {
    pub(super) fn new(names: Vec<String>, to_stderr: bool) -> Self {
        let out: Box<dyn Write> = if to_stderr {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        Self {
            out,
            names,
            recent: VecDeque::new(),
        }
    }

    /// A line without a time.
    pub(super) fn plain(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    /// Something that happened at `at`.
    pub(super) fn tell(&mut self, at: Duration, text: &str) {
        self.plain(&format!("{:6.2} s  {text}", at.as_secs_f64()));
    }

    /// A change in the group.
    pub(super) fn note(&mut self, at: Duration, note: &Note) {
        let text = self.wording(note);
        self.tell(at, &text);
    }

    /// A line of another plugin, or a warning of a device.
    pub(super) fn line(&mut self, at: Duration, device: usize, line: &LogLine) {
        let speaker = line.plugin.as_deref().unwrap_or("consort");
        let message: String = line.message.chars().take(TEXT_CHARS_MAX).collect();
        let text = format!("{speaker}: {message}");
        self.recent
            .retain(|(told, _)| at.saturating_sub(*told) < ECHO);
        let echoed = self.recent.iter().any(|(_, told)| *told == text);
        if message.is_empty() || echoed || self.recent.len() >= RECENT_MAX {
            return;
        }
        let mark = if line.is_warning { " (warning)" } else { "" };
        let name = self.name(device).to_owned();
        self.tell(at, &format!("  {name}{mark}  {text}"));
        self.recent.push_back((at, text));
    }

    /// The figures, for people.
    pub(super) fn summary(&mut self, summary: &Summary, leader: Option<usize>) {
        let led = match (leader, summary.term) {
            (Some(leader), Some(term)) => format!("{}, in term {term}", self.name(leader)),
            _ => "none".to_owned(),
        };
        let share = if summary.deliveries_expected == 0 {
            String::new()
        } else {
            let share = summary.deliveries as f64 / summary.deliveries_expected as f64;
            format!(" ({:.1} %)", 100.0 * share)
        };
        self.plain("");
        self.plain(&format!(
            "leader at the end   {led}; promotions: {}",
            summary.promotions
        ));
        self.plain(&format!(
            "broadcasts          {}, delivered {} times of {}{share}, twice: {}",
            summary.broadcasts, summary.deliveries, summary.deliveries_expected, summary.duplicates
        ));
        let seconds = |millis: Option<u64>| {
            millis.map_or("never".to_owned(), |millis| {
                format!("{:.2} s", millis as f64 / 1e3)
            })
        };
        self.plain(&format!(
            "ready after         {}",
            seconds(summary.cold_start_ms)
        ));
        if let Some(millis) = summary.failover_ms {
            let failover = seconds(Some(millis));
            self.plain(&format!(
                "failover            {failover} from the kill to the promotion"
            ));
        }
    }

    fn name(&self, device: usize) -> &str {
        &self.names[device]
    }

    fn wording(&self, note: &Note) -> String {
        match *note {
            Note::Promoted {
                device,
                term,
                failover,
            } => {
                let after = failover
                    .map(|failover| format!(", {:.2} s after the kill", failover.as_secs_f64()));
                format!(
                    "{} leads in term {term}{}",
                    self.name(device),
                    after.unwrap_or_default()
                )
            }
            Note::Demoted { device } => format!("{} leads no longer", self.name(device)),
            Note::Vacant { device, after_kill } => {
                let after = after_kill
                    .map(|after| format!(" ({:.2} s after the kill)", after.as_secs_f64()));
                let after = after.unwrap_or_default();
                format!(
                    "{} misses its leader{after}: the place is vacant",
                    self.name(device)
                )
            }
            Note::Agreed {
                leader,
                term,
                followers,
                cold_start,
            } => {
                let ready = if cold_start.is_some() {
                    ": the group is ready"
                } else {
                    ""
                };
                format!(
                    "all know it: {} leads in term {term}, {followers} follow{ready}",
                    self.name(leader)
                )
            }
            Note::Delivered {
                from,
                n,
                heard,
                expected,
            } => {
                format!(
                    "  {} broadcast {n:<3} heard by {heard} of {expected}",
                    self.name(from)
                )
            }
        }
    }
}

impl std::fmt::Debug for Narrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Narrator")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
