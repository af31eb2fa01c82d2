//! `consort plugin logs`: the last lines of one plugin, and those that come.

use std::time::Duration;

use super::{Of, PluginError, path};
use crate::cli::{CliError, event_loop, output};
use crate::control::client::{self, ClientError};
use crate::control::plugins::{PluginLog, PluginLogLine};

/// How often to ask for lines that have come.
const ASK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn run(of: &Of, follow: bool, json: bool) -> Result<(), CliError> {
    let data_dir = of.place.resolve()?.config.data_dir;
    let runtime = event_loop()?;
    let mut after = 0;
    loop {
        let path = format!("{}/logs?after={after}", path(&of.id));
        let lines = match runtime.block_on(client::get::<PluginLog>(&data_dir, &path)) {
            Ok(log) => log.lines,
            // Whoever was heard of may come back, with other numbers that are larger.
            Err(ClientError::Refused { status: 404, .. }) if after > 0 => Vec::new(),
            Err(error) => return Err(PluginError::from(error).into()),
        };
        for line in lines {
            after = line.number;
            if json {
                output::object(&line)?;
            } else {
                output::text(&output::shown(&text(&line)))?;
            }
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// A line for people: the time of day in UTC, the level, whose it is, and what it says.
fn text(line: &PluginLogLine) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_micros(line.at_us);
    let at = humantime::format_rfc3339_millis(at).to_string();
    let time = at.get(11..23).unwrap_or(&at);
    let level = line.level.to_uppercase();
    let host = if line.by_host { "host: " } else { "" };
    format!("{time} {level:<5} {host}{}", line.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people() {
        let line = PluginLogLine {
            number: 1,
            at_us: 1_700_000_000_123_456,
            level: "warn".into(),
            by_host: true,
            text: "plugin running".into(),
        };
        assert_eq!(text(&line), "22:13:20.123 WARN  host: plugin running");
    }
}
